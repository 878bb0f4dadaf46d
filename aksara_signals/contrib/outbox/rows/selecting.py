"""Which rows a claim takes.

Of each lane, only one row may be claimed at a time: the first of those that are not fresh, once it
is due; or, if there is none, fresh ones, which their worker calls one after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Integer,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)

from aksara_signals.contrib.outbox.rows.breaker import Breaker, open_if_crowded
from aksara_signals.contrib.outbox.rows.tables import Tables, clock, is_in, is_waiting

CRASHES: int = 3
"""A row whose worker has ended so many times while it was leased is dead."""

_SUSPECTS = 100


@dataclass(frozen=True, slots=True)
class Scope:
    """The receivers of one claim."""

    former_of: Mapping[str, Sequence[str]]
    present: Mapping[str, str]
    """Present names, by former ones."""
    limits: dict[str, int]
    """How many rows to claim, by the names of receivers that are not known to be down."""
    probes: list[list[str]]
    """The names of each receiver that is down, and whose next probe is due."""
    open: dict[str, Breaker]
    """The breakers of those that are down, by their present name."""
    counts_crashes: bool
    """Whether a row whose lease ran out may have ended its worker, so that it is a suspect."""

    @classmethod
    def of(
        cls,
        connection: Connection,
        tables: Tables,
        limits: Mapping[str, int],
        former_of: Mapping[str, Sequence[str]],
        breakers: Mapping[str, Breaker],
        *,
        counts_crashes: bool,
    ) -> Scope:
        """Sort names by what their breakers allow."""
        present = {old: name for name, olds in former_of.items() for old in olds}
        scope = cls(former_of, present, {}, [], {}, counts_crashes)
        wanted = {name: most for name, most in limits.items() if most > 0}
        for receiver in dict.fromkeys(map(scope.present_name, wanted)):
            names = [name for name in scope.all_names(receiver) if name in wanted]
            breaker = breakers.get(receiver)
            if breaker is not None and not breaker.is_open:
                breaker = open_if_crowded(connection, tables, breaker, scope.all_names(receiver))
            if breaker is None or not breaker.is_open:
                scope.limits.update((name, wanted[name]) for name in names)
                continue
            scope.open[receiver] = breaker
            if breaker.is_probe_due:
                scope.probes.append(names)
        return scope

    @property
    def names(self) -> list[str]:
        """The names of which a row may be claimed."""
        return [*self.limits, *(name for names in self.probes for name in names)]

    def present_name(self, name: str) -> str:
        """The name that the receiver has now."""
        return self.present.get(name, name)

    def is_probe(self, name: str) -> bool:
        """Whether a row of this name is a probe: its receiver is down."""
        return self.present_name(name) in self.open

    def all_names(self, name: str) -> list[str]:
        """The names that the receiver has had, then the present one: all may hold its lanes."""
        receiver = self.present_name(name)
        return [*self.former_of.get(receiver, ()), receiver]


def look(connection: Connection, tables: Tables, names: Sequence[str]) -> tuple[bool, bool]:
    """Whether any receiver has failed, and whether any row that isn't fresh is due.

    Mostly neither is so, and four other statements can be left out.
    """
    outbox, breaker = tables.outbox, tables.breaker
    has_failed = exists().where(breaker.c.failures > literal_column("0"))
    rows = select(outbox.c.seq).where(*_is_due(tables))
    if connection.dialect.name != "postgresql":
        is_due = rows.where(outbox.c.receiver.in_(names)).exists()
    else:  # the same scans of the index as below
        wanted = (
            func.unnest(bindparam("names", list(names), ARRAY(String())))
            .table_valued(Column("receiver", String()))
            .render_derived("wanted")
        )
        first = (
            rows.where(outbox.c.receiver >= wanted.c.receiver)
            .where(outbox.c.receiver <= wanted.c.receiver)
            .order_by(outbox.c.receiver, outbox.c.visible_at)
            .limit(literal_column("1"))
            .lateral("first")
        )
        is_due = select(first.c.seq).select_from(wanted.join(first, true())).exists()
    found = connection.execute(select(has_failed, is_due)).one()
    return bool(found[0]), bool(found[1])


def find_suspects(
    connection: Connection, tables: Tables, scope: Scope
) -> tuple[int | None, list[int]]:
    """Look for rows whose lease ran out.

    Returns:
        The first one, and those whose lease ran out for the last time.
    """
    outbox = tables.outbox
    related = sorted({each for name in scope.names for each in scope.all_names(name)})
    found = connection.execute(
        select(outbox.c.seq, outbox.c.crashes)
        .where(
            is_in(connection, outbox.c.receiver, scope.names),
            *_is_due(tables),
            outbox.c.leased_by.isnot(None),
            _is_head(connection, tables, related),
        )
        .order_by(outbox.c.seq)
        .limit(_SUSPECTS)
        # A slow receiver may just be committing its row. Then the row isn't lost.
        .with_for_update(skip_locked=True, of=outbox)
    ).all()
    killers = [row.seq for row in found if row.crashes + 1 >= CRASHES]
    return next((row.seq for row in found if row.crashes + 1 < CRASHES), None), killers


def pick(connection: Connection, tables: Tables, scope: Scope, order: Sequence[bool]) -> list[int]:
    """Rows of each receiver; ``order`` is whether to take fresh ones, then which ones next."""
    families = [
        [name for name in scope.all_names(receiver) if name in scope.limits]
        for receiver in scope.former_of
    ]
    in_turn = [names for names in families if len(names) > 1]
    others = set(scope.limits).difference(*in_turn)
    limits = {name: scope.limits[name] for name in others}
    picked = _pick_of(connection, tables, scope, limits, order)
    for names in in_turn:
        earlier = _Earlier([], [])
        for name in names:
            most = scope.limits[name]
            found = _pick_of(connection, tables, scope, {name: most}, order, earlier=earlier)
            earlier = _Earlier([*earlier.names, name], [*earlier.picked, *found])
            picked += found
            if len(found) >= most:
                break  # there may be more, which come before those of the next name
    for names in scope.probes:
        # A row that can't succeed would be the probe for ever: every other one is a fresh row.
        is_fresh = bool(scope.open[scope.present_name(names[0])].probes % 2)
        for place, name in enumerate(names):
            in_order, earlier = (is_fresh, not is_fresh), _Earlier(names[:place], [])
            found = _pick_of(connection, tables, scope, {name: 1}, in_order, earlier=earlier)
            picked += found
            if found:
                break
    return picked


@dataclass(frozen=True, slots=True)
class _Earlier:
    """Former names of a receiver, whose rows come before those of a later name."""

    names: list[str]
    picked: list[int]
    """Their rows that are picked by this claim already."""


def _pick_of(
    connection: Connection,
    tables: Tables,
    scope: Scope,
    limits: Mapping[str, int],
    order: Sequence[bool],
    *,
    earlier: _Earlier | None = None,
) -> list[int]:
    """Rows of receivers; ``order`` is whether to take fresh ones, then which ones next."""
    left = {name: most for name, most in limits.items() if most > 0}
    picked: list[int] = []
    for is_fresh in order:
        if not left:
            break
        for receiver, seq in _candidates(
            connection, tables, scope, left, is_fresh=is_fresh, earlier=earlier
        ):
            picked.append(seq)
            left[receiver] -= 1
        left = {name: most for name, most in left.items() if most > 0}
    return picked


def _candidates(
    connection: Connection,
    tables: Tables,
    scope: Scope,
    limits: Mapping[str, int],
    *,
    is_fresh: bool,
    earlier: _Earlier | None,
) -> list[tuple[str, int]]:
    """Names and numbers of rows that may be claimed."""
    receiver = tables.outbox.c.receiver
    if connection.dialect.name != "postgresql":
        return [
            (row.receiver, row.seq)
            for name, most in limits.items()
            for row in connection.execute(
                _rows(
                    connection,
                    tables,
                    scope,
                    scope.all_names(name),
                    is_fresh=is_fresh,
                    earlier=earlier,
                )
                .where(receiver == name)
                .limit(most)
            )
        ]
    # One scan of the index per receiver: a receiver with many rows in front isn't in the way of
    # the others, and each scan ends at its limit. A range, because for an equal name PostgreSQL
    # could also walk the primary key in this order, past all the rows of others.
    names = sorted({each for name in limits for each in scope.all_names(name)})
    wanted = (
        func.unnest(
            bindparam("names", list(limits), ARRAY(String())),
            bindparam("limits", list(limits.values()), ARRAY(Integer())),
        )
        .table_valued(Column("receiver", String()), Column("most", Integer()))
        .render_derived("wanted")
    )
    picked = (
        _rows(connection, tables, scope, names, is_fresh=is_fresh, earlier=earlier)
        .where(receiver >= wanted.c.receiver, receiver <= wanted.c.receiver)
        .limit(wanted.c.most)
        .lateral("picked")
    )
    found = connection.execute(
        select(picked.c.receiver, picked.c.seq).select_from(wanted.join(picked, true()))
    )
    return [(row.receiver, row.seq) for row in found]


def _rows(
    connection: Connection,
    tables: Tables,
    scope: Scope,
    names: Sequence[str],
    *,
    is_fresh: bool,
    earlier: _Earlier | None,
) -> Any:
    """Fresh rows, or those that are due; ``names`` are all that may hold their lanes."""
    outbox = tables.outbox
    rows = select(outbox.c.receiver, outbox.c.seq)
    if is_fresh:
        if earlier is not None and earlier.names:
            rows = rows.where(_is_last(connection, tables, earlier))
        return rows.where(
            is_waiting(outbox),
            outbox.c.visible_at.is_(None),
            _is_free(connection, tables, names),
        ).order_by(outbox.c.receiver, outbox.c.seq)
    if scope.counts_crashes:  # rows whose lease ran out are claimed one by one
        rows = rows.where(outbox.c.leased_by.is_(None))
    return (
        rows.where(*_is_due(tables), _is_head(connection, tables, names))
        .order_by(outbox.c.receiver, outbox.c.visible_at)
        .with_for_update(skip_locked=True, of=outbox)
    )


def _is_due(tables: Tables) -> tuple[ColumnElement[bool], ...]:
    outbox = tables.outbox
    return (
        is_waiting(outbox),
        outbox.c.visible_at.isnot(None),
        outbox.c.visible_at <= clock(),
    )


def _is_head(connection: Connection, tables: Tables, names: Sequence[str]) -> ColumnElement[bool]:
    """The row is the first of its lane that isn't fresh, and no row of the lane is leased."""
    held = tables.outbox.alias("held")
    is_running = and_(held.c.leased_by.isnot(None), held.c.visible_at > clock())
    heads = (
        _not_fresh(connection, select(func.min(held.c.seq)), held, names)
        .group_by(held.c.lane)
        .having(func.max(case((is_running, 1), else_=0)) == 0)
    )
    return or_(tables.outbox.c.lane.is_(None), tables.outbox.c.seq.in_(heads))


