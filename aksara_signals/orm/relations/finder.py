"""Which links between instances a flush makes or cuts: what of relationships has changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.orm import Mapper, RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.history import (
    is_edited,
    is_expression,
    is_unknown,
    net_history,
    old_value,
    pin_old_value,
)
from aksara_signals.orm.bridge.loading import attribute_name, column_value
from aksara_signals.orm.bridge.rows import instances_with_keys, read_rows
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


class LinkFinder:
    """What a flush does to links: looked at before it and again after it.

    Args:
        session: That flushes.
        only: What ``flush(objects)`` was restricted to, else None.
    """

    def __init__(self, session: Session, only: Iterable[object] | None) -> None:
        self._session = session
        self.is_flushed = False
        """Whether rows are as the flush has left them."""
        self._only = None if only is None else list(only)
        self._parents: dict[tuple[Any, ...], object] = {}
        self._is_received: dict[type, bool] = {}
        self._old_keys: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._absent: set[LinkKey] = set()
        self._linked: dict[tuple[State, Relationship], set[tuple[Any, ...]]] = {}
        self._sides: dict[LinkKey, list[Link]] = {}

    def find(self, deleted: Collection[State]) -> list[Link]:
        """The links that are made or cut now, each once, from the side that was changed.

        Args:
            deleted: What the flush deletes: its links go silently.

        Returns:
            In the order of the owners: new ones as they were added, then others by class and key.
        """
        self._sides = {}
        states = [state for state in self._states() if state not in deleted]
        references = {state: self._references(state) for state in states}
        self._prepare(references)
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
            pin_old_value(owner, prop.key)
        history = net_history(owner, prop.key)
        for child in history.deleted or ():
            if not _keeps_its_key(child, prop):
                self._add(False, owner, prop, child, deleted)
        for child in history.added or ():
            if not self._is_there(owner, prop, child):
                self._add(True, owner, prop, child, deleted)

    def _is_there(self, owner: State, prop: Relationship, child: object) -> bool:
        """Whether a collection that isn't loaded was given what its row refers to already."""
        if child is None or prop.direction is not RelationshipDirection.ONETOMANY:
            return False
        state = instance_state(child)
        if not (owner.has_identity and state.has_identity):
            return False
        own = [pair[0] for pair in prop.synchronize_pairs]
        names = Reference(state, prop, prop).names
        return _values(owner, own) == self._old_key(state, names)

    def _add(
        self,
        is_added: bool,
        owner: State,
        prop: Relationship,
        child: object,
        deleted: Collection[State],
    ) -> None:
        if child is None:
            return
        child_state = instance_state(child)
        if owner in deleted or (is_added and child_state in deleted):
            return
        if not self._is_written(child_state) or (is_added and not self._is_written(owner)):
            return
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
        """Whether an end of a link is SQLAlchemy's to write: it warns of those that are not."""
        return end.session is self._session and not end.deleted and not is_dropped(end)

    def _is_absent(self, key: LinkKey, owner: State, prop: Relationship, child: State) -> bool:
        """Whether there is no row to delete: a collection that is never loaded doesn't know."""
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
        """Whether anybody is sent the links of a collection."""
        cls = prop.parent.class_
        known = self._is_received.get(cls)
        if known is None:
            known = self._is_received[cls] = any(
                signal.has_receivers(mapper.class_)
                for signal in RELATIONS.signals
                for mapper in prop.parent.self_and_descendants
            )
        return known

    def _prepare(self, references: Mapping[State, Sequence[Reference]]) -> None:
        """Read what a decision needs and isn't in memory, by one SELECT for each class."""
        self._read_old_keys(
            [
                *(each for found in references.values() for each in found if each.needs_old_key),
                *self._references_of_added(references),
            ]
        )
        keys: dict[Mapper[Any], dict[tuple[Any, ...], None]] = {}
        for found in references.values():
            for each in found:
                for values in self._keys_of(each):
                    identity = each.identity(values)
                    if identity is not None:
                        keys.setdefault(each.prop.mapper, {})[identity] = None
        for mapper, identities in keys.items():
            self._find_parents(mapper, [*identities])

    def _references_of_added(self, owners: Iterable[State]) -> Iterator[Reference]:
        for owner in owners:
            for prop in info_of(owner.mapper).owned if owner.has_identity else ():
                if prop.direction is RelationshipDirection.ONETOMANY and is_edited(owner, prop.key):
                    for child in net_history(owner, prop.key).added or ():
                        if child is not None:
                            yield Reference(instance_state(child), prop, prop)

    def _keys_of(self, reference: Reference) -> Iterator[Sequence[Any]]:
        if reference.needs_old_key:
            yield self._old_key(reference.child, reference.names)
        if not reference.has_history:
            yield [reference.child.dict.get(name) for name in reference.names]

    def _from_child(self, child: State, reference: Reference, deleted: Collection[State]) -> None:
        """A many-to-one relationship, or its foreign key, was set: that is a link of the parent."""
        reverse = reference.reverse
        old = reference.old
        if reference.needs_old_key:
            old = self._parent(reference, self._old_key(child, reference.names))
        if reference.has_history:
            new = reference.new
        else:
            new = self._parent(reference, [child.dict.get(name) for name in reference.names])
        if old is new:
            return
        if new is not None and not self._is_written(instance_state(new)):
            return  # SQLAlchemy leaves the foreign key as it is
        instance = child.obj()
        if old is not None:
            self._add(False, instance_state(old), reverse, instance, deleted)
        if new is not None:
            self._add(True, instance_state(new), reverse, instance, deleted)

    def _old_key(self, child: State, names: Sequence[str]) -> tuple[Any, ...]:
        """The foreign key of a row as it was before the flush.

        It is remembered: when the flush has set a key that was never loaded, history doesn't know
        the old one.
        """
        return self._old_keys.get((child, *names), (None,) * len(names))

    def _read_old_keys(self, references: Iterable[Reference]) -> None:
        """Read the old keys where they were assigned while expired."""
        unknown: dict[Any, dict[tuple[Any, ...], State]] = {}
        for each in references:
            child, names = each.child, tuple(each.names)
            if (child, *names) in self._old_keys or not child.has_identity:
                continue
            values = tuple(old_value(child, name) for name in names)
            if not any(is_unknown(value) for value in values):
                self._old_keys[(child, *names)] = values
            elif not self.is_flushed:
                group = child.mapper, child.identity_token, names
                unknown.setdefault(group, {})[child.identity or ()] = child
        for (mapper, _, names), children in unknown.items():
            instances = {identity: child.obj() for identity, child in children.items()}
            rows = read_rows(self._session, mapper, names, instances)
            for identity, child in children.items():
                self._old_keys[(child, *names)] = rows.get(identity, (None,) * len(names))

    # -- parents by their keys -----------------------------------------------------------------

    def _parent(self, reference: Reference, values: Sequence[Any]) -> Any:
        """The instance that a foreign key refers to; None if there is none, or no telling."""
        identity = reference.identity(values)
        return None if identity is None else self._parents.get((reference.prop.mapper, identity))

    def _find_parents(self, mapper: Mapper[Any], identities: Sequence[tuple[Any, ...]]) -> None:
        """Find the instances with these keys, loading those that are not in the session."""
        mine = self._instances_with_new_keys()
        absent: list[tuple[Any, ...]] = []
        for identity in identities:
            if self._parents.get((mapper, identity)) is not None:
                continue
            # A row whose key this flush changes is in the session under its old key: loading it by
            # the new one would make a second object of it.
            found = mine.get((mapper.base_mapper, identity))
            if found is None:
                key = mapper.identity_key_from_primary_key(identity)
                found = self._session.identity_map.get(key)
            if isinstance(found, mapper.class_):
                self._parents[mapper, identity] = found
            elif found is None:
                absent.append(identity)
        if not absent:
            return
        with self._session.no_autoflush:
            for found in instances_with_keys(self._session, mapper, absent):
                identity = instance_state(found).identity or ()
                self._parents[mapper, tuple(identity)] = found

    def _instances_with_new_keys(self) -> dict[tuple[Any, ...], object]:
        found: dict[tuple[Any, ...], object] = {}
        for instance in (*self._session.new, *self._session.dirty):
            state = instance_state(instance)
            primary = info_of(state.mapper).key_names
            if state.key is None or not state.committed_state.keys().isdisjoint(primary):
                identity = tuple(state.dict.get(name) for name in primary)
                found[state.mapper.base_mapper, identity] = instance
        return found


