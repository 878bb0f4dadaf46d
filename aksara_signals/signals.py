"""The built-in signals; the docstring below each documents its payload.

Every receiver also gets ``signal`` and ``sender``, and the values of
:class:`~aksara_signals.provenance` if it names ``provenance``. When a signal is sent by hand,
``instance`` (or ``instances``) must be passed; the rest of the payload is None unless it is passed.

Receivers of signals that are sent after the fact may be deferred until the outcome of the
transaction (``phase="after_commit"``). Those of ``m2m_changed`` then get the ``post_`` actions.

``raw`` is True inside :func:`aksara_signals.orm.loading_fixtures`, so that a receiver that
completes or copies data can leave fixtures alone; else it is False.
"""

from __future__ import annotations

from aksara_signals.dispatch.receivers.payload import CLASSES, LINKS, MIGRATIONS, Payload
from aksara_signals.dispatch.signal import Signal
from aksara_signals.dispatch.typed import BulkSignal, ModelSignal

__all__ = [
    "m2m_changed",
    "post_bulk_create",
    "post_bulk_update",
    "post_delete",
    "post_init",
    "post_migrate",
    "post_relation_add",
    "post_relation_remove",
    "post_save",
    "post_statement",
    "post_update",
    "pre_bulk_create",
    "pre_bulk_update",
    "pre_delete",
    "pre_init",
    "pre_migrate",
    "pre_relation_add",
    "pre_relation_remove",
    "pre_save",
    "pre_update",
]

_SAVE = Payload(
    ("instance",),
    ("created", "update_fields", "session", "raw"),
    ("changes",),
    is_sent_by_statements=True,
    filters=("fields", "transition"),
    sent_by=CLASSES,
)
_DELETE = Payload(
    ("instance",),
    ("session", "raw"),
    is_of_deleted=True,
    is_sent_by_statements=True,
    sent_by=CLASSES,
)
_BULK = Payload(("instances",), ("session", "raw"), is_of_one_row=False, sent_by=CLASSES)
_BULK_UPDATE = Payload(
    ("instances",),
    ("fields", "session", "raw"),
    is_of_one_row=False,
    filters=("fields",),
    sent_by=CLASSES,
)
_RELATION = Payload(
    ("instance",),
    ("child", "relation_name", "passed_args", "session"),
    is_of_one_row=False,
    sent_by=CLASSES,
)
_MIGRATE = Payload(optional=("connection",), can_defer=False, sent_by=MIGRATIONS)

pre_init: Signal = Signal(
    "pre_init",
    providing_args=Payload(optional=("args", "kwargs"), can_defer=False, sent_by=CLASSES),
    doc="An instance of a mapped class is about to be made.",
)
"""Payload: ``args`` (a list) and ``kwargs`` (a dict) of the constructor, which is called with them
afterwards; both may be changed in place. Sent by constructors, never by loading."""

post_init: ModelSignal = ModelSignal(
    "post_init",
    providing_args=Payload(("instance",), can_defer=False, sent_by=CLASSES),
    doc="An instance of a mapped class has been made.",
)
"""Payload: ``instance``. Sent by constructors, never by loading."""

pre_save: ModelSignal = ModelSignal(
    "pre_save",
    providing_args=_SAVE.before_the_fact(),
    doc="An INSERT or UPDATE is about to be made.",
)
"""Payload: ``instance``, ``created`` (True for an INSERT), ``update_fields`` (None, or the
frozenset given to ``save``), ``session``; ``changes`` for receivers that name it. What receivers
set on the instance is written."""

post_save: ModelSignal = ModelSignal(
    "post_save", providing_args=_SAVE, doc="An INSERT or UPDATE has been made."
)
"""Payload: as for ``pre_save``. The instance has its keys and server defaults. The transaction is
still open, and a receiver that raises rolls it back."""

pre_update: ModelSignal = ModelSignal(
    "pre_update", providing_args=_SAVE.before_the_fact(), doc="An UPDATE is about to be made."
)
"""Payload: as for ``pre_save``, with ``created=False``. Sent after ``pre_save``."""

post_update: ModelSignal = ModelSignal(
    "post_update", providing_args=_SAVE, doc="An UPDATE has been made."
)
"""Payload: as for ``post_save``, with ``created=False``. Sent before ``post_save``."""

