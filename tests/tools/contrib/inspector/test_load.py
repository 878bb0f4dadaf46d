"""Thousands of sends a second, with browsers that look on, and one that doesn't read."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.browsers import ARGUMENTS, find_chromium, served
from kit.effort import FIGURES, times
from kit.inspected import MOST_SECONDS, SENDS_PER_SECOND, STATUS, Clock, inspected, rss_bytes
from kit.models import Base, Post
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aksara_signals import Signal
from aksara_signals.contrib.inspector import Inspector, stream
from aksara_signals.contrib.inspector.entries import MAX_ROWS
from aksara_signals.contrib.inspector.recorder import MAX_TEXT, Recorder
from aksara_signals.contrib.inspector.timeline import MAX_BYTES, MAX_ENTRIES
from aksara_signals.signals import post_save

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STATUS.exists(), reason="the memory of a process can't be looked up"),
]
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")

BROWSERS = 3
MOST_GROWTH = 4 * 2**20
DECILES = 4
"""How many are compared, the lowest ones: in the others is what other processes do to the machine."""
MOST_SLOWED = 1.05
MOST_BUSY = 3
"""How much of a processor the process may take, as a multiple of what its receiver takes."""
STUCK_SECONDS = 3.0


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[list[Any]]:
    """Pages in a browser, which show nothing yet.

    It runs only when the application leaves it a processor: elsewhere, it has its own ones.
    """
    from playwright.sync_api import sync_playwright

    program = tmp_path / "chromium"
    program.write_text(f'#!/bin/sh\nexec nice -n 19 "{find_chromium()}" "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS])
        yield [browser.new_page() for _ in range(BROWSERS)]
        browser.close()


def open_timeline(pages: list[Any], address: str) -> None:
    """Open the timeline in all pages, until it is live."""
    for page in pages:
        page.set_default_timeout(30_000)
        page.goto(address)
        page.locator("#live", has_text="Live.").wait_for()


def mebibytes(sizes: list[int]) -> str:
    """Sizes in bytes, put into words."""
    return f"{', '.join(f'{size / 2**20:.1f}' for size in sizes)} MiB"


@pytest.mark.browser
@needs_chromium
def test_memory_is_flat_for_a_minute(pages, record_property) -> None:
    """Of five thousand sends a second, all of which are made, while three browsers show them."""
    with inspected() as application:
        open_timeline(pages, application.address)
        found = [application.send_for(MOST_SECONDS) for _ in range(times(6))]
        for page in pages:
            assert 50 <= page.locator("article").count() <= 200
            assert "more, not shown live" in page.inner_text("#missed")
    rss = [each["rss"] for each in found]
    seconds = sum(each["seconds"] for each in found)
    busy = sum(each["busy"] for each in found)
    work = sum(each["work"] for each in found)
    waiting = sum(each["work by clock"] for each in found) / work  # for a processor
    late = max(each["late"] for each in found)
    figures = (
        f"inspector: {sum(each['sends'] for each in found):,} sends in {seconds:.1f} s, busy for "
        f"{busy:.1f} s, {work:.1f} s of them with the receiver's work, by the clock {waiting:.1f} "
        f"times as long, and at most {late:.2f} s behind; memory every {MOST_SECONDS} s: {mebibytes(rss)}"
    )
    record_property(FIGURES, figures)
    assert {each["sends"] for each in found} == {SENDS_PER_SECOND * MOST_SECONDS}
    assert {each["saves"] for each in found} == {20 * MOST_SECONDS}
    # Each stream ends after a while, and the browser opens the next one.
    assert max(each["streams"] for each in found) == BROWSERS
    assert {each["entries"] for each in found} == {MAX_ENTRIES}
    # A busy machine lets it fall behind, and slows whatever it does; the receiver, too.
    assert busy < MOST_BUSY * work, figures
    assert seconds < 2 * max(MOST_SECONDS * len(found), busy * waiting), figures
    assert rss[-1] - rss[1] < MOST_GROWTH, figures
    assert max(each["size_bytes"] for each in found) <= MAX_BYTES


@pytest.mark.browser
@needs_chromium
def test_browsers_do_not_slow_receivers(pages, record_property) -> None:
    """By their own clocks, they take no more than a twentieth longer while three browsers are open."""
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with inspected() as application:
        application.send_for(2)
        for _ in range(times(3)):
            for are_open in (False, True):
                open_timeline(pages, application.address)
                if not are_open:
                    for page in pages:
                        page.goto("about:blank")
                found[are_open].append(application.send_for(MOST_SECONDS))
    assert {each["streams"] for each in found[False]} == {0}
    assert max(each["streams"] for each in found[True]) == BROWSERS
    slowed: dict[str, float] = {}
    figures = "inspector: microseconds of a receiver, without and with browsers:"
    for kind in ("cpu", "clock"):
        lower = {
            are_open: [sum(each[kind][:DECILES]) / DECILES for each in phases]
            for are_open, phases in found.items()
        }
        slowed[kind] = statistics.median(lower[True]) / statistics.median(lower[False])
        pairs = zip(lower[False], lower[True], strict=True)
        shown = ", ".join(f"{without:.2f} {beside:.2f}" for without, beside in pairs)
        medians = [statistics.median(each[kind][4] for each in found[is_open]) for is_open in found]
        figures += f" by {kind} {shown} ({slowed[kind] - 1:+.1%}; medians {medians[0]:.2f} {medians[1]:.2f})"
    sends = [statistics.median(each["send"] for each in found[are_open]) for are_open in found]
    figures += f"; a whole send {sends[0]:.1f} {sends[1]:.1f}"
    record_property(FIGURES, figures)
    assert max(slowed.values()) <= MOST_SLOWED, figures


# -- a client that doesn't read ----------------------------------------------------------------


class Reader:
    """A client that reads its stream."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.seen = self.messages = 0
        self.is_open = asyncio.Event()

    async def run(self) -> None:
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream("GET", f"{self._address}/stream") as response,
        ):
            async for line in response.aiter_lines():
                if line == ": open":
                    self.is_open.set()
                elif line.startswith("data: "):
                    self.seen += changes(line)
                    self.messages += 1


