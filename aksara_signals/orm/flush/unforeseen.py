"""Differences between what was predicted before a flush and what it has done.

It may have written rows that no pre signal was sent for: added by a ``before_flush`` listener that
runs after ours, for example. And a DELETE may have found no row, because another transaction had
deleted it already. Neither shows before the flush.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.orm.bridge.column_edits import first_edit
from aksara_signals.orm.bridge.deletions import DeletedRows
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Change
from aksara_signals.orm.flush.recipients import FlushRecipients
from aksara_signals.orm.kind import Kind


def unforeseen_in(
    written: Mapping[State, bool], recipients: FlushRecipients
) -> tuple[list[Change], list[tuple[State, Kind]]]:
    """The changes that a flush has written without being predicted.

    Args:
        written: The states whose rows were written and not predicted, each with whether it was a
            DELETE.
        recipients: The receivers of this flush.

    Returns:
        The changes that post signals are sent for. And the changes that a context has silenced, if
        a receiver of their class is sent the net of a row.
    """
    unforeseen: list[Change] = []
    silenced: list[tuple[State, Kind]] = []
    for state, is_delete in written.items():
        kind = Kind.DELETE if is_delete else Kind.UPDATE if state.has_identity else Kind.CREATE
        of_class = recipients.of(state.class_)
        if of_class.has_receivers:
            instance = state.obj()
            if instance is not None and (
                kind is not Kind.UPDATE or first_edit(state, state.dict) is not None
            ):
                unforeseen.append(Change(kind, state, instance, type(instance)))
        elif of_class.coalesces:
            silenced.append((state, kind))
    return unforeseen, silenced


def warn_of_unforeseen(changes: list[Change], links: int) -> None:
    """Warn that no pre signals were sent for some of what a flush has written.

    Args:
        changes: Of rows.
        links: How many links of relationships.
    """
    names = sorted({each.sender.__qualname__ for each in changes})
    warnings.warn(
        f"a flush wrote {len(changes)} rows{' of ' if names else ''}{', '.join(names)} "
        f"and {links} links of relationships that were not there "
        f"when pre signals were sent, so only post signals are sent for them; add them before "
        f"the flush, or in a pre_save receiver instead of a before_flush listener",
        AksaraSignalsWarning,
        stacklevel=2,
    )


def missed_by(deletes: DeletedRows) -> set[State]:
    """The deleted instances whose rows were gone already.

    Warns where the database doesn't say which rows of a statement were gone.
    """
    missed, unsure = deletes.missed()
    if unsure:
        expected, matched = (sum(each) for each in zip(*unsure, strict=True))
        warnings.warn(
            f"a flush was to delete {expected} rows and has deleted {matched}; the others were "
            f"gone already. The database doesn't say which they are, so post_delete is sent "
            f"for all of them",
            AksaraSignalsWarning,
            stacklevel=2,
        )
    return missed
