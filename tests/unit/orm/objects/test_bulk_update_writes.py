"""What a bulk update writes, in how many statements, and what it leaves pending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from kit.entries import Base, Blog, Entry, Seat, Token, entries, statements
from kit.support import Recorder
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from aksara_signals import (
    AksaraSignalsError,
    InstanceStateError,
    UnknownFieldError,
    post_bulk_update,
    post_save,
    pre_bulk_update,
    pre_save,
)


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on empty tables, to which the models are bound."""
    async with databases.bound(Base, async_engine) as maker:
        yield maker


async def test_bulk_update_writes_the_fields_and_leaves_the_rest_pending(
    sessions: Any, recorder: Recorder
) -> None:
    """The fields become committed; other pending values and other instances stay pending."""
    async with sessions() as session:
        rows = entries(3)
        other = Entry(title="other")
        session.add_all([*rows, other])
        await session.commit()
        for each in [*rows, other]:
            await session.refresh(each)
        for signal in (pre_bulk_update, post_bulk_update, pre_save, post_save):
            recorder.record(signal)
        for each in [*rows, other]:
            each.title += "!"
            each.slug = "pending"
        written = await Entry.objects.bulk_update(rows, fields=["title"], session=session)
        assert written == 3
        assert recorder.names == ["pre_bulk_update", "post_bulk_update"]
        for call in recorder.calls:
            assert call.sender is Entry
            assert call.payload["instances"] == rows
            assert call.payload["fields"] == {"title"}
            assert call.payload["session"] is session
        with session.no_autoflush:
            stored = (await session.execute(select(Entry.title, Entry.slug))).all()
        assert sorted(stored) == [("other", None), ("t0!", None), ("t1!", None), ("t2!", None)]
        assert set(session.dirty) == {*rows, other}
        await session.commit()
    assert {each.slug for each in await Entry.objects.all()} == {"pending"}


async def test_a_completely_updated_instance_is_clean(sessions: Any) -> None:
    """Nothing else pending: the session has nothing left to flush."""
    async with sessions() as session:
        [entry] = await Entry.objects.bulk_create(entries(1), session=session)
        entry.title = "new"
        await Entry.objects.bulk_update([entry], ["title"], session=session)
        assert not session.dirty
        assert entry.edited == "now"
        assert entry.shout == "NEW"


async def test_bulk_update_is_executed_in_batches(sessions: Any, async_engine: AsyncEngine) -> None:
    """One executemany per batch, never one statement per row."""
    rows = await Seat.objects.bulk_create([Seat(row=1, number=n) for n in range(100)])
    for each in rows:
        each.guest = f"guest {each.number}"
    for batch_size, expected in ((None, 1), (30, 4)):
        with statements(async_engine) as found:
            await Seat.objects.bulk_update(rows, ["guest"], batch_size=batch_size)
        assert sum(each.startswith("UPDATE") for each in found) == expected
    stored = await Seat.objects.get(pk=(1, 42))
    assert (stored.guest, stored.seen) == ("guest 42", 1)
    assert rows[42].seen == 1


async def test_what_pre_bulk_update_receivers_change_is_written(sessions: Any) -> None:
    """A receiver's change of another field is written too, as with save(update_fields)."""
    rows = await Entry.objects.bulk_create(entries(2))

    @pre_bulk_update(Entry)
    async def stamp(instances: list[Entry], **kwargs: Any) -> None:
        for each in instances:
            each.title = each.title.upper()
        instances[0].slug = "stamped"

    for each in rows:
        each.title = "new"
        each.state = "pending"
    await Entry.objects.bulk_update(rows, ["title"])
    stored = await Entry.objects.filter().order_by("id").all()
    assert [(each.title, each.slug, each.state) for each in stored] == [
        ("NEW", "stamped", "draft"),
        ("NEW", None, "draft"),
    ]


