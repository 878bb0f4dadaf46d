"""When the rows of durable receivers are written, and when those that can't be written at once are."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from kit.databases import Database, create_all, server_for_two_phases
from kit.models import Base, Post
from sqlalchemy import URL, Engine, event, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aksara_signals import (
    NoSessionError,
    OutboxError,
    Signal,
    post_delete,
    post_save,
    pre_save,
)
from aksara_signals.orm.outcome import durable
from aksara_signals.orm.outcome.durable import DurableSend, install_writer

Sessions = async_sessionmaker[AsyncSession]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def postgresql_server(postgresql_server: URL) -> Iterator[URL]:
    """A server that prepares transactions."""
    with server_for_two_phases(postgresql_server) as url:
        yield url


class FakeWriter:
    """Inserts one row for each write, which says what it holds; a transaction decides about it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        """What was prepared, written, and done by receivers, in order."""

    def prepare(self, sends: Any) -> list[str]:
        found = [self._words(each) for each in sends]
        self.log += [f"prepared {each}" for each in found]
        return found

    def _words(self, send: DurableSend) -> str:
        instance = send.payload.get("instance")
        what = send.payload.get("what") if instance is None else instance.title
        return f"{send.signal.name} {what}" if instance is not None else str(what)

    def write(self, session: Session, rows: list[str]) -> None:
        words = "+".join(rows)
        self.log.append(f"wrote {words}")
        session.connection().execute(text("INSERT INTO audit (text) VALUES (:it)"), {"it": words})


@pytest.fixture
def writer() -> Iterator[FakeWriter]:
    before = durable._writer
    writer = FakeWriter()
    install_writer(writer)
    yield writer
    install_writer(before)


@pytest.fixture
def signal() -> Signal:
    """A custom signal with a durable receiver."""
    signal = Signal(f"custom{next(_numbers)}")
    signal.connect(lambda **kwargs: None, durable=f"test_durable_orm.{next(_numbers)}")
    return signal


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> Sessions:
    """Sessions on empty tables."""
    await create_all(async_engine, Base.metadata)
    return async_sessionmaker(async_engine, expire_on_commit=False)


def connect(signal: Signal, **options: Any) -> None:
    name = f"test_durable_orm.{next(_numbers)}"
    signal.connect(lambda **kwargs: None, sender=Post, durable=name, **options)


async def committed(sessions: Sessions) -> list[str]:
    """What was written in transactions that were committed, by writes."""
    async with sessions() as session:
        return list(await session.scalars(text("SELECT text FROM audit ORDER BY id")))


# -- a flush --------------------------------------------------------------------------------------


def test_a_flush_writes_once_before_receivers(session: Session, writer: FakeWriter) -> None:
    """All its rows in order, and then it calls those that are called at once."""
    connect(post_save)
    connect(post_delete)

    def note(instance: Post, **kwargs: Any) -> None:
        writer.log.append(f"received {instance.title}")

    post_save.connect(note, sender=Post, priority=9)
    posts = [Post(title="a"), Post(title="b")]
    session.add_all(posts)
    session.flush()
    assert writer.log == [
        "prepared post_save a",
        "prepared post_save b",
        "wrote post_save a+post_save b",
        "received a",
        "received b",
    ]
    writer.log.clear()
    for post in posts:
        session.delete(post)
    session.commit()
    assert writer.log[-1] == "wrote post_delete a+post_delete b"


def test_a_flush_without_durable_receivers_writes_nothing(
    session: Session, writer: FakeWriter, sync_engine: Engine
) -> None:
    """And executes no further statement, nor does a commit with nothing to write."""
    post_save.connect(lambda **kwargs: None, sender=Post)
    statements: list[str] = []
    event.listen(
        sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2].split()[0])
    )
    session.add(Post(title="a"))
    session.commit()
    session.commit()
    assert writer.log == []
    assert [each for each in statements if each in ("INSERT", "SELECT", "UPDATE")] == ["INSERT"]


def test_what_a_receiver_flushes_is_written_later(session: Session, writer: FakeWriter) -> None:
    """After the rows of the flush that has called it."""
    connect(post_save)

    def again(instance: Post, session: Session, **kwargs: Any) -> None:
        if instance.title == "a":
            session.add(Post(title="b"))
            session.flush()

    post_save.connect(again, sender=Post)
    session.add(Post(title="a"))
    session.commit()
    assert [each for each in writer.log if each.startswith("wrote")] == [
        "wrote post_save a",
        "wrote post_save b",
    ]


