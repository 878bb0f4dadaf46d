"""Bulk creation: two signals, few statements, and what receivers may do."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from kit.entries import Animal, Base, Blog, Country, Dog, Entry, Token, entries, statements
from kit.support import Recorder
from sqlalchemy import Engine, event, func, insert, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from aksara_signals import (
    InstanceStateError,
    InvalidOptionError,
    SessionInUseError,
    SignalContext,
    post_bulk_create,
    post_bulk_update,
    post_save,
    pre_bulk_create,
    pre_bulk_update,
    pre_save,
)
from aksara_signals.orm import Manager


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on empty tables, to which the models are bound."""
    async with databases.bound(Base, async_engine) as maker:
        yield maker


def drive(coroutine: Any) -> Any:
    """Run a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it had to wait")


async def test_bulk_create_sends_two_signals_and_no_others(
    sessions: Any, recorder: Recorder
) -> None:
    """Ten thousand rows are sent by one pre and one post signal, with all of them."""
    for signal in (pre_bulk_create, post_bulk_create, pre_save, post_save):
        recorder.record(signal)
    rows = entries(10_000)
    async with sessions() as session:
        created = await Entry.objects.bulk_create(rows, session=session)
        assert created == rows
        assert recorder.names == ["pre_bulk_create", "post_bulk_create"]
        for call in recorder.calls:
            assert call.sender is Entry
            assert call.payload["instances"] == rows
            assert call.payload["session"] is session
        assert all(each in session for each in rows)
        assert len({each.id for each in rows}) == 10_000
        await session.commit()
        assert recorder.names == ["pre_bulk_create", "post_bulk_create"]
    assert await Entry.objects.count() == 10_000


async def test_bulk_create_takes_as_few_statements_as_sqlalchemy(
    sessions: Any, async_engine: AsyncEngine
) -> None:
    """Its statements are those of ``insert(Model).returning(…)`` with the same rows."""
    async with sessions() as session:
        with statements(async_engine) as plain:
            await session.execute(
                insert(Entry).returning(Entry.id, Entry.views),
                [{"title": f"t{number}"} for number in range(2500)],
            )
        with statements(async_engine) as ours:
            await Entry.objects.bulk_create(entries(2500), session=session)
    assert len(plain) == len(ours) == 3


async def test_batch_size_is_the_number_of_rows_of_a_statement(
    sessions: Any, async_engine: AsyncEngine
) -> None:
    """Batches may be smaller or larger than SQLAlchemy's own."""
    for batch_size, expected in ((10, 10), (30, 4), (2000, 1)):
        with statements(async_engine) as found:
            await Entry.objects.bulk_create(entries(100), batch_size=batch_size)
        assert len(found) == expected
    with statements(async_engine) as found:
        await Entry.objects.bulk_create(entries(1500), batch_size=1500)
    assert len(found) == 1


async def test_keys_and_defaults_are_on_the_instances_when_receivers_see_them(
    sessions: Any,
) -> None:
    """Keys, server defaults, Python defaults and computed columns are there, and belong together."""
    seen: list[tuple[Any, ...]] = []

    @post_bulk_create(Entry)
    async def look(instances: list[Entry], **kwargs: Any) -> None:
        seen.extend((e.id, e.title, e.slug, e.views, e.state, e.shout) for e in instances)

    await Entry.objects.bulk_create(
        [Entry(title="a"), Entry(title="b", slug="b", views=1), Entry(title="c", state="new")]
    )
    assert [each[1:] for each in seen] == [
        ("a", None, 7, "draft", "A"),
        ("b", "b", 1, "draft", "B"),
        ("c", None, 7, "new", "C"),
    ]
    for key, title, *_ in seen:
        assert (await Entry.objects.get(pk=key)).title == title


async def test_what_pre_receivers_change_is_written(sessions: Any) -> None:
    """Changed instances and instances that a receiver adds are inserted as they are then."""

    @pre_bulk_create(Entry)
    async def complete(instances: list[Entry], **kwargs: Any) -> None:
        for each in instances:
            each.slug = each.title.lower()
        instances.append(Entry(title="extra"))

    created = await Entry.objects.bulk_create([Entry(title="ONE"), Entry(title="TWO")])
    assert len(created) == 3
    rows = await Entry.objects.filter().order_by("id").all()
    assert [(row.title, row.slug) for row in rows] == [
        ("ONE", "one"),
        ("TWO", "two"),
        ("extra", None),
    ]


async def test_a_natural_key_is_inserted_in_one_statement(
    sessions: Any, async_engine: AsyncEngine
) -> None:
    """Where no key of the database gives an order, the rows are distinguished by their own keys."""
    rows = [Country(code=code) for code in ("de", "at", "ch")]
    with statements(async_engine) as found:
        await Country.objects.bulk_create(rows)
    assert len(found) == 1
    assert [(each.code, each.rank) for each in rows] == [("de", 1), ("at", 1), ("ch", 1)]


