"""Which links between instances a flush makes or cuts.

The same link can show up twice, in the history of the collection and in that of the child's
reference, and it must be sent once. It can also show up on one side only: in a collection without a
backref, or in a foreign key that was set as a plain column. So both sides are searched, every find
is filed under a key that is the same for both sides, and one of them is chosen in the end.

History also claims more than the flush writes: members of other sessions, children that are linked
already, rows of a secondary table that aren't there. Each of these has a check of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.orm import RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.history import is_edited, net_history, pin_old_value
from aksara_signals.orm.bridge.loading import column_value
from aksara_signals.orm.bridge.states import State, has_parent, is_dropped, sort_key
from aksara_signals.orm.mapping.cascades import flushed_with
from aksara_signals.orm.mapping.info import Relationship, info_of
from aksara_signals.orm.mapping.registered import is_wired
from aksara_signals.orm.relations.links import (
    Link,
    LinkKey,
    chosen_side,
    is_forward,
    reverses,
)
from aksara_signals.orm.relations.origins import RELATIONS
from aksara_signals.orm.relations.references import Parents, Reference


class LinkFinder:
    """The links that one flush makes or cuts: searched before it and again after it.

    Args:
        session: The flushing session.
        only: The objects that ``flush(objects)`` was restricted to, else None.
    """

    def __init__(self, session: Session, only: Iterable[object] | None) -> None:
        self._session = session
        self._only = None if only is None else list(only)
        self._parents = Parents(session)
        self._has_receivers_of: dict[type, bool] = {}
        self._absent: set[LinkKey] = set()
        self._linked: dict[tuple[State, Relationship], set[tuple[Any, ...]]] = {}
        self._sides: dict[LinkKey, list[Link]] = {}

    def find(self, deleted: Collection[State], *, is_flushed: bool = False) -> list[Link]:
        """The links that are made or cut now, each once, from the side that was changed.

        Args:
            deleted: The instances that the flush deletes. Their links are cut without a signal.
            is_flushed: Whether the flush has written the rows.

        Returns:
            In the order of the owners: new ones as they were added, then others by class and key.
        """
        self._sides = {}
        states = [state for state in self._states() if state not in deleted]
        references = {state: self._references(state) for state in states}
        self._parents.read(
            [each for found in references.values() for each in found],
            self._references_of_added(states),
            is_flushed=is_flushed,
        )
        for state in states:
            for prop in info_of(state.mapper).owned:
                if is_edited(state, prop.key) and (
                    prop.secondary is not None or self._has_receivers(prop)
                ):
                    self._from_owner(state, prop, deleted)
            for reference in references[state]:
                self._from_child(state, reference, deleted)
        chosen = [chosen_side(sides) for sides in self._sides.values()]
        return [link for link in chosen if is_wired(type(link.owner))]

    def _states(self) -> list[State]:
        only = None if self._only is None else flushed_with(self._only)

        def states(objects: Iterable[object]) -> list[State]:
            return [instance_state(each) for each in objects if only is None or id(each) in only]

        return [
            *sorted(states(self._session.new), key=lambda state: state.insert_order or 0),
            *sorted(states(self._session.dirty), key=sort_key),
        ]

    # -- from the owner ------------------------------------------------------------------------

    def _from_owner(self, owner: State, prop: Relationship, deleted: Collection[State]) -> None:
        if not prop.uselist:
            # SQLAlchemy loads the old value of a scalar whenever history is requested. After the
            # flush it would load the new one.
            pin_old_value(owner, prop.key)
        history = net_history(owner, prop.key)
        for child in history.deleted or ():
            if not _stays_linked(child, prop):
                self._add(False, owner, prop, child, deleted)
        for child in history.added or ():
            if not self._is_linked_already(owner, prop, child):
                self._add(True, owner, prop, child, deleted)

    def _is_linked_already(self, owner: State, prop: Relationship, child: object) -> bool:
        """Whether a child's row refers to the owner already.

        A collection that isn't loaded doesn't know its members, so its history shows every
        ``append()`` as an addition.
        """
        if child is None or prop.direction is not RelationshipDirection.ONETOMANY:
            return False
        state = instance_state(child)
        if not (owner.has_identity and state.has_identity):
            return False
        own = [pair[0] for pair in prop.synchronize_pairs]
        return _values(owner, own) == self._parents.old_key(Reference(state, prop, prop))

    def _add(
        self,
        is_added: bool,
        owner: State,
        prop: Relationship,
        child: object,
        deleted: Collection[State],
    ) -> None:
        """File a link under its key, unless the flush doesn't write it."""
        if child is None:
            return
        child_state = instance_state(child)
        if owner in deleted or (is_added and child_state in deleted):
            return
        if not self._is_written(child_state) or (is_added and not self._is_written(owner)):
            return
        # A many-to-many link can be found from either side. Its key names the side that was
        # declared first, so that both finds have the same key.
        key: LinkKey
        if prop.direction is RelationshipDirection.MANYTOMANY and not is_forward(prop):
            key = reverses(prop)[0], is_added, child_state, owner
        else:
            key = prop, is_added, owner, child_state
        if not is_added and self._is_absent(key, owner, prop, child_state):
            return
        link = Link(key, is_added, prop, owner.obj(), child)
        self._sides.setdefault(key, []).append(link)

    def _is_written(self, end: State) -> bool:
        """Whether SQLAlchemy writes links of this end; it warns of those that it doesn't write."""
        return end.session is self._session and not end.deleted and not is_dropped(end)

    def _is_absent(self, key: LinkKey, owner: State, prop: Relationship, child: State) -> bool:
        """Whether the secondary table has no row for a link that was removed.

        A ``write_only`` or ``dynamic`` collection is never loaded, so its history shows every
        ``remove()``, also that of an instance that was no member. Only the database knows.
        """
        if prop.lazy not in ("write_only", "dynamic") or not isinstance(prop.secondary, Table):
            return False
        if key in self._absent:
            return True
        known = self._linked.get((owner, prop))
        if known is None:
            known = self._linked[owner, prop] = self._linked_to(owner, prop)
        if _values(child, [pair[0] for pair in prop.secondary_synchronize_pairs or ()]) in known:
            return False
        self._absent.add(key)
        return True

    def _linked_to(self, owner: State, prop: Relationship) -> set[tuple[Any, ...]]:
        """The keys of the members that the secondary table links to an owner."""
        pairs = prop.synchronize_pairs
        values = _values(owner, [pair[0] for pair in pairs])
        remote = [pair[1] for pair in prop.secondary_synchronize_pairs or ()]
        criteria = [pair[1] == value for pair, value in zip(pairs, values, strict=True)]
        with self._session.no_autoflush:
            return {tuple(row) for row in self._session.execute(select(*remote).where(*criteria))}

    # -- from the child ------------------------------------------------------------------------

    def _references(self, child: State) -> list[Reference]:
        """The references of a child that may have changed, and that a collection mirrors."""
        return [
            reference
            for prop, reverse in info_of(child.mapper).parents
            if self._has_receivers(reverse)
            and (reference := Reference(child, prop, reverse)).is_edited
        ]

    def _has_receivers(self, prop: Relationship) -> bool:
        """Whether any receiver is sent the links of a collection."""
        cls = prop.parent.class_
        known = self._has_receivers_of.get(cls)
        if known is None:
            known = self._has_receivers_of[cls] = any(
                signal.has_receivers(mapper.class_)
                for signal in RELATIONS.signals
                for mapper in prop.parent.self_and_descendants
            )
        return known

    def _references_of_added(self, owners: Iterable[State]) -> Iterator[Reference]:
        """The references of children that were added to a one-to-many collection."""
        for owner in owners:
            for prop in info_of(owner.mapper).owned if owner.has_identity else ():
                if prop.direction is RelationshipDirection.ONETOMANY and is_edited(owner, prop.key):
                    for child in net_history(owner, prop.key).added or ():
                        if child is not None:
                            yield Reference(instance_state(child), prop, prop)

    def _from_child(self, child: State, reference: Reference, deleted: Collection[State]) -> None:
        """A child was given another parent: one link of the old parent, and one of the new."""
        old, new = self._parents.old_of(reference), self._parents.new_of(reference)
        if old is new:
            return
        if new is not None and not self._is_written(instance_state(new)):
            return  # SQLAlchemy doesn't change the foreign key then
        instance = child.obj()
        for is_added, parent in ((False, old), (True, new)):
            if parent is not None:
                owner = instance_state(parent)
                self._add(is_added, owner, reference.reverse, instance, deleted)


def _stays_linked(child: object, prop: Relationship) -> bool:
    """Whether the row of a child that was taken out of a collection keeps its foreign key.

    With ``passive_deletes="all"`` a flush doesn't set it to null.
    """
    return (
        prop.passive_deletes == "all"
        and prop.direction is RelationshipDirection.ONETOMANY
        and child is not None
        and not has_parent(prop, instance_state(child))
        and not reverses(prop)  # the other side writes the key
    )


def _values(state: State, columns: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(column_value(state, column) for column in columns)
