"""What is recorded of deliveries, on both databases, with plain and async sessions."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from kit.databases import Database
from sqlalchemy import Engine, StaticPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import (
    AsyncReceiverError,
    Signal,
    SignalContext,
    add_delivery_hook,
    post_save,
    pre_save,
    remove_delivery_hook,
)
from aksara_signals.contrib.inspector.recorder import Recorder
from aksara_signals.contrib.inspector.views import EntryView, GroupView
from aksara_signals.contrib.outbox import Outbox
from aksara_signals.dispatch.delivery import tracing
from aksara_signals.dispatch.delivery.tracing import DeliveryStep
from aksara_signals.orm import SignalMixin, on_commit


class Base(SignalMixin, DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "recorded_post"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str]


class Tag(Base):
    __tablename__ = "recorded_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str]


outbox = Outbox(Base.metadata)
ping = Signal("ping")


@pytest.fixture
def recording() -> Iterator[Recorder]:
    """A recorder that records."""
    yield from recorded()


def recorded(**options: Any) -> Iterator[Recorder]:
    recorder = Recorder(**options)
    recorder.start()
    yield recorder
    recorder.stop()
    recorder.stop()
    assert tracing.hooks == []


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> Any:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return async_sessionmaker(async_engine, expire_on_commit=False)


@pytest.fixture
def plain(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def groups(recorder: Recorder) -> list[GroupView]:
    """Oldest first."""
    return recorder.timeline.groups()[::-1]


def in_words(group: GroupView) -> list[str]:
    """Each entry in a few words."""
    return [f"{'  ' * each.depth}{each.kind} {each.signal} {each.phase}" for each in group.entries]


def only(recorder: Recorder) -> GroupView:
    [group] = groups(recorder)
    return group


def one(recorder: Recorder) -> EntryView:
    [entry] = only(recorder).entries
    return entry


def test_a_send_of_a_flush_is_recorded_with_its_transaction(
    recording: Recorder, plain: Session
) -> None:
    """Signal, class, key, receiver with its place and duration; flush; the outcome."""

    @post_save(Post)
    def index(**kwargs: Any) -> None: ...

    plain.add(Post(id=7, slug="a"))
    plain.flush()
    open_one = only(recording)
    assert (open_one.state, open_one.milliseconds) == ("open", None)
    plain.commit()
    group = only(recording)
    entry = one(recording)
    [receiver] = entry.receivers
    assert (group.state, group.session) == ("committed", "Session")
    assert group.milliseconds is not None
    assert group.milliseconds > 0
    assert (entry.signal, entry.key, entry.flush, entry.savepoint) == ("post_save", "7", 1, None)
    assert entry.sender.endswith("Post")
    assert receiver.name.endswith("index")
    assert (receiver.file, receiver.state) == (__file__, "ok")
    assert receiver.milliseconds is not None
    assert receiver.milliseconds >= 0


async def test_what_a_receiver_causes_is_below_it(recording: Recorder, sessions: Any) -> None:
    """A flush and a signal of a receiver are nested within its send, one level deeper each."""

    @post_save(Post)
    async def add_tag(instance: Any, session: Any, **kwargs: Any) -> None:
        session.add(Tag(slug="t"))
        await session.flush()

    @post_save(Tag)
    async def announce(**kwargs: Any) -> None:
        await ping.send("by hand")

    def pong(**kwargs: Any) -> None: ...

    with ping.connected_to(pong):
        async with sessions.begin() as session:
            session.add(Post(slug="a"))
    group = only(recording)
    assert [(each.signal, each.depth, each.flush) for each in group.entries] == [
        ("post_save", 0, 1),
        ("post_save", 1, 2),
        ("ping", 2, 2),
    ]
    numbers = [each.number for each in group.entries]
    assert [each.parent for each in group.entries] == [None, numbers[0], numbers[1]]


async def test_another_transaction_of_a_receiver_refers_to_it(
    recording: Recorder, sessions: Any
) -> None:
    """A receiver that opens a session has a group of its own, which names its cause."""

    @post_save(Post, phase="after_commit")
    async def write(**kwargs: Any) -> None:
        async with sessions.begin() as session:
            session.add(Tag(slug="t"))

    @post_save(Tag)
    def note(**kwargs: Any) -> None: ...

    async with sessions.begin() as session:
        session.add(Post(slug="a"))
    first, second = groups(recording)
    assert second.caused_by is not None
    assert (second.caused_by[0], second.entries[0].depth) == (first.number, 0)
    assert second.caused_by[1].endswith("write")


@pytest.mark.parametrize(
    ("is_committed", "states"),
    [(True, ["delivered", "dropped"]), (False, ["dropped", "delivered"])],
)
async def test_what_is_queued_shows_its_outcome(
    recording: Recorder, sessions: Any, is_committed: bool, states: list[str]
) -> None:
    """Deferred receivers are queued until the commit or the rollback says which are called."""

    @post_save(Post, phase="after_commit")
    async def after(**kwargs: Any) -> None: ...

    @post_save(Post, phase="after_rollback")
    async def undo(**kwargs: Any) -> None: ...

    async with sessions() as session:
        session.add(Post(id=3, slug="a"))
        await session.flush()
        waits = one(recording)
        assert (waits.kind, waits.key, waits.flush) == ("queued", "3", 1)
        assert [each.state for each in waits.receivers] == ["queued", "queued"]
        await (session.commit() if is_committed else session.rollback())
    queued, delivered = only(recording).entries
    assert [each.state for each in queued.receivers] == states
    assert (delivered.kind, delivered.key) == ("send", "3")
    assert delivered.phase == ("after_commit" if is_committed else "after_rollback")


def test_a_savepoint_that_is_rolled_back_is_undone(recording: Recorder, plain: Session) -> None:
    """What was sent in it is marked, and what it queued is dropped; a released one stays."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    @post_save(Post, phase="after_commit")
    def after(**kwargs: Any) -> None: ...

    plain.add(Post(slug="outside"))
    plain.flush()
    with plain.begin_nested():
        plain.add(Post(slug="released"))
    undone = plain.begin_nested()
    plain.add(Post(slug="undone"))
    plain.flush()
    undone.rollback()
    plain.commit()
    group = only(recording)
    sent = [each for each in group.entries if each.phase == "immediate"]
    assert [(each.savepoint, each.is_undone) for each in sent] == [
        (None, False),
        (1, False),
        (2, True),
    ]
    queued = [each for each in group.entries if each.kind == "queued"]
    assert [each.receivers[0].state for each in queued] == ["delivered", "delivered", "dropped"]
    assert sum(each.phase == "after_commit" for each in group.entries) == 3 + 2


