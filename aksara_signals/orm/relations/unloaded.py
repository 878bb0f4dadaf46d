"""Members of collections that are never loaded: only the database knows them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from aksara_signals.orm.bridge.loading import column_values
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.mapping.info import Relationship
from aksara_signals.orm.relations.links import LinkKey


def is_never_loaded(prop: Relationship) -> bool:
    """Whether a collection is never loaded, so that its history may claim what isn't so."""
    return prop.lazy in ("write_only", "dynamic")


class UnloadedMembers:
    """The members of ``write_only`` and ``dynamic`` collections, as the secondary table has them.

    The history of such a collection shows every ``remove()``, also that of an instance that was no
    member.

    Args:
        session: The flushing session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._absent: set[LinkKey] = set()
        self._linked: dict[tuple[State, Relationship], set[tuple[Any, ...]]] = {}

    def lacks(self, key: LinkKey, owner: State, prop: Relationship, child: State) -> bool:
        """Whether the secondary table has no row for a link that was removed."""
        if not isinstance(prop.secondary, Table):
            return False
        if key in self._absent:
            return True
        known = self._linked.get((owner, prop))
        if known is None:
            known = self._linked[owner, prop] = self._linked_to(owner, prop)
        if (
            column_values(child, [pair[0] for pair in prop.secondary_synchronize_pairs or ()])
            in known
        ):
            return False
        self._absent.add(key)
        return True

    def _linked_to(self, owner: State, prop: Relationship) -> set[tuple[Any, ...]]:
        """The keys of the members that the secondary table links to an owner."""
        pairs = prop.synchronize_pairs
        values = column_values(owner, [pair[0] for pair in pairs])
        remote = [pair[1] for pair in prop.secondary_synchronize_pairs or ()]
        criteria = [pair[1] == value for pair, value in zip(pairs, values, strict=True)]
        with self._session.no_autoflush:
            return {tuple(row) for row in self._session.execute(select(*remote).where(*criteria))}
