"""save() and update() of an instance without a change: sent, because the caller asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.models import Author, Base, Post
from kit.support import Recorder
from sqlalchemy import Engine, event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, Session, mapped_column

from aksara_signals import (
    Signal,
    SignalContext,
    post_bulk_update,
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)

CYCLE = ["pre_save", "pre_update", "post_update", "post_save"]


class Counted(Base):
    """A row with a version, by which an UPDATE shows."""

    __tablename__ = "counted"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="")
    touched: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture
async def session(
    sessions: async_sessionmaker[AsyncSession],
) -> AsyncIterator[AsyncSession]:
    async with sessions(expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def post(session: AsyncSession) -> Post:
    """A post that is in the database as it is."""
    post = Post(title="a")
    session.add(post)
    await session.commit()
    return post


def updates_of(engine: AsyncEngine | Engine) -> list[str]:
    """The UPDATE statements from now on."""
    found: list[str] = []
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    def note(*arguments: Any) -> None:
        if arguments[2].startswith("UPDATE"):
            found.append(arguments[2])

    event.listen(sync_engine, "before_cursor_execute", note)
    return found


def record_cycle(recorder: Recorder, model: type, **options: Any) -> None:
    for signal in (pre_save, pre_update, post_update, post_save):
        recorder.record(signal, model, **options)


@pytest.mark.parametrize("spelling", ["save", "update", "same value", "fields"])
async def test_an_unchanged_instance_is_sent_through_the_whole_cycle(
    spelling: str, post: Post, recorder: Recorder, async_engine: AsyncEngine
) -> None:
    """pre_save, pre_update, post_update, post_save; and no UPDATE is issued."""
    record_cycle(recorder, Post)
    updates = updates_of(async_engine)
    if spelling == "save":
        await post.save()
    elif spelling == "update":
        await post.update()
    elif spelling == "same value":
        await post.update(title="a")
    else:
        await post.save(update_fields=[Post.title])
    assert recorder.names == CYCLE
    fields = frozenset({"title"}) if spelling == "fields" else None
    for call in recorder.calls:
        assert call.payload["instance"] is post
        assert call.payload["created"] is False
        assert call.payload["update_fields"] == fields
    assert updates == []


def test_a_plain_session_sends_too(sync_engine: Engine, recorder: Recorder) -> None:
    """The same under a plain session."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        post = Post(title="a")
        session.add(post)
        session.commit()
        record_cycle(recorder, Post, sync=True)
        with pytest.raises(StopIteration):
            post.save().send(None)
        assert recorder.names == CYCLE
        assert post not in session.dirty


async def test_what_a_receiver_sets_is_written(
    session: AsyncSession, async_engine: AsyncEngine
) -> None:
    """A pre receiver that keeps a counter works; without one the version stays as it is."""
    row = Counted(id=1)
    session.add(row)
    await session.commit()
    await row.save()
    assert row.version == 1

    @pre_save(Counted)
    async def touch(instance: Counted, **kwargs: Any) -> None:
        instance.touched += 1

    noted: list[dict[str, Any]] = []
    post_save.connect(lambda changes, **kwargs: noted.append(dict(changes)), sender=Counted)
    await row.save()
    await row.save(update_fields=["title"])
    await session.commit()
    async with AsyncSession(async_engine) as other:
        found = (await other.scalars(select(Counted))).one()
        assert (found.touched, found.version) == (2, 3)
    assert noted == [{"touched": (0, 1)}, {"touched": (1, 2)}]


async def test_receivers_that_wait_are_called_but_those_that_coalesce_are_not(
    session: AsyncSession, post: Post
) -> None:
    """With nothing written, changes are empty, and the net of the transaction is nothing."""
    noted: list[Any] = []

    def note(name: str, signal: Signal, **options: Any) -> None:
        signal.connect(
            lambda instance, changes, **kwargs: noted.append((name, instance.title, dict(changes))),
            sender=Post,
            **options,
        )

    note("before", pre_save)
    note("after", post_save)
    note("committed", post_save, phase="after_commit")
    note("net", post_save, phase="after_commit", coalesce=True)
    await post.save()
    await session.commit()
    assert noted == [("before", "a", {}), ("after", "a", {}), ("committed", "a", {})]
    noted.clear()
    await post.save()
    await post.update(title="b")
    await post.save()
    await session.commit()
    assert [each for each in noted if each[0] == "net"] == [("net", "b", {"title": ("a", "b")})]
    assert len([each for each in noted if each[0] == "committed"]) == 3


