"""The one statement that every call with a session pays for."""

from __future__ import annotations

from sqlalchemy import Connection, Table, Update, bindparam, literal_column, null, update

from aksara_signals.contrib.outbox.rows.compiled import CompiledStatement
from aksara_signals.contrib.outbox.rows.tables import DONE, Tables, clock, is_waiting


def mark_one_done(connection: Connection, tables: Tables, worker: str, seq: int) -> bool:
    """As ``mark_done()``, for one row, in a third of the time."""
    values = {"the_seq": seq, "the_worker": worker}
    return bool(_DONE.execute(connection, tables.outbox, values))


def _done(outbox: Table, _dialect: str) -> Update:
    return (
        update(outbox)
        .where(
            outbox.c.seq == bindparam("the_seq"),
            outbox.c.leased_by == bindparam("the_worker"),
            is_waiting(outbox),
        )
        .values(
            status=literal_column(str(DONE)),
            done_at=clock(),
            visible_at=null(),
            leased_by=null(),
            last_error=null(),
        )
    )


_DONE = CompiledStatement(_done)
