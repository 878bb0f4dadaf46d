"""Values of columns in rows: those of include=, no others, and what can't be stored."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from kit.databases import create_all
from kit.outbox_world import Article, Base, Color, Reading, Storehouse, inserts, rows_in, stored
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from aksara_signals import (
    InvalidOptionError,
    Signal,
    SignalPayloadError,
    post_bulk_create,
    post_delete,
    post_save,
)
from aksara_signals.contrib.outbox import Durable, Outbox

pytestmark = pytest.mark.usefixtures("outbox")

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_written_values.{next(_numbers)}"


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


def connect(signal: Signal, sender: Any, durable: Any, **options: Any) -> None:
    def receive(**kwargs: Any) -> None: ...

    signal.connect(receive, sender=sender, durable=durable, **options)


def values(plain: Session) -> Any:
    return rows_in(plain)[-1].payload["values"]


# -- include --------------------------------------------------------------------------------------


async def test_included_columns_have_their_values(session: AsyncSession, name: str) -> None:
    """Those that the database has made, too; each receiver has its own, and one without has none."""
    connect(post_save, Article, Durable(f"{name}.a", include=("stock", "title", "id")))
    connect(post_save, Article, Durable(f"{name}.b", include=("secret", "details")))
    connect(post_save, Article, f"{name}.c")
    session.add(Article(title=func.lower("SQL"), details={"a": [1]}))
    await session.commit()
    one, two, three = (row.payload for row in await stored(session))
    assert one["values"] == {"stock": 7, "title": "sql", "id": 1}
    assert two["values"] == {"secret": None, "details": {"a": [1]}}
    assert "values" not in three


async def test_values_are_those_of_the_send(session: AsyncSession, name: str) -> None:
    """Later changes, and changes that stay pending, are not in them."""
    connect(post_save, Article, Durable(name, include=("title", "secret")))
    article = Article(title="a", secret="old")
    session.add(article)
    await session.commit()
    await session.refresh(article)
    article.title, article.secret = "b", "pending"
    await article.save(session=session, update_fields=["title"])
    await session.commit()
    rows = await stored(session)
    assert [row.payload["values"] for row in rows] == [
        {"title": "a", "secret": "old"},
        {"title": "b", "secret": "old"},
        {"title": "b", "secret": "pending"},
    ]


def test_a_deleted_row_has_values(plain: Session, name: str) -> None:
    """The only way to know them later; expired ones are loaded before the DELETE."""
    connect(post_delete, Article, Durable(name, include=("title", "stock")))
    article = Article(title="x")
    plain.add(article)
    plain.commit()
    plain.delete(article)
    plain.commit()
    assert values(plain) == {"title": "x", "stock": 7}


def test_an_updated_row_has_all_values(plain: Session, name: str) -> None:
    """Also those that were expired."""
    connect(post_save, Article, Durable(name, include=("title", "edited", "stock")))
    article = Article(title="a")
    plain.add(article)
    plain.commit()
    article.stock = Article.stock + 1
    plain.commit()
    assert values(plain) == {"title": "a", "edited": "now", "stock": 8}


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("titel", "is no column of the class.*'title'"),
        ("shop", "is no column of the class"),
        ("body", "isn't loaded"),
    ],
)
def test_what_can_not_be_included_is_an_error(
    plain: Session, name: str, wanted: str, reason: str
) -> None:
    """Before anything is lost: the transaction is rolled back."""
    plain.add(Article(title="first", body="long"))
    plain.commit()
    connect(post_save, Article, Durable(name, include=(wanted,)))
    article = plain.scalars(select(Article)).one()
    article.title = "second"
    with pytest.raises(SignalPayloadError, match=f"'{name}': '{wanted}' of include= {reason}"):
        plain.commit()
    plain.rollback()
    assert rows_in(plain) == []
    assert article.title == "first"


def test_a_deferred_column_is_included_where_it_is_loaded(plain: Session, name: str) -> None:
    """As of a new row that was given one."""
    connect(post_save, Article, Durable(name, include=("body",)))
    plain.add(Article(title="x", body="long"))
    plain.commit()
    assert values(plain) == {"body": "long"}


def test_bulk_signals_include_nothing(name: str) -> None:
    """They are about many rows, so this is refused when the receiver is connected."""
    with pytest.raises(InvalidOptionError, match="and include=, because it is about many rows"):
        connect(post_bulk_create, Article, Durable(name, include=("title",)))


# -- what can't be stored -------------------------------------------------------------------------


class Opaque:
    def __repr__(self) -> str:
        return "the password"


async def test_what_has_no_encoder_is_refused(
    session: AsyncSession, async_engine: AsyncEngine, name: str
) -> None:
    """At the send, before a receiver is called; the error says where it is, without the value."""
    paid = Signal(name)
    called: list[Any] = []
    paid.connect(lambda **kwargs: called.append(kwargs))
    connect(paid, None, name)
    with (
        inserts(async_engine) as found,
        pytest.raises(SignalPayloadError, match=r"'.*': items\[0\]\['a'\] is .*Opaque") as error,
    ):
        await paid.send("shop", session=session, items=[{"a": Opaque()}])
    assert "password" not in str(error.value)
    assert "outbox.encoder(Opaque, function)" in str(error.value)
    assert found == called == []


async def test_what_is_refused_in_a_flush_rolls_it_back(session: AsyncSession, name: str) -> None:
    """So the change isn't stored without its row."""
    connect(post_save, Reading, Durable(name, include=("value",)))
    at = datetime(2026, 1, 2, tzinfo=UTC)
    if session.get_bind().dialect.name == "mysql":
        pytest.skip("MariaDB's drivers store no infinity, and say so before the row is made")
    reading = Reading(sensor=uuid4(), at=at, color=Color.RED, value=float("inf"))
    session.add(reading)
    with pytest.raises(SignalPayloadError, match=r"the column value is not a finite number"):
        await session.commit()
    await session.rollback()
    assert (await session.scalars(select(Reading))).all() == []
    assert await stored(session) == []


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_what_is_nested_too_deeply_for_mariadb_is_refused(plain: Session, name: str) -> None:
    """Its CHECK of a JSON column allows 32 levels; the error says so."""
    paid = Signal(name)
    connect(paid, None, name)
    deep: Any = 1
    for _ in range(30):
        deep = [deep]
    with pytest.raises(SignalPayloadError, match="MariaDB, which takes 32 levels"):
        paid.send_sync("shop", session=plain, items=deep)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_check_of_the_users_own_is_not_taken_for_it(
    plain: Session, name: str, outbox: Outbox
) -> None:
    """What fails it comes as the database says it."""
    paid = Signal(name)
    connect(paid, None, name)
    table = outbox.tables.outbox.name
    plain.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT shorter CHECK (length(payload) < 9)"))
    with pytest.raises(DBAPIError, match="shorter"):
        paid.send_sync("shop", session=plain, items=1)


