"""The pages about what was sent, and about receivers, as routes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlencode

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aksara_signals import all_signals
from aksara_signals.contrib.inspector.filters import Filters, number_of
from aksara_signals.contrib.inspector.guard import Guard
from aksara_signals.contrib.inspector.pages import LONG, Pages, asset, root_of, window
from aksara_signals.contrib.inspector.reading import (
    Refresh,
    Timeline,
    entries_to_read,
    matching,
    nothing_to_refresh,
)
from aksara_signals.contrib.inspector.stream import Streams
from aksara_signals.contrib.inspector.views import GroupView
from aksara_signals.dispatch.receivers.naming import printable
from aksara_signals.exceptions import AksaraSignalsError
from aksara_signals.introspection.collect import ReceiverEntry, collect
from aksara_signals.introspection.graph import Node, make_graph, sender_title
from aksara_signals.introspection.svg import to_svg

__all__ = ["Routes"]

GROUPS = 100
"""Groups on one page of the timeline."""

REFRESH_SECONDS = 2.0
"""No page is delayed longer by a database that does not answer."""


class Routes:
    """The endpoints, and what they read.

    Args:
        timeline: What was sent.
        pages: What renders it.
        streams: The live streams.
        guard: Who knows the token.
        refresh: Called before the timeline is read.
    """

    def __init__(
        self,
        timeline: Timeline,
        pages: Pages,
        streams: Streams,
        guard: Guard,
        refresh: Refresh = nothing_to_refresh,
    ) -> None:
        self._refresh: Refresh = refresh
        self._timeline: Timeline = timeline
        self._pages: Pages = pages
        self._streams: Streams = streams
        self._guard: Guard = guard

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", self.timeline),
            Route("/transactions/{number:int}", self.transaction),
            Route("/transactions/{number:int}.json", self.transaction_json),
            Route("/receivers", self.receivers),
            Route("/export.json", self.export),
            Route("/stream", self._streams, methods=["GET"]),
            Route("/static/{name}", self.static),
        ]

    async def timeline(self, request: Request) -> Response:
        """The newest groups, or those before a number."""
        await self._refresh_soon()
        filters = Filters.of(request.query_params)
        before = _page_number(request, "before")
        # Before the groups are read: what changes meanwhile is in both.
        position = self._streams.position()
        newest = next((each.number for each in self._timeline.groups(1, None, 1)), 0)
        groups: list[GroupView] = []
        async for group in matching(self._timeline, filters, before, entries_to_read(filters)):
            groups.append(group)
            if len(groups) > GROUPS:
                break
        shown, root = groups[:GROUPS], root_of(request)
        entries = [entry for group in shown for entry in group.entries]
        return self._pages.page(
            request,
            "timeline.html",
            here="Timeline",
            needs_token=self._guard.needs_token,
            filters=filters,
            slower=request.query_params.get("slower", ""),
            signals=sorted({filters.signal, *(each.display_name for each in all_signals())} - {""}),
            senders=sorted({entry.sender for entry in entries}),
            receivers=sorted({one.name for entry in entries for one in entry.receivers}),
            articles=self._pages.articles(shown, root),
            older=shown[-1].number if len(groups) > GROUPS else None,
            before=before,
            newest=max(newest, filters.after),
            position=position,
        )

    async def transaction(self, request: Request) -> Response:
        """One group, which may have several pages."""
        group = await self._group(request)
        pages = max(1, -(-len(group.entries) // LONG))
        page = min(_page_number(request, "page") or 1, pages)
        return self._pages.page(
            request,
            "transaction.html",
            needs_token=self._guard.needs_token,
            window=window(group, page, LONG),
            page=page,
            pages=pages,
        )

    async def transaction_json(self, request: Request) -> Response:
        """One group as JSON."""
        return JSONResponse((await self._group(request)).as_json())

    async def _group(self, request: Request) -> GroupView:
        await self._refresh_soon()
        group = self._timeline.group(request.path_params["number"])
        if group is None:
            number = request.path_params["number"]
            raise HTTPException(404, f"Transaction {number} is not known, or not any more.")
        return group

    async def _refresh_soon(self) -> None:
        with anyio.move_on_after(REFRESH_SECONDS):
            await self._refresh()

    async def export(self, request: Request) -> Response:
        """All that is known and matches, as JSON."""
        filters = Filters.of(request.query_params)
        if filters.problems:
            raise HTTPException(400, "; ".join(filters.problems))
        return StreamingResponse(
            _export(self._timeline, filters),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="signals.json"'},
        )

    async def receivers(self, request: Request) -> Response:
        """The connected receivers, as a table and as a graph."""
        sender = request.query_params.get("sender", "")
        try:
            entries, problem = collect(sender=sender or None), ""
        except AksaraSignalsError as error:
            entries, problem = [], str(error)
        return self._pages.page(
            request,
            "receivers.html",
            here="Receivers",
            needs_token=self._guard.needs_token,
            sender=sender,
            entries=entries,
            problem=problem,
            graph=_graph(entries, f"{root_of(request)}/receivers") if entries else "",
        )

    async def static(self, request: Request) -> Response:
        """The style and the script."""
        found = asset(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type=found[1])


async def _export(timeline: Timeline, filters: Filters) -> AsyncIterator[str]:
    start = '{"groups": ['
    async for group in matching(timeline, filters):
        yield start + json.dumps(group.as_json(), default=dict)
        start = ",\n"
    yield "]}" if start == ",\n" else f"{start}]}}"


def _page_number(request: Request, name: str) -> int | None:
    found = number_of(request.query_params.get(name, ""))
    return None if found is None else max(1, found)


def _graph(entries: Sequence[ReceiverEntry], page: str) -> str:
    """The graph; a sender leads to its receivers, a receiver to its row of the table."""
    graph = make_graph(entries)
    senders = {printable(sender_title(each)): each.sender.name for each in entries}
    places = {
        (printable(each.receiver.name), printable(each.receiver.title)): number
        for number, each in reversed([*enumerate(entries, 1)])
    }
    links: dict[Node, str] = {}
    for row in graph.rows:
        name = senders.get(row.sender.title)
        if name:
            links[row.sender] = f"{page}?{urlencode({'sender': name})}"
        links[row.receiver] = f"#receiver-{places[row.receiver.title, row.receiver.hint]}"
    return to_svg(graph, style=False, links=links)
