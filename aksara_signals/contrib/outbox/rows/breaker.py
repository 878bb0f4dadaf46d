"""The circuit breaker: a receiver that is down is called by single probes, until one succeeds.

Without it, the retries of a receiver that is down would fill every claim, and its rows would die
of an outage. Its state is in a table, because all workers together see one outage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, literal, select, update

from aksara_signals.contrib.outbox.rows.changing import insert_or_update
from aksara_signals.contrib.outbox.rows.tables import WAITING, Tables, clock

FAILURES_IN_A_ROW: int = 20
"""So many failures without a success between them open the breaker."""

RETRYING_ROWS: int = 10_000
"""So many rows that wait for their next attempt open it, too, if the last call failed."""

FIRST_STEP_SECONDS: float = 2.0
"""The time from the opening to the first probe; each further one takes twice as long."""

LONGEST_STEP_SECONDS: float = 300.0
"""The longest time between two probes."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of one receiver that has failed since its last success."""

    receiver: str
    failures: int
    """In a row."""
    is_open: bool
    """Only probes are claimed, and failures count no attempts."""
    is_probe_due: bool
    probes: int
    """How many were claimed since the breaker opened."""


def load_breakers(connection: Connection, tables: Tables) -> dict[str, Breaker]:
    """The receivers that have failed since their last success, by name."""
    found = connection.execute(_states(tables).where(tables.breaker.c.failures > 0))
    return {row.receiver: _breaker(row) for row in found}


def note_failure(connection: Connection, tables: Tables, receiver: str) -> Breaker:
    """Count a failed call, and open the breaker at the twentieth in a row.

    Args:
        receiver: Its present name, also for rows that were written under a former one.

    Returns:
        The state after it.
    """
    table = tables.breaker
    count = table.c.failures + 1
    opens = and_(table.c.opened_at.is_(None), count >= FAILURES_IN_A_ROW)
    changes = (
        ("probes", case((opens, 0), else_=table.c.probes)),
        ("probe_at", case((opens, clock(FIRST_STEP_SECONDS)), else_=table.c.probe_at)),
        ("opened_at", case((opens, clock()), else_=table.c.opened_at)),
        ("failures", count),
    )
    values = {"receiver": receiver, "failures": 1}
    connection.execute(insert_or_update(table, connection.dialect.name, values, changes))
    return _breaker(connection.execute(_states(tables).where(table.c.receiver == receiver)).one())


def note_success(connection: Connection, tables: Tables, receiver: str) -> None:
    """Close the breaker; needed only for a receiver that ``load_breakers()`` returned."""
    table = tables.breaker
    connection.execute(
        update(table)
        .where(table.c.receiver == receiver, table.c.failures > 0)
        .values(failures=0, probes=0, opened_at=None, probe_at=None)
    )


def open_if_crowded(
    connection: Connection, tables: Tables, breaker: Breaker, names: Sequence[str]
) -> Breaker:
    """Open the breaker of a failing receiver that has too many rows waiting for their retry.

    Args:
        names: All names that rows of the receiver may have.
    """
    outbox, table = tables.outbox, tables.breaker
    retrying = (
        select(literal(1))
        .where(
            outbox.c.receiver.in_(names),
            outbox.c.status == WAITING,
            outbox.c.visible_at.isnot(None),
        )
        .limit(RETRYING_ROWS)
    )
    count = connection.execute(select(func.count()).select_from(retrying.subquery())).scalar_one()
    if count < RETRYING_ROWS:
        return breaker
    connection.execute(
        update(table)
        .where(table.c.receiver == breaker.receiver, table.c.opened_at.is_(None))
        .values(opened_at=clock(), probes=0, probe_at=clock(FIRST_STEP_SECONDS))
    )
    return replace(breaker, is_open=True, is_probe_due=False, probes=0)


def begin_probe(connection: Connection, tables: Tables, breaker: Breaker) -> None:
    """Note that a probe was claimed, and when the next one may be."""
    table = tables.breaker
    # A probe that takes longer than this gets company; the steps double, so it stays small.
    step = min(FIRST_STEP_SECONDS * 2 ** min(breaker.probes + 1, 30), LONGEST_STEP_SECONDS)
    connection.execute(
        update(table)
        .where(table.c.receiver == breaker.receiver)
        .values(probes=breaker.probes + 1, probe_at=clock(step))
    )


def _states(tables: Tables) -> Any:
    table = tables.breaker
    is_due = case((table.c.probe_at <= clock(), 1), else_=0)
    return select(
        table.c.receiver,
        table.c.failures,
        table.c.opened_at,
        table.c.probes,
        is_due.label("is_due"),
    )


def _breaker(row: Row[Any]) -> Breaker:
    return Breaker(
        row.receiver, row.failures, row.opened_at is not None, bool(row.is_due), row.probes
    )
