"""Which deliveries are due when a transaction has ended, and their net for coalescing receivers.

A transaction may write one row many times. A receiver with ``coalesce=True`` is called once for it,
with the net. A row that was created and deleted has no net at all. One that was created and changed
was created, with its values in the end.

The signals that are queued for a receiver are not enough to compute that. The receiver may not be
connected to ``post_delete``, may filter out updates, or a context may have silenced a write. So
every write of a row is noted in the queue as well (``Written``), and the net is computed in two
steps:

1. The writes are grouped by row. A row can't be identified by its key alone: keys change, and the
   key of a deleted row may be used again.
2. The queued signals of each receiver are grouped by row. One of them is delivered in the place of
   the whole group, with merged arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from aksara_signals.dispatch.connections.matching import passes
from aksara_signals.dispatch.delivery.delivery import AnyDelivery, FailedDelivery
from aksara_signals.dispatch.receivers.identity import receiver_address
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.fields import UNKNOWN, Inserted, MappedChanges
from aksara_signals.orm.outcome.entries import Entry, Queued, SentSignal, Written
from aksara_signals.orm.outcome.rows import QueuedRows
from aksara_signals.orm.outcome.snapshots import Snapshot
from aksara_signals.signals import post_update

Due = Iterator[AnyDelivery | FailedDelivery]
"""Deliveries, each of which is made when it is asked for."""


def due(entries: list[Entry], *, is_committed: bool) -> list[Due]:
    """The deliveries that are due, in order.

    Args:
        entries: The entries of a root transaction that has ended, and of its savepoints.
        is_committed: Whether it was committed.
    """
    queued = [each for each in entries if isinstance(each, Queued) and each.is_due(is_committed)]
    coalescing = [each for each in queued if each.connection.coalesce]
    nets = _nets(entries, coalescing) if coalescing else {}
    due: list[Due] = []
    for each in entries:
        if isinstance(each, QueuedRows):
            receivers = each.due(is_committed)
            if receivers:
                due.append(each.deliveries(receivers))
        elif isinstance(each, Queued) and each.is_due(is_committed):
            sent = nets.get(each) if each.connection.coalesce else each.sent
            if sent is not None:
                due.append(sent.deliveries((each.connection,)))
    return due


class _Row:
    """The writes of one row, in order."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written: list[Written] = []

    @property
    def key_before(self) -> Any:
        """The identity key before the transaction; None if there was no such row."""
        return self.written[0].key_before

    @property
    def is_left(self) -> bool:
        """Whether the row exists after the transaction."""
        return self.written[-1].kind is not Kind.DELETE

    @property
    def birth(self) -> Written | None:
        """The last write that has created the row."""
        return next((each for each in reversed(self.written) if each.kind is Kind.CREATE), None)

    def life(self) -> list[Written]:
        """The writes since the row was last created, including that one."""
        birth = self.birth
        return self.written if birth is None else self.written[self.written.index(birth) :]


class _Rows:
    """The rows that were written in one scope.

    A scope is everything that is committed at once, or undone by the rollback of one savepoint.
    """

    def __init__(self, written: Iterable[Written]) -> None:
        self.by_key: dict[Any, _Row] = {}
        """By the identity key of each row in the end."""
        self.by_written: dict[Written, _Row] = {}
        for _, group in groupby(written, attrgetter("flush")):
            self._add([*group])

    def _add(self, flush: list[Written]) -> None:
        # A flush may delete a row and create another one with the same key. Its writes have no
        # order among each other, but it never deletes a row that it has created itself. So deletes
        # come first.
        flush.sort(key=lambda each: each.kind is not Kind.DELETE)
        # One row may take the key that another one gives up in the same flush. So all rows whose
        # key changes are taken out first, and then filed under their new keys.
        moved = {
            each: self.by_key.pop(each.key_before, _Row())
            for each in flush
            if each.kind is Kind.UPDATE and each.key != each.key_before
        }
        for each in flush:
            row = moved.get(each) or self.by_key.get(each.key) or _Row()
            row.written.append(each)
            self.by_key[each.key] = self.by_written[each] = row


def _nets(entries: list[Entry], queued: list[Queued]) -> dict[Queued, SentSignal]:
    """The queued signals that are delivered, each with what is sent in its place."""
    scopes = {
        scope: _Rows(
            each for each in entries if isinstance(each, Written) and each.undone_by is scope
        )
        for scope in {each.undone_by for each in queued}
    }
    groups: dict[Any, list[Queued]] = {}
    nets: dict[Queued, SentSignal] = {}
    for each in queued:
        rows, written = scopes[each.undone_by], each.sent.written
        row: Any
        if written is not None:
            row = rows.by_written[written]
        elif (snapshot := each.sent.snapshot) is not None and snapshot.key is not None:
            row = rows.by_key.get(snapshot.key, snapshot.key)
        else:
            nets[each] = each.sent  # it belongs to no row, so there is nothing to merge it with
            continue
        groups.setdefault((each.connection, each.undone_by, row), []).append(each)
    chosen: set[Any] = set()
    for (connection, scope, row), group in groups.items():
        # Two connections of one receiver may both be let through; it is called once all the same.
        receiver = receiver_address(connection.receiver), connection.phase, scope, row
        source = group[0].sent.source
        if (source, *receiver) in chosen:
            continue
        written_ones = [each for each in group if each.sent.written is not None]
        if written_ones:  # signals sent by hand only repeat what the flush has sent
            found = dict(_net_of_row(row, written_ones))
        else:
            found = {group[-1]: _merged([each.sent for each in group])}
        if found:
            nets.update(found)
            chosen.add((source, *receiver))
    return nets


