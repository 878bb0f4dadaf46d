"""Which links between instances a flush makes or cuts: what of relationships has changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.orm import RelationshipDirection, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm import bridge
from aksara_signals.orm.columns import key_names
from aksara_signals.orm.links import Link, LinkKey, Relationship, is_forward, reverses, told_from
from aksara_signals.orm.models import is_wired
from aksara_signals.orm.traits import traits_of

__all__ = ["LinkFinder"]


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
        self._only = None if only is None else {id(each) for each in only}  # held by the caller
        self._parents: dict[tuple[Any, ...], object] = {}
        self._old_keys: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._absent: set[LinkKey] = set()
        self._linked: dict[tuple[bridge.State, Relationship], set[tuple[Any, ...]]] = {}
        self._sides: dict[LinkKey, list[Link]] = {}

    def find(self, deleted: Collection[bridge.State]) -> list[Link]:
        """The links that are made or cut now, each once, from the side that was changed.

        Args:
            deleted: What the flush deletes: its links go silently.

        Returns:
            In the order of the owners: new ones as they were added, then others by class and key.
        """
        self._sides = {}
        for state in self._states():
            traits = traits_of(state.mapper)
            if state not in deleted:
                for prop in traits.owned:
                    if bridge.is_touched(state, prop.key):
                        self._from_owner(state, prop, deleted)
                for prop, reverse in traits.parents:
                    self._from_child(state, prop, reverse, deleted)
        chosen = [told_from(sides) for sides in self._sides.values()]
        return [link for link in chosen if is_wired(type(link.owner))]

    def _states(self) -> list[bridge.State]:
        def states(objects: Iterable[object]) -> list[bridge.State]:
            return [
                instance_state(each)
                for each in objects
                if self._only is None or id(each) in self._only
            ]

        return [
            *sorted(states(self._session.new), key=lambda state: state.insert_order or 0),
            *sorted(states(self._session.dirty), key=bridge.sort_key),
        ]

    # -- from the owner ------------------------------------------------------------------------

    def _from_owner(
        self, owner: bridge.State, prop: Relationship, deleted: Collection[bridge.State]
    ) -> None:
        if not prop.uselist:
            bridge.pin_old_value(owner, prop.key)
        history = bridge.net_history(owner, prop.key)
        for child in history.deleted or ():
            if not _keeps_its_key(child, prop):
                self._add(False, owner, prop, child, deleted)
        for child in history.added or ():
            if not self._is_there(owner, prop, child):
                self._add(True, owner, prop, child, deleted)

    def _is_there(self, owner: bridge.State, prop: Relationship, child: object) -> bool:
        """Whether a collection that isn't loaded was given what its row refers to already."""
        if child is None or prop.direction is not RelationshipDirection.ONETOMANY:
            return False
        state = instance_state(child)
        if not (owner.has_identity and state.has_identity):
            return False
        own = [pair[0] for pair in prop.synchronize_pairs]
        names = [
            state.mapper.get_property_by_column(column).key for _, column in prop.synchronize_pairs
        ]
        return _values(owner, own) == self._old_key(state, names)

    def _add(
        self,
        is_added: bool,
        owner: bridge.State,
        prop: Relationship,
        child: object,
        deleted: Collection[bridge.State],
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

    def _is_written(self, end: bridge.State) -> bool:
        """Whether an end of a link is SQLAlchemy's to write: it warns of those that are not."""
        return end.session is self._session and not end.deleted and not bridge.is_dropped(end)

    def _is_absent(
        self, key: LinkKey, owner: bridge.State, prop: Relationship, child: bridge.State
    ) -> bool:
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

    def _linked_to(self, owner: bridge.State, prop: Relationship) -> set[tuple[Any, ...]]:
        pairs = prop.synchronize_pairs
        values = _values(owner, [pair[0] for pair in pairs])
        remote = [pair[1] for pair in prop.secondary_synchronize_pairs or ()]
        criteria = [pair[1] == value for pair, value in zip(pairs, values, strict=True)]
        with self._session.no_autoflush:
            return {tuple(row) for row in self._session.execute(select(*remote).where(*criteria))}

    # -- from the child ------------------------------------------------------------------------

    def _from_child(
        self,
        child: bridge.State,
        prop: Relationship,
        reverse: Relationship,
        deleted: Collection[bridge.State],
    ) -> None:
        """A many-to-one relationship, or its foreign key, was set: that is told of the parent."""
        pairs = prop.local_remote_pairs
        names = [child.mapper.get_property_by_column(local).key for local, _ in pairs or ()]
        relationship_touched = bridge.is_touched(child, prop.key)
        if not relationship_touched and not any(name in child.committed_state for name in names):
            return
        old = self._parent(prop, self._old_key(child, names)) if child.has_identity else None
        history = bridge.net_history(child, prop.key) if relationship_touched else None
        if history is not None and (history.added or history.deleted):
            new = history.added[0] if history.added else old
            old = next((each for each in history.deleted or () if each is not None), old)
        else:
            new = self._parent(prop, [child.dict.get(name) for name in names])
        if old is new:
            return
        instance = child.obj()
        if old is not None:
            self._add(False, instance_state(old), reverse, instance, deleted)
        if new is not None:
            self._add(True, instance_state(new), reverse, instance, deleted)

    def _old_key(self, child: bridge.State, names: Sequence[str]) -> tuple[Any, ...]:
        """The foreign key of a row as it was before the flush.

        It is read where it was assigned while it had expired, and remembered: when the flush has
        set a key that was never loaded, history doesn't know the old one.
        """
        known = self._old_keys.get((child, *names))
        if known is None:
            known = tuple(bridge.old_value(child, name) for name in names)
            if any(bridge.is_unknown(value) for value in known):
                known = (None,) * len(names) if self.is_flushed else self._read(child, names)
            self._old_keys[(child, *names)] = known
        return known

    def _read(self, child: bridge.State, names: Sequence[str]) -> tuple[Any, ...]:
        identity = child.identity or ()
        rows = bridge.read_rows(self._session, child.mapper, names, [identity], child.obj())
        return next(iter(rows.values()), (None,) * len(names))

    def _parent(self, prop: Relationship, values: Sequence[Any]) -> Any:
        """The instance that a foreign key refers to; None if there is none, or no telling."""
        if any(value is None or bridge.is_expression(value) for value in values):
            return None
        pairs = prop.local_remote_pairs or ()
        mapper = prop.mapper
        # By attribute: a joined subclass has its key in two tables, and either may be referred to.
        remote = {
            mapper.get_property_by_column(column).key: value
            for (_, column), value in zip(pairs, values, strict=True)
        }
        names = key_names(mapper)
        if set(remote) != set(names):
            return None
        identity = tuple(remote[name] for name in names)
        known = self._parents.get((mapper, *identity))
        if known is None:
            with self._session.no_autoflush:
                known = self._session.get(mapper.class_, identity)
            self._parents[(mapper, *identity)] = known
        return known


def _keeps_its_key(child: object, prop: Relationship) -> bool:
    """Whether a child that was taken out of a collection stays linked as the row says."""
    return (
        prop.passive_deletes == "all"
        and prop.direction is RelationshipDirection.ONETOMANY
        and child is not None
        and not bridge.has_parent(prop, instance_state(child))
        and not reverses(prop)  # the other side writes the key
    )


def _values(state: bridge.State, columns: Iterable[Any]) -> tuple[Any, ...]:
    bridge.load_expired(state)
    return tuple(
        state.dict.get(state.mapper.get_property_by_column(column).key) for column in columns
    )
