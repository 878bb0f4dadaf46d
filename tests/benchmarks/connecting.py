"""Connecting many receivers, and what importing and living with the library costs."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import blinker
import django.dispatch
from harness import Comparison, Figure, Job, OwnTime, compare, interleaved
from receivers import receivers
from sending import Sender

from aksara_signals import Signal

MANY = 10_000


def connect(count: int) -> dict[str, Job]:
    """Connect as many receivers to a new signal, ours and those of others."""
    functions = receivers(count)

    def ours() -> None:
        signal = Signal()
        for function in functions:
            signal.connect(function, sender=Sender)

    def signatures() -> None:
        for function in functions:
            inspect.signature(function)

    def of_django() -> None:
        signal = django.dispatch.Signal()
        for function in functions:
            signal.connect(function, sender=Sender, weak=False)

    def of_blinker() -> None:
        signal = blinker.Signal()
        for function in functions:
            signal.connect(function, sender=Sender, weak=False)

    jobs: dict[str, Job] = {"ours": ours, "signatures": signatures, "control": signatures}
    jobs["blinker"] = of_blinker
    if count <= 1000:  # it looks through all of them, each time
        jobs["django"] = of_django
    return jobs


def rows() -> Iterator[Comparison | Figure]:
    """The figures of connecting, memory and import."""
    many = interleaved(connect(MANY), calls=1, rounds=12)
    few = interleaved(connect(MANY // 10), calls=1, rounds=40)
    noise = f"{abs(many['control'] / many['signatures'] - 1):.1%}"
    yield Figure(
        "connecting 10,000 receivers: each, beyond ``inspect.signature``",
        (many["ours"] - many["signatures"]) / MANY * 1e6,
        5,
        "µs",
        noise,
    )
    yield Figure(
        "connecting 10,000 receivers: each, as a multiple of each of 1,000",
        many["ours"] / few["ours"] / 10,
        1.25,
        "times",
        noise,
    )
    yield from _imports()
    yield Figure("memory: growth over a million sends", sends_leave(500_000), 16, "KiB")
    yield Figure(
        "memory: growth over 10,000 short-lived senders and receivers",
        short_lives_leave(MANY // 2),
        16,
        "KiB",
    )


def _imports() -> Iterator[Comparison]:
    """Each in a new process, less what Python itself takes to start."""

    def importing(statement: str) -> Job:
        code = f"import time; t = time.process_time(); {statement}; "
        code += "print(time.process_time() - t)"
        command = [sys.executable, "-c", code]

        def once() -> float:
            run = subprocess.run(command, capture_output=True, check=True, text=True)
            return float(run.stdout)

        return OwnTime(once)

    for statement, goal in (
        ("import aksara_signals", 1.0),
        # What the first name that is used imports.
        ("from aksara_signals import post_save", None),
    ):
        yield compare(
            f"``{statement}``, against ``import asyncio``",
            goal,
            ours=importing(statement),
            reference=importing("import asyncio"),
            rounds=25,
        )


def kept_kibibytes(job: Job) -> float:
    """How much more is allocated after a job's second run than after its first, in KiB."""
    tracemalloc.start()
    after: list[int] = []
    for _ in range(2):
        job()
        gc.collect()
        after.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return max(0.0, (after[1] - after[0]) / 1024)


def sends_leave(count: int) -> float:
    """Memory after many sends by one signal."""
    signal = Signal()
    for function in receivers(2):
        signal.connect(function, sender=Sender)

    async def send() -> None:
        for _ in range(count):
            await signal.send(Sender, instance=1)

    def job() -> None:
        coroutine = send()
        try:
            coroutine.send(None)  # the receivers never wait
        except StopIteration:
            return

    return kept_kibibytes(job)


def short_lives_leave(count: int) -> float:
    """Memory after many senders and weak receivers have come, received one send, and gone."""
    signal = Signal()

    def job() -> None:
        for _ in range(count):
            sender = type("ShortLived", (), {})

            def receiver(sender: object, **kwargs: object) -> None: ...

            signal.connect(receiver, sender=sender, weak=True)
            signal.send_sync(sender)
            del sender, receiver

    return kept_kibibytes(job)
