"""What the payload of a row may hold: JSON, and values that become JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapper

from aksara_signals.dispatch.receivers.identity import plain_text, type_name

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

MAX_DEPTH = 100
"""How many dicts and lists may be inside one another: workers have to be able to read them, too."""
_MAX_DIGITS = 4300
"""The digits of a number that Python reads, as long as nobody sets another limit."""
_LARGEST = 10**_MAX_DIGITS


class UnfitValueError(ValueError):
    """A value can't be stored as JSON; the message says where it is and why, without the value."""


class Encoding:
    """The encoders of one outbox."""

    def __init__(self) -> None:
        self._encoders: dict[type, Encoder] = dict(_ENCODERS)

    def add(self, kind: type, function: Encoder) -> None:
        """Encode values of a type, and of its subclasses, by a function."""
        self._encoders[kind] = function

    def plain(self, value: Any, where: str) -> Any:
        """A value as JSON: with dicts, lists, strings, numbers, booleans and None only.

        Args:
            value: The value.
            where: What it is, for the error message.

        Raises:
            UnfitValueError: It, or something in it, has no encoder, or doesn't fit into JSON.
        """
        return self._plain(value, where, 0)

    def _plain(self, value: Any, where: str, depth: int) -> Any:
        kind = type(value)
        check = _CHECKS.get(kind)
        if check is not None:
            return check(value, where)
        if depth > MAX_DEPTH:
            raise UnfitValueError(f"{where[:50]}… is nested too deeply, or contains itself")
        encode = next((found for cls in kind.__mro__ if (found := self._encoders.get(cls))), None)
        if encode is not None:
            return self._plain(encode(value), where, depth + 1)
        return self._of_base(value, where, depth + 1)

    def _of_base(self, value: Any, where: str, depth: int) -> Any:
        """A collection, or a value of a subclass of what JSON has."""
        if isinstance(value, Mapping):
            return self._plain_dict(value, where, depth)
        if isinstance(value, (list, tuple)):
            return [
                self._plain(each, f"{where}[{place}]", depth) for place, each in enumerate(value)
            ]
        if isinstance(value, (set, frozenset)):
            members = sorted(value, key=_sort_key)
            return [self._plain(each, f"{where}[…]", depth) for each in members]
        if isinstance(value, str):
            return _checked_text(plain_text(value), where)
        for base in (int, float):
            if isinstance(value, base):
                return self._plain(base(value), where, depth)
        raise UnfitValueError(
            f"{where} is {type_name(value)}, which has no encoder: register one by "
            f"outbox.encoder({type(value).__name__}, function)"
        )

    def _plain_dict(self, value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, each in value.items():
            key = self._key(name, where, depth)
            shown = repr(key[:50])
            if key in found:
                raise UnfitValueError(f"{where} has two keys that are both {shown} as text")
            found[key] = self._plain(each, f"{where}[{shown}]", depth)
        return found

    def _key(self, name: Any, where: str, depth: int) -> str:
        if isinstance(name, str):
            return _checked_text(plain_text(name), where)
        plain = self._plain(name, f"a key of {where}", depth)
        if isinstance(plain, (str, int, float)):
            return str(plain)
        raise UnfitValueError(f"{where} has a key of type {type_name(name)}; give strings as keys")


def _unchecked(value: Any, _: str) -> Any:
    return value


def _checked_integer(value: int, where: str) -> int:
    if -_LARGEST < value < _LARGEST:
        return value
    raise UnfitValueError(f"{where} is a number of more than {_MAX_DIGITS} digits")


def _checked_float(value: float, where: str) -> float:
    if isfinite(value):
        return value
    raise UnfitValueError(f"{where} is not a finite number, which JSON has no word for")


def _checked_text(text: str, where: str) -> str:
    if "\0" in text:
        raise UnfitValueError(f"{where} contains the character NUL, which databases can't store")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnfitValueError(f"{where} contains half of a surrogate pair") from None
    return text


_CHECKS: dict[type, Callable[[Any, str], Any]] = {
    type(None): _unchecked,
    bool: _unchecked,
    int: _checked_integer,
    str: _checked_text,
    float: _checked_float,
}
"""The types that are JSON as they are, apart from some of their values."""


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
