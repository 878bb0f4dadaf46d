"""What pre_init is sent of a construction: as the caller would write it, by name where it can be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from aksara_signals.orm.construction import _by_name


def by_keyword(self: Any, a: Any, b: Any = 1) -> None:
    """As most constructors."""


def with_rest(self: Any, a: Any, *rest: Any, b: Any = 1, **more: Any) -> None:
    """Takes any number of arguments."""


def positional_only(self: Any, a: Any, /, b: Any = 1) -> None:
    """Its first argument has no name for callers."""


@pytest.mark.parametrize(
    ("construct", "args", "kwargs", "expected"),
    [
        (by_keyword, (7,), {}, ([], {"a": 7})),
        (by_keyword, (7, 8), {}, ([], {"a": 7, "b": 8})),
        (by_keyword, (7, 1), {}, ([], {"a": 7})),  # SQLAlchemy hands on defaults as well
        (by_keyword, (), {"b": 2, "a": 1}, ([], {"a": 1, "b": 2})),
        (with_rest, (7,), {}, ([], {"a": 7})),
        (with_rest, (7,), {"b": 2, "c": 3}, ([], {"a": 7, "b": 2, "c": 3})),
        (with_rest, (7, 8, 9), {}, ([7, 8, 9], {})),
        (with_rest, (7, 8), {"b": 2, "c": 3}, ([7, 8], {"b": 2, "c": 3})),
        (with_rest, (7, 8), {"b": 1}, ([7, 8], {})),
        (positional_only, (7,), {"b": 2}, ([7], {"b": 2})),
        (positional_only, (7, 8), {}, ([7], {"b": 8})),
    ],
)
def test_arguments_go_by_name(
    construct: Callable[..., None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    expected: tuple[list[Any], dict[str, Any]],
) -> None:
    """But for what has none, and for what stands before any number of others."""
    positional, keywords = _by_name(inspect.signature(construct), object(), args, kwargs)
    assert (positional, keywords) == expected
    construct(object(), *positional, **keywords)
