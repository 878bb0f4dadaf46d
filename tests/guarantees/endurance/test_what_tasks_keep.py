"""A task that a receiver has started keeps a copy of the context, and nothing that was sent in it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.crowd import Base, Entry, Label
from kit.databases import Database, create_all
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import (
    Signal,
    m2m_changed,
    on_delivery_error,
    post_bulk_create,
    post_save,
    pre_save,
)
from aksara_signals.orm import on_commit

pytestmark = pytest.mark.slow


class Thing:
    """Something that is sent."""


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = database.create_async_engine()
    await create_all(engine, Base.metadata)
    yield engine
    await engine.dispose()


class Tasks:
    """Long-lived tasks of receivers, which were sent objects that shall die."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.sent: list[weakref.ref[Any]] = []

    def start(self, *sent: Any) -> None:
        """Begin a task that goes on until the end."""
        self.tasks.append(asyncio.create_task(asyncio.Event().wait()))
        self.sent += [weakref.ref(each) for each in sent]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def kept(self) -> list[Any]:
        gc.collect()
        return [kept for each in self.sent if (kept := each()) is not None]


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks()
    yield tasks
    await tasks.end()


@pytest.mark.parametrize("way", ["send", "send_robust"])
async def test_what_concurrent_receivers_were_sent_goes(way: str, tasks: Tasks) -> None:
    """The task lives, and what its receiver was sent does not."""
    signal = Signal("keeping")
    signal.connect(lambda thing, **kwargs: tasks.start(thing), concurrent=True)
    signal.connect(lambda thing, **kwargs: tasks.start(thing), concurrent=True)
    await getattr(signal, way)(None, thing=Thing())
    assert len(tasks.sent) == 2
    assert tasks.kept() == []


@pytest.mark.parametrize("phase", ["immediate", "after_commit", "after_rollback"])
@pytest.mark.parametrize("concurrent", [False, True])
async def test_instances_and_sessions_go(
    phase: str, concurrent: bool, engine: AsyncEngine, tasks: Tasks
) -> None:
    """The same of a flush and of a transaction's outcome, whose session is released as well."""

    def start(instance: Any, session: Any, changes: Any = None, **kwargs: Any) -> None:
        tasks.start(instance, *([session] if session is not None else []))

    async def start_async(**kwargs: Any) -> None:
        start(**kwargs)

    for receiver in (start, start_async):
        post_save.connect(receiver, sender=Entry, phase=phase, concurrent=concurrent)
        if phase == "immediate":
            pre_save.connect(receiver, sender=Entry, concurrent=concurrent)
    session = AsyncSession(engine)
    session.add(Entry(text="x"))
    await session.flush()
    await (session.rollback() if phase == "after_rollback" else session.commit())
    on_commit(session, tasks.start)
    await session.commit()
    await session.close()
    del session
    assert len(tasks.sent) >= 2
    assert [type(each) for each in tasks.kept()] == []


async def test_links_and_bulk_instances_go(engine: AsyncEngine, tasks: Tasks) -> None:
    """The objects of a link, and the instances of a bulk operation, are kept by no task either."""

    def start_link(instance: Any, objects: Any, **kwargs: Any) -> None:
        tasks.start(instance, *objects)

    def start_bulk(instances: Any, **kwargs: Any) -> None:
        tasks.start(*instances)

    m2m_changed.connect(start_link, sender=Entry.labels)
    post_bulk_create.connect(start_bulk, sender=Entry)
    async with AsyncSession(engine) as session:
        session.add(Entry(text="x", labels=[Label(text="l")]))
        await session.commit()
        await Entry.objects.bulk_create([Entry(text="y")], session=session)
        await session.commit()
    del session
    assert len(tasks.sent) == 5
    assert [type(each) for each in tasks.kept()] == []


@pytest.mark.parametrize("options", [{}, {"timeout_seconds": 0.01}, {"concurrent": True}])
async def test_a_failure_is_reported_with_what_was_sent(
    options: dict[str, Any], engine: AsyncEngine, tasks: Tasks
) -> None:
    """What is released is there until on_delivery_error has been sent for it."""
    texts: list[str] = []

    def report(payload: Any, error: Any, **kwargs: Any) -> None:
        texts.append(f"{payload['instance'].text} {type(error).__name__}")

    @post_save(Entry, phase="after_commit", **options)
    async def fail(instance: Any, **kwargs: Any) -> None:
        tasks.start(instance)
        if "timeout_seconds" in options:
            await asyncio.Event().wait()
        raise LookupError

    async with AsyncSession(engine) as session:
        with on_delivery_error.connected_to(report):
            session.add_all([Entry(text="x"), Entry(text="y")])
            await session.commit()
    error = "TimeoutError" if "timeout_seconds" in options else "LookupError"
    assert texts == [f"x {error}", f"y {error}"]


async def test_a_chain_still_says_what_is_under_way() -> None:
    """A send inside of a receiver knows the delivery that caused it, with its payload."""
    from aksara_signals.dispatch.delivery.frame import get_current

    outer, inner = Signal("outer"), Signal("inner")
    seen: list[Any] = []

    @inner.connect
    def look(**kwargs: Any) -> None:
        current = get_current()
        assert current is not None
        seen.extend(each.delivery.arguments["thing"] for each in current.chain())

    @outer.connect
    async def send_inner(**kwargs: Any) -> None:
        await inner.send(None, thing="inner")
        await inner.send(None, thing="again")

    await outer.send(None, thing="outer")
    assert seen == ["inner", "outer", "again", "outer"]
