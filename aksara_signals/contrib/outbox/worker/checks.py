"""What is checked before a worker starts: each would otherwise show as rows that stay."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session

from aksara_signals.contrib.outbox.registry import ReceiverEntry
from aksara_signals.contrib.outbox.rows.errors import is_missing, missing_table
from aksara_signals.contrib.outbox.rows.locking import require_immediate, require_version
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.exceptions import OutboxError


def check_start(
    session: Session,
    tables: Tables,
    entries: Iterable[ReceiverEntry],
    modules: Iterable[str],
    kind: str = "worker",
) -> None:
    """Check that a worker or a relay can run.

    Args:
        session: A session of the worker.
        tables: The tables of the outbox.
        entries: The receivers that the worker calls.
        modules: The modules that the outbox has imported.
        kind: ``"worker"`` or ``"relay"``.

    Raises:
        OutboxError: Says what is missing.
    """
    entries = list(entries)
    bind = session.get_bind(clause=tables.outbox)
    _require_receivers(entries, list(modules), kind)
    if kind == "worker":
        _require_one_database(session, tables, entries)
    if not isinstance(bind, Connection):
        require_immediate(bind)
    with session.begin():
        connection = session.connection(bind_arguments={"clause": tables.outbox})
        require_version(connection)
        _require_tables(connection, tables, kind)


def _require_receivers(entries: list[ReceiverEntry], modules: list[str], kind: str) -> None:
    if entries:
        return
    imported = f"Its modules are {', '.join(modules)}" if modules else "It was given no modules"
    raise OutboxError(
        f"a {kind} was started, and no durable receiver that it may serve is connected: nothing "
        f"would ever be delivered. {imported}; name those of the receivers, as in "
        f"Outbox(Base.metadata, modules=['app.receivers']), and check receivers= of the {kind}"
    )


def _require_tables(connection: Connection, tables: Tables, kind: str) -> None:
    for table in (tables.outbox, tables.breaker):
        try:
            connection.execute(select(table).limit(0))
        except DBAPIError as error:
            if not is_missing(error):
                raise
            raise missing_table(f"a {kind} can't start", table, error) from error


def _require_one_database(session: Session, tables: Tables, entries: list[ReceiverEntry]) -> None:
    own = session.get_bind(clause=tables.outbox).engine
    for entry in entries:
        for _, connection in entry.connections:
            mapper = inspect(connection.sender, raiseerr=False)
            if not isinstance(mapper, Mapper) or "session" not in connection.shape.named:
                continue
            other = session.get_bind(mapper=mapper).engine
            if other is not own and other.url != own.url:
                raise OutboxError(
                    f"durable receiver {entry.name!r} names session and is connected to "
                    f"{mapper.class_.__qualname__}, which the sessions of the worker bind to "
                    f"another database than table {tables.outbox.fullname}: nothing can be "
                    f"committed in both together. Give the worker sessions that are bound to the "
                    f"database of {mapper.class_.__qualname__}"
                )
