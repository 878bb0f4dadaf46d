"""The live stream."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.browsers import served
from kit.ports import free_port
from kit.timelines import entry_view, group_view

from aksara_signals.contrib.inspector import stream
from aksara_signals.contrib.inspector.guard import HEADERS

PATIENCE = 10.0
"""Seconds; for what comes at once on an idle machine."""


class Browser:
    """What opens a stream, and reads it when a test lets it."""

    def __init__(self, inspector: Any, query: str, headers: dict[str, str], method: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.left = asyncio.Event()
        raw = {"host": "localhost", **headers}
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": "/stream",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in raw.items()],
        }
        self.task = asyncio.create_task(inspector(scope, self._receive, self._send))
        self._is_asked = False

    async def _receive(self) -> dict[str, Any]:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        self.messages.append(message)

    @property
    def text(self) -> str:
        return b"".join(each.get("body", b"") for each in self.messages).decode()

    @property
    def data(self) -> list[dict[str, Any]]:
        """What came as messages."""
        return [json.loads(each) for each in re.findall(r"(?m)^data: (.*)$", self.text)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def opened(self) -> None:
        await self.until(lambda: ": open" in self.text)

    async def numbers(self, count: int) -> list[int]:
        """The numbers of the groups, once there are so many."""

        def found() -> list[int]:
            return [group["number"] for each in self.data for group in each.get("groups", ())]

        await self.until(lambda: len(found()) >= count)
        return found()


Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(stream, "BUSY_SECONDS", 0.05)


@pytest.fixture
def inspector(made: Any) -> Any:
    """The inspector whose streams are read."""
    return made()


@pytest.fixture
async def browse(inspector: Any) -> AsyncIterator[Open]:
    """Opens streams."""
    opened: list[Browser] = []

    def make(
        query: str = "", headers: dict[str, str] | None = None, method: str = "GET"
    ) -> Browser:
        opened.append(Browser(inspector, query, headers or {}, method))
        return opened[-1]

    yield make
    for each in opened:
        each.reads.set()
        each.left.set()
        await asyncio.wait_for(each.task, PATIENCE)
    assert inspector._streams._open == 0


async def test_what_changes_is_sent_as_the_page_shows_it(browse: Open, timeline: Any) -> None:
    """Rendered by the same template, with the headers of every response."""
    timeline.put(group_view(1))
    browser = browse()
    await browser.opened()
    timeline.put(group_view(2))
    assert await browser.numbers(1) == [2]
    (message,) = browser.data
    assert message["left_off"] == 0
    assert '<article id="g2"' in message["groups"][0]["html"]
    headers = {name.decode(): value.decode() for name, value in browser.messages[0]["headers"]}
    assert headers["content-type"].startswith("text/event-stream")
    for name, value in HEADERS.items():
        assert headers[name.lower()] == value


async def test_it_goes_on_where_the_page_was_rendered(
    browse: Open, timeline: Any, inspector: Any
) -> None:
    """What changed in between is not lost."""
    timeline.put(group_view(1))
    position = inspector._streams.position()
    timeline.put(group_view(2))
    assert await browse(f"from={position}").numbers(1) == [2]


async def test_it_goes_on_after_an_interruption(browse: Open, timeline: Any) -> None:
    """From the last event that the browser has got."""
    first = browse()
    await first.opened()
    timeline.put(group_view(1))
    await first.numbers(1)
    first.left.set()
    await first.task
    (last,) = re.findall(r"(?m)^id: (.*)$", first.text)
    timeline.put(group_view(2))
    again = browse("from=something-old", {"Last-Event-ID": last})
    assert await again.numbers(1) == [2]


@pytest.mark.parametrize("given", ["0000-5", "x", "0000-", "-1", "0000-٣"])
async def test_a_restart_of_the_application_is_noticed(
    browse: Open, timeline: Any, given: str
) -> None:
    """A position of another run means nothing: the browser starts anew."""
    timeline.put(group_view(1))
    browser = browse(headers={"Last-Event-ID": given})
    assert await browser.numbers(1) == [1]
    assert "event: restart" in browser.text


async def test_a_position_of_the_future_is_now(browse: Open, timeline: Any, inspector: Any) -> None:
    """Nothing is awaited that may never come."""
    run, _, _ = inspector._streams.position().partition("-")
    browser = browse(f"from={run}-999999")
    await browser.opened()
    timeline.put(group_view(1))
    assert await browser.numbers(1) == [1]


async def test_filters_hold_for_the_stream(browse: Open, timeline: Any) -> None:
    """For all entries of a transaction, however many there are."""
    browser = browse("sender=Tag&after=1")
    await browser.opened()
    many = [entry_view() for _ in range(60)]
    timeline.put(group_view(1, entry_view(sender="Tag")), group_view(2))
    timeline.put(group_view(3, *many, entry_view(sender="Tag")))
    assert await browser.numbers(1) == [3]


async def test_what_is_too_much_is_left_off(browse: Open, timeline: Any) -> None:
    """The oldest changes are, and their number is said."""
    browser = browse()
    await browser.opened()
    timeline.put(*(group_view(number) for number in range(1, 1201)))
    numbers = await browser.numbers(50)
    assert numbers == list(range(1151, 1201))
    assert browser.data[0]["left_off"] == 1150


async def test_long_transactions_are_left_off_by_their_length(browse: Open, timeline: Any) -> None:
    """A message has no more than some 64 KB of HTML, whatever is in it."""
    browser = browse()
    await browser.opened()
    timeline.put(*(group_view(at, *(entry_view() for _ in range(50))) for at in range(1, 11)))
    await browser.numbers(1)
    (message,) = browser.data
    assert len(message["groups"]) + message["left_off"] == 10
    assert message["groups"][-1]["number"] == 10
    assert sum(len(each["html"]) for each in message["groups"]) < 2 * stream.BYTES


async def test_a_slow_browser_gets_one_message(browse: Open, timeline: Any) -> None:
    """For all that it has missed; meanwhile nothing is rendered and queued for it."""
    browser = browse()
    await browser.opened()
    browser.reads.clear()
    timeline.put(group_view(1))
    await asyncio.sleep(0.1)  # the message about this one can't be sent
    for number in range(2, 302):
        timeline.put(group_view(number))
        await asyncio.sleep(0)
    browser.reads.set()
    assert len(await browser.numbers(51)) == 51
    first, second = browser.data
    assert (len(first["groups"]), first["left_off"]) == (1, 0)
    assert (len(second["groups"]), second["left_off"]) == (50, 250)


async def test_a_slow_browser_is_no_matter_of_others(browse: Open, timeline: Any) -> None:
    """Each has a task of its own."""
    slow, quick = browse(), browse()
    await slow.opened()
    slow.reads.clear()
    for number in range(1, 6):
        timeline.put(group_view(number))
        await quick.numbers(number)


async def test_a_browser_that_reads_nothing_is_given_up(
    browse: Open, timeline: Any, monkeypatch
) -> None:
    """Its response is not completed, so that the server closes the connection."""
    monkeypatch.setattr(stream, "STUCK_SECONDS", 0.1)
    browser = browse()
    await browser.opened()
    browser.reads.clear()
    timeline.put(group_view(1))
    await asyncio.wait_for(browser.task, PATIENCE)
    assert all(each.get("more_body", True) for each in browser.messages)


async def test_a_quiet_stream_shows_that_it_lives(browse: Open, monkeypatch) -> None:
    """By a comment, for proxies that close what is silent."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    browser = browse()
    await browser.until(lambda: browser.text.count(": still here") >= 2)