class Reference:
    """A many-to-one relationship of one child, whose other side is a collection.

    Args:
        child: That refers to a parent.
        prop: The relationship; of the child, or, where the child was added to a collection, of the
            owner.
        reverse: The collection.
    """

    __slots__ = ("child", "has_history", "is_edited", "names", "new", "old", "prop", "reverse")

    def __init__(self, child: State, prop: Relationship, reverse: Relationship) -> None:
        self.child: State = child
        self.prop: Relationship = prop
        self.reverse: Relationship = reverse
        columns = (
            [pair[1] for pair in prop.synchronize_pairs]
            if prop is reverse
            else [pair[0] for pair in prop.local_remote_pairs or ()]
        )
        self.names: list[str] = [attribute_name(child.mapper, column) for column in columns]
        self.has_history: bool = False
        """Whether the relationship itself was set or deleted."""
        self.old: Any = None
        self.new: Any = None
        is_relationship_edited = prop is not reverse and is_edited(child, prop.key)
        self.is_edited: bool = is_relationship_edited or any(
            name in child.committed_state for name in self.names
        )
        if is_relationship_edited:
            history = net_history(child, prop.key)
            self.has_history = bool(history.added or history.deleted)
            self.new = history.added[0] if history.added else None
            self.old = next((each for each in history.deleted or () if each is not None), None)

    @property
    def needs_old_key(self) -> bool:
        """Whether the old parent is known by the old foreign key alone."""
        return self.old is None and self.child.has_identity

    def identity(self, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """The primary key of the parent that a foreign key refers to, as far as it does."""
        if any(value is None or is_expression(value) for value in values):
            return None
        pairs = self.prop.local_remote_pairs or ()
        mapper = self.prop.mapper
        # By attribute: a joined subclass has its key in two tables, and either may be referred to.
        remote = {
            mapper.get_property_by_column(column).key: value
            for (_, column), value in zip(pairs, values, strict=True)
        }
        names = info_of(mapper).key_names
        return tuple(remote[name] for name in names) if set(remote) == set(names) else None


def _keeps_its_key(child: object, prop: Relationship) -> bool:
    """Whether a child that was taken out of a collection stays linked as the row says."""
    return (
        prop.passive_deletes == "all"
        and prop.direction is RelationshipDirection.ONETOMANY
        and child is not None
        and not has_parent(prop, instance_state(child))
        and not reverses(prop)  # the other side writes the key
    )


def _values(state: State, columns: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(column_value(state, column) for column in columns)