async def test_bulk_create_without_returning(database: databases.Database) -> None:
    """On MySQL, too, instances have keys and defaults; rows with keys share their statement."""
    engine = database.create_async_engine()
    databases.take_for_mysql(engine.sync_engine)
    async with databases.bound(Base, engine):
        rows = await Entry.objects.bulk_create(entries(3))
        assert [(each.id, each.title, each.views, each.shout) for each in rows] == [
            (each.id, each.title, 7, each.title.upper()) for each in await Entry.objects.all()
        ]
        dogs = await Dog.objects.bulk_create([Dog(name="a", trick="x"), Dog(name="b", trick="y")])
        assert [(each.id, each.name, each.trick) for each in dogs] == [
            (each.id, each.name, each.trick) for each in await Dog.objects.all()
        ]
        with statements(engine) as found:
            made = await Country.objects.bulk_create(Country(code=each) for each in ("de", "at"))
        assert [each.partition(" ")[0] for each in found] == ["INSERT", "SELECT"]
        assert [(each.code, each.rank) for each in made] == [("de", 1), ("at", 1)]
    await engine.dispose()


async def test_keys_made_by_python_versions_and_inheritance(sessions: Any) -> None:
    """UUID keys, version counters, joined inheritance and mixed classes are complete."""
    tokens = await Token.objects.bulk_create([Token(note="x"), Token(note="y")])
    assert all(isinstance(each.id, uuid.UUID) for each in tokens)
    assert [each.version for each in tokens] == [1, 1]
    stored = await Token.objects.get(pk=tokens[1].id)
    assert stored.note == "y"
    await stored.update(note="z")
    animals = await Animal.objects.bulk_create(
        [Dog(name="rex", trick="sit"), Animal(name="cow"), Dog(name="bo")]
    )
    found = await Animal.objects.all()
    assert {(type(each), each.id, each.name) for each in animals} == {
        (type(each), each.id, each.name) for each in found
    }


async def test_created_instances_are_detached_and_readable_without_a_session(
    sessions: Any,
) -> None:
    """With a session of the library's own, the rows are committed and the instances detached."""
    [entry] = await Entry.objects.bulk_create([Entry(title="a")])
    assert entry.views == 7
    assert entry.id is not None
    await entry.update(title="b")
    assert await Entry.objects.exists(session=None) is True


async def test_rolled_back_instances_are_new_again(sessions: Any) -> None:
    """As after a flush that was rolled back, the same instances can be inserted once more."""
    rows = entries(3)
    async with sessions() as session:
        await Entry.objects.bulk_create(rows, session=session)
        await session.rollback()
        assert not any(each in session for each in rows)
        for each in rows:
            each.id = None
        await Entry.objects.bulk_create(rows, session=session)
        await session.commit()
    assert await Entry.objects.count() == 3


async def test_later_changes_of_created_instances_are_written(sessions: Any) -> None:
    """They are clean after the insert, and dirty when changed."""
    async with sessions() as session:
        [entry] = await Entry.objects.bulk_create([Entry(title="a")], session=session)
        assert not session.dirty
        entry.title = "b"
        await session.commit()
    assert (await Entry.objects.get()).title == "b"


def test_sqlalchemys_own_listeners_are_called_for_created_instances(sync_engine: Engine) -> None:
    """As if they had been added and flushed, in the same order."""
    Base.metadata.create_all(sync_engine)
    names = ["before_attach", "after_attach", "transient_to_pending", "pending_to_persistent"]
    received: dict[str, list[str]] = {"bulk": [], "flush": []}
    for way, events in received.items():
        with Session(sync_engine) as session, session.begin():
            for name in names:

                def listen(_: Session, thing: Any, name: str = name, events: Any = events) -> None:
                    events.append(name)

                event.listen(session, name, listen)
            blog = Blog(name=way)
            if way == "bulk":
                with pytest.raises(StopIteration):
                    Blog.objects.bulk_create([blog], session=session).send(None)
            else:
                session.add(blog)
                session.flush()
    assert received["bulk"] == received["flush"] == names


def test_the_identity_token_of_a_shard_is_kept(sync_engine: Engine) -> None:
    """The identity key is that of a flush, for sessions over several databases too."""
    Base.metadata.create_all(sync_engine)
    blog = Blog(name="sharded")
    inspect(blog).identity_token = "north"
    with Session(sync_engine) as session, session.begin():
        drive(Blog.objects.bulk_create([blog], session=session))
        assert inspect(blog).identity_key == (Blog, (blog.id,), "north")


async def test_pending_instances_are_inserted_once(sessions: Any) -> None:
    """An instance that waits in the session is taken over from it."""
    async with sessions() as session:
        entry = Entry(title="a")
        session.add(entry)
        await Entry.objects.bulk_create([entry], session=session)
        await session.commit()
    assert await Entry.objects.count() == 1


async def test_json_null_and_unset_are_distinguished_as_in_a_flush(sessions: Any) -> None:
    """An explicit None of a JSON column is JSON's null, an unset one SQL's NULL."""
    async with sessions() as session:
        flushed = [Entry(title="a", tags=None), Entry(title="b")]
        session.add_all(flushed)
        await session.flush()
        bulk = await Entry.objects.bulk_create(
            [Entry(title="a", tags=None), Entry(title="b")], session=session
        )
        sql_null = dict((await session.execute(text("SELECT id, tags IS NULL FROM entry"))).all())
        assert [sql_null[e.id] for e in flushed] == [sql_null[e.id] for e in bulk]


