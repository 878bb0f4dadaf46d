"""A flush that only inserts rows of classes without relationships: the shortest way through one.

What such a flush writes needs no prediction, and what is recorded is that all of it was written.
Anything else is left to :class:`~aksara_signals.orm.flush.run.FlushRun`, at each step: other
changes, receivers that want more than the instance, or receivers that change more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any, Self

from sqlalchemy.orm import Session, UOWTransaction

from aksara_signals.dispatch.connections.routing import Segment
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, AnyDelivery
from aksara_signals.dispatch.delivery.tracing import hooks
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.loading import load_columns
from aksara_signals.orm.bridge.sessions import flushable, has_nothing_but, only_new, written_all
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Change
from aksara_signals.orm.flush.payloads import batches_of
from aksara_signals.orm.flush.queueing import queue_rows
from aksara_signals.orm.flush.recipients import ClassRecipients, Recipients, recipients_of
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.outcome.queue import entries_in
from aksara_signals.orm.relations.origins import RELATIONS
from aksara_signals.orm.sending import (
    AFTER_WRITING,
    BEFORE_A_FLUSH,
    ForbiddenMethods,
    Run,
    send_within,
)
from aksara_signals.orm.session.current import in_receiver_of, user_session
from aksara_signals.orm.session.fixtures import is_loading_fixtures


class InsertRun:
    """One flush of new rows; its three steps are those of ``FlushRun``.

    Args:
        session: The flushing session.
        new: The new states with their instances, in the order they were added.
        classes: The receivers of each class.
    """

    __slots__ = ("_new", "_owner", "_session", "_shared", "classes", "is_sending")

    def __init__(
        self, session: Session, new: dict[State, Any], classes: dict[type, ClassRecipients]
    ) -> None:
        self._session = session
        self._new = new
        self._owner = owner = user_session(session)
        self._shared = {
            "created": True,
            "update_fields": None,
            "session": owner,
            "raw": is_loading_fixtures(),
        }
        self.classes: dict[type, ClassRecipients] = classes
        """The receivers of each class."""
        self.is_sending: bool = False
        """Whether receivers are being called: then an error is theirs."""

    @classmethod
    def of(cls, session: Session) -> Self | None:
        """The run of a flush that is about to begin; None if it has more to do."""
        new = only_new(session)
        if new is None:
            return None
        classes: dict[type, ClassRecipients] = {}
        for state, instance in new.items():
            model = type(instance)
            if model not in classes:
                info = info_of(state.mapper)
                recipients = recipients_of(model)
                is_linked = info.has_relationships if RELATIONS.is_connected else info.is_linked
                if is_linked or not recipients.inserts_simply:
                    return None
                classes[model] = recipients
        return cls(session, new, classes)

    def before(self) -> bool:
        """Send the pre signals.

        Returns:
            Whether that was all: receivers have changed nothing but the new instances.
        """
        self.is_sending = True
        self._send("pre", BEFORE_A_FLUSH)
        self.is_sending = False
        return has_nothing_but(self._session, self._new)

    def record(self, flush_context: UOWTransaction) -> bool:
        """Compare what was expected with what was written.

        Returns:
            Whether exactly that was written, and the same receivers are to be called.
        """
        return written_all(flush_context, self._new) and all(
            recipients_of(model).is_same(known) for model, known in self.classes.items()
        )

    def after(self) -> None:
        """Send the post signals.

        Raises:
            SessionInUseError: A receiver ended the transaction of the flush.
        """
        is_sent = is_queued = needs_columns = False
        for each in self.classes.values():
            recipients = each.post[Kind.CREATE]
            is_sent |= bool(recipients.runs)
            is_queued |= bool(recipients.deferred)
            needs_columns |= recipients.needs_columns
        if not is_sent and not is_queued:
            return
        with flushable(self._session, partial(in_receiver_of, self._session)):
            if needs_columns:
                self._load_columns()
            if is_queued:
                self._queue()
            if is_sent:
                self._send("post", AFTER_WRITING)

    def _load_columns(self) -> None:
        """Load what async receivers can't load by reading, and what deferred ones get copies of."""
        load_columns(
            self._session,
            [
                state
                for state, instance in self._new.items()
                if self.classes[type(instance)].post[Kind.CREATE].needs_columns
            ],
        )

    def _queue(self) -> None:
        """Queue the rows for deferred receivers, with the values of this moment."""
        changes = (
            Change(Kind.CREATE, state, instance, type(instance))
            for state, instance in self._new.items()
            if self.classes[type(instance)].post[Kind.CREATE].deferred
        )
        for batch in batches_of(changes, self._post, self._owner):
            queue_rows(batch, entries_in(self._session), {})

    def _post(self, model: type, kind: Kind) -> Recipients:
        return self.classes[model].post[kind]

    def foreseen(self) -> dict[State, Change]:
        """What pre signals were sent for, to go on in another way."""
        return {
            state: Change(Kind.CREATE, state, instance, type(instance))
            for state, instance in self._new.items()
            if self.classes[type(instance)].has_receivers
        }

    def _send(self, when: str, forbidden: ForbiddenMethods) -> None:
        runs: list[Run] = []
        for model, group in groupby(self._new.values(), type):
            recipients: Recipients = getattr(self.classes[model], when)[Kind.CREATE]
            if recipients.runs:
                instances = list(group)
                arguments = {"sender": model, **self._shared}
                names = ("instance", "signal", *arguments)
                runs += [
                    Run(
                        is_async,
                        _deliveries(model, instances, segments, arguments),
                        names,
                        len(instances) * len(segments),
                    )
                    for is_async, segments in recipients.runs
                ]
        if runs:
            send_within(self._session, self._owner, forbidden, runs)


def _deliveries(
    sender: type,
    instances: list[object],
    segments: list[tuple[Signal, Segment]],
    shared: dict[str, Any],
) -> Iterator[AnyDelivery]:
    sends = [
        (signal, each.sequential, each.concurrent, {"instance": None, "signal": signal, **shared})
        for signal, each in segments
    ]
    for instance in instances:
        for signal, sequential, concurrent, reused in sends:
            arguments = reused.copy() if hooks else reused
            arguments["instance"] = instance
            yield signal, sender, sequential, arguments, concurrent, NO_EXTRAS
