"""The built-in signals, each with its payload documented beneath it.

Every receiver gets ``signal`` and ``sender`` besides. ``instance`` (or ``instances``) must be
passed when a signal is sent by hand; the rest of the payload is None unless passed.

.. list-table:: Which are live
   :header-rows: 1

   * - signals
     - since
   * - ``pre_init`` … ``post_delete``
     - 0.1: sent by the unit of work and by constructors of mapped classes
   * - bulk, relation and migration signals, ``m2m_changed``
     - declared, so that receivers can be connected; sent from a later version on
"""

from __future__ import annotations

from aksara_signals.dispatch.payload import Payload
from aksara_signals.dispatch.signal import Signal

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

_SAVE = Payload(("instance",), ("created", "update_fields", "session"), ("changes",))
_UPDATE = Payload(("instance",), ("created", "update_fields", "session"), ("changes",))
_DELETE = Payload(("instance",), ("session",))
_BULK = Payload(("instances",), ("session",))
_BULK_UPDATE = Payload(("instances",), ("fields", "session"))
_RELATION = Payload(("instance",), ("child", "relation_name", "passed_args", "session"))

pre_init = Signal.with_payload(
    "pre_init", Payload(optional=("args", "kwargs")), "An instance of a mapped class is about to be made."
)
"""Payload: ``args`` (a list) and ``kwargs`` (a dict) of the constructor, which is called with them
afterwards; both may be changed in place. Sent by constructors, never by loading."""

post_init = Signal.with_payload(
    "post_init", Payload(("instance",)), "An instance of a mapped class has been made."
)
"""Payload: ``instance``. Sent by constructors, never by loading."""

pre_save = Signal.with_payload("pre_save", _SAVE, "An INSERT or UPDATE is about to be made.")
"""Payload: ``instance``, ``created`` (True for an INSERT), ``update_fields`` (None, or the
frozenset given to ``save``), ``session``; ``changes`` for receivers that name it. What receivers
set is written."""

post_save = Signal.with_payload("post_save", _SAVE, "An INSERT or UPDATE has been made.")
"""Payload: as for ``pre_save``. Keys and server defaults are on the instance; the transaction is
still open, and a receiver that raises rolls it back."""

pre_update = Signal.with_payload("pre_update", _UPDATE, "An UPDATE is about to be made.")
"""Payload: as for ``pre_save``, with ``created=False``. Sent after it."""

post_update = Signal.with_payload("post_update", _UPDATE, "An UPDATE has been made.")
"""Payload: as for ``post_save``, with ``created=False``. Sent before it."""

pre_delete = Signal.with_payload("pre_delete", _DELETE, "A DELETE is about to be made.")
"""Payload: ``instance``, ``session``."""

post_delete = Signal.with_payload("post_delete", _DELETE, "A DELETE has been made.")
"""Payload: ``instance``, whose columns are still readable, and ``session``."""

pre_bulk_create = Signal.with_payload("pre_bulk_create", _BULK, "Rows are about to be inserted.")
"""Payload: ``instances`` (a list), ``session``. Declared; sent from a later version on."""

post_bulk_create = Signal.with_payload("post_bulk_create", _BULK, "Rows have been inserted.")
"""Payload: ``instances`` (a list), ``session``. Declared; sent from a later version on."""

pre_bulk_update = Signal.with_payload(
    "pre_bulk_update", _BULK_UPDATE, "Rows are about to be updated."
)
"""Payload: ``instances`` (a list), ``fields``, ``session``. Declared; sent from a later version
on."""

post_bulk_update = Signal.with_payload(
    "post_bulk_update", _BULK_UPDATE, "Rows have been updated."
)
"""Payload: ``instances`` (a list), ``fields``, ``session``. Declared; sent from a later version
on."""

pre_relation_add = Signal.with_payload(
    "pre_relation_add", _RELATION, "An instance is about to be added to a relationship."
)
"""Payload: ``instance`` (the owner), ``child``, ``relation_name``, ``passed_args``, ``session``.
Declared; sent from a later version on."""

post_relation_add = Signal.with_payload(
    "post_relation_add", _RELATION, "An instance has been added to a relationship."
)
"""Payload: as for ``pre_relation_add``. Declared; sent from a later version on."""

pre_relation_remove = Signal.with_payload(
    "pre_relation_remove", _RELATION, "An instance is about to be removed from a relationship."
)
"""Payload: as for ``pre_relation_add``. Declared; sent from a later version on."""

post_relation_remove = Signal.with_payload(
    "post_relation_remove", _RELATION, "An instance has been removed from a relationship."
)
"""Payload: as for ``pre_relation_add``. Declared; sent from a later version on."""

m2m_changed = Signal.with_payload(
    "m2m_changed",
    Payload(
        ("instance",),
        ("action", "reverse", "model", "pk_set", "objects", "session"),
    ),
    "The links of a many-to-many relationship change.",
)
"""Payload: ``instance`` (whose relationship it is), ``action`` (``pre_add``, ``post_add``,
``pre_remove``, ``post_remove``, ``pre_clear``, ``post_clear``), ``reverse``, ``model``,
``pk_set``, ``objects``, ``session``. The sender is the secondary ``Table``. Declared; sent from a
later version on."""

pre_migrate = Signal.with_payload("pre_migrate", Payload(), "Migrations are about to run.")
"""Senders: ``"upgrade"``, ``"downgrade"``, ``"revision"``. Declared; sent from a later version
on."""

post_migrate = Signal.with_payload("post_migrate", Payload(), "Migrations have run.")
"""Senders: as for ``pre_migrate``. Declared; sent from a later version on."""