def _net_of_row(row: _Row, group: list[Queued]) -> Iterator[tuple[Queued, SentSignal]]:
    """What one receiver is sent for one row, with the queued signal that it replaces.

    Args:
        row: The row with all its writes.
        group: The signals queued for the receiver that a flush has sent for the row.
    """
    first = group[0]
    # All of the group are deletes, or none is: a receiver is connected to one signal. The net of a
    # row that was created in this transaction and deleted is nothing.
    if _kind(first) is Kind.DELETE:
        if row.key_before is not None:
            provenance = group[-1].sent.provenance
            yield first, replace(_deleted(first.sent, row), provenance=provenance)
        return
    # For all other signals, the row must exist in the end. It may have been deleted and created
    # again; signals about its earlier life don't count.
    life = row.life()
    alive = [each for each in group if each.sent.written in life] if row.is_left else []
    if not alive:
        return
    last = alive[-1]
    birth = row.birth
    is_created = _kind(alive[0]) is Kind.CREATE
    if last.sent.source is post_update and birth is not None and not birth.is_silent:
        return  # the net is an INSERT, for which post_update isn't sent
    # The receiver's filters apply to the net: it may want created rows only, or changes.
    net = _merged([each.sent for each in alive], is_created=is_created, latest=_latest(last, life))
    connection = last.connection
    if connection.created not in (None, is_created) or not (is_created or _has_changes(net)):
        return
    if connection.watches and not passes(connection, _row_changes(net, alive, is_created)):
        return
    yield last, net


def _row_changes(net: SentSignal, alive: list[Queued], is_created: bool) -> MappedChanges:
    """The net changes of a row, as filters judge them.

    Args:
        net: What is sent for the row.
        alive: What was sent for it since it was last created.
        is_created: Whether the transaction has created it.
    """
    latest = _snapshot_of(net)
    birth: Inserted | None = None
    given: set[str] | None = None
    if is_created:
        given = set()
        for each in alive:
            extras = each.sent.extras
            birth = extras.get("inserted", birth)
            given.update(extras.get("inserted", Inserted(extras["changes"], _unknown)).given)

    def value_of(key: str) -> Any:
        value = latest.get(key, UNKNOWN)  # without columns that are deferred
        return birth.value_of(key) if value is UNKNOWN and birth is not None else value

    return MappedChanges(latest.mapper, net.extras["changes"], value_of, given)


def _unknown(_: str) -> Any:
    return UNKNOWN


def _latest(queued: Queued, life: list[Written]) -> Snapshot:
    """The row in the end: bulk updates may have written it after the signal was sent."""
    snapshot = _snapshot_of(queued.sent)
    values: dict[str, Any] = {}
    for each in life:
        if each is queued.sent.written:
            values.clear()
        values.update(each.values)
    if values:
        snapshot = copy(snapshot)
        snapshot.take_values(values)
    return snapshot


def _snapshot_of(sent: SentSignal) -> Snapshot:
    snapshot: Any = sent.frozen["instance"]
    return snapshot  # type: ignore[no-any-return]  # signals of a flush have one


def _kind(queued: Queued) -> Kind | None:
    written = queued.sent.written
    return None if written is None else written.kind


def _deleted(sent: SentSignal, row: _Row) -> SentSignal:
    """A deletion with the key that the row had before the transaction."""
    snapshot = _snapshot_of(sent)
    if snapshot.key == row.key_before:
        return sent
    snapshot = copy(snapshot)
    snapshot.take_key(row.key_before)
    return replace(sent, frozen={**sent.frozen, "instance": snapshot})


def _has_changes(net: SentSignal) -> bool:
    changes = net.extras.get("changes")
    return changes is None or bool(changes)  # None: not recorded, as no receiver requested them


def _merged(
    sends: list[SentSignal], *, is_created: bool | None = None, latest: Snapshot | None = None
) -> SentSignal:
    """One signal in the place of several about one row.

    Args:
        sends: In the order in which they were sent.
        is_created: Whether the row is new in this transaction; None for signals sent by hand, of
            which the unit of work knows nothing.
        latest: The row in the end, if that may differ from the snapshot of the last signal.
    """
    last = sends[-1]
    arguments = dict(last.arguments)
    frozen = last.frozen if latest is None else {**last.frozen, "instance": latest}
    if "created" in arguments:
        if is_created is None:
            found = [each.arguments["created"] for each in sends]
            arguments["created"] = next((each for each in found if each), found[-1])
        else:
            arguments["created"] = is_created
    if "update_fields" in arguments:
        fields = [each.arguments["update_fields"] for each in sends]
        arguments["update_fields"] = None if None in fields else frozenset().union(*fields)
    if "raw" in arguments:
        found = [each.arguments["raw"] for each in sends]
        arguments["raw"] = next((each for each in found if not each), found[-1])
    extras = dict(last.extras)
    if all("changes" in each.extras for each in sends):
        extras["changes"] = _merged_changes(sends, frozen["instance"], is_created=is_created)
    else:
        extras.pop("changes", None)
    return replace(last, arguments=arguments, frozen=frozen, extras=extras)


def _merged_changes(
    sends: list[SentSignal], latest: Any, *, is_created: bool | None
) -> MappingProxyType[str, Any]:
    """The first old values and the last new ones, without those that are equal.

    The last new values are those of the row in the end, which other writes may have changed.
    """
    changes: dict[str, tuple[Any, Any]] = {}
    for each in sends:
        for name, (old, new) in each.extras["changes"].items():
            before = changes[name][0] if name in changes else old
            changes[name] = (None if is_created else before), new
    if is_created is not None:
        changes = {name: (old, latest.get(name, new)) for name, (old, new) in changes.items()}
    if not is_created:
        changes = {name: pair for name, pair in changes.items() if not latest.is_same(name, *pair)}
    return MappingProxyType(changes)
