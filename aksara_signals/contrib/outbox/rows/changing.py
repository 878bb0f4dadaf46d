"""INSERTs, UPDATEs and DELETEs that databases take in different ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Table, Update, bindparam, delete, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from aksara_signals.contrib.outbox.rows.tables import is_in
from aksara_signals.orm.bridge.dialects import MYSQL

Changes = Sequence[tuple[str, Any]]
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def update_by_seq(outbox: Table) -> Update:
    """An UPDATE of rows that are named by their numbers.

    Of a small table, MySQL would look at each row, and lock it: also those of transactions that
    wait for this one.
    """
    statement = update(outbox)
    for name in MYSQL:
        statement = statement.with_hint("FORCE INDEX (PRIMARY)", dialect_name=name)
    return statement


def delete_by_seq(
    connection: Connection, outbox: Table, seqs: Sequence[int], *conditions: ColumnElement[bool]
) -> int:
    """Delete rows that are named by their numbers, and return how many were.

    Args:
        connection: In a transaction.
        outbox: The table.
        seqs: The numbers.
        conditions: What else must hold for them.
    """
    if not seqs:
        return 0
    statement = delete(outbox).where(*conditions)
    if connection.dialect.name not in MYSQL:
        return connection.execute(statement.where(is_in(connection, outbox.c.seq, seqs))).rowcount
    # One by one: a list of them is looked for in all rows of a small table, as by an UPDATE. But a
    # DELETE takes no hint.
    one = statement.where(outbox.c.seq == bindparam("the_seq"))
    return connection.execute(one, [{"the_seq": seq} for seq in seqs]).rowcount


def insert_or_update(table: Table, dialect: str, values: dict[str, Any], changes: Changes) -> Any:
    """An INSERT that changes the row of the same primary key, if there is one.

    Args:
        table: The table.
        dialect: The name of the dialect.
        values: Those of a new row.
        changes: The names and values of columns of the old one, in the order in which MySQL sets
            them: an expression has the new value of a column that stands before.
    """
    if dialect in MYSQL:
        return mysql.insert(table).values(values).on_duplicate_key_update(list(changes))
    insert: Any = _INSERTS[dialect](table).values(values)
    return insert.on_conflict_do_update(index_elements=[*table.primary_key], set_=dict(changes))


def insert_or_nothing(table: Table, dialect: str, values: dict[str, Any]) -> Insert:
    """An INSERT that does nothing if there is a row of the same primary key.

    On MySQL it raises ``IntegrityError``, which there leaves the transaction as it was: of an
    ``INSERT IGNORE`` that does nothing, drivers warn.
    """
    if dialect in MYSQL:
        return mysql.insert(table).values(values)
    insert: Any = _INSERTS[dialect](table).values(values)
    statement: Insert = insert.on_conflict_do_nothing()
    return statement
