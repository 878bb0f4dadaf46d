"""Events as CloudEvents 1.0: they come back as they were, and keep the rules of the specification."""

from __future__ import annotations

import dataclasses
import itertools
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from kit.cloudevent_rules import broken_rules
from kit.databases import create_all
from kit.outbox_world import (
    Article,
    ArticleLabel,
    Base,
    Color,
    Label,
    Reading,
    Storehouse,
    outbox,
    stored,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import (
    OutboxError,
    Signal,
    m2m_changed,
    post_bulk_create,
    post_delete,
    post_relation_add,
    post_save,
)
from aksara_signals.contrib.outbox import Durable, DurableEvent
from aksara_signals.contrib.outbox.events import event_of
from aksara_signals.contrib.outbox.models import model_name
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.tables import aware

_numbers = itertools.count()
KEY = (uuid.UUID(int=7), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), Color.BLUE)


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_cloudevents.{next(_numbers)}"


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session on empty tables, of an application whose outbox is installed."""
    outbox.install()
    await create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session
    outbox.uninstall()


def connect(signal: Signal, sender: Any, durable: Any) -> None:
    def receive(**kwargs: Any) -> None: ...

    signal.connect(receive, sender=sender, durable=durable)


async def events(session: AsyncSession) -> list[DurableEvent]:
    """The events of the rows in the outbox, as a relay has them."""
    fields = {each.name for each in dataclasses.fields(Row)}
    found = []
    for each in await stored(session):
        values = {key: value for key, value in each._mapping.items() if key in fields}
        values["created_at"] = aware(values["created_at"])
        found.append(event_of(Row(**values, read_at=values["created_at"], is_probe=False)))
    return found


def back(event: DurableEvent) -> DurableEvent:
    """What arrives of an event, after it was checked that the rules are kept."""
    made = event.as_cloudevent()
    assert broken_rules(made) == []
    arrived = DurableEvent.from_cloudevent(json.dumps(made))
    assert DurableEvent.from_cloudevent(json.dumps(made).encode()) == arrived
    assert DurableEvent.from_cloudevent(made) == arrived
    # By another implementation of CloudEvents, which reads the event and writes it again.
    peer = JSONFormat()
    read = peer.read(None, json.dumps(made))
    assert (read.get_id(), read.get_source(), read.get_subject()) == (
        made["id"],
        made["source"],
        made.get("subject"),
    )
    assert (read.get_data(), read.get_time()) == (made["data"], event.sent_at)
    assert DurableEvent.from_cloudevent(peer.write(read)) == arrived
    return arrived


def an_event(**changes: Any) -> DurableEvent:
    """An event about a reading."""
    given: dict[str, Any] = {
        "id": uuid.UUID(int=5),
        "type": "post_save",
        "receiver": "search.index",
        "model": model_name(Reading),
        "key": KEY,
        "sent_at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    }
    return DurableEvent(**{**given, **changes})


# -- there and back ---------------------------------------------------------------------------------


async def test_events_of_every_kind_come_back_as_they_were(
    session: AsyncSession, name: str
) -> None:
    """Saves, deletes, bulk inserts, links, relations and custom signals, each with all it has."""
    paid = Signal(name)
    connect(post_save, Article, Durable(f"{name}.save", include=("title", "details"), version=4))
    connect(post_save, Reading, Durable(f"{name}.reading", include=("at", "color")))
    connect(post_delete, Article, Durable(f"{name}.delete", include=("title",)))
    connect(post_bulk_create, Storehouse, f"{name}.bulk")
    connect(m2m_changed, ArticleLabel.__table__, Durable(f"{name}.links", ordered=False))
    connect(post_relation_add, Article, f"{name}.relation")
    connect(paid, "shop", f"{name}.custom")
    article = Article(title="ä \N{SNOWMAN}", details={"a": [1, None, {"b": 2.5}]})
    article.labels.append(Label(word="new"))
    session.add_all([article, Reading(sensor=KEY[0], at=KEY[1], color=KEY[2])])
    await session.flush()
    shops = [Storehouse(name="a"), Storehouse(name="b")]
    await Storehouse.objects.bulk_create(shops, session=session)
    await paid.send("shop", session=session, amount=5, at=datetime(2026, 1, 2, tzinfo=UTC))
    await session.delete(article)
    await session.commit()
    found = await events(session)
    by_receiver = {event.receiver.removeprefix(f"{name}."): event for event in found}
    assert by_receiver.keys() == {
        "save",
        "reading",
        "delete",
        "bulk",
        "links",
        "relation",
        "custom",
    }
    assert (by_receiver["reading"].key, by_receiver["links"].lane) == (KEY, None)
    for event in found:
        arrived = back(event)
        assert arrived == event
        assert [type(each) for each in arrived.key] == [type(each) for each in event.key]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ATTRIBUTES = st.sampled_from(
    [
        *("id", "time", "type", "data", "data_base64", "receiver", "version", "partitionkey"),
        *("headers", "traceparent", "tracestate", "specversion", "x-tenant", "Baggage"),
        *("a" * 20, "a" * 21, ""),
    ]
)


@given(
    data=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    values=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    headers=st.dictionaries(ATTRIBUTES | TEXT, TEXT, max_size=5),
    model=TEXT,
    lane=st.none() | st.integers(-(2**63), 2**63 - 1),
    created=st.none() | st.booleans(),
    changed=st.frozensets(st.text(max_size=5)),
    sent_at=st.datetimes(
        min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - the zone is drawn
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))]),
    ),
    numbers=st.tuples(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1)),
)
def test_whatever_an_event_holds_comes_back(
    data: Any,
    values: Any,
    headers: Any,
    model: str,
    lane: int | None,
    created: bool | None,
    changed: frozenset[str],
    sent_at: datetime,
    numbers: tuple[int, int],
) -> None:
    """Any JSON, any lane, and headers under names and with values that no attribute may have."""
    if "tracestate" in headers:  # which never comes alone
        headers["traceparent"] = "00-1-2-01"
    event = an_event(
        model=model,
        key=(),
        data=data,
        values=values,
        headers=headers,
        lane=lane,
        created=created,
        changed=changed,
        sent_at=sent_at,
        version=numbers[0],
        generation=numbers[1],
    )
    assert back(event) == event


def test_what_an_event_is_made_of() -> None:
    """The id is unique for each receiver and each replay; consumers may rely on the attributes."""
    headers = {"traceparent": "00-1-2-01", "tracestate": "a=1", "x-tenant": "7"}
    event = an_event(created=True, lane=-12, generation=3, version=2, headers=headers)
    assert event.as_cloudevent() == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000005:search.index:3",
        "source": "/kit.outbox_world.Reading",
        "type": "post_save",
        "subject": f'["{KEY[0]}", "2026-01-02T03:04:05.000006+00:00", "blue"]',
        "time": "2026-01-02T03:04:05.000678+00:00",
        "datacontenttype": "application/json",
        "partitionkey": "-12",
        "receiver": "search.index",
        "generation": 3,
        "version": 2,
        "traceparent": "00-1-2-01",
        "tracestate": "a=1",
        "data": {
            "v": 1,
            "key": [str(KEY[0]), "2026-01-02T03:04:05.000006+00:00", "blue"],
            "created": True,
            "headers": {"x-tenant": "7"},
        },
    }


def test_an_event_about_no_row_has_no_subject() -> None:
    """An unordered one has no partition key; and one without a time gets that of now."""
    made = an_event(key=(), sent_at=None).as_cloudevent()
    assert broken_rules(made) == []
    assert {"subject", "partitionkey"}.isdisjoint(made)
    age = datetime.now(UTC) - datetime.fromisoformat(made["time"])
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_headers_that_are_no_text_stay_in_the_data() -> None:
    """Rows that others have written may have any JSON as a header."""
    event = an_event(headers={"count": 5, "plain": "a", "line": "a\nb"})
    made = event.as_cloudevent()
    assert (made["plain"], made["data"]["headers"]) == ("a", {"count": 5, "line": "a\nb"})
    assert back(event).headers == event.headers


def test_the_rules_find_what_is_wrong() -> None:
    """The check that the tests of this module rely on."""
    made = an_event().as_cloudevent()
    assert broken_rules(made) == []
    for change in (
        {"id": ""},
        {"source": ""},
        {"source": "/a b"},
        {"source": "/100%"},
        {"type": 5},
        {"specversion": "0.3"},
        {"subject": ""},
        {"time": "2026-01-02T03:04:05"},
        {"time": "2026-13-02T03:04:05Z"},
        {"datacontenttype": "json"},
        {"dataschema": "/schema"},
        {"x-tenant": "7"},
        {"a" * 21: "7"},
        {"tenant": None},
        {"tenant": 1.5},
        {"tenant": 2**31},
        {"tenant": "a\nb"},
        {"tenant": "\ufffe"},
        {"tracestate": "a=1"},
        {"data_base64": "AA=="},
        {"data": float("nan")},
    ):
        assert broken_rules({**made, **change}), change
    assert broken_rules({name: value for name, value in made.items() if name != "id"})


# -- what others have made --------------------------------------------------------------------------


def test_an_event_that_another_implementation_has_made() -> None:
    """With what receive() needs, and no more: the rest has its defaults."""
    attributes = {
        "specversion": "1.0",
        "id": str(uuid.UUID(int=5)),
        "source": "/shop",
        "type": "paid",
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "receiver": "mail.receipt",
    }
    event = DurableEvent.from_cloudevent(
        JSONFormat().write(CloudEvent(attributes, {"data": {"amount": 5}}))
    )
    assert event == DurableEvent(
        id=uuid.UUID(int=5),
        type="paid",
        receiver="mail.receipt",
        model="shop",
        key=(),
        data={"amount": 5},
        sent_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("{", "is not JSON"),
        (b"\xff", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("5", "is not a CloudEvent 1.0, but 5; give receive"),
        ([], "is not a CloudEvent 1.0, but "),
        (None, "is not a CloudEvent 1.0, but None"),
        ({}, "is not a CloudEvent 1.0, but "),
        ({"specversion": "0.3"}, "is not a CloudEvent 1.0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_a_cloudevent(event: Any, message: str) -> None:
    """The error says what was received, and what is expected."""
    with pytest.raises(OutboxError, match=message):
        DurableEvent.from_cloudevent(event)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "7"},
        {"id": 7},
        {"receiver": ""},
        {"receiver": None},
        {"type": ""},
        {"source": 5},
        {"time": "yesterday"},
        {"time": None},
        {"version": "new"},
        {"generation": None},
        {"partitionkey": "blue"},
        {"data": None},
        {"data": "text"},
        {"data": [1, 2]},
        {"data": {"headers": 5}},
        {"data": {"key": 5}},
        {"data": {"changed": 5}},
        {"data": {"values": [5]}},
        {"data": {"data": "text"}},
    ],
    ids=str,
)
def test_a_cloudevent_of_somebody_else(change: dict[str, Any]) -> None:
    """Whatever is missing or has another meaning, the error says what to give instead."""
    made = {**an_event().as_cloudevent(), **change}
    with pytest.raises(OutboxError, match=r"not one of an outbox \(.*\); give receive\(\) what a"):
        DurableEvent.from_cloudevent(made)


@pytest.mark.parametrize("name", ["id", "receiver", "type", "source", "time", "data"])
def test_a_cloudevent_without_an_attribute(name: str) -> None:
    """The error names what is missing."""
    made = an_event().as_cloudevent()
    del made[name]
    with pytest.raises(OutboxError, match=rf"not one of an outbox \(KeyError: '{name}'\)"):
        DurableEvent.from_cloudevent(made)
