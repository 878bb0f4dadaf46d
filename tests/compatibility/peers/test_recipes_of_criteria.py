"""SQLAlchemy's recipe for soft deletion (criteria for every SELECT) beside our receivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.peers.recipes import SentLines, Twin
from sqlalchemy import ForeignKeyConstraint, event, inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    Session,
    mapped_column,
    with_loader_criteria,
)

from aksara_signals import post_save, post_update, pre_save
from aksara_signals.orm import Manager, SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Hideable:
    deleted_on: Mapped[str | None] = mapped_column(default=None)


class Letter(Hideable, Base):
    __tablename__ = "letter"
    country: Mapped[str] = mapped_column(primary_key=True, default="nl")
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]
    kind: Mapped[str] = mapped_column(default="letter")
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {
        "version_id_col": version,
        "polymorphic_on": "kind",
        "polymorphic_identity": "letter",
    }


class Parcel(Letter):
    __tablename__ = "parcel"
    country: Mapped[str] = mapped_column(primary_key=True, default="nl")
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weight: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "parcel"}
    __table_args__ = (ForeignKeyConstraint(["country", "id"], ["letter.country", "letter.id"]),)


def hide(state: ORMExecuteState) -> None:
    """As the documentation has it: refreshes of what is loaded are left alone."""
    if (
        state.is_select
        and not state.is_column_load
        and not state.is_relationship_load
        and not state.execution_options.get("with_deleted")
    ):
        state.statement = state.statement.options(
            with_loader_criteria(
                Hideable, lambda cls: cls.deleted_on.is_(None), include_aliases=True
            )
        )


@pytest.fixture(autouse=True)
def hiding() -> Iterator[None]:
    event.listen(Session, "do_orm_execute", hide)
    yield
    event.remove(Session, "do_orm_execute", hide)


CLASSES = [Letter, Parcel]


@pytest.mark.parametrize("cls", CLASSES)
async def test_hidden_rows_are_sent_with_their_old_values(twin: Twin, cls: Any) -> None:
    """What an expired row was is read from the table, whether SELECTs show it or not."""
    letter = cls(id=1, text="a")
    await twin.save(letter)
    letter.deleted_on = "today"
    await twin.commit()
    assert await twin.all(select(cls.text)) == []

    sent = SentLines(pre_save, post_update)
    letter.deleted_on = None  # it has expired: what it was is not known
    letter.text = "b"
    await twin.flush()
    expected = {"deleted_on": ("today", None), "text": ("a", "b")}
    assert [{**each} for each in sent.changes] == [expected, expected]
    await twin.commit()
    assert await twin.all(select(cls.text)) == [("b",)]


async def test_receivers_see_what_others_see(twin: Twin) -> None:
    """A receiver's own queries are criteria's; its instance is there although it is hidden."""
    seen: list[Any] = []

    async def count(instance: Any, session: Any, **kwargs: Any) -> None:
        found = Twin(session)
        seen.append((instance.text, len(await found.all(select(Letter.id)))))

    letter = Letter(id=1, text="a")
    await twin.save(letter, Letter(id=2, text="b"))
    post_save.connect(count)
    letter.deleted_on = "today"
    await twin.commit()
    assert seen == [("a", 1)]


@pytest.mark.parametrize("cls", CLASSES)
async def test_bulk_updates_hide_rows_and_go_on_with_them(
    twin: Twin, cls: Any, request: pytest.FixtureRequest
) -> None:
    """What the database has counted up is read although the row is hidden by then."""
    letters = [cls(id=number, text="a") for number in (1, 2)]
    await twin.save(*letters)
    for letter in letters:
        letter.deleted_on = "today"
    await Manager(cls).bulk_update(letters, ["deleted_on"], session=twin.session)
    assert [inspect(letter).dict["version"] for letter in letters] == [2, 2]
    letters[0].text = "b"
    await twin.commit()
    assert await twin.all(select(Letter.id)) == []


async def test_rows_are_read_where_a_flush_writes_them(twin: Twin) -> None:
    """A session that routes each instance to its connection is asked for it."""
    letter = Letter(id=1, text="a")
    await twin.save(letter)
    await twin.commit()
    asked: list[Any] = []

    def route(mapper: Any = None, instance: Any = None, **options: Any) -> Any:
        asked.append(instance)
        return twin.plain.connection()

    twin.plain.connection_callable = route
    sent = SentLines(pre_save)
    letter.text = "b"
    await twin.flush()
    assert sent.changes == [{"text": ("a", "b")}]
    assert asked == [letter, letter]