def changes(line: str) -> int:
    """How many changes of groups a message has brought or left off."""
    message = json.loads(line.removeprefix("data: "))
    return len(message["groups"]) + message["left_off"]


def open_unread(address: str) -> socket.socket:
    """A stream that nobody reads, with as little room on its way as there can be."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.settimeout(10)
    connection.connect((host, int(port)))
    connection.sendall(f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return connection


def read(connection: socket.socket, enough: int) -> tuple[int, int]:
    """How many messages there are until they bring so many changes, and how many they bring."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    response = HTTPResponse(connection)
    response.begin()
    messages = seen = 0
    while seen < enough:
        line = response.readline().decode()
        assert line, "the stream is over"
        if line.startswith("data: "):
            messages += 1
            seen += changes(line)
    return messages, seen


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers are full soon."""
    monkeypatch.setattr(stream, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(stream, "BUSY_SECONDS", 0.02)


class Crowd:
    """An inspector with two clients that read and one that doesn't, and what sends meanwhile."""

    def __init__(self, inspector: Inspector, address: str) -> None:
        self._signal = Signal()
        self._signal.connect(self._receive)
        self._streams: Any = inspector._streams
        self.readers = [Reader(address), Reader(address)]
        self.unread = open_unread(address)
        self.sends = self.received = 0
        """Since the buffer was full."""
        self.rss: list[int] = []

    def _receive(self, sender: Any, **kwargs: Any) -> None:
        self.received += 1

    @property
    def streams(self) -> int:
        return int(self._streams._open)

    async def fill_buffer(self) -> None:
        """Send until all that is sent takes the place of something older."""
        for number in range(MAX_ENTRIES):
            await self._signal.send(Clock)
            if not number % 100:
                await asyncio.sleep(0)
        self.received = 0

    async def send_for(self, seconds: float) -> None:
        """Send two thousand times a second, about."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                await self._signal.send(Clock)
            self.sends += 20
            await asyncio.sleep(0.01)
        gc.collect()
        self.rss.append(rss_bytes())


@contextmanager
def crowded() -> Iterator[Crowd]:
    with Inspector(debug=True) as inspector, served(inspector) as address:
        crowd = Crowd(inspector, address)
        with crowd.unread:
            yield crowd
            inspector.close()  # before the server stops, which lets its streams finish first


async def beside_readers(crowd: Crowd, work: Callable[[], Awaitable[None]]) -> None:
    """Do something while two clients read."""
    tasks = [asyncio.create_task(each.run()) for each in crowd.readers]
    try:
        async with asyncio.timeout(10):
            for each in crowd.readers:
                await each.is_open.wait()
        await until(lambda: crowd.streams == 3, "the streams are open")
        await crowd.fill_buffer()
        await work()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_client_that_reads_late_gets_how_many_were_left_off(quick, record_property) -> None:
    """Nothing is queued for it: sends go on, others read everything, and memory is flat."""
    with crowded() as crowd:

        async def send_and_read() -> None:
            for _ in range(4):
                before = [each.messages for each in crowd.readers]
                await crowd.send_for(2)
                for reader, count in zip(crowd.readers, before, strict=True):
                    assert reader.messages > count + 5
            await until(
                lambda: all(each.seen >= crowd.sends for each in crowd.readers),
                "those that read have got everything",
            )
            assert crowd.streams == 3
            messages, seen = await asyncio.to_thread(read, crowd.unread, crowd.sends)
            figures = (
                f"inspector: a client that read nothing while {crowd.sends} times was sent got "
                f"{messages} messages, with {seen} changes; others got "
                f"{' and '.join(str(each.messages) for each in crowd.readers)}; memory "
                f"{mebibytes(crowd.rss)}"
            )
            record_property(FIGURES, figures)
            assert messages < min(each.messages for each in crowd.readers), figures
            assert crowd.rss[-1] - crowd.rss[1] < MOST_GROWTH, figures

        await beside_readers(crowd, send_and_read)
    assert crowd.received == crowd.sends


async def test_a_client_that_never_reads_is_given_up(
    quick, record_property, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends when nothing was taken for half a minute, and those of others go on."""
    monkeypatch.setattr(stream, "STUCK_SECONDS", STUCK_SECONDS)
    with crowded() as crowd:

        async def send() -> None:
            start = time.monotonic()
            while crowd.streams == 3:
                await crowd.send_for(1)
                assert time.monotonic() < start + 6 * STUCK_SECONDS, "it was not given up"
            given_up = time.monotonic() - start
            assert given_up > STUCK_SECONDS
            before = [each.seen for each in crowd.readers]
            await crowd.send_for(2)
            assert crowd.streams == 2
            for reader, seen in zip(crowd.readers, before, strict=True):
                assert reader.seen > seen + 1_000
            figures = (
                f"inspector: a client that reads nothing was given up after {given_up:.0f} s; memory "
                f"{mebibytes(crowd.rss)}"
            )
            record_property(FIGURES, figures)
            assert crowd.rss[-1] - crowd.rss[2] < MOST_GROWTH, figures

        await beside_readers(crowd, send)
    assert crowd.received == crowd.sends


