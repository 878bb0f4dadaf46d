"""What counts as several things."""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from enum import Enum
from typing import Any

import pytest

from aksara_signals.dispatch.receivers.several import members_of


class Colour(Enum):
    RED = 1


class Iterable:
    """Not asked whether it could be iterated."""

    def __iter__(self) -> Any:
        raise AssertionError("iter() was used to find out")


class Endless:
    """A type that only looks like an iterator in half."""

    def __next__(self) -> Any:
        raise AssertionError("next() was used to find out")


@pytest.mark.parametrize(
    "several",
    [
        [int],
        (int,),
        {int},
        frozenset({int}),
        {int: 1}.keys(),
        {1: int}.values(),
        OrderedDict({int: 1}).keys(),
        ChainMap({int: 1}).keys(),
        iter([int]),
        (each for each in [int]),
        map(int, ()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_collections_and_iterators_are_several(several: Any) -> None:
    """Lists, tuples, sets, views of dicts, generators and other iterators."""
    assert members_of(several) in ((int,), ())


@pytest.mark.parametrize(
    "one", [Colour, Iterable(), Endless(), int, "text", b"bytes", None, 5, {int: 1}, range(2)]
)
def test_anything_else_is_one(one: Any) -> None:
    """Also a class with members, and what could be iterated but is no collection of senders."""
    assert members_of(one) is None
