"""The inspector on a port of its own, which a thread serves: for Flask, scripts and notebooks.

uvicorn serves it. Its logging is left as the application has set it up: both may use uvicorn.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.ext.asyncio import async_sessionmaker
from starlette.types import ASGIApp

from aksara_signals.exceptions import InspectorError, InvalidOptionError

if TYPE_CHECKING:
    from uvicorn.config import LifespanType, WSProtocolType

try:
    import uvicorn
except ImportError as _error:
    raise ImportError(
        "serving the inspector on a port of its own needs uvicorn: "
        "pip install 'aksara-signals[inspector]'"
    ) from _error

__all__ = ["InspectorThread", "Server", "address_of", "listen", "require_protection"]

GRACE_SECONDS = 1
"""How long responses may go on when the server stops. A stream ends sooner, if it is read."""

JOIN_SECONDS = 2.0
"""How long :meth:`InspectorThread.stop` waits for the thread at most."""

HIGHEST_PORT = 65_535


class InspectorThread:
    """An inspector that a thread serves, until :meth:`stop` or the end of a ``with`` block.

    Args:
        inspector: What is served.
        close: Ends its streams, and what it records.
        host: The address to listen on.
        port: The port; 0: any free one.

    Raises:
        InspectorError: Nobody can listen there, as when the port is in use.
    """

    def __init__(
        self, inspector: ASGIApp, close: Callable[[], object], host: str, port: int
    ) -> None:
        listener = listen(host, port)
        self.address: str = address_of(host, listener)
        """Where to open it: ``http://127.0.0.1:8765/``."""
        self._close: Callable[[], object] = close
        is_ready = threading.Event()
        self._server: Server = Server(
            inspector, is_ready.set, grace_seconds=GRACE_SECONDS, lifespan="off", ws="none"
        )

        def serve() -> None:
            try:
                self._server.run([listener])
            finally:
                listener.close()
                is_ready.set()  # a server that can't start must not block the caller

        # A daemon: a script that forgets it ends nevertheless.
        self._thread: threading.Thread = threading.Thread(
            target=serve, name="aksara-signals inspector", daemon=True
        )
        self._thread.start()
        is_ready.wait()
        if not self._server.started:
            close()
            raise InspectorError(
                f"the inspector could not be served at {self.address}: its thread has ended with "
                f"the error that was printed above"
            )

    def stop(self) -> None:
        """Stop serving, and recording, within two seconds. A second call does nothing."""
        self._close()  # which ends its streams
        self._server.should_exit = True
        self._thread.join(JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class Server(uvicorn.Server):
    """uvicorn, which says when it has started, and leaves all loggers alone.

    Args:
        app: What is served.
        on_start: Called when requests are answered.
        grace_seconds: How long responses may go on when it stops.
        lifespan: uvicorn's: whether the application is started and stopped.
        ws: uvicorn's: what serves websockets.
    """

    def __init__(
        self,
        app: ASGIApp,
        on_start: Callable[[], object],
        *,
        grace_seconds: int,
        lifespan: LifespanType = "auto",
        ws: WSProtocolType = "auto",
    ) -> None:
        super().__init__(
            _Config(
                app,
                interface="asgi3",
                lifespan=lifespan,
                ws=ws,
                timeout_graceful_shutdown=grace_seconds,
            )
        )
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._on_start()


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Leave it: uvicorn's loggers are global, and the application's server has them too.

        Where nobody has set them up, warnings and errors go to standard error.
        """


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Args:
        host: A name or an IP address.
        port: The port; 0: any free one.

    Raises:
        InspectorError: Nobody can listen there.
        InvalidOptionError: The port is not one.
    """
    given: Any = port
    if not isinstance(given, int) or not 0 <= given <= HIGHEST_PORT:
        raise InvalidOptionError(
            f"the inspector can't be served on port {port!r}; give a number from 1 to "
            f"{HIGHEST_PORT}, or 0 for any free port"
        )
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except (OSError, UnicodeError) as error:  # the latter for what can't be a name of a host
        reason = getattr(error, "strerror", None) or error
        raise InspectorError(
            f"the inspector can't be served at {_with_port(host, port)}: {reason}; choose "
            f"an address of this machine and another port, or port 0 for any free one. Under a "
            f"server that reloads or has several processes, start it in one of them only"
        ) from error


def address_of(host: str, listener: socket.socket, path: str = "/") -> str:
    """Where a browser on this machine opens what is served.

    Args:
        host: What was asked for.
        listener: What listens there.
        path: The path.
    """
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    port: int = listener.getsockname()[1]
    return f"http://{_with_port(shown, port)}{path}"


def require_protection(host: str, has_token: bool) -> None:
    """Refuse to serve an inspector to other machines if no token is needed.

    Raises:
        InvalidOptionError: That is so.
    """
    if not has_token and not _is_loopback(host):
        raise InvalidOptionError(
            f"an inspector without a token can't be served at {host or 'all addresses'}, where "
            f"other machines reach it; serve it at 127.0.0.1, or give it a token"
        )


def require_own_loop(sessions: object) -> None:
    """Refuse sessions that belong to another event loop than that of the thread.

    Raises:
        InvalidOptionError: They are async.
    """
    if isinstance(sessions, async_sessionmaker):
        raise InvalidOptionError(
            "an inspector that a thread serves can't use the application's async sessions, whose "
            "connections belong to the application's event loop; give sessions= a plain "
            "sessionmaker on the same database, or mount the inspector"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
