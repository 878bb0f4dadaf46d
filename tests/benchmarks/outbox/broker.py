"""Events over NATS JetStream, beside workers on the same database: how many, and how soon."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import Any

import nats
from faststream.nats import NatsBroker
from kit.brokers import nats_server
from nats.js.api import StreamConfig
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Relay, Worker
from aksara_signals.contrib.outbox.transports.faststream import (
    faststream_publisher,
    faststream_receiver,
)
from outbox.claiming import store_many
from outbox.draining import WARM_UP, Drain, drain
from outbox.latency import RATE, commit_rows, differences
from outbox.results import Result
from outbox.stage import (
    DIALECTS,
    SESSION,
    Effect,
    Place,
    Stage,
    Stored,
    analyze,
    connected,
    outbox,
    with_engine,
    write,
)

PARTITIONS = 16
EMBEDDED, BROKER, RELAYS = "workers", "relays and consumers", "relays alone"
LATENCY = "bench.latency"

Series = dict[str, dict[int, float]]
"""Name of a line to processes, or commits per second, to events per second, or seconds."""


@dataclass(frozen=True)
class Sizes:
    """How many events, processes and runs."""

    events: int
    """How many are brought through to an effect."""
    published: int
    """How many are published where nobody consumes them."""
    processes: tuple[int, ...]
    """How many relays, and as many consumers; or how many workers."""
    rates: tuple[int, ...]
    seconds: float
    """How long each rate is kept up."""
    rounds: int
    """How often all is repeated, in turn; the median counts."""


FULL = Sizes(1_000, 2_000, (1, 2, 4), (5, 20, 100), 5, 3)
QUICK = Sizes(500, 1_000, (1, 2), (20,), 3, 1)


@dataclass(frozen=True)
class Flow:
    """What became of one run."""

    rate: float
    """Events per second."""
    relay_cpu: float = 0.0
    """Seconds of the processor for each event, of all relays."""
    cpu: float = 0.0
    """The same of all workers or consumers."""


def results(stage: Stage, sizes: Sizes, lines: Series) -> Iterator[Result]:
    """The figures of events per second.

    Args:
        stage: Where.
        sizes: How many.
        lines: Filled with events per second over the number of processes.
    """
    with nats_server() as server:
        for dialect in DIALECTS:
            yield from _Broker(stage, server.url, dialect, sizes).rates(lines)


def latencies(stage: Stage, sizes: Sizes, lines: Series) -> Iterator[Result]:
    """The figures of the time from commit to effect.

    Args:
        stage: Where.
        sizes: How many.
        lines: Filled with medians and 99th percentiles over the rate of commits.
    """
    with nats_server() as server:
        for dialect in DIALECTS:
            yield from _Broker(stage, server.url, dialect, sizes).latencies(lines)


class _Broker:
    """The figures on one database."""

    def __init__(self, stage: Stage, url: str, on: str, sizes: Sizes) -> None:
        self._stage = stage
        self._url = url
        self._on = on
        self._sizes = sizes

    # -- events per second ---------------------------------------------------------------------

    def rates(self, lines: Series) -> Iterator[Result]:
        jobs = [
            (how, number)
            for number in self._sizes.processes
            for how in (EMBEDDED, RELAYS, BROKER)
            # SQLite has one writer at a time, and a relay alone shows what it can do by itself.
            if number == 1 or (self._on != "sqlite" and how != RELAYS)
        ]
        found: dict[tuple[str, int], list[Flow]] = {job: [] for job in jobs}
        for _ in range(self._sizes.rounds):
            for how, number in jobs:
                with self._stage.empty(self._on) as place:
                    found[how, number].append(self._flow(place, how, number))
        flows = {
            job: Flow(*(median(each) for each in zip(*map(_figures, runs), strict=True)))
            for job, runs in found.items()
        }
        for (how, number), flow in flows.items():
            lines.setdefault(f"{self._on}, {how}", {})[number] = flow.rate
        yield from self._rows(flows, found)

    def _flow(self, place: Place, how: str, number: int) -> Flow:
        count = self._sizes.events
        if how == RELAYS:
            return flow(place, self._url, number, 0, self._sizes.published)
        if how == BROKER:
            return flow(place, self._url, number, number, count)
        drained: Drain = drain(place, SESSION, number, count, 0)
        return Flow(drained.rate, cpu=drained.cpu_seconds / count)

    def _rows(
        self, flows: dict[tuple[str, int], Flow], found: dict[tuple[str, int], list[Flow]]
    ) -> Iterator[Result]:
        on, one = self._on, flows[BROKER, 1]
        alone, embedded = flows[RELAYS, 1], flows[EMBEDDED, 1]

        def rate(what: str, how: str, number: int) -> Result:
            figures = [each.rate for each in found[how, number]]
            beside = f"{min(figures):,.0f} to {max(figures):,.0f}"
            return Result(what, on, flows[how, number].rate, "/s", beside=beside)

        def ratio(what: str, ours: Flow, other: Flow, goal: float | None = None) -> Result:
            return Result(what, on, ours.rate / other.rate, goal=goal, is_least=True)

        yield rate("NATS: published by one relay, without consumers", RELAYS, 1)
        # So that a quiet core publishes a thousand a second.
        cpu = alone.relay_cpu * 1e6
        yield Result("NATS: CPU of the relay, for each event", on, cpu, "µs", goal=1000)
        yield rate("NATS: one relay and one consumer, with a session", BROKER, 1)
        yield Result("NATS: CPU of the consumer, for each event", on, one.cpu * 1e6, "µs")
        yield rate("the same receiver by one worker, without a broker", EMBEDDED, 1)
        yield Result("CPU of the worker, for each event", on, embedded.cpu * 1e6, "µs")
        yield ratio("NATS: one relay and one consumer, against one worker", one, embedded)
        yield ratio("NATS: one relay alone, against with one consumer", alone, one, 2)
        for number in self._sizes.processes[1:] if on != "sqlite" else ():
            what = f"NATS: {number} relays and {number} consumers, against 1"
            yield ratio(what, flows[BROKER, number], one)
            what = f"the same receiver by {number} workers, against 1"
            yield ratio(what, flows[EMBEDDED, number], embedded)

    # -- from commit to effect -----------------------------------------------------------------

    def latencies(self, lines: Series) -> Iterator[Result]:
        sizes, names = self._sizes, {EMBEDDED: "a worker", BROKER: "NATS"}
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(sizes.rounds):
            for how in names:
                for rate in sizes.rates:
                    with self._stage.empty(self._on) as place:
                        seconds = latency(
                            place, self._url, how == BROKER, rate, int(rate * sizes.seconds)
                        )
                    found.setdefault((how, rate), []).extend(seconds)
        for (how, rate), seconds in found.items():
            last, name = quantiles(seconds, n=100)[-1], names[how]
            lines.setdefault(f"{self._on}, {name}, median", {})[rate] = median(seconds)
            lines.setdefault(f"{self._on}, {name}, p99", {})[rate] = last
            if rate == RATE:
                what = f"from commit to effect at {RATE} a second, by {name}"
                beside = f"min {min(seconds) * 1e3:.3g}, max {max(seconds) * 1e3:.3g} ms"
                middle = median(seconds) * 1e3
                yield Result(f"{what}: median", self._on, middle, "ms", 100, beside=beside)
                yield Result(f"{what}: 99th percentile", self._on, last * 1e3, "ms", 700)


def _figures(flow: Flow) -> tuple[float, ...]:
    return flow.rate, flow.relay_cpu, flow.cpu


class _Processes:
    """Processes that are ended with a value each."""

    def __init__(self) -> None:
        self.spawning = multiprocessing.get_context("spawn")
        self.stop: Event = self.spawning.Event()
        self._started: list[tuple[Any, Any]] = []

    def start(self, function: Callable[..., None], *arguments: Any) -> None:
        ours, theirs = self.spawning.Pipe()
        process = self.spawning.Process(target=function, args=(*arguments, theirs))
        process.start()
        self._started.append((process, ours))

    def receive(self) -> list[Any]:
        """What each of them sends next."""
        return [pipe.recv() for _, pipe in self._started]

    def receive_last(self) -> None:
        """Wait until the last one sends something."""
        self._started[-1][1].recv()

    def send(self) -> None:
        """Let them go on."""
        for _, pipe in self._started:
            pipe.send(None)

    def join(self) -> None:
        for process, _ in self._started:
            process.join()
        self._started.clear()


_streams = 0


async def _add_stream(url: str) -> str:
    """An empty stream; its name is the beginning of its subjects."""
    global _streams  # noqa: PLW0603 - each run has its own
    _streams += 1
    name = f"bench{_streams}"
    client = await nats.connect(url)
    await client.jetstream().add_stream(StreamConfig(name=name, subjects=[f"{name}.>"]))
    await client.close()
    return name


async def _delete_stream(url: str, name: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().delete_stream(name)
    await client.close()


def flow(place: Place, url: str, relays: int, consumers: int, count: int) -> Flow:
    """Bring events through so many relays and consumers."""
    name = asyncio.run(_add_stream(url))
    receiving, sending = _Processes(), _Processes()
    barrier = sending.spawning.Barrier(relays + 1)
    asyncio.run(with_engine(place, _store, WARM_UP))
    for _ in range(consumers):
        receiving.start(_consume, place, url, name, receiving.stop)
    receiving.receive()  # they have subscribed
    for _ in range(relays):
        sending.start(_relay, place, url, name, barrier)
    barrier.wait(600)
    if consumers:
        asyncio.run(with_engine(place, _effects, WARM_UP))
        receiving.send()
    asyncio.run(with_engine(place, _store, count))
    barrier.wait(600)
    end = asyncio.run(with_engine(place, _effects, WARM_UP + count)) if consumers else 0.0
    starts, ends, relay_cpu = zip(*sending.receive(), strict=True)
    receiving.stop.set()
    cpu = receiving.receive()
    sending.join()
    receiving.join()
    asyncio.run(_delete_stream(url, name))
    seconds = max(end, *ends) - min(starts)
    return Flow(count / seconds, sum(relay_cpu) / count, sum(cpu) / count)


async def _store(engine: AsyncEngine, count: int) -> None:
    await store_many(engine, (SESSION,), count)
    await analyze(engine)


async def _effects(engine: AsyncEngine, count: int) -> float:
    """When so many effects were committed."""
    statement = select(func.count()).select_from(Effect)
    while True:
        async with engine.connect() as connection:
            if (await connection.execute(statement)).scalar_one() >= count:
                return perf_counter()
        await asyncio.sleep(0.05)


def _relay(place: Place, url: str, name: str, barrier: Barrier, pipe: Any) -> None:
    """A process with one relay."""
    with connected():
        pipe.send(asyncio.run(with_engine(place, _run_relay, url, name, barrier)))


async def _run_relay(
    engine: AsyncEngine, url: str, name: str, barrier: Barrier
) -> tuple[float, float, float]:
    """Start and end, and the processor's time between them."""
    relay = Relay(_publisher(url, name), outbox, async_sessionmaker(engine), receivers=(SESSION,))
    await relay.run_until_idle()
    gc.collect()
    await asyncio.to_thread(barrier.wait, 600)
    await asyncio.to_thread(barrier.wait, 600)
    start, cpu = perf_counter(), process_time()
    await relay.run_until_idle()
    return start, perf_counter(), process_time() - cpu


