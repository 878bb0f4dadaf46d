"""The one room that touches what SQLAlchemy keeps to itself.

The hand-over from a flush to async receivers, the flag that forbids nested flushes, and every
private name of SQLAlchemy that the library needs, so that a new version of SQLAlchemy is a matter
of this file. Tried on 2.0 and 2.1.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from greenlet import getcurrent
from sqlalchemy import Integer, inspect
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    RelationshipProperty,
    Session,
    UOWTransaction,
    mapperlib,
)
from sqlalchemy.orm.attributes import History, get_history, instance_state
from sqlalchemy.orm.base import (
    INCLUDE_PENDING_MUTATIONS,
    LOAD_AGAINST_COMMITTED,
    NO_VALUE,
    LoaderCallableStatus,
    PassiveFlag,
)
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.sql import ClauseElement
from sqlalchemy.util import await_only

from aksara_signals.dispatch.delivery import Delivery, deliver, deliver_sync
from aksara_signals.dispatch.outcome import deliver_outcome, deliver_outcome_sync
from aksara_signals.exceptions import SessionInUseError

State = InstanceState[Any]

# -- the hand-over --------------------------------------------------------------------------------


def in_greenlet() -> bool:
    """Whether an event loop waits behind this synchronous code, to which awaitables can go."""
    return getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False)


def hand_over(deliveries: Iterable[Delivery], is_async: bool) -> None:
    """Deliver from inside a flush or a constructor.

    Args:
        deliveries: In order.
        is_async: Whether the receivers are async: then all of them are awaited in one hand-over.
            Synchronous ones are called right here, in the greenlet of the flush, where lazy loads
            work.
    """
    if not in_greenlet():
        deliver_sync(deliveries)
    elif is_async:
        await_only(deliver(deliveries))
    else:
        deliver_sync(deliveries, drive=_await_here)


def hand_over_outcome(deliveries: Iterable[Delivery]) -> None:
    """Deliver to receivers that have waited, when a transaction has ended."""
    if in_greenlet():
        await_only(deliver_outcome(deliveries))
    else:
        deliver_outcome_sync(deliveries)


def _await_here(awaitable: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await awaitable

    return await_only(wait())


# -- the session ----------------------------------------------------------------------------------


def is_flushing(session: Session) -> bool:
    """Whether a flush is under way that another one can't join."""
    return session._flushing


def is_committing(session: Session) -> bool:
    """Whether COMMIT is being sent for the session's outermost transaction, or has been."""
    transaction = session.get_transaction()
    return transaction is not None and transaction._state in (
        SessionTransactionState.PREPARED,
        SessionTransactionState.COMMITTED,
    )


@contextmanager
def flushable(session: Session) -> Iterator[None]:
    """Let receivers flush although the flush that sends to them is not quite over.

    At ``after_flush_postexec`` everything is written and the instances are clean; SQLAlchemy's
    flag against re-entrance is all that stands in the way of a nested flush.
    """
    before = session._flushing
    session._flushing = False
    try:
        yield
    finally:
        session._flushing = before


@contextmanager
def refusing(session: Session, methods: tuple[str, ...], remedy: str) -> Iterator[None]:
    """Refuse methods of a session while its receivers run, before they can do any harm.

    The methods are shadowed on the session itself: an event would come too late for ``rollback()``
    and ``close()``. AsyncSession and scoped sessions call the same ones.
    """
    namespace = vars(session)
    before = {name: namespace[name] for name in methods if name in namespace}
    for name in methods:
        namespace[name] = _refusal(name, remedy)
    try:
        yield
    finally:
        for name in methods:
            namespace.pop(name, None)
        namespace.update(before)


def _refusal(name: str, remedy: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise SessionInUseError(f"{name}() was called by a receiver {remedy}")

    return refuse


def row_count(session: Session, statement: Any) -> int:
    """Execute one UPDATE or DELETE, and count the rows that it matched."""
    result: Any = session.execute(statement)
    return int(result.rowcount)


def written_states(flush_context: UOWTransaction) -> Iterator[tuple[State, bool]]:
    """The states that a flush has written, and whether each was a DELETE."""
    # A row switch turns the deleted half into list-only: its row is gone all the same.
    return (
        (state, is_delete)
        for state, (is_delete, list_only) in flush_context.states.items()
        if is_delete or not list_only
    )


# -- states ---------------------------------------------------------------------------------------


def state_of(value: Any) -> State | None:
    """The state of an instance of a mapped class; None for anything else."""
    state = getattr(value, "_sa_instance_state", None)
    return state if isinstance(state, InstanceState) else None


def session_of(instance: Any) -> Session | None:
    """The session that an instance is in, if it is mapped and is in one."""
    state = state_of(instance)
    return None if state is None else state.session


def detached_copy(manager: Any, key: Any, values: dict[str, Any], missing: list[str]) -> object:
    """An instance that was never in a session, as if it had been loaded and then detached.

    Args:
        manager: The class manager of its class; no constructor is called.
        key: Its identity key, or None.
        values: Of the columns that it has.
        missing: The columns that it hasn't: reading one raises ``DetachedInstanceError``.
    """
    instance: object = manager.new_instance()
    state = instance_state(instance)
    state.dict.update(values)
    if key is not None:
        state.key = key
        state.identity_token = key[2]
        state._expire_attributes(state.dict, missing)
    return instance


def sort_key(state: State) -> tuple[str, str, tuple[Any, ...]]:
    """A fixed order of instances: by class, then by primary key."""
    cls = state.class_
    # Keys may be of any type: numbers are put in the order of numbers, the rest in that of text.
    key = tuple(
        (0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value))
        for value in state.identity or ()
    )
    return cls.__module__, cls.__qualname__, key


