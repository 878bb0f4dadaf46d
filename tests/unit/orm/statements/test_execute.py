"""When receivers of statements are called, with what, and what their errors undo."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from kit.models import Audit, Author, Post, titles
from kit.support import Recorder
from sqlalchemy import Engine, delete, event, func, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import (
    InvalidOptionError,
    SessionInUseError,
    SignalContext,
    SignalRecursionError,
    post_bulk_create,
    post_delete,
    post_save,
    post_statement,
    post_update,
)
from aksara_signals.orm.statements.execute import do_orm_execute

OWN = {"statements": True}


@pytest.fixture
async def posts(session: AsyncSession) -> AsyncSession:
    """A session whose database has three posts, 1 to 3."""
    session.add_all(Post(title=f"title {number}") for number in (1, 2, 3))
    await session.commit()
    session.expunge_all()
    return session


RENAME = update(Post).where(Post.id < 3).values(title="new")
FIRST_TWO = delete(Post).where(Post.id < 3)


# -- who is called ---------------------------------------------------------------------------------


async def test_only_receivers_that_ask_for_statements_are_called(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """Without ``statements=True``, a statement calls nobody."""
    recorder.record(post_save, Post)
    await posts.execute(RENAME)
    assert recorder.calls == []
    recorder.record(post_update, Post, **OWN)
    await posts.execute(RENAME)
    assert recorder.names == ["post_update"] * 2


async def test_a_receiver_of_statements_is_called_for_flushes_as_well(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """The option adds to what a receiver is called for."""
    recorder.record(post_save, Post, **OWN)
    posts.add(Post(title="flushed"))
    await posts.commit()
    assert recorder.names == ["post_save"]


async def test_a_receiver_of_everything_that_asks_for_one_class(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """It is called once for a flush, and once for a row of a statement."""
    calls: list[Any] = []

    def receiver(**arguments: Any) -> None:
        calls.append(arguments["instance"])

    post_save.connect(receiver)
    post_save.connect(receiver, sender=Post, **OWN)
    posts.add(Post(title="flushed"))
    await posts.flush()
    assert len(calls) == 1
    await posts.execute(RENAME)
    assert len(calls) == 3


async def test_created_narrows_the_rows_of_statements(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """An INSERT is ``created``, an UPDATE isn't."""
    recorder.record(post_save, Post, created=True, **OWN)
    await posts.execute(RENAME)
    assert recorder.calls == []
    await posts.execute(insert(Post).values(title="new"))
    assert recorder.calls[0].payload["created"] is True


async def test_a_context_silences_statements(posts: AsyncSession, recorder: Recorder) -> None:
    """A class that is silenced sends nothing for its statements, but for exempt receivers."""
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_statement, Post)
    async with SignalContext(Post):
        await posts.execute(RENAME)
    assert recorder.calls == []


async def test_an_execution_option_silences_one_statement(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """``signals=False`` on the call, or on the statement."""
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_statement, Post)
    await posts.execute(RENAME, execution_options={"signals": False})
    await posts.execute(RENAME.execution_options(signals=False))
    assert recorder.calls == []
    await posts.execute(RENAME, execution_options={"signals": True})
    assert recorder.names == ["post_save", "post_save", "post_statement"]


async def test_another_value_of_the_option_is_refused(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """A mistake must not send, and must not write."""
    recorder.record(post_save, Post, **OWN)
    with pytest.raises(InvalidOptionError, match="signals='off'"):
        await posts.execute(RENAME, execution_options={"signals": "off"})
    assert await titles(posts) == ["title 1", "title 2", "title 3"]


async def test_the_managers_statements_are_sent(posts: AsyncSession, recorder: Recorder) -> None:
    """``objects.filter(…).update()`` and ``delete()`` are statements like any other."""
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_delete, Post, **OWN)
    found = Post.objects.filter(Post.id < 3)
    assert await found.update(session=posts, title="new") == 2
    assert await found.delete(session=posts) == 2
    assert recorder.names == ["post_save"] * 2 + ["post_delete"] * 2


