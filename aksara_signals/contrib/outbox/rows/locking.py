"""One claim at a time."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import BigInteger, Connection, Engine, Pool, Table, event, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from aksara_signals.contrib.outbox.rows.changing import insert_or_update
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.exceptions import OutboxError
from aksara_signals.orm.bridge.dialects import is_mysql

_IMMEDIATE = re.compile(r"\s*BEGIN\s+(IMMEDIATE|EXCLUSIVE)", re.IGNORECASE)
_LOCKED_ROW = "(claims)"
"""The row of the breaker that is locked on MySQL; no receiver has such a name."""
_with_row: WeakKeyDictionary[Pool, set[str]] = WeakKeyDictionary()
"""The tables that have that row, by the pools of their databases."""
_LOCK_SPACE = int.from_bytes(b"aksa", "big") << 32


def require_immediate(engine: Engine) -> None:
    """Check that transactions of a SQLite engine begin ``IMMEDIATE``; others pass.

    One that begins deferred takes its lock at its first write. If another process has written since
    its first read, SQLite refuses that lock at once, whatever the timeout is.

    Raises:
        OutboxError: They begin deferred.
    """
    if engine.dialect.name != "sqlite":
        return
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", note)
        connection.exec_driver_sql("SELECT 1")
        has_begun = _has_begun(connection)
    if has_begun and not any(_IMMEDIATE.match(statement) for statement in statements):
        raise OutboxError(
            f"transactions of {engine!r} begin deferred, so that two writers of the SQLite file "
            f"fail with 'database is locked'; begin them at once: "
            f"@event.listens_for(engine, 'begin') def begin(connection): "
            f"connection.exec_driver_sql('BEGIN IMMEDIATE')"
        )


def require_version(connection: Connection) -> None:
    """Check that a MySQL or MariaDB server has what the outbox needs; others pass.

    Raises:
        OutboxError: It is too old.
    """
    dialect: Any = connection.dialect
    if not is_mysql(dialect):
        return
    name, least = ("MariaDB", (10, 6)) if dialect.is_mariadb else ("MySQL", (8, 0, 13))
    version = dialect.server_version_info
    if version < least:
        raise OutboxError(
            f"workers need SKIP LOCKED and defaults that are expressions, which {name} has since "
            f"{'.'.join(map(str, least))}; this server is {'.'.join(map(str, version))}"
        )


class _LockKey(FunctionElement[int]):
    """The key of the lock: the table, in whatever schema it is found."""

    inherit_cache = False  # the name isn't part of a key
    type = BigInteger()
    name = "lock_key"

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table


@compiles(_LockKey, "postgresql")
def _lock_key(element: _LockKey, compiler: Any, **_: Any) -> str:
    name = compiler.preparer.format_table(element.table)
    # With schema_translate_map, the name of the schema is put in later, as it is: it may hold an
    # apostrophe, which would end another kind of literal.
    return f"{_LOCK_SPACE} + CAST(CAST($aksara${name}$aksara$ AS regclass) AS oid)::bigint"


def ensure_begun(connection: Connection) -> bool:
    """Begin the transaction on SQLite, if the driver hasn't; return whether this is SQLite.

    In its default mode, the driver begins one before the first change of data only. A savepoint
    before that would be the transaction itself, and its release a COMMIT.
    """
    if connection.dialect.name != "sqlite":
        return False
    if not _has_begun(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    return True


def serialize(connection: Connection, tables: Tables) -> None:
    """Hold up all other claims until the transaction ends."""
    if ensure_begun(connection):
        return
    if is_mysql(connection.dialect):
        _lock_row(connection, tables.breaker)
        return
    lock = func.pg_advisory_xact_lock(_LockKey(tables.outbox))
    level = connection.execute(
        select(func.current_setting("transaction_isolation"), lock)
    ).scalar_one()
    if level != "read committed":
        # Its snapshot is older than the lock, so it would not see the leases of the last claim.
        raise OutboxError(
            f"claiming needs transactions that are READ COMMITTED, and this one is "
            f"{level.upper()}; give the worker sessions of "
            f"engine.execution_options(isolation_level='READ COMMITTED')"
        )


def _lock_row(connection: Connection, breaker: Table) -> None:
    """Lock a row, which the end of the transaction unlocks, as it doesn't with GET_LOCK()."""
    name, row = connection.dialect.name, {"receiver": _LOCKED_ROW}
    # An exclusive lock in any case: one that is shared first would be a deadlock of two.
    lock = insert_or_update(breaker, name, row, (("failures", breaker.c.failures),))
    options = connection.get_execution_options()
    where = f"{breaker.fullname} {options.get('schema_translate_map')}"
    with_row = _with_row.setdefault(connection.engine.pool, set())
    if where not in with_row:
        # Its INSERT has to be committed: if it was rolled back, as in a test, those that have
        # waited for it would be in a deadlock.
        beside = beside_pool(connection.engine)
        try:
            with beside.connect() as other:
                other.execute(lock, execution_options=options)
                other.commit()
        finally:
            beside.dispose()
        with_row.add(where)
    connection.execute(lock)


def beside_pool(engine: Engine) -> Engine:
    """An engine that connects in the same way, with a pool of its own."""
    return Engine(engine.pool.recreate(), engine.dialect, engine.url)


def _has_begun(connection: Connection) -> bool:
    driver: Any = connection.connection.driver_connection
    return bool(driver.in_transaction)
