"""A receiver that takes as long as a file called ``hold`` is in the folder."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import post_save
from kit.durable.shop import Effect, Sessions, Ware, engine, folder


def effect_of(ware: Ware) -> Effect:
    return Effect(
        receiver="shop.slow",
        kind=str(os.getpid()),
        ware_id=ware.id,
        step=ware.step,
        mark=ware.mark,
    )


async def be_held() -> None:
    (folder / f"called-{os.getpid()}").touch()
    while (folder / "hold").exists():
        await asyncio.sleep(0.01)


async def slow(instance: Ware, session: AsyncSession, **kwargs: Any) -> None:
    session.add(effect_of(instance))
    await session.flush()
    await be_held()


async def slow_without_session(instance: Ware, **kwargs: Any) -> None:
    await be_held()
    async with Sessions.begin() as session:
        session.add(effect_of(instance))


# With a session it would be SQLite's only writer, and no other worker could even start.
post_save.connect(
    slow_without_session if engine.dialect.name == "sqlite" else slow,
    sender=Ware,
    durable="shop.slow",
)