async def test_bulk_operations_send_bulk_signals_only(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """One fact has one sender, although a bulk operation executes statements."""
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_statement)
    recorder.record(post_bulk_create, Post)
    created = await Post.objects.bulk_create([Post(title="new")], session=posts)
    created[0].title = "newer"
    await Post.objects.bulk_update(created, fields=["title"], session=posts)
    assert recorder.names == ["post_bulk_create"]


def test_queries_of_the_old_style_are_sent(
    sync_engine: Engine, engine: AsyncEngine, recorder: Recorder
) -> None:
    """``session.query(…).update()`` and ``delete()``."""
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_delete, Post, **OWN)
    with Session(sync_engine) as session:
        session.add(Post(id=1, title="old"))
        session.flush()
        recorder.clear()
        assert session.query(Post).update({"title": "new"}) == 1
        assert session.query(Post).delete() == 1
    assert recorder.names == ["post_save", "post_delete"]


def test_selects_are_listened_to_only_while_somebody_asks() -> None:
    """Without receivers of statements there is no listener in the way of a SELECT."""

    def receiver(**arguments: Any) -> None: ...

    post_save.connect(receiver, sender=Post)
    assert not _is_attached()
    for signal, options in ((post_save, OWN), (post_statement, {})):
        signal.connect(receiver, sender=Author, **options)
        assert _is_attached()
        signal.disconnect(receiver, sender=Author)
        assert not _is_attached()


def _is_attached() -> bool:
    return event.contains(Session, "do_orm_execute", do_orm_execute)


# -- with what -------------------------------------------------------------------------------------


async def test_the_sessions_own_instance_is_sent(posts: AsyncSession, recorder: Recorder) -> None:
    """What the session holds is sent as it is; of other rows, a detached copy."""
    recorder.record(post_save, Post, **OWN)
    held = await posts.get_one(Post, 1)
    await posts.execute(RENAME)
    own, copy = (call.payload["instance"] for call in recorder.calls)
    assert own is held
    assert inspect(copy).detached
    assert (copy.id, copy.title, copy.views) == (2, "new", 7)
    assert recorder.calls[0].payload["session"] is posts


async def test_an_expired_instance_is_loaded_for_async_receivers(posts: AsyncSession) -> None:
    """They can't load it by reading it."""
    held = await posts.get_one(Post, 1)
    read: list[Any] = []

    @post_save(Post, **OWN)
    async def receiver(instance: Post, **_: Any) -> None:
        await asyncio.sleep(0)
        read.append((instance.title, instance.edited_at))

    await posts.execute(RENAME, execution_options={"synchronize_session": "fetch"})
    assert read == [("new", "now"), ("new", "now")]
    assert held in posts


async def test_a_deleted_instance_can_be_read(posts: AsyncSession, recorder: Recorder) -> None:
    """Of an instance that had expired, a copy with the values of the row is sent."""
    recorder.record(post_delete, Post, **OWN)
    held = await posts.get_one(Post, 1)
    expired = await posts.get_one(Post, 2)
    posts.expire(expired)
    await posts.execute(delete(Post).where(Post.id < 3))
    first, second = (call.payload["instance"] for call in recorder.calls)
    assert first is held
    assert second is not expired
    assert (first.title, second.title) == ("title 1", "title 2")


async def test_a_deferred_column_of_a_copy_is_named(posts: AsyncSession) -> None:
    """A column that a query wouldn't load isn't in a copy either, and reading it says so."""
    errors: list[str] = []

    @post_save(Post, **OWN)
    def receiver(instance: Post, **_: Any) -> None:
        try:
            assert instance.body
        except Exception as error:
            errors.append(str(error))

    await posts.execute(RENAME)
    assert len(errors) == 2
    assert "'body'" in errors[0]


