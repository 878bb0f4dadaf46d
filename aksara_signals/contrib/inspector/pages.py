"""Templates, and what they show of a group: a page of its entries, with their places in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from aksara_signals.contrib.inspector.views import EntryView, GroupView
from aksara_signals.dispatch.receivers.naming import printable
from aksara_signals.introspection.names import relative

__all__ = ["SHORT", "Changed", "Pages", "Timeline", "asset", "root_of", "window"]

SHORT = 50
"""Entries of a group that the timeline shows; its own page shows them all."""

LONG = 500
"""Entries that one page of a group shows."""

DEEPEST = 8
"""The deepest indentation."""

STATES = {
    "open": "open",
    "committed": "committed",
    "rolled back": "rolled back",
    "none": "no transaction",
}
"""What the page calls the state of a group."""

ASSETS = {"inspector.css": "text/css", "inspector.js": "text/javascript"}


class Changed(Protocol):
    """What has changed since a position."""

    @property
    def position(self) -> int:
        """Where the next question starts."""
        ...

    @property
    def groups(self) -> list[GroupView]:
        """The newest changes, the oldest of them first."""
        ...

    @property
    def left_off(self) -> int:
        """How many groups have changed as well."""
        ...


class Timeline(Protocol):
    """What the pages read."""

    def groups(self, limit: int = 100, before: int | None = None) -> list[GroupView]:
        """Groups, the newest first; those of a number below ``before``."""
        ...

    def group(self, number: int) -> GroupView | None:
        """One group; None if it is not known any more."""
        ...

    def position(self) -> int:
        """Where a stream that begins now would start."""
        ...

    def changed_since(self, position: int, limit: int) -> Changed:
        """The groups that have changed since a position, each once."""
        ...


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
    total = len(group.entries)
    cut = group if total <= size else replace(group, entries=group.entries[start : start + size])
    return Window(cut, start + 1, total)


class Pages:
    """Renders templates; everything in them is escaped."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("aksara_signals.contrib.inspector"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters.update(
            age=age,
            clock=_clock,
            duration=duration,
            depth=lambda entry: min(entry.depth, DEEPEST),
            outcome=_outcome,
            path=_path,
            printable=printable,
            thousands=lambda number: f"{number:,}",
        )
        environment.globals.update(states=STATES)
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


def duration(milliseconds: float | None) -> str:
    """A duration, as short as it is clear."""
    if milliseconds is None:
        return ""
    if milliseconds >= 1_000:
        return f"{milliseconds / 1_000:,.2f} s"
    return f"{milliseconds:.1f} ms" if milliseconds >= 1 else f"{milliseconds:.2f} ms"


def age(seconds: float | None) -> str:
    """An age, in its two largest units."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    for size, unit, small_size, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small_size} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def _clock(at: str) -> str:
    """The time of day of an ISO 8601 time."""
    return at.partition("T")[2].removesuffix("Z").removesuffix("+00:00") or at


def _path(file: str) -> str:
    return printable(relative(file))


def _outcome(entry: EntryView, group: GroupView) -> str:
    """What became of an entry that was queued."""
    if entry.kind != "queued":
        return ""
    states = {each.state for each in entry.receivers}
    dropped = f"dropped ({STATES[group.state]})" if group.state != "open" else "dropped"
    if entry.is_undone and "dropped" in states:
        dropped = "dropped (savepoint undone)"
    words = {"delivered": "delivered", "dropped": dropped, "failed": "failed"}
    found = [word for state, word in words.items() if state in states]
    return f"queued → {', '.join(found)}" if found else "queued"
