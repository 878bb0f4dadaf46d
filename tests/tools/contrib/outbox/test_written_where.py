"""Where rows go: the database, the schema and the outbox of the change; what if there is no table."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kit.databases import Database, create_all
from kit.outbox_world import Article, Base, Storehouse, inserts, rows_in, stored, table
from sqlalchemy import (
    Engine,
    MetaData,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import (
    InvalidOptionError,
    OutboxError,
    Signal,
    post_delete,
    post_save,
)
from aksara_signals.contrib.outbox import Durable, Outbox
from aksara_signals.orm import SignalMixin

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_written_where.{next(_numbers)}"


def connect(signal: Signal, sender: Any, durable: Any) -> None:
    def receive(**kwargs: Any) -> None: ...

    signal.connect(receive, sender=sender, durable=durable)


@pytest.fixture
def second(tmp_path: Any) -> Iterator[Engine]:
    """Another database, with the same tables."""
    engine = create_engine(f"sqlite:///{tmp_path / 'second.sqlite'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def first(sync_engine: Engine) -> Engine:
    """A database with tables."""
    Base.metadata.create_all(sync_engine)
    return sync_engine


def count(engine: Engine, of: Any = table) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(of)) or 0


# -- several databases ----------------------------------------------------------------------------


@pytest.mark.usefixtures("outbox")
def test_rows_go_into_the_database_of_the_change(first: Engine, second: Engine, name: str) -> None:
    """With binds for classes, and one INSERT for each database."""
    connect(post_save, Article, f"{name}.a")
    connect(post_save, Storehouse, f"{name}.b")
    with Session(binds={Article: first, Storehouse: second}) as session:
        with inserts(first) as one, inserts(second) as two:
            session.add_all([Article(title="a"), Storehouse(name="s"), Article(title="b")])
            session.commit()
        assert (one, two) == (["INSERT"], ["INSERT"])
    assert (count(first), count(second)) == (2, 1)


@pytest.mark.usefixtures("outbox")
def test_a_custom_signal_goes_where_its_instance_is(
    first: Engine, second: Engine, name: str
) -> None:
    """Without one, where the outbox is bound; unless it is bound nowhere, which is an error."""
    sent = Signal(name)
    connect(sent, None, name)
    with Session(binds={Article: first, Storehouse: second}) as session:
        shop = Storehouse(name="s")
        session.add(shop)
        session.flush()
        sent.send_sync(Storehouse, session=session, instance=shop)
        with pytest.raises(
            OutboxError,
            match=r"no database is bound for aksara_outbox; .* binds=\{outbox.tables.outbox: …\}",
        ):
            sent.send_sync("shop", session=session)
        session.commit()
    assert (count(first), count(second)) == (0, 1)
    with Session(binds={Article: first, Storehouse: second, table: first}) as session:
        sent.send_sync("shop", session=session)
        session.commit()
    assert (count(first), count(second)) == (1, 1)


@pytest.mark.usefixtures("outbox")
def test_a_session_that_routes_writes_to_the_primary(
    first: Engine, second: Engine, name: str
) -> None:
    """As SQLAlchemy's recipe does it: by the flag of a flush, or by the kind of statement."""

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **kwargs: Any) -> Any:
            if self._flushing or (clause is not None and clause.is_dml):
                return first
            return second  # a replica

    connect(post_save, Article, f"{name}.a")
    connect(post_delete, Article, f"{name}.b")
    sent = Signal(name)
    connect(sent, None, f"{name}.c")
    with Routing() as session:
        article = Article(title="a")
        session.add(article)
        session.flush()
        session.delete(article)
        session.flush()
        sent.send_sync("shop", session=session)
        session.commit()
    assert count(second) == 0
    assert count(first) == 3


