"""Loading fixtures: writes that receivers can distinguish."""

from __future__ import annotations

import asyncio
from typing import Any

from kit.models import Base, Post
from kit.support import Recorder
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import (
    SignalContext,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_save,
    pre_bulk_create,
    pre_delete,
    pre_save,
)
from aksara_signals.orm import loading_fixtures


async def test_fixtures_are_raw(session: AsyncSession, recorder: Recorder) -> None:
    """Whatever is written inside loading_fixtures() is sent with raw=True, all else with False."""
    signals = (pre_save, post_save, pre_delete, post_delete)
    bulk = (pre_bulk_create, post_bulk_create, post_bulk_update)
    for signal in (*signals, *bulk):
        recorder.record(signal, Post)

    async def write() -> list[bool]:
        recorder.clear()
        post = Post(title="a")
        session.add(post)
        await session.flush()
        await session.delete(post)
        await session.flush()
        [other] = await Post.objects.bulk_create([Post(title="b")], session=session)
        other.title = "c"
        await Post.objects.bulk_update([other], ["title"], session=session)
        assert {call.signal for call in recorder.calls} == {s.name for s in (*signals, *bulk)}
        return [call.payload["raw"] for call in recorder.calls]

    assert set(await write()) == {False}
    with loading_fixtures():
        assert set(await write()) == {True}
    assert set(await write()) == {False}


async def test_receivers_leave_fixtures_alone(session: AsyncSession) -> None:
    """A receiver that completes data looks at raw, and a fixture keeps what its file says."""

    @pre_save(Post)
    async def give_a_slug(sender: type, instance: Post, raw: bool, **kwargs: Any) -> None:
        if not raw:
            instance.slug = instance.title.lower()

    with loading_fixtures():
        session.add(Post(id=1, title="Loaded"))
        await session.flush()
    session.add(Post(id=2, title="Written"))
    await session.commit()
    slugs = [(await session.get_one(Post, key)).slug for key in (1, 2)]
    assert slugs == [None, "written"]


async def test_only_the_loading_task_is_raw(async_engine: AsyncEngine, recorder: Recorder) -> None:
    """Another task's writes are not raw, even while fixtures are loaded."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    recorder.record(post_save, Post)
    inside, written = asyncio.Event(), asyncio.Event()

    async def load() -> None:
        with loading_fixtures():
            inside.set()
            await written.wait()

    task = asyncio.create_task(load())
    await inside.wait()
    async with AsyncSession(async_engine) as session, session.begin():
        session.add(Post(title="a"))
    written.set()
    await task
    assert [call.payload["raw"] for call in recorder.calls] == [False]


async def test_fixtures_can_be_silent(session: AsyncSession, recorder: Recorder) -> None:
    """SignalContext.disable_all() loads fixtures without calling any receiver."""
    recorder.record(post_save)
    recorder.record(pre_save)
    async with SignalContext.disable_all():
        session.add(Post(title="a"))
        await session.commit()
    assert recorder.calls == []