def _is_free(connection: Connection, tables: Tables, names: Sequence[str]) -> ColumnElement[bool]:
    """Every row of the lane is fresh."""
    held = tables.outbox.alias("held")
    lanes = _not_fresh(connection, select(held.c.lane), held, names)
    return or_(tables.outbox.c.lane.is_(None), tables.outbox.c.lane.not_in(lanes))


def _is_last(connection: Connection, tables: Tables, earlier: _Earlier) -> ColumnElement[bool]:
    """No row of an earlier name is left in the lane.

    Such a row may have become free since the earlier names were looked at: a worker, which needs
    no claim for it, has just finished the row in front of it.
    """
    left = tables.outbox.alias("left_row")
    lanes = select(left.c.lane).where(
        is_in(connection, left.c.receiver, earlier.names),
        is_waiting(left),
        left.c.visible_at.is_(None),
        left.c.lane.isnot(None),
        ~is_in(connection, left.c.seq, earlier.picked),
    )
    return or_(tables.outbox.c.lane.is_(None), tables.outbox.c.lane.not_in(lanes))


def _not_fresh(connection: Connection, statement: Any, held: Any, names: Sequence[str]) -> Any:
    return statement.where(
        is_in(connection, held.c.receiver, names),
        is_waiting(held),
        held.c.visible_at.isnot(None),
        held.c.lane.isnot(None),
    )
