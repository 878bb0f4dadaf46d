"""What payloads may hold: whatever is encoded comes back from JSON and from the database."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.effort import IS_ORDINARY, times
from sqlalchemy import Engine, bindparam, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import JSON

from aksara_signals.contrib.outbox.encoding import Encoding
from aksara_signals.dispatch.json_values import UnfitValueError

plain = Encoding().plain


class Color(Enum):
    RED = "red"
    BLUE = 2


class Word(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Flag(IntFlag):
    R = 1
    W = 2


class Pair(Enum):
    A = (1, date(2026, 1, 2))


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self  # a subclass again


class Money(Decimal): ...


class Moment(datetime): ...


class Whole(int): ...


class Opaque: ...


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ("é\n\u2028😀", "é\n\u2028😀"),
        (2**63, 2**63),
        (-(10**400), -(10**400)),
        (1.5, 1.5),
        (5e-324, 5e-324),
        (Decimal("1.10"), "1.10"),
        (Money("1.10"), "1.10"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (Moment(2026, 1, 2), "2026-01-02T00:00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2, 3, 4), "01:02:03.000004"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Color.RED, "red"),
        (Color.BLUE, 2),
        (Word.A, "a"),
        (Number.ONE, 1),
        (Flag.R | Flag.W, 3),
        (Pair.A, [1, "2026-01-02"]),
        (Text("x"), "x"),
        (Whole(3), 3),
        ((1, [2]), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ba"), ["a", "b"]),
        ({1, "a", 0.5}, [0.5, 1, "a"]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"a": Color.RED}), {"a": "red"}),
        ({1: "a", UUID(int=1): "b"}, {"1": "a", "00000000-0000-0000-0000-000000000001": "b"}),
        ({Text("x"): 1}, {"x": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_become_json(value: Any, expected: Any) -> None:
    """Of the types that JSON has, exactly."""
    found = plain(value, "it")
    assert found == expected
    assert json.loads(json.dumps(found)) == expected

    def exact(each: Any) -> bool:
        if type(each) is dict:
            return all(type(key) is str and exact(one) for key, one in each.items())
        if type(each) is list:
            return all(map(exact, each))
        return type(each) in (str, int, float, bool, type(None))

    assert exact(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"x", r"it is bytes, which has no encoder: .*outbox\.encoder\(bytes, function\)"),
        (bytearray(b"x"), "it is bytearray, which has no encoder"),
        (memoryview(b"x"), "it is memoryview, which has no encoder"),
        (timedelta(1), "it is timedelta, which has no encoder"),
        (1j, "it is complex, which has no encoder"),
        (Opaque(), "it is .*Opaque, which has no encoder"),
        (Opaque, "which has no encoder"),
        (len, "which has no encoder"),
        (iter(()), "which has no encoder"),
        (float("nan"), "it is not a finite number"),
        ([0, {"a": float("-inf")}], r"it\[1\]\['a'\] is not a finite number"),
        ("a\0b", "it contains the character NUL"),
        ({"a\0b": 1}, "it contains the character NUL"),
        ("\ud800", "it contains half of a surrogate pair"),
        ({"\udfff": 1}, "half of a surrogate pair"),
        ({None: 1}, "it has a key of type NoneType; give strings as keys"),
        ({(1, 2): 1}, "it has a key of type tuple"),
        ({float("nan"): 1}, "a key of it is not a finite number"),
        ({1: "a", "1": "b"}, "it has two keys that are both '1' as text"),
        (-(10 ** sys.get_int_max_str_digits()), "it is a number of more than .* digits"),
        ({"k" * 99: b""}, r"it\['k{50}'\] is bytes"),
        ({1, b"x"}, r"it\[…\] is bytes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_can_not_hold_is_refused(value: Any, message: str) -> None:
    """The error says where it is."""
    with pytest.raises(UnfitValueError, match=message):
        plain(value, "it")


def _nested(depth: int) -> Any:
    found: Any = 1
    for number in range(depth):
        found = [found] if number % 2 else {"a": found}
    return found


def test_deep_nesting_is_refused_before_the_stack_ends() -> None:
    """A worker with a deeper stack must be able to read what was written; so there is a limit."""
    found = plain(_nested(100), "it")
    assert json.loads(json.dumps(found)) == found
    for depth in (102, 5_000, 100_000):
        with pytest.raises(UnfitValueError, match="nested too deeply, or contains itself"):
            plain(_nested(depth), "it")


def test_what_contains_itself_is_refused() -> None:
    """Lists and dicts, and an encoder that makes another one of its type without end."""
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(UnfitValueError, match="contains itself"):
        plain(itself, "it")
    by_key: dict[str, Any] = {}
    by_key["a"] = [by_key]
    with pytest.raises(UnfitValueError, match="contains itself"):
        plain(by_key, "it")
    endless = Encoding()
    endless.add(Opaque, lambda value: Opaque())
    with pytest.raises(UnfitValueError, match="contains itself"):
        endless.plain(Opaque(), "it")


def test_encoders_are_found_by_the_nearest_class() -> None:
    """What one returns is encoded again; one's own replaces the one that is there."""

    class Special(Opaque): ...

    encoding = Encoding()
    encoding.add(Opaque, lambda value: {"at": date(2026, 1, 2)})
    encoding.add(Color, lambda value: value.name)
    encoding.add(bytes, bytes.hex)
    assert encoding.plain([Special(), Color.BLUE, b"\0"], "it") == [
        {"at": "2026-01-02"},
        "BLUE",
        "00",
    ]
    encoding.add(Special, lambda value: "special")
    assert encoding.plain([Special(), Opaque()], "it")[0] == "special"
    encoding.add(str, str.upper)
    assert encoding.plain("a", "it") == "a"  # JSON has strings