pre_delete: ModelSignal = ModelSignal(
    "pre_delete", providing_args=_DELETE.before_the_fact(), doc="A DELETE is about to be made."
)
"""Payload: ``instance``, ``session``."""

post_delete: ModelSignal = ModelSignal(
    "post_delete", providing_args=_DELETE, doc="A DELETE has been made."
)
"""Payload: ``instance``, whose columns are still readable, and ``session``."""

post_statement: Signal = Signal(
    "post_statement",
    providing_args=Payload(
        ("kind",),
        ("statement", "parameters", "row_count", "session"),
        is_of_one_row=False,
        sent_by=CLASSES,
    ),
    doc="An ORM statement has inserted, updated or deleted rows.",
)
"""Payload: ``kind`` (``insert``, ``update``, ``delete`` or ``upsert``), ``statement``,
``parameters`` (a dict, a list of dicts or None, as given to ``execute``), ``row_count`` (None if
the driver doesn't know), ``session``. The sender is the class that the statement names. Sent once
per statement, whatever it wrote."""

pre_bulk_create: BulkSignal = BulkSignal(
    "pre_bulk_create", providing_args=_BULK.before_the_fact(), doc="Rows are about to be inserted."
)
"""Payload: ``instances`` (a list), ``session``."""

post_bulk_create: BulkSignal = BulkSignal(
    "post_bulk_create", providing_args=_BULK, doc="Rows have been inserted."
)
"""Payload: ``instances`` (a list), ``session``."""

pre_bulk_update: BulkSignal = BulkSignal(
    "pre_bulk_update",
    providing_args=_BULK_UPDATE.before_the_fact(),
    doc="Rows are about to be updated.",
)
"""Payload: ``instances`` (a list), ``fields``, ``session``."""

post_bulk_update: BulkSignal = BulkSignal(
    "post_bulk_update", providing_args=_BULK_UPDATE, doc="Rows have been updated."
)
"""Payload: ``instances`` (a list), ``fields``, ``session``."""

pre_relation_add: ModelSignal = ModelSignal(
    "pre_relation_add",
    providing_args=_RELATION.before_the_fact(),
    doc="An instance is about to be added to a relationship.",
)
"""Payload: ``instance`` (the owner), ``child``, ``relation_name``, ``passed_args``, ``session``."""

post_relation_add: ModelSignal = ModelSignal(
    "post_relation_add",
    providing_args=_RELATION,
    doc="An instance has been added to a relationship.",
)
"""Payload: as for ``pre_relation_add``."""

pre_relation_remove: ModelSignal = ModelSignal(
    "pre_relation_remove",
    providing_args=_RELATION.before_the_fact(),
    doc="An instance is about to be removed from a relationship.",
)
"""Payload: as for ``pre_relation_add``."""

post_relation_remove: ModelSignal = ModelSignal(
    "post_relation_remove",
    providing_args=_RELATION,
    doc="An instance has been removed from a relationship.",
)
"""Payload: as for ``pre_relation_add``."""

m2m_changed: Signal = Signal(
    "m2m_changed",
    providing_args=Payload(
        ("instance",),
        ("action", "reverse", "model", "pk_set", "objects", "session"),
        is_of_one_row=False,
        sent_by=LINKS,
    ),
    doc="The links of a many-to-many relationship change.",
)
"""Payload: ``instance`` (the owner of the relationship), ``action`` (``pre_add``, ``post_add``,
``pre_remove``, ``post_remove``, ``pre_clear``, ``post_clear``), ``reverse``, ``model``,
``pk_set``, ``objects``, ``session``. The sender is the secondary ``Table``. Make the first
connection to this signal or a relation signal before starting threads that change collections."""

pre_migrate: Signal = Signal(
    "pre_migrate", providing_args=_MIGRATE, doc="Migrations are about to run."
)
"""Payload: ``connection``, None in Alembic's offline mode. Senders: ``"upgrade"``,
``"downgrade"``, ``"revision"``. Sent by ``aksara_signals.contrib.alembic``."""

post_migrate: Signal = Signal("post_migrate", providing_args=_MIGRATE, doc="Migrations have run.")
"""Payload and senders: as for ``pre_migrate``. Not sent if a migration fails."""
