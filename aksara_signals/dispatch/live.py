"""Every signal that is alive, in the order they were made; held weakly.

It knows nothing of what a signal is, so that rooms beneath :class:`~aksara_signals.Signal` can ask
for signals without importing it.
"""

from __future__ import annotations

import weakref
from typing import Any

_signals: dict[int, weakref.ref[Any]] = {}
"""By address. Finalisers make and end signals at any moment, also while another one is being made:
no step here can be interrupted half-way, and none takes a lock."""


class SignalBase:
    """What every signal inherits, so that rooms beneath ``Signal`` can tell one."""


def register_signal(signal: Any) -> None:
    """Remember a signal as long as it lives."""
    address = id(signal)
    forget = _signals.pop  # bound here: modules lose their names when the interpreter ends
    _signals[address] = weakref.ref(signal, lambda _: forget(address, None))


def live_signals() -> list[Any]:
    """Every live signal, in the order they were made."""
    return [signal for each in list(_signals.values()) if (signal := each()) is not None]


def is_signal(thing: Any) -> bool:
    """Whether something is a signal, whatever its ``__class__`` says."""
    return issubclass(type(thing), SignalBase)