async def test_it_ends_when_the_browser_leaves(browse: Open) -> None:
    """At once."""
    browser = browse()
    await browser.opened()
    browser.left.set()
    await asyncio.wait_for(browser.task, PATIENCE)


async def test_it_ends_when_the_inspector_is_closed(browse: Open, inspector: Any) -> None:
    """The response is complete then, and the next one is refused."""
    browser = browse()
    await browser.opened()
    inspector.close()
    await asyncio.wait_for(browser.task, PATIENCE)
    assert browser.messages[-1]["more_body"] is False
    late = browse()
    await late.task
    assert late.messages[0]["status"] == 503


async def test_it_does_not_live_for_ever(browse: Open, monkeypatch) -> None:
    """The browser opens the next one; so a server that stops waits no longer."""
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.05)
    browser = browse()
    await asyncio.wait_for(browser.task, PATIENCE)
    assert browser.messages[-1]["more_body"] is False


async def test_the_next_stream_goes_on_where_the_last_one_ended(
    browse: Open, timeline: Any, inspector: Any, monkeypatch
) -> None:
    """Also if nothing matched: what was looked at is not looked at again, nor counted."""
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.2)
    browser = browse("sender=Tag")
    await browser.opened()
    timeline.put(*(group_view(number) for number in range(1, 50)))
    await asyncio.wait_for(browser.task, PATIENCE)
    assert browser.data == []
    assert re.findall(r"(?m)^id: (.*)$", browser.text)[-1] == inspector._streams.position()


