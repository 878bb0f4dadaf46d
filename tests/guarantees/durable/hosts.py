"""Several hosts, whose cables are pulled and which are killed while everything is written.

    python tests/guarantees/durable/hosts.py --seconds 300 --seed 7

The hosts are network namespaces, joined by a bridge: two of the application, each with a writer and
a relay; two with a consumer and a worker; one of the broker, NATS JetStream; one of the database,
PostgreSQL. Run as root, by ``tox -e soak`` too. It exits with status 1 if anything is lost, made up,
done twice with ``session``, or out of order; with status 2 if it can't be tried.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kit.brokers import NatsServer
from kit.claims import outbox_engine
from kit.durable import drained, shop
from kit.durable.forking import Forker
from kit.durable.programs import Program, Programs
from kit.durable.verdict import changes, effects_of, judge, shipped, stale
from kit.durable.write import LABELS
from kit.hosts import Host, Network, PostgresqlHost, why_not
from sqlalchemy import Engine, NullPool
from sqlalchemy.orm import Session

BY_WORKERS = "shop.index"
BY_CONSUMERS = "shop.[cs]*"  # count and ship
DRAIN_SECONDS = 300.0
ENDING = (signal.SIGINT, signal.SIGTERM)


class BrokerHost(NatsServer):
    """The broker's."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(folder, host.address, 4222, host.command())
        self.host = host

    def tend(self) -> None:
        """Nothing: it doesn't end by itself."""


class ProgramsHost:
    """One that runs processes of the shop, and starts those again that end.

    Args:
        host: The host.
        programs: For what they write, and their environment.
        starters: Starts each.
    """

    def __init__(
        self,
        host: Host,
        make: Callable[[Forker], Programs],
        *starters: Callable[[Programs], Program],
    ) -> None:
        self.host = host
        self._make = make
        self._starters = starters
        self.restarts = 0

    def start(self) -> None:
        self._forker = Forker(self.host.command())
        self._programs = self._make(self._forker)
        self._running = [start(self._programs) for start in self._starters]

    def tend(self) -> None:
        """Start those again that have ended, as a service manager does."""
        for number, program in enumerate(self._running):
            if not program.is_running():
                self._running[number] = self._starters[number](self._programs)
                self.restarts += 1

    def kill(self) -> None:
        self.host.kill()
        self._forker.was_killed()

    def end_first(self) -> None:
        """End the first one for good."""
        program, *self._running = self._running
        _, *self._starters = self._starters
        program.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--or-skip", action="store_true", help="exit with 0 if it can't be tried")
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"several hosts: NOT TRIED, {reason}")
        return 0 if options.or_skip else 2
    for number in ENDING:
        signal.signal(number, end)
    with ExitStack() as entered:
        folder = Path(tempfile.mkdtemp(prefix="aksara-hosts-"))
        entered.callback(shutil.rmtree, folder, ignore_errors=True)
        network = entered.enter_context(Network())
        postgresql = PostgresqlHost(network.host("database"))
        entered.callback(postgresql.remove)
        (folder / "broker").mkdir()
        broker = BrokerHost(network.host("broker"), folder / "broker")
        entered.callback(broker.kill)
        postgresql.start()
        broker.start()
        engine = outbox_engine(postgresql.database, poolclass=NullPool)
        shop.ShopBase.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all(shop.WareLabel(id=each) for each in LABELS)
        return run(network, postgresql, broker, engine, folder, options)


def end(number: int, _: Any) -> NoReturn:
    """End, and let no second signal interrupt what is removed then."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def run(
    network: Network,
    postgresql: PostgresqlHost,
    broker: BrokerHost,
    engine: Engine,
    folder: Path,
    options: Any,
) -> int:
    chance = random.Random(options.seed)

    def programs_host(name: str, *starters: Callable[[Programs], Program]) -> ProgramsHost:
        own = folder / name
        own.mkdir()

        def make(forker: Forker) -> Programs:
            found = Programs(postgresql.database, own, forker)
            found.environment = {shop.NATS: broker.url, shop.FOLDER: str(folder)}
            return found

        return ProgramsHost(network.host(name), make, *starters)

    def writer(programs: Programs) -> Program:
        return programs.writer(chance.randrange(2**32), is_tolerant=True)

    def relay(programs: Programs) -> Program:
        return programs.relay(receivers=BY_CONSUMERS, timeout_seconds=5)

    def worker(programs: Programs) -> Program:
        return programs.worker(receivers=BY_WORKERS)

    # The consumers are first: they make the broker's stream.
    workers = [programs_host(f"worker-{n}", Programs.consumer, worker) for n in "12"]
    applications = [programs_host(f"application-{n}", writer, relay) for n in "12"]
    machines: list[Any] = [postgresql, broker, *workers, *applications]
    for each in (*workers, *applications):
        each.start()

    def tend(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for each in machines:
                each.tend()
            time.sleep(0.1)

    start, done, faults = time.monotonic(), Counter[str](), list[Any]()
    while time.monotonic() < start + options.seconds:
        tend(chance.uniform(1, 5))
        if not faults:  # each kind for each host, and again, in another order
            faults = [(machine, kind) for machine in machines for kind in ("cut", "killed")]
            chance.shuffle(faults)
        machine, kind = faults.pop()
        done[kind] += 1
        if kind == "cut":
            machine.host.cut()
            tend(chance.uniform(0.5, 6))
            machine.host.heal()
        else:
            machine.kill()
            machines.remove(machine)
            tend(chance.uniform(0, 3))
            machine.start()
            machines.append(machine)
    for each in applications:
        each.end_first()
    requeued = drain(engine, broker, tend)
    took = time.monotonic() - start
    restarts = sum(each.restarts for each in (*workers, *applications))
    print(
        f"several hosts: {done['cut']} cables pulled and {done['killed']} hosts killed in "
        f"{took:.0f} s (seed {options.seed}), {restarts} processes started again, "
        f"{len(requeued)} rows requeued after three crashes"
    )
    return verdict(engine, folder)


def drain(engine: Engine, broker: NatsServer, tend: Callable[[float], None]) -> list[Any]:
    """Wait until everything is delivered; dead letters that were requeued."""
    until, requeued = time.monotonic() + DRAIN_SECONDS, []
    while True:
        tend(1)
        requeued += drained.requeue_crashed(engine)
        left = drained.waiting(engine), drained.unreceived(engine, by_workers=BY_WORKERS)
        if left == (0, 0) and not broker.unacknowledged(drained.STREAM):
            return requeued
        if time.monotonic() > until:
            print(f"several hosts: after {DRAIN_SECONDS:.0f} s, {left} rows wait, aren't received")
            return requeued


def verdict(engine: Engine, folder: Path) -> int:
    """Print the figures, and return the exit status."""
    committed = changes(engine)
    counted = judge("with session", committed, effects_of(engine, "shop.count"))
    sent = judge("without session", committed, shipped(folder))
    indexed = [fact.mark for fact in effects_of(engine, BY_WORKERS)]
    double = len(indexed) - len(set(indexed))
    old = stale(engine)
    print(f"  over the broker, {counted}\n  over the broker, {sent}")
    print(f"  by workers, with session: {len(indexed)} effects, double={double}, out of date={old}")
    is_right = counted.wrong == sent.wrong == (0, 0, ()) and counted.double == double == old == 0
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
