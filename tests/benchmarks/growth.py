"""How cost grows: plots for the documentation, ours beside the peers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import connecting
import flushing
import peers
from harness import Job, interleaved
from sending import Sender, receivers, repeated
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import Signal, post_save, pre_save

Series = dict[str, dict[int, float]]
"""Name of a line to size to seconds."""

SIZES = (1, 3, 10, 30, 100, 300, 1000)
ROWS = (1, 10, 100, 1000, 10_000)
REPEATS = 3000
"""Receivers called per job, so that the event loop's own start doesn't count."""
CONNECTIONS = (10, 100, 1000, 10_000)


def plot(loop: asyncio.AbstractEventLoop, folder: Path) -> None:
    """Measure and write three SVG files."""
    draw(
        folder / "growth-send.svg",
        "await send() to async receivers",
        "receivers",
        {
            name: {size: seconds / (REPEATS // size) for size, seconds in points.items()}
            for name, points in collect(
                {size: send_jobs(loop, size) for size in SIZES}, budget=20_000
            ).items()
        },
    )
    draw(
        folder / "growth-flush.svg",
        "flush of new rows, keys given, on aiosqlite",
        "rows",
        flush_series(loop),
    )
    jobs = {size: connecting.connect(size) for size in CONNECTIONS}
    for each in jobs.values():
        del each["control"]
        each["inspect.signature alone"] = each.pop("signatures")
    draw(
        folder / "growth-connect.svg",
        "connecting receivers to one signal",
        "connections",
        collect(jobs, budget=3_000),
    )


def collect(jobs: dict[int, dict[str, Job]], budget: int) -> Series:
    """Seconds per call of each job at each size, the minimum of many rounds."""
    series: Series = {}
    for size, each in jobs.items():
        rounds = max(3, min(40, budget // size))
        for name, seconds in interleaved(each, calls=1, rounds=rounds).items():
            series.setdefault(name, {})[size] = seconds
    return series


def send_jobs(loop: asyncio.AbstractEventLoop, count: int) -> dict[str, Job]:
    """One send: ours, by hand, and by the peers."""
    functions = receivers(count)
    signal = Signal()
    for function in functions:
        signal.connect(function, sender=Sender)

    async def by_hand() -> list[Any]:
        responses = []
        for function in functions:
            responses.append((function, await function(signal=signal, sender=Sender, instance=1)))
        return responses

    once = {
        "aksara_signals": lambda: signal.send(Sender, instance=1),
        "a loop by hand": by_hand,
        **peers.async_peers(functions, Sender, 1),
    }

    return {name: repeated(loop, each, REPEATS // count) for name, each in once.items()}


def flush_series(loop: asyncio.AbstractEventLoop) -> Series:
    """One flush: plain SQLAlchemy, the mixin, its listeners, and our receivers."""
    engine = loop.run_until_complete(flushing.make_async_engine())

    def flush(model: Any, count: int) -> Job:
        async def once() -> None:
            async with AsyncSession(engine) as session:
                session.add_all([model(id=n + 1, title="x") for n in range(count)])
                await session.flush()
                await session.rollback()

        return lambda: loop.run_until_complete(once())

    silent = {
        count: {
            "SQLAlchemy alone": flush(flushing.Plain, count),
            "SQLAlchemy's own listeners": flush(flushing.Watched, count),
            "the mixin, nothing connected": flush(flushing.Sending, count),
        }
        for count in ROWS
    }
    series = collect(silent, budget=60_000)
    with (
        pre_save.connected_to(flushing.receive, sender=flushing.Sending),
        post_save.connected_to(flushing.look, sender=flushing.Sending),
    ):
        receiving = {
            count: {"pre_save and post_save": flush(flushing.Sending, count)} for count in ROWS
        }
        series |= collect(receiving, budget=60_000)
    loop.run_until_complete(engine.dispose())
    return series


def draw(path: Path, title: str, unit: str, series: Series) -> None:
    """Write one plot, both axes logarithmic; the same data give the same file."""
    os.environ.setdefault("MPLBACKEND", "svg")
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "aksara", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in series.items():
        is_ours = name in ("aksara_signals", "ours", "pre_save and post_save")
        axes.plot(
            list(points),
            [seconds * 1e6 for seconds in points.values()],
            marker="o",
            markersize=3,
            linewidth=2.4 if is_ours else 1.2,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="microseconds", title=title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
