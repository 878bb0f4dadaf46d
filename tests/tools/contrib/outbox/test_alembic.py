"""Alembic makes the tables of an outbox from the application's metadata, and then finds no difference."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from kit.claims import Store, outbox_engine, seqs
from kit.databases import Database
from sqlalchemy import Column, Integer, MetaData, Table, inspect

from aksara_signals.contrib.outbox.rows.tables import Tables, make_tables

ENVIRONMENT = """
from alembic import context

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes["metadata"],
        compare_server_default=context.config.attributes["compares_defaults"],
    )
    with context.begin_transaction():
        context.run_migrations()
"""

CONVENTION = {
    "ix": "index_%(column_0_label)s",
    "pk": "key_%(table_name)s",
}


@pytest.fixture(params=[None, CONVENTION], ids=["plain", "convention"])
def metadata(request: pytest.FixtureRequest) -> MetaData:
    """An application's metadata, with and without names of its own for indexes and keys."""
    metadata = MetaData(naming_convention=request.param)
    Table("post", metadata, Column("id", Integer, primary_key=True))
    return metadata


@pytest.fixture
def tables(metadata: MetaData) -> Tables:
    return make_tables(metadata)


@pytest.fixture
async def store(database: Database, tables: Tables) -> Store:
    store = Store(outbox_engine(database), tables)
    yield store
    await store.dispose()


@pytest.fixture
def config(tmp_path: Path, store: Store, metadata: MetaData) -> Config:
    """The configuration of a new project of Alembic."""
    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    folder = tmp_path / "migrations"
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.config_file_name = str(tmp_path / "alembic.ini")
    command.init(config, str(folder))
    (folder / "env.py").write_text(ENVIRONMENT, encoding="utf-8")
    config.attributes["engine"] = store.engine
    config.attributes["metadata"] = metadata
    # Where there are no identity columns, they are compared as server defaults, if it is asked to.
    config.attributes["compares_defaults"] = store.engine.dialect.supports_identity_columns
    return config


def migrate(config: Config) -> None:
    """Generate a migration, and run it."""
    command.revision(config, "the outbox", autogenerate=True)
    command.upgrade(config, "head")


def indexes(store: Store) -> list[tuple[str, list[str]]]:
    found = inspect(store.engine).get_indexes(store.tables.outbox.name)
    return sorted((each["name"], each["column_names"]) for each in found)


async def test_a_migration_makes_tables_that_work(config: Config, store: Store) -> None:
    """After revision --autogenerate and upgrade, rows are written, claimed and done."""
    migrate(config)
    await store.write({"lane": 7}, {"lane": 7}, {"headers": {"a": 1}})
    assert seqs(await store.claim()) == [1, 2, 3]
    assert await store.done("one", 1, 2, 3) == 3
    assert [name for name, _ in indexes(store)] == [
        "ix_aksara_outbox_dead",
        "ix_aksara_outbox_done",
        "ix_aksara_outbox_due",
        "ix_aksara_outbox_fresh",
    ]


async def test_a_second_migration_is_empty(config: Config) -> None:
    """Alembic finds no difference any more, neither in columns nor in partial indexes."""
    migrate(config)
    command.check(config)


async def test_a_migration_makes_what_create_all_makes(
    config: Config, store: Store, database: Database, metadata: MetaData
) -> None:
    """Conditions of indexes and settings of storage are in the migration, too."""

    def definitions() -> list[tuple[object, ...]]:
        statement = {
            "sqlite": "SELECT name, replace(sql, '\"', '') FROM sqlite_master "
            "WHERE type = 'index' AND tbl_name LIKE 'aksara%' ORDER BY name",
            "postgresql": "SELECT relname::text, reloptions::text, pg_get_indexdef(indexrelid) "
            "FROM pg_class LEFT JOIN pg_index ON indexrelid = oid "
            "WHERE relnamespace = current_schema()::regnamespace AND relname ~ 'aksara' "
            "ORDER BY relname",
            "mariadb": "SELECT table_name, index_name, seq_in_index, column_name "
            "FROM information_schema.statistics "
            "WHERE table_schema = database() AND table_name LIKE 'aksara%%' ORDER BY 1, 2, 3",
        }[database.dialect]
        with store.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    await store.create()
    expected = definitions()
    await store.run(metadata.drop_all)
    migrate(config)
    assert definitions() == expected
    if database.dialect == "postgresql":
        stored = {row[0]: row[1] for row in expected}
        assert stored["aksara_outbox"] == "{fillfactor=70,autovacuum_vacuum_scale_factor=0.01}"


async def test_a_migration_can_be_taken_back(config: Config, store: Store) -> None:
    """downgrade drops the tables."""
    migrate(config)
    command.downgrade(config, "base")
    assert not [name for name in inspect(store.engine).get_table_names() if "aksara" in name]


async def test_one_migration_serves_every_database(config: Config, tmp_path: Path) -> None:
    """What was generated on the one database names nothing that only it understands."""
    migrate(config)
    (script,) = (tmp_path / "migrations" / "versions").glob("*.py")
    text = script.read_text(encoding="utf-8")
    is_mysql = config.attributes["engine"].dialect.name == "mariadb"
    assert ("utc_timestamp(6)" if is_mysql else "CURRENT_TIMESTAMP") in text
    assert "strftime" not in text
