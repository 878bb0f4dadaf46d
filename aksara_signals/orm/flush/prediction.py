"""Which rows a flush is going to write, known before it writes them.

``pre_save`` and ``pre_delete`` need this at ``before_flush``. But SQLAlchemy decides in the middle
of the flush which rows it inserts, updates and deletes, when receivers can't take part any more.
Nor do ``session.new``, ``dirty`` and ``deleted`` say it: a dirty object may have no net change, an
object that isn't dirty is updated when its parent's collection has changed, an orphan is deleted.

So SQLAlchemy's own rules are applied here, to the same history. First come the deletes, because a
deleted object is neither inserted nor updated; then the updates that an object's own columns cause;
then those that relationships cause.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from operator import attrgetter
from typing import Any

from sqlalchemy.orm import Mapper, RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_dict, instance_state

from aksara_signals.orm.bridge.column_edits import Edit, first_edit
from aksara_signals.orm.bridge.history import (
    following_references,
    is_edited,
    net_history,
    referring_states,
)
from aksara_signals.orm.bridge.loading import attribute_name, column_value, is_known
from aksara_signals.orm.bridge.sessions import pending_states
from aksara_signals.orm.bridge.states import State, has_parent, in_order, is_dropped, is_orphan
from aksara_signals.orm.flush.changes import Change, deleted_before_created
from aksara_signals.orm.flush.recipients import FlushRecipients
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.cascades import flushed_with
from aksara_signals.orm.mapping.info import Relationship, info_of

_mapper_of, _class_of = attrgetter("mapper"), attrgetter("class_")


class Prediction:
    """The rows that a flush would write now.

    Args:
        session: The session that is about to flush.
        recipients: The receivers of this flush; rows of classes without receivers are left out.
        objects: The objects that ``flush(objects)`` was restricted to, else None.
        foreseen: The states whose changes have been sent already. New ones are not predicted again
            as inserts.
        requested: The states of instances that are sent although they have no change.
    """

    def __init__(
        self,
        session: Session,
        recipients: FlushRecipients,
        objects: Iterable[object] | None,
        foreseen: Container[State],
        requested: Container[State],
    ) -> None:
        self._session = session
        self._recipients = recipients
        self._requested = requested
        # States with their instances: history may load an object, and a state holds its instance
        # only weakly, so the loaded one would be lost again.
        new, dirty, deleted = pending_states(session)
        if objects is not None:
            only = flushed_with(objects)
            new = [pair for pair in new if id(pair[1]) in only]
            dirty = [state for state in dirty if id(state.obj()) in only]
            given = {id(each) for each in objects}  # alive: held by the caller
            deleted = {state: each for state, each in deleted.items() if id(each) in given}
        self._dirty: list[State] = dirty
        self.deleted: dict[State, object] = deleted
        """What would be deleted, cascades and orphans included."""
        self._created: list[tuple[State, object]] = []
        self._linked: list[State] = []
        self._sort_out_new(new, foreseen)
        self._mappers: set[Mapper[Any]] = {*map(_mapper_of, dirty)}
        """Those of the dirty states."""
        if any(info_of(mapper).is_linked for mapper in self._mappers):
            self._linked += [each for each in dirty if info_of(each.mapper).is_linked]
        self._updated: dict[State, tuple[object, Edit | None]] = {}
        self._added: dict[Relationship, set[State]] = {}
        self.is_linked: bool = bool(self._linked) or any(
            info.is_linked or info.has_orphans
            for info in map(info_of, {state.mapper for state in deleted})
        )
        """Whether what is written may depend on relationships."""
        if self._linked or self.deleted:
            self._find_orphans()
            self._cancel_deletes()

    def changes(self) -> list[Change]:
        """The changes that signals are sent for.

        Returns:
            Inserted rows in the order they were added, then updated and deleted ones by class and
            key. But deleted rows come first where their class hierarchy has new rows, too.
        """
        deleted = self.deleted
        create, update, delete = Kind.CREATE, Kind.UPDATE, Kind.DELETE
        found = [
            Change(create, state, instance, type(instance))
            for state, instance in self._created
            if state not in deleted
        ]
        if not (self._dirty or self._linked or deleted):
            return found
        self._find_updates()
        updates = self._updated
        updated = [state for state in updates if state not in deleted] if deleted else updates
        for state in in_order(self._of_classes_with_receivers(updated)):
            instance, edit = updates[state]
            found.append(Change(update, state, instance, type(instance), edit))
        if not deleted:
            return found
        gone = [state for state in deleted if state.has_identity]
        for state in in_order(self._of_classes_with_receivers(gone)):
            instance = deleted[state]
            if instance is not None:
                found.append(Change(delete, state, instance, type(instance)))
        return deleted_before_created(found)

    def _has_receivers(self, cls: type) -> bool:
        return self._recipients.of(cls).has_receivers

    def _of_classes_with_receivers(self, states: Iterable[State]) -> list[State]:
        """Those of the states whose class has receivers; each class is looked up once."""
        states = list(states)
        silent = {cls for cls in {*map(_class_of, states)} if not self._has_receivers(cls)}
        return [state for state in states if state.class_ not in silent] if silent else states

    def _sort_out_new(
        self, new: Iterable[tuple[State, object]], foreseen: Container[State]
    ) -> None:
        """Find the inserts, and the new states whose relationships have to be looked at.

        For a row of a class without relationships, this is nearly the whole prediction. What it
        needs to know of a class is looked up once, not once per row.
        """
        classes: dict[type, tuple[bool, bool, bool]] = {}
        for state, instance in new:
            cls = type(instance)
            known = classes.get(cls)
            if known is None:
                info = info_of(state.mapper)
                has_receivers = self._recipients.of(cls).has_receivers
                classes[cls] = known = has_receivers, info.is_linked, info.has_orphans
            has_receivers, is_linked, has_orphans = known
            if is_linked:
                self._linked.append(state)
            if has_receivers and state not in foreseen and not (has_orphans and is_dropped(state)):
                self._created.append((state, instance))

    # -- deletes -------------------------------------------------------------------------------

    def _find_orphans(self) -> None:
        """Add the orphans to the deleted states.

        SQLAlchemy deletes an orphan in two different ways. An object without any parent is deleted
        by itself. One that a *saved* parent has removed from its collection is deleted together
        with its own delete cascade. Where both apply, the cascade happens.
        """
        # 1. Objects without any parent. They are set apart at first: they have no cascade, unless
        # step 2 finds them again.
        gone = dict(self.deleted)
        both = (*self._linked, *self.deleted)
        mappers = {state.mapper for state in both}
        dependent = {each for each in mappers if info_of(each).has_orphans}
        for state in both if dependent else ():
            if state.mapper in dependent and state.has_identity and is_orphan(state):
                gone[state] = state.obj()
        # 2. Objects that a saved parent has removed, with their cascades.
        for state in self._linked:
            if state not in gone:
                for child in _released_by(state):
                    self._delete(child)
        # 3. The objects of step 1, and what the deleted ones had removed: without cascade.
        releasing = {each for each in mappers if info_of(each).releasing}
        for state, instance in gone.items():
            self.deleted.setdefault(state, instance)
            for child in _released_by(state) if state.mapper in releasing else ():
                self.deleted.setdefault(child, child.obj())

    def _cancel_deletes(self) -> None:
        """Take back deletes that the flush takes back.

        A deleted object that was appended to a one-to-many collection of a saved object is kept.
        """
        if not self.deleted:
            return
        for state in self._linked:
            if state in self.deleted:
                continue
            for prop in info_of(state.mapper).to_children:
                if prop.direction is RelationshipDirection.ONETOMANY and is_edited(state, prop.key):
                    for child in _members(net_history(state, prop.key).added):
                        self.deleted.pop(child, None)

    def _delete(self, state: State) -> None:
        """Add a state to the deleted ones, with its delete cascade."""
        self.deleted[state] = state.obj()
        for instance, _, child, _ in state.mapper.cascade_iterator("delete", state):
            self.deleted.setdefault(child, instance)

    # -- updates -------------------------------------------------------------------------------

    def _find_updates(self) -> None:
        # Own columns and many-to-one relationships.
        updated, requested = self._updated, self._requested
        for state in self._of_classes_with_receivers(self._dirty):
            instance = state.obj()
            if instance is None or state in self.deleted:
                continue
            edit = first_edit(state, instance_dict(instance))
            if edit is not None or state in requested or _has_new_target(state):
                updated[state] = instance, edit
        # Foreign keys that a parent writes: because its key has changed, because its collection
        # has, or because it is deleted. Added members are collected in the second loop, so that the
        # third one can pass them over.
        followed = {
            mapper: references
            for mapper in self._mappers
            if (references := following_references(mapper))
        }
        for state in self._dirty if followed else ():
            self._find_followers(state, followed.get(state.mapper, ()))
        for state in self._linked:
            for prop in info_of(state.mapper).to_children:
                if self._has_children_with_receivers(prop) and state not in self.deleted:
                    self._find_linked(state, prop)
        for state in self.deleted:
            for prop in info_of(state.mapper).to_children:
                if self._has_children_with_receivers(prop):
                    self._find_abandoned(state, prop)

    def _has_children_with_receivers(self, prop: Relationship) -> bool:
        return prop.direction is RelationshipDirection.ONETOMANY and any(
            self._has_receivers(mapper.class_) for mapper in prop.mapper.self_and_descendants
        )

    def _find_followers(self, parent: State, references: Iterable[Relationship]) -> None:
        """Find children that refer to a parent whose key changes, where no collection has them.

        With ``passive_updates=False`` the database doesn't update their foreign keys. SQLAlchemy
        searches the session for them, and so does this.
        """
        for prop in references:
            if self._has_receivers(prop.parent.class_) and _key_has_changed(parent, prop):
                for child in referring_states(self._session, prop, parent):
                    self._update(child)

    def _find_linked(self, parent: State, prop: Relationship) -> None:
        """Find children whose foreign key is written because their parent's collection changed."""
        # With passive_updates=False, a changed key of the parent is written to all its children.
        is_renamed = not prop.passive_updates and _key_has_changed(parent, prop)
        if not is_renamed and not is_edited(parent, prop.key):
            return
        history = net_history(parent, prop.key, load=is_renamed)
        for child in _members(history.unchanged) if is_renamed else ():
            self._update(child)
        for child in _members(history.added):
            self._added.setdefault(prop, set()).add(child)
            if _differs(parent, child, prop):
                self._update(child)
        # A removed child is deleted as an orphan, or keeps its foreign key, or gets null there,
        # unless it has another parent by now, whose collection writes the key.
        if prop.cascade.delete_orphan or prop.passive_deletes == "all":
            return
        for child in _members(history.deleted):
            if not has_parent(prop, child):
                self._update(child)

    def _find_abandoned(self, parent: State, prop: Relationship) -> None:
        """Find children whose foreign key becomes null because their parent is deleted."""
        # With a delete cascade they are deleted instead; with passive_deletes="all" a flush leaves
        # their keys alone.
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
        # A collection may still hold deleted objects.
        if child.persistent and child not in self.deleted:
            instance = child.obj()
            if instance is not None:
                self._updated.setdefault(child, (instance, None))


