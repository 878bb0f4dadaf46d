"""The shop's receivers: one is called exactly once, one at least once, one with the row as it is."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import m2m_changed, post_delete, post_save
from aksara_signals.contrib.outbox import Durable, DurableEvent, Retry
from kit.durable.shop import Effect, Ware, folder

_VALUES = ("step", "mark")
# A receiver fails here only if the worker is at fault, or the database is busy for a while.
_RETRY = Retry(attempts=20, first_seconds=0.05, longest_seconds=1)

COUNT = Durable("shop.count", include=_VALUES, retry=_RETRY)
SHIP = Durable("shop.ship", include=_VALUES, retry=_RETRY)
INDEX = Durable("shop.index", include=_VALUES, retry=_RETRY)

_file = os.open(folder / "shipped", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def kind_of(event: DurableEvent) -> str:
    """What has happened to the ware."""
    return str(event.data.get("action") or event.type.removeprefix("post_"))


@post_save(Ware, durable=COUNT)
@post_delete(Ware, durable=COUNT)
@m2m_changed(Ware.labels, durable=COUNT)
async def count(event: DurableEvent, session: AsyncSession, **kwargs: Any) -> None:
    """Exactly once: the effect is committed together with the mark that it is done."""
    session.add(
        Effect(receiver="shop.count", kind=kind_of(event), ware_id=event.key[0], **event.values)
    )


@post_save(Ware, durable=SHIP)
@post_delete(Ware, durable=SHIP)
@m2m_changed(Ware.labels, durable=SHIP)
async def ship(event: DurableEvent, **kwargs: Any) -> None:
    """At least once: the effect is outside of the database."""
    values = event.values
    line = f"{kind_of(event)} {event.key[0]} {values['step']} {values['mark']}\n"
    os.write(_file, line.encode())


@post_save(Ware, durable=INDEX)
async def index(event: DurableEvent, instance: Ware, session: AsyncSession, **kwargs: Any) -> None:
    """Exactly once, unless the ware is gone; what it is given is the ware as it is now."""
    assert instance.step >= event.values["step"], "the row is older than the event"
    session.add(
        Effect(
            receiver="shop.index",
            kind="save",
            ware_id=instance.id,
            step=instance.step,
            mark=event.values["mark"],
        )
    )