def test_a_failing_write_rolls_the_flush_back(
    session: Session, writer: FakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No receiver is called, and nothing is committed."""
    connect(post_save)
    post_save.connect(lambda **kwargs: writer.log.append("called"), sender=Post)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(writer, "write", fail)
    session.add(Post(title="a"))
    with pytest.raises(ZeroDivisionError):
        session.commit()
    session.rollback()
    assert session.scalar(text("SELECT count(*) FROM post")) == 0
    assert "called" not in writer.log


async def test_without_an_outbox_nothing_is_committed(sessions: Sessions, signal: Signal) -> None:
    """The error names the receiver and what to do; the transaction is rolled back."""
    before = durable._writer
    install_writer(None)
    try:
        connect(post_save)
        async with sessions() as session:
            session.add(Post(title="a"))
            with pytest.raises(OutboxError, match=r"no outbox is installed: call .*\.install\(\)"):
                await session.commit()
            await session.rollback()
            with pytest.raises(OutboxError, match="durable='test_durable_orm"):
                await signal.send(session=session, what=1)
            with pytest.raises(OutboxError, match="no outbox is installed"):
                signal.send_sync(session=session, what=1)
        async with sessions() as session:
            assert await session.scalar(text("SELECT count(*) FROM post")) == 0
    finally:
        install_writer(before)


# -- a send ---------------------------------------------------------------------------------------


async def test_a_send_writes_at_once(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """Before it calls the receivers, with send() and send_robust()."""
    signal.connect(lambda **kwargs: writer.log.append("called"))
    async with sessions() as session:
        for send in (signal.send, signal.send_robust):
            await send(session=session, what="x")
            assert writer.log == ["prepared x", "wrote x", "called"]
            writer.log.clear()
        await session.commit()
    assert await committed(sessions) == ["x", "x"]


def test_a_plain_session_writes_at_once(
    session: Session, writer: FakeWriter, signal: Signal
) -> None:
    """Also when it is in a registry, or found by the instance."""
    registry = scoped_session(sessionmaker(session.get_bind()))
    signal.send_sync(session=session, what="x")
    post = Post(title="t")
    session.add(post)
    session.flush()
    signal.send_sync(instance=post)
    session.commit()
    signal.send_robust_sync(session=registry, what="y")
    registry.commit()
    registry.remove()
    assert session.scalars(text("SELECT text FROM audit")).all() == ["x", f"{signal.name} t", "y"]


async def test_a_scoped_session_writes_at_once(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """As the session in it does."""
    registry = async_scoped_session(sessions, scopefunc=lambda: 1)
    await signal.send(session=registry, what="x")
    await registry.commit()
    await registry.remove()
    assert await committed(sessions) == ["x"]


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("during", [pre_save, post_save], ids=["pre", "post"])
async def test_a_receiver_may_send(
    sessions: Sessions, writer: FakeWriter, signal: Signal, during: Signal, is_async: bool
) -> None:
    """By send() or send_sync(), before or after the flush: it is written in its transaction."""
    if is_async:

        async def send_on(session: AsyncSession, **kwargs: Any) -> None:
            await signal.send(session=session, what="awaited")
            signal.send_sync(session=session, what="not awaited")

    else:

        def send_on(session: AsyncSession, **kwargs: Any) -> None:
            signal.send_sync(session=session, what="awaited")
            signal.send_sync(session=session, what="not awaited")

    during.connect(send_on, sender=Post)
    async with sessions() as session:
        session.add(Post(title="a"))
        await session.commit()
    assert await committed(sessions) == ["awaited", "not awaited"]


async def test_nothing_says_which_transaction(writer: FakeWriter, signal: Signal) -> None:
    """Then it is an error, and no receiver is called."""
    signal.connect(lambda **kwargs: writer.log.append("called"))
    for arguments in ({}, {"session": None}, {"instance": Post(title="in no session")}):
        with pytest.raises(NoSessionError, match=r"are durable: .* pass session="):
            signal.send_sync(**arguments)
        with pytest.raises(NoSessionError, match="are durable"):
            await signal.send(**arguments)
    assert writer.log == []


# -- the buffer -----------------------------------------------------------------------------------


async def test_send_sync_buffers_until_the_next_flush(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """Its rows come before those of the flush, with values of the send."""
    connect(post_save)
    async with sessions() as session:
        signal.send_sync(session=session, what="x")
        signal.send_sync(session=session, what="y")
        session.add(Post(title="a"))
        assert [each for each in writer.log if each.startswith("wrote")] == []
        await session.flush()
        assert writer.log[-1] == "wrote x+y+post_save a"
        await session.commit()
    assert await committed(sessions) == ["x+y+post_save a"]


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize("has_changes", [True, False])
async def test_a_commit_writes_what_is_buffered(
    sessions: Sessions, writer: FakeWriter, signal: Signal, has_begun: bool, has_changes: bool
) -> None:
    """With changes and without, and though nothing has begun a transaction."""
    async with sessions() as session:
        if has_begun:
            await session.execute(text("SELECT 1"))
        signal.send_sync(session=session, what="x")
        if has_changes:
            session.add(Post(title="a"))
        await session.commit()
    assert await committed(sessions) == ["x"]


async def test_a_flush_without_durable_receivers_writes_what_is_buffered(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """It is the session's next statement."""
    post_save.connect(lambda **kwargs: None, sender=Post)
    async with sessions() as session:
        signal.send_sync(session=session, what="x")
        session.add(Post(title="a"))
        await session.flush()
        assert writer.log[-1] == "wrote x"
        await session.rollback()
    assert await committed(sessions) == []


async def test_an_awaited_send_writes_what_is_buffered_first(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """So the order is that of the sends."""
    async with sessions() as session:
        signal.send_sync(session=session, what="x")
        await signal.send(session=session, what="y")
        assert writer.log[-1] == "wrote x+y"
        await session.commit()


async def test_a_savepoint_that_is_rolled_back_drops_what_was_buffered_inside(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """And nothing else: what was buffered before it is kept, and what comes after it."""
    async with sessions() as session:
        await session.execute(text("SELECT 1"))
        signal.send_sync(session=session, what="before")
        savepoint = await session.begin_nested()
        signal.send_sync(session=session, what="inside")
        await savepoint.rollback()
        signal.send_sync(session=session, what="after")
        await session.commit()
    assert await committed(sessions) == ["before+after"]


async def test_a_flush_in_a_savepoint_leaves_what_was_buffered_before(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """It would be rolled back with the savepoint."""
    async with sessions() as session:
        await session.execute(text("SELECT 1"))
        signal.send_sync(session=session, what="before")
        savepoint = await session.begin_nested()
        connect(post_save)
        session.add(Post(title="a"))
        await session.flush()
        assert writer.log[-1] == "wrote post_save a"
        await savepoint.rollback()
        await session.commit()
    assert await committed(sessions) == ["before"]


async def test_a_released_savepoint_keeps_what_was_buffered_inside(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """Written inside it, and rolled back with the transaction around it."""
    async with sessions() as session:
        async with session.begin_nested():
            signal.send_sync(session=session, what="inside")
        assert writer.log[-1] == "wrote inside"
        await session.commit()
        async with session.begin_nested():
            signal.send_sync(session=session, what="lost")
        await session.rollback()
    assert await committed(sessions) == ["inside"]


async def test_a_rollback_drops_what_is_buffered(
    sessions: Sessions, writer: FakeWriter, signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word, as the user has said so; a later commit doesn't write it."""
    async with sessions() as session:
        for has_begun in (True, False):
            if has_begun:
                await session.execute(text("SELECT 1"))
            signal.send_sync(session=session, what="x")
            await session.rollback()
            await session.commit()
        with pytest.raises(ZeroDivisionError):
            async with session.begin():
                signal.send_sync(session=session, what="x")
                raise ZeroDivisionError
    assert await committed(sessions) == []
    assert caplog.records == []


@pytest.mark.parametrize("how", ["close", "reset", "invalidate", "leave"])
@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_session_that_is_closed_reports_what_is_buffered(
    sessions: Sessions,
    writer: FakeWriter,
    signal: Signal,
    caplog: pytest.LogCaptureFixture,
    how: str,
    has_begun: bool,
) -> None:
    """An error in the log names the signal, and the way out."""
    async with sessions() as session:
        if has_begun:
            await session.execute(text("SELECT 1"))
        signal.send_sync(session=session, what="x")
        if how != "leave":
            await getattr(session, how)()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert signal.name is not None
    assert signal.name in record.getMessage()
    assert "use 'await …send()'" in record.getMessage()
    assert await committed(sessions) == []


async def test_a_foreign_commit_reports_what_is_buffered(
    sessions: Sessions,
    async_engine: AsyncEngine,
    writer: FakeWriter,
    signal: Signal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The session isn't asked before it; what was flushed or awaited is committed all the same."""
    async with async_engine.connect() as connection:
        transaction = await connection.begin()
        async with AsyncSession(connection) as session:
            await signal.send(session=session, what="awaited")
            signal.send_sync(session=session, what="buffered")
            await transaction.commit()
    assert await committed(sessions) == ["awaited"]
    assert [each.levelname for each in caplog.records] == ["ERROR"]


def test_prepare_writes_what_is_buffered(
    database: Database, writer: FakeWriter, signal: Signal
) -> None:
    """Before the transaction is prepared, whatever is decided then."""
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no two phases")
    engine = database.create_sync_engine()
    Base.metadata.create_all(engine)
    connect(post_save)
    with Session(engine, twophase=True) as session:
        session.add(Post(title="a"))
        session.prepare()
        assert writer.log[-1] == "wrote post_save a"
        session.commit()
        assert session.scalars(text("SELECT text FROM audit")).all() == ["post_save a"]
        session.rollback()
    engine.dispose()


async def test_a_failed_flush_drops_what_its_receivers_buffered(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """With the rest of the transaction; the next one writes what belongs to it."""

    async def veto(session: AsyncSession, instance: Post, **kwargs: Any) -> None:
        signal.send_sync(session=session, what=instance.title)
        if instance.title == "vetoed":
            raise ZeroDivisionError

    post_save.connect(veto, sender=Post)
    async with sessions() as session:
        session.add(Post(title="vetoed"))
        with pytest.raises(ZeroDivisionError):
            await session.flush()
        await session.rollback()
        session.add(Post(title="passed"))
        await session.commit()
    assert await committed(sessions) == ["passed"]


async def test_a_session_writes_again_after_each_commit(
    sessions: Sessions, writer: FakeWriter, signal: Signal
) -> None:
    """Nothing of an earlier transaction is written twice."""
    async with sessions() as session:
        for number in range(3):
            signal.send_sync(session=session, what=number)
            await session.commit()
    assert await committed(sessions) == ["0", "1", "2"]