def test_a_megabyte_is_stored(sync_engine: Engine) -> None:
    """As one text, and as many small ones."""
    big = {"text": "ü" * 1_000_000, "many": ["x" * 100] * 10_000}
    assert _through(sync_engine, plain(big, "it")) == big


_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.decimals(allow_nan=False)
    | st.just(Decimal("NaN"))  # a signalling one can't be in a set
    | st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=5))]))
    | st.dates()
    | st.times()
    | st.uuids()
    | st.sampled_from([*Color, *Word, *Number, *Pair])
    | st.binary()
    | st.floats()
    | st.characters()
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.uuids(), inner, max_size=4)
        | st.frozensets(_scalars, max_size=4)
    ),
    max_leaves=12,
)


def _through(engine: Engine, value: Any) -> Any:
    """A value as the database gives it back."""
    kind = JSON().with_variant(JSONB(), "postgresql")
    with engine.connect() as connection:
        return connection.scalar(select(literal({"it": value}, kind)))["it"]


def _as_numbers(value: Any) -> Any:
    """Equal for numbers that JSON doesn't distinguish: jsonb writes 1e23 with all its digits."""
    if isinstance(value, dict):
        return {key: _as_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_numbers(each) for each in value]
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > 2**53):
        return float(value) if abs(value) <= sys.float_info.max else value
    return value


@settings(
    max_examples=times(150),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=list(HealthCheck),
)
@given(value=_values)
def test_whatever_is_encoded_comes_back(sync_engine: Engine, value: Any) -> None:
    """From JSON exactly, from the database with the same numbers; or it is refused."""
    try:
        found = plain(value, "it")
    except UnfitValueError:
        return
    assert plain(found, "it") == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert _as_numbers(_through(sync_engine, found)) == _as_numbers(found)


def test_bindparams_are_no_json() -> None:
    """SQL that has not been computed has no value yet."""
    with pytest.raises(UnfitValueError, match="which has no encoder"):
        plain(bindparam("x"), "it")
