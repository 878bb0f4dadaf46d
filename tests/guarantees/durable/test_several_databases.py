"""Several databases, and several tenants of one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kit.claims import async_outbox_engine
from kit.databases import Database, create_all, postgresql_database, sqlite_database
from kit.outbox_workers import eventually
from sqlalchemy import URL, MetaData, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSchema, DropSchema

from aksara_signals import post_save
from aksara_signals.contrib.outbox import DurableEvent, Outbox
from aksara_signals.contrib.outbox.rows.locking import serialize
from aksara_signals.contrib.outbox.rows.tables import DONE
from aksara_signals.exceptions import OutboxError
from aksara_signals.orm import SignalMixin


class OrderBase(SignalMixin, DeclarativeBase):
    metadata = MetaData()


class Order(OrderBase):
    __tablename__ = "order_of_two"

    id: Mapped[int] = mapped_column(primary_key=True)


class BillBase(SignalMixin, DeclarativeBase):
    metadata = MetaData()


class Bill(BillBase):
    __tablename__ = "bill_of_two"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]


class TenantBase(SignalMixin, DeclarativeBase):
    metadata = MetaData(schema="tenant")


class Visit(TenantBase):
    __tablename__ = "visit"

    id: Mapped[int] = mapped_column(primary_key=True)
    page: Mapped[str]


class Seen(TenantBase):
    __tablename__ = "seen"

    id: Mapped[int] = mapped_column(primary_key=True)
    page: Mapped[str]


orders = Outbox(OrderBase.metadata)
bills = Outbox(BillBase.metadata)
visits = Outbox(TenantBase.metadata, schema="tenant")


@pytest.fixture
async def engines(
    database: Database, tmp_path: Path
) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    """The databases of orders and of bills, with their outboxes."""
    first = async_outbox_engine(database)
    second_file = tmp_path / "second"
    second_file.mkdir()
    second = async_outbox_engine(sqlite_database(second_file))
    await create_all(first, OrderBase.metadata)
    await create_all(second, BillBase.metadata)
    orders.install()
    bills.install()
    yield first, second
    bills.uninstall()
    orders.uninstall()
    await first.dispose()
    await second.dispose()


async def rows(engine: AsyncEngine, outbox: Outbox) -> list[Any]:
    async with engine.begin() as connection:
        return list(await connection.execute(select(outbox.tables.outbox)))


async def test_two_databases_and_a_worker_for_each(
    engines: tuple[AsyncEngine, AsyncEngine],
) -> None:
    """A row is stored where its change is, and is delivered there by the worker of that database."""
    first, second = engines
    sessions = async_sessionmaker(binds={OrderBase: first, BillBase: second})
    received: list[Any] = []

    async def bill(event: DurableEvent, session: AsyncSession, **kwargs: Any) -> None:
        if event.key == (1,):
            session.add(Order(id=2))  # in the same transaction; a bill is in another database
        received.append(("order", *event.key))

    async def print_bill(event: DurableEvent, **kwargs: Any) -> None:
        received.append(("bill", *event.key))

    post_save.connect(bill, sender=Order, durable="two.bill")
    post_save.connect(print_bill, sender=Bill, durable="two.print")
    async with sessions.begin() as session:
        session.add_all([Order(id=1), Bill(id=7, order_id=1)])
    assert [row.receiver for row in await rows(first, orders)] == ["two.bill"]
    assert [row.receiver for row in await rows(second, bills)] == ["two.print"]

    async with (
        orders.worker(async_sessionmaker(first)),
        bills.worker(async_sessionmaker(second)),
    ):
        await eventually(lambda: len(received) >= 3, 30)
    assert sorted(received) == [("bill", 7), ("order", 1), ("order", 2)]
    assert [row.status for row in await rows(first, orders)] == [DONE, DONE]
    assert [row.status for row in await rows(second, bills)] == [DONE]


async def test_a_worker_with_sessions_of_another_database(
    engines: tuple[AsyncEngine, AsyncEngine],
) -> None:
    """It does not start: what a receiver writes could not be committed with the mark."""
    first, second = engines

    async def pay(instance: Bill, session: AsyncSession, **kwargs: Any) -> None: ...

    post_save.connect(pay, sender=Bill, durable="two.pay")
    tables = dict.fromkeys((orders.tables.outbox, orders.tables.breaker), first)
    sessions = async_sessionmaker(binds={OrderBase: first, BillBase: second, **tables})
    with pytest.raises(OutboxError, match="another database"):
        await orders.worker(sessions, receivers=["two.pay"]).run_until_idle()


TENANTS = ("acme", "Bob's Shop", 'with "quotes"')


@pytest.fixture
async def tenants(postgresql_server: URL) -> AsyncIterator[dict[str, AsyncEngine]]:
    """An engine for each tenant's schema."""
    with postgresql_database(postgresql_server) as database:
        engine = async_outbox_engine(database)
        found = {}
        schemas = {name: f"{name} {database.schema}" for name in TENANTS}
        async with engine.begin() as connection:
            for schema in schemas.values():
                await connection.execute(CreateSchema(schema))
        for name, schema in schemas.items():
            found[name] = engine.execution_options(schema_translate_map={"tenant": schema})
            await create_all(found[name], TenantBase.metadata)
        visits.install()
        yield found
        visits.uninstall()
        async with engine.begin() as connection:
            for schema in schemas.values():
                await connection.execute(DropSchema(schema, cascade=True))
        await engine.dispose()


async def test_tenants_have_schemas(tenants: dict[str, AsyncEngine]) -> None:
    """With ``schema_translate_map``, rows, claims and effects stay in the tenant's schema."""

    async def see(
        event: DurableEvent, instance: Visit, session: AsyncSession, **kwargs: Any
    ) -> None:
        session.add(Seen(page=instance.page))

    post_save.connect(see, sender=Visit, durable="tenants.see")
    for name, engine in tenants.items():
        async with async_sessionmaker(engine).begin() as session:
            session.add_all(Visit(page=f"{name} {number}") for number in range(5))
    workers = [visits.worker(async_sessionmaker(engine)) for engine in tenants.values()]
    async with asyncio.timeout(30):
        await asyncio.gather(*(worker.run_until_idle() for worker in workers))
    for name, engine in tenants.items():
        async with async_sessionmaker(engine)() as session:
            pages = await session.scalars(select(Seen.page).order_by(Seen.page))
            assert list(pages) == [f"{name} {number}" for number in range(5)]
        assert [row.status for row in await rows(engine, visits)] == [DONE] * 5


async def test_the_claims_of_one_tenant_dont_wait_for_another(
    tenants: dict[str, AsyncEngine],
) -> None:
    """Claims are serial within a schema, not across schemas."""
    first, second, third = tenants.values()
    async with first.begin() as one, second.begin() as two, third.begin() as three:
        async with asyncio.timeout(10):
            for connection in (one, two, three):
                await connection.run_sync(serialize, visits.tables)
            again = asyncio.create_task(_serialize(first))
            await asyncio.wait([again], timeout=0.2)
            assert not again.done()
    await again


async def _serialize(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(serialize, visits.tables)
