"""save(), update() and delete(): they find a session, set and flush, and the unit of work sends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from kit.models import Audit, Base, Post
from kit.support import Recorder
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from aksara_signals import (
    InstanceStateError,
    InvalidOptionError,
    NoSessionError,
    UnknownFieldError,
    post_save,
    pre_save,
)
from aksara_signals.orm import SignalMixin, session_scope


async def stored(engine: AsyncEngine, column: str, table: str = "post") -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(text(f"select {column} from {table}"))


# -- sessions -------------------------------------------------------------------------------------


async def test_save_takes_any_session(engine: AsyncEngine, recorder: Recorder) -> None:
    """session= may be an AsyncSession, a scoped one, a subclass, or a plain Session."""
    recorder.record(post_save, Post)

    class OwnSession(AsyncSession):
        pass

    async with AsyncSession(engine) as one, OwnSession(engine) as two:
        await Post(title="1").save(one)
        await one.commit()
        await Post(title="2").save(session=two)
        await two.commit()
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    await Post(title="3").save(scoped)
    await scoped.commit()
    await scoped.remove()
    assert recorder.names == ["post_save"] * 3
    assert await stored(engine, "count(*)") == 3


def test_save_takes_a_plain_session(sync_engine: Any, recorder: Recorder) -> None:
    """With a plain session the coroutine never waits."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, sync=True)
    with Session(sync_engine) as session:
        post = Post(title="a")
        for coroutine in (post.save(session), post.update(title="b"), post.delete()):
            with pytest.raises(StopIteration):
                coroutine.send(None)
        session.commit()
    assert recorder.names == ["post_save", "post_save"]


async def test_an_instance_has_a_session_of_its_own(session: AsyncSession) -> None:
    """Without session= the instance's own session is used; it is not committed."""
    post = Post(title="a")
    session.add(post)
    await post.save()
    assert post.id is not None
    post.title = "b"
    await post.save()
    await session.rollback()
    assert (await session.scalars(select(Post))).all() == []


async def test_without_a_session_nothing_is_lost(engine: AsyncEngine) -> None:
    """NoSessionError names all five ways, and the instance stays as it was."""
    post = Post(title="a")
    with pytest.raises(NoSessionError) as error:
        await post.save()
    for way in ("session=", "add the instance", "receiver", "session_scope", "bind_sessions"):
        assert way in str(error.value)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(post)
        await session.commit()
    with pytest.raises(NoSessionError):
        await post.update(title="b")
    assert post.title == "a"
    with pytest.raises(NoSessionError):
        await post.delete()


async def test_no_session_at_all_is_refused() -> None:
    """session= takes sessions only."""
    with pytest.raises(InvalidOptionError, match="takes a Session or an AsyncSession"):
        await Post(title="a").save(session=5)
    with pytest.raises(InvalidOptionError):
        async with session_scope("nonsense"):
            pass


async def test_a_scope_gives_the_session(session: AsyncSession) -> None:
    """Inside session_scope writes find its session; it is neither committed nor closed."""
    async with session_scope(session) as scoped:
        assert scoped is session
        post = Post(title="a")
        await post.save()
        assert post in session
    with pytest.raises(NoSessionError):
        await Post(title="b").save()
    await session.rollback()


async def test_a_bound_factory_commits(engine: AsyncEngine) -> None:
    """A factory gives one short transaction per write, and the instance stays readable."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class OwnPost(OwnBase):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    OwnBase.bind_sessions(async_sessionmaker(engine))
    post = OwnPost(title="a")
    await post.save()
    assert post.title == "a"
    assert await stored(engine, "title") == "a"
    await post.update(title="b")
    assert await stored(engine, "title") == "b"

    @post_save(OwnPost)
    async def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await post.update(title="c")
    assert await stored(engine, "title") == "b"
    await post.delete()
    assert await stored(engine, "count(*)") == 0


def test_a_bound_factory_may_be_synchronous(sync_engine: Any) -> None:
    """A plain sessionmaker works too."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class Note(OwnBase):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    OwnBase.metadata.create_all(sync_engine)
    Note.bind_sessions(sessionmaker(sync_engine))
    with pytest.raises(StopIteration):
        Note().save().send(None)
    with Session(sync_engine) as session:
        assert len(session.scalars(select(Note)).all()) == 1


