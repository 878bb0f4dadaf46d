"""The live stream: server-sent events with the groups that have changed, rendered.

Nothing is queued for a browser. Each stream asks what has changed since it last asked, so a browser
that reads slowly gets one message for all that it has missed, and the number of groups left off.
"""

from __future__ import annotations

import json
import secrets
import signal
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from aksara_signals.contrib.inspector.filters import Filters, number_of
from aksara_signals.contrib.inspector.pages import Pages, root_of
from aksara_signals.contrib.inspector.reading import (
    Changed,
    Refresh,
    Timeline,
    entries_to_read,
    nothing_to_refresh,
)
from aksara_signals.contrib.inspector.views import GroupView

__all__ = ["Streams"]

TICK_SECONDS = 0.25
"""Between two messages."""

BUSY_SECONDS = 1.0
"""Between two messages while more is sent than can be shown: nobody could read it faster."""

GROUPS = 50
"""Groups of one message."""

BYTES = 64 * 1024
"""HTML of one message, about."""

HEARTBEAT_SECONDS = 15.0

STUCK_SECONDS = 30.0
"""A browser that takes nothing for so long is given up."""

LIFE_SECONDS = 20.0
"""A stream ends then, and the browser opens the next one, which goes on where it ended. A server
that stops lets open responses finish first; not every one says that it stops."""

STREAMS = 20
"""Streams that may be open at once."""


class Streams:
    """The open streams of one inspector.

    Args:
        timeline: What is shown.
        pages: What renders it.
        refresh: Called again and again while a stream is open.
    """

    def __init__(
        self, timeline: Timeline, pages: Pages, refresh: Refresh = nothing_to_refresh
    ) -> None:
        self._timeline: Timeline = timeline
        self._refresh: Refresh = refresh
        self._pages: Pages = pages
        self._open: int = 0
        self._is_closed: bool = False
        # Positions of another run of the application mean nothing in this one.
        self._run: str = secrets.token_hex(4)
        self._cache: dict[tuple[int, Filters, str], tuple[GroupView, str]] = {}

    def position(self) -> str:
        """Where a stream that begins now would start, for the ``from`` of its address."""
        return f"{self._run}-{self._timeline.position()}"

    def close(self) -> None:
        """End all streams, soon; may be called from any thread."""
        self._is_closed = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a stream."""
        if self._is_closed or self._open >= STREAMS:
            why = "the inspector is closed" if self._is_closed else "too many streams are open"
            await PlainTextResponse(why, 503, {"Retry-After": "10"})(scope, receive, send)
            return
        self._open += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
                tasks.start_soon(self._refresh_repeatedly)
                await self._answer(Request(scope), send)
                tasks.cancel_scope.cancel()
        finally:
            self._open -= 1

    async def _refresh_repeatedly(self) -> None:
        # In a task of its own: what it looks at may be slow, or not be there.
        while True:
            await self._refresh()
            await anyio.sleep(TICK_SECONDS)

    async def _answer(self, request: Request, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            if request.method != "HEAD":
                await self._push(request, send)
        except TimeoutError:
            return  # nobody reads: not even the end of the response would arrive
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _push(self, request: Request, send: Send) -> None:
        filters, root = Filters.of(request.query_params), root_of(request)
        given = request.headers.get("last-event-id") or request.query_params.get("from", "")
        position, is_restart = self._start(given)
        # The comment makes the browser call the stream open before anything is sent.
        first = f"event: restart\nid: {self._run}-{position}\ndata: {{}}\n\n" if is_restart else ""
        await _send_text(send, f"retry: 300\n: open\n\n{first}")
        begun = last = anyio.current_time()
        while not (self._is_closed or _is_server_stopping()):
            changed = self._timeline.changed_since(position, GROUPS, entries_to_read(filters))
            message = self._message(changed, filters, root)
            now = anyio.current_time()
            identity = f"id: {self._run}-{changed.position}\n"
            if message is not None:
                await _send_text(send, f"{identity}data: {json.dumps(message)}\n\n")
                last = now
            is_over = now - begun >= LIFE_SECONDS
            if message is None and (is_over or now - last >= HEARTBEAT_SECONDS):
                # Without data it is no message, but the browser goes on there when it comes again.
                await _send_text(send, f": still here\n{identity}\n")
                last = now
            position = changed.position
            if is_over:
                return
            is_busy = message is not None and message["left_off"]
            await anyio.sleep(BUSY_SECONDS if is_busy else TICK_SECONDS)

    def _start(self, given: str) -> tuple[int, bool]:
        """Where a stream starts, and whether the browser shows what another run has sent."""
        now = self._timeline.position()
        run, _, text = given.partition("-")
        if not given:
            return now, False
        position = number_of(text)
        if run == self._run and position is not None:
            return min(position, now), False
        return 0, True

    def _message(self, changed: Changed, filters: Filters, root: str) -> dict[str, Any] | None:
        """What a browser is sent; None if it has nothing to show."""
        rendered: list[dict[str, Any]] = []
        left_off, size = changed.left_off, 0
        # The newest first: it is the oldest that are left off.
        for group in reversed(changed.groups):
            if size >= BYTES:
                left_off += 1
                continue
            html = self._html(group, filters, root)
            if html is not None:
                size += len(html)
                rendered.append({"number": group.number, "html": html})
        if not rendered and not left_off:
            return None
        return {"groups": rendered[::-1], "left_off": left_off}

    def _html(self, group: GroupView, filters: Filters, root: str) -> str | None:
        key = group.number, filters, root
        known = self._cache.get(key)
        if known is not None and known[0] == group:
            return known[1] or None
        found = filters.apply(group)
        html = "" if found is None else str(self._pages.article(found, root))
        if len(self._cache) >= GROUPS * 4:
            self._cache.clear()
        self._cache[key] = group, html
        return html or None


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send_text(send: Send, text: str) -> None:
    with anyio.fail_after(STUCK_SECONDS):
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _is_server_stopping() -> bool:
    """Whether uvicorn has got the signal to stop; it then waits until all responses are complete.

    It says so to applications only after that. But what handles the signal is a method of the
    server, which has an attribute for it.
    """
    handlers = (signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM))
    servers = (getattr(each, "__self__", None) for each in handlers)
    return any(getattr(each, "should_exit", False) is True for each in servers)