@pytest.mark.usefixtures("outbox")
def test_shards_have_rows_of_their_own(first: Engine, second: Engine, name: str) -> None:
    """Each row goes to the shard of its instance."""
    connect(post_save, Article, f"{name}.a")
    connect(post_delete, Article, f"{name}.b")

    def choose(mapper: Any, instance: Any, clause: Any = None) -> str:
        return "one" if instance is None or instance.title < "m" else "two"

    with ShardedSession(
        shard_chooser=choose,
        identity_chooser=lambda *args, **kwargs: ["one", "two"],
        execute_chooser=lambda context: ["one", "two"],
        shards={"one": first, "two": second},
        expire_on_commit=False,
    ) as session:
        articles = [Article(id=number, title=title) for number, title in enumerate("axby", 1)]
        session.add_all(articles)
        session.commit()
        session.delete(articles[1])
        session.commit()

    def keys(engine: Engine) -> list[Any]:
        with engine.connect() as connection:
            return [(row.type, row.payload["key"]) for row in rows_in(connection)]

    assert keys(first) == [("post_save", [1]), ("post_save", [3])]
    assert keys(second) == [("post_save", [2]), ("post_save", [4]), ("post_delete", [2])]


@pytest.mark.usefixtures("outbox")
async def test_tenants_have_schemas(
    async_engine: AsyncEngine, database: Database, name: str
) -> None:
    """schema_translate_map is followed."""
    connect(post_save, Article, name)
    if database.dialect == "sqlite":
        tenant = "main"
    else:
        tenant = f"{database.schema or database.sync_url.database}_tenant"
        async with async_engine.begin() as connection:
            await connection.execute(text(f"CREATE SCHEMA {tenant}"))
    engine = async_engine.execution_options(schema_translate_map={None: tenant})
    try:
        await create_all(engine, Base.metadata)
        async with AsyncSession(engine) as session:
            session.add(Article(title="x"))
            await session.commit()
            assert len(await stored(session)) == 1
        async with async_engine.connect() as connection:
            there = await connection.scalar(text(f"SELECT count(*) FROM {tenant}.aksara_outbox"))
        assert there == 1
    finally:
        if database.dialect != "sqlite":
            async with async_engine.begin() as connection:
                with_all = " CASCADE" if database.dialect == "postgresql" else ""
                await connection.execute(text(f"DROP SCHEMA {tenant}{with_all}"))


# -- several outboxes -----------------------------------------------------------------------------


@pytest.mark.usefixtures("outbox")
def test_an_outbox_has_the_rows_of_its_metadata(first: Engine, second: Engine, name: str) -> None:
    """A class of neither, and custom signals, go to the one that was installed first."""

    class OtherBase(SignalMixin, DeclarativeBase): ...

    class Other(OtherBase):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    other = Outbox(OtherBase.metadata, name="other_outbox")
    other.install()
    try:
        assert sorted(OtherBase.metadata.tables) == [
            "other",
            "other_breaker",
            "other_inbox",
            "other_outbox",
        ]
        OtherBase.metadata.create_all(first)
        sent = Signal(name)
        connect(sent, None, f"{name}.a")
        connect(post_save, Article, f"{name}.b")
        connect(post_save, Other, f"{name}.c")
        with Session(first) as session:
            session.add_all([Article(title="x"), Other()])
            with inserts(first) as mine, inserts(first, "other_outbox") as others:
                session.flush()
            assert (mine, others) == (["INSERT"], ["INSERT"])
            sent.send_sync("x", session=session)
            sent.send_sync(Other, session=session)
            session.commit()
        assert count(first) == 2
        assert count(first, other.tables.outbox) == 2
    finally:
        other.uninstall()
        OtherBase.registry.dispose()


# -- without a table ------------------------------------------------------------------------------


