"""How a worker ends: grace, cancellation, rows given back, signals of the system."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from kit.outbox_workers import DONE, WAITING, Effect, Unrelated, World, connect, eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals.exceptions import InvalidOptionError, OutboxError


async def test_a_stopped_worker_finishes_what_runs(world: World) -> None:
    """After ``stop()`` a running receiver may finish; the rows behind it are given back at once."""
    started, may_end = asyncio.Event(), asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        started.set()
        await may_end.wait()

    connect(receiver)
    await world.write("0", "1", "2")
    worker = world.worker(concurrency=1)
    run = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    assert worker.health()["state"] == "stopping"

    async def are_given_back() -> bool:
        return [row.leased_by for row in await world.rows()][1:] == [None, None]

    await eventually(are_given_back)
    assert not run.done()
    may_end.set()
    await run
    assert await world.statuses() == [DONE, WAITING, WAITING]
    assert worker.health()["state"] == "stopped"
    assert worker.health()["in_flight"] == 0


@pytest.mark.parametrize("names_session", [True, False])
async def test_after_the_grace_receivers_are_cancelled(world: World, names_session: bool) -> None:
    """A receiver that takes longer than ``grace_seconds`` is cancelled, and its row given back."""
    started = asyncio.Event()

    async def work(session: Any) -> None:
        if session is not None:
            session.add(Unrelated())
            if isinstance(session, AsyncSession):
                await session.flush()
            else:
                session.flush()
        started.set()
        await asyncio.sleep(60)

    if names_session:

        async def receiver(session: Any, **_: Any) -> None:
            await work(session)
    else:

        async def receiver(event: Any, **_: Any) -> None:
            await work(None)

    connect(receiver)
    await world.write("0")
    worker = world.worker(grace_seconds=0.1)
    run = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    async with asyncio.timeout(5):
        await run
    [row] = await world.rows()
    assert (row.status, row.leased_by, row.visible_at) == (WAITING, None, None)
    assert (row.attempts, row.crashes) == (0, 0)
    assert await world.run(lambda session: session.query(Unrelated).count()) == 0


async def test_stop_now_does_not_wait(world: World) -> None:
    """``stop(now=True)`` cancels at once, also during the grace of an earlier ``stop()``."""
    started = asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    connect(receiver)
    await world.write("0")
    worker = world.worker(grace_seconds=60)
    run = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    await asyncio.sleep(0.05)
    worker.stop(now=True)
    async with asyncio.timeout(5):
        await run
    assert (await world.rows())[0].leased_by is None


async def test_another_worker_takes_over_at_once(async_world: World) -> None:
    """What a worker gives back when it ends is called by another one within a second."""
    started = asyncio.Event()
    seen: list[Any] = []
    took: list[float] = []

    async def receiver(event: Any, **_: Any) -> None:
        if not started.is_set():
            started.set()
            await asyncio.sleep(60)
        seen.append(event)

    connect(receiver)
    for number in range(10):  # the fastest one counts: the machine may be busy
        if took and min(took) < 1:
            break
        started.clear()
        seen.clear()
        await async_world.write(str(number))
        worker = async_world.worker(grace_seconds=60)
        run = asyncio.create_task(worker.run())
        await started.wait()
        _, others = async_world.make_sessions()
        async with async_world.worker(others, longest_poll_seconds=0.5):
            await asyncio.sleep(0.6)  # it polls at its slowest
            start = time.monotonic()
            worker.stop(now=True)
            await eventually(lambda: seen)
            took.append(time.monotonic() - start)
            await run
    assert min(took) < 1, took


async def test_an_interrupted_statement_does_not_hold_up_the_end(async_world: World) -> None:
    """A receiver that is cancelled in the middle of a query leaves no lock behind.

    The error refers to the query by its traceback, and here to itself: only a collection frees it.
    """
    started = asyncio.Event()

    async def receiver(session: Any, **_: Any) -> None:
        kept: list[BaseException] = []
        session.add(Unrelated())
        await session.flush()
        numbers = text(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600000) "
            "SELECT sum(i) FROM n UNION ALL SELECT i FROM n"
        )
        try:
            started.set()
            await session.stream(numbers)
        except asyncio.CancelledError as error:
            kept.append(error)
            raise

    connect(receiver)
    await async_world.write("0")
    worker = async_world.worker()
    run = asyncio.create_task(worker.run())
    await started.wait()
    await asyncio.sleep(0.02)  # the query takes longer
    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(4):  # a locked SQLite waits for longer
            worker.stop(now=True)
            await run
    finally:
        gc.enable()
    assert (await async_world.rows())[0].leased_by is None


async def test_a_receiver_that_ignores_its_cancellation_does_not_hang_the_worker(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker gives up on a receiver that can't be cancelled, gives its row back, and ends."""
    started, is_over = asyncio.Event(), asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        started.set()
        while not is_over.is_set():
            try:
                await is_over.wait()
            except asyncio.CancelledError:
                continue

    connect(receiver)
    await async_world.write("0")
    worker = async_world.worker(grace_seconds=0.0)
    run = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    async with asyncio.timeout(20):
        await run
    assert "ignored to be cancelled" in caplog.text
    assert (await async_world.rows())[0].leased_by is None
    is_over.set()
    await asyncio.sleep(0.05)


