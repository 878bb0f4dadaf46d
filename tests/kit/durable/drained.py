"""What is left in the outbox of the shop."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from sqlalchemy import Engine, and_, exists, func, select, update

from aksara_signals.contrib.outbox.rows.selecting import CRASHES
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, WAITING, Tables
from kit.brokers import NatsServer
from kit.durable.programs import PATIENCE_SECONDS, wait_until
from kit.durable.shop import outbox

STREAM = "aksara"
"""Of the events, at the broker."""


def rows(engine: Engine, tables: Tables = outbox.tables) -> list[Any]:
    """All rows, in order."""
    with engine.begin() as connection:
        return list(connection.execute(select(tables.outbox).order_by(tables.outbox.c.seq)))


def statuses(engine: Engine, tables: Tables = outbox.tables) -> Counter[int]:
    """How many rows there are of each status."""
    status = tables.outbox.c.status
    with engine.begin() as connection:
        found = connection.execute(select(status, func.count()).group_by(status))
        return Counter(dict(map(tuple, found)))


def waiting(engine: Engine, tables: Tables = outbox.tables) -> int:
    """How many rows are not delivered yet."""
    return statuses(engine, tables)[WAITING]


def unreceived(engine: Engine, *, by_workers: str = "") -> int:
    """How many rows no consumer has received yet, whether they are published or not.

    Args:
        engine: Of the shop's database.
        by_workers: The name of a receiver that workers call.
    """
    rows, inbox = outbox.tables.outbox, outbox.tables.inbox
    is_received = exists().where(
        inbox.c.receiver == rows.c.receiver,
        inbox.c.id == rows.c.id,
        inbox.c.generation == rows.c.generation,
    )
    missing = select(func.count()).select_from(rows)
    missing = missing.where(rows.c.receiver != by_workers, ~is_received)
    with engine.begin() as connection:
        return connection.execute(missing).scalar_one()


def wait_until_received(engine: Engine, server: NatsServer) -> None:
    """Look until relays have published everything, and consumers have received it, and repeats.

    That may take as long as it wants, while something happens.
    """

    def left() -> tuple[int, int, int]:
        return waiting(engine), unreceived(engine), server.unacknowledged(STREAM)

    def has_changed(before: object) -> bool:
        return left() != before

    while any(before := left()):
        wait_until(partial(has_changed, before), f"other than {before} are left", every=0.1)
    assert statuses(engine).keys() == {DONE}


def wait_until_drained(
    engine: Engine, tables: Tables = outbox.tables, *, seconds: float = PATIENCE_SECONDS
) -> list[Any]:
    """Look until workers have delivered everything.

    Returns:
        Dead letters that were requeued. Chance may kill three workers, or make three leases run
        out, while they have the same row; then it looks like one that ends its workers. The later
        rows of its lane don't wait for it.
    """
    requeued: list[Any] = []
    while True:
        wait_until(
            lambda: not waiting(engine, tables), "all rows are done", seconds=seconds, every=0.1
        )
        found = requeue_crashed(engine, tables)
        if not found:
            return requeued
        requeued += found


def requeue_crashed(engine: Engine, tables: Tables = outbox.tables) -> list[Any]:
    """Let dead letters wait again that seem to end their workers, and return them."""
    table = tables.outbox
    is_dead = and_(table.c.status == DEAD, table.c.crashes >= CRASHES)
    with engine.begin() as connection:
        found = list(connection.execute(select(table).where(is_dead)))
        values = {"status": WAITING, "crashes": 0, "done_at": None}
        connection.execute(update(table).where(is_dead).values(values))
    return found
