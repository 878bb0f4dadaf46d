"""What receivers of relationship signals may do with the session that writes the links."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit import databases
from sqlalchemy import Column, Engine, ForeignKey, Table, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.exc import StaleDataError

from aksara_signals import (
    SessionInUseError,
    SignalContext,
    m2m_changed,
    post_relation_add,
    pre_relation_add,
    pre_save,
)
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


def link(name: str) -> Table:
    return Table(
        name,
        Base.metadata,
        Column("shelf_id", ForeignKey("shelf.id"), primary_key=True),
        Column("book_id", ForeignKey("book.id"), primary_key=True),
    )


shelf_book, shelf_loan, shelf_new = link("shelf_book"), link("shelf_loan"), link("shelf_new")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship(secondary=shelf_book)
    loans: WriteOnlyMapped[Book] = relationship(secondary=shelf_loan, passive_deletes=True)
    news: DynamicMapped[Book] = relationship(secondary=shelf_new, passive_deletes=True)


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        yield session


@pytest.fixture
def sync_session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


# -- the session ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["begin_nested", "commit", "rollback", "close"])
@pytest.mark.parametrize("signal", [m2m_changed, pre_relation_add], ids=lambda it: it.name)
@pytest.mark.parametrize("is_sync", [False, True])
async def test_what_receivers_before_a_link_may_not_do(
    session: AsyncSession, signal: Any, name: str, is_sync: bool
) -> None:
    """The same as in pre_save: the flush fails, whether or not they are async."""

    async def end(session: AsyncSession, **kwargs: Any) -> None:
        if kwargs.get("action", "pre_add") == "pre_add":
            await getattr(session, name)()

    def end_in_step(session: AsyncSession, **kwargs: Any) -> None:
        if kwargs.get("action", "pre_add") == "pre_add":
            getattr(session.sync_session, name)()

    signal.connect(end_in_step if is_sync else end)
    session.add(Shelf(books=[Book()]))
    with pytest.raises(SessionInUseError, match=rf"{name}\(\) was called by a receiver before"):
        await session.flush()
    signal.disconnect(end_in_step if is_sync else end)
    await session.rollback()
    session.add(Shelf(books=[Book()]))
    await session.commit()
    assert len((await session.execute(select(shelf_book))).all()) == 1


@pytest.mark.parametrize("name", ["commit", "rollback", "close"])
@pytest.mark.parametrize("signal", [m2m_changed, post_relation_add], ids=lambda it: it.name)
async def test_what_receivers_after_a_link_may_not_do(
    session: AsyncSession, signal: Any, name: str
) -> None:
    """The same as in post_save; a savepoint is theirs to open."""
    done: list[str] = []

    @signal.connect
    async def end(session: AsyncSession, **kwargs: Any) -> None:
        if kwargs.get("action", "post_add") == "post_add":
            async with session.begin_nested():
                done.append("savepoint")
            await getattr(session, name)()

    session.add(Shelf(books=[Book()]))
    with pytest.raises(SessionInUseError, match=rf"{name}\(\) was called by a receiver inside"):
        await session.flush()
    assert done == ["savepoint"]


async def test_receivers_of_links_write_through_the_session_at_work(session: AsyncSession) -> None:
    """Before and after: it is found without being named, and its transaction is the one."""

    @m2m_changed(shelf_book)
    async def write(action: str, **kwargs: Any) -> None:
        await Book.objects.create(id={"pre_add": 70, "post_add": 80}[action])

    session.add(Shelf(books=[Book(id=1)]))
    await session.flush()
    assert (await session.scalars(select(Book.id).order_by(Book.id))).all() == [1, 70, 80]
    await session.rollback()
    assert (await session.scalars(select(Book.id))).all() == []


@pytest.mark.parametrize("is_there", [False, True])
async def test_passed_args_go_with_the_flush_that_writes_the_link(
    session: AsyncSession, is_there: bool
) -> None:
    """That may be the one under way; it is the one of the call, even if nothing is written."""
    passed: list[Any] = []
    shelf, book, other = Shelf(id=1), Book(id=2), Book(id=3)
    session.add_all([shelf, book, other])
    await session.commit()
    if is_there:
        await shelf.related("books").add(book)
        await session.commit()

    @pre_save(Book)
    async def add_too(instance: Book, **kwargs: Any) -> None:
        await shelf.related("books").add(instance, why="new")

    @post_relation_add(Shelf)
    def note(child: Book, passed_args: Any, **kwargs: Any) -> None:
        passed.append((child.id, passed_args))

    await session.refresh(shelf, ["books"])
    await shelf.related("books").add(book, why="asked for")
    assert passed == ([] if is_there else [(2, {"why": "asked for"})])
    passed.clear()
    session.add(Book(id=4))
    await session.flush()
    assert passed == [(4, {"why": "new"})]
    passed.clear()
    shelf.books.clear()
    await session.flush()
    shelf.books.append(book)
    await session.flush()
    assert passed == [(2, {})]


# -- links that aren't there ----------------------------------------------------------------------


def sent_removals(session: Session, shelf: Shelf, name: str, *books: Book) -> list[Any]:
    """Flush the removal of books, and give what was sent: the action, and whose links."""
    sent: list[Any] = []

    @m2m_changed.connect
    def note(action: str, objects: Any, pk_set: set[int], **kwargs: Any) -> None:
        assert {book.id for book in objects} == pk_set
        sent.append((action, pk_set))

    for book in books:
        getattr(shelf, name).remove(book)
    try:
        session.flush()
    except StaleDataError:  # some drivers count the rows of a DELETE, and SQLAlchemy insists
        session.rollback()
    m2m_changed.disconnect(note)
    return sent


def shelf_with(session: Session, name: str, count: int) -> tuple[Shelf, list[Book]]:
    """A shelf and books with a link to each but the last one."""
    with SignalContext.disable_all():
        shelf, books = Shelf(id=1), [Book(id=number) for number in range(1, count + 1)]
        session.add_all([shelf, *books])
        session.flush()
        for book in books[:-1]:
            getattr(shelf, name).add(book)
        session.commit()
    return shelf, books


NEVER_LOADED = pytest.mark.parametrize("name", ["loans", "news"])
"""A write-only and a dynamic collection: neither knows what is in it."""


@NEVER_LOADED
def test_a_removed_link_is_sent(sync_session: Session, name: str) -> None:
    """Before and after the flush, with its key."""
    shelf, books = shelf_with(sync_session, name, 3)
    sent = sent_removals(sync_session, shelf, name, books[1])
    assert sent == [("pre_remove", {2}), ("post_remove", {2})]


@NEVER_LOADED
def test_an_absent_link_is_not_sent(sync_session: Session, name: str) -> None:
    """A link that isn't there can't be removed, whatever the database says to it."""
    shelf, books = shelf_with(sync_session, name, 3)
    assert sent_removals(sync_session, shelf, name, books[2]) == []


@NEVER_LOADED
def test_an_absent_link_beside_others(sync_session: Session, name: str) -> None:
    """Those that are there are sent, in one signal."""
    shelf, books = shelf_with(sync_session, name, 4)
    sent = sent_removals(sync_session, shelf, name, books[3], books[0], books[2])
    assert sent[0] == ("pre_remove", {1, 3})
    assert sent[1:] in ([], [("post_remove", {1, 3})])


@NEVER_LOADED
def test_a_link_that_an_earlier_flush_has_removed(sync_session: Session, name: str) -> None:
    """Each flush looks anew."""
    shelf, books = shelf_with(sync_session, name, 2)
    assert len(sent_removals(sync_session, shelf, name, books[0])) == 2
    assert sent_removals(sync_session, shelf, name, books[0]) == []


@NEVER_LOADED
def test_absent_links_of_two_owners(sync_session: Session, name: str) -> None:
    """What is in one collection says nothing about another one."""
    shelf, books = shelf_with(sync_session, name, 2)
    with SignalContext.disable_all():
        sync_session.add(other := Shelf(id=2))
        sync_session.flush()
        getattr(other, name).add(books[1])
        sync_session.commit()
    getattr(other, name).remove(books[0])
    sent = sent_removals(sync_session, shelf, name, books[1])
    assert sent == []
    assert sent_removals(sync_session, other, name, books[1])[0] == ("pre_remove", {2})
