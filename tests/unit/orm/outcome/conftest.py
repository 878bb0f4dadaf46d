"""Fixtures of the tests of what waits for a transaction's outcome."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kit.models import Base
from sqlalchemy import Engine
from sqlalchemy.orm import Session


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    """A plain session on empty tables, whose instances stay readable after a commit."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine, expire_on_commit=False) as session:
        yield session
