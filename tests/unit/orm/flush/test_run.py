"""Every unit-of-work write sends its signals, whichever way it was written, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from kit import databases
from kit.models import Author, Base, Post
from kit.support import Recorder
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.orm.attributes import flag_dirty

from aksara_signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)

LIFE_CYCLE = (pre_save, post_save, pre_update, post_update, pre_delete, post_delete)

Work = Callable[[Session], None]
"""What a test wants to be written, in terms of the plain session that does it."""


class OwnSession(Session):
    """A user's own session class."""


class OwnAsyncSession(AsyncSession):
    """A user's own async session class."""

    sync_session_class = OwnSession


@dataclass
class WritePath:
    """One of the ways in which a user writes."""

    name: str
    write: Callable[[Work], Awaitable[None]]
    session_type: type


PATHS = [
    "commit",
    "begin",
    "sessionmaker.begin",
    "flush",
    "autoflush",
    "run_sync",
    "connection.run_sync",
    "async_scoped_session",
    "subclass",
    "sync commit",
    "sync sessionmaker.begin",
    "sync scoped_session",
]


@pytest.fixture(params=PATHS)
async def path(
    request: pytest.FixtureRequest, database: databases.Database
) -> AsyncIterator[WritePath]:
    """Each way of writing in turn."""
    engine = database.create_async_engine()
    sync_engine = database.create_sync_engine()
    await databases.create_all(engine, Base.metadata)

    async def commit(work: Work) -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(work)
            await session.commit()

    async def begin(work: Work) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.run_sync(work)

    async def maker_begin(work: Work) -> None:
        async with async_sessionmaker(engine).begin() as session:
            await session.run_sync(work)

    async def flush(work: Work) -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(work)
            await session.flush()
            await session.commit()

    async def autoflush(work: Work) -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(work)
            await session.scalars(select(Author))
            await session.commit()

    async def run_sync(work: Work) -> None:
        def all_of_it(session: Session) -> None:
            work(session)
            session.commit()

        async with AsyncSession(engine) as session:
            await session.run_sync(all_of_it)

    async def connection_run_sync(work: Work) -> None:
        def all_of_it(connection: Any) -> None:
            with Session(connection) as session:
                work(session)
                session.commit()

        async with engine.connect() as connection:
            await connection.run_sync(all_of_it)
            await connection.commit()

    async def scoped(work: Work) -> None:
        registry = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        await registry().run_sync(work)
        await registry.commit()
        await registry.remove()

    async def subclass(work: Work) -> None:
        async with OwnAsyncSession(engine) as session:
            await session.run_sync(work)
            await session.commit()

    async def sync_commit(work: Work) -> None:
        with Session(sync_engine) as session:
            work(session)
            session.commit()

    async def sync_begin(work: Work) -> None:
        with sessionmaker(sync_engine).begin() as session:
            work(session)

    async def sync_scoped(work: Work) -> None:
        registry = scoped_session(sessionmaker(sync_engine))
        work(registry())
        registry.commit()
        registry.remove()

    writers = [
        (commit, AsyncSession),
        (begin, AsyncSession),
        (maker_begin, AsyncSession),
        (flush, AsyncSession),
        (autoflush, AsyncSession),
        (run_sync, AsyncSession),
        (connection_run_sync, Session),
        (scoped, AsyncSession),
        (subclass, OwnAsyncSession),
        (sync_commit, Session),
        (sync_begin, Session),
        (sync_scoped, Session),
    ]
    write, session_type = dict(zip(PATHS, writers, strict=True))[request.param]
    yield WritePath(request.param, write, session_type)
    await engine.dispose()
    sync_engine.dispose()


@pytest.fixture
def recorded(recorder: Recorder) -> Recorder:
    """A recorder of the whole life cycle."""
    for signal in LIFE_CYCLE:
        recorder.record(signal)
    return recorder


def get_post(session: Session) -> Post:
    return session.scalars(select(Post)).one()


async def test_an_insert_sends_its_signals(path: WritePath, recorded: Recorder) -> None:
    """An INSERT sends pre_save and post_save with created=True and the session at work."""
    await path.write(lambda session: session.add(Post(title="a")))
    assert recorded.names == ["pre_save", "post_save"]
    for call in recorded.calls:
        assert call.sender is Post
        assert call.payload["created"] is True
        assert call.payload["update_fields"] is None
        assert isinstance(call.payload["session"], path.session_type)
        assert set(call.payload) == {"instance", "created", "update_fields", "session", "raw"}


