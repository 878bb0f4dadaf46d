"""An inspector that a thread serves: real servers, real requests."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker

from aksara_signals import InspectorError, Signal
from aksara_signals.contrib.inspector import Inspector, serving
from aksara_signals.dispatch.delivery import tracing
from aksara_signals.exceptions import InvalidOptionError

TOKEN = "a long enough token"


@pytest.fixture
def served() -> Iterator[serving.InspectorThread]:
    """An inspector on a free port."""
    with Inspector(debug=True).in_thread(port=0) as served:
        yield served


def sent_to(address: str) -> list[str]:
    """The signals that an inspector has recorded."""
    groups = httpx.get(f"{address}export.json").json()["groups"]
    return [entry["signal"] for group in groups for entry in group["entries"]]


def open_stream(address: str) -> tuple[threading.Thread, list[str]]:
    """Read a stream in a thread of its own; what it has read is in the list."""
    lines: list[str] = []
    is_open = threading.Event()

    def read() -> None:
        with httpx.stream("GET", f"{address}stream", timeout=30) as response:
            for line in response.iter_lines():
                lines.append(line)
                is_open.set()
        lines.append("the end")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert is_open.wait(10)
    return reader, lines


def test_it_is_ready_when_it_returns(served) -> None:
    """The first request to its address is answered."""
    response = httpx.get(served.address)
    assert response.status_code == 200
    assert "<title>" in response.text
    assert served.address.startswith("http://127.0.0.1:")


def test_what_is_sent_in_other_threads_is_shown(served) -> None:
    """It shows what the process sends, and not only what its own thread does."""
    paid = Signal("paid")
    paid.connect(lambda **kwargs: None)
    paid.send_sync("shop")
    assert sent_to(served.address) == ["paid"]


def test_stopping_ends_streams_and_recording(served) -> None:
    """Within two seconds, and with the end of the response; the port is free again."""
    reader, lines = open_stream(served.address)
    start = time.monotonic()
    served.stop()
    assert time.monotonic() - start < 2
    reader.join(2)
    assert lines[-1] == "the end"
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.address)
    port = int(served.address.rstrip("/").rpartition(":")[2])
    with Inspector(debug=True).in_thread(port=port) as again:
        assert again.address == served.address
    served.stop()  # nothing is left to do
    assert not served._thread.is_alive()


def test_a_response_without_end_does_not_delay_the_stop(caplog) -> None:
    """Such as one that a browser doesn't read: it is cancelled."""
    has_begun = threading.Event()

    async def endless(scope, receive, send):
        has_begun.set()
        while True:
            await receive()

    served = serving.InspectorThread(endless, lambda: None, "127.0.0.1", 0)
    port = int(served.address.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert has_begun.wait(10)
        start = time.monotonic()
        served.stop()
        assert time.monotonic() - start < 2
    assert not served._thread.is_alive()


def test_a_port_in_use_is_named_with_the_way_out(served) -> None:
    """The error says where, why, and what to do."""
    port = int(served.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(InspectorError) as caught, Inspector(debug=True) as inspector:
        inspector.in_thread(port=port)
    message = str(caught.value)
    assert f"127.0.0.1:{port}: Address already in use" in message
    assert "port 0 for any free one" in message
    assert "AKS-601" in message


@pytest.mark.parametrize("port", [-1, 65_536, "8765", None])
def test_a_port_that_is_none_is_refused(port) -> None:
    """Before anything listens."""
    with (
        Inspector(debug=True) as inspector,
        pytest.raises(InvalidOptionError, match=r"on port .* from 1 to 65535"),
    ):
        inspector.in_thread(port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 70])
def test_an_address_that_is_not_this_machines_is_refused(host) -> None:
    """Nobody can listen on it: on one of the networks for documentation, or on no name at all."""
    with (
        Inspector(token=TOKEN) as inspector,
        pytest.raises(InspectorError, match=rf"{host}:0: .* an address of this machine"),
    ):
        inspector.in_thread(host, 0)


def test_two_at_once_keep_apart(served) -> None:
    """Each has its own port, and one goes on when the other has stopped."""
    with Inspector(debug=True).in_thread(port=0) as other:
        assert other.address != served.address
        assert httpx.get(other.address).status_code == 200
    assert httpx.get(served.address).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "dev.example"])
def test_other_machines_need_a_token(host) -> None:
    """Without one, it is only served to this machine."""
    with (
        Inspector(debug=True) as inspector,
        pytest.raises(InvalidOptionError, match="without a token can't be served at"),
    ):
        inspector.in_thread(host, 0)


def test_with_a_token_other_machines_are_served() -> None:
    """The address that it names is one for a browser on this machine."""
    with Inspector(token=TOKEN).in_thread("0.0.0.0", 0) as served:
        assert served.address.startswith("http://127.0.0.1:")
        response = httpx.get(served.address)
    assert (response.status_code, response.headers["location"]) == (303, "/login")


def test_an_ipv6_address_is_written_in_brackets(served) -> None:
    """As browsers want it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert serving.address_of("::", listener, "/signals/") == f"http://[::1]:{port}/signals/"


def test_the_process_stays_as_it_was() -> None:
    """No signal handler and no logger is changed: both are the application's."""

    def state() -> list[object]:
        names = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
        loggers = [logging.getLogger(name) for name in names]
        return [
            *(signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)),
            *((each.level, each.propagate, list(each.handlers)) for each in loggers),
        ]

    before = state()
    with Inspector(debug=True).in_thread(port=0) as served:
        httpx.get(served.address)
        assert state() == before
    assert state() == before


def test_a_server_that_ends_at_once_is_an_error(monkeypatch) -> None:
    """The caller doesn't wait for it, and nothing is recorded any more."""
    monkeypatch.setattr(serving.Server, "run", lambda self, sockets: None)
    inspector = Inspector(debug=True)
    with pytest.raises(InspectorError, match="its thread has ended"):
        inspector.in_thread(port=0)
    assert not inspector._recorder._is_recording


def test_uvicorn_is_named_if_it_is_missing(monkeypatch) -> None:
    """What mounts the inspector doesn't need it; a thread does."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, serving.__name__)
    with (
        Inspector(debug=True) as inspector,
        pytest.raises(ImportError, match=r"uvicorn: pip install 'aksara-signals\[inspector\]'"),
    ):
        inspector.in_thread(port=0)


def test_what_cannot_be_served_records_nothing() -> None:
    """Nobody else could close it: in_thread() returns nothing then."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InspectorError):
        Inspector(debug=True).in_thread(port=taken.getsockname()[1])
    with pytest.raises(InvalidOptionError, match="without a token"):
        Inspector(debug=True).in_thread(host="0.0.0.0")
    assert tracing.hooks == []


def test_async_sessions_are_refused() -> None:
    """Their connections belong to the event loop of the application."""
    with pytest.raises(InvalidOptionError, match="plain sessionmaker"):
        Inspector(debug=True, sessions=async_sessionmaker()).in_thread(port=0)
    assert tracing.hooks == []
