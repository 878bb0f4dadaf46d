"""The databases of the tests themselves behave as the tests assume."""

import pytest
from kit.databases import create_all
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", Integer, primary_key=True))


@pytest.mark.parametrize("attempt", [1, 2])
async def test_each_test_has_an_empty_database(async_engine, attempt):
    """What one test writes, the next doesn't see."""
    await create_all(async_engine, METADATA)
    async with async_engine.begin() as connection:
        assert await connection.scalar(select(func.count()).select_from(THINGS)) == 0
        await connection.execute(insert(THINGS).values(id=attempt))


async def test_both_drivers_reach_one_database(async_engine, sync_engine):
    """A row written over the async driver is read over the sync one."""
    await create_all(async_engine, METADATA)
    async with async_engine.begin() as connection:
        await connection.execute(insert(THINGS).values(id=1))
    with sync_engine.connect() as connection:
        assert connection.scalar(select(THINGS.c.id)) == 1


async def test_a_rolled_back_savepoint_takes_only_its_own_rows(async_engine):
    """Savepoints are real on both databases, and what surrounds them can still be rolled back."""
    await create_all(async_engine, METADATA)
    async with async_engine.connect() as connection:
        await connection.execute(insert(THINGS).values(id=1))
        savepoint = await connection.begin_nested()
        await connection.execute(insert(THINGS).values(id=2))
        await savepoint.rollback()
        savepoint = await connection.begin_nested()
        await connection.execute(insert(THINGS).values(id=3))
        await savepoint.commit()
        rows = await connection.scalars(select(THINGS.c.id).order_by(THINGS.c.id))
        assert rows.all() == [1, 3]
        await connection.rollback()
        assert await connection.scalar(select(func.count()).select_from(THINGS)) == 0