@pytest.mark.usefixtures("outbox")
async def test_a_missing_table_is_an_error_of_ours(
    async_engine: AsyncEngine, sync_engine: Engine, name: str
) -> None:
    """Async or not, nothing is written, and the error says how to create it."""
    connect(post_save, Article, name)
    await create_all(async_engine, Base.metadata)
    async with async_engine.begin() as connection:
        await connection.run_sync(table.drop)
    async with AsyncSession(async_engine) as session:
        session.add(Article(title="x"))
        with pytest.raises(OutboxError, match=r"table aksara_outbox is missing.*autogenerate"):
            await session.commit()
    with Session(sync_engine) as plain:
        plain.add(Article(title="x"))
        with pytest.raises(OutboxError, match="table aksara_outbox is missing"):
            plain.commit()
        plain.rollback()
        assert plain.scalars(select(Article)).all() == []


@pytest.mark.usefixtures("outbox")
def test_a_missing_column_is_an_error_of_ours(first: Engine, name: str) -> None:
    """After an upgrade without its migration, for example."""
    connect(post_save, Article, name)
    with first.begin() as connection:
        connection.execute(text("ALTER TABLE aksara_outbox DROP COLUMN version"))
    with Session(first) as session:
        session.add(Article(title="x"))
        with pytest.raises(OutboxError, match="lacks a column"):
            session.commit()