def test_refused_instances_lose_nothing(sync_engine: Engine) -> None:
    """What can't be inserted in bulk is named, and nothing is written."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        old = Entry(title="old")
        session.add(old)
        session.commit()

        def attempt(*instances: Any, **options: Any) -> None:
            drive(Entry.objects.bulk_create(instances, session=session, **options))

        with pytest.raises(InstanceStateError, match="has a row already"):
            attempt(Entry(title="a"), old)
        with pytest.raises(InstanceStateError, match="relationship 'blog' set"):
            attempt(Entry(title="a", blog=Blog(name="b")))
        with pytest.raises(InstanceStateError, match="SQL for 'title'"):
            attempt(Entry(title=func.lower("A")))
        with pytest.raises(InstanceStateError, match="one model at a time"):
            attempt(Entry(title="a"), Blog(name="b"))
        for wrong in (0, -1, "5", True, 2.5):
            with pytest.raises(InvalidOptionError, match="batch_size"):
                attempt(Entry(title="a"), batch_size=wrong)
        assert session.query(Entry).count() == 1


def test_a_synchronous_session_works_without_an_event_loop(
    sync_engine: Engine, recorder: Recorder
) -> None:
    """The verbs never wait on a plain session; async receivers that don't wait are driven."""
    Base.metadata.create_all(sync_engine)
    recorder.record(pre_bulk_create, Entry)
    recorder.record(post_bulk_create, Entry, sync=True)
    with sessionmaker(sync_engine).begin() as session:
        drive(Entry.objects.bulk_create(entries(2), session=session))
        assert drive(Entry.objects.count(session=session)) == 2
    assert recorder.names == ["pre_bulk_create", "post_bulk_create"]


async def test_a_receiver_that_raises_vetoes(sessions: Any) -> None:
    """Nothing is inserted after a pre receiver's error, and all is rolled back after a post one's."""

    def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    for signal in (pre_bulk_create, post_bulk_create):
        with signal.connected_to(refuse, sender=Entry), pytest.raises(ValueError, match="no"):
            await Entry.objects.bulk_create(entries(2))
        assert await Entry.objects.count() == 0


async def test_receivers_may_write_but_not_end_the_transaction(sessions: Any) -> None:
    """A receiver's own rows share the transaction; commit() is refused."""

    @pre_bulk_create(Entry)
    async def write(session: AsyncSession, **kwargs: Any) -> None:
        await Blog.objects.create(name="made by a receiver")

    @post_bulk_create(Entry)
    async def end(session: AsyncSession, **kwargs: Any) -> None:
        await session.commit()

    with pytest.raises(SessionInUseError, match="commit"):
        await Entry.objects.bulk_create(entries(1))
    assert await Blog.objects.count() == 0
    post_bulk_create.disconnect(end, Entry)
    await Entry.objects.bulk_create(entries(1))
    assert await Blog.objects.count() == 1


async def test_a_silenced_model_is_written_without_signals(
    sessions: Any, recorder: Recorder
) -> None:
    """SignalContext covers the bulk signals."""
    recorder.record(pre_bulk_create, Entry)
    with SignalContext.disable_for(Entry):
        await Entry.objects.bulk_create(entries(1))
    assert recorder.names == []


async def test_nothing_to_do_sends_nothing(sessions: Any, recorder: Recorder) -> None:
    """Empty lists need no session and send no signal."""
    for signal in (pre_bulk_create, post_bulk_create, pre_bulk_update, post_bulk_update):
        recorder.record(signal)
    assert await Entry.objects.bulk_create([]) == []
    assert await Entry.objects.bulk_update([], ["title"]) == 0
    assert recorder.names == []


async def test_a_class_without_the_mixin_has_managers_of_its_own(sessions: Any) -> None:
    """``Manager(Model)`` is what ``Model.objects`` gives."""
    await Manager(Entry).bulk_create(entries(2))
    assert await Manager(Entry).count() == 2


async def test_rows_that_are_complete_are_inserted_without_reading_back(
    sessions: Any, async_engine: AsyncEngine
) -> None:
    """Where every column is given, nothing has to be fetched."""
    with statements(async_engine) as executed:
        await Country.objects.bulk_create([Country(code=code, rank=2) for code in ("de", "fr")])
    assert len(executed) == 1
    assert "RETURNING" not in executed[0]
    assert await Country.objects.filter(rank=2).count() == 2


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
async def test_a_key_that_is_stored_otherwise_is_named(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """A key of 0 means the next number there, so the row that comes back is nobody's."""
    async with sessions() as session:
        with pytest.raises(InstanceStateError, match=r"Entry was given the primary key \(0,\)"):
            await Entry.objects.bulk_create([Entry(id=0, title="x")], session=session)
