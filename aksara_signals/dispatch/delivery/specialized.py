"""Versions of the loops in which the names of the arguments are written out.

``call(**arguments)`` takes more than twice as long as ``call(signal=signal, sender=sender, …)``,
and is most of what a send takes. So a set of argument names that is sent often gets versions of the
loops of its own, as ``dataclasses`` makes ``__init__``: they do the same, in as many frames. They
are made from the source of :mod:`.loop`, with its line numbers, so a traceback shows that source.
Without the source, and for names that are sent rarely, the loops themselves are used.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Coroutine
from typing import Any

from aksara_signals.dispatch.delivery.loop import deliver, deliver_sync
from aksara_signals.types import Responses

OFTEN = 20
"""How many sends of the same names make versions of the loops worth while: making them takes as
long as some thousand calls of a receiver."""

MAX_SETS = 200
"""For how many sets of names versions are made. The names of an application's sends are written in
its code, unless it sends by ``**`` what it has received."""

Names = tuple[str, ...]


Deliver = Callable[..., Coroutine[Any, Any, Responses]]
DeliverSync = Callable[..., Responses]


class Loops:
    """The loops for certain names of arguments.

    Args:
        deliver: As :func:`~.loop.deliver`.
        deliver_sync: As :func:`~.loop.deliver_sync`.
        deliver_only: As ``deliver``, without responses.
        deliver_sync_only: As ``deliver_sync``, without responses.
    """

    __slots__ = ("deliver", "deliver_only", "deliver_sync", "deliver_sync_only")

    def __init__(
        self,
        deliver: Deliver,
        deliver_sync: DeliverSync,
        deliver_only: Deliver,
        deliver_sync_only: DeliverSync,
    ) -> None:
        self.deliver: Deliver = deliver
        self.deliver_sync: DeliverSync = deliver_sync
        self.deliver_only: Deliver = deliver_only
        self.deliver_sync_only: DeliverSync = deliver_sync_only


GENERIC = Loops(deliver, deliver_sync, deliver, deliver_sync)
"""The loops for any names."""

specialized: dict[Names, Loops] = {}
"""The versions that have been made."""

_sent: dict[Names, int] = {}
"""How often names have been sent that have no version yet."""


def loops_for(names: Names, sends: int = 1) -> Loops:
    """The loops for these names of arguments.

    Args:
        names: In the order in which receivers get them.
        sends: How many deliveries are about to be made.
    """
    found = specialized.get(names)
    if found is not None:
        return found
    if len(specialized) >= MAX_SETS:
        return GENERIC
    if len(_sent) > MAX_SETS:
        _sent.clear()
    sends += _sent.get(names, 0)
    _sent[names] = sends
    if sends < OFTEN:
        return GENERIC
    _sent.pop(names, None)
    found = specialized[names] = _made(names)
    return found


def _made(names: Names) -> Loops:
    """The versions for these names; the loops themselves if there can't be any."""
    if not all(map(_can_be_written, names)):
        return GENERIC
    from aksara_signals.dispatch.delivery.rewriting import rewritten

    made: list[Any] = [
        rewritten(each, names, collects=collects)
        for collects in (True, False)
        for each in (deliver, deliver_sync)
    ]
    return GENERIC if None in made else Loops(*made)


def _can_be_written(name: Any) -> bool:
    """Whether ``call(name=…)`` passes an argument of just this name.

    Other names than identifiers can be passed by ``**`` only. Of other letters than those of ASCII,
    Python takes some that look alike for one.
    """
    return (
        type(name) is str
        and name.isascii()
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and name != "__debug__"
    )
