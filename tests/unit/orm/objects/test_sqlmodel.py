"""SignalMixin beside SQLModel, in either order and on a base class."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlmodel import Field, SQLModel

from aksara_signals import post_save, pre_save, pre_update
from aksara_signals.orm import SignalMixin


@cache
def mixin_first() -> Any:
    class HeroFirst(SignalMixin, SQLModel, table=True):
        id: int | None = Field(default=None, primary_key=True)
        name: str
        query: str = ""  # a column that is named like an attribute of the mixin

    return HeroFirst


@cache
def mixin_last() -> Any:
    class HeroLast(SQLModel, SignalMixin, table=True):
        id: int | None = Field(default=None, primary_key=True)
        name: str
        query: str = ""

    return HeroLast


@cache
def mixin_on_a_base() -> Any:
    class Base(SignalMixin, SQLModel):
        name: str

    class HeroBelow(Base, table=True):
        id: int | None = Field(default=None, primary_key=True)
        query: str = ""

        class Meta:
            ordering = "name"

    assert not hasattr(Base, "objects")
    assert HeroBelow.Meta.ordering == "name"
    return HeroBelow


@pytest.fixture(params=[mixin_first, mixin_last, mixin_on_a_base])
def hero(request: pytest.FixtureRequest) -> Any:
    """A model of SQLModel's with the mixin."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return request.param()


async def test_a_sqlmodel_has_all_that_the_mixin_gives(
    hero: Any, async_engine: AsyncEngine, recorder: Recorder
) -> None:
    """Managers, instance methods, emitters and signals; and its fields are its own only."""
    async with async_engine.begin() as connection:
        await connection.run_sync(hero.__table__.create)
    hero.bind_sessions(async_sessionmaker(async_engine))
    for signal in (pre_save, pre_update, post_save):
        recorder.record(signal, hero)
    created = await hero.objects.create(name="ann", query="q")
    assert recorder.names == ["pre_save", "post_save"]
    recorder.clear()
    await created.update(name="bob")
    assert recorder.names == ["pre_save", "pre_update", "post_save"]
    await created.save(update_fields=["name"])
    assert (await hero.objects.get(created.id)).name == "bob"
    assert created.query == "q"
    assert {*hero.model_fields} == {"id", "name", "query"}
    assert created.model_dump() == {"id": created.id, "name": "bob", "query": "q"}
    received: list[Any] = []
    note = hero.Meta.signals.post_delete.connect(
        lambda instance, **kwargs: received.append(instance)
    )
    await created.delete()
    assert received == [created]
    hero.signals.post_delete.disconnect(note)
