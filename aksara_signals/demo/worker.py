"""What a worker process of the demonstration imports: receiver, outbox and sessions."""

from __future__ import annotations

import os

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from aksara_signals import post_save
from aksara_signals.demo.database import EMBEDDED, make_engine
from aksara_signals.demo.shop import NAME, URL_VARIABLE, Order, outbox, write_receipt

__all__ = ["outbox", "sessions"]

post_save.connect(write_receipt, Order, durable=NAME)

sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
    make_engine(os.environ.get(URL_VARIABLE, EMBEDDED))
)