async def test_a_statement_is_sent_once_as_a_whole(posts: AsyncSession, recorder: Recorder) -> None:
    """``post_statement`` has its kind, parameters and number of rows, after the rows."""
    recorder.record(post_statement, Post)
    recorder.record(post_save, Post, **OWN)
    await posts.execute(RENAME)
    await posts.execute(insert(Post), [{"title": "one"}, {"title": "two"}])
    await posts.execute(delete(Post).where(Post.id == 77))
    assert recorder.names == [
        *["post_save"] * 2,
        "post_statement",
        *["post_save"] * 2,
        "post_statement",
        "post_statement",
    ]
    sent = [call.payload for call in recorder.of(post_statement)]
    assert [(each["kind"], each["row_count"]) for each in sent] == [
        ("update", 2),
        ("insert", 2),
        ("delete", 0),
    ]
    assert [each["parameters"] for each in sent] == [
        None,
        [{"title": "one"}, {"title": "two"}],
        None,
    ]
    assert sent[0]["statement"].is_update
    assert sent[0]["session"] is posts


async def test_a_statement_as_a_whole_needs_no_rows(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """Without receivers of rows, none are fetched, and the caller's own come as before."""
    recorder.record(post_statement, Post)
    executed: list[str] = []
    event.listen(
        posts.get_bind(), "before_cursor_execute", lambda *given: executed.append(given[2])
    )
    await posts.execute(RENAME)
    assert not any("RETURNING" in each for each in executed)
    written: Any = RENAME.values(slug="s").returning(Post.id)
    if not posts.get_bind().dialect.update_returning:
        written = FIRST_TWO.returning(Post.id)
    assert [*await posts.scalars(written)] == [1, 2]
    assert recorder.calls[1].payload["row_count"] == 2


async def test_pending_changes_are_flushed_first(posts: AsyncSession, recorder: Recorder) -> None:
    """As before every statement, so that it finds them."""
    recorder.record(post_save, Post, **OWN)
    posts.add(Post(id=9, title="title 9"))
    await posts.execute(update(Post).where(Post.id == 9).values(title="new"))
    assert [call.payload["created"] for call in recorder.calls] == [True, False]


@pytest.mark.parametrize("is_sent", [True, False])
async def test_what_the_flush_leaves_pending_waits_for_the_next_one(
    posts: AsyncSession, recorder: Recorder, is_sent: bool
) -> None:
    """What a receiver of the flush does is no part of the statement, with receivers or without."""

    @post_save(Post, created=True)
    async def withdraw(instance: Post, session: AsyncSession, **_: Any) -> None:
        await session.delete(instance)

    if is_sent:
        recorder.record(post_update, Post, **OWN)
    posts.add(added := Post(id=9, title="title 9"))
    await posts.execute(update(Post).where(Post.id > 2).values(title="new"))
    assert added in posts.deleted
    assert [call.payload["instance"].id for call in recorder.calls] == ([3, 9] if is_sent else [])
    await posts.commit()
    assert await titles(posts) == ["title 1", "title 2", "new"]


@pytest.mark.parametrize("mode", ["stream", "stream_scalars", "scalars"])
@pytest.mark.parametrize("statement", [RENAME, FIRST_TWO], ids=["update", "delete"])
async def test_streams_are_sent(
    posts: AsyncSession, recorder: Recorder, statement: Any, mode: str
) -> None:
    """All rows are sent before the first one is read, and the caller gets them all."""
    if statement is RENAME and not posts.get_bind().dialect.update_returning:
        pytest.skip("the database has no UPDATE..RETURNING")
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_delete, Post, **OWN)
    written = statement.returning(Post.id)
    options = {} if mode == "scalars" else {"yield_per": 1}
    found = await getattr(posts, mode)(written, execution_options=options)
    assert len(recorder.calls) == 2
    rows = [each async for each in found] if mode != "scalars" else [*found]
    assert [each if isinstance(each, int) else each[0] for each in rows] == [1, 2]


