"""Looking after an outbox: figures, dead rows, what is called again, what is deleted.

What may concern many rows is done in chunks, each in a transaction of its own, so that neither
workers nor the database wait for a long one. Each function does one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
)

from aksara_signals.contrib.outbox.rows.breaker import load_breakers
from aksara_signals.contrib.outbox.rows.changing import delete_by_seq, update_by_seq
from aksara_signals.contrib.outbox.rows.tables import (
    DEAD,
    DONE,
    WAITING,
    Tables,
    aware,
    clock,
    is_in,
    is_waiting,
)

CHUNK: int = 1_000
"""Rows that are changed or deleted in one transaction."""

Action = Literal["requeue", "discard", "replay", "republish"]


@dataclass(frozen=True, slots=True)
class ReceiverStats:
    """How many rows a receiver has."""

    receiver: str
    fresh: int
    """Wait, and have not failed."""
    retrying: int
    leased: int
    """A worker has them, or had them when it ended."""
    dead: int
    done: int
    oldest_seconds: float | None
    """The age of the oldest row that is neither done nor dead."""
    is_down: bool
    """Its circuit breaker is open."""

    @property
    def pending(self) -> int:
        """Rows that are neither done nor dead."""
        return self.fresh + self.retrying + self.leased


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows a command is about: those that all given conditions hold for."""

    seqs: tuple[int, ...] = ()
    """Numbers of rows."""
    ids: tuple[UUID, ...] = ()
    """What was sent, in place of the numbers of its rows, or beside them."""
    receiver: str | None = None
    """A name, or a pattern of names in which ``*`` is any text."""
    since_seconds: float | None = None
    """Rows that were done, or given up, or else written, in so many last seconds."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of one chunk."""

    rows: int
    """How many were changed."""
    last: int
    """The number of the last row that was looked at."""
    is_last: bool


def stats(connection: Connection, tables: Tables) -> list[ReceiverStats]:
    """The figures of each receiver that has rows, by name."""
    outbox = tables.outbox
    waits = is_waiting(outbox)
    is_fresh = and_(waits, outbox.c.visible_at.is_(None))
    is_leased = and_(waits, outbox.c.leased_by.isnot(None))
    is_retrying = and_(waits, outbox.c.visible_at.isnot(None), outbox.c.leased_by.is_(None))
    found = connection.execute(
        select(
            outbox.c.receiver,
            _count(is_fresh).label("fresh"),
            _count(is_retrying).label("retrying"),
            _count(is_leased).label("leased"),
            _count(outbox.c.status == DEAD).label("dead"),
            _count(outbox.c.status == DONE).label("done"),
            func.min(case((waits, outbox.c.created_at))).label("oldest"),
        )
        .group_by(outbox.c.receiver)
        .order_by(outbox.c.receiver)
    ).all()
    breakers = load_breakers(connection, tables)
    down = {breaker.receiver for breaker in breakers.values() if breaker.is_open}
    now = connection.execute(select(clock())).scalar_one()
    return [
        ReceiverStats(
            receiver=row.receiver,
            fresh=row.fresh,
            retrying=row.retrying,
            leased=row.leased,
            dead=row.dead,
            done=row.done,
            oldest_seconds=None if row.oldest is None else (now - row.oldest).total_seconds(),
            is_down=row.receiver in down,
        )
        for row in found
    ]


def unknown_receivers(
    connection: Connection, tables: Tables, known: Collection[str]
) -> dict[str, int]:
    """How many rows wait for receivers that aren't known here, by their names.

    Args:
        known: The names of all receivers, also their former ones.
    """
    outbox = tables.outbox
    found = connection.execute(
        select(outbox.c.receiver, func.count())
        .where(is_waiting(outbox))
        .group_by(outbox.c.receiver)
        .order_by(outbox.c.receiver)
    )
    return {name: count for name, count in found if name not in known}


def dead(
    connection: Connection, tables: Tables, selection: Selection, *, limit: int = 100
) -> list[dict[str, Any]]:
    """The rows that are given up, the latest ones first; without their payloads."""
    outbox = tables.outbox
    columns = [each for each in outbox.c if each.name not in {"payload", "headers"}]
    return _dicts(
        connection,
        select(*columns)
        .where(*_conditions(connection, tables, "requeue", selection))
        .order_by(outbox.c.done_at.desc(), outbox.c.seq.desc())
        .limit(limit),
    )


def show(connection: Connection, tables: Tables, key: int | UUID) -> list[dict[str, Any]]:
    """All of one row, by its number, or of all rows that one send has written, by its ``id``."""
    outbox = tables.outbox
    column = outbox.c.id if isinstance(key, UUID) else outbox.c.seq
    return _dicts(connection, select(outbox).where(column == key).order_by(outbox.c.seq))


# -- changing rows --------------------------------------------------------------------------------


def count(connection: Connection, tables: Tables, action: Action, selection: Selection) -> int:
    """How many rows an action would change now."""
    conditions = _conditions(connection, tables, action, selection)
    statement = select(func.count()).select_from(tables.outbox).where(*conditions)
    return connection.execute(statement).scalar_one()


def requeue(
    connection: Connection, tables: Tables, selection: Selection, *, after: int = 0
) -> Chunk:
    """Let dead rows wait again, with all their attempts."""
    seqs, chunk = _next(connection, tables, "requeue", selection, after)
    fresh = _fresh(tables.outbox.c.generation)
    rows = _update(connection, tables, seqs, DEAD, fresh)
    return chunk(rows)


def replay(
    connection: Connection, tables: Tables, selection: Selection, *, after: int = 0
) -> Chunk:
    """Let rows that are done wait again, in a new generation."""
    seqs, chunk = _next(connection, tables, "replay", selection, after)
    fresh = _fresh(tables.outbox.c.generation + 1)
    rows = _update(connection, tables, seqs, DONE, fresh)
    return chunk(rows)


