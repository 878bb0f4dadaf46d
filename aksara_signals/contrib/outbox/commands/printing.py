"""What the commands print: tables by Rich, or JSON. Nothing of a payload that wasn't asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, WAITING
from aksara_signals.introspection.names import printable
from aksara_signals.introspection.terminal import width

STATUSES: dict[int, str] = {WAITING: "waiting", DONE: "done", DEAD: "dead"}
"""The words for the numbers in the table."""

HIDDEN: str = "…"
"""Stands for a value that was not asked for."""

_SHOWN = frozenset({"v", "key", "created", "changed"})
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def write(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")


def write_json(value: Any) -> None:
    """Write JSON; times as ISO 8601."""
    write(json.dumps(value, indent=2, default=_plain))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table, as wide as the terminal is.

    Raises:
        ImportError: Rich is not installed.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for number, column in enumerate(columns):
        is_number = bool(rows) and isinstance(rows[0][number], int)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        # Text, not str: names must not be read as markup.
        table.add_row(*(Text(text_of(cell)) for cell in row))
    Console(file=sys.stdout, width=width()).print(table)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], object] | None]:
    """Show a progress bar on standard error, if that is a terminal and Rich is installed."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield None
        return
    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total or None)
        yield lambda rows: bar.advance(task, rows)


def text_of(cell: object) -> str:
    """A value as text, without characters that control the terminal."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(cell, (dict, list)):
        cell = json.dumps(cell, ensure_ascii=False)
    return " ".join(printable(line) for line in str(cell).splitlines())


def age(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return ""
    whole = max(int(seconds), 0)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def without_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose payload and headers have names, but no values that may be personal."""
    found = dict(row)
    payload = found["payload"]
    if isinstance(payload, dict):
        found["payload"] = {
            name: value if name in _SHOWN else _masked(value) for name, value in payload.items()
        }
    else:
        found["payload"] = _masked(payload)
    found["headers"] = _masked(found["headers"])
    return found


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    if isinstance(value, list):
        return [HIDDEN] if value else []
    return None if value is None else HIDDEN


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__qualname__)