def test_what_a_savepoint_has_queued_is_recorded_once(recording: Recorder, plain: Session) -> None:
    """Its release moves the entries of the queue, and later ones are recorded nevertheless."""

    @post_save(Post, phase="after_commit")
    def after(**kwargs: Any) -> None: ...

    for name in ("a", "b"):
        with plain.begin_nested():
            plain.add(Post(slug=name))
            plain.flush()
            recording.timeline.groups()
    plain.add(Post(slug="c"))
    plain.flush()
    plain.commit()
    queued = [each for each in only(recording).entries if each.kind == "queued"]
    assert [each.rows for each in queued] == [1, 1, 1]


def test_a_rolled_back_transaction_says_so(recording: Recorder, plain: Session) -> None:
    """By rollback(), and by close() without a commit."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    for end in (plain.rollback, plain.close):
        plain.add(Post(slug="a"))
        plain.flush()
        end()
    assert [each.state for each in groups(recording)] == ["rolled back", "rolled back"]


def test_a_failed_receiver_shows_class_and_note_only(recording: Recorder, plain: Session) -> None:
    """The text of an exception, which may hold values, is not recorded, nor are others' notes."""

    @post_save(Post)
    def fail(**kwargs: Any) -> None:
        error = ValueError("secret")
        error.add_note("while secret")
        raise error

    plain.add(Post(slug="a"))
    with pytest.raises(ValueError, match="secret"):
        plain.flush()
    plain.rollback()
    entry = one(recording)
    [receiver] = entry.receivers
    assert (receiver.state, receiver.error, receiver.error_text) == ("failed", "ValueError", None)
    assert entry.is_failed
    assert "secret" not in repr(only(recording))
    assert "while post_save sent by" in receiver.notes[-1]