def republish(
    connection: Connection, tables: Tables, selection: Selection, *, after: int = 0
) -> Chunk:
    """Let rows that are done wait again, in their generation: the inbox refuses repeats of them."""
    seqs, chunk = _next(connection, tables, "republish", selection, after)
    fresh = _fresh(tables.outbox.c.generation)
    rows = _update(connection, tables, seqs, DONE, fresh)
    return chunk(rows)


def discard(
    connection: Connection, tables: Tables, selection: Selection, *, after: int = 0
) -> Chunk:
    """Delete rows that wait or are dead; not those that a worker has just now."""
    seqs, chunk = _next(connection, tables, "discard", selection, after)
    conditions = _conditions(connection, tables, "discard", Selection())
    return chunk(delete_by_seq(connection, tables.outbox, seqs, *conditions))


def purge(
    connection: Connection,
    tables: Tables,
    *,
    done_seconds: float,
    dead_seconds: float,
) -> int:
    """Delete rows that were done, or given up, long ago: one chunk of them.

    Args:
        done_seconds: How long rows stay that are done.
        dead_seconds: How long rows stay that are given up.

    Returns:
        How many were deleted; fewer than ``CHUNK`` means that there are no more.
    """
    outbox = tables.outbox
    seqs: list[int] = []
    for status, seconds in ((DONE, done_seconds), (DEAD, dead_seconds)):
        rows = (
            select(outbox.c.seq)
            .where(_has_status(tables, status), outbox.c.done_at < clock(-seconds))
            .limit(CHUNK - len(seqs))
            .with_for_update(skip_locked=True)
        )
        if len(seqs) < CHUNK:
            seqs += connection.scalars(rows if status == DEAD else rows.order_by("done_at"))
    return delete_by_seq(connection, outbox, seqs, ~is_waiting(outbox))


def all_chunks(
    run: Callable[..., Any],
    action: Callable[..., Chunk],
    tables: Tables,
    selection: Selection,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Do an action for all rows of a selection that there are now.

    A row is looked at once, so that replayed rows that are done again meanwhile are not replayed
    for ever.

    Args:
        run: Calls a function with a connection and the given arguments, in its own transaction.
        action: ``requeue``, ``replay``, ``republish`` or ``discard``.
        progress: Called after each chunk with the number of its rows.

    Returns:
        How many rows were changed.
    """
    total, after = 0, 0
    while True:
        chunk: Chunk = run(action, tables, selection, after=after)
        total += chunk.rows
        if progress is not None:
            progress(chunk.rows)
        if chunk.is_last:
            return total
        after = chunk.last


# -- helpers --------------------------------------------------------------------------------------


def _next(
    connection: Connection, tables: Tables, action: Action, selection: Selection, after: int
) -> tuple[list[int], Callable[[int], Chunk]]:
    """The numbers of the next chunk, and what makes its result."""
    seq = tables.outbox.c.seq
    conditions = _conditions(connection, tables, action, selection)
    statement = select(seq).where(seq > after, *conditions).order_by(seq).limit(CHUNK)
    seqs = list(connection.scalars(statement))
    return seqs, lambda rows: Chunk(rows, max(seqs, default=after), len(seqs) < CHUNK)


def _update(
    connection: Connection, tables: Tables, seqs: Sequence[int], status: int, values: Any
) -> int:
    if not seqs:
        return 0
    outbox = tables.outbox
    these = is_in(connection, outbox.c.seq, seqs)
    statement = update_by_seq(outbox).where(these, outbox.c.status == status).values(values)
    return connection.execute(statement).rowcount


def _fresh(generation: ColumnElement[int]) -> dict[str, Any]:
    return {
        "status": WAITING,
        "generation": generation,
        "attempts": 0,
        "crashes": 0,
        "visible_at": None,
        "leased_by": None,
        "last_error": None,
        "done_at": None,
    }


def _conditions(
    connection: Connection, tables: Tables, action: Action, selection: Selection
) -> list[ColumnElement[bool]]:
    outbox = tables.outbox
    found: list[ColumnElement[bool]] = []
    ended_at: ColumnElement[datetime] = outbox.c.done_at
    if action == "discard":
        is_idle = or_(outbox.c.leased_by.is_(None), outbox.c.visible_at <= clock())
        found.append(or_(and_(is_waiting(outbox), is_idle), outbox.c.status == DEAD))
        ended_at = func.coalesce(ended_at, outbox.c.created_at)
    else:
        found.append(_has_status(tables, DEAD if action == "requeue" else DONE))
    if selection.seqs or selection.ids:
        found.append(
            or_(
                is_in(connection, outbox.c.seq, selection.seqs),
                is_in(connection, outbox.c.id, selection.ids),
            )
        )
    if selection.receiver is not None:
        found.append(_matches(outbox.c.receiver, selection.receiver))
    if selection.since_seconds is not None:
        found.append(ended_at >= clock(-selection.since_seconds))
    return found


def _matches(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return column == pattern
    escaped = pattern.replace("/", "//").replace("%", "/%").replace("_", "/_")
    return column.like(escaped.replace("*", "%"), escape="/")


def _has_status(tables: Tables, status: int) -> ColumnElement[bool]:
    # As a literal, for the partial indexes.
    return tables.outbox.c.status == literal_column(str(status), Integer())


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _dicts(connection: Connection, statement: Select[Any]) -> list[dict[str, Any]]:
    return [
        {name: _aware(value) for name, value in row.items()}
        for row in connection.execute(statement).mappings()
    ]


def _aware(value: Any) -> Any:
    if isinstance(value, datetime):
        return aware(value)
    return value
