"""The inbox: what has been delivered by a broker, so that repeats are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    select,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.rows.changing import insert_or_nothing
from aksara_signals.contrib.outbox.rows.compiled import CompiledStatement
from aksara_signals.contrib.outbox.rows.errors import is_missing, missing_table
from aksara_signals.contrib.outbox.rows.tables import Tables, clock


def _note(inbox: Table, dialect: str) -> Insert:
    columns = inbox.c
    values = {
        "receiver": bindparam("the_receiver", type_=columns.receiver.type),
        "id": bindparam("the_id", type_=columns.id.type),
        "generation": bindparam("the_generation", type_=columns.generation.type),
    }
    return insert_or_nothing(inbox, dialect, values)


_NOTE = CompiledStatement(_note)


def note(connection: Connection, tables: Tables, message: Message) -> bool:
    """Note that a message was delivered, and return whether this is the first time.

    If another transaction is just noting it, this waits for the end of that one.

    Raises:
        OutboxError: The table is missing.
    """
    values = {
        "the_receiver": message.receiver,
        "the_id": message.id,
        "the_generation": message.generation,
    }
    with _required(tables):
        try:
            return bool(_NOTE.execute(connection, tables.inbox, values))
        except IntegrityError:
            return False


def is_noted(connection: Connection, tables: Tables, message: Message) -> bool:
    """Whether a message was delivered before.

    Raises:
        OutboxError: The table is missing.
    """
    with _required(tables):
        found = connection.execute(select(exists().where(_is_message(tables, message))))
        return bool(found.scalar_one())


def purge(connection: Connection, tables: Tables, keep_seconds: float) -> int:
    """Delete a chunk of what was delivered long ago, and return how many rows that were."""
    inbox = tables.inbox
    key = (inbox.c.receiver, inbox.c.id, inbox.c.generation)
    old = (
        select(*key)
        .where(inbox.c.done_at < clock(-keep_seconds))
        .limit(upkeep.CHUNK)
        .with_for_update(skip_locked=True)  # the receivers that run have rows here, too
    )
    found = [tuple(row) for row in connection.execute(old)]
    if found:
        names = [f"the_{column.name}" for column in key]
        one = delete(inbox).where(
            *(column == bindparam(name) for column, name in zip(key, names, strict=True))
        )
        connection.execute(one, [dict(zip(names, row, strict=True)) for row in found])
    return len(found)


@contextmanager
def _required(tables: Tables) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not is_missing(error):
            raise
        raise missing_table("a message can't be received", tables.inbox, error) from error


def _is_message(tables: Tables, message: Message) -> ColumnElement[bool]:
    inbox = tables.inbox
    return and_(
        inbox.c.receiver == message.receiver,
        inbox.c.id == message.id,
        inbox.c.generation == message.generation,
    )
