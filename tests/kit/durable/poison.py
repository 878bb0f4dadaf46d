"""A receiver that ends its worker when it is called for the ware marked as poison."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import post_save
from kit.durable.shop import Effect, Ware


@post_save(Ware, durable="shop.taste")
async def taste(instance: Ware, session: AsyncSession, **kwargs: Any) -> None:
    if instance.mark == "poison":
        os._exit(9)
    session.add(
        Effect(
            receiver="shop.taste",
            kind="save",
            ware_id=instance.id,
            step=instance.step,
            mark=instance.mark,
        )
    )
    await session.flush()
