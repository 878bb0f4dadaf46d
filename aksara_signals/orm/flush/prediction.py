"""What a flush is going to write, told before it does.

SQLAlchemy decides this in the middle of a flush, too late for receivers to take part. The rules
here are the same ones, applied to the same history, at ``before_flush``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from sqlalchemy.orm import RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.history import (
    following_references,
    has_column_changes,
    is_edited,
    net_history,
    referring_states,
)
from aksara_signals.orm.bridge.loading import attribute_name, column_value, is_known
from aksara_signals.orm.bridge.sessions import pending_states
from aksara_signals.orm.bridge.states import State, has_parent, is_dropped, is_orphan, sort_key
from aksara_signals.orm.flush.changes import Change, deleted_before_created
from aksara_signals.orm.flush.recipients import FlushRecipients
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.cascades import flushed_with
from aksara_signals.orm.mapping.info import Relationship, info_of


class Prediction:
    """The rows that a flush would write now.

    Args:
        session: About to flush.
        recipients: The receivers of this flush; rows of classes without receivers are left out.
        objects: What ``flush(objects)`` was restricted to, else None.
        foreseen: States whose changes have been sent already. Looked at again is only what may have
            become of them since then.
        requested: Instances that are sent although they have no change, by their states.
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
        # States with their instances: history may load what it lost sight of, and a state alone
        # would let its instance go again.
        new, self._dirty, self.deleted = pending_states(session)
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
        self._sort_out_new(new, foreseen)
        self._linked += [each for each in self._dirty if info_of(each.mapper).is_linked]
        self._updated: dict[State, object] = {}
        self._added: dict[Relationship, set[State]] = {}
        self.is_linked: bool = bool(self._linked)
        """Whether what is written may depend on relationships."""
        if self._linked or self.deleted:
            self._find_orphans()
            self._cancel_deletes()

    def changes(self) -> list[Change]:
        """The changes that are sent.

        Returns:
            Inserted rows in the order they were added, then updated and deleted ones by class and
            key; but deleted ones first where their hierarchy of classes has new ones, too.
        """
        deleted = self.deleted
        created = [
            Change(Kind.CREATE, state, instance, type(instance))
            for state, instance in self._created
            if state not in deleted
        ]
        if not (self._dirty or self._linked or deleted):
            return created
        self._find_updates()
        updated = [state for state in self._updated if state not in deleted]
        gone = [state for state in deleted if state.has_identity]
        return deleted_before_created(
            [
                *created,
                *self._with_receivers(Kind.UPDATE, sorted(updated, key=sort_key)),
                *self._with_receivers(Kind.DELETE, sorted(gone, key=sort_key)),
            ]
        )

    def _with_receivers(self, kind: Kind, states: Iterable[State]) -> Iterator[Change]:
        for state in states:
            instance = state.obj()
            if instance is not None and self._has_receivers(state.class_):
                yield Change(kind, state, instance, type(instance))

    def _has_receivers(self, cls: type) -> bool:
        return self._recipients.of(cls).has_receivers

    def _sort_out_new(
        self, new: Iterable[tuple[State, object]], foreseen: Container[State]
    ) -> None:
        """Nearly all there is to do about a new row of a class without relationships."""
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
        """Who has no parent any more goes alone; who a saved parent lets go, with all that it owns.

        Both may be true of one, and then the latter counts.
        """
        gone = dict(self.deleted)
        for state in (*self._linked, *self.deleted):
            if info_of(state.mapper).has_orphans and state.has_identity and is_orphan(state):
                gone[state] = state.obj()
        for state in self._linked:
            if state not in gone:
                for child in _released_by(state):
                    self._delete(child)
        for state, instance in gone.items():
            self.deleted.setdefault(state, instance)
            for child in _released_by(state):
                self.deleted.setdefault(child, child.obj())

    def _cancel_deletes(self) -> None:
        """The flush keeps a deleted object that was appended to a collection of a saved one."""
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
        """A state, and what goes with it."""
        self.deleted[state] = state.obj()
        for instance, _, child, _ in state.mapper.cascade_iterator("delete", state):
            self.deleted.setdefault(child, instance)

    # -- updates -------------------------------------------------------------------------------

    def _find_updates(self) -> None:
        for state in self._dirty:
            if (
                state not in self.deleted
                and self._has_receivers(state.class_)
                and (state in self._requested or _has_change(state))
            ):
                self._updated[state] = state.obj()
        for state in self._dirty:
            self._find_followers(state)
        for state in self._linked:
            for prop in info_of(state.mapper).to_children:
                if self._concerns_us(prop) and state not in self.deleted:
                    self._find_linked(state, prop)
        for state in self.deleted:
            for prop in info_of(state.mapper).to_children:
                if self._concerns_us(prop):
                    self._find_abandoned(state, prop)

    def _concerns_us(self, prop: Relationship) -> bool:
        return prop.direction is RelationshipDirection.ONETOMANY and any(
            self._has_receivers(mapper.class_) for mapper in prop.mapper.self_and_descendants
        )

    def _find_followers(self, parent: State) -> None:
        """Objects that refer to a parent whose key changes, by references without a collection.

        SQLAlchemy searches the session for them, where the database doesn't pass keys on.
        """
        for prop in following_references(parent.mapper):
            if self._has_receivers(prop.parent.class_) and _key_has_changed(parent, prop):
                for child in referring_states(self._session, prop, parent):
                    self._update(child)

    def _find_linked(self, parent: State, prop: Relationship) -> None:
        """Children whose foreign key is written because a collection has changed."""
        # A changed key is written to all children, unless the database passes it on.
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


def _released_by(state: State) -> Iterator[State]:
    """The children that a parent has taken out, and nobody else has taken in.

    One may have no row: what it owns goes all the same.
    """
    for prop in info_of(state.mapper).to_children:
        if prop.cascade.delete_orphan and is_edited(state, prop.key):
            for child in _members(net_history(state, prop.key).deleted):
                if not has_parent(prop, child):
                    yield child


def _has_change(state: State) -> bool:
    return has_column_changes(state) or any(
        is_edited(state, prop.key) and _points_elsewhere(state, prop)
        for prop in info_of(state.mapper).many_to_one
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
    edited = parent.committed_state
    return parent.has_identity and any(
        attribute_name(parent.mapper, column) in edited for column, _ in prop.synchronize_pairs
    )
