"""Rows of the outbox: one INSERT for each flush, and what each row says."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit.databases import create_all
from kit.outbox_world import (
    Article,
    ArticleLabel,
    Base,
    Label,
    Storehouse,
    inserts,
    rows_in,
    stored,
)
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from aksara_signals import (
    Signal,
    SignalContext,
    m2m_changed,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_relation_add,
    post_relation_remove,
    post_save,
    post_update,
)
from aksara_signals.contrib.outbox import Durable
from aksara_signals.contrib.outbox.writing import header_hooks, lane_of
from aksara_signals.orm import loading_fixtures

pytestmark = pytest.mark.usefixtures("outbox")

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_writing.{next(_numbers)}"


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session on empty tables."""
    await create_all(async_engine, Base.metadata)
    async with async_sessionmaker(async_engine)() as session:
        yield session


@pytest.fixture
def plain(sync_engine: Engine) -> Iterator[Session]:
    """A plain session on empty tables."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def receiver() -> Any:
    def receive(**kwargs: Any) -> None:
        raise AssertionError("a worker calls it")

    return receive


def connect(signal: Signal, sender: Any, durable: Any, **options: Any) -> None:
    signal.connect(receiver(), sender=sender, durable=durable, **options)


# -- one INSERT -----------------------------------------------------------------------------------


async def test_a_flush_makes_one_insert(
    session: AsyncSession, async_engine: AsyncEngine, name: str
) -> None:
    """Whatever the rows, the signals and the receivers."""
    connect(post_save, Article, f"{name}.a")
    connect(post_save, Article, f"{name}.b")
    connect(post_save, Storehouse, f"{name}.c")
    connect(post_delete, Storehouse, f"{name}.d")
    connect(m2m_changed, ArticleLabel.__table__, f"{name}.e")
    connect(post_relation_add, Storehouse, f"{name}.f")
    old = Storehouse(name="old")
    session.add(old)
    await session.flush()
    with inserts(async_engine) as found:
        await session.delete(old)
        articles = [Article(title=str(number), labels=[Label(word="x")]) for number in range(3)]
        session.add(Storehouse(name="new", articles=articles))
        await session.commit()
    assert found == ["INSERT"]
    types = [(row.type, row.receiver[-1]) for row in await stored(session)]
    # The shop's own first row; then the flush: deletes, rows in their order, links.
    assert sorted(types[1:]) == sorted(
        [("post_delete", "d"), ("post_save", "c")]
        + [("post_save", "a"), ("post_save", "b")] * 3
        + [("m2m_changed", "e")] * 3
        + [("post_relation_add", "f")] * 3
    )


def test_a_plain_session_makes_one_insert(plain: Session, sync_engine: Engine, name: str) -> None:
    """By the driver of plain sessions, too."""
    connect(post_save, Article, name)
    with inserts(sync_engine) as found:
        plain.add_all(Article(title=str(number)) for number in range(5))
        plain.commit()
    assert found == ["INSERT"]
    assert [json.loads(row.aggregateid) for row in rows_in(plain)] == [[n] for n in range(1, 6)]


async def test_nothing_is_written_for_others(
    session: AsyncSession, async_engine: AsyncEngine, name: str
) -> None:
    """Neither for another class, nor for another kind of change, nor for an empty flush."""
    connect(post_save, Storehouse, f"{name}.a")
    connect(post_save, Article, f"{name}.b", created=False)
    connect(post_delete, Article, f"{name}.c")
    with inserts(async_engine) as found:
        session.add(Article(title="x"))
        await session.commit()
        await session.commit()
    assert found == []


# -- what a row says ------------------------------------------------------------------------------


async def test_a_row_says_what_was_saved(session: AsyncSession, name: str) -> None:
    """Names and keys, and no value of any column."""
    connect(post_save, Article, name)
    article = Article(title="classified", secret="password")
    session.add(article)
    await session.commit()
    article.title = "unclassified"
    await session.commit()
    created, updated = await stored(session)
    model = f"{Article.__module__}.Article"
    for row in (created, updated):
        assert (row.receiver, row.type, row.aggregatetype) == (name, "post_save", model)
        assert row.aggregateid == "[1]"
        assert row.lane == lane_of(name, model, "[1]")
        assert (row.version, row.generation, row.status, row.attempts) == (1, 0, 0, 0)
        assert row.headers is None
        assert row.visible_at is None
        assert row.leased_by is None
        assert row.created_at is not None
    assert created.id != updated.id
    assert created.payload == {
        "v": 1,
        "key": [1],
        "created": True,
        "changed": ["secret", "title"],
    }
    assert updated.payload["created"] is False
    assert "title" in updated.payload["changed"]
    assert "secret" not in updated.payload["changed"]
    assert not {"classified", "password"} & set(str((created, updated)).split("'"))


def test_one_id_for_all_receivers_of_a_send(plain: Session, name: str) -> None:
    """An idempotency key for what they have in common."""
    for letter in "ab":
        connect(post_save, Article, f"{name}.{letter}")
    plain.add_all([Article(title="x"), Article(title="y")])
    plain.commit()
    one, two, three, four = (row.id for row in rows_in(plain))
    assert one == two != three == four


def test_changed_names_what_was_written(plain: Session, name: str) -> None:
    """Set columns, onupdate, SQL and values that are changed in place; no relationship."""
    connect(post_save, Article, name)
    article = Article(title="a", details={"size": 1}, shop=Storehouse(name="s"))
    plain.add(article)
    plain.commit()

    def changed() -> set[str]:
        plain.commit()
        return set(rows_in(plain)[-1].payload.get("changed", ()))

    assert changed() == {"title", "details", "shop_id"}
    article.title = "b"
    assert changed() == {"title"}
    article.stock = Article.stock + 1
    assert changed() == {"stock"}
    article.details["size"] = 2  # type: ignore[index]
    assert changed() == {"details"}
    article.title, article.secret = "c", "s"
    assert changed() == {"title", "secret"}
    plain.refresh(article)
    article.title = "c"  # no change, no row
    count = len(rows_in(plain))
    plain.commit()
    assert len(rows_in(plain)) == count
    plain.add(Article(title=func.lower("NEW")))
    assert changed() == {"title"}


def test_changed_names_what_changes_holds(plain: Session, name: str) -> None:
    """Of an UPDATE, the names are those in the ``changes`` that other receivers are sent."""
    connect(post_save, Article, name)
    sent: list[set[str]] = []

    def note(changes: Any, **kwargs: Any) -> None:
        sent.append(set(changes))

    article = Article(title="a", stock=1, details={"a": 1})
    plain.add(article)
    plain.commit()
    post_save.connect(note, sender=Article)
    article.title, article.stock, article.shop = "b", Article.stock + 1, Storehouse(name="s")
    article.details["b"] = 2  # type: ignore[index]
    plain.commit()
    assert [set(row.payload["changed"]) for row in rows_in(plain)[1:]] == sent


async def test_changed_names_what_save_was_given(session: AsyncSession, name: str) -> None:
    """save(update_fields=…) writes these, and leaves other changes pending."""
    connect(post_save, Article, name)
    article = Article(title="a")
    await article.save(session=session)
    await session.commit()
    await session.refresh(article)
    article.title, article.secret = "b", "pending"
    await article.save(session=session, update_fields=["title"])
    with session.no_autoflush:
        row = (await stored(session))[-1]
    assert set(row.payload["changed"]) == {"title"}
    assert row.payload["data"] == {"update_fields": ["title"]}
    await session.commit()
    row = (await stored(session))[-1]
    assert set(row.payload["changed"]) == {"secret"}
    assert "data" not in row.payload


async def test_a_requested_save_is_stored_without_a_change(
    session: AsyncSession, name: str
) -> None:
    """As it is sent: changed is empty."""
    connect(post_save, Article, name)
    article = Article(title="a")
    await article.save(session=session)
    await article.save(session=session)
    payload = (await stored(session))[-1].payload
    assert payload["created"] is False
    assert "changed" not in payload


def test_a_deleted_row_has_its_key(plain: Session, name: str) -> None:
    """And nothing about changes."""
    connect(post_delete, Article, name)
    article = Article(title="x")
    plain.add(article)
    plain.commit()
    article.title = "not written"
    plain.delete(article)
    plain.commit()
    (row,) = rows_in(plain)
    assert (row.type, row.payload) == ("post_delete", {"v": 1, "key": [1]})


def test_a_row_switch_is_a_delete_and_an_insert(plain: Session, name: str) -> None:
    """Though the database is sent an UPDATE; in this order, in one lane."""
    connect(post_save, Article, name)
    plain.add(Article(id=5, title="old"))
    plain.commit()
    post_delete.connect(post_save.connections[-1].receiver, sender=Article, durable=name)
    plain.delete(plain.get_one(Article, 5))
    plain.add(Article(id=5, title="new"))
    plain.commit()
    _, deleted, created = rows_in(plain)
    assert (deleted.type, created.type) == ("post_delete", "post_save")
    assert created.payload["created"] is True
    assert deleted.lane == created.lane


def test_the_key_is_the_new_one(plain: Session, name: str) -> None:
    """A row whose key was changed is found under its new one only."""
    connect(post_save, Article, name)
    article = Article(id=1, title="x")
    plain.add(article)
    plain.commit()
    article.id = 2
    plain.commit()
    assert [row.payload["key"] for row in rows_in(plain)] == [[1], [2]]


def test_update_signals_come_first(plain: Session, name: str) -> None:
    """post_update before post_save, as for other receivers."""
    connect(post_save, Article, f"{name}.a")
    connect(post_update, Article, f"{name}.b")
    article = Article(title="x")
    plain.add(article)
    plain.commit()
    article.title = "y"
    plain.commit()
    assert [row.type for row in rows_in(plain)] == ["post_save", "post_update", "post_save"]


def test_created_narrows(plain: Session, name: str) -> None:
    """A receiver of INSERTs gets no row for an UPDATE, and one with both connections gets one."""
    connect(post_save, Article, f"{name}.created", created=True)
    connect(post_save, Article, f"{name}.updated", created=False)
    article = Article(title="x")
    plain.add(article)
    plain.commit()
    article.title = "y"
    plain.commit()
    assert [row.receiver.rpartition(".")[2] for row in rows_in(plain)] == ["created", "updated"]


def test_priorities_are_the_order_of_rows(plain: Session, name: str) -> None:
    """As they are the order of calls."""
    connect(post_save, Article, f"{name}.low", priority=-1)
    connect(post_save, Article, f"{name}.high", priority=1)
    plain.add(Article(title="x"))
    plain.commit()
    assert [row.receiver.rpartition(".")[2] for row in rows_in(plain)] == ["high", "low"]


def test_rows_come_before_receivers(plain: Session, name: str) -> None:
    """A receiver that writes the same object again makes a later row."""
    connect(post_save, Article, name)

    def edit(instance: Article, created: bool, session: Session, **kwargs: Any) -> None:
        if created:
            instance.title = "edited"
            session.flush()

    post_save.connect(edit, sender=Article, priority=99)
    plain.add(Article(title="x"))
    plain.commit()
    assert [row.payload["created"] for row in rows_in(plain)] == [True, False]


async def test_silenced_changes_are_not_stored(session: AsyncSession, name: str) -> None:
    """SignalContext silences durable receivers like any others, or one by one."""
    connect(post_save, Article, f"{name}.a")
    connect(post_save, Article, f"{name}.b")
    connect(post_bulk_create, Article, f"{name}.c")
    silent = post_save.connections[-2].receiver
    with SignalContext(signals=[post_save, post_bulk_create]):
        await Article(title="a").save(session=session)
        await Article.objects.bulk_create([Article(title="b")], session=session)
        await post_save.send(Article, instance=Article(), session=session)
    assert await stored(session) == []
    with SignalContext(Article, receivers=[silent]):
        await Article(title="c").save(session=session)
    assert [row.receiver for row in await stored(session)] == [f"{name}.b"]


def test_fixtures_are_stored_as_raw(plain: Session, name: str) -> None:
    """The receiver is told later, too."""
    connect(post_save, Article, name)
    with loading_fixtures():
        plain.add(Article(title="x"))
        plain.flush()
    plain.add(Article(title="y"))
    plain.commit()
    raw, usual = rows_in(plain)
    assert raw.payload["data"] == {"raw": True}
    assert "data" not in usual.payload


def test_lanes_are_those_of_one_object(plain: Session, name: str) -> None:
    """By receiver, class and key; a former name's lane is that of its successor."""
    connect(post_save, Article, f"{name}.a")
    connect(post_save, Article, Durable(f"{name}.b", formerly=(f"{name}.older", f"{name}.old")))
    connect(post_save, Article, Durable(f"{name}.c", ordered=False))
    plain.add(Article(title="x"))
    plain.commit()
    one, renamed, unordered = rows_in(plain)
    assert one.lane == lane_of(f"{name}.a", one.aggregatetype, "[1]")
    assert renamed.lane == lane_of(f"{name}.older", one.aggregatetype, "[1]")
    assert unordered.lane is None
    assert -(2**63) <= one.lane < 2**63


