"""The form for the token, and the forms of all pages as fields."""

from __future__ import annotations

from urllib.parse import parse_qs

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from aksara_signals.contrib.inspector.guard import Guard
from aksara_signals.contrib.inspector.pages import Pages, root_of

__all__ = ["TokenPages", "form_of"]

FORM_BYTES = 4096
"""No form of these pages is longer."""

PAUSE_SECONDS = 0.5
"""After a wrong token."""


class TokenPages:
    """The endpoints.

    Args:
        guard: Who knows the token.
        pages: What renders them.
    """

    def __init__(self, guard: Guard, pages: Pages) -> None:
        self._guard: Guard = guard
        self._pages: Pages = pages

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
        ]

    async def login(self, request: Request) -> Response:
        """The form for the token, and its answer."""
        home = RedirectResponse(f"{root_of(request)}/", 303)
        if self._guard.is_admitted(request) and request.method != "POST":
            return home
        is_wrong = False
        if request.method == "POST":
            if self._guard.is_token((await form_of(request)).get("token", "")):
                self._guard.admit(home, request)
                return home
            is_wrong = True
            await anyio.sleep(PAUSE_SECONDS)
        return self._pages.page(
            request,
            "login.html",
            status=403 if is_wrong else 200,
            here="login",
            needs_token=self._guard.needs_token,
            is_wrong=is_wrong,
        )

    async def logout(self, request: Request) -> Response:
        """Delete the cookie."""
        home = RedirectResponse(f"{root_of(request)}/", 303)
        self._guard.dismiss(home, request)
        return home


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a short form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise HTTPException(413, "The form is too long.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}
