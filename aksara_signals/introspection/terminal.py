"""Print the receivers: as a table, or as a block each where a table is too wide."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aksara_signals.introspection.collect import ReceiverEntry
from aksara_signals.introspection.names import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_table", "width"]

COLUMNS = ("signal", "sender", "receiver", "file:line", "options", "kind")

WIDE = 10_000
"""Columns of a file or a pipe, where nothing should be cut or wrapped."""

ENOUGH = 100
"""Columns that a table needs if names have the usual length."""


def print_table(entries: Sequence[ReceiverEntry]) -> None:
    """Print connections, as wide as the terminal is, or as ``COLUMNS`` says.

    Raises:
        ImportError: Rich is not installed.
    """
    from rich.console import Console

    console = Console(file=sys.stdout, width=width())
    if console.width < ENOUGH:
        _print_blocks(entries, console)
    else:
        _print_rows(entries, console)


def width() -> int | None:
    """The width to print in, in columns; None means that of the terminal."""
    if sys.stdout.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    # 80 by 24 is not a choice of the user: without a terminal, readline exports these numbers to
    # the child processes of every Python that has imported it, such as pytest.
    if (given, os.environ.get("LINES")) == ("80", "24") or not given.isdecimal():
        return WIDE
    return int(given) or WIDE


def _cells(entry: ReceiverEntry) -> list[str]:
    """The text of each column."""
    cells = (
        entry.signal,
        entry.sender.title,
        entry.receiver.name,
        entry.receiver.title,
        entry.options_text,
        "async" if entry.is_async else "sync",
    )
    return [printable(cell) for cell in cells]


def _print_rows(entries: Sequence[ReceiverEntry], console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS, box=box.SIMPLE)
    for column in table.columns:
        column.overflow = "fold"
    for entry in entries:
        # Text, not str: names must not be read as markup.
        table.add_row(*map(Text, _cells(entry)))
    console.print(table)


def _print_blocks(entries: Sequence[ReceiverEntry], console: Console) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    for number, entry in enumerate(entries):
        if number:
            console.print()
        signal, *cells = _cells(entry)
        console.print(Text(signal), overflow="fold")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, cell in zip(COLUMNS[1:], cells, strict=True):
            if cell:
                grid.add_row(name, Text(cell))
        console.print(Padding(grid, (0, 0, 0, 4)))
