"""The one room that touches what SQLAlchemy keeps to itself.

The hand-over from a flush to async receivers, the flag that forbids nested flushes, and every
private name of SQLAlchemy that the library needs, so that a new version of SQLAlchemy is a matter
of this folder. Tried on 2.0 and 2.1.
"""

from aksara_signals.orm.bridge.classes import (
    mapped_classes,
    unwrap_inits,
    wrap_init,
)
from aksara_signals.orm.bridge.handover import (
    hand_over,
    hand_over_outcome,
    in_greenlet,
)
from aksara_signals.orm.bridge.history import (
    changed_columns,
    configured_relationships,
    expressions,
    has_column_changes,
    has_members,
    hide_scalar,
    is_expression,
    is_initiated_here,
    is_touched,
    is_unknown,
    net_history,
    old_value,
    original_members,
    pending_members,
    pin_old_value,
    reverse_keys,
    was_declared_before,
)
from aksara_signals.orm.bridge.rows import (
    counts_keys_up,
    register_inserted,
    register_updated,
)
from aksara_signals.orm.bridge.sessions import (
    flushable,
    is_committing,
    is_flushing,
    new_states,
    refusing,
    row_count,
    written_states,
)
from aksara_signals.orm.bridge.shield import (
    CommitShield,
)
from aksara_signals.orm.bridge.states import (
    State,
    describe,
    detached_copy,
    expired_columns,
    has_delete_orphans,
    has_parent,
    identity_of,
    is_orphan,
    is_unloaded,
    load_expired,
    session_of,
    sort_key,
    state_of,
    will_be_expunged,
)

__all__ = [
    "CommitShield",
    "State",
    "changed_columns",
    "configured_relationships",
    "counts_keys_up",
    "describe",
    "detached_copy",
    "expired_columns",
    "expressions",
    "flushable",
    "hand_over",
    "hand_over_outcome",
    "has_column_changes",
    "has_delete_orphans",
    "has_members",
    "has_parent",
    "hide_scalar",
    "identity_of",
    "in_greenlet",
    "is_committing",
    "is_expression",
    "is_flushing",
    "is_initiated_here",
    "is_orphan",
    "is_touched",
    "is_unknown",
    "is_unloaded",
    "load_expired",
    "mapped_classes",
    "net_history",
    "old_value",
    "original_members",
    "pending_members",
    "pin_old_value",
    "refusing",
    "register_inserted",
    "register_updated",
    "reverse_keys",
    "row_count",
    "session_of",
    "sort_key",
    "state_of",
    "unwrap_inits",
    "was_declared_before",
    "will_be_expunged",
    "wrap_init",
    "new_states",
    "written_states",
]
