"""Which arguments count as several things, where one or several may be given."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import MappingView
from typing import Any
from weakref import WeakSet

from aksara_signals.dispatch.receivers.identity import mro_of

_MAPPINGS: tuple[dict[Any, Any], ...] = ({}, OrderedDict())
_COLLECTIONS: tuple[type, ...] = (
    list,
    tuple,
    set,
    frozenset,
    MappingView,
    *(type(view) for each in _MAPPINGS for view in (each.keys(), each.values(), each.items())),
)


_of_one_thing: WeakSet[type] = WeakSet()
"""Types found so far whose objects are one thing each: the types of most senders."""


def members_of(thing: Any) -> tuple[Any, ...] | None:
    """The members of a list, tuple, set, view of a dict or iterator; None for anything else.

    Only the type decides. So a class, even one with members such as an Enum, a mapped attribute or
    any other object is one thing, although ``iter()`` may accept it.
    """
    kind = type(thing)
    is_hashable = type(kind) is type  # a metaclass may override hash and equality
    if issubclass(kind, str) or (is_hashable and kind in _of_one_thing):
        return None
    mro = mro_of(kind)
    if any(each is base for each in _COLLECTIONS for base in mro) or _is_iterator(mro):
        return tuple(thing)
    if is_hashable:
        _of_one_thing.add(kind)
    return None


def _is_iterator(mro: tuple[type, ...]) -> bool:
    mock = sys.modules.get("unittest.mock")  # a mock has every method, but is one thing
    if mock is not None and any(cls is mock.NonCallableMock for cls in mro):
        return False
    return all(any(name in vars(cls) for cls in mro) for name in ("__next__", "__iter__"))
