"""Who may see the inspector."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from aksara_signals.contrib.inspector import token_pages
from aksara_signals.contrib.inspector.guard import COOKIE, Guard

TOKEN = "a long enough token"
OWN = {"Origin": "http://localhost"}


def request_with(*headers: tuple[str, str], scheme: str = "http", method: str = "POST") -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Request(
        {
            "type": "http",
            "method": method,
            "scheme": scheme,
            "path": "/",
            "query_string": b"",
            "headers": raw,
            "server": ("127.0.0.1", 8000),
        }
    )


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80"],
)
def test_allowed_hosts_are_let_in(host: str) -> None:
    """With or without a port, in upper or lower case, and as an address of IPv6."""
    guard = Guard(("localhost", "127.0.0.1", "::1"), None)
    assert guard.host_problem(request_with(("host", host))) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:80", "localhost@evil.example", "",
     "localhost:80:80", "localhost:8a", "localhost evil", "[::1", "127.0.0.10", "::1", "[::2]"],
)  # fmt: skip
def test_other_hosts_are_not(host: str) -> None:
    """The answer names the option."""
    guard = Guard(("localhost", "127.0.0.1", "::1"), None)
    assert "allowed_hosts=" in (guard.host_problem(request_with(("host", host))) or "")


def test_a_request_has_one_host() -> None:
    """None, or two, are not decided about."""
    guard = Guard(("localhost",), None)
    assert "no Host" in (guard.host_problem(request_with()) or "")
    doubled = request_with(("host", "localhost"), ("host", "evil.example"))
    assert "2 Host" in (guard.host_problem(doubled) or "")


@pytest.mark.parametrize(
    "path", ["/", "/stream", "/export.json", "/static/inspector.css", "/login", "/nothing"]
)
async def test_every_path_looks_at_the_host(client, path: str) -> None:
    """The stream and the files as well."""
    response = await client.get(path, headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("headers", "is_same"),
    [
        ([("origin", "http://localhost:8000")], True),
        ([("origin", "HTTP://LocalHost:8000")], True),
        ([("origin", "https://localhost:8000")], False),
        ([("origin", "http://localhost")], False),
        ([("origin", "http://localhost:8001")], False),
        ([("origin", "http://evil.example")], False),
        ([("origin", "null")], False),
        ([("origin", "http://[")], False),
        ([("origin", "http://localhost:8000"), ("origin", "http://evil.example")], False),
        ([("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")], False),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "same-site")], False),
        ([("sec-fetch-site", "cross-site"), ("referer", "http://localhost:8000/")], False),
        ([("sec-fetch-site", "none")], False),
        ([("referer", "http://localhost:8000/outbox?x=1")], True),
        ([("referer", "http://localhost:8000.evil.example/")], False),
        ([("referer", "http://localhost:8000@evil.example/")], False),
        ([("referer", "http://evil.example/http://localhost:8000/")], False),
        ([], False),
    ],
)
def test_forms_come_from_our_own_pages(headers: list[tuple[str, str]], is_same: bool) -> None:
    """By Origin; without it by Sec-Fetch-Site; without both by Referer."""
    request = request_with(("host", "localhost:8000"), *headers)
    assert Guard(("localhost",), None).is_same_origin(request) is is_same


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [("http", "localhost:80", "http://localhost"), ("https", "localhost", "https://localhost:443")],
)
def test_the_usual_port_may_be_named(scheme: str, host: str, origin: str) -> None:
    """Browsers leave it out of Origin."""
    request = request_with(("host", host), ("origin", origin), scheme=scheme)
    assert Guard(("localhost",), None).is_same_origin(request)


@pytest.mark.parametrize("path", ["/login", "/logout", "/outbox/requeue", "/nothing"])
async def test_forms_of_other_pages_are_refused(client, path: str) -> None:
    """With 403, wherever they are sent to."""
    response = await client.post(path, headers={"Origin": "http://evil.example"})
    assert response.status_code == 403


@pytest.fixture
def locked(made, client_of) -> httpx.AsyncClient:
    """A client of an inspector with a token."""
    return client_of(made(debug=False, token=TOKEN))


@pytest.mark.parametrize("path", ["/", "/receivers", "/outbox", "/transactions/1", "/nothing"])
async def test_pages_lead_to_the_form(locked, path: str) -> None:
    """Until the token is entered."""
    response = await locked.get(path)
    assert (response.status_code, response.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("path", ["/stream", "/export.json", "/transactions/1.json"])
async def test_data_is_refused_without_the_token(locked, path: str) -> None:
    """With 401: no program expects a form there."""
    assert (await locked.get(path)).status_code == 401


async def test_a_form_is_refused_without_the_token(made, client_of) -> None:
    """Nothing is done for it."""
    client = client_of(made(debug=False, token=TOKEN, actions=True))
    response = await client.post("/outbox/requeue", data={"seq": "1"}, headers=OWN)
    assert (response.status_code, response.headers["location"]) == (303, "/login")


async def test_debug_with_a_token_needs_the_token(made, client_of) -> None:
    """Whoever gives one wants it entered."""
    assert (await client_of(made(debug=True, token=TOKEN)).get("/")).status_code == 303


async def test_the_token_lets_in(locked) -> None:
    """Its cookie is not the token, and no script and no other site can use it."""
    response = await locked.post("/login", data={"token": TOKEN}, headers=OWN)
    cookie = response.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/;" in cookie
    assert "Secure" not in cookie
    assert (await locked.get("/")).status_code == 200
    again = await locked.get("/login")
    assert (again.status_code, again.headers["location"]) == (303, "/")


async def test_over_https_the_cookie_is_secure(made, client_of) -> None:
    """It is never sent in the clear then."""
    client = client_of(made(debug=False, token=TOKEN), "https://localhost")
    headers = {"Origin": "https://localhost"}
    response = await client.post("/login", data={"token": TOKEN}, headers=headers)
    assert "Secure" in response.headers["set-cookie"]


@pytest.mark.parametrize("given", ["", "a long enough toke", TOKEN + " ", "ä" * 30, "\ud800"])
async def test_a_wrong_token_is_slow(locked, monkeypatch, given: str) -> None:
    """The answer is the form again, after a while, and sets no cookie."""
    monkeypatch.setattr(token_pages, "PAUSE_SECONDS", 0.05)
    begun = time.monotonic()
    body = b"token=" + given.encode("utf-8", "surrogatepass")
    response = await locked.post("/login", content=body, headers=OWN)
    assert time.monotonic() - begun >= 0.05
    assert response.status_code == 403
    assert "This is not the token." in response.text
    assert "set-cookie" not in response.headers
    assert (await locked.get("/")).status_code == 303


async def test_the_token_in_the_address_is_nothing(locked) -> None:
    """It is taken from the form only."""
    monkey = await locked.get("/", params={"token": TOKEN})
    assert monkey.status_code == 303


@pytest.mark.parametrize("cookie", [TOKEN, "", "0" * 64, "é"])
async def test_made_up_cookies_are_refused(locked, cookie: str) -> None:
    """The token itself as well."""
    header = f"{COOKIE}={cookie}".encode()
    response = await locked.get("/", headers=[(b"Host", b"localhost"), (b"Cookie", header)])
    assert response.status_code == 303


async def test_a_cookie_is_of_one_process(made, client_of, locked) -> None:
    """Another inspector with the same token does not know it."""
    await locked.post("/login", data={"token": TOKEN}, headers=OWN)
    other = client_of(made(debug=False, token=TOKEN), cookies=locked.cookies)
    assert (await other.get("/")).status_code == 303


async def test_logging_out_deletes_the_cookie(locked) -> None:
    """By a form, not by a link."""
    await locked.post("/login", data={"token": TOKEN}, headers=OWN)
    assert (await locked.get("/logout")).status_code == 405
    assert (await locked.post("/logout", headers=OWN)).status_code == 303
    assert (await locked.get("/")).status_code == 303


async def test_a_long_form_is_not_read(locked) -> None:
    """Nobody has to log in to send one."""
    response = await locked.post("/login", content=b"token=" + b"x" * 10_000, headers=OWN)
    assert response.status_code == 413


async def test_without_a_token_the_form_lets_nobody_in(client) -> None:
    """An inspector that has none sets no cookie for an empty one."""
    response: Any = await client.get("/login")
    assert response.status_code == 303
    assert not Guard(("localhost",), None).is_token("")
