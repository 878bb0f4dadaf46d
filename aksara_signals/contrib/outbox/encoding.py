"""What the payload of a row may hold: JSON, and values that become JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapper

from aksara_signals.dispatch.json_values import JsonValues, UnfitValueError

Encoder = Callable[[Any], Any]
"""Makes JSON of a value, or something for which there is an encoder."""

_ENCODERS: dict[type, Encoder] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    Decimal: str,
    Enum: lambda value: value.value,
}
_DECODERS: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}


class Encoding(JsonValues):
    """The encoders of one outbox."""

    def __init__(self) -> None:
        self._encoders: dict[type, Encoder] = dict(_ENCODERS)

    def add(self, kind: type, function: Encoder) -> None:
        """Encode values of a type, and of its subclasses, by a function."""
        self._encoders[kind] = function

    def _of_other(self, value: Any, where: str, depth: int) -> Any:
        """What an encoder makes of it; a set as a list; else as in the base class."""
        mro = type(value).__mro__
        encode = next((found for cls in mro if (found := self._encoders.get(cls))), None)
        if encode is not None:
            return self._plain(encode(value), where, depth)
        if isinstance(value, (set, frozenset)):
            members = sorted(value, key=_sort_key)
            return [self._plain(each, f"{where}[…]", depth) for each in members]
        return super()._of_other(value, where, depth)

    def _remedy(self, value: Any) -> str:
        name = type(value).__name__
        return f"which has no encoder: register one by outbox.encoder({name}, function)"

    def _key(self, name: Any, where: str, depth: int) -> str:
        if not isinstance(name, str):
            plain = self._plain(name, f"a key of {where}", depth)
            if isinstance(plain, (str, int, float)):
                return str(plain)
        return super()._key(name, where, depth)


def _sort_key(value: Any) -> tuple[Any, ...]:
    return (0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value))


def restored_key(mapper: Mapper[Any] | None, key: Any) -> tuple[Any, ...]:
    """A primary key with values of the types that its columns have.

    Args:
        mapper: The mapper of the row's class; None if the class isn't known.
        key: The key as it was stored: a list.
    """
    if mapper is None or len(key) != len(mapper.primary_key):
        return tuple(key)
    return tuple(
        _restored(column.type, value) for column, value in zip(mapper.primary_key, key, strict=True)
    )


def _restored(column_type: Any, value: Any) -> Any:
    try:
        kind = column_type.python_type
    except NotImplementedError:  # raised by types without a Python type
        return value
    if not isinstance(kind, type) or value is None or type(value) is kind:
        return value
    if issubclass(kind, Enum):
        return _member(kind, value)
    decode = _DECODERS.get(kind)
    if decode is None or not isinstance(value, str):
        return value
    try:
        return decode(value)
    except (ArithmeticError, ValueError):
        return value


def _member(kind: type[Enum], value: Any) -> Any:
    """The member of an Enum that was stored as a value, or by an encoder of one's own as a name."""
    plain = Encoding().plain
    for member in kind:
        try:
            if plain(member.value, "") == value:
                return member
        except UnfitValueError:
            continue
    return kind.__members__.get(value, value) if isinstance(value, str) else value
