"""Which receivers a statement has, and what they need to know of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Mapper

from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.orm.flush.recipients import FlushRecipients
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.statements.layout import classes_of_rows
from aksara_signals.signals import post_delete, post_save, post_statement, post_update

ROW_SIGNALS = (post_save, post_update, post_delete)
"""The signals that can be sent for each row of a statement."""


def are_statements_asked_for() -> bool:
    """Whether any receiver asks for statements or their rows."""
    return post_statement.is_connected or any(each.asks_for_statements for each in ROW_SIGNALS)


@dataclass(frozen=True, slots=True, eq=False)
class StatementRecipients:
    """The receivers of one statement."""

    of_statement: Plan
    """Those of ``post_statement``."""
    has_rows: bool
    """Whether any receiver asks for the rows."""
    asks_for_changes: bool
    """Whether any of them needs the old values."""
    asks_if_created: bool
    """Whether any of them is called only for an INSERT, or only for an UPDATE."""
    is_queued: bool
    """Whether any of them is called later."""
    is_called: bool
    """Whether any of them is called at once."""

    def __bool__(self) -> bool:
        return self.has_rows or bool(self.of_statement)


def recipients_of_statement(mapper: Mapper[object], kinds: Iterable[Kind]) -> StatementRecipients:
    """The receivers of a statement that writes rows of a class and of its subclasses.

    Args:
        mapper: The mapper that the statement names.
        kinds: What it may do with a row.
    """
    classes = [each.class_ for each in classes_of_rows(mapper)]
    rows = FlushRecipients()
    found = [rows.statement(cls, kind) for cls in classes for kind in kinds]
    found = [each for each in found if each.plans]
    return StatementRecipients(
        of_statement=post_statement.plan_for(mapper.class_),
        has_rows=bool(found),
        asks_for_changes=any(each.asks_for_changes for each in found),
        asks_if_created=any(_narrows(cls) for cls in classes),
        is_queued=any(each.deferred or each.durable or each.coalesces for each in found),
        is_called=any(each.runs for each in found),
    )


def _narrows(cls: type) -> bool:
    """Whether any receiver of a class is for new rows only, or for others only."""
    return bool(post_update.plan_for(cls).of_statements) or any(
        each.created is not None or each.coalesce
        for each in post_save.plan_for(cls).of_statements.all_connections
    )