async def test_an_update_sends_its_signals(path: WritePath, recorded: Recorder) -> None:
    """An UPDATE sends four signals in order, with created=False."""
    await path.write(lambda session: session.add(Post(title="a")))
    recorded.clear()

    def change(session: Session) -> None:
        get_post(session).title = "b"

    await path.write(change)
    assert recorded.names == ["pre_save", "pre_update", "post_update", "post_save"]
    assert [call.payload["created"] for call in recorded.calls] == [False] * 4
    assert all(isinstance(call.payload["session"], path.session_type) for call in recorded.calls)


async def test_a_delete_sends_its_signals(path: WritePath, recorded: Recorder) -> None:
    """A DELETE sends pre_delete and post_delete."""
    await path.write(lambda session: session.add(Post(title="a")))
    recorded.clear()
    await path.write(lambda session: session.delete(get_post(session)))
    assert recorded.names == ["pre_delete", "post_delete"]
    assert all(set(call.payload) == {"instance", "session", "raw"} for call in recorded.calls)


async def test_a_merge_sends_its_signals(path: WritePath, recorded: Recorder) -> None:
    """Merging a new object is an INSERT, a changed one an UPDATE, an unchanged one nothing."""
    await path.write(lambda session: session.merge(Post(id=1, title="a")))
    assert recorded.names == ["pre_save", "post_save"]
    recorded.clear()
    await path.write(lambda session: session.merge(Post(id=1, title="b")))
    assert recorded.names == ["pre_save", "pre_update", "post_update", "post_save"]
    recorded.clear()
    await path.write(lambda session: session.merge(Post(id=1, title="b")))
    assert recorded.names == []


async def test_what_pre_receivers_set_is_written(path: WritePath) -> None:
    """A value set in pre_save is what the database gets, on INSERT and on UPDATE."""

    @pre_save(Post)
    async def give_a_slug(instance: Post, **kwargs: Any) -> None:
        instance.slug = instance.title.lower()

    await path.write(lambda session: session.add(Post(title="A")))
    seen: list[Any] = []
    await path.write(lambda session: seen.append(get_post(session).slug))

    def change(session: Session) -> None:
        get_post(session).title = "B"

    await path.write(change)
    await path.write(lambda session: seen.append(get_post(session).slug))
    assert seen == ["a", "b"]


async def test_keys_and_server_values_are_there_in_post_save(path: WritePath) -> None:
    """In post receivers the key, server defaults and server-side onupdate can be read."""
    seen: list[Any] = []

    @post_save(Post)
    async def look(instance: Post, created: bool, **kwargs: Any) -> None:
        seen.append((created, instance.id, instance.views, instance.edited_at))

    await path.write(lambda session: session.add(Post(title="a")))

    def change(session: Session) -> None:
        get_post(session).title = "b"

    await path.write(change)
    assert seen == [(True, 1, 7, None), (False, 1, 7, "now")]


async def test_an_expired_instance_can_be_read(path: WritePath) -> None:
    """Columns that have expired are loaded before the receivers run, deferred ones are not."""
    seen: list[Any] = []

    @pre_delete(Post)
    @pre_save(Post, created=False)
    @post_delete(Post)
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append((instance.slug, "body" in instance.__dict__))

    await path.write(lambda session: session.add(Post(title="a", slug="s", body="long")))

    def change(session: Session) -> None:
        post = get_post(session)
        session.expire(post)
        post.title = "b"

    def remove(session: Session) -> None:
        post = get_post(session)
        session.expire(post)
        session.delete(post)

    await path.write(change)
    await path.write(remove)
    assert seen == [("s", False)] * 3


async def test_changes_are_sent_to_receivers_that_name_them(path: WritePath) -> None:
    """A receiver that names changes gets old and new values; others don't get them at all."""
    seen: list[Any] = []

    @pre_save(Post, created=False)
    async def before(changes: Any, **kwargs: Any) -> None:
        seen.append(("pre", dict(changes)))

    @post_save(Post, created=False)
    async def after(changes: Any, **kwargs: Any) -> None:
        seen.append(("post", dict(changes)))

    @post_save(Post)
    async def other(**kwargs: Any) -> None:
        assert "changes" not in kwargs

    await path.write(lambda session: session.add(Post(title="a")))

    def change(session: Session) -> None:
        post = get_post(session)
        session.expire(post)
        post.title = "b"  # assigned while expired: the old value has to be read
        post.body = "new"  # assigned while deferred, likewise

    await path.write(change)
    expected = {"title": ("a", "b"), "body": (None, "new")}
    assert seen == [("pre", expected), ("post", expected)]


