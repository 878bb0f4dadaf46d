"""What a worker has to write about its rows, gathered so that one transaction writes much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from aksara_signals.contrib.outbox.rows import breaker, claiming
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.tables import Tables


@dataclass(slots=True, eq=False)
class Failed:
    """A call that has failed."""

    row: Row
    error: BaseException
    text: str
    delay_seconds: float
    receiver: str
    """The present name of the receiver."""
    counts: bool = True
    """Whether it was an attempt."""
    is_dead: bool = False
    feeds_breaker: bool = True
    """Whether it says something about the receiver, and not only about the database."""
    lane_mates: Sequence[int] = ()
    is_lost: bool = False
    """Whether another worker has the row, which is known once this is written."""

    @property
    def seqs(self) -> list[int]:
        """The rows that the worker no longer has when this is written."""
        return [self.row.seq, *self.lane_mates]

    def write(self, connection: Connection, tables: Tables, worker: str) -> None:
        """Write it."""
        self.is_lost = not claiming.fail(
            connection,
            tables,
            worker,
            self.row,
            error=self.text,
            delay_seconds=self.delay_seconds,
            counts=self.counts,
            is_dead=self.is_dead,
            lane_mates=self.lane_mates,
        )
        if not self.is_lost and self.feeds_breaker:
            breaker.note_failure(connection, tables, self.receiver)


@dataclass(slots=True, eq=False)
class Released:
    """Rows that are given back without having been called."""

    seqs: list[int]
    delay_seconds: float | None = None

    def write(self, connection: Connection, tables: Tables, worker: str) -> None:
        """Write it."""
        claiming.release(connection, tables, worker, self.seqs, delay_seconds=self.delay_seconds)


@dataclass(slots=True, eq=False)
class Acknowledged:
    """Calls that have succeeded outside of a transaction."""

    seqs: list[int]
    lost: int = 0
    """How many of them another worker has, which is known once this is written."""

    def write(self, connection: Connection, tables: Tables, worker: str) -> None:
        """Write it."""
        self.lost = len(self.seqs) - claiming.mark_done(connection, tables, worker, self.seqs)


@dataclass(slots=True, eq=False)
class Recovered:
    """A receiver that has succeeded after failures."""

    receiver: str
    seqs: list[int] = field(default_factory=list)

    def write(self, connection: Connection, tables: Tables, worker: str) -> None:
        """Write it."""
        breaker.note_success(connection, tables, self.receiver)


Record = Failed | Released | Acknowledged | Recovered


def write_all(
    connection: Connection, records: Sequence[Record], tables: Tables, worker: str
) -> None:
    """Write records, in order."""
    for record in records:
        record.write(connection, tables, worker)
