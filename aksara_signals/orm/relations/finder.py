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
from typing import Any, NamedTuple

from sqlalchemy.orm import Mapper, RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.history import edited_of, net_history, pin_old_value
from aksara_signals.orm.bridge.loading import column_values
from aksara_signals.orm.bridge.sessions import pending_states
from aksara_signals.orm.bridge.states import State, has_parent, is_written_by, sort_key
from aksara_signals.orm.mapping.cascades import flushed_with
from aksara_signals.orm.mapping.info import Relationship, info_of
from aksara_signals.orm.mapping.registered import is_wired
from aksara_signals.orm.relations.basis import are_written, basis_of, is_same
from aksara_signals.orm.relations.links import (
    Link,
    LinkKey,
    Spelling,
    chosen_side,
    is_forward,
    reverses,
)
from aksara_signals.orm.relations.origins import edits_or_none
from aksara_signals.orm.relations.recipients import LinkRecipients
from aksara_signals.orm.relations.references import Parents, Reference
from aksara_signals.orm.relations.unloaded import UnloadedMembers, is_never_loaded


class _Searched(NamedTuple):
    """The relationships of a mapper whose links are searched, because they have receivers."""

    owned: list[Relationship]
    parents: list[tuple[Relationship, Relationship]]


class _Edited(NamedTuple):
    """A state, with its relationships that have been edited and have receivers."""

    state: State
    owned: list[Relationship]
    references: list[Reference]


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
        self._recipients = LinkRecipients()
        self._searched: dict[Mapper[Any], _Searched] = {}
        self._names: dict[Relationship, tuple[Relationship, bool]] = {}
        self._unloaded = UnloadedMembers(session)
        self._sides: dict[LinkKey, list[Link]] = {}
        self._sort_keys: dict[State, Any] = {}
        self._found: list[Link] = []
        self._basis: list[Any] | None = None
        self._all_written: bool = False
        """Whether the last search has met no link that the flush won't write."""

    def find(self, deleted: Collection[State], *, is_flushed: bool = False) -> list[Link]:
        """The links that are made or cut now, each once, from the side that was changed.

        Args:
            deleted: The instances that the flush deletes. Their links are cut without a signal.
            is_flushed: Whether the flush has written the rows.

        Returns:
            In the order of the owners: new ones as they were added, then others by class and key.
        """
        if is_flushed:
            self._recipients.look_again()
            self._searched = {}
        edited = self._edited(deleted)
        basis = None
        if not any(each.references for each in edited):
            basis = basis_of([(each.state, each.owned) for each in edited])
        if not (
            self._all_written
            and is_same(basis, self._basis)
            and are_written(self._found, self._session, deleted)
        ):
            self._basis, self._all_written = basis, True
            self._found = self._search(edited, deleted, is_flushed=is_flushed)
        return self._found

    def _search(
        self, edited: list[_Edited], deleted: Collection[State], *, is_flushed: bool
    ) -> list[Link]:
        self._sides = {}
        self._parents.read(
            [reference for each in edited for reference in each.references],
            self._references_of_added(edited),
            is_flushed=is_flushed,
        )
        for state, owned, references in edited:
            for prop in owned:
                self._from_owner(state, prop, deleted)
            for reference in references:
                self._from_child(state, reference, deleted)
        chosen = [chosen_side(sides) for sides in self._sides.values()]
        wired = {cls for cls in {type(link.owner) for link in chosen} if is_wired(cls)}
        return [link for link in chosen if type(link.owner) in wired]

    @property
    def spellings(self) -> Collection[Spelling]:
        """Foreign keys that aren't equal to the primary keys they refer to."""
        return self._parents.spellings

    def was_searched(self, link: Link) -> bool:
        """Whether the links of a relationship were searched before the flush as well.

        A pre receiver may have connected the first receiver of them.
        """
        return self._recipients.had_before(link.prop)

    def _edited(self, deleted: Collection[State]) -> list[_Edited]:
        """The states with edited relationships that have any receivers, in a fixed order."""
        new, modified, _ = pending_states(self._session)
        only = None if self._only is None else flushed_with(self._only)
        inserted, updated = (
            [
                each
                for state in states
                if (each := self._edits_of(state))
                and state not in deleted
                and (only is None or id(state.obj()) in only)
            ]
            for states in ([state for state, _ in new], modified)
        )
        inserted.sort(key=lambda each: each.state.insert_order or 0)
        updated.sort(key=lambda each: self._sort_key(each.state))
        return inserted + updated

    def _edits_of(self, state: State) -> _Edited | None:
        searched = self._searched.get(state.mapper) or self._searched_of(state)
        owned = edited_of(state, searched.owned) if searched.owned else []
        references = self._references(state) if searched.parents else []
        return _Edited(state, owned, references) if owned or references else None

    def _sort_key(self, state: State) -> Any:
        known = self._sort_keys.get(state)
        if known is None:
            known = self._sort_keys[state] = sort_key(state)
        return known

    def _searched_of(self, state: State) -> _Searched:
        mapper = state.mapper
        found = self._searched.get(mapper)
        if found is None:
            info, recipients = info_of(mapper), self._recipients
            owned = [prop for prop in info.owned if recipients.of(prop)]
            parents = [pair for pair in info.parents if recipients.of(pair[1])]
            found = self._searched[mapper] = _Searched(owned, parents)
        return found

    # -- from the owner ------------------------------------------------------------------------

    def _from_owner(self, owner: State, prop: Relationship, deleted: Collection[State]) -> None:
        if not prop.uselist:
            # SQLAlchemy loads the old value of a scalar whenever history is requested. After the
            # flush it would load the new one.
            pin_old_value(owner, prop.key)
        history = net_history(owner, prop.key)
        if history.deleted:
            removed = [each for each in history.deleted if not _stays_linked(each, prop)]
            self._add(False, owner, prop, removed, deleted)
        added = history.added or ()
        if added and prop.direction is RelationshipDirection.ONETOMANY and owner.has_identity:
            added = self._not_linked_already(owner, prop, added)
        if added:
            self._add(True, owner, prop, added, deleted)

    def _not_linked_already(
        self, owner: State, prop: Relationship, children: Iterable[object]
    ) -> list[object]:
        """The children whose rows don't refer to the owner already.

        A collection that isn't loaded doesn't know its members, so its history shows every
        ``append()`` as an addition.
        """
        key: tuple[Any, ...] | None = None
        found: list[object] = []
        for child in children:
            if child is not None and (state := instance_state(child)).has_identity:
                if key is None:  # not before it is needed: it may have to be loaded
                    key = column_values(owner, [pair[0] for pair in prop.synchronize_pairs])
                if key == self._parents.old_key(Reference(state, prop, prop)):
                    continue
            found.append(child)
        return found

    def _add(
        self,
        is_added: bool,
        owner: State,
        prop: Relationship,
        children: Iterable[object],
        deleted: Collection[State],
    ) -> None:
        """File the links of one owner under their keys, without those that the flush won't write.

        What concerns the owner and the relationship is judged once for all their links.
        """
        session = self._session
        if owner in deleted or (is_added and not is_written_by(owner, session)):
            self._all_written = False
            return
        instance, edits, sides = owner.obj(), edits_or_none(owner), self._sides
        named, is_turned = self._name_of(prop)
        is_known = is_added or not is_never_loaded(prop)
        for child in children:
            if child is None:
                continue
            state = instance_state(child)
            if (is_added and state in deleted) or not is_written_by(state, session):
                self._all_written = False
                continue
            key = (named, is_added, state, owner) if is_turned else (named, is_added, owner, state)
            if not is_known and self._unloaded.lacks(key, owner, prop, state):
                continue
            link = Link(key, is_added, prop, instance, child, edits)
            found = sides.get(key)
            if found is None:
                sides[key] = [link]
            else:
                found.append(link)

    def _name_of(self, prop: Relationship) -> tuple[Relationship, bool]:
        """The relationship that names a link in its key, and whether it is the other side.

        A many-to-many link can be found from either side. Its key names the side that was declared
        first, so that both finds have the same key.
        """
        known = self._names.get(prop)
        if known is None:
            is_turned = prop.direction is RelationshipDirection.MANYTOMANY and not is_forward(prop)
            known = self._names[prop] = (reverses(prop)[0] if is_turned else prop), is_turned
        return known

    # -- from the child ------------------------------------------------------------------------

    def _references(self, child: State) -> list[Reference]:
        """The references of a child that may have changed, and that a collection mirrors."""
        return [
            reference
            for prop, reverse in self._searched_of(child).parents
            if (reference := Reference(child, prop, reverse)).is_edited
        ]

    def _references_of_added(self, edited: Iterable[_Edited]) -> Iterator[Reference]:
        """The references of children that were added to a one-to-many collection."""
        for owner, owned, _ in edited:
            for prop in owned if owner.has_identity else ():
                if prop.direction is RelationshipDirection.ONETOMANY:
                    for child in net_history(owner, prop.key).added or ():
                        if child is not None:
                            yield Reference(instance_state(child), prop, prop)

    def _from_child(self, child: State, reference: Reference, deleted: Collection[State]) -> None:
        """A child was given another parent: one link of the old parent, and one of the new."""
        old, new = self._parents.old_of(reference), self._parents.new_of(reference)
        if old is new:
            return
        if new is not None and not is_written_by(instance_state(new), self._session):
            return  # SQLAlchemy doesn't change the foreign key then
        members = (child.obj(),)
        for is_added, parent in ((False, old), (True, new)):
            if parent is not None:
                owner = instance_state(parent)
                self._add(is_added, owner, reference.reverse, members, deleted)


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
