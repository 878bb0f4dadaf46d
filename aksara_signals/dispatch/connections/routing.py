"""Which connections a send reaches, and in which way their receivers are called: plans."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.in_turn import InTurn
from aksara_signals.dispatch.connections.matching import JudgedChanges, let_through
from aksara_signals.dispatch.connections.narrowing import CHANGE_FILTERS
from aksara_signals.dispatch.connections.options import covers
from aksara_signals.dispatch.context import SignalContext, silence_observers
from aksara_signals.dispatch.receivers.identity import receiver_address, same_receiver
from aksara_signals.types import DURABLE, IMMEDIATE, Sender


class Plan:
    """The connections that one sender's sends reach, in call order.

    Args:
        connections: In call order.
        asking: Those that ask for the rows of statements. A receiver that has several connections
            may have another one here.
    """

    __slots__ = (
        "_asking",
        "_by_created",
        "_of_statements",
        "_silenced",
        "coalesces",
        "concurrent",
        "connections",
        "deferred",
        "durable",
        "includes_values",
        "is_judged",
        "is_narrowed",
        "is_simple",
        "on_demand",
        "repeated",
        "segments",
        "sent",
        "sequential",
        "watched",
    )

    def __init__(
        self, connections: tuple[Connection, ...], asking: tuple[Connection, ...] = ()
    ) -> None:
        immediate = [each for each in connections if each.phase == IMMEDIATE]
        self.sequential: tuple[Connection, ...] = InTurn(
            each for each in immediate if not each.concurrent
        )
        """The immediate receivers that are called one after another, by priority and order of
        connection."""
        self.concurrent: tuple[Connection, ...] = tuple(
            each for each in immediate if each.concurrent
        )
        """The immediate receivers that run in one task group after the sequential ones."""
        self.deferred: tuple[Connection, ...] = tuple(
            each for each in connections if each.phase not in (IMMEDIATE, DURABLE)
        )
        """The receivers that are called after the outcome of the transaction."""
        self.durable: tuple[Connection, ...] = tuple(
            each for each in connections if each.phase == DURABLE
        )
        """The receivers that workers call."""
        self.includes_values: bool = any(
            getattr(each.durable, "include", ()) for each in self.durable
        )
        """Whether column values are stored for any durable receiver."""
        self.connections: tuple[Connection, ...] = self.sequential + self.concurrent
        """The immediate receivers: the sequential ones, then the concurrent ones."""
        self.on_demand: frozenset[str] = frozenset().union(
            *(each.shape.on_demand for each in connections)
        )
        """The on-demand arguments that any of the receivers names."""
        self.is_narrowed: bool = any(each.created is not None for each in connections)
        """Whether the payload's ``created`` decides which receivers are called."""
        self.coalesces: bool = any(each.coalesce for each in self.deferred)
        """Whether any receiver is sent the net change of the transaction."""
        self.watched: frozenset[str] = frozenset().union(
            *(each.watched for each in connections if each.watches)
        )
        """The attributes whose changes decide which receivers are called."""
        self.is_judged: bool = bool(self.watched)
        """Whether the changes of a row decide which receivers are called."""
        self.repeated: Mapping[Connection, object] = (
            _repeated(connections) if self.is_judged else {}
        )
        """The connections whose receiver has several, with a key that those have in common: only
        changes decide which of them calls it."""
        self.segments: tuple[Segment, ...] = tuple(
            _segments(self.sequential, self.concurrent, self.repeated)
        )
        """Runs of receivers that are called in the same way."""
        self.is_simple: bool = bool(connections) and not (
            self.is_narrowed or self.is_judged or self.deferred or self.durable
        )
        """Whether there are receivers, and all are called at once, whatever the payload is."""
        self.sent: tuple[tuple[str, ...], Any] | None = None
        """The names of the payload that was sent last, and the loops that are made for them; None
        unless the plan is simple."""
        self._asking = asking
        self._of_statements: Plan | None = None
        self._silenced: tuple[tuple[Callable[[], Any], ...], Plan] | None = None
        """What contexts have left of the plan the last time; they are referenced weakly."""
        self._by_created: dict[bool | None, Plan] = {}

    def __bool__(self) -> bool:
        return bool(self.connections or self.deferred or self.durable)

    @property
    def all_connections(self) -> tuple[Connection, ...]:
        """The immediate connections, then the deferred and the durable ones."""
        return self.connections + self.deferred + self.durable

    @property
    def once(self) -> tuple[Connection, ...]:
        """As ``all_connections``, but each receiver once per phase, whatever its filters."""
        return (
            once(self.all_connections, filters=())
            if self.is_narrowed or self.is_judged
            else self.all_connections
        )

    def note_sent(self, names: tuple[str, ...], loops: Any) -> None:
        """Note the names of a payload that was sent, and their loops, if the plan is simple."""
        if self.is_simple:
            self.sent = names, loops

    def narrowed(self, created: Any) -> Plan:
        """The plan for a payload with this ``created``; None matches no narrowed connection."""
        if not self.is_narrowed:
            return self
        wanted = None if created is None else bool(created)
        plan = self._by_created.get(wanted)
        if plan is None:
            passed = [each for each in self.all_connections if each.created in (None, wanted)]
            plan = self._by_created[wanted] = Plan(once(passed, filters=CHANGE_FILTERS))
        return plan

    def judged(self, row: JudgedChanges | None) -> Plan:
        """The plan for a payload that says what has changed.

        Args:
            row: The changes; None if the payload doesn't have them, which matches no receiver that
                is narrowed to certain changes.
        """
        if not self.is_judged:
            return self
        passed = let_through(self.all_connections, row, self.repeated, set())
        return Plan(passed) if passed else NO_RECEIVERS

    @property
    def of_statements(self) -> Plan:
        """The plan for the rows of ORM statements."""
        if not self._asking:
            return NO_RECEIVERS
        if self._of_statements is None:
            self._of_statements = Plan(self._asking)
        return self._of_statements

    def of_rows(self, created: bool | None) -> Plan:
        """The plan for a row that is written by an INSERT (``created``) or an UPDATE.

        With None, nobody knows which of the two it was.

        Coalescing receivers stay in it whatever their filter is: it applies to ``created`` of the
        net change, which isn't known yet.
        """
        if not self.coalesces:
            return self.narrowed(created)
        passed = [
            each
            for each in self.all_connections
            if not each.coalesce and each.created in (None, created)
        ]
        kept = set(once(passed, filters=CHANGE_FILTERS))
        return Plan(tuple(each for each in self.all_connections if each.coalesce or each in kept))

    @property
    def asks_what_changed(self) -> bool:
        """Whether any receiver is sent the net of several changes, which may amount to none."""
        return any(each.coalesce and each.created is not True for each in self.deferred)

    def silenced(self, signal: Any, sender: Sender, contexts: tuple[SignalContext, ...]) -> Plan:
        """The plan without the connections that the contexts silence."""
        if not self:
            return self
        known = self._silenced
        if known is not None and not silence_observers:
            references, plan = known
            if references[-1]() is contexts[-1] and (
                len(references) == len(contexts) == 1
                or [each() for each in references] == [*contexts]
            ):
                return plan
        plan = self._without_silenced(signal, sender, contexts)
        self._silenced = tuple(map(weakref.ref, contexts)), plan
        return plan

    def _without_silenced(
        self, signal: Any, sender: Sender, contexts: tuple[SignalContext, ...]
    ) -> Plan:
        plan = self
        for context in contexts:
            if plan and context.silences(signal, sender):
                kept = _exempted(plan.all_connections, context)
                if len(kept) != len(plan.all_connections):
                    for observe in silence_observers:
                        silenced = [each for each in plan.all_connections if each not in kept]
                        observe(signal, sender, silenced, context)
                    asking = _exempted(plan._asking, context)
                    plan = Plan(kept, asking) if kept else NO_RECEIVERS
        return plan


