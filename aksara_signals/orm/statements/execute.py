"""``do_orm_execute``: an ORM statement is executed, and its rows are sent.

A statement is sent as a flush is: to the same receivers, with the same phases, contexts and durable
rows. What differs is that the session holds few of its rows or none. So the rows come from the
database, and instances are made of them for as long as receivers need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, ORMExecuteState, Session

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.bridge.loading import load_columns
from aksara_signals.orm.bridge.results import rows_counted
from aksara_signals.orm.bridge.sessions import fail_flush, is_flushing
from aksara_signals.orm.bridge.statements import after_all_others, is_upsert
from aksara_signals.orm.flush.payloads import Batch, batches_of, durable_sends, runs_of
from aksara_signals.orm.flush.queueing import queue_batch
from aksara_signals.orm.flush.recipients import FlushRecipients
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.registered import Upkeep, is_wired
from aksara_signals.orm.outcome.durable import DurableSend, write_sends
from aksara_signals.orm.outcome.entries import Written
from aksara_signals.orm.outcome.queue import entries_in
from aksara_signals.orm.outcome.snapshots import values_of
from aksara_signals.orm.sending import (
    AFTER_WRITING,
    Run,
    defer_signal,
    durable_send,
    runs_of_signal,
    send_within,
)
from aksara_signals.orm.session.current import user_session
from aksara_signals.orm.statements.inserting import insert_rows
from aksara_signals.orm.statements.recipients import (
    StatementRecipients,
    are_statements_asked_for,
    recipients_of_statement,
)
from aksara_signals.orm.statements.rows import Chunk, RowChanges
from aksara_signals.orm.statements.statement import OPTION, OrmStatement, kinds_of
from aksara_signals.orm.statements.updating import delete_rows, update_rows
from aksara_signals.orm.statements.writing import Writing, WrittenRows
from aksara_signals.signals import post_statement


@Upkeep
def attach_execute() -> None:
    """Listen to statements while a receiver asks for them: a listener delays each SELECT."""
    is_attached = event.contains(Session, "do_orm_execute", do_orm_execute)
    if are_statements_asked_for():
        if not is_attached:
            event.listen(Session, "do_orm_execute", do_orm_execute)
    elif is_attached:
        event.remove(Session, "do_orm_execute", do_orm_execute)


def do_orm_execute(state: ORMExecuteState) -> Any:
    """Execute a statement whose receivers ask for it, and send it; else let SQLAlchemy do it.

    Returns:
        The result for the caller; None if there is nobody to send to.

    Raises:
        StatementSignalError: Its rows can't be known, and nothing was written.
        InvalidOptionError: The execution option ``signals`` is not True or False.
        BaseException: Any exception that a receiver raised. The transaction was rolled back, as
            that of a flush is.
    """
    if state.is_select:
        return None
    recipients = _recipients_of(state)
    if not recipients:
        return None
    result = after_all_others(state, _execute)
    return StatementRun(state, recipients).execute() if result is None else result


def _execute(state: ORMExecuteState) -> Any:
    """The same, after all other listeners."""
    recipients = _recipients_of(state)
    return StatementRun(state, recipients).execute() if recipients else None


def _recipients_of(state: ORMExecuteState) -> StatementRecipients | None:
    """The receivers of a statement; None if it isn't sent at all."""
    if not (state.is_insert or state.is_update or state.is_delete):
        return None
    # A Core statement may name a class as well, to choose an engine by its ``bind_arguments``.
    mapper = state.bind_mapper if state.is_orm_statement else None
    if mapper is None or not is_wired(mapper.class_):
        return None
    wanted = state.execution_options.get(OPTION, True)
    if type(wanted) is not bool:
        raise InvalidOptionError(
            f"a statement was executed with the option signals={describe_sender(wanted)}; it is "
            f"False, to call no receivers for it, or True"
        )
    return recipients_of_statement(mapper, kinds_of(state)) if wanted else None