async def test_a_cancelled_run_gives_its_rows_back(world: World) -> None:
    """If the task of ``run()`` is cancelled, it ends as after ``stop(now=True)``."""
    started = asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    connect(receiver)
    await world.write("0")
    run = asyncio.create_task(world.worker().run())
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await run
    assert (await world.rows())[0].leased_by is None


async def test_successes_are_written_at_the_end(async_world: World) -> None:
    """A success that isn't written yet when the worker is stopped is written before it ends."""
    worker = async_world.worker()

    async def receiver(event: Any, **_: Any) -> None:
        worker.stop()

    connect(receiver)
    await async_world.write("0")
    await worker.run()
    assert await async_world.statuses() == [DONE]


async def test_a_worker_inside_an_application(world: World) -> None:
    """``async with outbox.worker(sessions)`` runs a worker beside the block, and may be repeated."""
    seen: list[Any] = []

    async def receiver(event: Any, **_: Any) -> None:
        seen.append(event.key)

    connect(receiver)
    worker = world.worker()
    for number in (1, 2):
        async with worker:
            await world.write("0")
            await eventually(lambda number=number: len(seen) == number)
            with pytest.raises(OutboxError, match="runs already"):
                await worker.run()
    assert set(await world.statuses()) == {DONE}


async def test_an_error_at_the_start_is_raised_where_the_worker_is_entered(world: World) -> None:
    """``async with`` raises what is wrong at the start, and doesn't run its block."""
    with pytest.raises(OutboxError, match="no durable receiver"):
        async with world.worker(receivers=["test.nobody.*"]):
            raise AssertionError
    with pytest.raises(InvalidOptionError, match="sessionmaker"):
        async with world.worker(sessions=lambda **_: None):
            raise AssertionError


# -- signals of the system --------------------------------------------------------------------------

PROGRAM = """
    import asyncio, sys, time
    from sqlalchemy import create_engine
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from kit.claims import begin_immediately
    from kit.outbox_workers import Base, Effect, connect, outbox
    from aksara_signals.contrib.outbox.commands.stopping import stopped_by_signals

    async def receiver(event, session, **_):
        print("called", flush=True)
        if sys.argv[2] == "slow":
            await asyncio.sleep(60)
        elif sys.argv[2] == "short":
            await asyncio.sleep(0.5)
        else:
            time.sleep(60)
        session.add(Effect(note_id=event.key[0], by="done"))

    connect(receiver)
    outbox.install()
    engine = create_async_engine(sys.argv[1])
    begin_immediately(engine.sync_engine)

    async def main():
        worker = outbox.worker(async_sessionmaker(engine), grace_seconds=20)
        with stopped_by_signals(worker):
            await worker.run()
        await engine.dispose()
        print("ended", flush=True)

    asyncio.run(main())
"""


async def start(tmp_path: Path, world: World, kind: str) -> Any:
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(PROGRAM))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(file),
        world.database.async_url.render_as_string(hide_password=False),
        kind,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[4]), *sys.path]),
        },
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"called\n"
    return process


@pytest.fixture
async def file_world(async_world: World) -> World:
    if async_world.database.dialect != "sqlite":
        pytest.skip("the signals of the system are the same for every database")

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="done"))

    connect(receiver)
    await async_world.write("0")
    return async_world


async def test_sigterm_lets_receivers_finish(file_world: World, tmp_path: Path) -> None:
    """After SIGTERM a process finishes what runs, and ends with 0."""
    process = await start(tmp_path, file_world, "short")
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (0, b"ended\n")
    assert await file_world.statuses() == [DONE]
    assert len(await file_world.effects()) == 1


async def test_a_second_sigterm_ends_at_once(file_world: World, tmp_path: Path) -> None:
    """The second signal cancels receivers; their rows are given back, and the status is 0."""
    process = await start(tmp_path, file_world, "slow")
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (0, b"ended\n")
    [row] = await file_world.rows()
    assert (row.status, row.leased_by, row.crashes) == (WAITING, None, 0)


async def test_a_third_signal_ends_a_blocked_process(file_world: World, tmp_path: Path) -> None:
    """If a receiver blocks the event loop, the third signal ends the process nevertheless."""
    process = await start(tmp_path, file_world, "blocking")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == -signal.SIGTERM
