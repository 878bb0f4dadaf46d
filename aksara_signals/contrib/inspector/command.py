"""What ``aksara-signals inspect`` does: serve an application with the inspector beside it."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from aksara_signals.contrib.inspector.inspector import Inspector
from aksara_signals.contrib.inspector.options import LOCAL_HOSTS
from aksara_signals.contrib.inspector.serving import (
    Server,
    address_of,
    listen,
    require_protection,
)
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.exceptions import InspectorError, InvalidOptionError
from aksara_signals.introspection.load import find, importing, load

__all__ = ["TOKEN_VARIABLE", "run"]

TOKEN_VARIABLE = "AKSARA_SIGNALS_TOKEN"  # noqa: S105 - a name
"""The environment variable that may hold the token. No argument does: others could read it in the
list of processes."""

GRACE_SECONDS = 2
"""How long the application's responses may go on after Ctrl-C."""

_UNSPECIFIED = frozenset(("", "0.0.0.0", "::"))  # noqa: S104 - they are recognised, not used


def run(options: argparse.Namespace) -> int:
    """Serve an application and the inspector, until Ctrl-C.

    Args:
        options: The arguments of the command.

    Returns:
        The exit status.

    Raises:
        AksaraSignalsError: They can't be served.
        LoadError: The application, its outbox or its sessions can't be loaded.
    """
    with suppress(KeyboardInterrupt):
        _serve(options)
    return 0


def _serve(options: argparse.Namespace) -> None:
    token = _token(options.token_file)
    require_protection(options.host, token is not None)
    path = _path(options.path)
    # What the application imports later is in its folder, too.
    with importing(), load([], options.app) as application:
        _require_asgi(application, options.app)
        outbox = sessions = None
        if options.outbox is not None and options.sessions is not None:
            outbox = find(options.outbox, "--outbox")
            sessions = find(options.sessions, "--sessions")
        elif options.outbox is not None or options.sessions is not None:
            raise InvalidOptionError(
                "--outbox and --sessions belong with each other: the rows of an outbox are read "
                "with its application's sessions; give both, or neither"
            )
        with (
            listen(options.host, options.port) as listener,
            Inspector(
                debug=token is None,
                token=token,
                allowed_hosts=_hosts(options),
                show=options.show,
                show_errors=options.show_errors,
                actions=options.actions,
                outbox=outbox,
                sessions=sessions,
            ) as inspector,
        ):
            address = address_of(options.host, listener, f"{path}/")
            server = Server(
                beside(application, inspector, path),
                lambda: print(f"inspector: {address}", flush=True),  # noqa: T201
                grace_seconds=GRACE_SECONDS,
            )
            try:
                server.run([listener])  # stops at Ctrl-C, and then raises KeyboardInterrupt
            except SystemExit as error:
                raise InspectorError(
                    f"the application {options.app} did not start; its error stands above"
                ) from error


def beside(application: ASGIApp, inspector: ASGIApp, path: str) -> ASGIApp:
    """An application that gives what is below a path to the inspector, and all else to another.

    Args:
        application: It gets the lifespan.
        inspector: It gets what is below ``path``.
        path: Without a slash at its end.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope.get("path", "")
        if wanted == path or wanted.startswith(f"{path}/"):
            scope = {**scope, "root_path": scope.get("root_path", "") + path}
            await inspector(scope, receive, send)
        else:
            await application(scope, receive, send)

    return answer


def _token(file: Path | None) -> str | None:
    """The token of a file, or of the environment."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InspectorError(f"could not read --token-file {file}: {reason}") from error


def _path(given: str) -> str:
    path = given.rstrip("/")
    if not path.startswith("/") or path.startswith("//") or any(each in path for each in "?#% "):
        raise InvalidOptionError(
            f"--path {given} is not where the inspector can be: write a path below that of the "
            f"application, such as /signals"
        )
    return path


def _hosts(options: argparse.Namespace) -> list[str]:
    own = [] if options.host in _UNSPECIFIED else [options.host]
    return [*LOCAL_HOSTS, *own, *options.allowed_host]


def _require_asgi(application: Any, path: str) -> None:
    if not _is_asgi(application):
        raise InspectorError(
            f"--app {path} is not an ASGI application, but {_described(application)}; a Flask "
            f"application, and any other that runs under WSGI, has the inspector on a port of its "
            f"own: Inspector(debug=True).in_thread()"
        )


def _is_asgi(application: Any) -> bool:
    """Whether a thing takes ``scope, receive, send``; WSGI has two arguments."""
    if not callable(application) or isinstance(application, type):
        return False
    called: Callable[..., Any] = application
    try:
        inspect.signature(called).bind({}, None, None)
    except TypeError:
        return False
    except ValueError:  # its signature can't be read
        return True
    return True


def _described(application: Any) -> str:
    if isinstance(application, type):
        return f"the class {application.__qualname__}"
    return f"an object of {type_name(application)}"
