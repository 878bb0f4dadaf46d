"""One face for the dispatchers of others and for ours: one test body holds both to a behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isawaitable
from typing import Any

import blinker
import django.dispatch

import aksara_signals

SYNC = ("send", "send_robust")
ASYNC = ("asend", "asend_robust")
"""The ways to send, under Django's names."""


class Dispatcher:
    """What all have, each in its own spelling. Receivers are held strongly by default."""

    name: str
    logger: str = "aksara_signals"
    every: Any = None
    """Connected to this sender, a receiver is called for every sender."""
    methods: Mapping[str, str]
    """What the ways to send are called."""

    def signal(self, **options: Any) -> Any:
        return aksara_signals.Signal(**options)

    def connect(self, signal: Any, receiver: Any, sender: Any = None, **options: Any) -> Any:
        sender = self.every if sender is None else sender
        return signal.connect(receiver, sender=sender, **{"weak": False, **options})

    def disconnect(self, signal: Any, receiver: Any = None, sender: Any = None, **more: Any) -> Any:
        sender = self.every if sender is None else sender
        return signal.disconnect(receiver, sender=sender, **more)

    def choose(self, **outcomes: Any) -> Any:
        """Of what each does, the one that is meant for this one."""
        return outcomes[self.name]

    def send(self, signal: Any, sender: Any = None, /, **payload: Any) -> Any:
        """Send from code that can't await."""
        return getattr(signal, self.methods["send"])(sender, **payload)

    async def go(self, way: str, signal: Any, /, *sender: Any, **payload: Any) -> Any:
        """Send in one of the ways."""
        result = getattr(signal, self.methods[way])(*sender, **payload)
        return await result if isawaitable(result) else result


class Aksara(Dispatcher):
    name = "aksara"
    receiver = staticmethod(aksara_signals.receiver)
    methods = {
        "send": "send_sync",
        "send_robust": "send_robust_sync",
        "asend": "send",
        "asend_robust": "send_robust",
    }


class Django(Dispatcher):
    name = "django"
    logger = "django.dispatch"
    receiver = staticmethod(django.dispatch.receiver)
    methods = {way: way for way in SYNC + ASYNC}

    def signal(self, **options: Any) -> Any:
        return django.dispatch.Signal(**options)


class InOrder(dict[Any, None]):
    """A set that keeps its order, which blinker takes instead of its own unordered one."""

    def add(self, thing: Any) -> None:
        self[thing] = None

    def discard(self, thing: Any) -> None:
        self.pop(thing, None)

    def copy(self) -> InOrder:
        return InOrder(self)


class OrderedBlinkerSignal(blinker.Signal):
    set_class = InOrder


class Blinker(Dispatcher):
    name = "blinker"
    every = blinker.ANY
    methods = {"send": "send", "asend": "send_async"}

    def signal(self, **options: Any) -> Any:
        return OrderedBlinkerSignal(**options)


AKSARA, DJANGO, BLINKER = Aksara(), Django(), Blinker()


class Notes(list[Any]):
    """What receivers write down."""

    def receiver(self, name: str, response: Any = None) -> Any:
        """A receiver that notes its name."""

        def note(sender: Any, **kwargs: Any) -> Any:
            self.append(name)
            return response

        note.__name__ = name
        return note

    def async_receiver(self, name: str, response: Any = None) -> Any:
        """The same, async."""

        async def note(sender: Any, **kwargs: Any) -> Any:
            self.append(name)
            return response

        note.__name__ = name
        return note

    def taken(self) -> list[Any]:
        """What was noted since the last time."""
        taken, self[:] = list(self), []
        return taken


class Post:
    """A sender."""


class Essay(Post):
    """A sender that is a Post too."""


class Tag:
    """Another sender."""


class OnlyHere:
    """A sender of a name that no other class has."""