def test_the_text_of_an_error_is_recorded_on_request(plain: Session) -> None:
    """With show_errors=True, on one line."""

    @post_save(Post)
    def fail(**kwargs: Any) -> None:
        raise ValueError("title\nis missing")

    for recorder in recorded(show_errors=True):
        plain.add(Post(slug="a"))
        with pytest.raises(ValueError, match="missing"):
            plain.flush()
        [receiver] = one(recorder).receivers
        assert receiver.error_text == "title\\nis missing"


def test_values_are_recorded_on_request_only(recording: Recorder, plain: Session) -> None:
    """Those of the attributes that are named, as far as they are loaded."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    for recorder in recorded(show=("slug", "nothing")):
        plain.add(Post(slug="hello"))
        plain.commit()
        assert one(recorder).values == {"slug": "'hello'"}
        assert one(recording).values == {}
        recorder.stop()
        break


def test_rows_of_one_flush_are_one_entry(recording: Recorder, plain: Session) -> None:
    """Successive rows for which the same is sent: their number, first keys, and slowest call."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    plain.add_all([Post(id=number, slug="a") for number in range(1, 31)])
    plain.commit()
    entry = one(recording)
    assert (entry.rows, entry.key) == (30, "1, 2, 3, 4, 5, 6, 7, 8, …")
    [receiver] = entry.receivers
    assert receiver.slowest is not None
    assert receiver.milliseconds is not None
    assert 0 <= receiver.slowest <= receiver.milliseconds


def test_a_row_that_causes_something_ends_the_entry(recording: Recorder, plain: Session) -> None:
    """So that what it has caused is below this row, and not below another one."""

    @post_save(Post)
    def announce(instance: Any, **kwargs: Any) -> None:
        if instance.slug == "loud":
            ping.send_sync("by hand")

    def pong(**kwargs: Any) -> None: ...

    with ping.connected_to(pong):
        plain.add_all([Post(id=key, slug=slug) for key, slug in ((1, "a"), (2, "loud"), (3, "b"))])
        plain.commit()
    found = [(each.signal, each.key, each.depth) for each in only(recording).entries]
    assert found == [("post_save", "1, 2", 0), ("ping", None, 1), ("post_save", "3", 0)]


