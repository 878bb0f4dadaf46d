"""Signal against a naive model: a list of what was connected, searched from end to end."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from kit.effort import times

from aksara_signals import InvalidOptionError, Signal, SignalContext


class Root: ...


class Left(Root): ...


class Right(Root): ...


class Both(Left, Right): ...


CLASSES = [Root, Left, Right, Both]
SENDERS = st.sampled_from([*CLASSES, None, "Left", f"{__name__}.Right", "nobody", 1, 2.0])
SENDING = st.sampled_from([*CLASSES, None, "Left", "nobody", 1.0, 2, 3])
OPTIONS = st.fixed_dictionaries(
    {
        "priority": st.sampled_from([0, 0, 1, -1]),
        "exact": st.booleans(),
        "weak": st.booleans(),
        "dispatch_uid": st.sampled_from([None, None, "a", "b"]),
    }
)


@dataclass
class Entry:
    """What the naive model knows of a connection."""

    number: int
    sender: Any
    priority: int
    exact: bool
    dispatch_uid: str | None
    weak: bool


class Receiver:
    """A receiver that answers with its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, **kwargs: Any) -> int:
        return self.number


def matches(entry: Entry, sender: Any) -> bool:
    if entry.sender is None:
        return True
    if isinstance(entry.sender, str):
        if isinstance(sender, type):
            known = [sender] if entry.exact else sender.__mro__
            return any(
                entry.sender in (cls.__name__, f"{cls.__module__}.{cls.__name__}") for cls in known
            )
        return bool(entry.sender == sender)
    if isinstance(entry.sender, type):
        if not isinstance(sender, type):
            return False
        return sender is entry.sender if entry.exact else issubclass(sender, entry.sender)
    return bool(entry.sender == sender)


class SignalMachine(RuleBasedStateMachine):
    """Connects, disconnects, kills, silences and sends at random."""

    receivers = Bundle("receivers")

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.living: dict[int, Receiver] = {}
        self.contexts: list[tuple[SignalContext, Any]] = []
        self.count = 0

    @initialize()
    def start(self) -> None:
        self.signal = Signal("modelled")

    @rule(target=receivers)
    def make_receiver(self) -> int:
        self.count += 1
        self.living[self.count] = Receiver(self.count)
        return self.count

    @rule(number=receivers, sender=SENDERS, options=OPTIONS)
    def connect(self, number: int, sender: Any, options: dict[str, Any]) -> None:
        if number not in self.living:
            return
        new, uid = Entry(number, sender, **options), options["dispatch_uid"]
        known = [
            entry
            for entry in self.entries
            if uid == entry.dispatch_uid
            and (uid is not None or entry.number == number)
            and entry.sender == sender
            and type(entry.sender) is type(sender)
        ]
        if uid is None and any(entry != new for entry in known):
            with pytest.raises(InvalidOptionError):
                self.signal.connect(self.living[number], sender=sender, **options)
            return
        self.signal.connect(self.living[number], sender=sender, **options)
        if not known:
            self.entries.append(new)

    @rule(number=receivers, sender=SENDERS, uid=st.sampled_from([None, "a", "b"]))
    def disconnect(self, number: int, sender: Any, uid: str | None) -> None:
        if number not in self.living:
            return
        gone = [
            entry
            for entry in self.entries
            if entry.dispatch_uid == uid
            and (uid is not None or entry.number == number)
            and entry.sender == sender
            and type(entry.sender) is type(sender)
        ]
        found = self.signal.disconnect(self.living[number], sender=sender, dispatch_uid=uid)
        assert found is bool(gone)
        self.entries = [entry for entry in self.entries if entry not in gone]

    @rule(number=receivers)
    def forget(self, number: int) -> None:
        """Weak connections die with their receiver, unless a strong one keeps it alive."""
        if self.living.pop(number, None) is None:
            return
        gc.collect()
        if all(entry.weak for entry in self.entries if entry.number == number):
            self.entries = [entry for entry in self.entries if entry.number != number]

    @rule(sender=st.sampled_from([Root, Left, None]))
    def enter(self, sender: Any) -> None:
        make = SignalContext.disable_all() if sender is None else SignalContext.disable_for(sender)
        make.__enter__()
        self.contexts.append((make, sender))

    @rule(place=st.integers(0, 3))
    def leave(self, place: int) -> None:
        if place < len(self.contexts):
            context, _ = self.contexts.pop(place)
            context.__exit__(None, None, None)

    def expected(self, sender: Any, silenced: bool = True) -> list[int]:
        if silenced:
            for _, model in self.contexts:
                if model is None or (isinstance(sender, type) and issubclass(sender, model)):
                    return []
        found: list[int] = []
        for entry in sorted(self.entries, key=lambda entry: -entry.priority):
            if matches(entry, sender) and entry.number not in found:
                found.append(entry.number)
        return found

    @rule(sender=SENDING, kind=st.sampled_from(["send", "send_robust"]))
    def send(self, sender: Any, kind: str) -> None:
        responses = asyncio.run(getattr(self.signal, kind)(sender))
        assert [response for _, response in responses] == self.expected(sender)

    @rule(sender=SENDING, kind=st.sampled_from(["send_sync", "send_robust_sync"]))
    def send_sync(self, sender: Any, kind: str) -> None:
        responses = getattr(self.signal, kind)(sender)
        assert [response for _, response in responses] == self.expected(sender)

    @rule(sender=SENDING)
    def send_in_thread(self, sender: Any) -> None:
        """Every receiver is called in another thread: no context reaches it."""
        responses: list[Any] = []
        thread = threading.Thread(target=lambda: responses.extend(self.signal.send_sync(sender)))
        thread.start()
        thread.join()
        assert [response for _, response in responses] == self.expected(sender, silenced=False)

    @invariant()
    def connections_agree(self) -> None:
        shown = [
            (each.receiver.number, each.sender, each.priority) for each in self.signal.connections
        ]
        assert shown == [(entry.number, entry.sender, entry.priority) for entry in self.entries]

    def teardown(self) -> None:
        for context, _ in self.contexts:
            context.__exit__(None, None, None)


TestSignal = SignalMachine.TestCase
TestSignal.settings = settings(max_examples=times(60), stateful_step_count=30, deadline=None)
