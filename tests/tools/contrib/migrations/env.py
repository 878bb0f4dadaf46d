"""Alembic's environment, as its templates have it, but for one line: ``with migration_signals()``."""

import asyncio

from alembic import context
from kit.blog import Base
from sqlalchemy import Connection

from aksara_signals.contrib.alembic import migration_signals

database = context.config.attributes["database"]


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction(), migration_signals():
        context.run_migrations()


def run_offline() -> None:
    context.configure(
        dialect_name=database.dialect, target_metadata=Base.metadata, literal_binds=True
    )
    with context.begin_transaction(), migration_signals():
        context.run_migrations()


def run_sync() -> None:
    engine = database.create_sync_engine()
    try:
        with engine.connect() as connection:
            run(connection)
    finally:
        engine.dispose()


async def run_async() -> None:
    engine = database.create_async_engine()
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    run_offline()
elif context.config.attributes["is_async"]:
    asyncio.run(run_async())
else:
    run_sync()