# -- the buffer --------------------------------------------------------------------------------


def fail(sender: Any, **kwargs: Any) -> None:
    raise ValueError("é" * MAX_TEXT)


def receive(sender: Any, **kwargs: Any) -> None: ...


def by_sends(receiver: Callable[..., None], receivers: int) -> Iterator[None]:
    signal = Signal()
    for _ in range(receivers):
        signal.connect(lambda sender, **kwargs: receiver(sender), weak=False)
    for _ in range(MAX_ENTRIES + 100):
        yield signal.send_robust_sync(Clock)


def by_flushes_of_many_rows() -> Iterator[None]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    try:
        with post_save.connected_to(receive, sender=Post):
            for _ in range(100):
                with Session(engine) as session:
                    session.add_all([Post(title="") for _ in range(MAX_ROWS)])
                    yield session.flush()
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("fill", "share"),
    [
        pytest.param(partial(by_sends, receive, 1), 1, id="sends"),
        pytest.param(partial(by_sends, receive, 10), 1, id="many-receivers"),
        pytest.param(partial(by_sends, fail, 1), 1, id="failures"),
        pytest.param(partial(by_sends, fail, 3), 1, id="many-failures"),
        # To flush as many rows as fill all of it takes minutes.
        pytest.param(by_flushes_of_many_rows, 8, id="many-rows"),
    ],
)
def test_a_full_buffer_takes_32_mebibytes_at_most(
    fill, share: int, record_property, request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fills it, and by its own estimate as well as really."""
    monkeypatch.setattr(logging.getLogger("aksara_signals"), "disabled", True)
    recorder = Recorder(show_errors=True)
    most = recorder.timeline._max_bytes // share
    monkeypatch.setattr(recorder.timeline, "_max_bytes", most)
    with closing(fill()) as warm_up:  # what is cached then is no part of the buffer
        for _ in range(3):
            next(warm_up)
    gc.collect()
    tracemalloc.start()
    recorder.start()
    try:
        for _ in fill():
            pass
        gc.collect()
        real, _ = tracemalloc.get_traced_memory()
    finally:
        recorder.stop()
        tracemalloc.stop()
    timeline = recorder.timeline
    entries = timeline.entries()
    figures = (
        f"inspector: full of {request.node.callspec.id}, {len(entries)} entries: estimated and real "
        f"{mebibytes([timeline.size_bytes, real])}"
    )
    record_property(FIGURES, figures)
    assert timeline.size_bytes == sum(each.size for each in entries)
    assert timeline.size_bytes <= most, figures
    assert real <= most <= 32 * 2**20, figures
    assert len(entries) == MAX_ENTRIES or timeline.size_bytes > most * 0.9, figures
