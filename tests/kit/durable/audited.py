"""Receivers that leave in a file which provenance they were given."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import post_save, provenance
from kit.durable import shop
from kit.durable.shop import Effect, Ware, folder

FILE = "audited"


def _note(of: str, values: Mapping[str, Any]) -> None:
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps([os.getpid(), of, values, provenance.current()]) + "\n")


async def of_ware(
    instance: Ware, session: AsyncSession, provenance: Mapping[str, Any], **kwargs: Any
) -> None:
    """Writes another row, which has a durable receiver, too."""
    _note("ware", provenance)
    session.add(
        Effect(receiver="shop.audit", kind="", ware_id=instance.id, step=1, mark=instance.mark)
    )


async def of_effect(provenance: Mapping[str, Any], **kwargs: Any) -> None:
    _note("effect", provenance)


def connect() -> None:
    """Connect both."""
    post_save.connect(of_ware, sender=Ware, durable="shop.audit")
    post_save.connect(of_effect, sender=Effect, durable="shop.audit.effects")


if shop.DATABASE in os.environ:
    connect()
