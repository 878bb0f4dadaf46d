"""Who may see the inspector: the hosts it answers to, the origin of a form, and the token."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from aksara_signals.contrib.inspector.pages import root_of

__all__ = ["COOKIE", "HEADERS", "Guard", "origin_of", "with_headers"]

COOKIE = "aksara_inspector"
"""The name of the cookie that says that the token was entered."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": a browser without Origin and Sec-Fetch-Site is known by its Referer.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of every response."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d*)?", re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}


def with_headers(send: Send) -> Send:
    """What sends the same, with ``HEADERS``."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sending


def origin_of(scheme: str, host: str) -> str:
    """An origin in the form in which browsers send it: lower case, without the usual port."""
    scheme = scheme.lower()
    return f"{scheme}://{host.lower().removesuffix(_PORTS.get(scheme, ' '))}"


class Guard:
    """Decides about requests; it answers none itself.

    Args:
        allowed_hosts: The names and addresses that a request may be for. It is this check that
            stops a foreign page which has its own name point at this machine (DNS rebinding).
        token: What has to be entered; None: nothing.
    """

    def __init__(self, allowed_hosts: Iterable[str], token: str | None) -> None:
        self._hosts: frozenset[str] = frozenset(_plain_host(each) for each in allowed_hosts)
        self._token: bytes | None = None if token is None else token.encode()
        self._secret: bytes = secrets.token_bytes(32)

    @property
    def needs_token(self) -> bool:
        """Whether a token has to be entered."""
        return self._token is not None

    def host_problem(self, request: Request) -> str | None:
        """What is wrong with the ``Host`` of a request; None if it is allowed."""
        given = request.headers.getlist("host")
        if len(given) != 1:
            return f"the request has {len(given) or 'no'} Host headers; it must have one"
        found = _HOST.fullmatch(given[0])
        if found is not None and _plain_host(found[1]) in self._hosts:
            return None
        return (
            f"the inspector does not answer to the host {given[0][:100]!r}; if it is one of "
            f"yours, name it: Inspector(allowed_hosts=[...])"
        )

    def is_same_origin(self, request: Request) -> bool:
        """Whether a form was sent by a page of the inspector's own origin."""
        headers = request.headers
        own = origin_of(request.url.scheme, headers.get("host", ""))
        origins = headers.getlist("origin")
        if origins:
            return all(origin_of(*_parts(each)) == own for each in origins)
        sites = headers.getlist("sec-fetch-site")
        if sites:
            return all(each == "same-origin" for each in sites)
        referers = headers.getlist("referer")
        return bool(referers) and all(origin_of(*_parts(each)) == own for each in referers)

    def is_admitted(self, request: Request) -> bool:
        """Whether the token was entered in this browser, or none is needed."""
        if self._token is None:
            return True
        given = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._proof().encode())

    def is_token(self, given: str) -> bool:
        """Whether a text is the token, in a time that does not depend on it."""
        if self._token is None:
            return False
        # Of digests: their length says nothing about the token's.
        return hmac.compare_digest(_digest(given.encode("utf-8", "replace")), _digest(self._token))

    def admit(self, response: Response, request: Request) -> None:
        """Set the cookie that lets a browser in."""
        response.set_cookie(
            COOKIE,
            self._proof(),
            path=root_of(request) or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    def dismiss(self, response: Response, request: Request) -> None:
        """Delete the cookie."""
        response.delete_cookie(
            COOKIE,
            path=root_of(request) or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    def _proof(self) -> str:
        # Not the token, and of no use after a restart.
        return hmac.new(self._secret, self._token or b"", hashlib.sha256).hexdigest()


def _plain_host(host: str) -> str:
    return host.lower().removeprefix("[").removesuffix("]")


def _parts(address: str) -> tuple[str, str]:
    """Scheme and host of an address, which a stranger has written."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def is_cross_site(request: Request) -> bool:
    """Whether a page of another site has caused a request, as far as the browser says so."""
    return request.headers.get("sec-fetch-site") == "cross-site"
