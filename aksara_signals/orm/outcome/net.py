"""What is due when a transaction has ended, and its net for receivers that coalesce.

A transaction may write one row many times. A receiver that coalesces is sent the result: a row
that was created and deleted is nothing, one that was created and changed is created as it is in the
end. That depends on all that was done to the row, also on what a receiver isn't connected to or
filters out: the flush notes it (``Written``) beside what it queues for receivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.entries import Entry, Queued, SentSignal, Written
from aksara_signals.orm.outcome.snapshots import Snapshot
from aksara_signals.signals import post_update

Due = tuple[SentSignal, Connection]


def due(entries: list[Entry], *, is_committed: bool) -> list[Due]:
    """What has to be delivered of what was queued, in order.

    Args:
        entries: Of a root transaction that has ended, with those of its savepoints.
        is_committed: Whether it was committed.
    """
    queued = [each for each in entries if isinstance(each, Queued) and each.is_due(is_committed)]
    if not any(each.connection.coalesce for each in queued):
        return [(each.sent, each.connection) for each in queued]
    nets = _nets(entries, [each for each in queued if each.connection.coalesce])
    return [
        (sent, each.connection)
        for each in queued
        if (sent := nets.get(each) if each.connection.coalesce else each.sent) is not None
    ]


class _Row:
    """One row, and what was done to it, in order."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written: list[Written] = []

    @property
    def key_before(self) -> Any:
        """Its identity key before the transaction; None if it wasn't there."""
        return self.written[0].key_before

    @property
    def is_left(self) -> bool:
        """Whether it is there after the transaction."""
        return self.written[-1].kind is not Kind.DELETE

    @property
    def birth(self) -> Written | None:
        """What has last created it."""
        return next((each for each in reversed(self.written) if each.kind is Kind.CREATE), None)

    def life(self) -> list[Written]:
        """What was done to it since it was last created, that included."""
        birth = self.birth
        return self.written if birth is None else self.written[self.written.index(birth) :]


class _Rows:
    """The rows that were written in one scope: what was committed, or undone, together."""

    def __init__(self, written: Iterable[Written]) -> None:
        self.by_key: dict[Any, _Row] = {}
        """By the identity key that each has in the end."""
        self.by_written: dict[Written, _Row] = {}
        for _, group in groupby(written, attrgetter("flush")):
            self._add([*group])

    def _add(self, flush: list[Written]) -> None:
        # No flush deletes what it has created: of one key, the deleted row was there before.
        flush.sort(key=lambda each: each.kind is not Kind.DELETE)
        # Keys may be handed on: first all that were given up, then all that were taken.
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
    """What is delivered in whose place."""
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
            nets[each] = each.sent  # about no row
            continue
        groups.setdefault((each.connection, each.undone_by, row), []).append(each)
    for (_, _, row), group in groups.items():
        written_ones = [each for each in group if each.sent.written is not None]
        if written_ones:  # what was sent by hand besides is the same fact again
            nets.update(_net_of_row(row, written_ones))
        else:
            nets[group[-1]] = _merged([each.sent for each in group])
    return nets


def _net_of_row(row: _Row, group: list[Queued]) -> Iterator[tuple[Queued, SentSignal]]:
    """What one receiver is sent of one row, and in the place of what."""
    first = group[0]
    if _kind(first) is Kind.DELETE:
        if row.key_before is not None:
            yield first, _deleted(first.sent, row)
        return
    life = row.life()
    alive = [each for each in group if each.sent.written in life] if row.is_left else []
    if not alive:
        return
    last = alive[-1]
    birth = row.birth
    is_created = _kind(alive[0]) is Kind.CREATE
    if last.sent.source is post_update and birth is not None and not birth.is_silent:
        return  # the net is a creation
    net = _merged([each.sent for each in alive], is_created=is_created, latest=_latest(last, life))
    if last.connection.created in (None, is_created) and (is_created or _has_changes(net)):
        yield last, net


def _latest(queued: Queued, life: list[Written]) -> Snapshot:
    """The row as it is in the end: bulk updates may have written it since the signal was sent."""
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
    return snapshot  # type: ignore[no-any-return]  # a flush has sent it


def _kind(queued: Queued) -> Kind | None:
    written = queued.sent.written
    return None if written is None else written.kind


def _deleted(sent: SentSignal, row: _Row) -> SentSignal:
    """With the key under which the rest of the world knows the row."""
    snapshot = _snapshot_of(sent)
    if snapshot.key == row.key_before:
        return sent
    snapshot = copy(snapshot)
    snapshot.take_key(row.key_before)
    return replace(sent, frozen={**sent.frozen, "instance": snapshot})


def _has_changes(net: SentSignal) -> bool:
    changes = net.extras.get("changes")
    return changes is None or bool(changes)  # None: they were not asked for in time


def _merged(
    sends: list[SentSignal], *, is_created: bool | None = None, latest: Snapshot | None = None
) -> SentSignal:
    """Several about one row, sent as one.

    Args:
        sends: In order.
        is_created: What the unit of work knows; None of what was sent by hand.
        latest: The row in the end, if the last of them may have it otherwise.
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
    """The first old values and the last new ones, less what cancels out.

    The last ones are those that the row has in the end: it may have been written besides.
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
