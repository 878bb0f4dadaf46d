"""From the greenlet of a flush to receivers, and back."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from greenlet import getcurrent
from sqlalchemy.util import await_only

from aksara_signals.dispatch.delivery import deliver, deliver_sync
from aksara_signals.dispatch.envelope import Delivery
from aksara_signals.dispatch.outcome import deliver_outcome, deliver_outcome_sync

__all__ = ["hand_over", "hand_over_outcome", "in_greenlet"]


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
    """
    if not in_greenlet():
        deliver_sync(deliveries)
    elif is_async:
        await_only(deliver(deliveries))
    else:
        deliver_sync(deliveries, drive=_await_here)


def hand_over_outcome(deliveries: Iterable[Delivery]) -> None:
    """Deliver to receivers that have waited, when a transaction has ended."""
    if in_greenlet():
        await_only(deliver_outcome(deliveries))
    else:
        deliver_outcome_sync(deliveries)


def _await_here(awaitable: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await awaitable

    return await_only(wait())
