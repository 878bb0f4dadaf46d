"""The tables of an outbox, and the clock that all of its times are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    FromClause,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    literal,
    literal_column,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from aksara_signals.orm.bridge.dialects import MYSQL

WAITING: int = 0
"""The status of a row whose receiver has not succeeded yet."""

DONE: int = 1
"""The status of a row whose receiver has succeeded."""

DEAD: int = 2
"""The status of a row that is given up: its receiver failed, or ended its worker, too often."""

# SQLAlchemy 2.0 has no option for storage parameters of a table, and Alembic copies options but no
# DDL events into a migration. USING takes any text, and stands where WITH follows.
_STORAGE = "heap WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01)"

# A database may have a character set that lacks much of what an error's text can have, and compares
# names without regard to case.
_ON_MYSQL: dict[str, Any] = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one outbox."""

    outbox: Table
    """One row per call of a receiver."""
    breaker: Table
    """One row per receiver that has failed."""
    inbox: Table
    """One row per message that a broker has delivered."""


def make_tables(
    metadata: MetaData, *, name: str = "aksara_outbox", schema: str | None = None
) -> Tables:
    """Define the tables of an outbox, so that migrations and ``create_all()`` make them.

    A row waits as one of three: *fresh* (never leased, or given back: no ``visible_at``),
    *retrying* (has failed: ``visible_at`` is when it is due), or *leased* (``leased_by`` has it
    until ``visible_at``).

    Args:
        metadata: Where the application's own tables are.
        name: The name of the table of rows; the other ones are named after it.
        schema: The schema of all.
    """
    return Tables(
        _outbox(metadata, name, schema),
        _breaker(metadata, name, schema),
        _inbox(metadata, name, schema),
    )


def _outbox(metadata: MetaData, name: str, schema: str | None) -> Table:
    table = Table(
        name,
        metadata,
        # A cache of sequence numbers is per connection: a later row could get a lower number.
        Column("seq", _big_integer(), Identity(cache=1), primary_key=True),
        Column("id", _uuid(), nullable=False),
        Column("receiver", String(200), nullable=False),
        Column("type", String(200), nullable=False),
        Column("aggregatetype", String(500), nullable=False),
        Column("aggregateid", Text()),
        Column("lane", BigInteger()),
        Column("payload", _json(), nullable=False),
        Column("headers", _json()),
        Column("version", Integer(), server_default=text("1"), nullable=False),
        Column("generation", Integer(), server_default=text("0"), nullable=False),
        # The server's default is spelled so that one migration runs on PostgreSQL and on SQLite;
        # ours, which stands in our INSERT, has a fraction of a second on SQLite, too.
        Column(
            "created_at",
            _moment(),
            default=_Now(),
            server_default=_Created(),
            nullable=False,
        ),
        Column("status", SmallInteger(), server_default=text("0"), nullable=False),
        Column("attempts", Integer(), server_default=text("0"), nullable=False),
        Column("crashes", Integer(), server_default=text("0"), nullable=False),
        Column("visible_at", _moment()),
        Column("leased_by", String(200)),
        Column("last_error", Text()),
        Column("done_at", _moment()),
        schema=schema,
        **_ON_MYSQL,
        sqlite_autoincrement=True,  # a number of a purged row must not come back
        postgresql_using=_STORAGE,
    )
    # MySQL has no partial indexes. There, the rows of a receiver that wait, fresh ones or due ones,
    # are all found by the second one, whose first columns the conditions name.
    condition = f"status = {WAITING}"
    _index(table, "fresh", ("receiver", "seq"), f"{condition} AND visible_at IS NULL")
    _index(
        table,
        "due",
        ("receiver", "status", "visible_at"),
        f"{condition} AND visible_at IS NOT NULL",
        postgresql_include=["lane"],
    )
    _index(table, "dead", ("receiver",), f"status = {DEAD}")
    _index(table, "done", ("done_at",), f"status = {DONE}")
    return table


def _breaker(metadata: MetaData, name: str, schema: str | None) -> Table:
    return Table(
        f"{name.removesuffix('_outbox')}_breaker",
        metadata,
        Column("receiver", String(200), primary_key=True),
        Column("failures", Integer(), server_default=text("0"), nullable=False),
        Column("probes", Integer(), server_default=text("0"), nullable=False),
        Column("opened_at", _moment()),
        Column("probe_at", _moment()),
        schema=schema,
        **_ON_MYSQL,
    )


def _inbox(metadata: MetaData, name: str, schema: str | None) -> Table:
    table = Table(
        f"{name.removesuffix('_outbox')}_inbox",
        metadata,
        Column("receiver", String(200), primary_key=True),
        Column("id", _uuid(), primary_key=True),
        Column("generation", Integer(), primary_key=True, autoincrement=False),
        Column(
            "done_at",
            _moment(),
            default=_Now(),
            server_default=_Created(),
            nullable=False,
        ),
        schema=schema,
        **_ON_MYSQL,
    )
    Index(f"ix_{table.name}_done", table.c.done_at)
    return table