async def test_async_receivers_may_write_with_the_session(posts: AsyncSession) -> None:
    """Also by statements, whose own receivers are called in turn."""
    calls: list[str] = []

    @post_save(Post, **OWN)
    async def log(instance: Post, session: AsyncSession, **_: Any) -> None:
        await session.execute(insert(Audit).values(text=instance.title))

    @post_save(Audit, **OWN)
    async def logged(instance: Audit, **_: Any) -> None:
        calls.append(instance.text)

    await posts.execute(RENAME)
    await posts.commit()
    assert calls == ["new", "new"]
    assert await posts.scalar(select(func.count()).select_from(Audit)) == 2


async def test_statements_without_end_are_stopped(posts: AsyncSession) -> None:
    """A receiver that causes itself meets the guard, and nothing is left of it."""

    @post_save(Post, **OWN)
    async def again(session: AsyncSession, **_: Any) -> None:
        await session.execute(RENAME)

    with pytest.raises(SignalRecursionError):
        await posts.execute(RENAME)
    await posts.rollback()
    assert await titles(posts) == ["title 1", "title 2", "title 3"]


async def test_many_rows_are_sent_in_chunks(posts: AsyncSession) -> None:
    """There are instances of one chunk at a time, however many rows there are."""
    await posts.execute(insert(Post), [{"title": str(number)} for number in range(5_000)])
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = count = 0

    @post_save(Post, **OWN)
    def receiver(instance: Post, **_: Any) -> None:
        nonlocal most, count
        alive.add(instance)
        count += 1
        most = max(most, len(alive))

    gc.collect()
    await posts.execute(update(Post).values(slug="all"))
    assert count == 5_003
    assert most <= 2_000


# -- what errors undo ------------------------------------------------------------------------------

STATEMENTS = {
    "update": RENAME,
    "update returning": RENAME.returning(Post),
    "insert": insert(Post).values(title="more"),
    "insert from select": insert(Post).from_select(["title"], select(Post.title)),
    "delete": delete(Post),
    "delete returning": delete(Post).returning(Post.id),
}


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("signal", ["rows", "statement"])
async def test_a_veto_leaves_nothing_behind(posts: AsyncSession, name: str, signal: str) -> None:
    """The transaction of the statement is rolled back, and can't be committed."""
    if name == "update returning" and not posts.get_bind().dialect.update_returning:
        pytest.skip("the database has no UPDATE..RETURNING")

    def refuse(**_: Any) -> None:
        raise ValueError("no")

    if signal == "rows":
        post_save.connect(refuse, sender=Post, **OWN)
        post_delete.connect(refuse, sender=Post, **OWN)
    else:
        post_statement.connect(refuse, sender=Post)
    posts.add(Audit(text="earlier"))
    with pytest.raises(ValueError, match="no"):
        await posts.execute(STATEMENTS[name])
    with pytest.raises(PendingRollbackError):
        await posts.commit()
    await posts.rollback()
    assert await titles(posts) == ["title 1", "title 2", "title 3"]
    assert await posts.scalar(select(func.count()).select_from(Audit)) == 0


async def test_a_veto_by_key_leaves_nothing_behind(posts: AsyncSession) -> None:
    """As for the other statements."""

    @post_update(Post, **OWN)
    async def refuse(changes: Any, **_: Any) -> None:
        raise ValueError(changes)

    with pytest.raises(ValueError, match="new"):
        await posts.execute(update(Post), [{"id": 1, "title": "new"}])
    await posts.rollback()
    assert await titles(posts) == ["title 1", "title 2", "title 3"]


async def test_a_veto_in_a_savepoint_undoes_the_savepoint(posts: AsyncSession) -> None:
    """What was written before it can be committed."""

    @post_save(Post, **OWN)
    async def refuse(**_: Any) -> None:
        raise ValueError("no")

    posts.add(Audit(text="earlier"))
    with pytest.raises(ValueError, match="no"):
        async with posts.begin_nested():
            await posts.execute(RENAME)
    await posts.commit()
    assert await titles(posts) == ["title 1", "title 2", "title 3"]
    assert await posts.scalar(select(func.count()).select_from(Audit)) == 1


async def test_receivers_cant_end_the_transaction(posts: AsyncSession) -> None:
    """As in a flush."""

    @post_save(Post, **OWN)
    async def commit(session: AsyncSession, **_: Any) -> None:
        await session.commit()

    with pytest.raises(SessionInUseError):
        await posts.execute(RENAME)
    await posts.rollback()


