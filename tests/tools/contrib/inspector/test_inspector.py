"""The inspector as an application: its options, its headers, and where it is mounted."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from kit.timelines import group_view
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount

from aksara_signals.contrib import inspector as package
from aksara_signals.contrib.inspector import Inspector
from aksara_signals.contrib.inspector.guard import HEADERS
from aksara_signals.exceptions import InvalidOptionError

TOKEN = "a long enough token"


def test_nothing_is_shown_without_protection(made) -> None:
    """An inspector with neither debug=True nor a token is not made; the error says the ways out."""
    with pytest.raises(InvalidOptionError, match=r"debug=True .* token="):
        made(debug=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"debug": "yes"}, "debug='yes'; give True or False"),
        ({"debug": 1}, "debug=1"),
        ({"actions": None}, "actions=None"),
        ({"show_errors": "no"}, "show_errors='no'"),
        ({"token": ""}, "protects nothing"),
        ({"token": "        "}, "protects nothing"),
        ({"token": b"12345678"}, "must be a text"),
        ({"allowed_hosts": "localhost"}, "give a list of host names"),
        ({"allowed_hosts": ["*"]}, "name each host"),
        ({"allowed_hosts": ["localhost:80"]}, "it takes no pattern, port"),
        ({"allowed_hosts": [".example.org"]}, "it takes no pattern, port"),
        ({"allowed_hosts": []}, "at least one host name"),
        ({"allowed_hosts": 5}, "allowed_hosts=5"),
        ({"show": "slug"}, "show='slug'; give a list of names"),
        ({"show": [1]}, "give a list of names"),
        ({"outbox": "outbox"}, "give an Outbox"),
        ({"sessions": 7}, "sessions=7"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(made, options: dict[str, Any], message: str) -> None:
    """Each with an error that says which, and what to give."""
    with pytest.raises(InvalidOptionError, match=re.escape(message)):
        made(**options)


def test_a_bad_token_is_not_in_the_error(made) -> None:
    """It might be most of the real one."""
    with pytest.raises(InvalidOptionError) as raised:
        made(token=b"secret")
    assert "secret;" not in str(raised.value).replace("import secrets;", "")


def test_it_records_until_it_is_closed(made) -> None:
    """From its construction to close(), or the end of its with block."""
    with made() as inspector:
        assert inspector._recorder.is_recording
    assert not inspector._recorder.is_recording


async def test_alone_it_ends_with_its_server(made) -> None:
    """As an application of its own it takes part in the lifespan of the server."""
    inspector = made()
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await inspector({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not inspector._recorder.is_recording


async def test_websockets_are_refused(made) -> None:
    """No page of it opens one."""
    sent = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await made()({"type": "websocket", "path": "/stream"}, receive, send)
    assert sent == ["websocket.close"]


@pytest.mark.parametrize(
    "path",
    ["/", "/receivers", "/nothing", "/transactions/1", "/transactions/99", "/static/inspector.css",
     "/static/../views.py", "/export.json", "/login", "/transactions/1.json"],
)  # fmt: skip
async def test_every_response_has_the_headers(client, timeline, path: str) -> None:
    """Also those about errors."""
    timeline.put(group_view(1))
    response = await client.get(path)
    for name, value in HEADERS.items():
        assert response.headers.get_list(name) == [value]


async def test_refusals_have_the_headers_as_well(client) -> None:
    """Those of a foreign host, of a foreign form and of a wrong method."""
    foreign = await client.get("/", headers={"Host": "evil.example"})
    form = await client.post("/login")
    method = await client.put("/receivers", headers={"Origin": "http://localhost"})
    assert (foreign.status_code, form.status_code, method.status_code) == (400, 403, 405)
    for response in (foreign, form, method):
        assert response.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


async def test_only_files_of_the_pages_are_served(client) -> None:
    """The style and the script, and nothing else of the package."""
    style = await client.get("/static/inspector.css")
    script = await client.get("/static/inspector.js")
    other = await client.get("/static/views.py")
    assert style.headers["content-type"].startswith("text/css")
    assert script.headers["content-type"].startswith("text/javascript")
    assert other.status_code == 404


def litestar_app(inspector: Inspector) -> Litestar:
    return Litestar([asgi("/signals", is_mount=True, copy_scope=True)(inspector)])


def fastapi_app(inspector: Inspector) -> FastAPI:
    app = FastAPI()
    app.mount("/signals", inspector)
    return app


def starlette_app(inspector: Inspector) -> Starlette:
    return Starlette(routes=[Mount("/signals", inspector)])


def nested_app(inspector: Inspector) -> Starlette:
    return Starlette(routes=[Mount("/", Starlette(routes=[Mount("/signals", inspector)]))])


@pytest.mark.parametrize("mounted", [litestar_app, fastapi_app, starlette_app, nested_app])
@pytest.mark.parametrize("address", ["/signals", "/signals/"])
async def test_links_lead_to_where_it_is_mounted(
    made, client_of, timeline, mounted, address: str
) -> None:
    """Each link of the timeline is found, with and without a slash at the end of the prefix."""
    timeline.put(group_view(1), group_view(2, caused_by=(1, "app.notify")))
    client = client_of(mounted(made()), follow_redirects=True)
    page = await client.get(address)
    links = {*re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)}
    assert len(links) >= 7
    for link in links:
        assert link.startswith("/signals/")
        response = await client.get(link.replace("&amp;", "&"))
        assert (link, response.status_code) == (link, 200)


@pytest.mark.parametrize("mounted", [litestar_app, fastapi_app, starlette_app])
async def test_logging_in_works_where_it_is_mounted(made, client_of, mounted) -> None:
    """The cookie is for the prefix only, and admits to the pages below it."""
    client = client_of(mounted(made(debug=False, token=TOKEN)))
    refused = await client.get("/signals/")
    assert (refused.status_code, refused.headers["location"]) == (303, "/signals/login")
    headers = {"Origin": "http://localhost"}
    entered = await client.post("/signals/login", data={"token": TOKEN}, headers=headers)
    assert (entered.status_code, entered.headers["location"]) == (303, "/signals/")
    assert "Path=/signals;" in entered.headers["set-cookie"]
    assert (await client.get("/signals/")).status_code == 200


@pytest.mark.parametrize("has_prefix", [True, False])
async def test_a_proxy_may_add_a_prefix(made, has_prefix: bool) -> None:
    """Whether the server has it in the path or, as older ones do, only beside it."""
    transport = httpx.ASGITransport(made(), root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = await client.get("/api/receivers" if has_prefix else "/receivers")
    assert page.status_code == 200
    assert 'href="/api/static/inspector.css"' in page.text


async def test_the_prefix_alone_leads_to_the_timeline(made) -> None:
    """Where nothing else adds the slash; with the query, and before a token is asked for."""
    transport = httpx.ASGITransport(made(debug=False, token=TOKEN), root_path="/signals")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        found = await client.get("/signals?errors=1")
        bare = await client.get("/signals")
    assert (found.status_code, found.headers["location"]) == (307, "/signals/?errors=1")
    assert (bare.status_code, bare.headers["location"]) == (307, "/signals/")


async def test_no_prefix_becomes_an_address_of_another_host(made) -> None:
    """A root path of two slashes would make links to a host."""
    transport = httpx.ASGITransport(made(), root_path="//evil.example")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = await client.get("/receivers")
    assert 'href="/evil.example/static/inspector.css"' in page.text


@pytest.mark.parametrize("module", ["starlette", "jinja2"])
def test_a_missing_package_is_named_with_the_way_out(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing it without Starlette or Jinja2 says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, package.__name__)
    with pytest.raises(ImportError, match=r"aksara-signals\[inspector\]"):
        importlib.import_module(package.__name__)


@pytest.mark.parametrize("path", ["/stream", "/export.json"])
async def test_a_page_of_another_site_reads_nothing(client, path: str) -> None:
    """As far as the browser says so: it could take all streams, though it couldn't read them."""
    answer = await client.get(path, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