def _members(instances: Iterable[object] | None) -> Iterator[State]:
    for instance in instances or ():
        if instance is not None:
            yield instance_state(instance)


def _released_by(state: State) -> Iterator[State]:
    """The children that were removed from a parent and have no other one.

    A child without a row is included: the objects that its cascade reaches may have rows.
    """
    for prop in info_of(state.mapper).releasing:
        if is_edited(state, prop.key):
            for child in _members(net_history(state, prop.key).deleted):
                if not has_parent(prop, child):
                    yield child


def _has_new_target(state: State) -> bool:
    return any(
        is_edited(state, prop.key) and _points_elsewhere(state, prop)
        for prop in info_of(state.mapper).many_to_one
    )


def _points_elsewhere(child: State, prop: Relationship) -> bool:
    """Whether an edited many-to-one relationship changes the foreign key."""
    history = net_history(child, prop.key)
    if not (history.added or history.deleted):
        return False
    target = history.added[0] if history.added else None
    if target is None:
        return _differs(None, child, prop)
    parent = instance_state(target)
    # SQLAlchemy warns of a target that is in no session, and writes no reference to it.
    return parent.session is child.session and _differs(parent, child, prop)


def _differs(parent: State | None, child: State, prop: Relationship) -> bool:
    """Whether a child's foreign key differs from a parent's key, or from null without a parent."""
    for parent_column, child_column in prop.synchronize_pairs:
        if not is_known(child, child_column):
            return True  # not loaded: the flush writes it in any case
        value = None
        if parent is not None:
            value = column_value(parent, parent_column)
            if value is None and not parent.has_identity:
                return True  # the parent is new, and its key isn't known yet
        if column_value(child, child_column) != value:
            return True
    return False


def _key_has_changed(parent: State, prop: Relationship) -> bool:
    edited = parent.committed_state
    return parent.has_identity and any(
        attribute_name(parent.mapper, column) in edited for column, _ in prop.synchronize_pairs
    )
