"""What is measured over its size: each function gives the lines of one plot."""

from __future__ import annotations

import asyncio

import connecting
import looking_up
import peers
from by_hand import async_loop
from changing import FUNCTIONS, changing
from committing import committing
from flushing import COROUTINES, Flush
from harness import Job, interleaved
from linking import linking, make_linked_engine
from models import (
    Late,
    Plain,
    PlainPost,
    PlainTag,
    Sending,
    SendingPost,
    SendingTag,
    Watched,
    connected,
    look_sync,
    make_async_engine,
    make_engine,
)
from plotting import Series
from receivers import receivers
from sending import Sender, repeated

from aksara_signals import Signal, m2m_changed, post_save

Loop = asyncio.AbstractEventLoop
Sizes = tuple[int, ...]

OURS = "aksara_signals"
ALONE = "SQLAlchemy alone"
CALLED = 3_000
"""Receivers called per job, so that the event loop's own start doesn't count."""


def collect(series: Series, size: int, jobs: dict[str, Job], budget: int = 30_000) -> None:
    """Add the seconds of each job at one size: the minimum of many rounds, of fewer for more."""
    rounds = max(3, min(40, budget // size))
    for name, seconds in interleaved(jobs, calls=1, rounds=rounds).items():
        series.setdefault(name, {})[size] = seconds


def sends(loop: Loop, sizes: Sizes) -> Series:
    """One send: ours, by hand, and by the peers."""
    series: Series = {}
    for size in sizes:
        functions, signal = receivers(size), Signal()
        for function in functions:
            signal.connect(function, sender=Sender)
        once = {
            OURS: lambda signal=signal: signal.send(Sender, instance=1, created=True, session=None),
            "a loop by hand": async_loop(functions, signal, Sender),
            **peers.async_peers(functions, Sender),
        }
        times = max(1, CALLED // size)
        collect(series, size, {name: repeated(loop, each, times) for name, each in once.items()})
        for name in once:
            series[name][size] /= times
    return series


def connects(loop: Loop, sizes: Sizes) -> Series:
    """Connecting as many receivers to a new signal."""
    series: Series = {}
    for size in sizes:
        jobs = connecting.connect(size)
        del jobs["control"]
        jobs = {OURS: jobs.pop("ours"), "inspect.signature alone": jobs.pop("signatures"), **jobs}
        collect(series, size, jobs, budget=3_000)
    return series


def single_operations(loop: Loop, sizes: Sizes) -> Series:
    """The first send of a sender, and one disconnect."""
    operations = {
        f"{OURS}, first send of a sender": looking_up.first_send_seconds,
        f"{OURS}, disconnect": looking_up.disconnect_seconds,
    }
    return {name: {size: each(size) for size in sizes} for name, each in operations.items()}


def flushes(loop: Loop, sizes: Sizes) -> Series:
    """One flush of new rows: plain SQLAlchemy, its listeners, the mixin, and our receivers."""
    engine = make_async_engine(loop)
    flush = Flush(loop, engine)
    series: Series = {}
    for size in sizes:
        jobs = {
            ALONE: flush(Plain, size, keyed=True),
            "SQLAlchemy's own listeners": flush(Watched, size, keyed=True),
        }
        collect(series, size, jobs)
        collect(series, size, {f"{OURS}, nothing connected": flush(Sending, size, keyed=True)})
        with connected(*COROUTINES):
            collect(series, size, {f"{OURS}, two receivers": flush(Sending, size, keyed=True)})
    loop.run_until_complete(engine.dispose())
    return series


def changes(loop: Loop, sizes: Sizes) -> Series:
    """UPDATE and DELETE of loaded rows."""
    engine = make_engine()
    series: Series = {}
    with connected(*FUNCTIONS):
        for size in sizes:
            jobs: dict[str, Job] = {
                f"{ALONE}, UPDATE": changing(engine, Plain, "UPDATE", size),
                f"{OURS}, UPDATE, two receivers": changing(engine, Sending, "UPDATE", size),
                f"{ALONE}, DELETE": changing(engine, Plain, "DELETE", size),
                f"{OURS}, DELETE, two receivers": changing(engine, Sending, "DELETE", size),
            }
            collect(series, size, jobs)
    engine.dispose()
    return series


def links(loop: Loop, sizes: Sizes) -> Series:
    """Links added to one instance."""
    engine = make_linked_engine(max(sizes))
    series: Series = {}
    with connected((m2m_changed, look_sync), sender=SendingPost.tags):
        for size in sizes:
            jobs: dict[str, Job] = {
                ALONE: linking(engine, PlainPost, PlainTag, size),
                f"{OURS}, one receiver": linking(engine, SendingPost, SendingTag, size),
            }
            collect(series, size, jobs)
    engine.dispose()
    return series


def commits(loop: Loop, sizes: Sizes) -> Series:
    """Commits with a receiver after them."""
    engine = make_engine()
    series: Series = {}
    late = connected((post_save, look_sync), sender=Late, phase="after_commit")
    with late:
        for size in sizes:
            jobs: dict[str, Job] = {
                ALONE: committing(engine, Plain, size),
                f"{OURS}, one receiver after the commit": committing(engine, Late, size),
            }
            collect(series, size, jobs)
    engine.dispose()
    return series