async def test_native_flushes_stay_as_they_are(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """A flush, a commit, bulk operations and with_signals() send nothing of unchanged rows."""
    record_cycle(recorder, Post)
    recorder.record(post_bulk_update)
    post.title = "a"
    session.add(post)
    await session.flush()
    await Post.objects.bulk_update([post], session=session)
    await Post.objects.with_signals().update(title="a", session=session)
    await session.commit()
    assert recorder.names == []
    await post.save()
    recorder.clear()
    await session.commit()  # a save that was sent is forgotten
    assert recorder.names == []


@pytest.mark.parametrize("signal", [pre_save, post_save, pre_update, post_update])
async def test_a_receiver_that_saves_its_own_instance_sends_nothing_more(
    signal: Signal, session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """Inside a receiver of the same instance a save without a change is no news."""
    record_cycle(recorder, Post)

    @signal.connect(sender=Post)
    async def again(instance: Post, created: bool, signal: Signal, **kwargs: Any) -> None:
        await instance.save()
        if not (created and signal is pre_save):  # there is no row yet
            await instance.update()
            await instance.save(update_fields=["title"])

    await post.save()
    assert recorder.names == CYCLE
    recorder.clear()
    await post.update(title="b")
    assert recorder.names == CYCLE
    recorder.clear()
    session.add(Post(title="new"))
    await session.commit()
    assert recorder.names == ["pre_save", "post_save"]


async def test_a_receiver_after_the_commit_that_saves_the_row_sends_nothing_more(
    sessions: async_sessionmaker[AsyncSession],
    session: AsyncSession,
    post: Post,
    recorder: Recorder,
) -> None:
    """Its copy, and the row loaded once more, are the same row."""
    record_cycle(recorder, Post)

    @post_save.connect(sender=Post, phase="after_commit")
    async def again(instance: Post, **kwargs: Any) -> None:
        async with sessions.begin() as own:
            loaded = await own.get_one(Post, instance.id)
            await loaded.save()
        async with sessions.begin() as own:
            await instance.save(own)

    await post.save()
    await session.commit()
    assert recorder.names == CYCLE


async def test_receivers_of_two_instances_that_save_each_other_come_to_an_end(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """Another instance is sent once; the way back meets a receiver that is under way."""
    other = Post(title="other")
    session.add(other)
    await session.commit()
    record_cycle(recorder, Post)

    @post_save(Post)
    async def save_the_other(instance: Post, **kwargs: Any) -> None:
        await (other if instance is post else post).save()

    await post.save()
    assert [call.payload["instance"].title for call in recorder.of(post_save)] == ["a", "other"]


async def test_a_pre_receivers_save_of_another_instance_joins_the_flush(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """It is sent in the next round; its save isn't remembered beyond the flush."""
    author = Author(name="ann")
    session.add(author)
    await session.commit()

    @pre_save(Post)
    async def save_the_author(**kwargs: Any) -> None:
        await author.save()

    record_cycle(recorder, Author)
    await post.update(title="b")
    assert recorder.names == CYCLE
    recorder.clear()
    await session.commit()
    assert recorder.names == []


async def test_a_refreshed_or_expired_instance_is_sent_after_the_flush_too(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """What a pre receiver reads anew is still the instance whose save was asked for."""

    @pre_save(Post)
    async def read_anew(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        await session.refresh(instance, ["title"])
        await session.refresh(instance)

    record_cycle(recorder, Post)
    await post.save()
    assert recorder.names == CYCLE


async def test_an_instance_that_a_receiver_expunges_is_sent_no_further(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """Nothing of it is flushed."""

    @pre_update(Post)
    def take_out(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        session.expunge(instance)

    record_cycle(recorder, Post)
    await post.save()
    assert recorder.names == ["pre_save", "pre_update"]


async def test_a_veto_lets_the_request_go(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """A pre receiver that raises fails the save; later flushes send nothing of it."""

    @pre_save.connect(sender=Post)
    def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await post.save()
    pre_save.disconnect(refuse, sender=Post)
    record_cycle(recorder, Post)
    await session.commit()
    assert recorder.names == []


async def test_what_the_session_is_to_delete_is_not_sent(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """save() takes the delete back, as session.add() does, and sends nothing of an update."""
    record_cycle(recorder, Post)
    recorder.record(post_delete, Post)
    await session.delete(post)
    await post.save()
    await session.commit()
    assert recorder.names == []
    assert await session.get(Post, post.id) is post


async def test_a_pre_delete_receiver_that_saves_its_instance_keeps_no_row(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """The delete was sent, and is done."""

    @pre_delete(Post)
    async def save_it(instance: Post, **kwargs: Any) -> None:
        await instance.save()
        await instance.update(title="last")

    record_cycle(recorder, Post)
    recorder.record(post_delete, Post)
    await post.delete()
    await session.commit()
    assert recorder.names == ["post_delete"]
    assert (await session.scalars(select(Post))).all() == []


async def test_detached_and_expired_instances_are_sent(
    sessions: async_sessionmaker[AsyncSession],
    post: Post,
    session: AsyncSession,
    recorder: Recorder,
) -> None:
    """A detached instance is taken in; one that has expired can be read by async receivers."""
    await session.close()
    titles: list[str] = []

    @post_save(Post)
    async def note(instance: Post, **kwargs: Any) -> None:
        titles.append(instance.title)

    async with sessions.begin() as other:
        await post.save(other)
        other.expire(post)
        await post.save()
    assert titles == ["a", "a"]


async def test_silenced_models_and_those_without_receivers_are_not_flushed_for_nothing(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """Without a receiver, a save of what is unchanged does nothing at all."""
    flushes: list[Any] = []
    event.listen(session.sync_session, "before_flush", lambda *arguments: flushes.append(arguments))
    await post.save()
    record_cycle(recorder, Post)
    async with SignalContext.disable_for(Post):
        await post.save()
    await session.commit()
    assert (recorder.names, flushes) == ([], [])


async def test_a_custom_signals_receiver_may_save_the_instance(
    session: AsyncSession, post: Post, recorder: Recorder
) -> None:
    """Only receivers of the life cycle would send to themselves."""
    verified = Signal()

    @verified.connect
    async def save_it(instance: Post, **kwargs: Any) -> None:
        await instance.save()

    record_cycle(recorder, Post)
    await verified.send(Post, instance=post)
    assert recorder.names == CYCLE
