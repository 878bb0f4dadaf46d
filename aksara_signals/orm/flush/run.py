"""One flush and its signals: pre signals before it, a record of what it wrote, post signals after.

The unit of work decides what it writes in the middle of a flush, when nothing can be added any
more. Receivers of pre signals come before that, and each of them may change further objects. So
before the flush its writes are predicted and pre signals are sent for them, again and again until
receivers add nothing new.

A prediction may be wrong: a later ``before_flush`` listener may change the session, and a row may
be gone. So after the flush its own record says what was really written, and post signals are sent
for that. The record is read in ``after_flush``, while history still shows what has changed;
receivers are called in ``after_flush_postexec``, when instances are clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any

from sqlalchemy.orm import Session, UOWTransaction
from sqlalchemy.orm.attributes import instance_dict

from aksara_signals.dispatch.delivery.frame import MAX_ROUNDS, recursion_error
from aksara_signals.exceptions import AksaraSignalsError
from aksara_signals.orm.bridge.column_edits import changed_columns, first_edit, is_still_edited
from aksara_signals.orm.bridge.deletions import DeletedRows
from aksara_signals.orm.bridge.hidden_history import hidden_history_of, reveal_edited
from aksara_signals.orm.bridge.loading import expire_unset, load_before_deletion, load_columns
from aksara_signals.orm.bridge.sessions import (
    fail_flush,
    flushable,
    has_nothing_but,
    written_states,
)
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Change, deleted_before_created
from aksara_signals.orm.flush.inserting import InsertRun
from aksara_signals.orm.flush.payloads import (
    Batch,
    batches_of,
    described,
    durable_sends,
    runs_of,
)
from aksara_signals.orm.flush.prediction import Prediction
from aksara_signals.orm.flush.queueing import queue_batch
from aksara_signals.orm.flush.recipients import LIFE_CYCLE, FlushRecipients
from aksara_signals.orm.flush.requested import flag_again, requested_in
from aksara_signals.orm.flush.unforeseen import missed_by, unforeseen_in, warn_of_unforeseen
from aksara_signals.orm.flush.values import FlushValues
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping import unwired
from aksara_signals.orm.outcome.durable import write_sends
from aksara_signals.orm.outcome.entries import Written
from aksara_signals.orm.outcome.observers import session_observers
from aksara_signals.orm.outcome.queue import entries_in
from aksara_signals.orm.relations.origins import RELATIONS
from aksara_signals.orm.relations.signals import RelationshipRun
from aksara_signals.orm.sending import (
    AFTER_WRITING,
    BEFORE_A_FLUSH,
    Run,
    require_own_flush,
    send_within,
)
from aksara_signals.orm.session.current import in_receiver_of, user_session

_RUN = "aksara_signals.run"
"""The key of the FlushRun in the attributes of SQLAlchemy's flush context."""


def before_flush(
    session: Session, flush_context: UOWTransaction, objects: list[object] | None
) -> None:
    """Send the pre signals of a flush."""
    observers = session_observers.all
    for each in observers:
        each.begin_flush(session)
    try:
        require_own_flush(session)
        if unwired.is_check_due:
            unwired.check_unwired()
        if LIFE_CYCLE.is_connected or RELATIONS.is_connected:
            requested = requested_in(session)
            run: InsertRun | FlushRun | None = None
            try:
                inserting = None if objects is not None or requested else InsertRun.of(session)
                run = inserting
                if inserting is None or not inserting.before() or requested:
                    run = whole = FlushRun(session, objects, requested, inserting)
                    whole.before()
                if requested:
                    flag_again(session, requested)
            except AksaraSignalsError:
                raise
            except BaseException:
                if run is None or not run.is_sending:
                    # The prediction has met an error of SQLAlchemy's, as the flush itself would
                    # have. Leave the session as that would have left it.
                    fail_flush(session)
                raise
            finally:
                requested.clear()
            flush_context.attributes[_RUN] = run
        reveal_edited(session)
    except BaseException:
        for each in observers:
            each.end_flush(session)
        raise


def after_flush(session: Session, flush_context: UOWTransaction) -> None:
    """Record what a flush has written, while history still shows it."""
    for each in session_observers.all:
        each.note_written(session)
    run: InsertRun | FlushRun | None = flush_context.attributes.get(_RUN)
    if isinstance(run, InsertRun):
        if run.record(flush_context):
            return
        flush_context.attributes[_RUN] = run = FlushRun(session, None, {}, run)
    if run is not None:
        run.record(flush_context)


