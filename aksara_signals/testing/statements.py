"""What ``--signals-statements`` does: it names ORM statements for which receivers aren't called."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from inspect import currentframe
from typing import Any

import pytest
from greenlet import getcurrent
from sqlalchemy import event
from sqlalchemy.orm import Mapper, ORMExecuteState, Session

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import AksaraSignalsWarning, StatementSignalError
from aksara_signals.introspection.names import (
    Place,
    place_of_connection,
    printable,
    relative,
)
from aksara_signals.orm.bridge.statements import entity_of, updated_by_default, written_names
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.registered import is_wired
from aksara_signals.orm.statements.layout import classes_of_rows
from aksara_signals.orm.statements.statement import OPTION, kinds_of
from aksara_signals.signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)

__all__ = ["StatementGuard"]

_SIGNALS: dict[Kind, tuple[Signal, ...]] = {
    Kind.CREATE: (pre_save, post_save),
    Kind.UPDATE: (pre_save, pre_update, post_update, post_save),
    Kind.DELETE: (pre_delete, post_delete),
}
"""What a flush that writes the same rows would send."""

_PASSED_OVER = ("sqlalchemy", "aksara_signals", "sqlmodel", "advanced_alchemy")
"""Packages through which applications execute their statements: the line is that of their caller.
"""

_RUNNERS = ("asyncio", "concurrent", "threading")

_RECORDERS = "aksara_signals.testing."
"""What ``capture_signals()`` connects."""

_MAX_NAMED = 5


Missed = dict[Place, list[Signal]]
"""Receivers that aren't called, each with its signals."""


class StatementGuard:
    """A plugin of pytest that names statements while tests run, but not while fixtures do.

    Args:
        raises: Whether a statement raises, before it writes. If not, there is a warning.
    """

    def __init__(self, raises: bool) -> None:
        self._raises = raises
        self._test: str | None = None
        """The node of the test that runs; None between tests, and in fixtures."""
        self._named: set[tuple[str, str]] = set()
        """The places that have been named in this test, each with a statement."""
        # One listener for the whole run: threads may execute statements while a test begins or
        # ends. It comes first, so that nothing is read for a statement that is refused.
        event.listen(Session, "do_orm_execute", self._check, insert=True)

    def close(self) -> None:
        """Stop listening."""
        event.remove(Session, "do_orm_execute", self._check)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Name statements during a test."""
        self._test = item.nodeid
        self._named.clear()
        try:
            return (yield)
        finally:
            self._test = None

    def _check(self, state: ORMExecuteState) -> None:
        if self._test is None or state.is_select or state.bind_mapper is None:
            return
        if not (state.is_insert or state.is_update or state.is_delete):
            return
        if state.execution_options.get(OPTION) is False:
            return
        missed = _missed(kinds_of(state), state.bind_mapper, _updated(state, state.bind_mapper))
        if missed:
            verb = "insert" if state.is_insert else "update" if state.is_update else "delete"
            self._name(verb, state.bind_mapper.class_, missed)

    def _name(self, verb: str, cls: type, missed: Missed) -> None:
        what = f"{verb}({describe_sender(cls)})"
        place_of_user = _place_of_user()
        path, line = place_of_user or (self._test or "", 1)
        place = path if place_of_user is None else printable(f"{relative(path)}:{line}")
        message = f"{what} at {place} doesn't call {_receivers(missed)}; {_ways_out(verb, missed)}"
        if self._raises:
            raise StatementSignalError(message)
        if (place, what) not in self._named:
            # An empty registry: Python itself would show each place only once per run.
            warnings.warn_explicit(message, AksaraSignalsWarning, path, line, registry={})
            self._named.add((place, what))  # not if the warning has been raised as an error


def _updated(state: ORMExecuteState, mapper: Mapper[Any]) -> frozenset[str] | None:
    """The attributes that an UPDATE sets; None if it is none, or they aren't known."""
    if not state.is_update or state.is_from_statement or entity_of(state.statement) is None:
        return None
    return written_names(state, mapper) | updated_by_default(mapper)


def _concerns(connection: Connection, updated: frozenset[str] | None) -> bool:
    """Whether a receiver that is narrowed to attributes can be called for an UPDATE of these."""
    if updated is None:
        return True
    is_watched = connection.fields is None or not updated.isdisjoint(connection.fields)
    return is_watched and updated.issuperset(connection.transition or ())


def _missed(kinds: tuple[Kind, ...], mapper: Mapper[Any], updated: frozenset[str] | None) -> Missed:
    missed: Missed = {}
    contexts = get_active_contexts()
    signals = [signal for kind in kinds if kind in _SIGNALS for signal in _SIGNALS[kind]]
    created = {None, *(kind.created for kind in kinds)}
    for cls in _senders(mapper, with_subclasses=Kind.CREATE not in kinds):
        for signal in dict.fromkeys(signals):
            for each in signal.connections_for(cls):
                receiver = each.receiver
                if each.statements or receiver is None or each.created not in created:
                    continue
                if not _concerns(each, updated):
                    continue
                if any(one.silences(signal, cls) and not one.exempts(receiver) for one in contexts):
                    continue
                place = place_of_connection(each)
                if not place.name.startswith(_RECORDERS):
                    of_receiver = missed.setdefault(place, [])
                    if signal not in of_receiver:
                        of_receiver.append(signal)
    return missed


def _senders(mapper: Mapper[Any], with_subclasses: bool) -> Iterator[type]:
    """The classes that the rows of a statement may belong to."""
    for each in classes_of_rows(mapper) if with_subclasses else (mapper,):
        if is_wired(each.class_):
            yield each.class_


def _receivers(missed: Missed) -> str:
    named = [
        f"{printable(f'{place.name} ({place.title})')} of "
        f"{' and '.join(signal.display_name for signal in signals)}"
        for place, signals in missed.items()
    ]
    others = len(named) - _MAX_NAMED
    if others > 0:
        named[_MAX_NAMED:] = [f"{others} more"]
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def _ways_out(verb: str, missed: Missed) -> str:
    can_be_called = [
        any(each.payload.is_sent_by_statements for each in signals) for signals in missed.values()
    ]
    loading = (
        "add objects to the session"
        if verb == "insert"
        else f"write it as objects.filter(…).with_signals().{verb}()"
    )
    ways = [f"{loading}, which sends every signal"]
    if any(can_be_called):
        which = "" if all(can_be_called) else " to the post signals"
        ways.insert(0, f"connect with statements=True{which}")
    return f"{', '.join(ways)}, or execute it with execution_options={{'signals': False}}"


def _place_of_user() -> tuple[str, int] | None:
    """The file and line that execute the statement; None if there are none.

    Under an AsyncSession a statement is executed in a greenlet of its own. Its frames end where it
    begins; those of the task that awaits it are in the parent.
    """
    frame, greenlet = currentframe(), getcurrent()
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _RUNNERS:  # a task or a thread of the packages in between
            return None
        if package not in _PASSED_OVER:
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
        if frame is None and greenlet.parent is not None:
            greenlet = greenlet.parent
            frame = greenlet.gr_frame
    return None