def test_the_version_is_that_of_the_receiver(plain: Session, name: str) -> None:
    """So that a later one knows what it has to upgrade."""
    connect(post_save, Article, Durable(name, version=3))
    plain.add(Article(title="x"))
    plain.commit()
    assert rows_in(plain)[0].version == 3


def test_headers_are_added_to_each_row(
    plain: Session, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the trace in which it was sent."""
    monkeypatch.setattr(
        "aksara_signals.contrib.outbox.writing.header_hooks",
        [lambda headers: headers.update(traceparent="00-1-2-03")],
    )
    assert header_hooks == []
    connect(post_save, Article, name)
    plain.add(Article(title="x"))
    plain.commit()
    assert rows_in(plain)[0].headers == {"traceparent": "00-1-2-03"}


def test_the_time_is_that_of_the_database(plain: Session, name: str) -> None:
    """With a fraction of a second, by which rows can be compared with others' clocks."""
    connect(post_save, Article, name)
    plain.add(Article(title="x"))
    plain.commit()
    row = rows_in(plain)[0]
    now = plain.scalar(select(func.current_timestamp()))
    assert now is not None
    gap = row.created_at.timestamp() - now.timestamp()
    assert abs(gap) < 60


# -- links and bulk operations --------------------------------------------------------------------


async def test_bulk_operations_make_one_row_each(
    session: AsyncSession, async_engine: AsyncEngine, name: str
) -> None:
    """With the keys of all their rows, and the names of the fields."""
    connect(post_bulk_create, Article, f"{name}.a")
    connect(post_bulk_update, Article, f"{name}.b")
    articles = [Article(title=str(number)) for number in range(3)]
    with inserts(async_engine) as found:
        await Article.objects.bulk_create(articles, session=session)
        for article in articles:
            article.title = "new"
        await Article.objects.bulk_update(articles, fields=["title"], session=session)
    await session.commit()
    assert found == ["INSERT", "INSERT"]
    created, updated = await stored(session)
    assert created.payload == {"v": 1, "key": None, "data": {"keys": [[1], [2], [3]]}}
    assert created.aggregateid is None
    assert created.aggregatetype.endswith(".Article")
    assert updated.payload["data"] == {"keys": [[1], [2], [3]], "fields": ["title"]}


def test_links_are_stored_with_their_keys(plain: Session, name: str) -> None:
    """The owner's, and those of the other side, with its class and that of the table."""
    connect(m2m_changed, ArticleLabel.__table__, f"{name}.a")
    connect(post_relation_add, Article, f"{name}.b")
    connect(post_relation_remove, Article, f"{name}.c")
    article, label = Article(title="x"), Label(word="new")
    article.labels.append(label)
    plain.add(article)
    plain.commit()
    article.labels.remove(label)
    plain.commit()
    rows = rows_in(plain)
    model = f"{Label.__module__}.Label"
    added, related, removed, unrelated = rows
    assert {row.payload["key"][0] for row in rows} == {1}
    assert added.payload["data"] == {
        "action": "post_add",
        "reverse": False,
        "model": model,
        "pk_set": [1],
        "table": "article_label",
    }
    assert removed.payload["data"]["action"] == "post_remove"
    for row in (related, unrelated):
        assert row.payload["data"] == {
            "relation_name": "labels",
            "passed_args": {},
            "child_model": model,
            "child": [1],
        }
    assert [row.type for row in rows] == [
        "m2m_changed",
        "post_relation_add",
        "m2m_changed",
        "post_relation_remove",
    ]


# -- custom signals -------------------------------------------------------------------------------


async def test_custom_signals_are_stored_at_once(
    session: AsyncSession, async_engine: AsyncEngine, name: str
) -> None:
    """With what they send, and the sender in words."""
    paid = Signal(name)
    connect(paid, None, name)
    with inserts(async_engine) as found:
        await paid.send("shop", session=session, amount=5, items=["a", {"b": None}])
        assert found == ["INSERT"]
    (row,) = await stored(session)
    assert (row.type, row.aggregatetype, row.aggregateid) == (name, "shop", None)
    assert row.payload == {
        "v": 1,
        "key": None,
        "data": {"amount": 5, "items": ["a", {"b": None}]},
    }


@pytest.mark.parametrize(
    "argument",
    ["model", "child", "objects", "instances", "keys", "pk_set", "table", "fields", "changes"],
)
def test_custom_signals_send_any_names(plain: Session, name: str, argument: str) -> None:
    """What the built-in signals mean by them is nothing to a custom one."""
    scaled = Signal(name)
    connect(scaled, None, name)
    for value in (3, "T-1000", [1, 2], None):
        scaled.send_sync("aws", session=plain, **{argument: value})
    assert [row.payload["data"] for row in rows_in(plain)] == [
        {argument: value} for value in (3, "T-1000", [1, 2], None)
    ]


def test_custom_signals_may_be_about_a_row(plain: Session, name: str) -> None:
    """Its key is stored, in the lane of the row; by the instance's own session."""
    published = Signal(name)
    connect(published, None, Durable(name, include=("title",)))
    article = Article(title="x")
    plain.add(article)
    plain.flush()
    published.send_sync(Article, instance=article, by="me")
    (row,) = rows_in(plain)
    assert row.payload == {
        "v": 1,
        "key": [1],
        "data": {"by": "me"},
        "values": {"title": "x"},
    }
    assert row.aggregatetype.endswith(".Article")
