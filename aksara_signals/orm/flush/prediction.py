"""What a flush is going to write, told before it does.

SQLAlchemy decides this in the middle of a flush, too late for receivers to take part. The rules
here are the same ones, applied to the same history, at ``before_flush``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from sqlalchemy.orm import RelationshipDirection, RelationshipProperty, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.history import (
    following_references,
    has_column_changes,
    is_touched,
    net_history,
    referring_states,
)
from aksara_signals.orm.bridge.loading import attribute_name, column_value, is_known
from aksara_signals.orm.bridge.sessions import deleted_states, dirty_states, new_states
from aksara_signals.orm.bridge.states import State, has_parent, is_dropped, is_orphan, sort_key
from aksara_signals.orm.flush.changes import Change, deleted_before_created
from aksara_signals.orm.flush.requested import requested_in
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.traits import flushed_with, traits_of

__all__ = ["Prediction"]

Relationship = RelationshipProperty[Any]


class Prediction:
    """The rows that a flush would write now.

    Args:
        session: About to flush.
        is_heard: Whether anybody listens to a class; others are left out.
        objects: What ``flush(objects)`` was restricted to, else None.
        told: States whose changes are told of already. Looked at again is only what may have become
            of them since then.
    """

    def __init__(
        self,
        session: Session,
        is_heard: Callable[[type], bool],
        objects: Iterable[object] | None,
        told: Container[State],
    ) -> None:
        self._session = session
        self._is_heard = is_heard
        # States with their instances: history may load what it lost sight of, and a state alone
        # would let its instance go again.
        new = new_states(session)
        self._dirty = dirty_states(session)
        self._requested = requested_in(session)
        self.deleted: dict[State, object] = deleted_states(session)
        """What would be deleted, cascades and orphans included."""
        if objects is not None:
            only = flushed_with(objects)
            new = [pair for pair in new if id(pair[1]) in only]
            self._dirty = [state for state in self._dirty if id(state.obj()) in only]
            given = {id(each) for each in objects}  # alive: held by the caller
            self.deleted = {
                state: instance for state, instance in self.deleted.items() if id(instance) in given
            }
        self._created: list[tuple[State, object]] = []
        self._linked: list[State] = []
        self._sort_out_new(new, told)
        self._linked += [each for each in self._dirty if traits_of(each.mapper).is_linked]
        self._updated: dict[State, object] = {}
        self._added: dict[Relationship, set[State]] = {}
        self._find_orphans()
        self._cancel_deletes()

    @property
    def is_linked(self) -> bool:
        """Whether what is written may depend on relationships."""
        return bool(self._linked)

    def changes(self) -> list[Change]:
        """What receivers are told of.

        Returns:
            Inserted rows in the order they were added, then updated and deleted ones by class and
            key; but deleted ones first where their hierarchy of classes has new ones, too.
        """
        self._find_updates()
        created = [
            Change(Kind.CREATE, state, instance)
            for state, instance in self._created
            if state not in self.deleted
        ]
        gone = [state for state in self.deleted if state.has_identity]
        updated = [state for state in self._updated if state not in self.deleted]
        return deleted_before_created(
            [
                *created,
                *self._told(Kind.UPDATE, sorted(updated, key=sort_key)),
                *self._told(Kind.DELETE, sorted(gone, key=sort_key)),
            ]
        )

    def _told(self, kind: Kind, states: Iterable[State]) -> Iterator[Change]:
        for state in states:
            instance = state.obj()
            if instance is not None and self._is_heard(state.class_):
                yield Change(kind, state, instance)

    def _sort_out_new(
        self,
        new: Iterable[tuple[State, object]],
        told: Container[State],
    ) -> None:
        """Nearly all there is to do about a new row of a class without relationships."""
        classes: dict[type, tuple[bool, bool, bool]] = {}
        for state, instance in new:
            cls = type(instance)
            known = classes.get(cls)
            if known is None:
                traits = traits_of(state.mapper)
                known = self._is_heard(cls), traits.is_linked, traits.has_orphans
                classes[cls] = known
            is_heard, is_linked, has_orphans = known
            if is_linked:
                self._linked.append(state)
            if is_heard and state not in told and not (has_orphans and is_dropped(state)):
                self._created.append((state, instance))

    # -- deletes -------------------------------------------------------------------------------

    def _find_orphans(self) -> None:
        """Who has no parent any more goes alone; who a saved parent lets go, with all that it owns.

        Both may be true of one, and then the latter counts.
        """
        gone = dict(self.deleted)
        for state in (*self._linked, *self.deleted):
            if traits_of(state.mapper).has_orphans and state.has_identity and is_orphan(state):
                gone[state] = state.obj()
        for state in self._linked:
            if state not in gone:
                for child in _let_go(state):
                    self._delete(child)
        for state, instance in gone.items():
            self.deleted.setdefault(state, instance)
            for child in _let_go(state):
                self.deleted.setdefault(child, child.obj())

    def _cancel_deletes(self) -> None:
        """The flush keeps a deleted object that was appended to a collection of a saved one."""
        if not self.deleted:
            return
        for state in self._linked:
            if state in self.deleted:
                continue
            for prop in traits_of(state.mapper).to_children:
                if prop.direction is RelationshipDirection.ONETOMANY and is_touched(
                    state, prop.key
                ):
                    for child in _members(net_history(state, prop.key).added):
                        self.deleted.pop(child, None)

    def _delete(self, state: State) -> None:
        """A state, and what goes with it."""
        self.deleted[state] = state.obj()
        for instance, _, child, _ in state.mapper.cascade_iterator("delete", state):
            self.deleted.setdefault(child, instance)

    # -- updates -------------------------------------------------------------------------------

    def _find_updates(self) -> None:
        for state in self._dirty:
            if (
                state not in self.deleted
                and self._is_heard(state.class_)
                and (state in self._requested or _has_change(state))
            ):
                self._updated[state] = state.obj()
        for state in self._dirty:
            self._find_followers(state)
        for state in self._linked:
            for prop in traits_of(state.mapper).to_children:
                if self._concerns_us(prop) and state not in self.deleted:
                    self._find_linked(state, prop)
        for state in self.deleted:
            for prop in traits_of(state.mapper).to_children:
                if self._concerns_us(prop):
                    self._find_abandoned(state, prop)

    def _concerns_us(self, prop: Relationship) -> bool:
        return prop.direction is RelationshipDirection.ONETOMANY and any(
            self._is_heard(mapper.class_) for mapper in prop.mapper.self_and_descendants
        )

    def _find_followers(self, parent: State) -> None:
        """Objects that refer to a parent whose key changes, by references without a collection.

        SQLAlchemy searches the session for them, where the database doesn't pass keys on.
        """
        for prop in following_references(parent.mapper):
            if self._is_heard(prop.parent.class_) and _key_has_changed(parent, prop):
                for child in referring_states(self._session, prop, parent):
                    self._update(child)

    def _find_linked(self, parent: State, prop: Relationship) -> None:
        """Children whose foreign key is written because a collection has changed."""
        # A changed key is written to all children, unless the database passes it on.
        is_renamed = not prop.passive_updates and _key_has_changed(parent, prop)
        if not is_renamed and not is_touched(parent, prop.key):
            return
        history = net_history(parent, prop.key, load=is_renamed)
        for child in _members(history.unchanged) if is_renamed else ():
            self._update(child)
        for child in _members(history.added):
            self._added.setdefault(prop, set()).add(child)
            if _differs(parent, child, prop):
                self._update(child)
        if prop.cascade.delete_orphan or prop.passive_deletes == "all":
            return
        for child in _members(history.deleted):
            if not has_parent(prop, child):
                self._update(child)

    def _find_abandoned(self, parent: State, prop: Relationship) -> None:
        """Children whose foreign key becomes null because their parent goes."""
        if prop.cascade.delete or prop.passive_deletes == "all":
            return
        history = net_history(parent, prop.key, load=not prop.passive_deletes)
        adopted = self._added.get(prop, ())
        for child in _members(history.unchanged):
            if child not in adopted:
                self._update(child)
        for child in _members(history.deleted):
            if not has_parent(prop, child):
                self._update(child)

    def _update(self, child: State) -> None:
        # A collection may still hold what is gone.
        if child.persistent and child not in self.deleted:
            self._updated[child] = child.obj()


def _members(instances: Iterable[object] | None) -> Iterator[State]:
    for instance in instances or ():
        if instance is not None:
            yield instance_state(instance)


def _let_go(state: State) -> Iterator[State]:
    """The children that a parent has taken out, and nobody else has taken in.

    One may have no row: what it owns goes all the same.
    """
    for prop in traits_of(state.mapper).to_children:
        if prop.cascade.delete_orphan and is_touched(state, prop.key):
            for child in _members(net_history(state, prop.key).deleted):
                if not has_parent(prop, child):
                    yield child


def _has_change(state: State) -> bool:
    return has_column_changes(state) or any(
        is_touched(state, prop.key) and _points_elsewhere(state, prop)
        for prop in traits_of(state.mapper).many_to_one
    )


def _points_elsewhere(child: State, prop: Relationship) -> bool:
    """Whether a changed many-to-one relationship changes the foreign key."""
    history = net_history(child, prop.key)
    if not (history.added or history.deleted):
        return False
    target = history.added[0] if history.added else None
    if target is None:
        return _differs(None, child, prop)
    parent = instance_state(target)
    # SQLAlchemy warns of an object that is in no session, and writes no reference to it.
    return parent.session is child.session and _differs(parent, child, prop)


def _differs(parent: State | None, child: State, prop: Relationship) -> bool:
    """Whether the foreign key of a child is another one than its parent's key."""
    for parent_column, child_column in prop.synchronize_pairs:
        if not is_known(child, child_column):
            return True  # not loaded: the flush writes it to be sure
        value = None
        if parent is not None:
            value = column_value(parent, parent_column)
            if value is None and not parent.has_identity:
                return True  # its key is yet to come
        if column_value(child, child_column) != value:
            return True
    return False


def _key_has_changed(parent: State, prop: Relationship) -> bool:
    touched = parent.committed_state
    return parent.has_identity and any(
        attribute_name(parent.mapper, column) in touched for column, _ in prop.synchronize_pairs
    )
