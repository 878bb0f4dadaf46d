"""Templates, and what they show of a group: a page of its entries, with their places in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from aksara_signals.contrib.inspector import wording
from aksara_signals.contrib.inspector.reading import SHORT
from aksara_signals.contrib.inspector.views import EntryView, GroupView
from aksara_signals.dispatch.receivers.naming import printable

__all__ = ["LONG", "Pages", "asset", "root_of", "window"]

LONG = 500
"""Entries that one page of a group shows."""

DEEPEST = 8
"""The deepest indentation."""

ASSETS = {
    "inspector.css": "text/css",
    "inspector.js": "text/javascript",
    "inspector.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Window:
    """A group, cut to some of its entries."""

    group: GroupView
    first: int
    """The place of the first shown entry, from 1."""
    total: int

    @property
    def last(self) -> int:
        """The place of the last shown entry."""
        return self.first + len(self.group.entries) - 1

    @property
    def rest(self) -> int:
        """How many entries follow."""
        return self.total - self.last


def window(group: GroupView, page: int = 1, size: int = SHORT) -> Window:
    """One page of the entries of a group."""
    start = (page - 1) * size
    total = len(group.entries) + group.further
    cut = (
        group
        if len(group.entries) <= size
        else replace(group, entries=group.entries[start : start + size])
    )
    return Window(cut, start + 1, total)


class Pages:
    """Renders templates; everything in them is escaped."""

    def __init__(self) -> None:
        environment: Any = Environment(
            loader=PackageLoader("aksara_signals.contrib.inspector"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters |= {
            "age": wording.age,
            "clock": wording.clock,
            "depth": _depth,
            "duration": wording.duration,
            "outcome": wording.outcome,
            "path": wording.path,
            "printable": printable,
            "rows": wording.rows,
            "slowest": wording.slowest,
            "thousands": "{:,}".format,
        }
        environment.globals |= {"states": wording.STATES}
        self._environment: Environment = environment
        self._article: Any = environment.get_template("group.html").module

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A page as a response."""
        known: dict[str, Any] = {"root": root_of(request), "here": "", **values}
        text = self._environment.get_template(template).render(known)
        return HTMLResponse(text, status)

    def article(self, group: GroupView, root: str) -> Markup:
        """A group as the timeline shows it."""
        return Markup(self._article.article(window(group), root))  # noqa: S704 - by a template

    def articles(self, groups: Iterable[GroupView], root: str) -> list[Markup]:
        """Several groups."""
        return [self.article(group, root) for group in groups]


def root_of(request: Request) -> str:
    """The address below which all pages are, without a slash at its end."""
    # One slash: an address that starts with two would be one of another host.
    root = str(request.scope.get("root_path", "")).strip("/")
    return f"/{quote(root)}" if root else ""


def asset(name: str) -> tuple[bytes, str] | None:
    """The content and the type of a file that belongs to the pages; None if there is none."""
    return (_content(name), ASSETS[name]) if name in ASSETS else None


@cache
def _content(name: str) -> bytes:
    return (files("aksara_signals.contrib.inspector") / "static" / name).read_bytes()


def _depth(entry: EntryView) -> int:
    return min(entry.depth, DEEPEST)