def test_silence_is_recorded_with_its_context(recording: Recorder, plain: Session) -> None:
    """Once for each flush, with the receivers that were not called."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    with SignalContext(Post):
        plain.add_all([Post(slug="a"), Post(slug="b")])
        plain.flush()
        plain.add(Post(slug="c"))
        plain.flush()
    plain.commit()
    group = only(recording)
    assert [(each.kind, each.flush) for each in group.entries] == [("silenced", 1), ("silenced", 2)]
    for entry in group.entries:
        assert entry.context is not None
        assert "SignalContext silencing" in entry.context
        assert [each.state for each in entry.receivers] == ["silenced"]


async def test_rows_of_durable_receivers_are_recorded(recording: Recorder, sessions: Any) -> None:
    """One entry for each send, waiting; a rollback drops them."""
    outbox.install()
    try:

        @post_save(Post, durable="recorded.mail")
        async def mail(**kwargs: Any) -> None: ...

        @post_save(Post, durable="recorded.index")
        async def index(**kwargs: Any) -> None: ...

        async with sessions() as session:
            session.add(Post(id=5, slug="a"))
            await session.commit()
            session.add(Post(id=6, slug="a"))
            await session.flush()
            await session.rollback()
    finally:
        outbox.uninstall()
    kept, undone = groups(recording)
    [entry] = kept.entries
    assert (entry.kind, entry.key, entry.phase) == ("durable", "5", "durable")
    assert [each.state for each in entry.receivers] == ["waiting", "waiting"]
    assert [each.state for each in undone.entries[0].receivers] == ["dropped", "dropped"]


async def test_callbacks_of_the_library_are_left_out(recording: Recorder, sessions: Any) -> None:
    """The outbox wakes its workers by on_commit(), which nobody has asked to see."""
    woken: list[str] = []

    def wake() -> None:
        woken.append("woken")

    outbox.install()
    outbox.add_waker(wake)
    try:

        @post_save(Post, durable="recorded.mail")
        async def mail(**kwargs: Any) -> None: ...

        async with sessions.begin() as session:
            session.add(Post(slug="a"))
    finally:
        outbox.remove_waker(wake)
        outbox.uninstall()
    assert woken
    assert [each.kind for each in only(recording).entries] == ["durable"]


def test_a_callback_of_the_library_is_no_call_of_the_send_before_it(
    recording: Recorder, plain: Session
) -> None:
    """Both are delivered by one loop after the commit."""
    called: list[str] = []

    def wake() -> None:
        called.append("wake")

    wake.__module__ = "aksara_signals.contrib.somewhere"

    @post_save(Post, phase="after_commit")
    def after(**kwargs: Any) -> None:
        called.append("after")

    plain.add(Post(slug="a"))
    plain.flush()
    on_commit(plain, wake)
    plain.commit()
    assert called == ["after", "wake"]
    queued, sent = only(recording).entries
    assert [len(each.receivers) for each in (queued, sent)] == [1, 1]


async def test_callbacks_belong_to_their_transaction(recording: Recorder, sessions: Any) -> None:
    """on_commit() without any flush: queued, and then called."""
    async with sessions.begin() as session:
        on_commit(session, lambda: None)
        [group] = groups(recording)
        assert [each.receivers[0].state for each in group.entries] == ["queued"]
    group = only(recording)
    assert [each.kind for each in group.entries] == ["queued", "send"]
    assert (group.state, group.entries[0].receivers[0].state) == ("committed", "delivered")


async def test_a_send_without_a_session_has_a_group_of_its_own(recording: Recorder) -> None:
    """It has no transaction; two sends are two groups, and what the first one causes is in it."""

    async def again(depth: int = 0, **kwargs: Any) -> None:
        if not depth:
            await ping.send("again", depth=1)

    with ping.connected_to(again):
        await ping.send("first")
        await ping.send("second", depth=1)
    first, second = groups(recording)
    assert [first.state, second.state] == ["none", "none"]
    assert [each.depth for each in first.entries] == [0, 1]
    assert first.milliseconds is not None
    assert first.session is None


async def test_concurrent_receivers_and_what_they_send_are_recorded(recording: Recorder) -> None:
    """Each has its duration, and its sends are below the entry."""

    async def fan_out(depth: int = 0, **kwargs: Any) -> None:
        if not depth:
            await ping.send("below", depth=1)

    async def other(**kwargs: Any) -> None: ...

    with ping.connected_to(fan_out, concurrent=True), ping.connected_to(other, concurrent=True):
        await ping.send("top")
    group = only(recording)
    assert [(each.sender, each.depth, len(each.receivers)) for each in group.entries] == [
        ("'top'", 0, 2),
        ("'below'", 1, 2),
    ]


async def test_a_task_of_a_receiver_shows_its_cause(recording: Recorder) -> None:
    """Also after the send has ended: what it sends is recorded, and breaks nothing."""
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await asyncio.sleep(0.01)
        await ping.send("late", depth=1)

    async def spawn(depth: int = 0, **kwargs: Any) -> None:
        if not depth:
            tasks.append(asyncio.create_task(later()))

    with ping.connected_to(spawn):
        await ping.send("now")
        await asyncio.gather(*tasks)
    assert [each.sender for group in groups(recording) for each in group.entries] == [
        "'now'",
        "'late'",
    ]


async def test_a_running_receiver_is_shown_as_running(recording: Recorder) -> None:
    """Before it has returned, without a duration."""
    release = asyncio.Event()

    async def slow(**kwargs: Any) -> None:
        await release.wait()

    with ping.connected_to(slow):
        task = asyncio.create_task(ping.send("x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        [receiver] = one(recording).receivers
        assert (receiver.state, receiver.milliseconds) == ("running", None)
        release.set()
        await task
    [receiver] = one(recording).receivers
    assert receiver.state == "ok"


def test_nothing_is_recorded_before_and_after(plain: Session) -> None:
    """Without a recorder, no listener and no hook is left behind."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    recorder = Recorder()
    plain.add(Post(slug="a"))
    plain.commit()
    assert recorder.timeline.groups() == []
    for running in recorded():
        plain.add(Post(slug="b"))
        plain.commit()
        recorder = running
    plain.add(Post(slug="c"))
    plain.commit()
    assert len(recorder.timeline.groups()) == 1