async def test_it_ends_when_the_server_stops(browse: Open, monkeypatch) -> None:
    """uvicorn's handler of signals is a method of a server that says so."""

    class Server:
        should_exit = False

        def handle_exit(self, *_: object) -> None: ...

    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        browser = browse()
        await browser.opened()
        server.should_exit = True
        await asyncio.wait_for(browser.task, PATIENCE)
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_only_so_many_may_be_open(browse: Open) -> None:
    """The next one is refused, until one has ended."""
    browsers = [browse() for _ in range(stream.STREAMS)]
    for each in browsers:
        await each.opened()
    refused = browse()
    await refused.task
    assert refused.messages[0]["status"] == 503
    browsers[0].left.set()
    await browsers[0].task
    await browse().opened()


async def test_asking_for_the_headers_opens_no_stream(browse: Open) -> None:
    """It ends at once."""
    browser = browse(method="HEAD")
    await asyncio.wait_for(browser.task, PATIENCE)
    assert browser.text == ""


async def test_what_is_known_elsewhere_is_looked_up(
    browse: Open, timeline: Any, inspector: Any, monkeypatch
) -> None:
    """While a stream is open, beside it: a database that does not answer stops no stream."""
    begun = asyncio.Event()

    async def refresh() -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(inspector._streams, "_refresh", refresh)
    browser = browse()
    await asyncio.wait_for(begun.wait(), PATIENCE)
    timeline.put(group_view(1))
    assert await browser.numbers(1) == [1]


async def test_browsers_share_what_is_rendered(
    browse: Open, timeline: Any, inspector: Any, monkeypatch
) -> None:
    """As long as they have the same filters."""
    rendered = []
    article = inspector._pages.article
    monkeypatch.setattr(
        inspector._pages, "article", lambda *given: rendered.append(1) or article(*given)
    )
    browsers = [browse(), browse(), browse("sender=Post")]
    for each in browsers:
        await each.opened()
    timeline.put(group_view(1))
    for each in browsers:
        await each.numbers(1)
    assert len(rendered) == 2


async def test_what_is_remembered_stays_small(browse: Open, timeline: Any, inspector: Any) -> None:
    """However long a stream is open."""
    browser = browse()
    await browser.opened()
    for number in range(1, 1000, 50):
        timeline.put(*(group_view(at) for at in range(number, number + 50)))
        await browser.numbers(number)
    assert len(inspector._streams._cache) <= 4 * stream.GROUPS


@pytest.mark.slow
def test_clients_that_never_read_slow_nobody(made: Any, timeline: Any, monkeypatch) -> None:
    """On a real server: pages are served meanwhile, and the clients are given up."""
    monkeypatch.setattr(stream, "STUCK_SECONDS", 1.0)
    inspector = made()
    with served(inspector) as address:
        port = int(address.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 60
        longest = 0.0
        has_opened = False
        while not has_opened or inspector._streams._open:
            assert time.monotonic() < deadline, "they are not given up"
            has_opened = has_opened or inspector._streams._open == 3
            # Large enough that they don't fit into the buffers of the system for long.
            timeline.put(*(group_view(at, *(entry_view() for _ in range(50))) for at in range(9)))
            begun = time.monotonic()
            with urllib.request.urlopen(f"{address}/login", timeout=10):
                longest = max(longest, time.monotonic() - begun)
            time.sleep(0.01)
        for client in clients:
            client.close()
    assert longest < 2.0


SERVER = """
    import sys
    import uvicorn
    from kit.timelines import FakeRecorder, FakeTimeline
    from aksara_signals.contrib.inspector import Inspector, inspector

    inspector.Recorder = lambda *options: FakeRecorder(FakeTimeline())
    uvicorn.run(Inspector(debug=True), port=int(sys.argv[1]), log_level="error")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are other ones there")
def test_uvicorn_stops_at_once(tmp_path: Path) -> None:
    """With a stream that is open, by the signal of Ctrl+C."""
    script = tmp_path / "serve.py"
    script.write_text(textwrap.dedent(SERVER))
    port = free_port()
    kit = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(kit), "PYTHONSAFEPATH": ""}
    process = subprocess.Popen([sys.executable, str(script), str(port)], env=environment)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                response = urllib.request.urlopen(f"http://localhost:{port}/stream", timeout=5)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        response.readline()
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(15)
        assert time.monotonic() - begun < 5
        response.close()
    finally:
        process.kill()


async def test_a_stream_is_opened_by_get_only(client: httpx.AsyncClient) -> None:
    """As all that only shows."""
    response = await client.post("/stream", headers={"Origin": "http://localhost"})
    assert response.status_code == 405