async def test_no_net_change_sends_nothing(path: WritePath, recorded: Recorder) -> None:
    """Setting the same value, setting it back, and flag_dirty send nothing."""
    await path.write(lambda session: session.add(Post(title="a")))
    recorded.clear()

    def nothing(session: Session) -> None:
        post = get_post(session)
        post.title = "a"
        post.slug = "x"
        post.slug = None
        flag_dirty(post)

    await path.write(nothing)
    assert recorded.names == []


async def test_statements_send_nothing(path: WritePath, recorded: Recorder) -> None:
    """Statements and the legacy bulk methods are no unit-of-work writes."""

    def statements(session: Session) -> None:
        session.execute(insert(Post).values(title="a"))
        session.execute(update(Post).values(title="b"))
        session.bulk_insert_mappings(Post, [{"title": "c"}])
        session.bulk_save_objects([Post(title="d")])
        session.execute(delete(Post))

    await path.write(statements)
    assert recorded.names == []


async def test_a_veto_loses_nothing_else(path: WritePath) -> None:
    """What a receiver raises makes the write fail, keeps its type, and gets a note."""

    class VetoError(Exception):
        pass

    @pre_save(Post)
    async def refuse(instance: Post, **kwargs: Any) -> None:
        if instance.title == "bad":
            raise VetoError("no")

    with pytest.raises(VetoError) as veto:
        await path.write(lambda session: session.add_all([Author(name="x"), Post(title="bad")]))
    assert "pre_save sent by" in veto.value.__notes__[0]
    await path.write(lambda session: session.add(Post(title="good")))
    seen: list[Any] = []

    def look(session: Session) -> None:
        seen.append([post.title for post in session.scalars(select(Post))])
        seen.append(session.scalars(select(Author)).all())

    await path.write(look)
    assert seen == [["good"], []]


async def test_objects_are_sent_in_the_order_they_were_added(path: WritePath) -> None:
    """New objects come as they were added, whatever order the statements take."""
    names: list[str] = []

    @pre_save
    async def note(instance: Any, **kwargs: Any) -> None:
        names.append(instance.title if isinstance(instance, Post) else instance.name)

    def several(session: Session) -> None:
        author = Author(name="z")
        session.add_all([Post(title="1"), author, Post(title="2", author=author), Post(title="3")])

    await path.write(several)
    assert names == ["1", "z", "2", "3"]


async def test_parallel_tasks_receive_their_own(async_engine: AsyncEngine) -> None:
    """Tasks with sessions of their own don't mix up deliveries."""
    await databases.create_all(async_engine, Base.metadata)
    received: dict[Any, list[str]] = {}

    @post_save(Post)
    async def receive(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        received.setdefault(session.info["task"], []).append(instance.title)

    gate = asyncio.Semaphore(1 if async_engine.dialect.name == "sqlite" else 10)

    async def work(number: int) -> None:
        async with gate, AsyncSession(async_engine, info={"task": number}) as session:
            session.add(Post(title=f"post {number}"))
            await session.commit()

    await asyncio.gather(*(work(number) for number in range(50)))
    assert received == {number: [f"post {number}"] for number in range(50)}


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_receiver_deletes_instead_is_sent_as_deleted(
    sessions: async_sessionmaker[AsyncSession], recorder: Recorder, is_async: bool
) -> None:
    """Before the deletion, too, and after the flush as nothing else."""

    async def delete_in_task(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        await session.delete(instance)

    def delete_at_once(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        session.sync_session.delete(instance)

    async with sessions() as session:
        session.add(post := Post(title="old"))
        await session.commit()
        await session.refresh(post)
        for signal in LIFE_CYCLE:
            recorder.record(signal, Post)
        post.title = "new"
        receiver = delete_in_task if is_async else delete_at_once
        with pre_save.connected_to(receiver, sender=Post):
            await session.commit()
        assert recorder.names == ["pre_save", "pre_update", "pre_delete", "post_delete"]
        assert (await session.scalars(select(Post.id))).all() == []