def test_a_recorder_that_comes_in_the_middle_breaks_nothing(plain: Session) -> None:
    """A receiver may start one while other hooks are at work."""
    recorder = Recorder()
    steps: list[str] = []

    class Around:
        def __init__(self, step: DeliveryStep) -> None:
            steps.append(step.signal_name)

        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None: ...

    @post_save(Post)
    def start(**kwargs: Any) -> None:
        recorder.start()

    @post_save(Post)
    def after_it(**kwargs: Any) -> None: ...

    add_delivery_hook(Around)
    try:
        plain.add(Post(slug="a"))
        plain.commit()
        plain.add(Post(slug="b"))
        plain.commit()
    finally:
        recorder.stop()
        remove_delivery_hook(Around)
    assert len(steps) == 6
    assert len(groups(recorder)[-1].entries[0].receivers) == 2


def test_a_sender_that_is_an_instance_is_not_held(recording: Recorder) -> None:
    """It may be large; its description is recorded in its place."""

    class Request:
        pass

    def pong(**kwargs: Any) -> None: ...

    request = Request()
    reference = weakref.ref(request)
    with ping.connected_to(pong):
        ping.send_sync(request)
    del request
    gc.collect()
    assert reference() is None
    assert one(recording).sender.endswith("Request object>")


def test_instances_are_not_held(recording: Recorder, plain: Session) -> None:
    """The entry of a row has its key, and the row can be collected."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    post = Post(slug="a")
    plain.add(post)
    plain.commit()
    reference = weakref.ref(post)
    plain.close()
    del post
    gc.collect()
    assert reference() is None
    assert one(recording).key


def test_a_failed_flush_leaves_the_numbers_right(
    recording: Recorder, plain: Session, database: Database
) -> None:
    """A flush that fails in the database is over; the next one is not within it."""
    from sqlalchemy.exc import IntegrityError

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    plain.add(Post(id=1, slug="a"))
    plain.flush()
    try:
        with plain.begin_nested():
            plain.connection().execute(Post.__table__.insert(), [{"id": 2, "slug": "x"}])
            plain.add(Post(id=2, slug="b"))
            plain.flush()
    except IntegrityError:
        pass
    plain.add(Post(id=3, slug="c"))
    plain.commit()
    ping.connect(lambda **kwargs: None)
    try:
        ping.send_sync("outside")
    finally:
        for each in ping.connections:
            ping.disconnect(each.receiver)
    first, outside = groups(recording)
    assert [(each.key, each.flush) for each in first.entries] == [("1", 1), ("3", 3)]
    assert (outside.state, outside.entries[0].flush) == ("none", None)


def test_a_receiver_may_start_and_stop_a_recorder(plain: Session) -> None:
    """In the middle of a flush and of a commit, whose listeners are being called."""
    recorder = Recorder()

    @pre_save(Post)
    def begin(**kwargs: Any) -> None:
        recorder.start()

    @post_save(Post, phase="after_commit")
    def end(**kwargs: Any) -> None:
        recorder.stop()

    for _ in range(3):
        plain.add(Post(slug="a"))
        plain.commit()
    assert tracing.hooks == []


class Evasive:
    """Has whatever is asked for, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        vars(self)["error"] = error

    def __getattr__(self, name: str) -> Any:
        if self.error is not None:
            raise self.error
        return 7


