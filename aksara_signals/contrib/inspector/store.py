"""The database of an outbox, through the sessions of the application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio.to_thread
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox import Outbox
from aksara_signals.contrib.outbox.worker.gateway import connection_to

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Store:
    """The database of an outbox, and what makes sessions for it."""

    outbox: Outbox
    sessions: Callable[[], Any]

    async def run(
        self, function: Callable[..., ResultT], *arguments: Any, **options: Any
    ) -> ResultT:
        """Call a function with a connection and ``arguments``, in a transaction of its own."""

        def call(session: Session) -> ResultT:
            with session.begin():
                connection = connection_to(session, self.outbox.tables)
                return function(connection, *arguments, **options)

        def call_in_thread() -> ResultT:
            with session:
                return call(session)

        session = self.sessions()
        if isinstance(session, AsyncSession):
            async with session:
                return await session.run_sync(call)
        return await anyio.to_thread.run_sync(call_in_thread, abandon_on_cancel=True)
