"""Events of mappers, as SQLAlchemy's nested sets use them, beside our receivers."""

from __future__ import annotations

from typing import Any

from kit.peers.recipes import SentLines, Twin
from sqlalchemy import event, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import post_delete, post_save, pre_delete, pre_save
from aksara_signals.orm import SignalMixin

EVERY = pre_save, post_save, pre_delete, post_delete


class Base(SignalMixin, DeclarativeBase):
    pass


class Shelf(Base):
    """A nested set: each shelf holds those between its two numbers."""

    __tablename__ = "shelf"
    __mapper_args__ = {"batch": False}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    left: Mapped[int]
    right: Mapped[int]
    edits: Mapped[int] = mapped_column(default=0)


@event.listens_for(Shelf, "before_insert")
def make_room(mapper: Any, connection: Any, target: Shelf) -> None:
    """Each new shelf goes into the outermost one, or around nothing."""
    table = Shelf.__table__
    outer = connection.execute(select(table.c.right).where(table.c.left == 1)).scalar()
    if outer is None:
        target.left, target.right = 1, 2
        return
    statement = update(table).where(table.c.right >= outer).values(right=table.c.right + 2)
    connection.execute(statement)
    target.left, target.right = outer, outer + 1


@event.listens_for(Shelf, "before_update")
def count_edits(mapper: Any, connection: Any, target: Shelf) -> None:
    target.edits += 1


async def test_events_of_mappers(twin: Twin) -> None:
    """What they set is in post_save's changes, and what they execute sends no signal."""
    sent = SentLines(*EVERY)
    root, inner = Shelf(name="root"), Shelf(name="inner")
    await twin.save(root)
    assert sent.taken() == ["pre_save Shelf created", "post_save Shelf created"]
    twin.session.add(inner)
    await twin.flush()
    before, after = sent.changes
    assert "left" not in before
    assert (after["left"], after["right"]) == ((None, 2), (None, 3))
    assert sent.taken() == ["pre_save Shelf created", "post_save Shelf created"]

    await twin.refresh(root)
    assert (root.left, root.right) == (1, 4)
    root.name = "top"
    await twin.flush()
    assert sent.changes == [{"name": ("root", "top")}, {"name": ("root", "top"), "edits": (0, 1)}]
    assert sent.taken() == ["pre_save Shelf", "post_save Shelf"]