def is_orphan(state: State) -> bool:
    """Whether a delete-orphan relationship has let go of this state."""
    return bool(state.mapper._is_orphan(state))


def will_be_expunged(state: State) -> bool:
    """Whether the flush drops this orphan instead of inserting it."""
    return not state.has_identity and bool(state._orphaned_outside_of_session)


def has_parent(prop: RelationshipProperty[Any], child: State) -> bool:
    """Whether a child still has a parent along a relationship."""
    impl: Any = getattr(prop.class_attribute, "impl")  # noqa: B009 - not in the public type
    return bool(impl.hasparent(child))


def has_delete_orphans(mapper: Mapper[Any]) -> bool:
    """Whether instances of a mapper can be orphans."""
    return any(each._delete_orphans for each in mapper.iterate_to_root())


_NET = PassiveFlag.PASSIVE_NO_INITIALIZE | INCLUDE_PENDING_MUTATIONS
# Against the committed key, as the flush itself loads: a collection loaded by a key that is about
# to change would be empty, and the flush would believe it.
_LOADED = PassiveFlag.PASSIVE_OFF | LOAD_AGAINST_COMMITTED | INCLUDE_PENDING_MUTATIONS


def net_history(state: State, key: str, *, load: bool = False) -> History:
    """The net change of a relationship, also of a collection that isn't loaded.

    Args:
        state: Of the instance that has the relationship.
        key: The relationship's name.
        load: Whether to load it first; needs a greenlet under async.
    """
    return get_history(state.obj(), key, _LOADED if load else _NET)


def pin_old_value(state: State, key: str) -> None:
    """Keep what a relationship to one object referred to before, if it wasn't loaded.

    SQLAlchemy loads it whenever history is asked for; after the flush it would load the new one.
    """
    if state.committed_state.get(key) is LoaderCallableStatus.PASSIVE_NO_RESULT:
        history = net_history(state, key)
        old = history.deleted[0] if history.deleted else None
        state.committed_state[key] = history.unchanged[0] if history.unchanged else old


def is_touched(state: State, key: str) -> bool:
    """Whether an attribute has been changed since it was last written or loaded."""
    return key in state.committed_state or key in state._pending_mutations


def changed_columns(state: State) -> Iterator[tuple[str, Any]]:
    """The column attributes that an UPDATE would write, each with its old value.

    The old value is ``NO_VALUE`` where it is not known. The rules are those of SQLAlchemy's own
    collection of UPDATE values.
    """
    columns = state.mapper.column_attrs
    values = state.dict
    for key, old in list(state.committed_state.items()):
        if key in columns and key in values:
            new = values[key]
            impl: Any = state.manager[key].impl
            if is_expression(new) or is_unknown(old) or impl.is_equal(new, old) is not True:
                yield key, NO_VALUE if is_unknown(old) else old


def expressions(state: State) -> dict[str, Any]:
    """The attributes whose new value the database will work out, each with its old value."""
    return {key: old for key, old in changed_columns(state) if is_expression(state.dict[key])}


def has_column_changes(state: State) -> bool:
    """Whether an UPDATE would write anything."""
    return next(changed_columns(state), None) is not None


def is_expression(value: Any) -> bool:
    """Whether a value is SQL that the database will work out, such as ``Post.views + 1``."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def load_expired(state: State) -> None:
    """Load the column attributes that have expired; deferred ones stay away.

    Needs a greenlet under async.
    """
    for key in expired_columns(state)[:1]:  # the first touch loads them all
        getattr(state.obj(), key)


def expired_columns(state: State) -> list[str]:
    """The column attributes that would be loaded at the first touch of any of them."""
    expired = state.expired_attributes
    if not expired:
        return []
    committed = state.committed_state
    return [
        key
        for key in state.mapper.column_attrs.keys()  # noqa: SIM118 - not a dict
        if key in expired and key not in committed and key not in state.dict
    ]


def is_unloaded(state: State, key: str) -> bool:
    """Whether touching a column attribute that has no value would load one."""
    return key in state.expired_attributes or state.mapper.column_attrs[key].deferred


def identity_of(instance: object) -> str | None:
    """The primary key of an instance in words; None for what isn't mapped or has no row yet."""
    state = inspect(instance, raiseerr=False)
    if not isinstance(state, InstanceState) or state.identity is None:
        return None
    return ", ".join(str(value) for value in state.identity)