@pytest.mark.parametrize("make", [Evasive, lambda: Evasive(RuntimeError("no")), object, int])
def test_any_object_may_be_sent_as_an_instance(make: Any) -> None:
    """What it answers to questions doesn't matter: no code of it is run."""

    def pong(**kwargs: Any) -> str:
        return "pong"

    for recorder in recorded(show=("slug",)):
        with ping.connected_to(pong):
            assert ping.send_sync("sender", instance=make()) == [(pong, "pong")]
            assert one(recorder).key is None


def test_a_context_that_has_no_words_for_itself_is_recorded(
    recording: Recorder, plain: Session
) -> None:
    """Its class is shown."""

    class Wordless(SignalContext):
        def __repr__(self) -> str:
            raise RuntimeError

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    with Wordless(Post):
        plain.add(Post(slug="a"))
        plain.commit()
    assert "Wordless object>" in str(one(recording).context)


def test_what_a_callback_refers_to_is_not_held(recording: Recorder, plain: Session) -> None:
    """Its name and place are."""

    class Request:
        pass

    request = Request()
    reference = weakref.ref(request)
    on_commit(plain, lambda request=request: None)
    del request
    plain.execute(text("SELECT 1"))
    plain.commit()
    gc.collect()
    assert reference() is None
    queued, called = only(recording).entries
    assert (queued.receivers[0].file, queued.receivers[0].state) == (__file__, "delivered")
    assert called.receivers[0].name.endswith("<lambda>")


def test_sessions_are_not_held(recording: Recorder, sync_engine: Engine) -> None:
    """Neither by commits without a flush, nor by savepoints without a signal."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    session = Session(sync_engine)
    session.add(Post(slug="a"))
    session.commit()
    for _ in range(3):
        with session.begin_nested():
            session.execute(text("SELECT 1"))
        session.commit()
    session.add(Post(slug="b"))
    session.flush()
    with session.begin_nested():
        session.execute(text("SELECT 1"))
    session.commit()
    session.close()
    reference = weakref.ref(session)
    del session
    gc.collect()
    assert reference() is None
    assert len(groups(recording)) == 2


async def test_what_is_queued_belongs_to_its_own_savepoint(
    recording: Recorder, sessions: Any
) -> None:
    """Also if it is recorded later than it was queued, in another savepoint or after it."""

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    called: list[str] = []
    async with sessions.begin() as session:
        on_commit(session, lambda: called.append("outside"))
        inner = await session.begin_nested()
        session.add(Post(slug="a"))
        await session.flush()
        await inner.rollback()
        inner = await session.begin_nested()
        on_commit(session, lambda: called.append("inside"))
        await inner.rollback()
    assert called == ["outside"]
    queued = [each for each in only(recording).entries if each.kind == "queued"]
    assert [(each.is_undone, each.receivers[0].state) for each in queued] == [
        (False, "delivered"),
        (True, "dropped"),
    ]


def test_a_flush_that_a_receiver_stops_is_over(recording: Recorder, plain: Session) -> None:
    """What is sent after it in the same transaction belongs to no flush."""

    @pre_save(Post)
    def refuse_it(**kwargs: Any) -> None:
        raise ValueError

    plain.add(Post(slug="a"))
    with pytest.raises(ValueError):
        plain.flush()
    plain.expunge_all()
    with ping.connected_to(lambda **kwargs: None):
        ping.send_sync("outside")
        ping.send_sync("with a session", session=plain)
    plain.rollback()
    failed, outside = groups(recording)
    assert [each.flush for each in failed.entries] == [1, None]
    assert (outside.state, outside.entries[0].flush) == ("none", None)


def test_a_bulk_operation_of_a_receiver_does_not_end_the_flush(
    recording: Recorder, plain: Session
) -> None:
    """SQLAlchemy's legacy operations have transactions of their own, as flushes have."""

    @post_save(Post)
    def insert_tags(session: Any, **kwargs: Any) -> None:
        session.bulk_insert_mappings(Tag, [{"slug": "t"}])

    @post_save(Post)
    def announce(**kwargs: Any) -> None:
        ping.send_sync("by hand")

    with ping.connected_to(lambda **kwargs: None):
        plain.add(Post(slug="a"))
        plain.commit()
    assert [(each.signal, each.flush) for each in only(recording).entries] == [
        ("post_save", 1),
        ("ping", 1),
    ]


