"""Claiming rows, and what becomes of them: done, failed, given back.

Claims are serial. Two at once that skip each other's locked rows would take the first row of a
lane and, before that lease is seen, its second one. With one claim at a time, a lane that is held
is seen to be held.

A row that waits is fresh, retrying or leased (see ``tables.make_tables()``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    case,
    func,
    or_,
    select,
)

from aksara_signals.contrib.outbox.rows.breaker import begin_probe, load_breakers
from aksara_signals.contrib.outbox.rows.changing import update_by_seq
from aksara_signals.contrib.outbox.rows.locking import serialize
from aksara_signals.contrib.outbox.rows.reading import Row, columns_of, read_rows, rows_of
from aksara_signals.contrib.outbox.rows.selecting import (
    CRASHES,
    Scope,
    find_suspects,
    look,
    pick,
)
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, Tables, clock, is_in, is_waiting

LONGEST_ERROR: int = 4_000
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim has leased."""

    rows: list[Row] = field(default_factory=list)
    """By ``seq``."""
    is_alone: bool = False
    """The one row may have ended its last worker: nothing else should run beside it."""
    is_held_up: bool = False
    """There is such a row, and this worker is busy: nothing is claimed until it has drained."""
    dead: list[Row] = field(default_factory=list)
    """Rows that have ended too many workers, and are dead now."""
    failing: frozenset[str] = frozenset()
    """The receivers that have failed since their last success."""


def claim(
    connection: Connection,
    tables: Tables,
    *,
    worker: str,
    limits: Mapping[str, int],
    lease_seconds: float,
    is_busy: bool,
    former_of: Mapping[str, Sequence[str]] | None = None,
    counts_crashes: bool = True,
    prefers_fresh: bool = False,
) -> Claim:
    """Lease rows that are due, and see to those whose lease ran out.

    The lease counts from now, by the database's clock. The caller commits, at once: until then no
    other worker can claim.

    Args:
        connection: In a transaction. On SQLite it must be one that began ``IMMEDIATE``; where the
            driver has not begun one, this begins it.
        worker: The name of the worker, which no other one has.
        limits: How many rows at most, by the name of the receiver; former names are names, too.
        lease_seconds: How long the rows are leased.
        is_busy: Whether the worker still has rows.
        former_of: The former names of receivers. Their rows come before those of the present name.
        counts_crashes: Whether a row whose lease ran out may have ended its worker. If not, it is
            claimed as any other row that is due.
        prefers_fresh: Whether fresh rows come before those that are due.

    Raises:
        OutboxError: The transaction is not ``READ COMMITTED`` (PostgreSQL).
    """
    if not any(most > 0 for most in limits.values()):
        return Claim()
    serialize(connection, tables)
    has_failed, is_any_due = look(connection, tables, list(limits))
    breakers = load_breakers(connection, tables) if has_failed else {}
    scope = Scope.of(
        connection, tables, limits, former_of or {}, breakers, counts_crashes=counts_crashes
    )
    looks = is_any_due and counts_crashes
    suspect, killers = find_suspects(connection, tables, scope) if looks else (None, [])
    dead = _bury(connection, tables, scope, killers)
    if suspect is not None and is_busy:
        return Claim(is_held_up=True, dead=dead)
    order = ((True, False) if prefers_fresh else (False, True)) if is_any_due else (True,)
    seqs = pick(connection, tables, scope, order) if suspect is None else [suspect]
    rows = _lease(connection, tables, scope, worker, seqs, lease_seconds=lease_seconds)
    for receiver in {scope.present_name(row.receiver) for row in rows if row.is_probe}:
        begin_probe(connection, tables, scope.open[receiver])
    return Claim(
        rows,
        is_alone=suspect is not None and bool(rows),
        dead=dead,
        failing=frozenset(breakers),
    )


def mark_done(connection: Connection, tables: Tables, worker: str, seqs: Sequence[int]) -> int:
    """Mark rows as done, in the transaction of their receiver.

    Returns:
        How many were; fewer than given means that leases were lost, and somebody else has the rows.
    """
    return _change(
        connection,
        _leased(connection, tables, worker, seqs).values(
            status=DONE, done_at=clock(), visible_at=None, leased_by=None, last_error=None
        ),
    )


