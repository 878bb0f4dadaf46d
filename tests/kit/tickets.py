"""Rows that have a state: mapped classes for receivers that are narrowed to changes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Enum, ForeignKey, String, literal, text
from sqlalchemy.orm import (
    Composite,
    DeclarativeBase,
    Mapped,
    column_property,
    composite,
    mapped_column,
    relationship,
    synonym,
)
from sqlalchemy.types import TypeDecorator

from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True)
class Place:
    building: str | None
    room: int | None


class Caseless(TypeDecorator[str]):
    """Text whose case doesn't matter; its values can't be hashed."""

    impl = String
    cache_ok = True

    def compare_values(self, x: Any, y: Any) -> bool:
        return x is y or (x is not None and y is not None and x.lower() == y.lower())


class Team(Base):
    __tablename__ = "ticket_team"

    id: Mapped[int] = mapped_column(primary_key=True)


class Ticket(Base):
    __tablename__ = "ticket"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str | None] = mapped_column(default="new")
    title: Mapped[str | None]
    level: Mapped[Level | None] = mapped_column(Enum(Level))
    code: Mapped[str | None] = mapped_column(Caseless)
    queue: Mapped[str] = mapped_column(server_default=text("'inbox'"))
    notes: Mapped[str | None] = mapped_column(deferred=True)
    building: Mapped[str | None]
    room: Mapped[int | None]
    place: Composite[Place] = composite(Place, "building", "room")
    team_id: Mapped[int | None] = mapped_column(ForeignKey("ticket_team.id"))
    team: Mapped[Team | None] = relationship()
    twice: Mapped[int | None] = column_property(literal(1) + 1)
    state: Mapped[str | None] = synonym("status")


class Bug(Ticket):
    """A subclass in the same table."""

    severity: Mapped[int | None]
