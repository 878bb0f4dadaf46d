"""What is really written, as the database itself sees it: triggers that write down every row."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, MetaData, event

__all__ = ["SILENT", "WrittenRow", "log_rows"]


class WrittenRow(NamedTuple):
    """A row that was inserted, updated or deleted."""

    table: str
    operation: str
    """``"INSERT"``, ``"UPDATE"`` or ``"DELETE"``."""
    old: dict[str, Any]
    new: dict[str, Any]
    by: object = None
    """What stands for the ORM statement that has written it; None if a flush has."""


KEYS = {
    "sqlite": "INTEGER",
    "postgresql": "SERIAL",
    "mysql": "INTEGER AUTO_INCREMENT",
    "mariadb": "INTEGER AUTO_INCREMENT",
}
"""The type of a key that the database counts up."""
LOG = (
    "CREATE TABLE row_log (id {} PRIMARY KEY, "
    "name TEXT, operation TEXT, old_row TEXT, new_row TEXT)"
)
FUNCTION = """
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO row_log (name, operation, old_row, new_row)
    VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(OLD)::text, to_jsonb(NEW)::text);
    RETURN NULL;
END $$
"""
TAKE = "DELETE FROM row_log RETURNING id, name, operation, old_row, new_row"


def log_rows(engine: Engine, metadata: MetaData, note: Callable[[WrittenRow], None]) -> None:
    """Create the tables, and ``note`` every row that any statement writes from then on.

    The rows of one statement come together, after it, in the order in which they were written.
    """
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.exec_driver_sql(LOG.format(KEYS[engine.dialect.name]))
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(FUNCTION)
        for table in metadata.tables.values():
            columns = [column.name for column in table.columns]
            for operation in ("INSERT", "UPDATE", "DELETE"):
                connection.exec_driver_sql(
                    f"CREATE TRIGGER log_{operation} AFTER {operation} ON {table.name} "
                    f"FOR EACH ROW EXECUTE FUNCTION log_row()"
                    if engine.dialect.name == "postgresql"
                    else _trigger(table.name, columns, operation)
                )

    @event.listens_for(engine, "after_cursor_execute")
    def take(
        connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _: Any
    ) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")) and statement != TAKE:
            by = _writer(context)
            for _id, name, operation, old, new in sorted(connection.exec_driver_sql(TAKE)):
                note(WrittenRow(name, operation, _row(old), _row(new), by))


SILENT = "silent"
"""Stands for all statements that call no receivers."""


def _writer(context: Any) -> object:
    """What stands for an ORM statement, by its execution options; None for a flush.

    SQLAlchemy doesn't hand on the options of an UPDATE by key.
    """
    table = getattr(getattr(context.compiled, "statement", None), "table", None)
    if table is None or table._annotations.get("parententity") is None:
        return None
    options = context.execution_options
    return SILENT if options.get("signals") is False else options.get("story", "by key")


def _row(text: str | None) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


def _trigger(table: str, columns: list[str], operation: str) -> str:
    """A trigger of SQLite or MariaDB."""

    def row(which: str) -> str:
        pairs = ", ".join(f"'{column}', {which}.`{column}`" for column in columns)
        return f"json_object({pairs})"

    old = row("OLD") if operation != "INSERT" else "NULL"
    new = row("NEW") if operation != "DELETE" else "NULL"
    return (
        f"CREATE TRIGGER log_{operation}_{table} AFTER {operation} ON {table} "
        f"FOR EACH ROW BEGIN "
        f"INSERT INTO row_log (name, operation, old_row, new_row) "
        f"VALUES ('{table}', '{operation}', {old}, {new}); END"
    )
