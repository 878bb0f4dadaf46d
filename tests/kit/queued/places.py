"""What a worker process is given: its database, and its broker."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from kit.claims import async_outbox_engine, outbox_engine
from kit.durable import places

DATABASE, BROKER, PREFIX, SYNC = (
    "AKSARA_QUEUED_DATABASE",
    "AKSARA_QUEUED_BROKER",
    "AKSARA_QUEUED_PREFIX",
    "AKSARA_QUEUED_SYNC",
)
"""Names of the environment."""


def sessions_here() -> Any:
    """Sessions on the database that the environment names."""
    database = places.from_text(os.environ[DATABASE])
    if os.environ.get(SYNC):
        return sessionmaker(outbox_engine(database))
    return async_sessionmaker(async_outbox_engine(database))
