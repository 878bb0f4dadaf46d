"""Signals for SQLAlchemy: the life cycle of mapped classes, sent by the unit of work.

Importing this package installs the session listeners, once; they cost next to nothing until a
receiver is connected.
"""

import aksara_signals.orm.session_events as _session_events
from aksara_signals.dispatch.outcome import drain, on_delivery_error
from aksara_signals.orm.callbacks import on_commit, on_rollback
from aksara_signals.orm.fixtures import loading_fixtures
from aksara_signals.orm.manager import Manager
from aksara_signals.orm.mixin import SignalMixin
from aksara_signals.orm.models import register, unregister
from aksara_signals.orm.queryset import QuerySet
from aksara_signals.orm.sessions import session_scope

__all__ = [
    "Manager",
    "QuerySet",
    "SignalMixin",
    "drain",
    "loading_fixtures",
    "on_commit",
    "on_delivery_error",
    "on_rollback",
    "register",
    "session_scope",
    "unregister",
]

_session_events.install()
