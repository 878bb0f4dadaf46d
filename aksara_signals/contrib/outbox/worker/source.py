"""An outbox, as far as its workers know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import MetaData

from aksara_signals.contrib.outbox.rows.tables import Tables


class Source(Protocol):
    """What a worker takes rows from: an :class:`~aksara_signals.contrib.outbox.Outbox`."""

    @property
    def tables(self) -> Tables:
        """Its tables."""
        ...

    @property
    def metadata(self) -> MetaData:
        """The metadata that they are in, with the tables of the mapped classes."""
        ...

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of its receivers, for error messages."""
        ...

    @property
    def keep_done_seconds(self) -> float:
        """How long rows stay that are done."""
        ...

    @property
    def keep_dead_seconds(self) -> float:
        """How long rows stay that are given up."""
        ...

    def add_waker(self, wake: Callable[[], object]) -> None:
        """Call a function, in whichever thread, whenever rows have been committed here."""
        ...

    def remove_waker(self, wake: Callable[[], object]) -> None:
        """Undo :meth:`add_waker`."""
        ...
