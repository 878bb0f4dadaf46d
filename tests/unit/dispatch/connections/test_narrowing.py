"""What ``fields=`` and ``transition=`` take, and connections that differ in them."""

from __future__ import annotations

from typing import Any

import pytest

from aksara_signals import (
    Connection,
    InvalidOptionError,
    Signal,
    m2m_changed,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_save,
    post_update,
    pre_bulk_update,
    pre_save,
    pre_update,
    receiver,
)


class Model: ...


class Child(Model): ...


def note(**kwargs: Any) -> None: ...


def own(signal: Signal) -> list[Connection]:
    """The connections that the test has made: other modules may have made some."""
    return [
        each for each in signal.connections if getattr(each.receiver, "__module__", "") == __name__
    ]


MOVED = {"status": ("draft", "published")}


@pytest.mark.parametrize(
    "given", ["status", ["status"], ("status",), {"status"}, iter(["status"])], ids=range(5)
)
def test_fields_are_one_name_or_several(given: Any) -> None:
    """In whatever they come, and however often it can be read."""
    receiver([post_save, pre_save], sender=[Model, "ClassOfNoModule"], fields=given)(note)
    for signal in (post_save, pre_save):
        assert [each.fields for each in own(signal)] == [frozenset(["status"])] * 2


@pytest.mark.parametrize(
    "given", [5, [], (), {}, "", [5], [None], {"status": 1}, [["status"]], object()], ids=range(10)
)
def test_fields_that_name_nothing_are_refused(given: Any) -> None:
    """With an example."""
    for connect in (post_save.connect, post_save):
        with pytest.raises(InvalidOptionError, match=r"fields="):
            connect(sender=Model, fields=given)  # type: ignore[operator]


@pytest.mark.parametrize(
    "given",
    [
        5,
        {},
        "status",
        [("status", "draft", "published")],
        {5: (1, 2)},
        {"status": "published"},
        {"status": ["draft", "published"]},
        {"status": ("draft",)},
        {"status": ("draft", "open", "published")},
        {"status": (set(), "published")},
        {"status": ("draft", frozenset())},
        {"": (1, 2)},
    ],
    ids=range(12),
)
def test_transitions_that_say_nothing_are_refused(given: Any) -> None:
    """With an example."""
    with pytest.raises(InvalidOptionError, match=r"transition="):
        post_save.connect(note, sender=Model, transition=given)


@pytest.mark.parametrize("signal", [pre_save, post_save, pre_update, post_update], ids=str)
def test_signals_of_rows_take_both(signal: Signal) -> None:
    """Before the flush and after it."""
    signal.connect(note, Model, fields="status", transition=MOVED)
    [connection] = own(signal)
    assert connection.fields == {"status"}
    assert dict(connection.transition or {}) == MOVED


@pytest.mark.parametrize("signal", [pre_bulk_update, post_bulk_update], ids=str)
def test_bulk_updates_take_fields_and_know_no_old_values(signal: Signal) -> None:
    """So they refuse transitions."""
    signal.connect(note, Model, fields="status")
    with pytest.raises(InvalidOptionError, match="single rows"):
        signal.connect(note, Child, transition=MOVED)


@pytest.mark.parametrize(
    "signal", [post_delete, m2m_changed, post_bulk_create, Signal("custom")], ids=str
)
def test_other_signals_take_neither(signal: Signal) -> None:
    """What they are sent for changes no attributes that could be named."""
    for options in ({"fields": "status"}, {"transition": MOVED}):
        with pytest.raises(InvalidOptionError, match="save and update signals"):
            signal.connect(note, Model, **options)
        with pytest.raises(InvalidOptionError, match="save and update signals"):
            signal.disconnect(note, Model, **options)


def test_every_sender_has_no_attributes_in_common() -> None:
    """So a class has to be named."""
    for sender in (None, [Model, None]):
        with pytest.raises(InvalidOptionError, match="every sender"):
            post_save.connect(note, sender, fields="status")
    with pytest.raises(InvalidOptionError, match="every sender"):
        post_save.connect(note, transition=MOVED)
    assert own(post_save) == []


def test_a_connection_that_differs_in_a_filter_is_one_of_its_own() -> None:
    """An equal one is ignored, however it is written."""
    for _ in range(2):
        post_save.connect(note, Model)
        post_save.connect(note, Model, created=True)
        post_save.connect(note, Model, fields="status")
        post_save.connect(note, Model, fields={"status", "title"})
        post_save.connect(note, Model, fields=["title", "status", "title"])
        post_save.connect(note, Model, transition=MOVED)
        post_save.connect(note, Model, transition={"status": ("draft", {"published"})})
        post_save.connect(note, Model, transition={"status": (..., "published")})
        post_save.connect(note, Model, transition={"status": ([1], ...)})
        post_save.connect(note, Model, fields="status", transition=MOVED)
    assert len(own(post_save)) == 9


class Array:
    """A value whose comparison is no bool, as that of an array."""

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


def test_values_that_cant_be_compared_are_alike_if_they_are_one() -> None:
    """Two arrays are two values."""
    one, other = Array(), Array()
    for value in (one, other, one):
        post_save.connect(note, Model, transition={"data": (..., value)})
    assert len(own(post_save)) == 2


def test_a_filter_finds_the_connection_to_undo() -> None:
    """Only that one; without filters, all are undone."""
    for options in ({}, {"fields": "a"}, {"fields": "b"}, {"transition": MOVED}):
        post_save.connect(note, Model, **options)
    assert post_save.disconnect(note, Model, fields=["a"])
    assert not post_save.disconnect(note, Model, fields=["a"])
    assert not post_save.disconnect(note, Model, fields=["a", "b"])
    assert not post_save.disconnect(note, Model, transition={"status": ("draft", ...)})
    assert post_save.disconnect(note, Model, transition=dict(MOVED))
    assert post_save.disconnect(note, Model, fields=None, transition=None)
    assert [each.fields for each in own(post_save)] == [{"b"}]
    post_save.connect(note, Model, transition=MOVED)
    assert post_save.disconnect(note, Model)
    assert own(post_save) == []


def test_what_is_connected_for_a_block_goes_with_it() -> None:
    """A connection without filters stays."""
    post_save.connect(note, Model)
    with post_save.connected_to(note, Model, fields="status"):
        assert len(own(post_save)) == 2
    assert [each.fields for each in own(post_save)] == [None]


def test_a_connection_shows_its_filters() -> None:
    """A transition is a mapping that can't be changed."""
    post_save.connect(note, Model, transition=MOVED)
    [connection] = own(post_save)
    transition: Any = connection.transition
    assert len(transition) == 1
    assert repr(transition) == "<Transition of status>"
    assert transition != MOVED
    with pytest.raises(TypeError):
        transition["status"] = (1, 2)