def fail(
    connection: Connection,
    tables: Tables,
    worker: str,
    row: Row,
    *,
    error: str,
    delay_seconds: float,
    counts: bool,
    is_dead: bool,
    lane_mates: Sequence[int] = (),
) -> bool:
    """Note that a receiver has raised, and when it is called again.

    Args:
        error: What to show of it; without values of the application.
        delay_seconds: The time until then.
        counts: Whether this was an attempt.
        is_dead: Whether it was the last one.
        lane_mates: The later rows of its lane that the worker has leased. They are fresh again.

    Returns:
        Whether the worker still had the row.
    """
    attempts = tables.outbox.c.attempts
    shown = error.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:LONGEST_ERROR]
    statement = _leased(connection, tables, worker, [row.seq]).values(
        attempts=attempts + 1 if counts else attempts, last_error=shown, leased_by=None
    )
    if is_dead:
        statement = statement.values(status=DEAD, done_at=clock(), visible_at=None)
    else:
        statement = statement.values(visible_at=clock(delay_seconds))
    # The mates go back before the row, in one transaction: nobody sees them without the other.
    release(connection, tables, worker, lane_mates)
    return bool(_change(connection, statement))


def release(
    connection: Connection,
    tables: Tables,
    worker: str,
    seqs: Sequence[int],
    *,
    delay_seconds: float | None = None,
) -> int:
    """Give rows back, without counting anything.

    Args:
        delay_seconds: When they are due again. Of each lane only the first one waits; it holds up
            the others, which are fresh. None: all of them are fresh.

    Returns:
        How many the worker still had.
    """
    if not seqs:
        return 0
    statement = _leased(connection, tables, worker, seqs).values(leased_by=None, visible_at=None)
    if delay_seconds is not None:
        outbox = tables.outbox
        given = outbox.alias()
        heads = (
            select(func.min(given.c.seq))
            .where(is_in(connection, given.c.seq, seqs), given.c.lane.isnot(None))
            .group_by(given.c.lane)
            .subquery()  # MySQL can't read the table that it updates in any other way
        )
        first = or_(outbox.c.lane.is_(None), outbox.c.seq.in_(select(heads)))
        statement = statement.values(visible_at=case((first, clock(delay_seconds)), else_=None))
    return _change(connection, statement)


def extend(
    connection: Connection,
    tables: Tables,
    worker: str,
    seqs: Sequence[int],
    lease_seconds: float,
) -> list[int]:
    """Lease rows for longer.

    Returns:
        Those that the worker still has. Also one whose lease ran out, if nobody has claimed it yet.
    """
    if not seqs:
        return []
    statement = _leased(connection, tables, worker, seqs)
    _change(connection, statement.values(visible_at=clock(lease_seconds)))
    outbox = tables.outbox
    found = connection.scalars(
        select(outbox.c.seq).where(
            is_in(connection, outbox.c.seq, seqs),
            outbox.c.leased_by == worker,
            is_waiting(outbox),
        )
    )
    return sorted(found)


def _bury(connection: Connection, tables: Tables, scope: Scope, seqs: Sequence[int]) -> list[Row]:
    """Give rows up that have ended too many workers."""
    if not seqs:
        return []
    outbox = tables.outbox
    are_these = is_in(connection, outbox.c.seq, seqs)
    connection.execute(
        update_by_seq(outbox)
        .where(are_these)
        .values(
            status=DEAD,
            crashes=outbox.c.crashes + 1,
            last_error=f"{CRASHES} workers ended, or lost their lease, while they called it",
            leased_by=None,
            visible_at=None,
            done_at=clock(),
        )
    )
    return _load(connection, tables, scope, are_these)


def _lease(
    connection: Connection,
    tables: Tables,
    scope: Scope,
    worker: str,
    seqs: Sequence[int],
    *,
    lease_seconds: float,
) -> list[Row]:
    if not seqs:
        return []
    outbox = tables.outbox
    is_one = is_in(connection, outbox.c.seq, seqs)
    statement = (
        update_by_seq(outbox)
        .where(is_one, is_waiting(outbox))
        .values(leased_by=worker, visible_at=clock(lease_seconds))
    )
    if scope.counts_crashes:
        crashes = outbox.c.crashes
        count = case((outbox.c.leased_by.isnot(None), crashes + 1), else_=crashes)
        statement = statement.values(crashes=count)
    if not connection.dialect.update_returning:  # MySQL, MariaDB, SQLite before 3.35
        connection.execute(statement)
        return _load(connection, tables, scope, and_(is_one, outbox.c.leased_by == worker))
    found = connection.execute(statement.returning(*columns_of(tables)))
    return sorted(rows_of(found, scope.is_probe), key=lambda row: row.seq)


def _load(
    connection: Connection, tables: Tables, scope: Scope, condition: ColumnElement[bool]
) -> list[Row]:
    return read_rows(connection, tables, condition, scope.is_probe)


def _leased(connection: Connection, tables: Tables, worker: str, seqs: Sequence[int]) -> Update:
    """An update of rows that the worker still has."""
    outbox = tables.outbox
    return update_by_seq(outbox).where(
        is_in(connection, outbox.c.seq, seqs),
        outbox.c.leased_by == worker,
        is_waiting(outbox),
    )


def _change(connection: Connection, statement: Update) -> int:
    return connection.execute(statement).rowcount
