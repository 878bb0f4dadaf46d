"""Events: what was stored, with keys of the types that they had."""

from __future__ import annotations

import copy
import dataclasses
import enum
import itertools
import json
import pickle
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from kit.databases import create_all
from kit.outbox_world import Article, ArticleLabel, Base, Color, Label, Reading, outbox, stored
from sqlalchemy import Date, Enum, Float, Integer, Numeric, String, Time, Uuid, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import OutboxError, Signal, m2m_changed, post_relation_add, post_save
from aksara_signals.contrib.outbox import Durable, DurableEvent
from aksara_signals.contrib.outbox.encoding import restored_key
from aksara_signals.contrib.outbox.events import arguments_of, child_of, event_of
from aksara_signals.contrib.outbox.models import find_model, model_name
from aksara_signals.contrib.outbox.rows.reading import Row

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_events.{next(_numbers)}"


@pytest.fixture
async def session(async_engine: AsyncEngine) -> Any:
    """A session on empty tables, of an application whose outbox is installed."""
    outbox.install()
    await create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session
    outbox.uninstall()


def connect(signal: Signal, sender: Any, durable: Any) -> None:
    def receive(**kwargs: Any) -> None: ...

    signal.connect(receive, sender=sender, durable=durable)


def row_of(values: Any) -> Row:
    """A row of the table as workers have it."""
    fields = {each.name for each in dataclasses.fields(Row)}
    given = {key: value for key, value in values._mapping.items() if key in fields}
    return Row(**given, read_at=values.created_at, is_probe=False)


async def events(session: AsyncSession) -> list[DurableEvent]:
    return [event_of(row_of(each)) for each in await stored(session)]


# -- keys -----------------------------------------------------------------------------------------


async def test_keys_have_their_types_again(session: AsyncSession, name: str) -> None:
    """A UUID, a time with its zone and an Enum are none of JSON's; by them the row is found."""
    connect(post_save, Reading, Durable(name, include=("at", "color")))
    key = (uuid.uuid4(), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), Color.BLUE)
    reading = Reading(sensor=key[0], at=key[1], color=key[2])
    session.add(reading)
    await session.commit()
    (event,) = await events(session)
    assert event.key == key
    assert [type(each) for each in event.key] == [uuid.UUID, datetime, Color]
    assert event.values == {"at": key[1].isoformat(), "color": "blue"}
    session.expunge_all()
    found = await event.load(session)
    assert (found.sensor, found.color) == (key[0], key[2])
    assert await session.run_sync(event.load_sync) is found


class Level(enum.IntEnum):
    LOW = 1


class Span(enum.Enum):
    """Its values aren't JSON, so they are stored in another form."""

    DAY = (1, date(2026, 1, 2))
    DATE = date(2026, 1, 2)


class KeyBase(DeclarativeBase): ...


