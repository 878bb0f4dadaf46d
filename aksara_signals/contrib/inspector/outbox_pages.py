"""The pages about the outbox: figures, dead rows, and, where it is allowed, queueing them again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from aksara_signals.contrib.inspector.filters import number_of
from aksara_signals.contrib.inspector.options import Options
from aksara_signals.contrib.inspector.pages import Pages, root_of
from aksara_signals.contrib.inspector.store import Store
from aksara_signals.contrib.inspector.token_pages import form_of
from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.rows.breaker import Breaker, load_breakers
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.rows.upkeep import ReceiverStats, Selection
from aksara_signals.dispatch.receivers.identity import type_name

__all__ = ["OutboxPages"]

ROWS = 100
"""Dead rows that the page shows."""

_CLASSES = re.compile(
    r"[A-Za-z_][\w.]*(?: from [A-Za-z_][\w.]*)*(?: \(SQLSTATE \w+\))?(?=$|:| of )"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the page shows."""

    receivers: list[ReceiverStats]
    breakers: dict[str, Breaker]
    dead: list[dict[str, Any]]


class OutboxPages:
    """The endpoints.

    Args:
        options: What may be shown and done.
        pages: What renders them.
        store: The database of the outbox; None: there is none to show.
    """

    def __init__(self, options: Options, pages: Pages, store: Store | None) -> None:
        self._options: Options = options
        self._pages: Pages = pages
        self._store: Store | None = store

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/outbox", self.outbox),
            Route("/outbox/requeue", self.confirm, methods=["GET"]),
            Route("/outbox/requeue", self.requeue, methods=["POST"]),
        ]

    async def outbox(self, request: Request) -> Response:
        """Counts by receiver, breakers and dead rows."""
        figures, problem = Figures([], {}, []), ""
        if self._store is not None:
            try:
                figures = await self._store.run(_figures, self._store.outbox.tables)
            except Exception as error:  # noqa: BLE001 - drivers pass on errors of any class
                problem = type_name(error)
        return self._page(
            request,
            "outbox.html",
            has_outbox=self._store is not None,
            figures=figures,
            problem=problem,
            error_of=self._error_of,
            requeued=number_of(request.query_params.get("requeued", "")),
        )

    async def confirm(self, request: Request) -> Response:
        """Ask before rows are queued again."""
        store, selection = self._selection(request.query_params)
        try:
            count = await store.run(upkeep.count, store.outbox.tables, "requeue", selection)
        except Exception as error:
            raise HTTPException(503, f"The database: {type_name(error)}") from error
        return self._page(
            request,
            "requeue.html",
            count=count,
            seq=selection.seqs[0] if selection.seqs else None,
            receiver=selection.receiver,
        )

    async def requeue(self, request: Request) -> Response:
        """Let dead rows wait again."""
        store, selection = self._selection(await form_of(request))
        rows, after = 0, 0
        try:
            while True:
                chunk = await store.run(upkeep.requeue, store.outbox.tables, selection, after=after)
                rows, after = rows + chunk.rows, chunk.last
                if chunk.is_last:
                    break
        except Exception as error:
            raise HTTPException(503, f"The database: {type_name(error)}") from error
        store.outbox.wake()
        return RedirectResponse(f"{root_of(request)}/outbox?requeued={rows}", 303)

    def _selection(self, given: Any) -> tuple[Store, Selection]:
        """Which rows a request is about.

        Raises:
            HTTPException: Nothing may be changed, or it doesn't say what.
        """
        if not self._options.actions:
            raise HTTPException(
                403, "This inspector only shows: Inspector(actions=True) changes it."
            )
        if self._store is None:
            raise HTTPException(404, "This inspector has no outbox.")
        seq, receiver = number_of(given.get("seq", "")), given.get("receiver", "")
        if seq is not None:
            return self._store, Selection(seqs=(seq,))
        # A "*" would be a pattern, of which the page says nothing.
        if not receiver or "*" in receiver:
            raise HTTPException(400, "The request names neither a row nor a receiver.")
        return self._store, Selection(receiver=receiver)

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        return self._pages.page(
            request,
            template,
            here="Outbox",
            needs_token=self._options.token is not None,
            actions=self._options.actions,
            **values,
        )

    def _error_of(self, text: str | None) -> str:
        """What may be shown of the last error of a row."""
        return (text or "") if self._options.show_errors else class_of_error(text)


def class_of_error(text: str | None) -> str:
    """The class that the text of a last error begins with, and the SQLSTATE; empty without one."""
    found = _CLASSES.match(text or "")
    return found[0] if found else ""


def _figures(connection: Connection, tables: Tables) -> Figures:
    return Figures(
        upkeep.stats(connection, tables),
        load_breakers(connection, tables),
        upkeep.dead(connection, tables, Selection(), limit=ROWS),
    )