def after_flush_postexec(session: Session, flush_context: UOWTransaction) -> None:
    """Send the post signals of a flush."""
    run: InsertRun | FlushRun | None = flush_context.attributes.pop(_RUN, None)
    try:
        if run is not None:
            run.after()
    finally:
        for each in session_observers.all:
            each.end_flush(session)


class FlushRun:
    """One flush, from ``before_flush`` to ``after_flush_postexec``.

    Args:
        session: The flushing session.
        objects: The objects that ``flush(objects)`` was restricted to, else None.
        requested: The instances whose save was requested; pre receivers may add some.
        begun: The run that has sent pre signals, and turned out to have more to do.
    """

    def __init__(
        self,
        session: Session,
        objects: Iterable[object] | None,
        requested: dict[State, object],
        begun: InsertRun | None = None,
    ) -> None:
        self._session = session
        self._objects = None if objects is None else list(objects)
        self._owner = user_session(session)
        self.is_sending: bool = False
        """Whether receivers are being called: then an error is theirs."""
        self._token = object()
        """Stands for this flush in the queue, which mustn't keep the run and its instances."""
        self._recipients = FlushRecipients() if begun is None else FlushRecipients(begun.classes)
        self._foreseen: dict[State, Change] = {} if begun is None else begun.foreseen()
        """The changes that pre signals were sent for."""
        self._requested: dict[State, object] = requested
        self._values: FlushValues | None = None
        """None unless a receiver requests ``changes``, or rows are updated."""
        self._deletes: DeletedRows | None = None
        self._links = RelationshipRun(session, self._objects) if RELATIONS.is_connected else None
        self._batches: list[Batch] = []
        """The changes that post signals are sent for."""
        self._taken_over: set[Any] = set()
        """The identity keys of deleted objects whose rows were taken over by new ones."""
        self._unwritten: set[State] = set()
        """Requested saves that wrote nothing."""
        self._keys_before: dict[State, Any] = {}
        """Identity keys before the flush, of updated rows of which a receiver is sent the net."""
        self._changed: dict[State, frozenset[str]] = {}
        """The names of the changed columns, of rows that have durable receivers."""
        self._has_durable: bool = False
        """Whether any of the batches has durable receivers."""
        self._silenced: list[tuple[State, Kind]] = []
        """Changes that a context has silenced, of rows of which a receiver is sent the net."""

    # -- before --------------------------------------------------------------------------------

    def before(self) -> None:
        """Send pre signals until receivers add nothing new.

        Raises:
            SignalRecursionError: They never stop changing objects.
            SessionInUseError: A receiver ended the transaction of the flush.
        """
        sent: list[Batch] = []
        batches: list[Batch] = []
        for _ in range(MAX_ROUNDS):
            prediction = Prediction(
                self._session, self._recipients, self._objects, self._foreseen, self._requested
            )
            fresh = prediction.changes()
            if self._foreseen:
                fresh = [change for change in fresh if self._is_news(change)]
            if not fresh:
                # Links come after all rows, so that pre_save is sent before pre_relation_add.
                if self._links is not None and self._send_pre_links(self._links, prediction):
                    continue
                break
            self._foreseen |= {change.state: change for change in fresh}
            batches = batches_of(fresh, self._recipients.pre, self._owner)
            self._send_pre(batches)
            sent += batches
            if self._is_settled(prediction):
                break
        else:
            raise recursion_error(
                f"pre receivers changed further objects in {MAX_ROUNDS} successive rounds "
                f"of one flush",
                described(batches),
            )
        self._requested = dict(self._requested)  # a copy: the session's own is about to be cleared
        self._expect(sent)

    def _is_settled(self, prediction: Prediction) -> bool:
        """Whether receivers surely added nothing, so that no second prediction is needed."""
        return (
            self._links is None
            and not prediction.is_linked
            and has_nothing_but(self._session, self._foreseen, self._is_deleted)
        )

    def _is_deleted(self, state: State) -> bool:
        return self._foreseen[state].kind is Kind.DELETE

    def _is_news(self, change: Change) -> bool:
        known = self._foreseen.get(change.state)
        return known is None or (change.kind is Kind.DELETE and known.kind is not Kind.DELETE)

    def _send_pre(self, batches: list[Batch]) -> None:
        # An async receiver can't load an expired attribute by reading it, and a deleted row can't
        # be read any more by a post receiver. What they may read is loaded now, for all at once.
        needed: list[State] = []
        wanted: list[Change] = []
        for batch in batches:
            recipients = batch.recipients
            states = [change.state for change in batch.changes]
            if recipients.asks_for_changes:
                wanted += batch.changes
            if batch.kind is Kind.DELETE:
                after = self._recipients.post(batch.sender, batch.kind)
                if recipients.needs_columns or after.needs_columns:
                    needed += states
                elif after.plans:
                    load_before_deletion(self._session, states)
            elif batch.kind is Kind.UPDATE and recipients.needs_columns:
                needed += states
        if needed:
            load_columns(self._session, needed)
        for batch in batches:
            if batch.recipients.watched and batch.recipients.needs_columns:
                self._flush_values().read_ahead(batch.changes, batch.recipients.watched)
        extras: dict[State, Any] = {**self._flush_values().live(wanted)} if wanted else {}
        self.is_sending = True
        send_within(self._session, self._owner, BEFORE_A_FLUSH, runs_of(batches, extras))
        self.is_sending = False

    def _send_pre_links(self, links: RelationshipRun, prediction: Prediction) -> bool:
        """Send the pre signals of links not sent yet, and return whether they have receivers."""
        fresh = links.fresh(prediction.deleted)
        if not links.has_pre_receivers(fresh):
            return False  # so nothing is called that could make further changes
        links.load_for(fresh)
        self.is_sending = True
        send_within(self._session, self._owner, BEFORE_A_FLUSH, links.pre_runs(fresh))
        self.is_sending = False
        return True

    def _expect(self, sent: list[Batch]) -> None:
        """Note, for post signals, what only shows before the flush."""
        wanted: list[Change] = []
        deleted: list[State] = []
        for batch in sent:
            after = self._recipients.post(batch.sender, batch.kind)
            # A change that was sent may have been replaced: an updated row, by its delete.
            changes = [each for each in batch.changes if self._foreseen[each.state] is each]
            if batch.kind is Kind.DELETE:
                if after.plans:
                    deleted += [change.state for change in changes]
            elif after.asks_for_changes or after.durable or batch.kind is Kind.UPDATE:
                values = self._flush_values()
                values.expect(changes)
                if after.watched and batch.kind is Kind.CREATE:
                    for change in changes:
                        values.expect_new(change.state)
                if after.asks_for_changes:
                    wanted += changes
        if wanted:
            self._flush_values().read_old(wanted)
        if deleted:
            self._deletes = DeletedRows(self._session, deleted)

    def _flush_values(self) -> FlushValues:
        if self._values is None:
            self._values = FlushValues(self._session)
        return self._values

    # -- recording -----------------------------------------------------------------------------

    def record(self, flush_context: UOWTransaction) -> None:
        """Compare what was predicted with what was written, while history still shows it."""
        written, self._taken_over = written_states(flush_context)
        deleted = {state for state, is_delete in written.items() if is_delete}
        # Looked up once more: a pre receiver may have connected others.
        self._recipients = FlushRecipients()
        happened = self._happened(written)
        unforeseen: list[Change] = []
        if written:
            unforeseen, self._silenced = unforeseen_in(written, self._recipients)
            self._keys_before = {state: state.key for state, _ in self._silenced}
        links = 0 if self._links is None else self._links.record(deleted)
        if unforeseen or links:
            warn_of_unforeseen(unforeseen, links)
        changes = [*happened, *unforeseen]
        if deleted:
            changes = deleted_before_created(changes)
        self._batches = batches_of(changes, self._recipients.post, self._owner)
        for batch in self._batches:
            if batch.recipients.asks_for_changes:
                is_judged = bool(batch.recipients.watched)
                for change in batch.changes:
                    self._flush_values().record(change, is_judged=is_judged)
            if batch.recipients.durable:
                self._has_durable = True
                for change in batch.changes if batch.kind is not Kind.DELETE else ():
                    self._changed[change.state] = self._changed_names(change.state)
            if batch.kind is Kind.UPDATE and batch.recipients.coalesces:
                self._keys_before.update((each.state, each.state.key) for each in batch.changes)

    def _changed_names(self, state: State) -> frozenset[str]:
        """The columns that were written; what the database has computed has left no history."""
        names = frozenset(name for name, _ in changed_columns(state))
        return names if self._values is None else names.union(self._values.computed_names(state))

    def _happened(self, written: dict[State, bool]) -> list[Change]:
        """The changes that were predicted and have happened; removed from what was written."""
        happened: list[Change] = []
        missed = () if self._deletes is None else missed_by(self._deletes)
        create, update, delete = Kind.CREATE, Kind.UPDATE, Kind.DELETE
        for state, change in self._foreseen.items():
            kind = change.kind
            if written.get(state) is not (kind is delete):
                continue
            if kind is not delete and (kind is create) is (state.key is not None):
                continue  # a later listener has made an INSERT of the UPDATE, or the reverse
            del written[state]
            if missed and state in missed:
                continue
            # A pre receiver may have undone the change: then no UPDATE was issued.
            if kind is not update or self._has_changes(change):
                happened.append(change)
            elif state in self._requested:
                self._unwritten.add(state)
                happened.append(change)
        return happened

    def _has_changes(self, change: Change) -> bool:
        state, edit = change.state, change.edit
        values = instance_dict(change.instance)
        return (
            (edit is not None and is_still_edited(state, values, edit))
            or first_edit(state, values) is not None
            or self._has_expired(state)
        )

    def _has_expired(self, state: State) -> bool:
        """Whether the database has computed values, which have expired and left no history."""
        return self._values is not None and self._values.has_expressions(state)

    # -- after ---------------------------------------------------------------------------------

    def after(self) -> None:
        """Send post signals; receivers may do anything with the session but end its transaction.

        Raises:
            SessionInUseError: A receiver ended the transaction of the flush.
        """
        if self._silenced:
            entries_in(self._session).extend(
                self._written(kind, state, is_silent=True) for state, kind in self._silenced
            )
        links = self._links
        if not self._batches and not (links is not None and links.has_happened):
            return
        with flushable(self._session, partial(in_receiver_of, self._session)):
            self._load_columns()
            extras = {} if self._values is None else self._values.extras()
            self._enqueue(extras)
            # Before other receivers can write further ones: so the rows about one object are in the
            # order of its changes.
            sends = durable_sends(self._batches, self._changed, extras) if self._has_durable else []
            if links is not None:
                sends += links.durable_sends()
            if sends:
                write_sends(self._session, sends)
            runs: Iterable[Run] = runs_of(self._batches, extras)
            if links is not None:
                links.enqueue()
                runs = chain(runs, links.post_runs())
            send_within(self._session, self._owner, AFTER_WRITING, runs)

    def _load_columns(self) -> None:
        """Load what async receivers can't load by reading, and what deferred ones get copies of."""
        needed = [] if self._values is None else self._values.computed()
        for batch in self._batches:
            if batch.kind is Kind.DELETE:
                continue
            states = [change.state for change in batch.changes]
            for state in states if self._taken_over else ():
                if state.key in self._taken_over:
                    expire_unset(state)
            if batch.recipients.needs_columns:
                needed += states
                for state in states if batch.kind is Kind.UPDATE else ():
                    hidden = hidden_history_of(state)
                    if hidden is not None:
                        hidden.read_unknown(self._session)
        if self._links is not None:
            needed += self._links.needed_states()
        if needed:
            load_columns(self._session, needed)

    def _enqueue(self, extras: dict[State, Any]) -> None:
        """Queue what has happened for deferred receivers, with the values of this moment."""
        for batch in self._batches:
            if batch.recipients.coalesces or batch.recipients.deferred:
                entries = entries_in(self._session)
                queue_batch(batch, entries, extras, self._written_of, self._unwritten)

    def _written_of(self, batch: Batch, state: State) -> Written:
        return self._written(batch.kind, state)

    def _written(self, kind: Kind, state: State, *, is_silent: bool = False) -> Written:
        before = None if kind is Kind.CREATE else self._keys_before.get(state, state.key)
        return Written(kind, before, state.key, self._token, is_silent=is_silent)
