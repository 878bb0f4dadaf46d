"""Receivers that wait for the outcome: what they get, when, and from which transactions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from databases import Database
from models import Audit, Author, Base, Post
from sqlalchemy import JSON, Column, ForeignKey, Table, event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError
from support import Recorder

from aksara_signals import (
    InvalidOptionError,
    InvalidPhaseError,
    InvalidReceiverError,
    NoSessionError,
    SessionInUseError,
    Signal,
    SignalContext,
    m2m_changed,
    on_delivery_error,
    post_bulk_create,
    post_delete,
    post_init,
    post_relation_add,
    post_save,
    post_update,
    pre_delete,
    pre_init,
    pre_migrate,
    pre_relation_add,
    pre_save,
)
from aksara_signals.orm import SignalMixin, on_commit, on_rollback, session_scope


class OwnBase(SignalMixin, DeclarativeBase):
    pass


class Label(OwnBase):
    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)


class Item(OwnBase):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    labels: Mapped[list[Label]] = relationship(
        secondary=Table(
            "item_label",
            OwnBase.metadata,
            Column("item_id", ForeignKey("item.id"), primary_key=True),
            Column("label_id", ForeignKey("label.id"), primary_key=True),
        )
    )


class Note(OwnBase):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)


COMMIT, ROLLBACK = "after_commit", "after_rollback"
Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> Sessions:
    """Sessions on empty tables."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return async_sessionmaker(async_engine)


