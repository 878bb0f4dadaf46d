"""Copies for receivers that wait are prepared as loaded instances are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from kit import databases
from sqlalchemy import JSON, ForeignKey, event, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    composite,
    mapped_column,
    reconstructor,
    relationship,
)
from sqlalchemy.orm.exc import DetachedInstanceError

from aksara_signals import Signal, post_delete, post_save
from aksara_signals.orm import SignalMixin

COMMIT = "after_commit"
Sessions = async_sessionmaker[AsyncSession]


class Base(SignalMixin, DeclarativeBase):
    pass


class Cached:
    cache: dict[str, Any]

    @reconstructor
    def prepare(self) -> None:
        self.cache = {"name": self.name}  # type: ignore[attr-defined]


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y


class Page(Cached, Base):
    __tablename__ = "reconstructed_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    x: Mapped[int] = mapped_column(default=1)
    y: Mapped[int] = mapped_column(default=2)
    point: Mapped[Point] = composite("x", "y")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "page"}


class Cover(Page):
    __mapper_args__ = {"polymorphic_identity": "cover"}


class Shelf(Base):
    __tablename__ = "reconstructed_shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship()

    @reconstructor
    def count(self) -> None:
        self.size = len(self.books)


class Book(Base):
    __tablename__ = "reconstructed_book"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("reconstructed_shelf.id"))


class DataBase(SignalMixin, MappedAsDataclass, DeclarativeBase):
    pass


class Folder(DataBase):
    __tablename__ = "reconstructed_folder"

    id: Mapped[int] = mapped_column(primary_key=True)
    files: Mapped[list[File]] = relationship(default_factory=list)


class File(DataBase):
    __tablename__ = "reconstructed_file"

    id: Mapped[int] = mapped_column(primary_key=True)
    folder_id: Mapped[int | None] = mapped_column(
        ForeignKey("reconstructed_folder.id"), default=None
    )


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> Sessions:
    """Sessions on empty tables."""
    await databases.create_all(async_engine, Base.metadata)
    await databases.create_all(async_engine, DataBase.metadata)
    return async_sessionmaker(async_engine)


@pytest.mark.parametrize("cls", [Page, Cover])
async def test_a_mixins_reconstructor_runs_on_copies(sessions: Sessions, cls: type[Page]) -> None:
    """Also an inherited one; it finds the columns, and the copy is detached as before."""
    seen: list[Any] = []
    own = Signal("own")

    @post_save(cls, phase=COMMIT)
    @post_delete(cls, phase=COMMIT)
    @own.connect(phase=COMMIT)
    async def look(signal: Any, instance: Page, **kwargs: Any) -> None:
        seen.append((signal.name, instance.cache, inspect(instance).detached))
        assert not inspect(instance).modified
        assert (instance.point.x, instance.point.y) == (1, 2)
        instance.data["n"] = 1  # tracked, as that of a loaded instance is
        assert inspect(instance).modified

    async with sessions(expire_on_commit=False) as session:
        page = cls(id=1, name="x")
        session.add(page)
        await session.flush()
        await own.send(cls, instance=page)
        await session.commit()
        await session.delete(page)
        await session.commit()
    name = {"name": "x"}
    assert seen == [("post_save", name, True), ("own", name, True), ("post_delete", name, True)]
    assert not hasattr(page, "cache")


async def test_load_listeners_run_on_copies(sessions: Sessions) -> None:
    """With no query context, as ``merge()`` calls them; a copy without a row is prepared, too."""
    seen: list[Any] = []
    own = Signal("own")

    @event.listens_for(Page, "load", propagate=True)
    def note(instance: Page, context: Any) -> None:
        assert context is None
        instance.seen = True  # type: ignore[attr-defined]

    @own.connect(phase=COMMIT)
    async def look(instance: Any, **kwargs: Any) -> None:
        seen.append((instance.cache, instance.seen, inspect(instance).transient))

    try:
        async with sessions.begin() as session:
            await own.send(Cover, instance=Cover(name="x"), session=session)
    finally:
        event.remove(Page, "load", note)
    assert seen == [({"name": "x"}, True, True)]


async def test_a_reconstructor_that_raises_costs_one_receiver_its_call(
    sessions: Sessions, reported: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and reported for each receiver of that copy; all others are called."""
    called: list[str] = []

    @post_save(phase=COMMIT)
    async def look(instance: Any, **kwargs: Any) -> None:
        called.append(type(instance).__name__)

    @post_save(phase=COMMIT, concurrent=True)
    async def look_together(instance: Any, **kwargs: Any) -> None:
        called.append(f"{type(instance).__name__} together")

    async with sessions.begin() as session:
        session.add(Page(name="x"))
        await session.flush()
        session.add(Shelf(id=1))
        await session.flush()
        session.add(Book(id=1))
    assert called == ["Page", "Book", "Page together", "Book together"]
    assert [type(each["error"]) for each in reported] == [DetachedInstanceError] * 2
    assert [each["connection"].receiver for each in reported] == [look, look_together]
    assert [each["failed_signal"] for each in reported] == [post_save, post_save]
    assert "instance" not in reported[0]["payload"]
    assert reported[0]["payload"]["created"] is True
    assert "was not called, because its arguments could not be prepared" in caplog.text
    assert "look" in caplog.text


def test_the_same_under_a_plain_session(sync_engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Synchronous deliveries go on, too."""
    from sqlalchemy.orm import Session

    Base.metadata.create_all(sync_engine)
    called: list[str] = []
    post_save.connect(
        lambda instance, **kwargs: called.append(type(instance).__name__), phase=COMMIT
    )
    with Session(sync_engine) as session:
        session.add(Shelf(id=1))
        session.flush()
        session.add(Book(id=1))
        session.commit()
    assert called == ["Book"]
    assert "could not be prepared" in caplog.text


async def test_what_a_dataclass_reads_of_a_copy(sessions: Sessions) -> None:
    """repr(), == and asdict() read every field, relationships among them, which aren't loaded."""
    seen: list[Any] = []

    @post_save(Folder, phase=COMMIT)
    async def look(instance: Folder, **kwargs: Any) -> None:
        for read in (repr, asdict, lambda copy: copy == Folder(id=1)):
            with pytest.raises(DetachedInstanceError, match="files"):
                read(instance)
        seen.append(instance.id)

    @post_save(File, phase=COMMIT)
    async def look_at_a_file(instance: File, **kwargs: Any) -> None:
        seen.append((instance == File(id=2, folder_id=1), asdict(instance)))

    async with sessions.begin() as session:
        session.add(Folder(id=1, files=[File(id=2)]))
    assert seen == [1, (True, {"id": 2, "folder_id": 1})]
