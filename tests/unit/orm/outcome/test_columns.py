"""The values of instances at one moment: which are taken, shared and copied."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Author, Post
from sqlalchemy import inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals.orm import SignalMixin
from aksara_signals.orm.outcome import columns
from aksara_signals.orm.outcome.columns import Columns, columns_taken, kept_values


class OwnBase(SignalMixin, DeclarativeBase):
    pass


class Key(OwnBase):
    __tablename__ = "key"

    id: Mapped[int] = mapped_column(primary_key=True)


class Equal(type):
    """A metaclass whose classes have no hash."""

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Equal):
    pass


def taken(instance: object) -> tuple[Columns, tuple[Any, ...]]:
    return columns_taken(inspect(instance))


def test_instances_share_what_is_the_same_for_all() -> None:
    """The names stand once for each class, and each row has a tuple of its values."""
    first, one = taken(Author(id=1, name="a"))
    second, two = taken(Author(id=2, name="b"))
    assert first is second
    assert (first.names, first.missing) == (("id", "name"), ())
    assert (one, two) == ((1, "a"), (2, "b"))


def test_a_class_of_one_column() -> None:
    """Its values are a tuple as well."""
    found, values = taken(Key(id=1))
    assert (found.names, values) == (("id",), (1,))


def test_what_an_insert_leaves_out_is_none_and_what_is_deferred_is_missing() -> None:
    """Both of them lack a value, and only one can be loaded."""
    found, values = taken(Post(title="a"))
    assert found.missing == ("body",)
    assert dict(zip(found.names, values, strict=True)) == {
        "id": None,
        "title": "a",
        "slug": None,
        "views": None,
        "edited_at": None,
        "author_id": None,
    }
    assert taken(Post(title="b"))[0] is found


def test_a_program_that_makes_up_its_queries_keeps_no_more_than_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Columns without missing ones are always shared; others, up to a number of sets."""
    monkeypatch.setattr(columns, "_MAX_KEPT", 0)
    manager = inspect(Author).class_manager
    assert Columns.of(manager) is Columns.of(manager)
    assert Columns.of(manager, ("name",)) is not Columns.of(manager, ("name",))


def test_values_of_which_none_can_change_are_kept_as_they_are() -> None:
    """So a row costs no second tuple."""
    values = (1, "a", None, 2.5, True)
    assert kept_values(values) is values


@pytest.mark.parametrize("value", [{"a": [1]}, [1], {1}, bytearray(b"a")])
def test_values_that_may_change_in_place_are_copied(value: Any) -> None:
    """Also beside values of types without a hash, which can't be looked up."""
    odd = Odd()
    own, other = kept_values((value, odd))
    assert own == value
    assert own is not value
    assert other is odd


def test_others_take_precedence_and_may_be_new() -> None:
    """Values that were missing are there then."""
    found, values = taken(Post(title="a"))
    merged, values = found.merged(values, {"title": "b", "body": "c"})
    assert merged.missing == ()
    assert (values[merged.places["title"]], values[merged.places["body"]]) == ("b", "c")
    assert merged.merged(values, {"title": "c"})[0] is merged
