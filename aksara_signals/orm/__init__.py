"""Signals for SQLAlchemy: the life cycle of mapped classes, sent by the unit of work.

Importing this package installs the session listeners once. They cost next to nothing until a
receiver is connected.
"""

from aksara_signals.dispatch.after import drain, on_delivery_error
from aksara_signals.orm.install import install_listeners as _install_listeners
from aksara_signals.orm.objects.manager import Manager
from aksara_signals.orm.objects.mixin import SignalMixin
from aksara_signals.orm.objects.queryset import QuerySet
from aksara_signals.orm.objects.register import register, unregister
from aksara_signals.orm.outcome.callbacks import on_commit, on_rollback
from aksara_signals.orm.session.current import session_scope
from aksara_signals.orm.session.fixtures import loading_fixtures

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

_install_listeners()
