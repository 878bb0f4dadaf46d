"""What a search for links was based on, so that a flush doesn't search again what hasn't changed.

A flush asks for its links up to three times: before pre receivers, after them, and once it has
written. Most often nothing has changed in between, and to notice that costs a small part of a
search.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import is_
from typing import Any

from sqlalchemy.orm import RelationshipDirection, Session

from aksara_signals.orm.bridge.history import collection_edits
from aksara_signals.orm.bridge.states import State, is_written_by
from aksara_signals.orm.mapping.info import Relationship
from aksara_signals.orm.relations.links import Link
from aksara_signals.orm.relations.origins import edits_or_none
from aksara_signals.orm.relations.unloaded import is_never_loaded


def basis_of(edited: Iterable[tuple[State, list[Relationship]]]) -> list[Any] | None:
    """The objects that a search for links depends on, to be compared by identity.

    Args:
        edited: The states in the order of the search, each with its edited relationships.

    Returns:
        The states, their relationships, and the present and the original members of these. None
        unless all are many-to-many collections: a flush sets the foreign keys of other links.
    """
    basis: list[Any] = []
    for state, props in edited:
        basis.append(state)
        for prop in props:
            if (
                prop.direction is not RelationshipDirection.MANYTOMANY
                or not prop.uselist
                or is_never_loaded(prop)
            ):
                return None
            edits = edits_or_none(state)  # these say which side a link is sent from
            basis += (prop, None if edits is None else edits.last.get(prop.key))
            collection_edits(state, prop.key, basis)
    return basis


def is_same(basis: list[Any] | None, other: list[Any] | None) -> bool:
    """Whether two searches have the same basis."""
    return (
        basis is not None
        and other is not None
        and len(basis) == len(other)
        and all(map(is_, basis, other))
    )


def are_written(links: Iterable[Link], session: Session, deleted: Collection[State]) -> bool:
    """Whether a flush still writes all these links, as far as their ends are concerned."""
    for link in links:
        for end in (link.key[2], link.key[3]):
            if not is_written_by(end, session) or end in deleted:
                return False
    return True
