"""Which relationships have receivers, so that the links of all others need no search."""

from __future__ import annotations

from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.orm.mapping.info import Relationship
from aksara_signals.orm.relations.links import reverses
from aksara_signals.orm.relations.origins import RELATIONS
from aksara_signals.signals import m2m_changed

_GROUPS = "aksara_signals.groups"
"""The key of a relationship's sender groups in its ``info``, so that both have one lifetime."""


class LinkRecipients:
    """The relationships whose links any receiver is sent; each is looked up once for a flush."""

    def __init__(self) -> None:
        self._of_class: dict[type, bool] = {}
        self._of_table: dict[Relationship, bool] = {}
        self._before: dict[Relationship, bool] = {}

    def of(self, prop: Relationship) -> bool:
        """Whether any receiver is sent the links of a relationship, from either side."""
        if prop.secondary is None:
            cls = prop.parent.class_
            known = self._of_class.get(cls)
            if known is None:
                known = self._of_class[cls] = _has_receivers(prop)
        else:
            known = self._of_table.get(prop)
            if known is None:
                # Links with rows of their own may be sent from the other side.
                known = self._of_table[prop] = any(
                    _has_receivers(side) or _has_receivers_of_table(side)
                    for side in (prop, *reverses(prop))
                )
        return known

    def look_again(self) -> None:
        """Note that the flush has written: a pre receiver may have connected further receivers."""
        self._before, self._of_table = self._of_table, {}

    def had_before(self, prop: Relationship) -> bool:
        """Whether the receivers of a relationship were there before the flush has written.

        True if nothing was known of the relationship then.
        """
        return self._before.get(prop, True)


def _has_receivers(prop: Relationship) -> bool:
    return any(
        signal.has_receivers(mapper.class_)
        for signal in RELATIONS.signals
        for mapper in prop.parent.self_and_descendants
    )


def _has_receivers_of_table(prop: Relationship) -> bool:
    return any(
        m2m_changed.has_receivers(group_of(prop, mapper.class_))
        for mapper in prop.parent.self_and_descendants
        if mapper.relationships.get(prop.key) is prop  # a concrete subclass may not have it
    )


def group_of(prop: Relationship, owner: type) -> SenderGroup:
    """The senders that receivers of ``m2m_changed`` may be connected to.

    These are the secondary table, the relationship of either side, and the class of either side.
    """
    groups: dict[type, SenderGroup] = prop.info.setdefault(_GROUPS, {})
    group = groups.get(owner)
    if group is None:
        other = [each.class_attribute for each in reverses(prop)]
        classes = [owner, prop.mapper.class_] if other else [owner]
        group = groups[owner] = SenderGroup(
            prop.secondary,
            prop.class_attribute,
            getattr(owner, prop.key),
            *other,
            *classes,
        )
    return group
