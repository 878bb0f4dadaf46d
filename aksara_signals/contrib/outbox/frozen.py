"""A dict that never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn


class FrozenDict(dict[str, Any]):
    """A dict that never changes, and that JSON, ``copy`` and ``pickle`` take for a dict.

    They don't take ``types.MappingProxyType`` for one, but receivers pass an event's values on: to
    an HTTP client, for example, or to another process.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker knows events' fields as Mapping, which has none of these

        def _forbid(self, *_: object, **__: object) -> NoReturn:
            raise TypeError("what an event holds never changes; make a dict() of it")

        __setitem__ = __delitem__ = __ior__ = _forbid
        clear = pop = popitem = setdefault = update = _forbid

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)
