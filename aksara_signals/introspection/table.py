"""Who listens to what as a table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from aksara_signals.introspection.collect import Entry
from aksara_signals.introspection.names import printable

__all__ = ["print_table"]

COLUMNS = ("signal", "sender", "receiver", "file:line", "options", "kind")

WIDE = 10_000
"""Columns of what is no terminal: nothing is to be cut or wrapped in a file or a pipe."""


def print_table(entries: Iterable[Entry]) -> None:
    """Print connections as a table.

    Raises:
        ImportError: Rich is not installed.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS, box=box.SIMPLE)
    for column in table.columns:
        column.overflow = "fold"
    for entry in entries:
        cells = (
            entry.signal,
            entry.sender.title,
            entry.receiver.name,
            entry.receiver.title,
            entry.options_text,
            "async" if entry.is_async else "sync",
        )
        # Text, not str: names must not be read as markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE)
    console.print(table)
