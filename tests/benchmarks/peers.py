"""The signals of others: their real code, as installed from the registry."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import blinker
import django.dispatch
import psygnal
from aiosignal import Signal as AioSignal
from ormar.signals import Signal as OrmarSignal


def async_peers(
    functions: list[Callable[..., Any]], sender: type, instance: object
) -> dict[str, Callable[[], Awaitable[Any]]]:
    """One send of each peer to async receivers."""
    of_django = django.dispatch.Signal()
    of_blinker = blinker.Signal()
    of_ormar = OrmarSignal()
    of_aiohttp: Any = AioSignal(object())
    for function in functions:
        of_django.connect(function, sender=sender, weak=False)
        of_blinker.connect(function, sender=sender, weak=False)
        of_ormar.connect(function)
        of_aiohttp.append(function)
    of_aiohttp.freeze()
    return {
        "django": lambda: of_django.asend(sender, instance=instance),
        "blinker": lambda: of_blinker.send_async(sender, instance=instance),
        "ormar": lambda: of_ormar.send(sender, instance=instance),
        "aiosignal": lambda: of_aiohttp.send(sender, instance=instance),
    }


def sync_peers(
    functions: list[Callable[..., Any]], sender: type, instance: object
) -> dict[str, Callable[[], Any]]:
    """One send of each peer to plain functions."""
    of_django = django.dispatch.Signal()
    of_blinker = blinker.Signal()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_psygnal = psygnal.SignalInstance((object,), check_nargs_on_connect=False)
    for function in functions:
        of_django.connect(function, sender=sender, weak=False)
        of_blinker.connect(function, sender=sender, weak=False)
        of_psygnal.connect(function, check_nargs=False)
    return {
        "django": lambda: of_django.send(sender, instance=instance),
        "blinker": lambda: of_blinker.send(sender, instance=instance),
        "psygnal": lambda: of_psygnal.emit(instance),
    }
