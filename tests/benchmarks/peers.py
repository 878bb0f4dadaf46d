"""The signals of others: their real code, as installed from the registry.

Each gets what it can take of a send: a sender, an instance, and two more values by keyword.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import blinker
import django.dispatch
import pluggy
import psygnal
import pyee
from aiosignal import Signal as AioSignal
from by_hand import PAYLOAD
from edgy.core.signals import Broadcaster
from ormar.signals import Signal as OrmarSignal
from receivers import Receivers


def async_peers(functions: Receivers, sender: type) -> dict[str, Callable[[], Awaitable[Any]]]:
    """One send of each peer to async receivers."""
    of_django = django.dispatch.Signal()
    of_blinker = blinker.Signal()
    of_edgy = Broadcaster()  # of blinker's signals, found by name at each send
    of_ormar = OrmarSignal()
    of_aiohttp: Any = AioSignal(object())
    for function in functions:
        of_django.connect(function, sender=sender, weak=False)
        of_blinker.connect(function, sender=sender, weak=False)
        of_edgy.post_save.connect(function, sender=sender, weak=False)
        of_ormar.connect(function)
        of_aiohttp.append(function)
    of_aiohttp.freeze()
    instance = PAYLOAD["instance"]
    return {
        "django": lambda: of_django.asend(sender, instance=instance, created=True, session=None),
        "blinker": lambda: of_blinker.send_async(
            sender, instance=instance, created=True, session=None
        ),
        "edgy": lambda: of_edgy.post_save.send_async(
            sender, instance=instance, created=True, session=None
        ),
        "ormar": lambda: of_ormar.send(sender, instance=instance, created=True, session=None),
        "aiosignal": lambda: of_aiohttp.send(sender, instance=instance, created=True, session=None),
    }


def sync_peers(functions: Receivers, sender: type) -> dict[str, Callable[[], Any]]:
    """One send of each peer to plain functions."""
    of_django = django.dispatch.Signal()
    with_caching = django.dispatch.Signal(use_caching=True)
    of_blinker = blinker.Signal()
    of_pyee = pyee.EventEmitter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_psygnal = psygnal.SignalInstance((object, object), check_nargs_on_connect=False)
    for function in functions:
        for signal in (of_django, with_caching):
            signal.connect(function, sender=sender, weak=False)
        of_blinker.connect(function, sender=sender, weak=False)
        of_pyee.on("saved", function)
        of_psygnal.connect(function, check_nargs=False)
    saved = _pluggy_hook(functions)
    instance = PAYLOAD["instance"]
    return {
        "django": lambda: of_django.send(sender, instance=instance, created=True, session=None),
        "django with caching": lambda: with_caching.send(
            sender, instance=instance, created=True, session=None
        ),
        "blinker": lambda: of_blinker.send(sender, instance=instance, created=True, session=None),
        "pyee": lambda: of_pyee.emit(
            "saved", sender, instance=instance, created=True, session=None
        ),
        "pluggy": lambda: saved(sender=sender, instance=instance, created=True, session=None),
        # By position, as it can no other way, and without the two that receivers don't name.
        "psygnal (compiled)": lambda: of_psygnal.emit(sender, instance),
    }


def _pluggy_hook(functions: Receivers) -> Any:
    """A hook of a project, and each function as a plugin's implementation."""
    implement = pluggy.HookimplMarker("benchmark")
    specify = pluggy.HookspecMarker("benchmark")

    class Specification:
        @specify
        def saved(self, sender: Any, instance: Any, created: bool, session: Any) -> None: ...

    manager = pluggy.PluginManager("benchmark")
    manager.add_hookspecs(Specification)
    for function in functions:
        manager.register(types.SimpleNamespace(saved=implement(function)))
    return manager.hook.saved
