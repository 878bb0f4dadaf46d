"""Links between instances: which side sends the signals, and whether a flush has made the link.

A link of a two-way relationship has two sides, and its signals are sent once. They are sent from
the side that the user's code has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.column_edits import old_value, old_value_is
from aksara_signals.orm.bridge.history import reverse_keys, was_declared_before
from aksara_signals.orm.bridge.loading import attribute_name
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.mapping.info import Relationship, info_of
from aksara_signals.orm.relations.origins import Edits

LinkKey = tuple[Relationship, bool, State, State]

Spelling = tuple[Any, ...]
"""An owner, and the values of a foreign key that refers to it without being equal to its key."""


@dataclass(slots=True, eq=False)
class Link:
    """One instance that is added to a relationship of another one, or removed from it.

    It doesn't change, but ``frozen=True`` would make it three times as dear to create, and a flush
    creates one for each side of each link, three times.
    """

    key: LinkKey
    """The same for both sides of one link: it has the relationship that was declared first."""
    is_added: bool
    prop: Relationship
    """The relationship of the owner."""
    owner: object
    child: object
    edits: Edits | None
    """The edits of the owner's relationships, if there are any."""

    def is_written(self, deleted: Collection[State], spellings: Collection[Spelling]) -> bool:
        """Whether a finished flush has really made the link, or cut it.

        History may claim a link that the foreign key contradicts: a child in two collections with
        the same foreign key is linked to the last of them only.

        Args:
            deleted: The instances that the flush has deleted.
            spellings: Foreign keys that aren't equal to the primary keys they refer to.
        """
        if self.prop.direction is not RelationshipDirection.ONETOMANY:
            return True
        owner, child = instance_state(self.owner), instance_state(self.child)
        pairs = [
            (
                owner.dict.get(attribute_name(owner.mapper, owner_column)),
                attribute_name(child.mapper, child_column),
            )
            for owner_column, child_column in self.prop.synchronize_pairs
        ]
        is_linked = child not in deleted and (
            all(child.dict.get(name, value) == value for value, name in pairs)
            or (
                bool(spellings)
                and (owner, *(child.dict.get(name) for _, name in pairs)) in spellings
            )
        )
        if self.is_added:
            return is_linked
        was_linked = all(old_value_is(child, name, value) for value, name in pairs) or (
            bool(spellings) and (owner, *(old_value(child, name) for _, name in pairs)) in spellings
        )
        return was_linked and not is_linked


def is_forward(prop: Relationship) -> bool:
    """Whether a relationship was declared before its other side."""
    return all(was_declared_before(prop, other) for other in reverses(prop))


def reverses(prop: Relationship) -> list[Relationship]:
    """The other sides of a relationship."""
    return [prop.mapper.relationships[key] for key in reverse_keys(prop)]


def chosen_side(sides: list[Link]) -> Link:
    """The side of a link that its signals are sent from: the one that was changed."""
    return sides[0] if len(sides) == 1 else max(sides, key=_claim)


def _claim(link: Link) -> tuple[int, int, bool]:
    """A sort key: the side with the highest one sends the signals of a link.

    It is the side on which this member was added or removed last. If there is none (a new value has
    replaced the member of a scalar), it is the side whose relationship was changed last. If there
    is none either, it is the side that was declared first.
    """
    edits, prop = link.edits, link.prop
    is_first = link.key[0] is prop
    if edits is None:
        return 0, 0, is_first
    return edits.edited_at(prop.key, link.child), edits.last_edited_at(prop.key), is_first


def pk_of(instance: object) -> Any:
    """The primary key for receivers: one value, or a tuple; None while it isn't known."""
    state = instance_state(instance)
    names, values = info_of(state.mapper).key_names, state.dict
    row = (None,) * len(names) if state.key is None else state.key[1]
    if len(names) == 1:
        return values.get(names[0], row[0])
    key = tuple(values.get(name, each) for name, each in zip(names, row, strict=True))
    return None if any(value is None for value in key) else key


def grouped(links: Iterable[Link]) -> Iterator[tuple[Link, list[Link]]]:
    """Links by owner and relationship, in each group first those that are cut."""
    groups: dict[tuple[int, Relationship], list[Link]] = {}
    for link in links:
        groups.setdefault((id(link.owner), link.prop), []).append(link)
    for members in groups.values():
        for is_added in (False, True):
            found = [link for link in members if link.is_added is is_added]
            if found:
                yield found[0], found