async def test_an_error_of_the_database_is_the_callers(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """It comes as without receivers, and none of them is called."""
    recorder.record(post_save, Post, **OWN)
    recorder.record(post_statement, Post)
    with pytest.raises(IntegrityError):
        await posts.execute(insert(Post).values(id=1, title="again"))
    assert recorder.calls == []
    await posts.rollback()


# -- later -----------------------------------------------------------------------------------------


async def test_receivers_wait_for_the_outcome(posts: AsyncSession, recorder: Recorder) -> None:
    """They get copies, after the commit or the rollback."""
    recorder.record(post_save, Post, phase="after_commit", **OWN)
    recorder.record(post_delete, Post, phase="after_rollback", **OWN)
    recorder.record(post_statement, Post, phase="after_commit")
    await posts.execute(RENAME)
    assert recorder.calls == []
    await posts.commit()
    assert recorder.names == ["post_save", "post_save", "post_statement"]
    assert [call.payload["instance"].title for call in recorder.of(post_save)] == ["new", "new"]
    recorder.clear()
    await posts.execute(delete(Post).where(Post.id == 3))
    await posts.rollback()
    assert [call.payload["instance"].id for call in recorder.calls] == [3]


async def test_what_waits_has_the_values_of_the_row(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """Also where SQLAlchemy leaves the session's own object as it was, which is sent at once."""
    recorder.record(post_save, Post, phase="after_commit", **OWN)
    at_once: list[str] = []
    post_save.connect(lambda s, i, **_: at_once.append(i.title), sender=Post, weak=False, **OWN)
    held = await posts.get_one(Post, 1)
    await posts.execute(RENAME, execution_options={"synchronize_session": False})
    assert held.title == "title 1"
    await posts.commit()
    assert at_once == ["title 1", "new"]
    assert [call.payload["instance"].title for call in recorder.calls] == ["new", "new"]


async def test_the_net_of_a_transaction_includes_statements(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """Created by a flush and changed by a statement is created, with the values in the end."""
    recorder.record(post_save, Post, phase="after_commit", coalesce=True, **OWN)
    recorder.record(post_delete, Post, phase="after_commit", coalesce=True, **OWN)
    posts.add_all([Post(id=8, title="old"), Post(id=9, title="gone")])
    await posts.flush()
    await posts.execute(update(Post).where(Post.id == 8).values(title="new"))
    await posts.execute(update(Post).where(Post.id == 1).values(title="once"))
    await posts.execute(update(Post).where(Post.id == 1).values(title="twice"))
    await posts.execute(update(Post).where(Post.id == 2).values(title="there"))
    await posts.execute(update(Post).where(Post.id == 2).values(title="title 2"))
    await posts.execute(delete(Post).where(Post.id.in_([3, 9])))
    await posts.commit()
    sent = {
        (call.signal, call.payload["instance"].id): (
            call.payload.get("created"),
            call.payload["instance"].title,
        )
        for call in recorder.calls
    }
    assert sent == {
        ("post_save", 8): (True, "new"),
        ("post_save", 1): (False, "twice"),
        ("post_save", 2): (False, "title 2"),
        ("post_delete", 3): (None, "title 3"),
    }
    assert len(recorder.calls) == len(sent)


async def test_a_statement_counts_for_receivers_of_the_net_of_flushes(
    posts: AsyncSession, recorder: Recorder
) -> None:
    """If statements are sent to anybody, a receiver without them gets the row as it is in the end."""
    recorder.record(post_save, Post, phase="after_commit", coalesce=True)
    recorder.record(post_save, Post, phase="after_commit", **OWN)
    posts.add(Post(id=8, title="old"))
    await posts.flush()
    await posts.execute(update(Post).where(Post.id == 8).values(title="new"))
    await posts.commit()
    assert [call.payload["instance"].title for call in recorder.calls] == ["new", "old", "new"]
