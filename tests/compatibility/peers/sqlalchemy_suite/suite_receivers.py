"""A pytest plugin that connects a receiver to everything: given with ``-p`` to the second run.

Statements are sent as well. SQLAlchemy's tests compare the SQL that is executed, to which a
RETURNING is added then; it is left out of the comparison, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import event
from sqlalchemy.testing import assertsql

with mock.patch.object(event, "listen", side_effect=event.listen) as listen:
    from aksara_signals import signals
    from aksara_signals.orm import register
    from aksara_signals.orm.statements.execute import attach_execute

LISTENERS = [call.args for call in listen.call_args_list]
"""What the library listens to as soon as it is imported: target, name and listener."""


def read_nothing(**_: Any) -> None:
    """A receiver that takes what it is sent, and looks at none of it."""


def pytest_configure() -> None:
    """Every mapped class sends, and every built-in signal has a receiver of all senders."""
    register(object)
    for name in signals.__all__:
        signal = getattr(signals, name)
        # What an upsert has updated isn't known on SQLite, and would be refused.
        asks = signal.payload.is_sent_by_statements and name != "post_update"
        signal.connect(read_nothing, statements=asks)
    for rule in (assertsql.CompiledSQL, assertsql.DialectSQL):
        rule._compare_sql = _compared_without_returning(rule._compare_sql)


def _compared_without_returning(compare: Any) -> Any:
    """A comparison of SQL that ignores the RETURNING of a statement that is sent."""

    def compare_sql(rule: Any, observed: Any, received: str) -> bool:
        if "_aksara_" not in received:
            return bool(compare(rule, observed, received))
        whole = rule.statement
        rule.statement = whole.partition(" RETURNING ")[0]
        try:
            return bool(compare(rule, observed, received.partition(" RETURNING ")[0]))
        finally:
            rule.statement = whole

    return compare_sql


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Some tests end by taking away all listeners of sessions and mappers; ours come back."""
    yield
    for target, name, listener in LISTENERS:
        if not event.contains(target, name, listener):
            event.listen(target, name, listener)
    attach_execute()
