"""The functions through which the dispatcher uses SQLAlchemy, in one value."""

from __future__ import annotations

from collections.abc import Callable

from aksara_signals.dispatch.adapter import Adapter
from aksara_signals.dispatch.receivers.payload import Payload
from aksara_signals.orm.adapter.advice import advise
from aksara_signals.orm.adapter.senders import explain, problem_of_receiver, sends_signals
from aksara_signals.orm.adapter.silence import problem_of
from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.bridge.states import identity_of
from aksara_signals.orm.construction import wrap_constructors
from aksara_signals.orm.flush.recipients import LIFE_CYCLE, forget_recipients
from aksara_signals.orm.mapping.fields import attribute_of, problem_of_field, sent_changes
from aksara_signals.orm.mapping.unwired import note_connected
from aksara_signals.orm.outcome.durable import store_sent
from aksara_signals.orm.outcome.queue import defer_sent
from aksara_signals.orm.relations.origins import RELATIONS, attach_listeners
from aksara_signals.orm.statements.execute import attach_execute
from aksara_signals.orm.statements.recipients import ROW_SIGNALS
from aksara_signals.signals import post_init, post_statement, pre_init


def _follow_rows() -> None:
    """Receivers of rows were connected or disconnected; some of them may ask for statements."""
    forget_recipients()
    attach_execute()


_UPKEEP: dict[Payload, Callable[[], object]] = {
    **{each.payload: wrap_constructors for each in (pre_init, post_init)},
    **{each.payload: attach_listeners for each in RELATIONS.signals},
    **{each.payload: forget_recipients for each in LIFE_CYCLE.signals},
    **{each.payload: _follow_rows for each in ROW_SIGNALS},
    post_statement.payload: attach_execute,
}
"""What to update when connections of a signal change, by the signal's payload."""


def _follow(payload: Payload) -> None:
    follow = _UPKEEP.get(payload)
    if follow is not None:
        follow()


sqlalchemy_adapter: Adapter = Adapter(
    classes=mapped_classes,
    is_model=sends_signals,
    key_of=identity_of,
    defer=defer_sent,
    store=store_sent,
    connected=note_connected,
    connections_changed=_follow,
    problem_of_sender=explain,
    attribute_of=attribute_of,
    problem_of_field=problem_of_field,
    row_changes=sent_changes,
    problem_of_silenced=problem_of,
    problem_of_receiver=problem_of_receiver,
    advice=advise,
)
"""The adapter that is installed when :mod:`aksara_signals.orm` is imported."""
