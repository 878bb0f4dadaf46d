"""Names of receivers and senders, for tables, messages and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from numbers import Number
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import QueryableAttribute

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import names_of, type_name
from aksara_signals.dispatch.receivers.naming import (
    describe_receiver,
    describe_sender,
    printable,
    receiver_place,
)
from aksara_signals.types import Sender

__all__ = [
    "Place",
    "SenderKind",
    "SenderName",
    "place_of_connection",
    "plain",
    "plain_filter",
    "printable",
    "relative",
    "sender_name",
]


class SenderKind(StrEnum):
    """What kind of sender a name stands for."""

    ALL = "all"
    CLASS = "class"
    NAME = "name"
    """A string."""
    TABLE = "table"
    RELATIONSHIP = "relationship"
    """An attribute of a mapped class, such as ``Post.tags``."""
    NUMBER = "number"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class SenderName:
    """A sender as plain values."""

    kind: SenderKind
    name: str | None
    """None if it means every sender."""

    @property
    def title(self) -> str:
        """The sender for tables and messages."""
        if self.name is None:
            return "all"
        if self.kind is SenderKind.NAME:
            return f"'{self.name}'"
        if self.kind is SenderKind.TABLE:
            return f"table {self.name}"
        return self.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where a receiver is defined."""

    name: str
    """The dotted name of the receiver."""
    file: str | None
    """Relative, if it is below the current folder; None if it is unknown."""
    line: int | None

    @property
    def title(self) -> str:
        """File and line in the form that editors and terminals turn into links."""
        return "?" if self.file is None else f"{self.file}:{self.line}"


def plain(value: object) -> str | int | float | bool | None:
    """An option's value for JSON: a value that JSON can't hold is replaced by its type's name."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return f"<{type_name(value)} object>"


def plain_filter(value: object) -> Any:
    """What a receiver is narrowed to, for JSON: names, or the values of a transition by name."""
    if isinstance(value, Mapping):
        return {str(name): [plain_filter(each) for each in pair] for name, pair in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain_filter, value), key=str)
    if value is ...:
        return "..."
    return f"{type_name(value)}.{value.name}" if isinstance(value, Enum) else plain(value)


def sender_name(sender: Sender) -> SenderName:
    """A sender as plain values."""
    if sender is None:
        return SenderName(SenderKind.ALL, None)
    if isinstance(sender, type):
        return SenderName(SenderKind.CLASS, names_of(sender)[1])
    if isinstance(sender, str):
        return SenderName(SenderKind.NAME, sender)
    if isinstance(sender, Table):
        return SenderName(SenderKind.TABLE, sender.fullname)
    if isinstance(sender, QueryableAttribute):
        owner = describe_sender(sender.class_)
        return SenderName(SenderKind.RELATIONSHIP, f"{owner}.{sender.key}")
    kind = SenderKind.NUMBER if isinstance(sender, Number) else SenderKind.OBJECT
    return SenderName(kind, describe_sender(sender))


def place_of_connection(connection: Connection) -> Place:
    """The name of a connection's receiver, and where it is defined."""
    receiver = connection.receiver
    if receiver is None:  # weakly referenced, and collected a moment ago
        return Place(describe_receiver(None), None, None)
    name, code = receiver_place(receiver)
    if code is None:
        return Place(name, None, None)
    return Place(name, relative(code.co_filename), code.co_firstlineno)


def relative(file: str) -> str:
    """The path of a file, relative if it is below the current folder."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