async def test_a_version_counter_is_counted_up(sessions: Any) -> None:
    """The next save of the same instance finds the version that the bulk update has written."""
    [token] = await Token.objects.bulk_create([Token(note="a")])
    token.note = "b"
    await Token.objects.bulk_update([token], ["note"])
    assert token.version == 2
    await token.update(note="c")
    assert (await Token.objects.get()).version == 3


async def test_bulk_update_does_not_flush(sessions: Any, recorder: Recorder) -> None:
    """What else is pending in the session is left alone."""
    async with sessions() as session:
        [entry] = await Entry.objects.bulk_create(entries(1), session=session)
        pending = Blog(name="later")
        session.add(pending)
        entry.title = "x"
        await Entry.objects.bulk_update([entry], ["title"], session=session)
        assert pending in session.new


async def test_a_rolled_back_savepoint_takes_the_update_back(sessions: Any) -> None:
    """After the rollback of a savepoint the instance shows what the row holds."""
    async with sessions() as session:
        [entry] = await Entry.objects.bulk_create(entries(1), session=session)
        savepoint = await session.begin_nested()
        entry.title = "gone"
        await Entry.objects.bulk_update([entry], ["title"], session=session)
        await savepoint.rollback()
        await session.refresh(entry)
        assert entry.title == "t0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("title", "one string"),
        ([], "no fields"),
        (["titel"], "did you mean 'title'"),
        (["id"], "primary key"),
        (["blog"], "foreign key"),
    ],
)
async def test_wrong_fields_are_named(fields: Any, message: str) -> None:
    """A field that can't be updated in bulk is refused before anything happens."""
    with pytest.raises(UnknownFieldError, match=message):
        await Entry.objects.bulk_update([Entry(title="a")], fields)


async def test_instances_without_a_row_or_with_sql_are_refused(sessions: Any) -> None:
    """They are named, and nothing is written."""
    [entry] = await Entry.objects.bulk_create(entries(1))
    with pytest.raises(InstanceStateError, match="no row yet"):
        await Entry.objects.bulk_update([Entry(title="a")], ["title"])
    with pytest.raises(InstanceStateError, match="one model at a time"):
        await Entry.objects.bulk_update([Blog(name="a")], ["title"])
    entry.views = Entry.views + 1
    with pytest.raises(AksaraSignalsError, match="with SQL for 'views'"):
        await Entry.objects.bulk_update([entry], ["views"])


async def test_what_isnt_loaded_is_not_written(sessions: Any, async_engine: AsyncEngine) -> None:
    """An instance whose fields are expired has nothing to write, and isn't counted."""
    async with sessions() as session:
        one, two = Entry(title="one"), Entry(title="two")
        session.add_all([one, two])
        await session.commit()
        two.title = "new"
        with statements(async_engine) as executed:
            count = await Entry.objects.bulk_update([one, two], ["title"], session=session)
        assert count == 1
        assert len([each for each in executed if each.startswith("UPDATE")]) == 1
        await session.commit()
    assert {entry.title for entry in await Entry.objects.all()} == {"one", "new"}


async def test_pending_values_of_computed_columns_stay_pending(sessions: Any) -> None:
    """What an onupdate writes is read back, but not over a value that is waiting to be saved."""
    async with sessions(expire_on_commit=False) as session:
        entry = Entry(title="one")
        session.add(entry)
        await session.flush()
        entry.title, entry.edited = "two", "by hand"
        await Entry.objects.bulk_update([entry], ["title"], session=session)
        assert entry.edited == "by hand"
        await session.commit()
    assert (await Entry.objects.get(pk=entry.id)).edited == "by hand"


async def test_instances_of_another_session_are_updated(sessions: Any) -> None:
    """The session that executes needn't be the one that the instances are in."""
    async with sessions() as one, sessions() as other:
        entry = Entry(title="a", slug="a")
        one.add(entry)
        await one.commit()
        await one.refresh(entry)
        await one.commit()
        entry.title = "b"
        await Entry.objects.bulk_update([entry], ["title"], session=other)
        await other.commit()
        assert entry not in one.dirty
    assert (await Entry.objects.get(slug="a")).title == "b"