def _publisher(url: str, name: str) -> Any:
    broker = NatsBroker(url, logger=None)
    return faststream_publisher(broker, f"{name}.{{receiver}}", partitions=PARTITIONS)


def _consume(place: Place, url: str, name: str, stop: Event, pipe: Any) -> None:
    """A process with one consumer of all partitions."""
    with connected():
        pipe.send(asyncio.run(with_engine(place, _run_consumer, url, name, SESSION, stop, pipe)))


async def _run_consumer(
    engine: AsyncEngine, url: str, name: str, receiver: str, stop: Event, pipe: Any
) -> float:
    """The processor's time from the start to the stop."""
    broker = NatsBroker(url, logger=None)
    faststream_receiver(
        broker,
        async_sessionmaker(engine),
        f"{name}.{{receiver}}",
        receivers=(receiver,),
        partitions=PARTITIONS,
        outbox=outbox,
    )
    await broker.start()
    pipe.send(None)
    await asyncio.to_thread(pipe.recv)
    cpu = process_time()
    await asyncio.to_thread(stop.wait)
    cpu = process_time() - cpu
    await broker.stop()
    return cpu


# -- from commit to effect -------------------------------------------------------------------------


def latency(place: Place, url: str, by_broker: bool, rate: int, count: int) -> list[float]:
    """Seconds from the return of each commit to the commit of the effect."""
    name = asyncio.run(_add_stream(url))
    processes = _Processes()
    processes.start(_deliver, place, url, name if by_broker else None, processes.stop)
    processes.receive()
    if by_broker:
        processes.send()
        processes.start(_relay_until, place, url, name, processes.stop)
        processes.receive_last()
    committed = asyncio.run(with_engine(place, commit_rows, rate, count, outbox))
    asyncio.run(with_engine(place, _effects, count))
    processes.stop.set()
    called = processes.receive()[0]
    processes.join()
    asyncio.run(_delete_stream(url, name))
    return differences(committed, called)


