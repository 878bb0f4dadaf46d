"""From the greenlet of a flush to receivers, and back."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, NoReturn

from greenlet import GreenletExit, getcurrent
from sqlalchemy.util import await_only

from aksara_signals.dispatch.after import deliver_outcome, deliver_outcome_sync
from aksara_signals.dispatch.delivery.delivery import Delivery, FailedDelivery
from aksara_signals.dispatch.delivery.loop import deliver, deliver_sync
from aksara_signals.exceptions import SessionInUseError


def in_greenlet() -> bool:
    """Whether an event loop waits behind this synchronous code, to which awaitables can go."""
    return getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False)


def hand_over(deliveries: Iterable[Delivery], is_async: bool) -> None:
    """Deliver from inside a flush or a constructor.

    Args:
        deliveries: In order.
        is_async: Whether the receivers are async: then all of them are awaited in one hand-over.
            Synchronous ones are called right here, in the greenlet of the flush, where lazy loads
            work.

    Raises:
        SessionInUseError: A receiver has raised ``GreenletExit``.
        BaseException: What a receiver has raised.
    """
    if not in_greenlet():
        deliver_sync(deliveries)
        return
    try:
        if is_async:
            await_only(deliver(deliveries))
        else:
            deliver_sync(deliveries, drive=_await_here)
    except GreenletExit as error:
        _refuse_exit(error)


def hand_over_outcome(deliveries: Iterable[Delivery | FailedDelivery]) -> None:
    """Deliver to receivers that have waited, when a transaction has ended."""
    if not in_greenlet():
        deliver_outcome_sync(deliveries)
        return
    try:
        await_only(deliver_outcome(deliveries))
    except GreenletExit as error:
        _refuse_exit(error)


def _refuse_exit(error: GreenletExit) -> NoReturn:
    """Raise what a greenlet doesn't take for its result.

    Out of a greenlet, ``GreenletExit`` is a normal return: ``commit()`` would be over in silence,
    with nothing written.
    """
    raise SessionInUseError(
        "a receiver has raised GreenletExit, which ends in silence the greenlet that the session "
        "works in; raise another exception to roll back, or return"
    ) from error


def _await_here(awaitable: Awaitable[Any]) -> Any:
    async def awaited() -> Any:
        return await awaitable

    return await_only(awaited())