def _index(table: Table, suffix: str, columns: tuple[str, ...], where: str, **options: Any) -> None:
    condition = text(where)
    Index(
        f"ix_{table.name}_{suffix}",
        *(table.c[column] for column in columns),
        postgresql_where=condition,
        sqlite_where=condition,
        **options,
    )


def _big_integer() -> TypeEngine[int]:
    # SQLite numbers the rows of a column only if its type is exactly INTEGER.
    return BigInteger().with_variant(Integer(), "sqlite")


def _uuid() -> TypeEngine[Any]:
    # MariaDB has a type of its own, which SQLAlchemy uses by one of its dialects for it alone.
    return Uuid().with_variant(Uuid(native_uuid=False), *MYSQL)


def _moment() -> TypeEngine[datetime]:
    # In UTC where the database stores no time zone. MySQL's would have no fraction of a second.
    return DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), *MYSQL)


def _json() -> TypeEngine[Any]:
    binary = JSONB(none_as_null=True)
    # Alembic, on another database, would write "astext_type=Text()" into the migration, and import
    # no Text. The attribute is for an operator that the generic type does not have.
    setattr(binary, "astext_type", None)  # noqa: B010 - it is declared as never None
    return JSON(none_as_null=True).with_variant(binary, "postgresql")


# -- conditions ------------------------------------------------------------------------------------


def is_waiting(table: FromClause) -> ColumnElement[bool]:
    """A condition of rows: their receiver has not succeeded yet."""
    # As a literal: a plan for any value could not use the partial indexes.
    return table.c.status == literal_column(str(WAITING), Integer())


def is_in(
    connection: Connection, column: ColumnElement[Any], values: Sequence[Any]
) -> ColumnElement[bool]:
    """``column IN values``, as one parameter where the database has arrays."""
    if connection.dialect.name == "postgresql":
        # A list of parameters would be another statement for every length of it.
        kind = String() if isinstance(column.type, String) else column.type
        return column == any_(bindparam(None, list(values), ARRAY(kind), unique=True))
    return column.in_(values)


# -- the clock ------------------------------------------------------------------------------------


class _Now(FunctionElement[Any]):
    """When the transaction began, or, on SQLite and MySQL, now."""

    inherit_cache = True
    type = DateTime(timezone=True)
    name = "now"


class _Created(FunctionElement[Any]):
    """The default of a column in its table."""

    inherit_cache = True
    type = DateTime(timezone=True)
    name = "created"


class _Clock(FunctionElement[Any]):
    """The database's time now, within a transaction as well, and seconds later."""

    inherit_cache = True
    type = DateTime(timezone=True)
    name = "clock"


def clock(seconds: float = 0) -> FunctionElement[Any]:
    """The database's own time, which all workers share, plus ``seconds``."""
    return _Clock(literal(float(seconds), Float())) if seconds else _Clock()


@compiles(_Created)
def _created(*_: object, **__: object) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(_Created, *MYSQL)
def _created_mysql(*_: object, **__: object) -> str:
    # CURRENT_TIMESTAMP would be in the time zone of the connection.
    return "(utc_timestamp(6))"


@compiles(_Now, "postgresql")
def _now_postgresql(*_: object, **__: object) -> str:
    return "now()"


@compiles(_Now, "sqlite")
def _now_sqlite(*_: object, **__: object) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f', 'now')"


@compiles(_Now, *MYSQL)
def _now_mysql(*_: object, **__: object) -> str:
    return "utc_timestamp(6)"


@compiles(_Clock, "postgresql")
def _clock_postgresql(element: _Clock, compiler: Any, **options: Any) -> str:
    # clock_timestamp() may differ from row to row, so that no index could be searched for it; as a
    # subquery it is read once per statement.
    seconds = compiler.process(element.clauses, **options)
    later = f" + make_interval(secs => {seconds})" if seconds else ""
    return f"(SELECT clock_timestamp(){later})"


@compiles(_Clock, "sqlite")
def _clock_sqlite(element: _Clock, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    later = f", printf('%+.6f seconds', {seconds})" if seconds else ""
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now'{later})"


@compiles(_Clock, *MYSQL)
def _clock_mysql(element: _Clock, compiler: Any, **options: Any) -> str:
    # The time at which the statement began, also in a subquery.
    seconds = compiler.process(element.clauses, **options)
    later = f" + INTERVAL {seconds} SECOND" if seconds else ""
    return f"(utc_timestamp(6){later})"


def aware(moment: datetime) -> datetime:
    """A time that was read from the database, in UTC."""
    # SQLite and MySQL have no time zones; their clock is UTC. psycopg gives that of the connection.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
