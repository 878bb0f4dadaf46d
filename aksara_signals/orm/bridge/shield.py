"""What keeps a COMMIT whole: a task may be cancelled, but not between COMMIT and its answer.

Torn there, nobody could say whether the rows are in the database, and what waits for the outcome
would be told the wrong one. Only sessions in which something waits are shielded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet
from sqlalchemy.orm import Session

from aksara_signals.orm.bridge.sessions import is_committing


class CommitShield:
    """Stands between the greenlet of a commit and the event loop, which awaits for it.

    What the greenlet asks to await goes through here. While the session's transaction is being
    committed, it is awaited to its end; a cancellation is held back until the outcome is told.

    Args:
        session: At work in the current greenlet.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._current: Any = getcurrent()
        self._driver: Any = self._current.parent
        self._relay: Any = greenlet(self._stand_between, self._driver)
        self._relay.switch()  # SQLAlchemy wants a parent that has been started
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
        """The cancellation that came in between, if it still stands.

        A commit that fails surfaces it when the session is rolled back or closed. By then a time
        limit may have taken it back, or the task may be over, and somebody else's rolls back.
        """
        task = self._cancelled
        return self._held if task and task.cancelling() and not task.done() else None

    @property
    def is_over(self) -> bool:
        """Whether its greenlet has ended, and has nothing to surface."""
        return self._current.dead and self.held is None

    def remove(self) -> None:
        """Let everything pass again."""
        self._is_removed = True
        if self._current.parent is self._relay:  # else another session's shield stands before it
            self._current.parent = self._driver
            if self.is_here:
                self._relay.parent = self._current  # where it goes when it ends, which is now
                self._relay.throw(GreenletExit)

    def _stand_between(self) -> Any:
        return self._pass_on(self._current.switch())

    def _pass_on(self, awaitable: Any) -> Any:
        # Until the greenlet has ended: then it is its result that comes by.
        while not self._current.dead:
            # Without a transaction, its connection is on the way back to the pool.
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
