"""A child's references to its parents, and which parents its foreign keys refer to.

A link can be made or cut by the child alone: its many-to-one relationship was assigned, or only the
foreign key. The signals about that link are sent by the parent, so the parent has to be found, the
old one as well as the new one. History often doesn't have it: the relationship may never have been
loaded, or only the column was set. Then the parent is looked up by the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.column_edits import is_expression, is_unknown, old_value
from aksara_signals.orm.bridge.history import is_edited, net_history
from aksara_signals.orm.bridge.loading import attribute_name
from aksara_signals.orm.bridge.rows import instances_with_keys, read_rows
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.mapping.info import Relationship, info_of
from aksara_signals.orm.relations.links import Spelling


class Reference:
    """A many-to-one relationship of one child, whose other side is a collection.

    Args:
        child: The instance that refers to a parent.
        prop: The relationship of the child. For a child that was added to a collection: the
            relationship of the owner.
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
        """The attributes of the child that hold the foreign key."""
        self.has_history: bool = False
        """Whether the relationship itself was assigned or deleted."""
        self.old: Any = None
        """The old parent, as far as the relationship's history knows it."""
        self.new: Any = None
        """The new parent, as far as the relationship's history knows it."""
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
        """Whether the old parent can only be found by the old foreign key."""
        return self.old is None and self.child.has_identity

    @property
    def new_key(self) -> list[Any]:
        """The foreign key as the child has it now."""
        return [self.child.dict.get(name) for name in self.names]

    def identity(self, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """The primary key of the parent with a foreign key; None if that isn't its primary key."""
        if any(value is None or is_expression(value) for value in values):
            return None
        pairs = self.prop.local_remote_pairs or ()
        mapper = self.prop.mapper
        # By attribute: a joined subclass has its key in two tables, and a foreign key may refer to
        # either of them.
        remote = {
            mapper.get_property_by_column(column).key: value
            for (_, column), value in zip(pairs, values, strict=True)
        }
        names = info_of(mapper).key_names
        return tuple(remote[name] for name in names) if set(remote) == set(names) else None


class Parents:
    """The parents that foreign keys refer to, before a flush and as it leaves them.

    Everything that isn't in memory is read at once, by one SELECT for each class.

    Args:
        session: The flushing session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_key: dict[tuple[Any, ...], object] = {}
        self._old_keys: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.spellings: set[Spelling] = set()
        """The foreign keys met so far that aren't equal to the primary keys they refer to."""

    def read(
        self,
        references: Sequence[Reference],
        added: Iterable[Reference],
        *,
        is_flushed: bool,
    ) -> None:
        """Read the old keys, and the parents, that are not in memory.

        Args:
            references: The edited references whose parents are needed.
            added: References of which only the old key is needed.
            is_flushed: Whether the flush has written the rows; their old keys can't be read then.
        """
        old = [each for each in references if each.needs_old_key]
        self._read_old_keys([*old, *added], is_flushed=is_flushed)
        keys: dict[Mapper[Any], dict[tuple[Any, ...], None]] = {}
        for each in references:
            for values in self._keys_of(each):
                identity = each.identity(values)
                if identity is not None:
                    keys.setdefault(each.prop.mapper, {})[identity] = None
        for mapper, identities in keys.items():
            self._find(mapper, [*identities])

    def old_key(self, reference: Reference) -> tuple[Any, ...]:
        """The foreign key of the child's row as it was before the flush."""
        names = reference.names
        return self._old_keys.get((reference.child, *names), (None,) * len(names))

    def old_of(self, reference: Reference) -> Any:
        """The parent before the flush; None if there is none, or if it can't be found."""
        if reference.needs_old_key:
            return self._with_key(reference, self.old_key(reference))
        return reference.old

    def new_of(self, reference: Reference) -> Any:
        """The parent after the flush; None if there is none, or if it can't be found."""
        if reference.has_history:
            return reference.new
        return self._with_key(reference, reference.new_key)

    def _keys_of(self, reference: Reference) -> Iterator[Sequence[Any]]:
        if reference.needs_old_key:
            yield self.old_key(reference)
        if not reference.has_history:
            yield reference.new_key

    def _with_key(self, reference: Reference, values: Sequence[Any]) -> Any:
        identity = reference.identity(values)
        return None if identity is None else self._by_key.get((reference.prop.mapper, identity))

    def _read_old_keys(self, references: Iterable[Reference], *, is_flushed: bool) -> None:
        # A foreign key that was assigned while it was expired has no old value in memory. It can be
        # read only as long as the flush hasn't overwritten it. So each old key is remembered: when
        # the flush itself has set a key that was never loaded, history doesn't know the old one.
        unknown: dict[Any, dict[tuple[Any, ...], State]] = {}
        for each in references:
            child, names = each.child, tuple(each.names)
            if (child, *names) in self._old_keys or not child.has_identity:
                continue
            values = tuple(old_value(child, name) for name in names)
            if not any(is_unknown(value) for value in values):
                self._old_keys[(child, *names)] = values
            elif not is_flushed:
                group = child.mapper, child.identity_token, names
                unknown.setdefault(group, {})[child.identity or ()] = child
        for (mapper, _, names), children in unknown.items():
            instances = {identity: child.obj() for identity, child in children.items()}
            rows = read_rows(self._session, mapper, names, instances)
            for identity, child in children.items():
                self._old_keys[(child, *names)] = rows.get(identity, (None,) * len(names))

    def _find(self, mapper: Mapper[Any], identities: Sequence[tuple[Any, ...]]) -> None:
        """Find the instances with these keys; load those that are not in the session."""
        # An instance whose key this flush changes is in the session under its old key. Loading it
        # by the new key would make a second instance of the same row, so those come first.
        rekeyed = self._instances_with_new_keys()
        absent: list[tuple[Any, ...]] = []
        for identity in identities:
            if self._by_key.get((mapper, identity)) is not None:
                continue
            found = rekeyed.get((mapper.base_mapper, identity))
            if found is None:
                key = mapper.identity_key_from_primary_key(identity)
                found = self._session.identity_map.get(key)
            if isinstance(found, mapper.class_):
                self._by_key[mapper, identity] = found
            elif found is None:
                absent.append(identity)
        if not absent:
            return
        with self._session.no_autoflush:
            loaded = {
                tuple(instance_state(found).identity or ()): found
                for found in instances_with_keys(self._session, mapper, absent)
            }
            if not loaded.keys() <= {*absent}:
                # The database takes different strings for the same, such as "a" and "A". Only a
                # SELECT for each key says which instance it means.
                for identity in [each for each in absent if each not in loaded]:
                    for found in instances_with_keys(self._session, mapper, [identity]):
                        loaded[identity] = found
                        self.spellings.add((instance_state(found), *identity))
            for identity, found in loaded.items():
                self._by_key[mapper, identity] = found

    def _instances_with_new_keys(self) -> dict[tuple[Any, ...], object]:
        found: dict[tuple[Any, ...], object] = {}
        for instance in (*self._session.new, *self._session.dirty):
            state = instance_state(instance)
            primary = info_of(state.mapper).key_names
            if state.key is None or not state.committed_state.keys().isdisjoint(primary):
                identity = tuple(state.dict.get(name) for name in primary)
                found[state.mapper.base_mapper, identity] = instance
        return found