class Segment(NamedTuple):
    """Consecutive receivers of a plan that are called in the same way."""

    is_async: bool
    sequential: tuple[Connection, ...]
    concurrent: tuple[Connection, ...] = ()
    repeated: Mapping[Connection, object] | None = None
    """Not None if these receivers are called only for certain changes, which are judged just before
    the delivery: then as :attr:`Plan.repeated`."""


def _segments(
    sequential: tuple[Connection, ...],
    concurrent: tuple[Connection, ...],
    repeated: Mapping[Connection, object],
) -> Iterator[Segment]:
    run: list[Connection] = []
    for connection in sequential:
        is_judged = connection.watches or connection in repeated
        if run and (is_judged or run[0].is_async is not connection.is_async):
            yield Segment(run[0].is_async, InTurn(run))
            run = []
        if is_judged:
            yield Segment(connection.is_async, InTurn((connection,)), repeated=repeated)
        else:
            run.append(connection)
    if any(each.watches or each in repeated for each in concurrent):
        if run:
            yield Segment(run[0].is_async, InTurn(run))
        yield Segment(True, (), concurrent, repeated)
    elif concurrent:
        if run and not run[0].is_async:
            yield Segment(False, tuple(run))
            run = []
        yield Segment(True, InTurn(run), concurrent)
    elif run:
        yield Segment(run[0].is_async, InTurn(run))


def _exempted(connections: Iterable[Connection], context: SignalContext) -> tuple[Connection, ...]:
    """The connections whose receivers a context doesn't silence."""
    return tuple(
        each
        for each in connections
        if (receiver := each.receiver) is not None and context.exempts(receiver)
    )


def once(connections: Iterable[Connection], filters: tuple[str, ...]) -> tuple[Connection, ...]:
    """Each receiver once per phase, at its first place.

    Args:
        connections: In call order; those whose receiver is gone are left out.
        filters: Those that haven't been applied yet. A second connection of a receiver is left out
            only if everything that passes these filters of it also passes those of the first one.
            What changes let through differs from one place in the order to the next, so they decide
            nothing here.
    """
    chosen: list[Connection] = []
    seen: dict[Hashable, list[tuple[Any, Connection]]] = {}
    for connection in connections:
        receiver = connection.receiver
        if receiver is None:
            continue
        address = receiver_address(receiver), connection.phase, connection.durable_name
        if any(
            same_receiver(receiver, known)
            and not (filters and one.watches)
            and covers(one, connection, filters)
            for known, one in seen.get(address, ())
        ):
            continue
        seen.setdefault(address, []).append((receiver, connection))
        chosen.append(connection)
    return tuple(chosen)


def _repeated(connections: Iterable[Connection]) -> dict[Connection, object]:
    """The connections whose receiver has several of one phase, with a key in common."""
    found: dict[Hashable, list[tuple[Any, list[Connection]]]] = {}
    for connection in connections:
        receiver = connection.receiver
        address = receiver_address(receiver), connection.phase, connection.durable_name
        known = found.setdefault(address, [])
        for other, alike in known:
            if same_receiver(receiver, other):
                alike.append(connection)
                break
        else:
            known.append((receiver, [connection]))
    repeated: dict[Connection, object] = {}
    for known in found.values():
        for _, alike in known:
            if len(alike) > 1:
                repeated.update(dict.fromkeys(alike, object()))
    return repeated


NO_RECEIVERS = Plan(())
"""The plan of a send that reaches no receiver."""
