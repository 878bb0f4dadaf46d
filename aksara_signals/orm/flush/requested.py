"""Saves that a caller has requested: they are sent although the instance has no change.

A flush of SQLAlchemy's only looks at changed instances. An instance whose save was requested is
flagged as changed, so that the flush looks at it, too. An UPDATE is issued only if a receiver then
sets something.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_dirty, instance_state

from aksara_signals.dispatch.delivery.frame import get_current
from aksara_signals.orm.bridge.sessions import is_flushing, is_marked_deleted
from aksara_signals.orm.bridge.states import State, state_of
from aksara_signals.orm.flush.recipients import LIFE_CYCLE, recipients_of

_REQUESTED = "_aksara_signals_requested"
"""The attribute of a session that holds the requests until its next flush."""


def save(session: Session, instance: object, values: dict[str, Any] | None = None) -> None:
    """Add an instance to a session and flush it, whether or not it has a change.

    In a pre receiver, the instance joins the flush that is under way.

    Args:
        session: The session that the instance is added to.
        instance: New or persistent, or detached.
        values: Attributes to set before the flush.
    """
    state = instance_state(instance)
    is_under_way = is_flushing(session)
    is_deleted = is_marked_deleted(session, state)
    if not (is_deleted and is_under_way):
        session.add(instance)  # for a deleted one, it would take back a DELETE that was sent
    for name, value in (values or {}).items():
        setattr(instance, name, value)
    if not is_deleted and state.persistent:
        _request(session, state, instance)
    if is_under_way:
        return
    try:
        session.flush()
    finally:
        requested_in(session).clear()


def _request(session: Session, state: State, instance: object) -> None:
    if recipients_of(type(instance)).has_receivers and not _in_receiver_of_row(state):
        requested_in(session)[state] = instance
        flag_dirty(instance)


def requested_in(session: Session) -> dict[State, object]:
    """The instances whose save was requested since the last flush; callers add and clear."""
    requested: dict[State, object] = vars(session).setdefault(_REQUESTED, {})
    return requested


def flag_again(session: Session, requested: dict[State, object]) -> None:
    """Flag the requested instances once more.

    A receiver may have refreshed or expired one of them, which takes the flag away.
    """
    for instance in requested.values():
        if instance in session:
            flag_dirty(instance)


def _in_receiver_of_row(state: State) -> bool:
    """Whether a receiver of this very row is running: sending to it again would never end."""
    current = get_current()
    return current is not None and any(
        (delivery := each.delivery) is not None
        and delivery.signal in LIFE_CYCLE.signals
        and _is_of_row(delivery.arguments.get("instance"), state)
        for each in current.chain()
    )


def _is_of_row(instance: Any, state: State) -> bool:
    # Deferred receivers get copies, so rows are compared by their identity key.
    other = state_of(instance)
    return other is not None and (other is state or other.key == state.key)
