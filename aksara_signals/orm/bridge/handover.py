"""The hand-over from the greenlet of a flush to receivers.

An AsyncSession flushes in a greenlet, which is synchronous code. Async receivers have to be awaited
by the event loop around it, in one hand-over for all of them, because each one costs a switch.
Synchronous receivers have to stay in the greenlet: elsewhere they couldn't load lazily.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, NoReturn

from greenlet import GreenletExit, getcurrent
from sqlalchemy.util import await_only

from aksara_signals.dispatch.after import deliver_outcome, deliver_outcome_sync
from aksara_signals.dispatch.delivery.delivery import AnyDelivery, FailedDelivery
from aksara_signals.dispatch.delivery.specialized import GENERIC, Loops
from aksara_signals.exceptions import SessionInUseError
from aksara_signals.types import Drive


def in_greenlet() -> bool:
    """Whether this synchronous code runs in a greenlet whose parent awaits for it."""
    return getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False)


def hand_over(
    deliveries: Iterable[AnyDelivery],
    is_async: bool,
    drive: Drive | None = None,
    loops: Loops = GENERIC,
) -> None:
    """Deliver from inside a flush or a constructor.

    Args:
        deliveries: In order.
        is_async: Whether the receivers are async. All of them are awaited in one hand-over then.
            Synchronous ones are called here, in the greenlet of the flush, where lazy loads work.
        drive: Runs what async receivers return, if this is not a greenlet; else they can't wait.
        loops: Those for the names of the arguments.

    Raises:
        SessionInUseError: A receiver has raised ``GreenletExit``.
        BaseException: Any other exception that a receiver has raised.
    """
    if not in_greenlet():
        loops.deliver_sync_only(deliveries, drive=drive)
        return
    try:
        if is_async:
            await_only(loops.deliver_only(deliveries))
        else:
            loops.deliver_sync_only(deliveries, drive=_await_here)
    except GreenletExit as error:
        _refuse_exit(error)


def hand_over_outcome(deliveries: Iterable[AnyDelivery | FailedDelivery]) -> None:
    """Deliver to deferred receivers, when a transaction has ended."""
    if not in_greenlet():
        deliver_outcome_sync(deliveries)
        return
    try:
        await_only(deliver_outcome(deliveries))
    except GreenletExit as error:
        _refuse_exit(error)


def _refuse_exit(error: GreenletExit) -> NoReturn:
    """Raise another exception in the place of ``GreenletExit``.

    A greenlet that raises ``GreenletExit`` returns normally. ``commit()`` would return without an
    error, with nothing written.
    """
    raise SessionInUseError(
        "a receiver has raised GreenletExit, which silently ends the greenlet that the session "
        "works in; raise another exception to roll back, or return"
    ) from error


def _await_here(awaitable: Awaitable[Any]) -> Any:
    async def awaited() -> Any:
        return await awaitable

    return await_only(awaited())
