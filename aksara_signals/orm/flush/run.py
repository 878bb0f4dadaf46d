"""From one flush to its signals: pre signals before it, post signals after it."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable
from functools import partial
from typing import Any

from sqlalchemy.orm import Session, UOWTransaction

from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS
from aksara_signals.dispatch.delivery.frame import recursion_error
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.orm.bridge.deletions import DeletedRows
from aksara_signals.orm.bridge.hidden_history import hidden_history_of
from aksara_signals.orm.bridge.history import has_column_changes
from aksara_signals.orm.bridge.loading import expire_unset, load_before_deletion, load_columns
from aksara_signals.orm.bridge.sessions import (
    flushable,
    has_nothing_but,
    taken_over_rows,
    written_states,
)
from aksara_signals.orm.bridge.states import State, describe, has_pending_key
from aksara_signals.orm.flush.changes import Batch, Change, batches, deleted_before_created
from aksara_signals.orm.flush.payloads import arguments_of, common_of, steps_of_changes
from aksara_signals.orm.flush.prediction import Prediction
from aksara_signals.orm.flush.recipients import POST, PRE, Audience, Moment
from aksara_signals.orm.flush.requested import requested_in
from aksara_signals.orm.flush.values import FlushValues
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.entries import Told, Waiting, Written
from aksara_signals.orm.outcome.queue import waiting_in
from aksara_signals.orm.outcome.snapshots import Snapshot, kept_extras
from aksara_signals.orm.relations.origins import is_anybody_listening
from aksara_signals.orm.relations.signals import RelationshipRun
from aksara_signals.orm.sending import AFTER_WRITING, BEFORE_A_FLUSH, Receiving, send
from aksara_signals.orm.session.current import is_at_work, user_session

__all__ = ["MAX_ROUNDS", "FlushRun"]

MAX_ROUNDS = 100
"""How often pre receivers may add something new to the flush under way."""


class FlushRun:
    """One flush, from ``before_flush`` to ``after_flush_postexec``.

    Args:
        session: Flushing.
        objects: What ``flush(objects)`` was restricted to, else None.
    """

    def __init__(self, session: Session, objects: Iterable[object] | None) -> None:
        self._session = session
        self._objects = None if objects is None else list(objects)
        self._owner = user_session(session)
        self.is_sending: bool = False
        """Whether receivers are called just now: an error is theirs."""
        self._told: dict[State, Change] = {}
        self._batches: list[Batch] = []
        self._deletes: DeletedRows | None = None
        self._taken_over: set[Any] = set()
        """The identity keys of deleted objects whose rows have gone over to new ones."""
        self._values = FlushValues(session)
        self._requested: Container[State] = ()
        self._unwritten: set[State] = set()
        self._audience = Audience()
        self._flush = object()
        self._keys_before: dict[State, Any] = {}
        """Where somebody is sent the net of what is done to a row: its key may be changed."""
        self._silenced: list[tuple[State, Kind]] = []
        self._relationships = (
            RelationshipRun(session, self._objects) if is_anybody_listening() else None
        )

    def _steps_of(self, changes: list[Change], moment: Moment) -> list[str]:
        return [
            f"{signal.display_name} sent by {describe(each.instance)} to "
            f"{describe_receiver(connection.receiver)}"
            for each in changes
            for signal, plan in self._audience.hearers(each.sender, each.kind, moment).plans
            for connection in plan.connections
        ]

    # -- before --------------------------------------------------------------------------------

    def before(self) -> None:
        """Send pre signals until receivers add nothing new.

        Raises:
            SignalRecursionError: They never stop.
            SessionInUseError: A receiver ended the transaction of the flush.
        """
        fresh: list[Change] = []
        for _ in range(MAX_ROUNDS):
            prediction = Prediction(
                self._session, self._audience.is_heard, self._objects, self._told
            )
            fresh = [change for change in prediction.changes() if self._is_news(change)]
            if not fresh:
                # Links are told when all rows have been, so that pre_save comes before pre_add.
                if self._send_pre_links(prediction):
                    continue
                break
            for change in fresh:
                self._told[change.state] = change
            self._send_pre(fresh)
            if self._is_settled(prediction):
                break
        else:
            raise recursion_error(
                f"pre receivers changed further objects in {MAX_ROUNDS} successive rounds "
                f"of one flush",
                self._steps_of(fresh, PRE),
            )
        self._requested = requested_in(self._session)
        wanted: list[Change] = []
        for kind, sender, batch in batches(self._told.values()):
            asks_for_changes = self._audience.hearers(sender, kind, POST).asks_for_changes
            if asks_for_changes or kind is Kind.UPDATE:
                for change in batch:
                    self._values.expect(change)
            if asks_for_changes:
                wanted += batch
        self._values.read_old(wanted)
        self._watch_deletes()

    def _watch_deletes(self) -> None:
        deleted = [
            change.state
            for kind, sender, batch in batches(self._told.values())
            if kind is Kind.DELETE and self._audience.hearers(sender, kind, POST).plans
            for change in batch
        ]
        if deleted:
            self._deletes = DeletedRows(self._session, deleted)

    def _is_settled(self, prediction: Prediction) -> bool:
        """Whether receivers surely added nothing, so that there is no need to look again."""
        return (
            self._relationships is None
            and not prediction.is_linked
            and has_nothing_but(self._session, self._told)
        )

    def _is_news(self, change: Change) -> bool:
        told = self._told.get(change.state)
        return told is None or (change.kind is Kind.DELETE and told.kind is not Kind.DELETE)

    def _send_pre(self, fresh: list[Change]) -> None:
        alike = list(batches(fresh))
        needed: list[State] = []
        wanted: list[Change] = []
        for kind, sender, batch in alike:
            hearers = self._audience.hearers(sender, kind, PRE)
            if hearers.asks_for_changes:
                wanted += batch
            states = [change.state for change in batch]
            if kind is Kind.DELETE:
                after = self._audience.hearers(sender, kind, POST)
                if hearers.needs_columns or after.needs_columns:
                    needed += states
                elif after.plans:  # they may read it when it is gone
                    load_before_deletion(self._session, states)
            elif kind is Kind.UPDATE and hearers.needs_columns:
                needed += states
        load_columns(self._session, needed)
        extras: dict[State, Any] = {**self._values.live(wanted)} if wanted else {}
        self.is_sending = True
        with Receiving(self._session, self._owner, BEFORE_A_FLUSH):
            send(steps_of_changes(self._audience, self._owner, alike, PRE, extras))
        self.is_sending = False

    def _send_pre_links(self, prediction: Prediction) -> bool:
        """Tell of the links that haven't been told yet, and whether there were any."""
        run = self._relationships
        told = [] if run is None else run.fresh(prediction.deleted)
        if run is not None and told:
            run.load_for(told)
            self.is_sending = True
            with Receiving(self._session, self._owner, BEFORE_A_FLUSH):
                send(run.pre_steps(told))
            self.is_sending = False
        return bool(told)

    # -- after ---------------------------------------------------------------------------------

    def record(self, flush_context: UOWTransaction) -> None:
        """Note what was really written, while history still shows it."""
        written = dict(written_states(flush_context))
        happened: list[Change] = []
        missed = self._missed_deletes()
        for state, change in self._told.items():
            if written.get(state) is not (change.kind is Kind.DELETE):
                continue
            if (
                change.kind is not Kind.DELETE
                and (change.kind is Kind.CREATE) is state.has_identity
            ):
                continue  # a later listener has made a new row of an old one, or an old one of it
            del written[state]
            if state in missed:
                continue
            if (
                change.kind is not Kind.UPDATE
                or has_column_changes(state)
                or self._values.has_expressions(state)  # expired: no history shows them any more
            ):
                happened.append(change)
            elif state in self._requested:
                self._unwritten.add(state)
                happened.append(change)
        unforeseen = [
            found
            for state, is_delete in written.items()
            if (found := self._classify(state, is_delete)) is not None
        ]
        self._silenced = [
            (
                state,
                Kind.DELETE if is_delete else Kind.UPDATE if state.has_identity else Kind.CREATE,
            )
            for state, is_delete in written.items()
            if not self._audience.is_heard(state.class_) and self._audience.coalesces(state.class_)
        ]
        self._keys_before.update((state, state.key) for state, _ in self._silenced)
        links = 0
        if self._relationships is not None:
            deleted = {state for state, is_delete in written_states(flush_context) if is_delete}
            links = self._relationships.record(deleted)
        if unforeseen or links:
            names = sorted({each.sender.__qualname__ for each in unforeseen})
            warnings.warn(
                f"a flush wrote {len(unforeseen)} rows{' of ' if names else ''}{', '.join(names)} "
                f"and {links} links of relationships that were not there "
                f"when pre signals were sent, so only post signals tell of them; add them before "
                f"the flush, or in a pre_save receiver instead of a before_flush listener",
                AksaraSignalsWarning,
                stacklevel=2,
            )
        self._batches = list(batches(deleted_before_created([*happened, *unforeseen])))
        self._taken_over = taken_over_rows(flush_context)
        for kind, sender, batch in self._batches:
            if self._audience.hearers(sender, kind, POST).asks_for_changes:
                for change in batch:
                    self._values.record(change)
            if kind is Kind.UPDATE and self._audience.coalesces(sender):
                self._keys_before.update((change.state, change.state.key) for change in batch)

    def _missed_deletes(self) -> set[State]:
        """The deleted objects whose rows were gone already."""
        if self._deletes is None:
            return set()
        missed, unsure = self._deletes.missed()
        if unsure:
            expected, matched = (sum(each) for each in zip(*unsure, strict=True))
            warnings.warn(
                f"a flush was to delete {expected} rows and has deleted {matched}; the others were "
                f"gone already. The database doesn't say which they are, so post_delete is sent "
                f"for all of them",
                AksaraSignalsWarning,
                stacklevel=2,
            )
        return missed

    def _classify(self, state: State, is_delete: bool) -> Change | None:
        instance = state.obj()
        if instance is None or not self._audience.is_heard(state.class_):
            return None
        if is_delete:
            return Change(Kind.DELETE, state, instance)
        if not state.has_identity:
            return Change(Kind.CREATE, state, instance)
        if has_column_changes(state):
            return Change(Kind.UPDATE, state, instance)
        return None

    def after(self) -> None:
        """Send post signals; receivers may use the session for anything but ending it.

        Raises:
            SessionInUseError: A receiver ended the transaction of the flush.
        """
        links = self._relationships
        self._note_silenced()
        if not self._batches and not (links is not None and links.has_happened):
            return
        self._audience = Audience()  # whoever was connected by a pre receiver hears this
        with flushable(self._session, partial(is_at_work, self._session)):
            self._load_columns()
            extras = self._values.extras()
            self._keep(extras)
            with Receiving(self._session, self._owner, AFTER_WRITING):
                send(steps_of_changes(self._audience, self._owner, self._batches, POST, extras))
                if links is not None:
                    send(links.post_steps())

    def _load_columns(self) -> None:
        """Load what async receivers couldn't, and what copies for others are to hold."""
        needed = self._values.worked_out()
        for kind, sender, batch in self._batches:
            if kind is Kind.DELETE:
                continue
            states = [change.state for change in batch]
            for state in states if self._taken_over else ():
                if state.key in self._taken_over:
                    expire_unset(state)
            if self._audience.hearers(sender, kind, POST).needs_columns:
                needed += states
                for state in states:
                    hidden = hidden_history_of(state)
                    if hidden is not None:
                        hidden.read_unknown(self._session)
        if self._relationships is not None:
            needed += self._relationships.needed_states()
        load_columns(self._session, needed)

    def _keep(self, extras: dict[State, Any]) -> None:
        """Keep what has happened, as it is now, for receivers that wait for the outcome."""
        for kind, sender, batch in self._batches:
            kept = self._audience.hearers(sender, kind, POST).waiting
            coalesces = self._audience.coalesces(sender)
            if not kept and not coalesces:
                continue
            waiting = waiting_in(self._session)
            common = common_of(kind, sender, self._owner)
            for change in batch:
                written = None
                if coalesces:
                    written = self._written(kind, change.state)
                    waiting.append(written)
                    if not kept:
                        continue
                arguments = arguments_of(common, change)
                arguments["instance"] = snapshot = Snapshot(change.state)
                if kind is Kind.DELETE and has_pending_key(change.state):
                    snapshot.take_key(change.state.key)
                extra = kept_extras(extras.get(change.state, NO_EXTRAS))
                for signal, connections in kept:
                    told = Told(signal, sender, {**arguments, "signal": signal}, extra, written)
                    waiting += [
                        Waiting(told, connection)
                        for connection in connections
                        # The net of a save that was asked for and wrote nothing is nothing.
                        if not (connection.coalesce and change.state in self._unwritten)
                    ]
        if self._relationships is not None:
            self._relationships.keep()

    def _note_silenced(self) -> None:
        """Note what a context has silenced, for those who are sent the net of it and more."""
        if self._silenced:
            waiting_in(self._session).extend(
                self._written(kind, state, is_silent=True) for state, kind in self._silenced
            )

    def _written(self, kind: Kind, state: State, *, is_silent: bool = False) -> Written:
        before = None if kind is Kind.CREATE else self._keys_before.get(state, state.key)
        return Written(kind, before, state.key, self._flush, is_silent=is_silent)
