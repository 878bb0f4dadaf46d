"""What fits into JSON, and into the JSON columns of databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from aksara_signals.dispatch.receivers.identity import plain_text, type_name

MAX_DEPTH = 100
"""How many dicts and lists may be inside one another: workers have to be able to read them, too."""
_MAX_DIGITS = 4300
"""The digits of a number that Python reads, as long as nobody sets another limit."""
_LARGEST = 10**_MAX_DIGITS


class UnfitValueError(ValueError):
    """A value can't be stored as JSON; the message says where it is and why, without the value."""


class JsonValues:
    """Makes plain JSON of the types that JSON has, and of their subclasses."""

    def plain(self, value: Any, where: str) -> Any:
        """A value as JSON: with dicts, lists, strings, numbers, booleans and None only.

        Args:
            value: The value.
            where: What it is, for the error message.

        Raises:
            UnfitValueError: It, or something in it, doesn't fit into JSON.
        """
        return self._plain(value, where, 0)

    def _plain(self, value: Any, where: str, depth: int) -> Any:
        check = _CHECKS.get(type(value))
        if check is not None:
            return check(value, where)
        if depth > MAX_DEPTH:
            raise UnfitValueError(f"{where[:50]}… is nested too deeply, or contains itself")
        return self._of_other(value, where, depth + 1)

    def _of_other(self, value: Any, where: str, depth: int) -> Any:
        """A collection, or a value of a subclass of what JSON has."""
        if isinstance(value, Mapping):
            return self._plain_dict(value, where, depth)
        if isinstance(value, (list, tuple)):
            return [
                self._plain(each, f"{where}[{place}]", depth) for place, each in enumerate(value)
            ]
        if isinstance(value, str):
            return checked_text(plain_text(value), where)
        for base in (int, float):
            if isinstance(value, base):
                return self._plain(base(value), where, depth)
        raise UnfitValueError(f"{where} is {type_name(value)}, {self._remedy(value)}")

    def _remedy(self, value: Any) -> str:
        """The end of the message about a value of a type that doesn't fit."""
        return "which JSON doesn't have; give a string, such as str() of it"

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
            return checked_text(plain_text(name), where)
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


def checked_text(text: str, where: str) -> str:
    """A string that databases can store.

    Raises:
        UnfitValueError: They can't.
    """
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
    str: checked_text,
    float: _checked_float,
}
"""The types that are JSON as they are, apart from some of their values."""
