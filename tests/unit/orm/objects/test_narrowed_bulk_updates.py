"""Bulk updates, and receivers that are narrowed to some of their fields."""

from __future__ import annotations

from typing import Any

import pytest
from kit import databases
from kit.committing import COMMIT
from kit.tickets import Base, Place, Ticket
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import post_bulk_update, post_save, pre_bulk_update


@pytest.mark.parametrize("named", [True, False])
async def test_a_receiver_is_called_if_one_of_its_fields_is_updated(
    async_engine: AsyncEngine, named: bool
) -> None:
    """Whether the fields were named or are those that were changed."""
    await databases.create_all(async_engine, Base.metadata)
    called: list[str] = []
    for signal in (pre_bulk_update, post_bulk_update):
        for name, options in {
            "status": {"fields": ["status", "level"]},
            "title": {"fields": Ticket.title},
            "place": {"fields": ["place"]},
        }.items():

            async def note(name: str = name, **kwargs: Any) -> None:
                called.append(name)

            signal.connect(note, Ticket, dispatch_uid=name, **options)

            if signal is post_bulk_update:
                late = f"{name} later"
                signal.connect(
                    lambda late=late, **kwargs: called.append(late),
                    Ticket,
                    phase=COMMIT,
                    dispatch_uid=late,
                    **options,
                )
    post_save.connect(lambda **kwargs: called.append("post_save"), Ticket, fields=["status"])
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        tickets = [Ticket(title="x") for _ in range(2)]
        await Ticket.objects.bulk_create(tickets, session=session)
        for ticket in tickets:
            ticket.status, ticket.place = "open", Place("A", 1)
        fields = ["status", "room", "building"] if named else None
        await Ticket.objects.bulk_update(tickets, fields, session=session)
        assert called == ["status", "place"] * 2
        await session.commit()
    assert called == ["status", "place"] * 2 + ["status later", "place later"]