def test_a_failed_send_has_a_duration_beside_another_hook(recording: Recorder) -> None:
    """The send is over when it fails, and not when its exception is forgotten."""

    @contextlib.contextmanager
    def around(step: DeliveryStep) -> Iterator[None]:
        yield

    def fail(**kwargs: Any) -> None:
        raise ValueError

    add_delivery_hook(around)
    try:
        with ping.connected_to(fail), pytest.raises(ValueError) as held:
            ping.send_sync("x")
    finally:
        remove_delivery_hook(around)
    assert held.value
    assert one(recording).milliseconds is not None


def test_a_send_without_a_transaction_takes_as_long_as_its_first_one(recording: Recorder) -> None:
    """And not as long as the one that was begun last."""

    def outer(depth: int = 0, **kwargs: Any) -> None:
        if not depth:
            ping.send_sync("inner", depth=1)
            time.sleep(0.02)

    with ping.connected_to(outer):
        ping.send_sync("outer")
    found = only(recording).milliseconds
    assert found is not None
    assert found >= 20


async def test_a_receiver_that_had_to_wait_says_so(recording: Recorder) -> None:
    """Where nobody could await it: the error of the send is another one."""

    async def slow(**kwargs: Any) -> None:
        await asyncio.sleep(1)

    with ping.connected_to(slow), pytest.raises(AsyncReceiverError):
        ping.send_sync("x")
    [receiver] = one(recording).receivers
    assert (receiver.state, receiver.error) == ("failed", "not awaited to its end")


def test_only_the_keys_that_are_shown_are_held(recording: Recorder, plain: Session) -> None:
    """Of many rows, the first ones; and long keys are counted."""

    def pong(**kwargs: Any) -> None: ...

    @post_save(Post)
    def at_once(**kwargs: Any) -> None: ...

    plain.add_all([Post(slug="a") for _ in range(50)])
    plain.commit()
    [entry] = recording.timeline.entries()
    assert (entry.rows, len(entry.identities)) == (50, 8)


def test_a_page_may_be_read_while_sessions_write(recording: Recorder) -> None:
    """In other threads: nothing is recorded twice, and reading never fails."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)

    @post_save(Post, phase="after_commit")
    def after(**kwargs: Any) -> None: ...

    over = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not over.is_set():
                recording.timeline.groups(3)
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    readers = [threading.Thread(target=read) for _ in range(2)]
    try:
        for each in readers:
            each.start()
        for _ in range(60):
            with Session(engine) as session:
                for _ in range(5):
                    session.add(Post(slug="a"))
                    session.flush()
                session.commit()
    finally:
        over.set()
        for each in readers:
            each.join()
        sys.setswitchinterval(interval)
    engine.dispose()
    assert failures == []
    for group in groups(recording):
        assert sum(each.rows for each in group.entries if each.kind == "queued") == 5
