"""The same flows on every event loop, in debug mode, and inside the cancel scopes of anyio."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from kit.crowd import Base, Entry, Label, queued
from kit.databases import Database, create_all
from kit.effort import times
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import Signal, drain, m2m_changed, post_save, pre_save
from aksara_signals.orm import on_commit

pytestmark = pytest.mark.slow

LOOPS: list[Any] = [
    pytest.param((None, False), id="asyncio"),
    pytest.param((None, True), id="debug"),
]
if sys.platform != "win32":  # uvloop doesn't exist there
    import uvloop

    LOOPS += [
        pytest.param((uvloop.new_event_loop, False), id="uvloop"),
        pytest.param((uvloop.new_event_loop, True), id="uvloop-debug"),
    ]


@pytest.fixture(params=LOOPS)
def run(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, database: Database
) -> Callable[[Callable[[AsyncEngine], Awaitable[Any]]], Any]:
    """Runs a flow to its end in a loop of its own, in which nothing may go wrong unseen."""
    factory, debug = request.param

    def run(flow: Callable[[AsyncEngine], Awaitable[Any]]) -> Any:
        complaints: list[Any] = []

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            loop.slow_callback_duration = 10.0  # how fast this machine is, is not the question
            engine = database.create_async_engine(pool_size=2, max_overflow=0)
            await create_all(engine, Base.metadata)
            try:
                return await flow(engine)
            finally:
                await engine.dispose()

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
                result = runner.run(main())
            gc.collect()
        about_tasks = [each for each in seen if issubclass(each.category, RuntimeWarning)]
        assert [str(each.message) for each in about_tasks] == []
        # When a connection is cancelled, SQLAlchemy leaves a task that closes it to itself.
        ours = [each for each in complaints if "AsyncAdapt_" not in repr(each.get("task"))]
        assert ours == []
        logged = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert [
            each.getMessage()
            for each in logged
            if each.name == "asyncio" and "AsyncAdapt_" not in each.getMessage()
        ] == []
        return result

    return run


class Receivers:
    """Receivers of every kind, all of which have to wait for something."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        for signal in (pre_save, post_save, m2m_changed):
            for options in ({}, {"concurrent": True}):
                signal.connect(self._receiver(f"{signal.name}"), sender=Entry, **options)
        for phase in ("after_commit", "after_rollback"):
            post_save.connect(self._receiver(phase), sender=Entry, phase=phase)
            post_save.connect(self._receiver(phase), sender=Entry, phase=phase, concurrent=True)
        post_save.connect(
            self._receiver("limited"), sender=Entry, phase="after_commit", timeout_seconds=60
        )

    def _receiver(self, name: str) -> Callable[..., Any]:
        async def receiver(**kwargs: Any) -> None:
            await asyncio.sleep(0)
            self.calls.append(name)

        return receiver


def test_flows(run: Callable[..., Any]) -> None:
    """Sends, flushes, commits, rollbacks and links run on every loop, without a complaint."""
    receivers = Receivers()

    async def flow(engine: AsyncEngine) -> None:
        for _ in range(times(2)):
            receivers.calls.clear()
            signal = Signal("sent")
            for concurrent in (False, True, True):
                signal.connect(lambda **kwargs: asyncio.sleep(0, "ok"), concurrent=concurrent)
            assert [response for _, response in await signal.send(Entry)] == ["ok"] * 3
            called: list[int] = []
            async with AsyncSession(engine) as session:
                entry = Entry(text="x", labels=[Label(text=f"label {_}")])
                session.add(entry)
                on_commit(session, lambda called=called: called.append(1))
                await session.commit()
                session.add(Entry(text="y"))
                await session.flush()
                await session.rollback()
                assert not queued(session)
            assert called == [1]
            assert await drain() == 0
            assert sorted(set(receivers.calls)) == sorted(
                [
                    "pre_save",
                    "post_save",
                    "m2m_changed",
                    "after_commit",
                    "after_rollback",
                    "limited",
                ]
            )
            assert (
                receivers.calls.count("after_commit")
                == receivers.calls.count("after_rollback")
                == 2
            )

    run(flow)


def test_cancel_scopes_of_anyio(run: Callable[..., Any]) -> None:
    """Scopes that end in the midst of a write roll it back; at the delivery, it goes on."""
    entered: list[str] = []
    sent: list[int] = []

    async def flow(engine: AsyncEngine) -> None:
        scope = anyio.CancelScope()

        async def stuck(instance: Entry, **kwargs: Any) -> None:
            entered.append(instance.text)
            if instance.text == "stuck":
                scope.cancel()
                await anyio.sleep_forever()

        async def late(instance: Entry, **kwargs: Any) -> None:
            if instance.text == "late":
                scope.cancel()
            await asyncio.sleep(0.001)  # cancelled again and again, the committing task only
            sent.append(instance.id)

        post_save.connect(stuck, sender=Entry)
        post_save.connect(late, sender=Entry, phase="after_commit")
        after: list[str] = []

        async def write(text: str) -> None:
            async with AsyncSession(engine) as session:
                session.add(Entry(text=text))
                await session.commit()
                await anyio.lowlevel.checkpoint()
                after.append(text)

        for number in range(times(3)):
            for text in ("stuck", "late"):
                scope = anyio.CancelScope()
                async with anyio.create_task_group() as group:
                    with scope:
                        await write(text)
                    group.start_soon(write, f"other {number}")
                assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.01):
                    await write("stuck")
            with anyio.move_on_after(0.01) as moved:
                await write("stuck")
            assert moved.cancelled_caught
        assert set(after) == {f"other {number}" for number in range(times(3))}
        assert await drain() == 0
        async with AsyncSession(engine) as session:
            rows = (await session.execute(select(Entry.id, Entry.text))).all()
        assert {text for _, text in rows} == {"late", *after}
        assert sorted(sent) == sorted(number for number, _ in rows)
        pool: Any = engine.pool
        assert pool.checkedout() == 0

    run(flow)


def test_concurrent_writers_in_one_task_group(run: Callable[..., Any]) -> None:
    """Each of many tasks is sent, at once and after commit, its own session's rows."""
    sent: dict[str, list[str]] = {}

    async def receive(instance: Entry, session: AsyncSession, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        sent.setdefault(session.info["owner"], []).append(instance.text)

    async def receive_late(instance: Entry, session: AsyncSession, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        sent.setdefault(f"{session.info['owner']} late", []).append(instance.text)

    post_save.connect(receive, sender=Entry)
    post_save.connect(receive_late, sender=Entry, phase="after_commit")

    async def flow(engine: AsyncEngine) -> None:
        async def write(owner: str) -> None:
            for each in range(times(3)):
                async with AsyncSession(engine, info={"owner": owner}) as session:
                    session.add(Entry(text=f"{owner} {each}"))
                    await session.commit()

        async with anyio.create_task_group() as group:
            for each in range(4):
                group.start_soon(write, f"owner {each}")
        assert await drain() == 0

    run(flow)
    assert sent == {
        f"owner {owner}{late}": [f"owner {owner} {each}" for each in range(times(3))]
        for owner in range(4)
        for late in ("", " late")
    }
