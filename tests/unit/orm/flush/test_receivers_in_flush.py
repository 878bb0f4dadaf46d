"""What receivers may do with the session of the flush that calls them, and what is refused."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from kit.models import Audit, Author, Base, Post
from kit.support import Recorder
from sqlalchemy import delete, event, select, text
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError, ResourceClosedError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import FlushError, ObjectDeletedError, StaleDataError

from aksara_signals import (
    AksaraSignalsWarning,
    AsyncReceiverError,
    SessionInUseError,
    SignalContext,
    SignalRecursionError,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from aksara_signals.orm.bridge import handover

REFUSED = ["commit", "rollback", "close", "reset", "invalidate"]


@pytest.fixture
async def engine(async_engine: AsyncEngine) -> AsyncEngine:
    """An engine on a database that has the tables."""
    await databases.create_all(async_engine, Base.metadata)
    return async_engine


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session with SQLAlchemy's defaults."""
    async with AsyncSession(engine) as session:
        yield session


async def titles(session: AsyncSession) -> list[str]:
    return list(await session.scalars(select(Post.title).order_by(Post.id)))


async def test_pre_receivers_query_without_a_flush(session: AsyncSession) -> None:
    """A query in pre_save sees the database as it is, and flushes nothing."""
    found: list[Any] = []

    @pre_save(Post)
    async def look(session: AsyncSession, **kwargs: Any) -> None:
        found.append(await titles(session))

    session.add(Post(title="a"))
    await session.commit()
    session.add(Post(title="b"))
    await session.commit()
    assert found == [[], ["a"]]