class Keyed(KeyBase):
    __tablename__ = "keyed"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    word: Mapped[str] = mapped_column(String, primary_key=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), primary_key=True)
    weight: Mapped[float] = mapped_column(Float, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    hour: Mapped[time] = mapped_column(Time, primary_key=True)
    text_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    level: Mapped[Level] = mapped_column(Enum(Level), primary_key=True)
    span: Mapped[Span] = mapped_column(Enum(Span), primary_key=True)


@pytest.mark.parametrize("span", Span)
def test_keys_of_any_type_are_restored(span: Span) -> None:
    """What was encoded is decoded; the types of the columns say how."""
    key = (
        5,
        "2026-01-02",
        Decimal("1.10"),
        1.5,
        date(2026, 1, 2),
        time(1, 2, tzinfo=UTC),
        "00000000-0000-0000-0000-000000000001",
        Level.LOW,
        span,
    )
    plain = outbox.encoding.plain(key, "the key")
    restored = restored_key(inspect(Keyed), plain)
    assert restored == key
    assert [type(each) for each in restored] == [type(each) for each in key]


def test_what_can_not_be_restored_stays_as_it_is() -> None:
    """A key of a class that isn't there, or has another key by now, or other members."""
    assert restored_key(None, [1, "a"]) == (1, "a")
    assert restored_key(inspect(Article), [1, 2]) == (1, 2)
    mapper: Any = inspect(Reading)
    assert restored_key(mapper, [None, "x", "green"]) == (None, "x", "green")
    assert restored_key(mapper, [5, 5, "BLUE"]) == (5, 5, Color.BLUE)


# -- what an event says ---------------------------------------------------------------------------


async def test_an_event_says_what_was_stored(session: AsyncSession, name: str) -> None:
    """Field by field; the arguments of the receiver are made of it."""
    connect(post_save, Article, Durable(name, include=("title",), version=2))
    article = Article(title="a")
    session.add(article)
    await session.commit()
    article.title = "b"
    await article.save(session=session, update_fields=["title"])
    created, updated = await events(session)
    row = (await stored(session))[0]
    assert dataclasses.asdict(dataclasses.replace(created, sent_at=None)) == {
        "id": row.id,
        "type": "post_save",
        "receiver": name,
        "model": model_name(Article),
        "key": (1,),
        "created": True,
        "changed": frozenset({"title"}),
        "values": {"title": "a"},
        "data": {},
        "provenance": {},
        "attempt": 1,
        "sent_at": None,
        "headers": {},
        "version": 2,
        "generation": 0,
        "lane": row.lane,
    }
    assert created.sent_at is not None
    assert arguments_of(created, frozenset()) == {"event": created, "created": True}
    assert arguments_of(updated, frozenset()) == {
        "event": updated,
        "created": False,
        "update_fields": frozenset({"title"}),
    }


async def test_an_event_never_changes(session: AsyncSession, name: str) -> None:
    """Nor do its mappings; but it can be copied, pickled and used as a key."""
    connect(post_save, Article, Durable(name, include=("details",)))
    session.add(Article(title="a", details={"a": 1}))
    await session.commit()
    (event,) = await events(session)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.attempt = 2  # type: ignore[misc]
    values: Any = event.values
    for change in (values.clear, lambda: values.update(a=1), lambda: values.pop("details")):
        with pytest.raises(TypeError, match="never changes"):
            change()
    assert copy.deepcopy(event) == event
    assert pickle.loads(pickle.dumps(event)) == event
    assert len({event, copy.deepcopy(event)}) == 1
    assert json.dumps(event.values) == '{"details": {"a": 1}}'


def row(**changes: Any) -> Row:
    values: dict[str, Any] = dict.fromkeys(each.name for each in dataclasses.fields(Row))
    values |= {"id": uuid.uuid4(), "type": "custom", "receiver": "r", "attempts": 0, "version": 1}
    values |= {"payload": {"v": 1, "key": None}, "aggregatetype": "shop"}
    return Row(**{**values, **changes})


def test_an_upgraded_payload_is_read_instead() -> None:
    """The row itself stays as it is, for the next attempt."""
    old = row(payload={"key": None, "data": {"a": 1}}, attempts=2)
    assert event_of(old).data == {"a": 1}
    event = event_of(old, {"key": None, "data": {"b": 2}})
    assert event.data == {"b": 2}
    assert event.attempt == 3


def test_arguments_of_custom_signals_are_what_was_sent() -> None:
    """Under any name, unless it is one of the receiver's own."""
    data = {"model": "T-1000", "keys": [1], "child": 5, "pk_set": [2], "fields": "x", "event": 0}
    event = event_of(row(payload={"key": None, "data": data}))
    assert arguments_of(event, frozenset({"created"})) == {**data, "event": event, "created": None}


# -- loading --------------------------------------------------------------------------------------


async def test_the_row_is_loaded_as_it_is_now(
    session: AsyncSession, sync_engine: Any, name: str
) -> None:
    """By any session; None once it is gone."""
    connect(post_save, Article, name)
    article = Article(title="a")
    session.add(article)
    await session.commit()
    (event,) = await events(session)
    await session.commit()
    with Session(sync_engine) as plain:
        assert (await event.load(plain)).title == "a"
        assert event.load_sync(plain).title == "a"
    await session.delete(article)
    await session.commit()
    assert await event.load(session) is None


async def test_what_is_about_no_row_can_not_be_loaded(session: AsyncSession) -> None:
    """Neither can the row of an unknown class; the errors say why."""
    with pytest.raises(OutboxError, match="it isn't about a single row; read its data"):
        await event_of(row()).load(session)
    unknown = event_of(row(aggregatetype="app.Gone", payload={"key": [1]}))
    assert unknown.key == (1,)
    with pytest.raises(OutboxError, match=r"no class app.Gone is mapped .* import its module"):
        await unknown.load(session)


async def test_links_have_their_other_side(session: AsyncSession, name: str) -> None:
    """The class and the keys, with their types."""
    connect(m2m_changed, ArticleLabel.__table__, f"{name}.a")
    connect(post_relation_add, Article, f"{name}.b")
    session.add(Article(title="x", labels=[Label(word="w")]))
    await session.commit()
    linked, added = await events(session)
    arguments = arguments_of(linked, frozenset())
    assert arguments["model"] is Label
    assert arguments["pk_set"] == frozenset({1})
    assert child_of(added) == (Label, (1,))
    assert child_of(linked) == (None, ())
    assert {"child", "child_model"}.isdisjoint(arguments_of(added, frozenset()))
    assert arguments_of(added, frozenset())["relation_name"] == "labels"


def test_keys_of_links_may_be_composite() -> None:
    """They are tuples then, as in pk_set."""
    key = [str(uuid.UUID(int=1)), "2026-01-02T00:00:00+00:00", "red"]
    data = {"model": model_name(Reading), "pk_set": [key], "action": "post_add"}
    event = event_of(row(type="m2m_changed", payload={"key": None, "data": data}))
    restored = (uuid.UUID(int=1), datetime(2026, 1, 2, tzinfo=UTC), Color.RED)
    assert arguments_of(event, frozenset())["pk_set"] == frozenset({restored})


# -- classes by name ------------------------------------------------------------------------------


def test_classes_are_found_by_their_names() -> None:
    """Also one that has moved to another module, if no other has its name."""
    assert find_model(model_name(Reading)) is Reading
    assert find_model("somewhere.else.Reading") is Reading
    assert find_model("somewhere.Unheard") is None
    assert find_model("") is None


def test_a_new_class_is_found() -> None:
    """Though others were looked up before; and once it is gone, it isn't."""
    assert find_model("x.Fresh") is None

    class FreshBase(DeclarativeBase): ...

    class Fresh(FreshBase):
        __tablename__ = "fresh"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert find_model("x.Fresh") is Fresh
    assert find_model(model_name(Fresh)) is Fresh
    FreshBase.registry.dispose()
