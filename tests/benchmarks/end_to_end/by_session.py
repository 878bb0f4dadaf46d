"""Writing by a session, as with SQLAlchemy alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column


class NoteColumns:
    """The columns of the table."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


class BySession(ABC):
    """Writes by a session; a subclass says what, and connects the receiver."""

    note: Any
    """The mapped class."""

    @abstractmethod
    def connect(self) -> None:
        """Connect the receiver."""

    async def open(self, path: Path, *, receiving: bool) -> None:
        self._engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        if receiving:
            self.connect()

    async def rows(self, count: int) -> None:
        async with AsyncSession(self._engine) as session:
            session.add_all([self.note(title="x") for _ in range(count)])
            await session.commit()

    async def close(self) -> None:
        await self._engine.dispose()
