"""What keeps rows from being written, or called: what ``aksara-signals outbox check`` finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.registry import ReceiverEntry
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.rows.upkeep import stats, unknown_receivers
from aksara_signals.contrib.outbox.worker.checks import check_start
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.exceptions import OutboxError
from aksara_signals.introspection.findings import Severity

_MIGRATE = (
    "make a migration with 'alembic revision --autogenerate' and run 'alembic upgrade head'; or, "
    "without migrations, metadata.create_all()"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or looks like it."""

    code: str
    severity: Severity
    what: str
    remedy: str

    def as_json(self) -> dict[str, Any]:
        """The problem as plain values with stable keys."""
        return asdict(self)


def table_problems(connection: Connection, tables: Tables) -> Iterator[Problem]:
    """Tables, columns and indexes that the database lacks."""
    options = connection.get_execution_options()
    schemas: Mapping[str | None, str | None] = options.get("schema_translate_map") or {}
    for table in (tables.outbox, tables.breaker, tables.inbox):
        schema = schemas.get(table.schema, table.schema)
        if not inspect(connection).has_table(table.name, schema):
            yield Problem(
                "missing-table",
                Severity.ERROR,
                f"the database has no table {table.fullname}",
                _MIGRATE,
            )
        else:
            yield from _part_problems(connection, table, schema)


def _part_problems(connection: Connection, table: Table, schema: str | None) -> Iterator[Problem]:
    inspector = inspect(connection)
    stored = {each["name"] for each in inspector.get_columns(table.name, schema)}
    missing = [each.name for each in table.columns if each.name not in stored]
    if missing:
        yield Problem(
            "missing-column",
            Severity.ERROR,
            f"table {table.fullname} of the database lacks {', '.join(missing)}",
            _MIGRATE,
        )
    indexes = {each["name"] for each in inspector.get_indexes(table.name, schema)}
    missing = sorted(str(each.name) for each in table.indexes if each.name not in indexes)
    if missing:
        yield Problem(
            "missing-index",
            Severity.WARNING,
            f"table {table.fullname} of the database lacks {', '.join(missing)}: claims are slow",
            _MIGRATE,
        )


def row_problems(
    connection: Connection, tables: Tables, entries: Iterable[ReceiverEntry]
) -> Iterator[Problem]:
    """Rows that nobody calls, or that were given up; receivers that are down."""
    known = {name for entry in entries for name in entry.names}
    for name, count in unknown_receivers(connection, tables, known).items():
        yield Problem(
            "unknown-receiver",
            Severity.ERROR,
            f"{count} rows wait for {name!r}, and no durable receiver of this name is connected",
            f"connect it, name it in formerly= of its successor, or delete its rows: "
            f"aksara-signals outbox discard --receiver {name}",
        )
    for each in stats(connection, tables):
        if each.dead:
            yield Problem(
                "dead-rows",
                Severity.ERROR,
                f"{each.dead} rows of {each.receiver!r} were given up",
                f"see why: aksara-signals outbox dead --receiver {each.receiver}; then requeue or "
                f"discard them",
            )
        if each.is_down:
            yield Problem(
                "down",
                Severity.WARNING,
                f"{each.receiver!r} fails at every call: workers only probe it, and its "
                f"{each.pending} rows wait",
                "see the log of the workers; it goes on by itself when a probe succeeds",
            )


def start_problems(
    session: Session, tables: Tables, entries: Iterable[ReceiverEntry], modules: Iterable[str]
) -> Iterator[Problem]:
    """What keeps a worker from starting with this session."""
    try:
        check_start(session, tables, entries, modules)
    except OutboxError as error:
        text = str(error).removesuffix(f"[{error.code}]").strip()
        what, separator, remedy = text.partition("; ")
        yield Problem(
            "no-start", Severity.ERROR, what, remedy if separator else "see the documentation"
        )


def silent_losses(
    installed: Mapping[str, ReceiverEntry], imported: Mapping[str, ReceiverEntry]
) -> Iterator[Problem]:
    """Receivers for which a process that only installs the outbox writes no rows.

    Args:
        installed: The receivers that are known after ``outbox.install()``.
        imported: Those that are known after more modules were imported.
    """
    for name, entry in imported.items():
        if name in installed:
            continue
        module = entry.connections[0][1].receiver.__module__
        yield Problem(
            "not-installed",
            Severity.ERROR,
            f"durable receiver {name!r}, {describe_receiver(entry.connections[0][1].receiver)}, is "
            f"not connected by outbox.install() alone: a process that doesn't import it writes no "
            f"rows for it, which are lost without an error",
            f"name its module in Outbox(…, modules=[{module!r}])",
        )
