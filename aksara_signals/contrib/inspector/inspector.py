"""The inspector as an ASGI application, which is mounted anywhere, or stands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from aksara_signals.contrib.inspector.guard import Guard, is_cross_site, with_headers
from aksara_signals.contrib.inspector.options import LOCAL_HOSTS, Options
from aksara_signals.contrib.inspector.outbox_pages import OutboxPages
from aksara_signals.contrib.inspector.pages import Pages, root_of
from aksara_signals.contrib.inspector.recorder import Recorder
from aksara_signals.contrib.inspector.routes import Routes
from aksara_signals.contrib.inspector.store import Store
from aksara_signals.contrib.inspector.stored import StoredStates
from aksara_signals.contrib.inspector.stream import Streams
from aksara_signals.contrib.inspector.token_pages import TokenPages
from aksara_signals.contrib.outbox import Outbox

if TYPE_CHECKING:
    from aksara_signals.contrib.inspector.serving import InspectorThread

__all__ = ["Inspector"]

_OPEN = ("/login", "/static/")
"""Paths that are shown without the token."""


class Inspector:
    """A page that shows live what is sent, who receives it, and how it ends.

    It records from its construction until :meth:`close`, in this process only.

    Args:
        debug: This is a developer's machine: no token is needed.
        token: A secret that nobody can guess, which is entered in a form before anything is
            shown.
        allowed_hosts: The names and addresses under which the inspector may be opened.
        show: The names of attributes whose values are shown; of all others only names are.
        show_errors: Whether texts of exceptions are shown, which may hold values of rows.
        actions: Whether dead rows of the outbox can be queued again from its page.
        outbox: The outbox whose rows are shown.
        sessions: What makes sessions for it: an ``async_sessionmaker`` or a ``sessionmaker``.

    Raises:
        InvalidOptionError: There is neither ``debug=True`` nor a token, or an option is of the
            wrong kind.
    """

    def __init__(
        self,
        *,
        debug: bool = False,
        token: str | None = None,
        allowed_hosts: Iterable[str] = LOCAL_HOSTS,
        show: Iterable[str] = (),
        show_errors: bool = False,
        actions: bool = False,
        outbox: Outbox | None = None,
        sessions: Callable[[], Any] | None = None,
    ) -> None:
        options = Options(
            debug=debug,
            token=token,
            allowed_hosts=allowed_hosts,
            show=show,
            show_errors=show_errors,
            actions=actions,
            outbox=outbox,
            sessions=sessions,
        )
        self._sessions: Any = sessions
        self._guard: Guard = Guard(options.allowed_hosts, options.token)
        self._recorder: Recorder = Recorder(tuple(options.show), options.show_errors)
        self._pages: Pages = Pages()
        store = None
        if options.outbox is not None and options.sessions is not None:
            store = Store(options.outbox, options.sessions)
        timeline = self._recorder.timeline
        stored = StoredStates(timeline, store)
        self._streams: Streams = Streams(timeline, self._pages, stored.refresh)
        rooms = (
            Routes(timeline, self._pages, self._streams, self._guard, stored.refresh),
            OutboxPages(options, self._pages, store),
            TokenPages(self._guard, self._pages),
        )
        self._app: Starlette = Starlette(
            routes=[route for room in rooms for route in room.routes()],
            exception_handlers={HTTPException: self._problem},
        )
        self._recorder.start()

    def close(self) -> None:
        """Stop recording, and end the streams of all browsers."""
        self._recorder.stop()
        self._streams.close()

    def in_thread(self, host: str = "127.0.0.1", port: int = 8765) -> InspectorThread:
        """Serve it on a port of its own, by a thread: for Flask, and for scripts.

        It is ready when this returns, and goes on until ``stop()``, which is called at the end of a
        ``with`` block, or until the process ends.

        Args:
            host: The address to listen on; another one than this machine's own needs a token.
            port: The port; 0: any free one, which is in ``address``.

        Raises:
            ImportError: uvicorn is not installed.
            InspectorError: The port is in use, or nobody can listen there.
            InvalidOptionError: Other machines could reach it, and it has no token; or the sessions
                of its outbox are async, and belong to the event loop of the application.
        """
        # What mounts the inspector needs no uvicorn.
        from aksara_signals.contrib.inspector.serving import (
            InspectorThread,
            require_own_loop,
            require_protection,
        )

        try:
            require_protection(host, self._guard.needs_token)
            require_own_loop(self._sessions)
            return InspectorThread(self, self.close, host, port)
        except BaseException:
            self.close()  # nobody else could
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or, as an application of its own, start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            scope = _with_root(scope)
            answer = self._refusal(Request(scope)) or self._app
            await answer(scope, receive, with_headers(send))
        else:  # a websocket, which no page opens
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that gets no further."""
        problem = self._guard.host_problem(request)
        if problem is not None:
            return PlainTextResponse(problem, 400)
        if request.method not in ("GET", "HEAD") and not self._guard.is_same_origin(request):
            return PlainTextResponse("this form was not sent by a page of the inspector", 403)
        root = root_of(request)
        path = request.scope["path"].removeprefix(request.scope["root_path"])
        if path in ("/stream", "/export.json") and is_cross_site(request):
            return PlainTextResponse("no page of another site may read this", 403)
        if not path:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{root}/{query}", 307)
        if path.startswith(_OPEN) or self._guard.is_admitted(request):
            return None
        if path in ("/stream", "/export.json") or path.endswith(".json"):
            return PlainTextResponse("enter the token first, on the page", 401)
        return RedirectResponse(f"{root}/login", 303)

    async def _problem(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        text = error.detail if isinstance(error, HTTPException) else ""
        return self._pages.page(
            request,
            "problem.html",
            status=status,
            title="Not found" if status == 404 else "This did not work",
            text="There is no such page." if text == "Not Found" else text,
            needs_token=self._guard.needs_token,
        )

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.close()
        await send({"type": "lifespan.shutdown.complete"})


def _with_root(scope: Scope) -> Scope:
    """The scope of a request, with all of its path, and where in it the inspector begins.

    Starlette and FastAPI name what they have mounted the inspector under in ``root_path``, which
    ``path`` starts with. Litestar cuts it off the path, and adds a slash to the end of the rest;
    only the raw path has it all. An older version of ASGI had ``root_path`` besides ``path``.
    """
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    full = unquote(scope.get("raw_path", b"").decode("latin-1")) or path
    rest = path.rstrip("/")
    if full != path and full.rstrip("/").endswith(rest):
        prefix = full.rstrip("/").removesuffix(rest)
        root = prefix if prefix.startswith(root) else root + prefix
        path = root + (rest or "/")
    elif path != root and not path.startswith(f"{root}/"):
        path = root + path
    return {**scope, "root_path": root, "path": path}
