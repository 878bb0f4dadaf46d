"""Messages that a broker loses, keeps for too long, or delivers again."""

from __future__ import annotations

import signal
import time

import pytest
from kit.brokers import NatsServer
from kit.durable import drained
from kit.durable.programs import REDELIVERY_SECONDS, Program, Programs, wait_until
from kit.durable.verdict import Verdict, changes, effects_of, judge, shipped
from sqlalchemy import Engine

pytestmark = pytest.mark.slow

WRITTEN = 30


@pytest.fixture
def shop(shop_engine: Engine, shop_programs: Programs, nats: NatsServer) -> Shop:
    return Shop(shop_engine, shop_programs, nats)


class Shop:
    """The shop, with its broker."""

    def __init__(self, engine: Engine, programs: Programs, broker: NatsServer) -> None:
        self.engine, self.programs, self.broker = engine, programs, broker

    def consumer(self, *, is_sync: bool = False) -> Program:
        """One that has made the broker's stream."""
        found = self.programs.consumer(is_sync=is_sync)
        found.wait_until_ready()
        return found

    def write(self) -> None:
        """Commit some changes, and roll some back."""
        before = len(changes(self.engine))
        writer = self.programs.writer(before, pause=0.01)
        wait_until(lambda: len(changes(self.engine)) > before + WRITTEN, "some is written")
        assert writer.end() == 0, writer.output

    def command(self, *arguments: str) -> str:
        """What a command prints that looks after the outbox."""
        where = ("--app", "kit.durable.shop:outbox", "--sessions", "kit.durable.shop:Sessions")
        program = self.programs.run("aksara_signals", "outbox", *arguments, *where)
        assert program.wait() == 0, program.output
        return program.output

    def wait_until_published(self) -> None:
        wait_until(lambda: not drained.waiting(self.engine), "all is published")

    def verdicts(self) -> tuple[Verdict, Verdict]:
        """Of the receiver with ``session``, and of the one without, once all is received."""
        drained.wait_until_received(self.engine, self.broker)
        assert self.programs.end_all() == []
        committed = changes(self.engine)
        return (
            judge("with session", committed, effects_of(self.engine, "shop.count")),
            judge("without session", committed, shipped(self.programs.folder)),
        )


@pytest.mark.parametrize("is_sync", [False, True])
def test_a_broker_that_has_lost_everything(shop: Shop, is_sync: bool) -> None:
    """``outbox republish`` makes it deliver what it hadn't; what it had is refused."""
    shop.programs.relay()
    consumer = shop.consumer(is_sync=is_sync)
    shop.write()
    drained.wait_until_received(shop.engine, shop.broker)
    assert consumer.end() == 0
    shop.write()
    shop.wait_until_published()
    lost = drained.unreceived(shop.engine)
    assert lost > WRITTEN
    shop.broker.kill()
    shop.broker.wipe()
    shop.broker.start()
    shop.consumer(is_sync=is_sync)
    rows = len(drained.rows(shop.engine))
    assert shop.command("republish", "--since", "1h") == f"{rows} rows republished\n"
    for verdict in shop.verdicts():
        assert verdict.wrong == (0, 0, ())
        assert verdict.double == 0
        assert verdict.committed > 2 * WRITTEN
    assert shop.broker.stored(drained.STREAM) == rows > lost


def test_a_replay(shop: Shop) -> None:
    """``outbox replay`` calls receivers again: its messages are new ones."""
    shop.programs.relay()
    shop.consumer()
    shop.write()
    drained.wait_until_received(shop.engine, shop.broker)
    shop.command("replay", "--all")
    for verdict in shop.verdicts():
        assert (verdict.lost, verdict.phantom) == (0, 0)
        assert verdict.double == verdict.committed


def test_a_broker_that_confirms_too_late(shop: Shop) -> None:
    """What was published, and not confirmed in time, is published again, and refused then."""
    shop.programs.relay(timeout_seconds=0.5)
    shop.consumer()
    shop.write()
    drained.wait_until_received(shop.engine, shop.broker)
    shop.broker.freeze()
    shop.write()

    def has_timed_out() -> bool:
        return any("Timeout" in (row.last_error or "") for row in drained.rows(shop.engine))

    wait_until(has_timed_out, "the relay has waited for too long")
    shop.broker.go_on()
    for verdict in shop.verdicts():
        assert verdict.wrong == (0, 0, ())
        assert verdict.double == 0
    assert shop.broker.stored(drained.STREAM) > len(drained.rows(shop.engine))


def test_a_consumer_that_is_suspended(shop: Shop) -> None:
    """Its message is delivered to another one meanwhile; only one of both has an effect."""
    shop.programs.relay()
    consumers = [shop.consumer(is_sync=number == 1) for number in range(2)]
    writer = shop.programs.writer(1)
    for consumer in consumers:
        shop.write()
        consumer.send(signal.SIGSTOP)
        time.sleep(1.5 * REDELIVERY_SECONDS)  # on SQLite, others may wait for it meanwhile
        consumer.send(signal.SIGCONT)
    assert writer.end() == 0, writer.output
    with_session, without = shop.verdicts()
    assert with_session.wrong == without.wrong == (0, 0, ())
    assert with_session.double == 0
