"""Which errors undo a transaction; ``tests/guarantees/faults/test_lost_transactions.py`` has the rest."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Base, Post
from kit.support import Recorder
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
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