def _deliver(place: Place, url: str, name: str | None, stop: Event, pipe: Any) -> None:
    """A process with one consumer, or one worker, which notes when effects were committed."""
    noted: dict[int, float] = {}

    async def note(instance: Effect, **kwargs: Any) -> None:
        noted[instance.about] = perf_counter()

    with (
        post_save.connected_to(write, sender=Stored, durable=LATENCY),
        _after_commit(note),
    ):
        outbox.install()
        if name is None:
            asyncio.run(with_engine(place, _run_worker, stop, pipe))
        else:
            asyncio.run(with_engine(place, _run_consumer, url, name, LATENCY, stop, pipe))
    pipe.send(noted)


def _after_commit(note: Callable[..., Any]) -> AbstractContextManager[Any]:
    return post_save.connected_to(note, sender=Effect, phase="after_commit")


async def _run_worker(engine: AsyncEngine, stop: Event, pipe: Any) -> None:
    async with Worker(outbox, async_sessionmaker(engine)):
        pipe.send(None)
        await asyncio.to_thread(stop.wait)


def _relay_until(place: Place, url: str, name: str, stop: Event, pipe: Any) -> None:
    """A process with one relay, which runs until it is stopped."""
    with post_save.connected_to(write, sender=Stored, durable=LATENCY):
        outbox.install()
        asyncio.run(with_engine(place, _run_relay_until, url, name, stop, pipe))
    pipe.send(None)


async def _run_relay_until(
    engine: AsyncEngine, url: str, name: str, stop: Event, pipe: Any
) -> None:
    async with Relay(_publisher(url, name), outbox, async_sessionmaker(engine)):
        pipe.send(None)
        await asyncio.to_thread(stop.wait)
