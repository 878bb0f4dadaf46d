"""``aksara-signals inspect`` within this process; ``test_cli.py`` runs it in one of its own."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import httpx
import pytest

from aksara_signals.contrib.inspector import command

APPLICATION = """
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["type"], scope.get("path"), scope.get("root_path")))
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"of the application"})

    def wsgi(environ, start_response):
        raise AssertionError

    class Settings:
        pass

    class Configured:
        def __init__(self, url):
            raise AssertionError
"""


@pytest.fixture
def exchange(monkeypatch):
    """Lets the server answer requests of ``requests`` instead of listening, and end by Ctrl-C."""
    requests: list[httpx.Request] = []
    responses: list[httpx.Response] = []

    def run(server, sockets):
        async def answer():
            transport = httpx.ASGITransport(server.config.app)
            async with httpx.AsyncClient(transport=transport) as client:
                for request in requests:
                    responses.append(await client.send(request))

        server._on_start()
        asyncio.run(answer())
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Server, "run", run)

    def make(*addresses: str):
        requests.extend(httpx.Request("GET", each) for each in addresses)
        return responses

    return make


def test_the_application_and_the_inspector_share_a_port(project, exchange) -> None:
    """What is below the path is the inspector's, all else is the application's."""
    project.write("shared_app", APPLICATION)
    responses = exchange(
        "http://localhost/",
        "http://localhost/seen/",
        "http://localhost/seen",
        "http://localhost/seen/receivers",
        "http://localhost/seenjust",
    )
    status, out, err = project.run(
        "inspect", "--app", "shared_app:app", "--path", "/seen/", "--port", "0"
    )
    assert (status, err) == (0, "")
    assert out.startswith("inspector: http://127.0.0.1:")
    assert out.endswith("/seen/\n")
    assert [each.status_code for each in responses] == [201, 200, 307, 200, 201]
    assert '"/seen/static/inspector.css"' in responses[1].text


@pytest.mark.parametrize(
    ("arguments", "host", "status"),
    [
        ([], "localhost", 200),
        ([], "dev.example", 400),
        (["--allowed-host", "dev.example"], "dev.example", 200),
    ],
)
def test_further_hosts_are_named(project, exchange, arguments, host, status) -> None:
    """The inspector answers to no other name than those of this machine and those that are given."""
    project.write("hosted_app", APPLICATION)
    responses = exchange(f"http://{host}/signals/")
    project.run("inspect", "--app", "hosted_app:app", "--port", "0", *arguments)
    assert [each.status_code for each in responses] == [status]


@pytest.mark.parametrize("place", ["file", "environment"])
def test_the_token_is_never_an_argument(project, exchange, monkeypatch, place) -> None:
    """It comes from a file or the environment; then other machines may be served."""
    project.write("guarded_app", APPLICATION)
    arguments = []
    if place == "file":
        (project.folder / "token").write_text("a long enough token\n")
        arguments = ["--token-file", "token"]
    else:
        monkeypatch.setenv(command.TOKEN_VARIABLE, "a long enough token")
    responses = exchange("http://localhost/signals/")
    status, out, _ = project.run(
        "inspect", "--app", "guarded_app:app", "--host", "0.0.0.0", "--port", "0", *arguments
    )
    assert status == 0
    assert "token" not in out
    assert responses[0].headers["location"] == "/signals/login"


def test_an_outbox_is_shown(project, exchange) -> None:
    """With the sessions of its database."""
    project.write(
        "outbox_app",
        APPLICATION
        + """
    from sqlalchemy import MetaData, create_engine
    from sqlalchemy.orm import sessionmaker
    from sqlalchemy.pool import StaticPool
    from aksara_signals.contrib.outbox import Outbox

    metadata = MetaData()
    outbox = Outbox(metadata)
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    metadata.create_all(engine)
    Sessions = sessionmaker(engine)
    """,
    )
    responses = exchange("http://localhost/signals/outbox")
    status, _, err = project.run(
        "inspect", "--app", "outbox_app:app", "--port", "0",
        "--outbox", "outbox_app:outbox", "--sessions", "outbox_app:Sessions",
    )  # fmt: skip
    sys.modules["outbox_app"].engine.dispose()
    assert (status, err) == (0, "")
    assert "The outbox is empty" in responses[0].text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["--app", "wrong_app:wsgi"],
            "not an ASGI application, but an object of function; a Flask",
        ),
        (["--app", "wrong_app:wsgi"], "Inspector(debug=True).in_thread()"),
        (["--app", "wrong_app:Settings"], "not an ASGI application, but an object of"),
        (["--app", "wrong_app:Configured"], "not an ASGI application, but the class Configured"),
        (["--app", "wrong_app:seen"], "not an ASGI application, but an object of list"),
        (["--app", "wrong_app:missing"], "has no attribute missing"),
        (["--app", "wrong_app:app", "--path", "/"], "--path / is not where the inspector can be"),
        (["--app", "wrong_app:app", "--path", "signals"], "--path signals is not where"),
        (["--app", "wrong_app:app", "--port", "70000"], "on port 70000"),
        (["--app", "wrong_app:app", "--host", "0.0.0.0"], "without a token"),
        (
            ["--app", "wrong_app:app", "--token-file", "none"],
            "could not read --token-file none: No",
        ),
        (["--app", "wrong_app:app", "--token-file", "latin"], "latin: it is not UTF-8"),
        (["--app", "wrong_app:app", "--token-file", "empty"], "protects nothing"),
        (["--app", "wrong_app:app", "--outbox", "wrong_app:x"], "--outbox and --sessions"),
        (["--app", "wrong_app:app", "--sessions", "wrong_app:x"], "--outbox and --sessions"),
        (
            ["--app", "wrong_app:app", "--outbox", "wrong_app:seen", "--sessions", "wrong_app:app"],
            "give an Outbox",
        ),
    ],
)
def test_what_cannot_be_served_is_a_line(project, exchange, arguments, why) -> None:
    """With the status 2; nothing is served."""
    project.write("wrong_app", APPLICATION)
    (project.folder / "latin").write_bytes(b"\xff" * 20)
    (project.folder / "empty").write_text("\n")
    responses = exchange("http://localhost/")
    status, out, err = project.run("inspect", "--port", "0", *arguments)
    assert (status, out, responses) == (2, "", [])
    [line] = err.splitlines()
    assert why in line


def test_an_application_that_does_not_start_is_an_error(project, caplog) -> None:
    """Its own error is logged, and the status is 2."""
    project.write(
        "unstarted_app",
        """
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
        """,
    )
    status, out, err = project.run("inspect", "--app", "unstarted_app:app", "--port", "0")
    assert (status, out) == (2, "")
    assert "no database" in caplog.text
    assert "aksara-signals: the application unstarted_app:app did not start" in err


def test_a_traceback_is_shown_on_request(project) -> None:
    """That of the module that can't be imported."""
    project.write("broken_app", "x = 1 / 0")
    status, _, err = project.run("inspect", "--app", "broken_app:app", "--traceback")
    assert status == 2
    assert "Traceback" in err


def test_what_cannot_say_what_it_takes_is_served() -> None:
    """As may be the case with compiled applications."""
    assert command._is_asgi(partial(dict))
