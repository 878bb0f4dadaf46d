"""Sessions of both kinds, driven alike, for recipes of SQLAlchemy's that work on either."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


class Twin:
    """A session: ``await twin.commit()`` awaits what has to be awaited."""

    def __init__(self, session: AsyncSession | Session) -> None:
        self.session = session

    @property
    def plain(self) -> Session:
        """The session that does the work."""
        return getattr(self.session, "sync_session", self.session)

    def __getattr__(self, verb: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            result = getattr(self.session, verb)(*args, **options)
            return await result if isawaitable(result) else result

        return call

    async def save(self, *instances: Any) -> None:
        """Add, commit, and load what the commit has expired."""
        self.session.add_all(instances)
        await self.commit()
        for instance in instances:
            await self.refresh(instance)

    async def all(self, statement: Any) -> list[Any]:
        """The rows of a statement, as tuples."""
        return [tuple(row) for row in await self.execute(statement)]


class SentLines:
    """What receivers of the save and delete signals get, as lines and as changes."""

    def __init__(self, *signals: Any, sender: Any = None) -> None:
        self.lines: list[str] = []
        self.changes: list[dict[str, Any]] = []
        for signal in signals:
            fields = "changes" if "changes" in signal.payload.names else ""
            signal.connect(self._with_changes if fields else self._plain, sender)

    async def _plain(self, signal: Any, instance: Any, **kwargs: Any) -> None:
        self.lines.append(f"{signal.name} {type(instance).__name__}")

    async def _with_changes(
        self, signal: Any, instance: Any, created: bool, changes: Any, **kwargs: Any
    ) -> None:
        new = " created" if created else ""
        self.lines.append(f"{signal.name} {type(instance).__name__}{new}")
        self.changes.append(dict(changes))

    def taken(self) -> list[str]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        self.changes = []
        return lines
