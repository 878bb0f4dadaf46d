"""Dicts and lists that never change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn


class FrozenDict(dict[str, Any]):
    """A dict that never changes, and that JSON, ``copy`` and ``pickle`` take for a dict.

    They don't take ``types.MappingProxyType`` for one, but receivers pass such values on: to an
    HTTP client, for example, or to another process.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker knows it as a Mapping, which has none of these

        def _forbid(self, *_: object, **__: object) -> NoReturn:
            raise TypeError("this dict never changes; make a dict() of it")

        __setitem__ = __delitem__ = __ior__ = _forbid
        clear = pop = popitem = setdefault = update = _forbid

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)


class FrozenList(list[Any]):
    """A list that never changes, and that JSON, ``copy`` and ``pickle`` take for a list."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def _forbid(self, *_: object, **__: object) -> NoReturn:
            raise TypeError("this list never changes; make a list() of it")

        __setitem__ = __delitem__ = __iadd__ = __imul__ = _forbid
        append = clear = extend = insert = pop = remove = reverse = sort = _forbid

    def __reduce__(self) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return type(self), (list(self),)


def frozen(value: Any) -> Any:
    """A copy of a JSON value that never changes, nor does anything in it."""
    if isinstance(value, Mapping):
        return FrozenDict({name: frozen(each) for name, each in value.items()})
    if isinstance(value, list):
        return FrozenList(frozen(each) for each in value)
    return value