@pytest.mark.usefixtures("outbox")
def test_other_errors_of_the_database_stay_what_they_are(first: Engine, name: str) -> None:
    """A lost connection, say, is no missing table."""
    connect(post_save, Article, name)

    @event.listens_for(first, "before_cursor_execute")
    def fail(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "aksara_outbox" in statement:
            raise ConnectionError("lost")

    with Session(first) as session:
        session.add(Article(title="x"))
        with pytest.raises(ConnectionError):
            session.commit()


# -- change data capture --------------------------------------------------------------------------


def test_rows_for_change_data_capture_are_deleted_at_once(
    sync_engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same flush, so that only the log has them; many of them in several statements."""

    class CdcBase(SignalMixin, DeclarativeBase): ...

    class Item(CdcBase):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)

    cdc = Outbox(CdcBase.metadata, mode="cdc")
    cdc.install()
    try:
        CdcBase.metadata.create_all(sync_engine)
        connect(post_save, Item, Durable(name))
        with Session(sync_engine) as session, inserts(sync_engine) as found:
            session.add_all(Item() for _ in range(3))
            session.flush()
            assert found == ["INSERT", "DELETE"]
            monkeypatch.setattr("aksara_signals.contrib.outbox.rows.inserting._DELETED_AT_ONCE", 2)
            session.add_all(Item() for _ in range(3))
            session.commit()
            assert found[2:] == ["INSERT", "DELETE", "DELETE"]
        assert count(sync_engine, cdc.tables.outbox) == 0
        assert count(sync_engine, Item.__table__) == 6
    finally:
        cdc.uninstall()
        CdcBase.registry.dispose()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
async def test_writers_for_change_data_capture_dont_wait_for_each_other(
    async_engine: AsyncEngine, name: str
) -> None:
    """Each deletes its own rows, beside those that others have written; SQLite has one writer anyway."""

    class CdcBase(SignalMixin, DeclarativeBase): ...

    class Item(CdcBase):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)

    cdc = Outbox(CdcBase.metadata, mode="cdc")
    cdc.install()
    try:
        await create_all(async_engine, CdcBase.metadata)
        connect(post_save, Item, Durable(name))
        async with asyncio.timeout(20), AsyncSession(async_engine) as one:
            one.add_all(Item() for _ in range(3))
            await one.flush()
            async with AsyncSession(async_engine) as two:
                two.add_all(Item() for _ in range(3))
                await two.commit()
            await one.commit()
        async with AsyncSession(async_engine) as session:
            assert len((await session.scalars(select(Item))).all()) == 6
    finally:
        cdc.uninstall()
        CdcBase.registry.dispose()


# -- the outbox itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metadata": Base}, "give the metadata of the mapped classes, Base.metadata"),
        ({"modules": "app.receivers"}, r"give modules=\['app.receivers'\]"),
        ({"modules": [1]}, r"give modules=\['app.receivers'\]"),
        ({"modules": None}, r"give modules=\['app.receivers'\]"),
        ({"mode": "table"}, "is not one of workers, cdc"),
        ({"mode": None}, "is not one of workers, cdc"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused(arguments: Any, message: str) -> None:
    """Nothing is added to the metadata then."""
    metadata = MetaData()
    with pytest.raises(InvalidOptionError, match=message):
        Outbox(**{"metadata": metadata, **arguments})
    assert not metadata.tables


def test_a_second_outbox_of_one_name_is_refused() -> None:
    """With the error of ours that says what to do, as after a reload."""
    metadata = MetaData()
    Outbox(metadata)
    with pytest.raises(InvalidOptionError, match=r"has a table aksara_outbox already; .*name="):
        Outbox(metadata)
    Outbox(metadata, name="second")


def test_modules_are_imported_when_it_is_installed(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before; a list of any kind will do, and what can't be imported is an error."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outbox_modules_of_a_test.py").write_text("import sys; sys.imported = True\n")
    outbox = Outbox(MetaData(), modules=(each for each in ["outbox_modules_of_a_test"]))
    assert outbox.modules == ("outbox_modules_of_a_test",)
    assert not hasattr(sys, "imported")
    try:
        for _ in range(2):
            outbox.install()
            assert outbox.is_installed
        assert sys.imported  # type: ignore[attr-defined]
    finally:
        outbox.uninstall()
        outbox.uninstall()
        vars(sys).pop("imported", None)
        sys.modules.pop("outbox_modules_of_a_test", None)
    assert not outbox.is_installed
    with pytest.raises(ModuleNotFoundError):
        Outbox(MetaData(), modules=["no_such_module"]).install()


@pytest.mark.parametrize(("kind", "function"), [("int", str), (int, "str"), (5, str)])
def test_encoders_are_functions_for_classes(outbox: Outbox, kind: Any, function: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidOptionError, match="give a class and a function"):
        outbox.encoder(kind, function)


def test_workers_are_woken_once_for_each_commit(outbox: Outbox, first: Engine, name: str) -> None:
    """Not by a rollback, nor before the commit; by what comes after a savepoint's rollback, too."""
    woken: list[str] = []
    connect(post_save, Article, name)

    def wake() -> None:
        woken.append("woken")

    outbox.add_waker(wake)
    try:
        with Session(first) as session:
            for title in "ab":
                session.add(Article(title=title))
                session.flush()
            assert woken == []
            session.commit()
            assert woken == ["woken"]
            session.add(Article(title="c"))
            session.flush()
            session.rollback()
            assert woken == ["woken"]
            savepoint = session.begin_nested()
            session.add(Article(title="d"))
            session.flush()
            savepoint.rollback()
            session.add(Article(title="e"))
            session.commit()
            assert woken == ["woken"] * 2
        outbox.wake()
        assert woken == ["woken"] * 3
    finally:
        outbox.remove_waker(wake)


def test_workers_are_woken_by_sessions_without_a_bind_for_the_outbox(
    outbox: Outbox, first: Engine, second: Engine, name: str
) -> None:
    """Its classes are bound, each to a database, and the table of the outbox is in both."""
    woken: list[None] = []
    connect(post_save, Article, name)
    connect(post_save, Storehouse, f"{name}.shop")

    def wake() -> None:
        woken.append(None)

    outbox.add_waker(wake)
    with Session(binds={Article: first, Storehouse: second}) as session, session.begin():
        session.add_all([Article(title="one"), Storehouse(name="one")])
    outbox.remove_waker(wake)
    assert (count(first), count(second)) == (1, 1)
    assert woken


def test_the_tables_are_those_of_the_metadata(first: Engine) -> None:
    """create_all() makes them with the others."""
    assert {"aksara_outbox", "aksara_breaker"} <= set(inspect(first).get_table_names())