class StatementRun:
    """One statement, from its execution to the end of its signals.

    Args:
        state: The statement, as SQLAlchemy's listener gets it.
        recipients: Its receivers.
    """

    def __init__(self, state: ORMExecuteState, recipients: StatementRecipients) -> None:
        self._state = state
        self._session: Session = state.session
        self._owner = user_session(state.session)
        mapper: Any = state.bind_mapper
        self._mapper: Mapper[Any] = mapper
        self._recipients = recipients
        self._rows = FlushRecipients()
        """The receivers of rows, looked up once per class."""
        self._token = object()
        """Stands for this statement in the queue, as one flush does."""

    def execute(self) -> Any:
        """Execute the statement, and send it.

        Returns:
            The result for the caller.
        """
        if not self._recipients.has_rows:
            result = self._state.invoke_statement()
            with _failing(self._session, lambda: True):
                self._send_statement(rows_counted(result))
            return result
        state, session = self._state, self._session
        statement = OrmStatement.of(state, self._mapper)
        is_allowed = session.autoflush and state.execution_options.get("autoflush", True)
        if is_allowed and not is_flushing(session):
            session.flush()
        held = self._held() if state.is_delete else None
        writing = Writing(statement, self._recipients)
        with _failing(session, lambda: writing.has_written):
            # What receivers of the flush have left pending waits for the next one, as it does
            # without receivers of statements; flushed now, it could change rows that were read.
            with session.no_autoflush:
                written = _write(writing)
            asks = self._recipients.asks_for_changes
            changes = RowChanges(statement, written, writing.reading, held, with_changes=asks)
            self._send_rows(changes, statement)
            self._send_statement(len(written.rows))
        return written.result

    def _held(self) -> dict[Any, object]:
        """The session's instances of the class: a DELETE takes them out of its identity map."""
        cls = self._mapper.class_
        held: Any = self._session.identity_map
        return {key: instance for key, instance in held.items() if isinstance(instance, cls)}

    # -- rows ----------------------------------------------------------------------------------

    def _send_rows(self, changes: RowChanges, statement: OrmStatement) -> None:
        # Receivers may write the rows of a later chunk. So all rows are queued and stored before
        # the first receiver is called: what is sent about one row stays in the order of its
        # changes. What waits gets copies, and these have the values of the row, also if SQLAlchemy
        # has left the session's own object as it was.
        if self._recipients.is_queued:
            for chunk in changes.chunks(as_copies=True):
                self._enqueue(chunk, statement)
        if self._recipients.is_called:
            for chunk in changes.chunks():
                self._call(chunk)

    def _call(self, chunk: Chunk) -> None:
        batches = batches_of(chunk.changes, self._rows.statement, self._owner)
        for batch in batches:
            if batch.recipients.needs_columns and batch.kind is not Kind.DELETE:
                load_columns(self._session, (each.state for each in batch.changes))
        self._send_within(runs_of(batches, chunk.extras))

    def _enqueue(self, chunk: Chunk, statement: OrmStatement) -> None:
        batches = batches_of(chunk.changes, self._rows.statement, self._owner)
        written_of = partial(self._written, chunk, statement.names_written)
        for batch in batches:
            if batch.recipients.coalesces or batch.recipients.deferred:
                queue_batch(batch, entries_in(self._session), chunk.extras, written_of)
        changed = {
            change.state: frozenset(chunk.extras[change.state]["changes"])
            if change.state in chunk.extras
            else statement.names
            if change.kind is Kind.CREATE
            else statement.names_written
            for change in chunk.changes
            if change.kind is not Kind.DELETE
        }
        self._store(durable_sends(batches, changed, chunk.extras))

    def _written(self, chunk: Chunk, names: frozenset[str], batch: Batch, state: Any) -> Written:
        kind = Kind.UPDATE if batch.kind is Kind.UPSERT else batch.kind
        before = None if kind is Kind.CREATE else chunk.previous_keys.get(state, state.key)
        return Written(
            kind,
            before,
            state.key,
            self._token,
            is_silent=not batch.recipients.plans,
            values={} if kind is Kind.DELETE else values_of(state, names),
        )

    # -- the statement -------------------------------------------------------------------------

    def _send_statement(self, row_count: int | None) -> None:
        if not self._recipients.of_statement:
            return
        state, sender = self._state, self._mapper.class_
        payload = {
            "kind": _name_of(state),
            "statement": state.statement,
            "parameters": state.parameters or None,
            "row_count": row_count,
            "session": self._owner,
        }
        defer_signal(self._session, post_statement, sender, payload)
        # A row of an outbox can't hold a statement, nor what it was executed with.
        stored = {**payload, "statement": None, "parameters": None}
        self._store(durable_send(post_statement, sender, stored))
        self._send_within(runs_of_signal(post_statement, sender, payload))

    def _store(self, sends: list[DurableSend]) -> None:
        if sends:
            write_sends(self._session, sends)

    def _send_within(self, runs: Any) -> None:
        found: list[Run] = [*runs]
        if found:
            send_within(self._session, self._owner, AFTER_WRITING, found)


def _name_of(state: ORMExecuteState) -> str:
    if state.is_insert:
        return "upsert" if is_upsert(state.statement) else "insert"
    return "update" if state.is_update else "delete"


def _write(writing: Writing) -> WrittenRows:
    state = writing.state
    if state.is_insert:
        return insert_rows(writing)
    return update_rows(writing) if state.is_update else delete_rows(writing)


@contextmanager
def _failing(session: Session, has_written: Callable[[], bool]) -> Iterator[None]:
    """Fail the session as an error in a flush does, if the block raises after it has written."""
    try:
        yield
    except BaseException:
        # A session that isn't active was failed by a statement of one of the receivers already.
        if has_written() and session.is_active:
            fail_flush(session)
        raise
