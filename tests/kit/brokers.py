"""The brokers under test: a NATS server of our own, and RabbitMQ and Redis where they answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nats
import redis
from nats.js import JetStreamContext

RABBITMQ = "AKSARA_TEST_RABBITMQ_URL"
REDIS = "AKSARA_TEST_REDIS_URL"

_LOCAL = {RABBITMQ: "amqp://guest:guest@127.0.0.1:5672/", REDIS: "redis://127.0.0.1:6379/0"}
"""What is tried if the environment names no server."""

ANSWER_SECONDS = 20.0


def url_of(variable: str) -> str | None:
    """The URL of a server; None if none is named and none runs on this machine."""
    given = os.environ.get(variable)
    if given:
        return given
    url = _LOCAL[variable]
    parts = urlsplit(url)
    return url if answers(parts.hostname or "", parts.port or 0) else None


@contextmanager
def redis_namespace() -> Iterator[dict[str, str]]:
    """The environment of programs that use Redis under a prefix of their own; empty without one."""
    url = url_of(REDIS)
    if url is None:
        yield {}
        return
    name = f"aksara-{uuid.uuid4().hex}"
    try:
        yield {"REDIS_URL": url, "REDIS_NAMESPACE": name}
    finally:
        with closing(redis.Redis.from_url(url)) as client:
            for key in client.scan_iter(f"{name}*"):
                client.delete(key)


def answers(host: str, port: int) -> bool:
    """Whether something listens."""
    with closing(socket.socket()) as found:
        found.settimeout(1.0)
        return found.connect_ex((host, port)) == 0


class NatsServer:
    """A NATS server of our own with JetStream, which can be killed, wiped and started again.

    Args:
        folder: Where JetStream keeps what it stores.
        host: Its address.
        port: By default, one that is free on this host.
        command: What stands before its own command, in order to start it elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        port: int | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._host = host
        self._command = command
        if port is None:
            with closing(socket.socket()) as free:
                free.bind((host, 0))
                port = free.getsockname()[1]
        self._port = port
        self.url = f"nats://{host}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the same port as before."""
        program = Path(sysconfig.get_path("scripts")) / "nats-server"  # of the wheel
        arguments = ("-a", self._host, "-p", str(self._port), "-js", "-sd", str(self.folder))
        command = (*self._command, str(program), *arguments)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + ANSWER_SECONDS
        while not answers(self._host, self._port):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "the NATS server doesn't answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it neither answer nor end, until :meth:`go_on`."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """End what :meth:`freeze` has begun."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, "it is not running"
        self._process.send_signal(number)

    def stored(self, stream: str) -> int:
        """How many messages a stream has, acknowledged or not."""
        return asyncio.run(self._ask(lambda jetstream: _stored(jetstream, stream)))

    def unacknowledged(self, stream: str) -> int:
        """How many deliveries to its consumers are still to come, or to be acknowledged."""
        return asyncio.run(self._ask(lambda jetstream: _unacknowledged(jetstream, stream)))

    async def _ask(self, ask: Callable[[JetStreamContext], Awaitable[int]]) -> int:
        client = await nats.connect(self.url)
        try:
            return await ask(client.jetstream())
        finally:
            await client.close()

    def wipe(self) -> None:
        """Delete all that a killed server has stored."""
        shutil.rmtree(self.folder / "jetstream", ignore_errors=True)


async def _stored(jetstream: JetStreamContext, stream: str) -> int:
    return (await jetstream.stream_info(stream)).state.messages


async def _unacknowledged(jetstream: JetStreamContext, stream: str) -> int:
    consumers = await jetstream.consumers_info(stream)
    return sum((each.num_pending or 0) + (each.num_ack_pending or 0) for each in consumers)


@contextmanager
def nats_server() -> Iterator[NatsServer]:
    """A NATS server, ended and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="aksara-nats-"))
    server = NatsServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