def test_encoders_are_those_of_the_outbox(plain: Session, name: str, outbox: Outbox) -> None:
    """For values of columns and for what a signal sends."""
    paid = Signal(name)
    connect(paid, None, name)
    outbox.encoder(Opaque, lambda _: ["opaque"])
    try:
        paid.send_sync("shop", session=plain, what=Opaque())
    finally:
        del outbox.encoding._encoders[Opaque]
    assert rows_in(plain)[0].payload["data"] == {"what": ["opaque"]}


@pytest.mark.parametrize("given", ["no instance", 5, Opaque()])
def test_an_instance_is_a_mapped_one(plain: Session, name: str, given: Any) -> None:
    """A worker could load no other one."""
    paid = Signal(name)
    connect(paid, None, name)
    with pytest.raises(SignalPayloadError, match=r"instance is .*, which is no mapped instance"):
        paid.send_sync("shop", session=plain, instance=given)


def test_an_instance_has_a_key(plain: Session, name: str) -> None:
    """One that isn't written yet could never be found."""
    published = Signal(name)
    connect(published, None, name)
    article = Article(title="x")
    plain.add(article)
    with pytest.raises(SignalPayloadError, match="no primary key yet; flush the session"):
        published.send_sync(Article, session=plain, instance=article)
    plain.flush()
    published.send_sync(Article, session=plain, instance=article)
    assert rows_in(plain)[0].payload["key"] == [1]


def test_nul_in_a_sender_is_refused(plain: Session, name: str) -> None:
    """As in everything else that is stored."""
    paid = Signal(name)
    connect(paid, None, name)
    with pytest.raises(SignalPayloadError, match="the sender contains the character NUL"):
        paid.send_sync("a\0b", session=plain)


@pytest.mark.parametrize("sender", ["shop", None, 5, Opaque, Opaque(), "x" * 600])
def test_any_sender_is_stored_in_words(plain: Session, name: str, sender: Any) -> None:
    """Neither its repr() nor its address is among them, so that each process says the same."""
    paid = Signal(name)
    connect(paid, None, name)
    paid.send_sync(sender, session=plain)
    paid.send_sync(sender, session=plain)
    one, two = rows_in(plain)
    assert one.aggregatetype == two.aggregatetype
    assert 0 < len(one.aggregatetype) <= 500
    assert "0x" not in one.aggregatetype
    assert "password" not in one.aggregatetype


def test_a_long_signal_name_is_an_error_of_ours(plain: Session, name: str) -> None:
    """The column has 200 characters, which SQLite doesn't check."""
    paid = Signal(f"{name} {'x' * 200}")
    connect(paid, None, name)
    with pytest.raises(SignalPayloadError, match="the name of the signal has more than 200"):
        paid.send_sync("shop", session=plain)


# -- secrets --------------------------------------------------------------------------------------


async def test_no_value_leaks(
    session: AsyncSession,
    async_engine: AsyncEngine,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither into a row, nor into an error, nor into the log."""
    caplog.set_level(logging.DEBUG, "aksara_signals")
    connect(post_save, Article, Durable(f"{name}.a", include=("id",)))
    connect(post_delete, Article, f"{name}.b")
    session.add(Article(title="t0psecret", secret="t0psecret", shop=Storehouse(name="t0psecret")))
    await session.commit()
    article = (await session.scalars(select(Article))).one()
    article.secret = "t0psecret too"
    await session.commit()
    await session.delete(article)
    await session.commit()
    rows = await stored(session)
    assert len(rows) == 3
    assert "t0psecret" not in str(rows)
    connect(post_save, Article, Durable(f"{name}.c", include=("details",)))
    session.add(Article(title="x", details={"a": "t0psecret\0", "b": ["t0psecret"]}))
    with pytest.raises(SignalPayloadError) as error:
        await session.commit()
    cause = error.value.__cause__
    assert "t0psecret" not in f"{error.value} {cause}"
    assert "t0psecret" not in caplog.text
