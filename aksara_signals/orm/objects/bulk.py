"""Functions that bulk creation and bulk update share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.bridge.loading import load_columns
from aksara_signals.orm.bridge.sessions import fail_flush
from aksara_signals.orm.bridge.states import state_of, unmapped_among
from aksara_signals.orm.flush.recipients import recipients_of
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.durable import DurableSend, write_sends
from aksara_signals.orm.outcome.entries import Written
from aksara_signals.orm.outcome.queue import entries_in
from aksara_signals.orm.outcome.snapshots import values_of
from aksara_signals.orm.sending import (
    AFTER_WRITING,
    defer_signal,
    durable_send,
    needs_columns,
    runs_of_signal,
    send_within,
)
from aksara_signals.orm.session.current import is_session, user_session
from aksara_signals.orm.session.fixtures import is_loading_fixtures

Row = dict[str, Any]
"""Column values by attribute name."""


def check_batch_size(batch_size: Any) -> None:
    """Raise if a batch size is not a number of rows.

    Raises:
        InvalidOptionError: It is neither None nor a positive integer.
    """
    if batch_size is not None and (
        not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1
    ):
        raise InvalidOptionError(
            f"batch_size={describe_sender(batch_size)} is not a number of rows; give a "
            f"positive integer, or None for as few statements as the database takes"
        )


def instances_given(instances: Any, operation: str) -> list[Any]:
    """The instances given to a bulk operation, each of them mapped.

    Raises:
        InvalidOptionError: They don't come in a list, or one of them is not a mapped instance.
    """
    if state_of(instances) is not None or not isinstance(instances, Iterable):
        raise _refusal_of(instances, operation)
    members = [*instances]
    for each in unmapped_among(members):
        raise InvalidOptionError(
            f"{operation} was given {describe_sender(type(each))} among its instances; it "
            f"takes mapped instances only"
        )
    if isinstance(instances, (str, bytes, Mapping)) or is_session(instances):
        raise _refusal_of(instances, operation)  # empty, or a dict of instances
    return members


def _refusal_of(instances: object, operation: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"{operation} was given {describe_sender(instances)}; it takes a list of instances"
    )


def send_bulk(session: Session, signal: Signal, model: type, payload: dict[str, Any]) -> bool:
    """Send a bulk signal, and return whether it has any receivers for the model."""
    plan = signal.plan_for(model)
    if plan:
        payload = {**payload, "raw": is_loading_fixtures()}
        if needs_columns(plan):
            load_columns(session, map(instance_state, payload["instances"]))
        defer_signal(session, signal, model, payload)
        sends = durable_send(signal, model, payload)
        if sends:
            _write_sends(session, sends)
        runs = runs_of_signal(signal, model, payload)
        send_within(session, user_session(session), AFTER_WRITING, runs)
    return bool(plan)


def _write_sends(session: Session, sends: list[DurableSend]) -> None:
    try:
        write_sends(session, sends)
    except BaseException:
        fail_flush(session)  # else the rows of the operation could be committed without these
        raise


def note_written(
    session: Session, kind: Kind, instances: Iterable[object], names: Collection[str] = ()
) -> None:
    """Note written rows, for receivers that are sent the net of a transaction.

    Args:
        session: The session that has written them.
        kind: Whether they were created or updated.
        instances: The instances of the rows.
        names: The names of the updated columns.
    """
    flush = object()
    for cls, alike in groupby(instances, type):
        if recipients_of(cls).coalesces:
            entries_in(session).extend(
                Written(
                    kind,
                    None if kind is Kind.CREATE else state.key,
                    state.key,
                    flush,
                    is_silent=True,
                    values=values_of(state, names),
                )
                for state in map(instance_state, alike)
            )


def batches(members: list[Any], batch_size: int | None) -> Iterator[list[Any]]:
    """The members, at most ``batch_size`` at a time."""
    size = batch_size or len(members)
    for start in range(0, len(members), size):
        yield members[start : start + size]