class Outcomes:
    """What receivers of posts heard of which outcome."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        for phase in (COMMIT, ROLLBACK):
            post_save.connect(self._receiver(phase), sender=Post, phase=phase)

    def _receiver(self, phase: str) -> Callable[..., Any]:
        async def receiver(sender: type, instance: Post, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            self.heard.append(f"{phase} {instance.title}")

        return receiver

    def take(self) -> list[str]:
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


# -- when -----------------------------------------------------------------------------------------


async def commit(sessions: Sessions) -> None:
    async with sessions() as session:
        session.add(Post(title="x"))
        await session.commit()


async def begin_block(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        session.add(Post(title="x"))


async def maker_begin(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        session.add(Post(title="x"))


async def commit_after_flush(sessions: Sessions) -> None:
    async with sessions() as session:
        session.add(Post(title="x"))
        await session.flush()
        await session.commit()


async def run_sync(sessions: Sessions) -> None:
    def work(session: Session) -> None:
        session.add(Post(title="x"))
        session.commit()

    async with sessions() as session:
        await session.run_sync(work)


async def scoped(sessions: Sessions) -> None:
    registry = async_scoped_session(sessions, scopefunc=asyncio.current_task)
    registry.add(Post(title="x"))
    await registry.commit()
    await registry.remove()


async def savepoint_released(sessions: Sessions) -> None:
    async with sessions.begin() as session, session.begin_nested():
        session.add(Post(title="x"))


async def save(sessions: Sessions) -> None:
    Base.bind_sessions(sessions)
    try:
        await Post(title="x").save()
    finally:
        Base.bind_sessions(None)


@pytest.mark.parametrize(
    "path",
    [
        commit,
        begin_block,
        maker_begin,
        commit_after_flush,
        run_sync,
        scoped,
        savepoint_released,
        save,
    ],
    ids=lambda path: path.__name__,
)
async def test_every_way_to_commit_delivers(
    sessions: Sessions, outcomes: Outcomes, path: Any
) -> None:
    """Whichever way a transaction is committed, those who waited for it are told once."""
    await path(sessions)
    assert outcomes.heard == ["after_commit x"]


async def rollback(session: AsyncSession) -> None:
    await session.rollback()


async def close(session: AsyncSession) -> None:
    await session.close()


async def reset(session: AsyncSession) -> None:
    await session.reset()


async def invalidate(session: AsyncSession) -> None:
    await session.invalidate()


@pytest.mark.parametrize("path", [rollback, close, reset, invalidate], ids=lambda p: p.__name__)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_every_other_end_is_a_rollback(
    sessions: Sessions, outcomes: Outcomes, path: Any
) -> None:
    """Whatever ends a transaction without a commit tells those who wait for a rollback."""
    session = sessions()
    session.add(Post(title="x"))
    await session.flush()
    assert outcomes.heard == []
    await path(session)
    assert outcomes.heard == ["after_rollback x"]
    await session.close()
    assert outcomes.take() == ["after_rollback x"]


async def test_nothing_is_delivered_before_the_outcome_is_known(
    sessions: Sessions, outcomes: Outcomes
) -> None:
    """Neither a flush nor the release of a savepoint delivers."""
    async with sessions() as session:
        async with session.begin_nested():
            session.add(Post(title="a"))
            await session.flush()
        assert outcomes.heard == []
        session.add(Post(title="b"))
        await session.flush()
        assert outcomes.heard == []
        await session.commit()
    assert outcomes.heard == ["after_commit a", "after_commit b"]


async def test_a_rolled_back_savepoint_decides_what_happened_inside(
    sessions: Sessions, outcomes: Outcomes
) -> None:
    """Its entries are told as rolled back, when the outermost transaction has ended."""
    async with sessions.begin() as session:
        session.add(Post(title="kept"))
        await session.flush()
        savepoint = await session.begin_nested()
        session.add(Post(title="lost"))
        async with session.begin_nested():
            session.add(Post(title="lost, too"))
        await savepoint.rollback()
        session.add(Post(title="later"))
        assert outcomes.heard == []
    assert outcomes.heard == [
        "after_commit kept",
        "after_rollback lost",
        "after_rollback lost, too",
        "after_commit later",
    ]


async def test_a_failed_commit_is_a_rollback(sessions: Sessions, outcomes: Outcomes) -> None:
    """A constraint that only fails at COMMIT undoes what was flushed."""
    async with sessions() as session:
        is_postgresql = session.get_bind().dialect.name == "postgresql"
        session.add(Post(title="x"))
        await session.flush()
        if is_postgresql:
            await session.execute(
                text("create temp table once (n int unique deferrable initially deferred)")
            )
            await session.execute(text("insert into once values (1), (1)"))
        else:
            await session.execute(text("pragma defer_foreign_keys = on"))
            await session.execute(text("update post set author_id = 77"))
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
    assert outcomes.heard == ["after_rollback x"]


async def test_a_session_is_used_again_after_a_failure(
    sessions: Sessions, outcomes: Outcomes
) -> None:
    """A flush that fails tells nothing of itself; what comes after the rollback counts."""
    async with sessions() as session:
        session.add(Post(id=1, title="first"))
        await session.flush()
        session.expunge_all()
        session.add(Post(id=1, title="twice"))
        with pytest.raises(IntegrityError):
            await session.flush()
        await session.rollback()
        assert outcomes.take() == ["after_rollback first"]
        session.add(Post(id=1, title="again"))
        await session.commit()
        assert outcomes.take() == ["after_commit again"]


async def test_a_veto_is_a_rollback(sessions: Sessions, outcomes: Outcomes) -> None:
    """A receiver that raises inside the transaction undoes what others wait for."""

    @post_save(Post)
    async def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await maker_begin(sessions)
    assert outcomes.heard == ["after_rollback x"]


def test_a_synchronous_session_delivers(sync_engine: Any, recorder: Recorder) -> None:
    """Without an event loop, receivers that never have to wait are called, others are logged."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, phase=COMMIT)
    recorder.record(post_save, Post, phase=ROLLBACK, sync=True)
    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        session.add(Post(title="b"))
        session.flush()
        assert len(recorder.calls) == 1
    assert [call.payload["instance"].title for call in recorder.calls] == ["a", "b"]


