"""The options of durable receivers."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from aksara_signals import InvalidOptionError
from aksara_signals.contrib.outbox import Durable, Retry
from aksara_signals.contrib.outbox.options import options_of

# -- Retry ----------------------------------------------------------------------------------------


def test_delays_grow_up_to_the_longest() -> None:
    """By the factor, from the first repetition on."""
    retry = Retry(first_seconds=1, factor=3, longest_seconds=20, jitter=0)
    assert [retry.delay_seconds(attempt) for attempt in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]
    assert Retry(jitter=0).delay_seconds(100_000) == 3600.0
    assert Retry(first_seconds=0, jitter=0).delay_seconds(100_000) == 0.0


def test_delays_are_spread() -> None:
    """So that what failed together isn't repeated together."""
    retry = Retry(first_seconds=10, jitter=0.2)
    delays = {retry.delay_seconds(1) for _ in range(200)}
    assert len(delays) > 100
    assert all(8 <= each <= 12 for each in delays)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("attempts", value) for value in (0, -1, 1.5, True, "8", None)],
        *[("first_seconds", value) for value in (-1, float("nan"), float("inf"), "1", True)],
        *[("longest_seconds", value) for value in (-0.1, 1e10, None)],
        *[("factor", value) for value in (0.5, float("inf"), float("nan"), False, "2")],
        *[("jitter", value) for value in (-0.1, 1.1, float("nan"), True)],
    ],
)
def test_numbers_out_of_range_are_refused(option: str, value: Any) -> None:
    """The error names the option and what it takes."""
    with pytest.raises(InvalidOptionError, match=rf"Retry\({option}=.* is not valid; give a num"):
        Retry(**{option: value})


def test_retry_is_a_value() -> None:
    """Equal ones are equal, and none changes; its options are given by name."""
    assert Retry() == Retry(attempts=8)
    assert hash(Retry()) == hash(Retry())
    with pytest.raises(FrozenInstanceError):
        Retry().attempts = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Retry(8)  # type: ignore[misc]


# -- Durable --------------------------------------------------------------------------------------


def up(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


def test_durable_is_a_value() -> None:
    """Lists become tuples, so that it can be compared, stored in a set, and replaced in part."""
    one = Durable("a", include=["x", "y"], formerly=iter(["b"]), version=2, upgrade={1: up})  # type: ignore[arg-type]
    assert (one.include, one.formerly) == (("x", "y"), ("b",))
    assert (
        one == replace(one) == Durable("a", ("x", "y"), formerly=("b",), version=2, upgrade={1: up})
    )
    assert len({one, replace(one), Durable("a")}) == 2
    with pytest.raises(TypeError):
        one.upgrade[1] = up  # type: ignore[index]


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("include", "title", "a list of names"),
        ("include", [1], "a list of names"),
        ("include", None, "a list of names"),
        ("formerly", "old", "a list of names"),
        ("formerly", b"old", "a list of names"),
        ("retry", 8, "Retry"),
        ("retry", None, "Retry"),
        ("ordered", 1, "True or False"),
        ("timeout_seconds", 0, "a positive number"),
        ("timeout_seconds", -1, "a positive number"),
        ("timeout_seconds", "60", "a positive number"),
        ("timeout_seconds", float("nan"), "a positive number"),
        ("version", 0, "a number from 1"),
        ("version", True, "a number from 1"),
        ("missing", "ignore", "'skip', 'call' or 'dead'"),
        ("missing", None, "'skip', 'call' or 'dead'"),
        ("missing", ["skip"], "'skip', 'call' or 'dead'"),
        ("upgrade", [up], "a dict of functions"),
        ("upgrade", {1: up}, "a dict of functions"),
        ("upgrade", {"1": up}, "a dict of functions"),
        ("upgrade", {1: "up"}, "a dict of functions"),
    ],
)
def test_options_of_a_wrong_kind_are_refused(option: str, value: Any, expected: str) -> None:
    """The error names the option and what it takes. There is nothing to upgrade to version 1."""
    with pytest.raises(InvalidOptionError, match=rf"Durable\({option}=.* give {expected}"):
        Durable("a", **{option: value})


def test_former_names_are_names() -> None:
    """And others than the present one."""
    with pytest.raises(InvalidOptionError, match="1 to 200 characters"):
        Durable("a", formerly=("Not one",))
    with pytest.raises(InvalidOptionError, match="holds the present name 'a'"):
        Durable("a", formerly=("b", "a"))


@pytest.mark.parametrize("name", [None, 5, ["a"], b"a"])
def test_the_name_is_a_string(name: Any) -> None:
    """Whatever else it is given."""
    with pytest.raises(InvalidOptionError, match="1 to 200 characters"):
        Durable(name)


def test_what_may_differ_between_signals_is_include() -> None:
    """A mere name stands for the default options."""
    assert Durable("a").conflict(Durable("a", include=("x",))) is None
    assert Durable("a").conflict("a") is None
    assert Durable("a", missing="dead").conflict("a") == "missing"
    assert Durable("a", version=2, upgrade={1: up}).conflict(Durable("a", version=2)) == "upgrade"


def test_options_of_others() -> None:
    """Of a name the defaults, and of what only has a name the same."""

    class Other:
        name, include = "a", ()

        def conflict(self, other: Any) -> str | None:
            return None

    durable = Durable("a", version=2)
    assert options_of(durable) is durable
    assert options_of("a") == options_of(Other()) == Durable("a")