def describe(instance: object) -> str:
    """Class and primary key of an instance; never any other column."""
    return f"{type(instance).__qualname__} {identity_of(instance) or '(new)'}"


# -- history in detail ----------------------------------------------------------------------------


def reverse_keys(prop: RelationshipProperty[Any]) -> list[str]:
    """The names of the relationships on the other side that mirror this one."""
    return [reverse.key for reverse in prop._reverse_property]


def configured_relationships(cls: type) -> Iterator[RelationshipProperty[Any]]:
    """The relationships of a mapped class, none before its mapper has been configured."""
    mapper: Mapper[Any] = inspect(cls)
    if mapper.configured:
        yield from mapper.relationships


def was_declared_before(prop: RelationshipProperty[Any], other: RelationshipProperty[Any]) -> bool:
    """Which of two relationships was declared first; a backref comes after what it belongs to."""
    return bool(prop._creation_order < other._creation_order)


def is_initiated_here(target: object, key: str, initiator: Any) -> bool:
    """Whether a change of a relationship was made on it, and not on the other side."""
    impl: Any = instance_state(target).manager[key].impl
    return initiator is not None and initiator.parent_token is impl.parent_token


def old_value(state: State, key: str) -> Any:
    """The value of a column before its pending change; None also if it isn't known."""
    load_expired(state)
    old = state.committed_state.get(key, state.dict.get(key))
    return None if is_unknown(old) else old


def pending_members(state: State, key: str) -> tuple[Any, Any] | None:
    """What was added to and taken out of a collection that isn't loaded; None if it is."""
    pending = state._pending_mutations.get(key)
    return None if pending is None else (pending.added_items, pending.deleted_items)


def original_members(state: State, key: str) -> list[Any] | None:
    """A loaded collection as it was before it was changed, as a list that may be changed."""
    members: Any = state.committed_state.get(key)
    return members if isinstance(members, list) else None


def hide_scalar(state: State, key: str) -> Callable[[], None]:
    """Take away the history of a relationship to one object, and return what puts it back."""
    committed = state.committed_state
    old = {key: committed.pop(key)} if key in committed else {}
    return lambda: state.committed_state.update(old)


def has_members(state: State, key: str) -> bool:
    """Whether a relationship of a new instance leads to anything."""
    if not (key in state.dict or is_touched(state, key)):
        return False
    return any(each is not None for each in net_history(state, key).added or ())


def is_unknown(value: Any) -> bool:
    """Whether an old value is one of SQLAlchemy's words for "not known"."""
    return isinstance(value, LoaderCallableStatus)


# -- classes --------------------------------------------------------------------------------------


def mapped_classes() -> Iterator[type]:
    """Every live mapped class."""
    for registry in list(mapperlib._all_registries()):
        for mapper in list(registry.mappers):
            yield mapper.class_


_original_inits: weakref.WeakKeyDictionary[Any, Callable[..., None]] = weakref.WeakKeyDictionary()


def wrap_init(cls: type, wrapper: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Put a function around the construction of a mapped class, not of its subclasses.

    SQLAlchemy calls ``original_init`` once per construction, however long the chain of
    ``super().__init__`` is.
    """
    manager: Any = inspect(cls).class_manager
    _original_inits[manager] = manager.original_init
    manager.original_init = wrapper(manager.original_init)


def unwrap_inits() -> None:
    """Undo every :func:`wrap_init`."""
    for manager, original in list(_original_inits.items()):
        manager.original_init = original
    _original_inits.clear()


# -- rows written beside the unit of work ---------------------------------------------------------


def counts_keys_up(session: Session, mapper: Mapper[Any]) -> bool:
    """Whether rows of one INSERT get their keys in ascending order, so that keys give the order.

    SQLite does: it inserts the rows of VALUES one after another, and each takes the highest rowid
    plus one. SQLAlchemy, asked for rows in order, would insert them one by one there.
    """
    table = mapper.local_table
    column = getattr(table, "autoincrement_column", None)
    return (
        len(mapper.tables) == 1
        and column is not None
        and column.type._type_affinity is Integer
        and session.get_bind(mapper).dialect.name == "sqlite"
    )


def register_inserted(session: Session, instances: Iterable[object]) -> None:
    """Make transient instances, whose rows have just been inserted, persistent in a session.

    As a flush does it: a rollback makes them transient again.
    """
    session.add_all(instances)
    session._register_persistent({instance_state(each) for each in instances})


def register_updated(session: Session, state: State, keys: Iterable[str]) -> None:
    """Take columns, which have just been written, for committed; others stay pending.

    As a flush does it: a rollback of a savepoint expires them.
    """
    state._commit(state.dict, keys)
    owner = state.session
    if owner is not None:
        if not state.committed_state and "_pending_mutations" not in state.__dict__:
            state._commit_all(state.dict, owner.identity_map)
        if owner is session:
            owner._register_altered((state,))
