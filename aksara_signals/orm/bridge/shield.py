"""A shield that holds a cancellation back while a transaction is being committed.

If a task is cancelled between COMMIT and the answer of the database, the outcome is unknown: the
rows may be in the database or not. Deferred receivers could be called for the wrong outcome. So a
commit is awaited to its end, and the cancellation is raised after it. Only sessions that have
deferred receivers queued are shielded.

``asyncio.shield()`` can't do this: the COMMIT is deep inside SQLAlchemy's greenlet, and the task
that is cancelled is the one that awaits for it. But all that the greenlet awaits passes through its
parent greenlet. A relay is put in between, which exchanges the awaitable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet
from sqlalchemy.orm import Session

from aksara_signals.orm.bridge.sessions import is_committing


class CommitShield:
    """A relay between the greenlet of a commit and the event loop.

    Everything that the greenlet awaits passes through it. While the session's transaction is being
    committed, each awaitable is awaited to its end. A cancellation is held back until the deferred
    receivers have been called.

    Args:
        session: The session that works in the current greenlet.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._current: Any = getcurrent()
        self._driver: Any = self._current.parent
        self._relay: Any = greenlet(self._stand_between, self._driver)
        self._relay.switch()  # starts it: a parent has to be running
        self._current.parent = self._relay
        self._is_closed = self._is_removed = False
        self._held: asyncio.CancelledError | None = None
        self._cancelled: asyncio.Task[Any] | None = None

    @property
    def is_here(self) -> bool:
        """Whether this is the shield of the current greenlet."""
        return self._current is getcurrent()

    @property
    def held(self) -> asyncio.CancelledError | None:
        """The cancellation that was held back, if it is still in force.

        If the commit fails, it is raised when the session is rolled back or closed. By then a
        timeout may have withdrawn it with ``uncancel()``. Or its task is over, and another task
        rolls back.
        """
        task = self._cancelled
        return self._held if task and task.cancelling() and not task.done() else None

    @property
    def is_over(self) -> bool:
        """Whether its greenlet has ended and no cancellation is to be raised."""
        return self._current.dead and self.held is None

    def remove(self) -> None:
        """Take the relay out again, or let everything pass unchanged if it can't be taken out."""
        self._is_removed = True
        if self._current.parent is self._relay:  # else the shield of another session is in between
            self._current.parent = self._driver
            if self.is_here:
                # A greenlet that ends switches to its parent: back to here.
                self._relay.parent = self._current
                self._relay.throw(GreenletExit)

    def _stand_between(self) -> Any:
        return self._pass_on(self._current.switch())

    def _pass_on(self, awaitable: Any) -> Any:
        # Until the greenlet has ended. What it passes on last is its result, and no awaitable.
        while not self._current.dead:
            # After the end of the transaction (None), the connection is being returned to the pool.
            # That belongs to the commit, so the last answer is still valid.
            closes = is_committing(self._session)
            self._is_closed = self._is_closed if closes is None else closes
            is_closed = self._is_closed and not self._is_removed
            awaitable = self._driver.switch(self._to_its_end(awaitable) if is_closed else awaitable)
        return awaitable

    async def _to_its_end(self, awaitable: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(awaitable)
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                self._held, self._cancelled = error, asyncio.current_task()
        return task.result()