async def test_bound_sessions_can_be_taken_back() -> None:
    """bind_sessions(None) undoes what was bound to the class; what makes no sessions is refused."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class Note(OwnBase):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(InvalidOptionError, match="async_sessionmaker"):
        OwnBase.bind_sessions(5)
    OwnBase.bind_sessions(None)
    OwnBase.bind_sessions(lambda **options: pytest.fail("taken back"))
    OwnBase.bind_sessions(None)
    with pytest.raises(NoSessionError):
        await Note().save()


async def test_a_receiver_writes_through_the_session_at_work(session: AsyncSession) -> None:
    """In a receiver, and only in its own task and while it runs, writes find its session."""
    threads_before = threading.active_count()
    outcomes: list[Any] = []

    async def try_to_save(place: str) -> None:
        try:
            await Audit(text=place).save()
            outcomes.append(place)
        except NoSessionError:
            outcomes.append(f"not in {place}")

    def in_thread() -> None:
        asyncio.run(try_to_save("another thread"))

    late: list[asyncio.Task[None]] = []

    is_over = asyncio.Event()

    async def wait_and_try() -> None:
        await is_over.wait()
        await try_to_save("a task that outlives it")

    @pre_save(Post)
    @post_save(Post)
    async def work(signal: Any, **kwargs: Any) -> None:
        await try_to_save(signal.name)
        await asyncio.create_task(try_to_save("another task"))
        await asyncio.to_thread(in_thread)
        late.append(asyncio.create_task(wait_and_try()))

    @post_save.connect(sender=Post, concurrent=True)
    async def beside(**kwargs: Any) -> None:
        await try_to_save("a concurrent receiver")

    session.add(Post(title="a"))
    await session.commit()
    is_over.set()
    await asyncio.gather(*late)
    assert outcomes == [
        "pre_save",
        "not in another task",
        "not in another thread",
        "post_save",
        "not in another task",
        "not in another thread",
        "not in a concurrent receiver",
        "not in a task that outlives it",
        "not in a task that outlives it",
    ]
    assert list(await session.scalars(select(Audit.text).order_by(Audit.id))) == [
        "pre_save",
        "post_save",
    ]
    assert threading.active_count() < threads_before + 10


async def test_a_sync_receiver_finds_the_session_at_work(sync_engine: Any) -> None:
    """The same under a plain session."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    async def work(**kwargs: Any) -> None:
        await Audit(text="x").save()

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        assert session.scalars(select(Audit.text)).all() == ["x"]


# -- update and delete ----------------------------------------------------------------------------


async def test_update_sets_and_flushes(session: AsyncSession, recorder: Recorder) -> None:
    """update() sets what is given; without values it writes what was set before."""
    post = Post(title="a")
    await post.save(session)
    recorder.record(post_save, Post)
    await post.update(title="b", slug="s")
    post.title = "c"
    await post.update()
    await session.refresh(post)
    assert (post.title, post.slug) == ("c", "s")
    assert recorder.names == ["post_save", "post_save"]


async def test_update_knows_its_attributes(session: AsyncSession) -> None:
    """An unknown name is refused before anything is set, with the nearest one."""
    post = Post(title="a")
    await post.save(session)
    with pytest.raises(UnknownFieldError, match="did you mean 'slug'"):
        await post.update(title="b", slugg="s")
    assert post.title == "a"
    assert post not in session.dirty


async def test_update_needs_a_row(session: AsyncSession) -> None:
    """update() of something that was never saved is refused, and sets nothing."""
    post = Post(title="a")
    with pytest.raises(InstanceStateError, match="save"):
        await post.update(session, title="b")
    assert post.title == "a"


async def test_delete_in_every_state(session: AsyncSession) -> None:
    """delete() takes out pending instances, deletes rows, and refuses transient instances."""
    transient, pending, persistent = Post(title="a"), Post(title="b"), Post(title="c")
    with pytest.raises(InstanceStateError):
        await transient.delete(session)
    session.add(pending)
    await pending.delete()
    assert pending not in session
    await persistent.save(session)
    await session.commit()
    await persistent.delete()
    await session.commit()
    assert (await session.scalars(select(Post))).all() == []


async def test_a_detached_instance_is_taken_in(engine: AsyncEngine) -> None:
    """A detached instance joins the session that is given."""
    async with AsyncSession(engine, expire_on_commit=False) as first:
        post = Post(title="a")
        first.add(post)
        await first.commit()
    async with AsyncSession(engine, expire_on_commit=False) as second:
        await post.update(second, title="b")
        await second.commit()
    assert await stored(engine, "title") == "b"
    async with AsyncSession(engine) as third:
        await post.delete(third)
        await third.commit()
    assert await stored(engine, "count(*)") == 0


async def test_save_in_a_pre_receiver_joins_the_flush(session: AsyncSession) -> None:
    """Inside pre_save, save() leaves the flushing to the flush under way."""

    @pre_save(Post)
    async def work(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        entry = Audit(text="x")
        await entry.save()
        assert entry in session.new
        await instance.save()

    session.add(Post(title="a"))
    await session.commit()
    assert list(await session.scalars(select(Audit.text))) == ["x"]
