"""Dicts and lists that never change, and are dicts and lists all the same."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from aksara_signals.dispatch.frozen import FrozenDict, FrozenList, frozen


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.__setitem__("a", 1),
        lambda it: it.__delitem__("a"),
        lambda it: it.__ior__({"b": 1}),
        lambda it: it.clear(),
        lambda it: it.pop("a"),
        lambda it: it.popitem(),
        lambda it: it.setdefault("b", 1),
        lambda it: it.update(b=1),
    ],
)
def test_a_frozen_dict_never_changes(change: Callable[[Any], object]) -> None:
    """Each method that changes a dict says what to do instead."""
    it = FrozenDict(a=0)
    with pytest.raises(TypeError, match=r"never changes; make a dict\(\) of it"):
        change(it)
    assert it == {"a": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.__setitem__(0, 1),
        lambda it: it.__delitem__(0),
        lambda it: it.__iadd__([1]),
        lambda it: it.__imul__(2),
        lambda it: it.append(1),
        lambda it: it.clear(),
        lambda it: it.extend([1]),
        lambda it: it.insert(0, 1),
        lambda it: it.pop(),
        lambda it: it.remove(0),
        lambda it: it.reverse(),
        lambda it: it.sort(),
    ],
)
def test_a_frozen_list_never_changes(change: Callable[[Any], object]) -> None:
    """Each method that changes a list says what to do instead."""
    it = FrozenList([0])
    with pytest.raises(TypeError, match=r"never changes; make a list\(\) of it"):
        change(it)
    assert it == [0]


def test_every_changing_method_is_tried() -> None:
    """A method that Python adds one day is noticed."""
    for kind, base in ((FrozenDict, dict), (FrozenList, list)):
        own = {name for name in vars(base) if name not in vars(kind)}
        reading = {"copy", "count", "fromkeys", "get", "index", "items", "keys", "values"}
        assert {name for name in own if not name.startswith("__")} == reading & vars(base).keys()


def test_json_copy_and_pickle_take_them_for_what_they_are() -> None:
    """Copies are equal, and never change either."""
    it = frozen({"a": [1, {"b": None}]})
    assert json.loads(json.dumps(it)) == it == {"a": [1, {"b": None}]}
    for found in (copy.copy(it), copy.deepcopy(it), pickle.loads(pickle.dumps(it))):
        assert found == it
        assert type(found) is FrozenDict
        assert type(found["a"]) is FrozenList
        assert type(found["a"][1]) is FrozenDict


def test_a_frozen_copy_is_independent() -> None:
    """What is changed in the original afterwards, at any depth, isn't in the copy."""
    original: dict[str, Any] = {"a": [{"b": 1}]}
    it = frozen(original)
    original["a"][0]["b"] = 2
    original["a"].append(3)
    assert it == {"a": [{"b": 1}]}
