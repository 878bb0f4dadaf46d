"""The live signals, in the order they were made; referenced weakly.

Modules that :class:`~aksara_signals.Signal` itself imports can't import it. They find signals here.
"""

from __future__ import annotations

import weakref
from typing import Any

_signals: dict[int, weakref.ref[Any]] = {}
"""By address. A finaliser may create or delete a signal at any moment, also while another one is
being registered. So every change is a single atomic operation on the dict, and none takes a lock.
"""


class SignalBase:
    """The base class of signals, for modules that can't import ``Signal`` to recognise one."""


def register_signal(signal: Any) -> None:
    """Add a signal to the live ones, for as long as it lives."""
    address = id(signal)
    forget = _signals.pop  # bound here: module globals are cleared when the interpreter exits
    _signals[address] = weakref.ref(signal, lambda _: forget(address, None))


def live_signals() -> list[Any]:
    """Every live signal, in the order they were made."""
    return [signal for each in list(_signals.values()) if (signal := each()) is not None]


def is_signal(thing: Any) -> bool:
    """Whether something is a signal, whatever its ``__class__`` says."""
    return issubclass(type(thing), SignalBase)