def test_a_synchronous_session_cant_wait(
    sync_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An async receiver that has to wait is logged with the way out, and the commit stands."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post, phase=COMMIT)
    async def slow(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    @post_save(Post, phase=COMMIT, concurrent=True, timeout_seconds=5)
    def fine(instance: Post, **kwargs: Any) -> None:
        instance.title += "!"

    with Session(sync_engine) as session, session.begin():
        session.add(Post(title="a"))
    assert "AsyncReceiverError" in caplog.text
    with Session(sync_engine) as session:
        assert session.query(Post).one().title == "a"


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_two_phase_commits_count(postgresql_server: Any, recorder: Recorder, outcome: str) -> None:
    """A prepared transaction is decided when it is committed or rolled back."""
    import databases

    with databases.postgresql_database(postgresql_server) as database:
        engine = database.create_sync_engine()
        Base.metadata.create_all(engine)
        recorder.record(post_save, Post, phase=COMMIT, sync=True)
        with Session(engine, twophase=True) as session:
            session.add(Post(title="x"))
            session.prepare()
            assert recorder.calls == []
            getattr(session, outcome)()
        assert len(recorder.calls) == (outcome == "commit")
        engine.dispose()


async def test_several_engines_in_one_session(
    async_engine: AsyncEngine, tmp_path: Any, outcomes: Outcomes
) -> None:
    """A session over two databases is decided as one: when all of its commits have been made."""
    import databases

    other = databases.sqlite_database(tmp_path.parent).create_async_engine()
    for engine, base in ((async_engine, Base), (other, OwnBase)):
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
    async with AsyncSession(binds={Base: async_engine, OwnBase: other}) as session:
        session.add_all([Post(title="x"), Note()])
        await session.commit()
        assert outcomes.take() == ["after_commit x"]
        session.add_all([Post(title="y"), Note()])
        await session.flush()
        await session.rollback()
        assert outcomes.take() == ["after_rollback y"]
    await other.dispose()


@pytest.mark.parametrize(
    "mode", ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
)
async def test_a_session_joined_into_a_connections_transaction(
    async_engine: AsyncEngine, sessions: Sessions, outcomes: Outcomes, mode: str
) -> None:
    """It is the session's own outcome that counts, whatever the connection's will be."""
    async with async_engine.connect() as connection:
        transaction = await connection.begin()
        async with AsyncSession(connection, join_transaction_mode=mode) as session:
            session.add(Post(title="x"))
            await session.commit()
        assert outcomes.heard == ["after_commit x"]
        if transaction.is_active:
            await transaction.rollback()
    assert outcomes.heard == ["after_commit x"]


# -- callbacks ------------------------------------------------------------------------------------


async def test_callbacks_wait_too(sessions: Sessions) -> None:
    """on_commit and on_rollback take functions, sync and async; savepoints count."""
    called: list[str] = []

    async def note(text: str) -> None:
        await asyncio.sleep(0)
        called.append(text)

    async with sessions() as session:
        await session.begin()
        on_commit(session, lambda: called.append("sync"))
        on_commit(session, lambda: note("async"))
        on_rollback(session, lambda: note("never"))
        savepoint = await session.begin_nested()
        on_commit(session, lambda: note("lost"))
        on_rollback(session, lambda: note("undone"))
        await savepoint.rollback()
        assert called == []
        await session.commit()
    assert called == ["sync", "async", "undone"]


async def test_callbacks_of_an_idle_session_belong_to_its_next_transaction(
    sessions: Sessions,
) -> None:
    """They don't run at once, and only once."""
    called: list[str] = []
    async with sessions() as session:
        on_commit(session, lambda: called.append("commit"))
        on_rollback(session, lambda: called.append("rollback"))
        assert called == []
        await session.execute(text("select 1"))
        await session.rollback()
        assert called == ["rollback"]
        await session.execute(text("select 1"))
        await session.commit()
    assert called == ["rollback"]


def test_callbacks_must_be_callable_and_sessions_sessions() -> None:
    """What makes no sense is refused at once, with the way out."""
    with pytest.raises(InvalidReceiverError, match=r"on_commit\(session, lambda"):
        on_commit(Session(), 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="AsyncSession"):
        on_rollback(5, print)  # type: ignore[arg-type]


async def test_a_failing_callback_is_named(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged, the next one is called, and the commit stands."""
    called: list[str] = []

    def broken() -> None:
        raise ValueError("oops")

    async with sessions.begin() as session:
        on_commit(session, broken)
        on_commit(session, lambda: called.append("next"))
    assert called == ["next"]
    assert "on_commit" in caplog.text
    assert "broken" in caplog.text
    assert "oops" in caplog.text


# -- what is delivered ----------------------------------------------------------------------------


@pytest.mark.parametrize("expire_on_commit", [True, False])
async def test_the_instance_is_a_detached_copy(
    sessions: Sessions, async_engine: AsyncEngine, expire_on_commit: bool
) -> None:
    """Columns and server defaults can be read without a query; the session's own is untouched."""
    copies: list[Any] = []

    @post_save(Post, phase=COMMIT)
    async def keep(sender: type, instance: Post, **kwargs: Any) -> None:
        copies.append(instance)

    async with sessions(expire_on_commit=expire_on_commit) as session:
        author = Author(name="a")
        post = Post(title="x", author=author)
        session.add(post)
        await session.commit()
        assert inspect(post).expired is expire_on_commit
        [copy] = copies
        assert copy is not post
        assert type(copy) is Post
        assert inspect(copy).detached
        statements: list[str] = []
        event.listen(
            async_engine.sync_engine,
            "before_cursor_execute",
            lambda conn, cursor, statement, *rest: statements.append(statement),
        )
        assert (copy.title, copy.views, copy.slug) == ("x", 7, None)
        assert copy.author_id is not None
        assert inspect(copy).identity == inspect(post).identity
        assert statements == []
        with pytest.raises(DetachedInstanceError):
            _ = copy.author
        with pytest.raises(DetachedInstanceError):
            _ = copy.body  # deferred: it wasn't loaded
        merged = await session.merge(copy)
        assert merged is post


async def test_each_delivery_has_the_values_of_its_flush(
    sessions: Sessions, recorder: Recorder
) -> None:
    """Two saves are two deliveries, each as it was; also after a rollback."""
    recorder.record(post_save, Post, phase=COMMIT)
    recorder.record(post_update, Post, phase=COMMIT)
    recorder.record(post_delete, Post, phase=ROLLBACK)
    async with sessions() as session:
        post = Post(title="one")
        session.add(post)
        await session.flush()
        post.title = "two"
        await session.commit()
        key = post.id if not inspect(post).expired else inspect(post).identity[0]
        await session.refresh(post)
        await session.delete(post)
        await session.flush()
        await session.rollback()
    told = [
        (c.signal, c.payload["instance"].title, c.payload.get("created")) for c in recorder.calls
    ]
    assert told == [
        ("post_save", "one", True),
        ("post_update", "two", False),
        ("post_save", "two", False),
        ("post_delete", "two", None),
    ]
    assert {call.payload["instance"].id for call in recorder.calls} == {key}


async def test_receivers_dont_share_copies(sessions: Sessions) -> None:
    """What one receiver does to its copy, another doesn't see."""
    seen: list[str] = []

    @post_save(Post, phase=COMMIT)
    async def spoil(instance: Post, **kwargs: Any) -> None:
        async with sessions.begin() as session:
            session.add(instance)
            instance.slug = "spoilt"

    @post_save(Post, phase=COMMIT, created=True)
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append(f"{instance.title} {instance.slug}")

    await commit(sessions)
    assert seen == ["x None"]


async def test_changes_and_update_fields_come_along(sessions: Sessions) -> None:
    """A receiver that waits gets the arguments of one that doesn't."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, created=False)
    async def look(s: type, i: Post, changes: Any, update_fields: Any, **kwargs: Any) -> None:
        seen.append((s, i.title, dict(changes), update_fields, kwargs["raw"]))

    async with sessions(expire_on_commit=False) as session:
        post = Post(title="a")
        session.add(post)
        await session.commit()
        post.title = "b"
        await post.save(update_fields=["title"])
        await session.commit()
    assert seen == [(Post, "b", {"title": ("a", "b")}, {"title"}, False)]


async def test_values_that_change_in_place_are_kept(async_engine: AsyncEngine) -> None:
    """A JSON column changed after the flush is delivered as it was then."""
    async with async_engine.begin() as connection:
        await connection.run_sync(OwnBase.metadata.create_all)
    seen: list[Any] = []

    @post_save(Item, phase=COMMIT)
    async def look(instance: Item, **kwargs: Any) -> None:
        seen.append(dict(instance.data))

    async with AsyncSession(async_engine) as session:
        box = Item(data={"n": [1]})
        session.add(box)
        await session.flush()
        box.data["n"] = [1, 2]
        await session.commit()
    assert seen == [{"n": [1]}, {"n": [1, 2]}]


async def test_coalescing_tells_of_each_row_once(sessions: Sessions) -> None:
    """With what is known at the end: created if it was, all fields, first and last values."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, coalesce=True)
    async def look(instance: Post, created: bool, changes: Any, **kwargs: Any) -> None:
        seen.append((instance.title, created, kwargs["update_fields"], changes.get("title")))

    async with sessions(expire_on_commit=False) as session:
        one, two = Post(title="a"), Post(title="b")
        session.add_all([one, two])
        await session.flush()
        for title in ("c", "d"):
            one.title = title
            await session.flush()
        await session.commit()
        assert seen == [("b", True, None, (None, "b")), ("d", True, None, (None, "d"))]
        seen.clear()
        one.title, one.slug = "e", "e"
        await one.save(update_fields=["title"])
        await one.save(update_fields=["slug"])
        savepoint = await session.begin_nested()
        one.title = "f"
        await session.flush()
        await savepoint.rollback()
        await session.commit()
    assert seen == [("e", False, {"title", "slug"}, ("d", "e"))]


# -- relations, bulk, custom signals --------------------------------------------------------------


async def test_bulk_signals_wait(sessions: Sessions) -> None:
    """One delivery with copies of all instances."""
    seen: list[Any] = []

    @post_bulk_create(Post, phase=COMMIT)
    async def look(instances: list[Post], **kwargs: Any) -> None:
        seen.append(
            [(inspect(each).detached, each.id is not None, each.title) for each in instances]
        )

    async with sessions.begin() as session:
        await Post.objects.bulk_create([Post(title=each) for each in "ab"], session=session)
        assert seen == []
    assert seen == [[(True, True, "a"), (True, True, "b")]]


async def test_relation_signals_wait(sessions: Sessions) -> None:
    """With copies of owner and child; m2m_changed is heard of after the fact only."""
    seen: list[Any] = []

    @post_relation_add(Author, phase=COMMIT)
    async def look(instance: Author, child: Post, relation_name: str, **kwargs: Any) -> None:
        seen.append((instance.name, child.title, relation_name, inspect(child).detached))

    async with sessions.begin() as session:
        session.add(Author(name="a", posts=[Post(title="x")]))
    assert seen == [("a", "x", "posts", True)]


async def test_many_to_many_signals_wait(async_engine: AsyncEngine) -> None:
    """A receiver of m2m_changed that waits gets the post actions alone."""
    async with async_engine.begin() as connection:
        await connection.run_sync(OwnBase.metadata.create_all)
    seen: list[Any] = []

    @m2m_changed(Item.labels, phase=COMMIT)
    async def look(
        instance: Item, action: str, objects: list[Label], pk_set: Any, **kw: Any
    ) -> None:
        seen.append((instance.id, action, [each.id for each in objects], pk_set))

    async with async_sessionmaker(async_engine).begin() as session:
        session.add(Item(id=1, labels=[Label(id=2)]))
        await session.flush()
        assert seen == []
    assert seen == [(1, "post_add", [2], {2})]


async def test_custom_signals_wait_for_their_sessions_transaction(sessions: Sessions) -> None:
    """The session is given, or it is that of the instance; any instance sent is copied."""
    published = Signal("published")
    seen: list[Any] = []

    @published.connect(phase=COMMIT)
    async def look(sender: Any, by: Any = None, instance: Any = None, **kwargs: Any) -> None:
        told = [None if each is None else inspect(each).detached for each in (instance, by)]
        seen.append((sender, *told))

    async with sessions.begin() as session:
        post, author = Post(title="x"), Author(name="a")
        session.add_all([post, author])
        await session.flush()
        assert await published.send(Post, instance=post, by=author) == []
        await published.send_robust("given", session=session)
        published.send_sync("sync", session=session)
        assert seen == []
    assert seen == [(Post, True, True), ("given", None, None), ("sync", None, None)]


async def test_a_send_without_a_transaction_is_refused(recorder: Recorder) -> None:
    """Nobody is called then, neither those who wait nor those who don't."""
    published = Signal("published")
    recorder.record(published)
    recorder.record(published, phase=COMMIT)
    for payload in ({}, {"instance": Post(title="in no session")}, {"instance": 5}):
        with pytest.raises(NoSessionError, match="session="):
            await published.send(Post, **payload)
    assert recorder.calls == []


# -- connecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signal", [pre_save, pre_delete, pre_init, post_init, pre_relation_add, pre_migrate], ids=str
)
@pytest.mark.parametrize("phase", [COMMIT, ROLLBACK])
def test_what_precedes_the_fact_has_no_outcome(signal: Signal, phase: str) -> None:
    """Pre and init signals refuse a phase, however they are connected to."""
    with pytest.raises(InvalidPhaseError, match="no outcome"):
        signal.connect(lambda **kwargs: None, phase=phase)
    with pytest.raises(InvalidPhaseError):
        signal(Post, phase=phase)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"phase": "later"}, InvalidPhaseError, "after_commit"),
        ({"coalesce": True}, InvalidOptionError, "receivers that wait"),
        ({"timeout_seconds": 1}, InvalidOptionError, "receivers that wait"),
        ({"phase": COMMIT, "timeout_seconds": 0}, InvalidOptionError, "positive"),
        ({"phase": COMMIT, "timeout_seconds": "1"}, InvalidOptionError, "positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """With the way out in the message."""
    with pytest.raises(error, match=message):
        post_save.connect(lambda **kwargs: None, sender=Post, **options)


@pytest.mark.parametrize("signal", [m2m_changed, post_bulk_create, post_relation_add], ids=str)
def test_only_signals_of_one_row_coalesce(signal: Signal) -> None:
    """Links and bulk operations differ from send to send."""
    with pytest.raises(InvalidOptionError, match="single rows"):
        signal.connect(lambda **kwargs: None, phase=COMMIT, coalesce=True)


async def test_one_receiver_in_several_phases(sessions: Sessions) -> None:
    """Connected for each phase it is called in each; disconnecting takes all of them out."""
    seen: list[Any] = []

    @post_save(Post)
    @post_save(Post, phase=COMMIT)
    @post_save(Post, phase=COMMIT)  # again: ignored
    @post_save(Post, phase=ROLLBACK)
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append(inspect(instance).detached)

    assert [each.phase for each in post_save.connections] == [ROLLBACK, COMMIT, "immediate"]
    await commit(sessions)
    assert seen == [False, True]
    assert post_save.disconnect(look, sender=Post)
    assert post_save.connections == ()


async def test_silence_is_judged_at_the_flush(sessions: Sessions, outcomes: Outcomes) -> None:
    """Leaving the context before the commit doesn't help; entering it before doesn't harm."""
    async with sessions() as session:
        with SignalContext.disable_for(Post):
            session.add(Post(title="silent"))
            await session.flush()
        session.add(Post(title="heard"))
        await session.flush()
        with SignalContext.disable_all():
            await session.commit()
    assert outcomes.heard == ["after_commit heard"]


# -- what receivers may do ------------------------------------------------------------------------


async def test_the_connection_is_back_in_the_pool(database: Database) -> None:
    """A receiver opens a session of its own on a pool of one, and sees what was committed."""
    engine = (
        database.create_async_engine(pool_size=1, max_overflow=0, pool_timeout=5)
        if database.dialect == "postgresql"
        else database.create_async_engine()
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine)
    seen: list[int] = []

    @post_save(Post, phase=COMMIT)
    @post_save(Post, phase=ROLLBACK)
    async def look(instance: Post, **kwargs: Any) -> None:
        async with sessions() as session:
            seen.append((await session.execute(text("select count(*) from post"))).scalar_one())

    await commit(sessions)
    async with sessions() as session:
        session.add(Post(title="y"))
        await session.flush()
    assert seen == [1, 1]
    await engine.dispose()


async def test_the_ended_session_is_refused(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that uses it gets an error with the way out; the session itself takes no harm."""
    errors: list[Exception] = []

    @post_save(Post, phase=COMMIT)
    async def misuse(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        try:
            await session.execute(text("select 1"))
        except SessionInUseError as error:
            errors.append(error)
        session.add(Audit(text="lost?"))
        await session.commit()

    async with sessions() as session:
        session.add(Post(title="x"))
        await session.commit()
        assert "bind_sessions" in str(errors[0])
        assert "SessionInUseError" in caplog.text
        session.expunge_all()
        assert (await session.execute(text("select count(*) from audit"))).scalar_one() == 0
        await session.commit()


async def test_receivers_write_through_sessions_of_their_own(sessions: Sessions) -> None:
    """What they commit is told in turn; the manager finds no session but the bound ones."""
    seen: list[str] = []
    Base.bind_sessions(sessions)

    @post_save(Post, phase=COMMIT)
    async def audit(instance: Post, **kwargs: Any) -> None:
        await Audit.objects.create(text=instance.title)
        seen.append("written")

    @post_save(Audit, phase=COMMIT)
    async def tell(instance: Audit, **kwargs: Any) -> None:
        seen.append(f"audit {instance.text}")

    try:
        async with sessions() as session, session_scope(session):
            await Post.objects.create(title="x")
            await session.commit()
        assert await Audit.objects.count() == 1
    finally:
        Base.bind_sessions(None)
    assert seen == ["audit x", "written"]


async def test_long_chains_are_no_recursion(sessions: Sessions) -> None:
    """A hundred receivers, each committing what calls the next, are no endless loop."""

    @post_save(Post, phase=COMMIT)
    async def next_one(instance: Post, **kwargs: Any) -> None:
        if instance.views < 100:
            async with sessions.begin() as session:
                session.add(Post(title="next", views=instance.views + 1))

    async with sessions.begin() as session:
        session.add(Post(title="first", views=0))
    async with sessions() as session:
        assert (await session.execute(text("select count(*) from post"))).scalar_one() == 101


def test_chains_of_a_synchronous_session(sync_engine: Any) -> None:
    """They stand on one stack, and are shorter."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post, phase=COMMIT)
    def next_one(instance: Post, **kwargs: Any) -> None:
        if instance.views < 20:
            with Session(sync_engine) as session, session.begin():
                session.add(Post(title="next", views=instance.views + 1))

    with Session(sync_engine) as session, session.begin():
        session.add(Post(title="first", views=0))
    with Session(sync_engine) as session:
        assert session.query(Post).count() == 21


@pytest.mark.parametrize("is_async", [True, False])
def test_endless_chains_are_stopped(
    database: Database,
    is_async: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is logged with the chain, observed, and reaches no commit."""
    from aksara_signals.dispatch import recursion

    monkeypatch.setattr(recursion, "MAX_GENERATIONS", 20)
    errors: list[BaseException] = []
    on_delivery_error.connect(observer := lambda error, **kwargs: errors.append(error))
    sync_engine = database.create_sync_engine()
    Base.metadata.create_all(sync_engine)

    def endless(instance: Post, **kwargs: Any) -> None:
        with Session(sync_engine) as session, session.begin():
            session.add(Post(title="next"))

    async def endless_async(instance: Post, **kwargs: Any) -> None:
        async with sessions.begin() as session:
            session.add(Post(title="next"))

    async def main() -> None:
        nonlocal sessions
        engine = database.create_async_engine()
        sessions = async_sessionmaker(engine)
        await maker_begin(sessions)
        await engine.dispose()

    sessions: Any = None
    post_save.connect(endless_async if is_async else endless, sender=Post, phase=COMMIT)
    if is_async:
        asyncio.run(main())
    else:
        with Session(sync_engine) as session, session.begin():
            session.add(Post(title="first"))
    on_delivery_error.disconnect(observer)
    assert "SignalRecursionError" in caplog.text
    assert [type(error).__name__ for error in errors] == ["SignalRecursionError"]
    with Session(sync_engine) as session:
        assert session.query(Post).count() == (22 if is_async else 51)
    sync_engine.dispose()


# -- errors, time and cancellation ----------------------------------------------------------------


@pytest.fixture
def reported() -> Any:
    """What on_delivery_error tells."""
    reports: list[dict[str, Any]] = []

    async def observe(**payload: Any) -> None:
        await asyncio.sleep(0)
        reports.append(payload)

    on_delivery_error.connect(observe)
    yield reports
    on_delivery_error.disconnect(observe)


async def test_errors_reach_nobody_but_the_log_and_the_observer(
    sessions: Sessions, reported: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """All receivers run; each failure is logged with traceback and told with its connection."""
    seen: list[str] = []
    caplog.set_level(logging.ERROR, logger="aksara_signals")

    @post_save(Post, phase=COMMIT)
    async def broken(**kwargs: Any) -> None:
        raise ValueError("oops")

    @post_save(Post, phase=COMMIT)
    def broken_too(**kwargs: Any) -> None:
        raise asyncio.CancelledError

    @post_save(Post, phase=COMMIT)
    async def fine(instance: Post, **kwargs: Any) -> None:
        seen.append(instance.title)

    await commit(sessions)
    assert seen == ["x"]
    assert len(caplog.records) == 2
    assert "broken" in caplog.records[0].getMessage()
    assert "post_save sent by models.Post 1" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None
    [first, second] = reported
    assert (first["sender"], str(first["error"])) == (Post, "oops")
    assert first["connection"].receiver is broken
    assert first["failed_signal"] is post_save
    assert first["payload"]["instance"].title == "x"
    assert second["connection"].receiver is broken_too


async def test_an_observer_that_fails_is_logged(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """It doesn't cause itself."""

    def observer(**kwargs: Any) -> None:
        raise RuntimeError("blind")

    on_delivery_error.connect(observer)

    @post_save(Post, phase=COMMIT)
    async def broken(**kwargs: Any) -> None:
        raise ValueError("oops")

    await commit(sessions)
    on_delivery_error.disconnect(observer)
    assert [record.exc_info[1].args for record in caplog.records] == [("oops",), ("blind",)]


async def test_concurrent_receivers_run_together(sessions: Sessions, reported: list[Any]) -> None:
    """Those of all rows at once, after the sequential ones, without a session."""
    order: list[str] = []
    barrier = asyncio.Barrier(6)

    async def meet(instance: Post, session: Any, **kwargs: Any) -> None:
        assert session is None
        await asyncio.wait_for(barrier.wait(), 5)
        order.append("concurrent")
        if instance.title == "a":
            raise ValueError("alas")

    for n in range(3):
        seconds = 10 if n else None
        post_save.connect(
            partial(meet), Post, phase=COMMIT, concurrent=True, timeout_seconds=seconds
        )

    @post_save(Post, phase=COMMIT)
    async def sequential(**kwargs: Any) -> None:
        order.append("sequential")

    async with sessions.begin() as session:
        session.add_all([Post(title="a"), Post(title="b")])
    assert order == ["sequential"] * 2 + ["concurrent"] * 6
    assert [str(report["error"]) for report in reported] == ["alas"] * 3


async def test_a_receiver_that_takes_too_long_is_cancelled_alone(
    sessions: Sessions, reported: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged by name; the receivers around it run."""
    seen: list[str] = []

    @post_save(Post, phase=COMMIT)
    async def before(**kwargs: Any) -> None:
        seen.append("before")

    @post_save(Post, phase=COMMIT, timeout_seconds=0.02)
    async def sleepy(**kwargs: Any) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            seen.append("cancelled")

    @post_save(Post, phase=COMMIT, timeout_seconds=30)
    async def after(**kwargs: Any) -> None:
        seen.append("after")

    await commit(sessions)
    assert seen == ["before", "cancelled", "after"]
    assert "cancelled after 0.02 seconds" in caplog.text
    assert "sleepy" in caplog.text
    assert [type(report["error"]) for report in reported] == [TimeoutError]


@pytest.mark.parametrize("path", [commit, begin_block, maker_begin], ids=lambda p: p.__name__)
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelling_the_committing_task(sessions: Sessions, path: Any, times: int) -> None:
    """The commit stands, all receivers run, and then the cancellation surfaces."""
    seen: list[str] = []
    started, go_on = asyncio.Event(), asyncio.Event()

    @post_save(Post, phase=COMMIT)
    async def first(**kwargs: Any) -> None:
        started.set()
        await go_on.wait()
        seen.append("first")

    @post_save(Post, phase=COMMIT)
    async def second(**kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append("second")

    task = asyncio.create_task(path(sessions))
    await started.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert seen == []
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    from aksara_signals import drain

    await drain()  # sessionmaker.begin() commits in a task of its own, for which nobody waits
    assert seen == ["first", "second"]
    async with sessions() as session:
        assert (await session.execute(text("select count(*) from post"))).scalar_one() == 1
