"""Saves that somebody has asked for: they are sent although the instance has no change.

A flush of SQLAlchemy's looks at changed instances only. An instance whose save was requested is
marked as changed, so that the flush looks at it, too; an UPDATE is issued only if a receiver then
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
"""Where a session keeps the requests, until the next flush has seen them."""


def save(session: Session, instance: object, values: dict[str, Any] | None = None) -> None:
    """Add an instance to a session and flush, because somebody has asked for it.

    Before a flush that is under way, the instance joins it.

    Args:
        session: Takes the instance.
        instance: New or persistent, or detached.
        values: Attributes to be set before the flush.
    """
    state = instance_state(instance)
    is_under_way = is_flushing(session)
    is_deleted = is_marked_deleted(session, state)
    if not (is_deleted and is_under_way):  # add() would take back a DELETE that was sent already
        session.add(instance)
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
    if recipients_of(type(instance)).has_receivers and not _is_in_its_own_receiver(state):
        requested_in(session)[state] = instance
        flag_dirty(instance)


def requested_in(session: Session) -> dict[State, object]:
    """The instances whose save was requested since the last flush; to be added to and cleared."""
    requested: dict[State, object] = vars(session).setdefault(_REQUESTED, {})
    return requested


def keep_marked(session: Session, requested: dict[State, object]) -> None:
    """Mark them once more: a receiver may have refreshed or expired one, which takes it away."""
    for instance in requested.values():
        if instance in session:
            flag_dirty(instance)


def _is_in_its_own_receiver(state: State) -> bool:
    """Whether a receiver of this very row is under way: to send to it again would never end."""
    current = get_current()
    return current is not None and any(
        (delivery := each.delivery) is not None
        and delivery.signal in LIFE_CYCLE.signals
        and _is_of_row(delivery.arguments.get("instance"), state)
        for each in current.chain()
    )


def _is_of_row(instance: Any, state: State) -> bool:
    # After the commit receivers have copies: what makes the row is its key.
    other = state_of(instance)
    return other is not None and (other is state or other.key == state.key)
