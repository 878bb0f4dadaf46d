"""Which errors undo a transaction; ``tests/guarantees/faults/test_lost_transactions.py`` has the rest."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Base, Post
from kit.support import Recorder
from sqlalchemy import Dialect, Engine, Integer, TypeDecorator, select, text, type_coerce
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Session

from aksara_signals import post_save

DEADLOCK = text("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "READ COMMITTED"])
def test_without_transactions_a_deadlock_undoes_its_statement_only(
    sync_engine: Engine, recorder: Recorder, level: Any
) -> None:
    """What was written before is committed already; in a transaction it would be lost."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, phase="after_commit", sync=True)
    with Session(sync_engine.execution_options(isolation_level=level)) as session:
        session.add(Post(title="x"))
        session.flush()
        with pytest.raises(DBAPIError):
            session.execute(DEADLOCK)
        session.commit()
    assert len(recorder.calls) == (1 if level == "AUTOCOMMIT" else 0)


class Picky(TypeDecorator[int]):
    """A type that takes no value, and doesn't say why."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        raise LookupError


def test_an_error_of_a_type_is_raised_as_it_is(sync_engine: Engine, recorder: Recorder) -> None:
    """It may have no arguments; the transaction goes on."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, phase="after_commit", sync=True)
    with Session(sync_engine) as session:
        session.add(Post(title="x"))
        session.flush()
        with pytest.raises(StatementError) as raised:
            session.scalars(select(Post).where(Post.id == type_coerce(1, Picky))).all()
        assert type(raised.value.orig) is LookupError
        session.commit()
    assert len(recorder.calls) == 1