async def test_what_pre_receivers_add_joins_the_flush(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Objects added, changed and deleted in pre_save are written and told in the same flush."""
    old, doomed = Author(name="old"), Author(name="doomed")
    session.add_all([old, doomed])
    await session.commit()
    await session.refresh(old)
    await session.refresh(doomed)
    recorder.record(pre_save)
    recorder.record(post_save)
    recorder.record(pre_delete)
    recorder.record(post_delete)

    @pre_save(Post)
    async def work(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Audit(text="added"))
        old.name = "new"
        await session.delete(doomed)

    session.add(Post(title="a"))
    await session.flush()
    told = [(call.signal, type(call.payload["instance"]).__name__) for call in recorder.calls]
    assert told == [
        ("pre_save", "Post"),
        ("pre_save", "Audit"),
        ("pre_save", "Author"),
        ("pre_delete", "Author"),
        ("post_save", "Post"),
        ("post_save", "Audit"),
        ("post_save", "Author"),
        ("post_delete", "Author"),
    ]
    await session.commit()
    assert list(await session.scalars(select(Author.name))) == ["new"]
    assert list(await session.scalars(select(Audit.text))) == ["added"]


async def test_post_receivers_do_everything_but_end(session: AsyncSession) -> None:
    """Post receivers query, add, flush, and roll a savepoint back: the outer write is unharmed."""

    @post_save(Post)
    async def work(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        assert await session.scalar(select(Post.title).where(Post.id == instance.id)) == "a"
        session.add(Audit(text="kept"))
        await session.flush()
        savepoint = await session.begin_nested()
        session.add(Audit(text="lost"))
        await session.flush()
        await savepoint.rollback()
        with pytest.raises(ZeroDivisionError):
            async with session.begin_nested():
                session.add(Audit(text="lost too"))
                await session.flush()
                1 / 0  # noqa: B018 - fails in the savepoint
        async with session.begin_nested():
            session.add(Audit(text="kept too"))

    session.add(Post(title="a"))
    await session.commit()
    assert await titles(session) == ["a"]
    assert list(await session.scalars(select(Audit.text).order_by(Audit.id))) == [
        "kept",
        "kept too",
    ]


@pytest.mark.parametrize("method", [*REFUSED, "begin_nested", "begin"])
@pytest.mark.parametrize("catches", [True, False])
async def test_what_pre_receivers_may_not_do(
    session: AsyncSession, method: str, catches: bool
) -> None:
    """Ending or dividing the transaction is refused before a flush, and nothing is lost."""

    @pre_save(Post)
    async def meddle(session: AsyncSession, **kwargs: Any) -> None:
        with pytest.raises(SessionInUseError, match=rf"{method}\(\).*post_") as refused:
            await getattr(session, method)()
        if not catches:
            raise refused.value

    post = Post(title="a")
    session.add(post)
    if catches:
        await session.commit()
        assert await titles(session) == ["a"]
        return
    with pytest.raises(SessionInUseError):
        await session.commit()
    assert post in session.new
    pre_save.disconnect(meddle, sender=Post)
    await session.commit()
    assert await titles(session) == ["a"]


@pytest.mark.parametrize("method", REFUSED)
async def test_what_post_receivers_may_not_do(session: AsyncSession, method: str) -> None:
    """Ending the transaction is refused after a flush; caught, nothing is lost."""
    refused: list[str] = []

    @post_save(Post)
    async def meddle(session: AsyncSession, **kwargs: Any) -> None:
        with pytest.raises(SessionInUseError, match=method):
            await getattr(session, method)()
        refused.append(method)

    session.add(Post(title="a"))
    await session.commit()
    assert refused == [method]
    assert await titles(session) == ["a"]


@pytest.mark.parametrize("signal", [pre_save, post_save])
@pytest.mark.parametrize("method", ["commit", "rollback", "close"])
def test_a_plain_session_refuses_too(sync_engine: Any, signal: Any, method: str) -> None:
    """The same holds for a plain session and a synchronous receiver."""
    Base.metadata.create_all(sync_engine)

    @signal.connect(sender=Post)
    def meddle(session: Session, **kwargs: Any) -> None:
        with pytest.raises(SessionInUseError):
            getattr(session, method)()

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        assert session.scalars(select(Post.title)).all() == ["a"]


@pytest.mark.parametrize("signal", [pre_save, post_save])
async def test_ending_the_transaction_object_is_noticed(session: AsyncSession, signal: Any) -> None:
    """A transaction ended behind the session's back makes the flush fail."""
    await session.scalars(select(Post))

    @signal.connect(sender=Post)
    def meddle(session: AsyncSession, **kwargs: Any) -> None:
        transaction = session.sync_session.get_transaction()
        assert transaction is not None
        transaction.rollback()

    session.add(Post(title="a"))
    # After a flush SQLAlchemy's own error, about the closed transaction, comes on top of ours.
    with pytest.raises((SessionInUseError, ResourceClosedError)) as error:
        await session.flush()
    errors = (error.value, error.value.__context__)
    assert any(isinstance(each, SessionInUseError) for each in errors)
    await session.rollback()
    assert await titles(session) == []


async def test_flush_in_a_pre_receiver_is_refused_by_sqlalchemy(session: AsyncSession) -> None:
    """SQLAlchemy itself refuses a flush inside pre_save."""

    @pre_save(Post)
    async def meddle(session: AsyncSession, **kwargs: Any) -> None:
        with pytest.raises(InvalidRequestError, match="already flushing"):
            await session.flush()

    session.add(Post(title="a"))
    await session.commit()
    assert await titles(session) == ["a"]


async def test_a_post_receiver_that_raises_fails_the_flush(session: AsyncSession) -> None:
    """What post receivers raise rolls back, as a broken constraint would."""

    @post_save(Post)
    async def fail(**kwargs: Any) -> None:
        raise ValueError("no")

    session.add(Post(title="a"))
    with pytest.raises(ValueError, match="no") as failure:
        await session.commit()
    assert "post_save sent by kit.models.Post 1 to" in failure.value.__notes__[0]
    with pytest.raises(PendingRollbackError):
        await titles(session)
    await session.rollback()
    assert await titles(session) == []


# -- recursion ------------------------------------------------------------------------------------


async def test_endless_saving_is_stopped(session: AsyncSession) -> None:
    """A receiver that saves its own instance again and again is stopped, and shown."""

    @post_save(Post)
    async def again(instance: Post, **kwargs: Any) -> None:
        instance.title += "!"
        await instance.save()

    session.add(Post(title="a"))
    with pytest.raises(
        SignalRecursionError, match=r"post_save sent by kit\.models\.Post 1 to .*again"
    ):
        await session.commit()
    await session.rollback()
    assert await titles(session) == []


def test_endless_saving_is_stopped_in_a_plain_session(sync_engine: Any) -> None:
    """The guard comes before Python's own limit, also where flushes pile up on one stack."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    def again(instance: Post, session: Session, **kwargs: Any) -> None:
        instance.title += "!"
        session.flush()

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        with pytest.raises(SignalRecursionError):
            session.commit()
        session.rollback()


async def test_flushes_that_cause_one_another_are_counted_by_sqlalchemy(
    session: AsyncSession,
) -> None:
    """A commit whose every flush leaves something to flush ends as it does without receivers."""
    flushes: list[str] = []

    @post_save(Post)
    async def touch(instance: Post, **kwargs: Any) -> None:
        instance.title += "!"
        flushes.append(instance.title)

    session.add(Post(title="a"))
    with pytest.raises(FlushError, match="Over 100 subsequent flushes"):
        await session.commit()
    assert len(flushes) == 100
    await session.rollback()
    assert await titles(session) == []


async def test_a_long_chain_of_flushes_in_one_commit_is_no_recursion(
    session: AsyncSession,
) -> None:
    """Each of ninety flushes may leave a row for the next one: SQLAlchemy allows a hundred."""

    @post_save(Audit)
    async def go_on(instance: Audit, session: AsyncSession, **kwargs: Any) -> None:
        if instance.id < 90:
            session.add(Audit(id=instance.id + 1, text="next"))

    session.add(Audit(id=1, text="first"))
    await session.commit()
    assert (await session.execute(text("select count(*) from audit"))).scalar_one() == 90


async def test_rounds_without_end_are_stopped(session: AsyncSession) -> None:
    """Pre receivers that always add something new are stopped, and shown."""

    @pre_save(Audit)
    async def more(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Audit(text="more"))

    session.add(Audit(text="a"))
    with pytest.raises(SignalRecursionError, match="successive rounds of one flush") as error:
        await session.flush()
    assert "more" in str(error.value)
    await session.rollback()


async def test_an_honest_chain_is_let_through(session: AsyncSession) -> None:
    """Twenty saves inside one another are no recursion."""

    @post_save(Post)
    async def next_one(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        number = int(instance.title)
        if number < 20:
            await Post(title=str(number + 1)).save(session)

    session.add(Post(title="1"))
    await session.commit()
    assert await titles(session) == [str(number) for number in range(1, 21)]


async def test_many_receivers_that_flush_are_no_recursion(session: AsyncSession) -> None:
    """Any number of receivers of one commit may flush for themselves."""

    @post_save(Post)
    async def audit(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Audit(text="x"))
        await session.flush()

    session.add_all([Post(title=str(number)) for number in range(120)])
    await session.commit()
    assert len((await session.scalars(select(Audit))).all()) == 120


async def test_many_flushes_of_a_session_are_no_recursion(session: AsyncSession) -> None:
    """Flushes are counted within one commit only."""

    @post_save(Post)
    async def hear(**kwargs: Any) -> None: ...

    for number in range(120):
        session.add(Post(title=str(number)))
        await session.flush()
    await session.commit()
    for number in range(120):
        session.add(Post(title=str(number)))
        await session.flush()
    await session.commit()


# -- sync and async receivers ---------------------------------------------------------------------


async def test_sync_receivers_load_lazily_among_async_ones(session: AsyncSession) -> None:
    """Sync receivers run in the flush's greenlet, where relationships load; order is kept."""
    author = Author(name="Ada")
    session.add(author)
    await session.commit()
    order: list[str] = []

    @post_save(Post)
    async def first(**kwargs: Any) -> None:
        await asyncio.sleep(0)
        order.append("first")

    @post_save(Post)
    def second(instance: Post, **kwargs: Any) -> None:
        assert instance.author is not None
        order.append(f"second {instance.author.name}")

    @post_save(Post)
    async def third(**kwargs: Any) -> None:
        order.append("third")

    @post_save(Post)
    def fourth(**kwargs: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0)
            order.append("fourth")

        return later()

    session.add(Post(title="a", author_id=(await session.scalars(select(Author.id))).one()))
    await session.commit()
    assert order == ["first", "second Ada", "third", "fourth"]


async def test_one_hand_over_for_the_whole_flush(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Async receivers of all objects of a flush are awaited in one hand-over a phase."""
    hand_overs: list[Any] = []
    original = handover.await_only

    def counted(awaitable: Any) -> Any:
        hand_overs.append(awaitable)
        return original(awaitable)

    monkeypatch.setattr(handover, "await_only", counted)

    @pre_save
    async def before(**kwargs: Any) -> None: ...

    @post_save
    async def after(**kwargs: Any) -> None: ...

    session.add_all([Post(title=str(number)) for number in range(20)])
    session.add_all([Author(name=str(number)) for number in range(20)])
    await session.commit()
    assert len(hand_overs) == 2


async def test_sync_receivers_need_no_hand_over(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only sync receivers are connected, the flush never leaves its greenlet for them."""
    monkeypatch.setattr(handover, "await_only", None)

    @post_save(Post)
    def hear(**kwargs: Any) -> None: ...

    session.add(Post(title="a"))
    await session.commit()


async def test_concurrent_receivers_get_no_session(session: AsyncSession) -> None:
    """Concurrent receivers of a model signal run together, after the others, without a session."""
    order: list[Any] = []
    meeting = asyncio.Barrier(2)

    async def meet(instance: Post, session: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(10):
            await meeting.wait()
        order.append(session)

    async def meet_too(instance: Post, session: Any, **kwargs: Any) -> None:
        await meet(instance, session)

    post_save.connect(meet, sender=Post, concurrent=True)
    post_save.connect(meet_too, sender=Post, concurrent=True)

    @post_save(Post)
    async def alone(session: Any, **kwargs: Any) -> None:
        order.append(session)

    session.add(Post(title="a"))
    await session.commit()
    assert order == [session, None, None]


def test_an_async_receiver_that_waits_is_refused_by_a_plain_session(sync_engine: Any) -> None:
    """Under a plain session nobody can wait; the error says so, and the session goes on."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    async def ready(**kwargs: Any) -> None: ...

    @post_save(Audit)
    async def waiting(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        session.add(Audit(text="a"))
        with pytest.raises(AsyncReceiverError, match="AsyncSession"):
            session.commit()
        session.rollback()
        assert session.scalars(select(Post.title)).all() == ["a"]
        assert session.scalars(select(Audit)).all() == []


# -- time-outs and cancellation -------------------------------------------------------------------


async def test_a_time_out_in_pre_save_leaves_the_object_pending(session: AsyncSession) -> None:
    """The session stays active, and the object can be written afterwards."""

    @pre_save(Post)
    async def slow(**kwargs: Any) -> None:
        await asyncio.sleep(60)

    post = Post(title="a")
    session.add(post)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.flush()
    assert session.is_active
    assert post in session.new
    pre_save.disconnect(slow, sender=Post)
    await session.commit()
    assert await titles(session) == ["a"]


async def test_a_cancellation_in_post_save_asks_for_a_rollback(session: AsyncSession) -> None:
    """Nothing is written, and after rollback() the session works."""
    started = asyncio.Event()

    @post_save(Post)
    async def slow(**kwargs: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    session.add(Post(title="a"))
    task = asyncio.create_task(session.flush())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(PendingRollbackError):
        await titles(session)
    await session.rollback()
    post_save.disconnect(slow, sender=Post)
    session.add(Post(title="b"))
    await session.commit()
    assert await titles(session) == ["b"]


# -- silence --------------------------------------------------------------------------------------


async def test_a_silenced_model_is_written_unheard(engine: AsyncEngine, recorder: Recorder) -> None:
    """disable_for silences a model's flushes in this task, not in another."""
    recorder.record(post_save)

    async def write(title: str) -> None:
        async with AsyncSession(engine) as session:
            session.add_all([Post(title=title), Audit(text=title)])
            await session.commit()

    async with SignalContext.disable_for(Post):
        await write("a")
    await write("b")
    told = [type(call.payload["instance"]).__name__ for call in recorder.calls]
    assert told == ["Audit", "Post", "Audit"]


async def test_silence_is_for_one_task(engine: AsyncEngine, recorder: Recorder) -> None:
    """A task beside the silenced one is heard."""
    recorder.record(post_save, Post)
    silent, done = asyncio.Event(), asyncio.Event()

    async def quiet() -> None:
        async with SignalContext.disable_all():
            silent.set()
            await done.wait()

    task = asyncio.create_task(quiet())
    await silent.wait()
    async with AsyncSession(engine) as session:
        session.add(Post(title="a"))
        await session.commit()
    done.set()
    await task
    assert recorder.names == ["post_save"]


# -- what others add ------------------------------------------------------------------------------


async def test_what_a_later_listener_adds_is_told_afterwards(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Objects from the user's own before_flush listener get post signals and one warning."""
    recorder.record(pre_save)
    recorder.record(post_save)

    @event.listens_for(session.sync_session, "before_flush")
    def add_more(session: Session, context: object, instances: object) -> None:
        session.add_all([Audit(text="x"), Audit(text="y")])

    session.add(Post(title="a"))
    with pytest.warns(AksaraSignalsWarning, match="2 rows of Audit") as caught:
        await session.flush()
    assert len(caught) == 1
    told = [(call.signal, type(call.payload["instance"]).__name__) for call in recorder.calls]
    assert told == [
        ("pre_save", "Post"),
        ("post_save", "Post"),
        ("post_save", "Audit"),
        ("post_save", "Audit"),
    ]


async def test_a_change_undone_by_a_pre_receiver_is_not_told_as_done(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Where a pre receiver takes the change back there is no UPDATE, and no post signal."""
    post = Post(title="a")
    session.add(post)
    await session.commit()
    await session.refresh(post)
    recorder.record(post_save)

    @pre_save(Post)
    async def undo(instance: Post, **kwargs: Any) -> None:
        instance.title = "a"

    post.title = "b"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await session.commit()
    assert recorder.calls == []


async def test_a_row_that_is_gone_has_no_old_value(session: AsyncSession) -> None:
    """Where the old value can't be read any more, the flush fails as SQLAlchemy's own does."""
    post = Post(title="a", body="long")
    session.add(post)
    await session.commit()
    await session.refresh(post)

    @post_save(Post)
    async def look(changes: Any, **kwargs: Any) -> None: ...

    await session.execute(delete(Post), execution_options={"synchronize_session": False})
    post.body = "new"
    with pytest.raises((StaleDataError, ObjectDeletedError)):
        await session.flush()
    await session.rollback()


async def test_a_later_listener_may_change_a_fate(
    session: AsyncSession, recorder: Recorder
) -> None:
    """What was told as an update and is deleted by a later listener is told as deleted."""
    post, tag = Post(title="a"), Audit(text="x")
    session.add_all([post, tag])
    await session.commit()
    await session.refresh(post)
    await session.refresh(tag)
    recorder.record(post_save)
    recorder.record(post_delete)

    @event.listens_for(session.sync_session, "before_flush")
    def meddle(session: Session, context: object, instances: object) -> None:
        session.delete(post)
        tag.text = "y"

    post.title = "b"
    with pytest.warns(AksaraSignalsWarning):
        await session.flush()
    assert sorted(recorder.names) == ["post_delete", "post_save"]
    event.remove(session.sync_session, "before_flush", meddle)


async def test_nobody_listening_to_a_class_costs_it_nothing(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Objects of a class that nobody listens to are passed over, whatever happens to them."""
    recorder.record(post_save, Audit)
    author = Author(name="a", posts=[Post(title="x")])
    session.add_all([author, Audit(text="a")])
    await session.flush()
    author.posts[0].title = "y"
    await session.flush()
    await session.delete(author.posts[0])
    await session.delete(author)
    await session.flush()
    assert recorder.names == ["post_save"]


async def test_a_reference_assigned_to_what_it_is_sends_nothing(session: AsyncSession) -> None:
    """No net change of the foreign key, no UPDATE, and nobody is told."""
    author = Author(name="a")
    post = Post(title="x", author=author)
    session.add(post)
    await session.flush()
    told: list[Any] = []
    for signal in (pre_save, post_save):
        signal.connect(lambda instance, **kwargs: told.append(instance))
    post.author = None
    post.author = author
    await session.flush()
    assert told == []
    post.author = None
    await session.flush()
    assert told == [post, post]
