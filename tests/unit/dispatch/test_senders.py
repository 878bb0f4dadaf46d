"""Senders: which spellings mean several, which one, and which can never send."""

from __future__ import annotations

import enum
from collections import ChainMap
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock, NonCallableMagicMock

import pytest
from kit.support import answering

from aksara_signals import (
    InvalidOptionError,
    InvalidSenderError,
    Signal,
    m2m_changed,
    post_delete,
    post_save,
    pre_migrate,
    receiver,
    typed_signal,
)
from aksara_signals.dispatch.adapter import Adapter


class A: ...


class B: ...


class Colour(enum.Enum):
    RED = 1


class Loop:
    """An iterator of its own kind."""

    def __init__(self) -> None:
        self.rest = [A, B]

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self.rest:
            raise StopIteration
        return self.rest.pop(0)


class Subscripted:
    """Can be iterated over by the old protocol, as a mapped JSON column can."""

    def __getitem__(self, place: int) -> Any:
        return A


class Iterable:
    """Can be iterated over, as a session can, and is no iterator."""

    def __iter__(self) -> Iterator[Any]:
        return iter([A])


SEVERAL: list[Callable[[], Any]] = [
    lambda: [A, B],
    lambda: (A, B),
    lambda: {A, B},
    lambda: frozenset([A, B]),
    {A: 1, B: 2}.keys,
    {1: A, 2: B}.values,
    lambda: ChainMap({A: 1, B: 2}).keys(),
    lambda: (each for each in (A, B)),
    lambda: iter([A, B]),
    lambda: map({1: A, 2: B}.get, [1, 2]),
    Loop,
]
ONE: list[Any] = [
    A,
    Colour,
    Colour.RED,
    Subscripted(),
    Iterable(),
    NonCallableMagicMock(),
    b"bytes",
    {A: 1},
]
EMPTY: list[Any] = [[], (), set(), {}.keys(), iter([])]
NESTED: list[Callable[[], Any]] = [
    lambda: [[A]],
    lambda: [A, (B,)],
    {A: B}.items,
    lambda: (each for each in [[A]]),
    lambda: [iter([A])],
]


def note(**kwargs: Any) -> None: ...


SPELLINGS: list[Callable[[Signal, Any], Any]] = [
    lambda signal, given: signal.connect(note, given),
    lambda signal, given: signal.connect(note, sender=given),
    lambda signal, given: signal.connect(note, senders=given),
    lambda signal, given: signal.connect(sender=given)(note),
    lambda signal, given: signal.connect(senders=given)(note),
    lambda signal, given: signal(given)(note),
    lambda signal, given: signal(sender=given)(note),
    lambda signal, given: signal(senders=given)(note),
    lambda signal, given: receiver(signal, sender=given)(note),
    lambda signal, given: receiver(signal, senders=given)(note),
]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("several", SEVERAL)
def test_several_senders(signal: Signal, spell: Any, several: Any) -> None:
    """Whatever holds senders, each is connected; whichever way they are named."""
    spell(signal, several())
    assert {each.sender for each in signal.connections} == {A, B}
    assert signal.disconnect(note, senders=several())
    assert signal.connections == ()


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("one", ONE, ids=lambda one: type(one).__name__)
def test_one_sender(signal: Signal, spell: Any, one: Any) -> None:
    """What can be iterated over and is no container of senders is one sender."""
    spell(signal, one)
    [connection] = signal.connections
    assert connection.sender is one
    assert signal.disconnect(note, sender=one)


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("wrong", [*(lambda each=each: each for each in EMPTY), *NESTED])
def test_empty_and_nested_senders(signal: Signal, spell: Any, wrong: Any) -> None:
    """No senders at all, and senders in lists in lists, are refused, and nothing is connected."""
    with pytest.raises(InvalidSenderError, match=r"empty|inside"):
        spell(signal, wrong())
    assert signal.connections == ()


@pytest.mark.parametrize("wrong", [*(lambda each=each: each for each in EMPTY), *NESTED])
def test_empty_and_nested_senders_elsewhere(signal: Signal, wrong: Any) -> None:
    """disconnect and connected_to refuse them, too, and so does the call among others."""
    for attempt in (
        lambda: signal.disconnect(note, sender=wrong()),
        lambda: signal.disconnect(note, senders=wrong()),
        lambda: signal.connected_to(note, sender=wrong()).__enter__(),
        lambda: signal.connected_to(note, senders=wrong()).__enter__(),
        lambda: signal(A, wrong()),
    ):
        with pytest.raises(InvalidSenderError):
            attempt()


def test_senders_are_named_in_one_way(signal: Signal) -> None:
    """sender= beside senders=, or either beside senders by position, is refused."""
    for attempt in (
        lambda: signal.connect(note, A, senders=[B]),
        lambda: signal.connect(sender=A, senders=[B]),
        lambda: signal(sender=A, senders=[B]),
        lambda: signal(A, sender=B),
        lambda: signal(A, senders=[B]),
        lambda: signal(note, sender=A),
        lambda: signal.disconnect(note, A, senders=[B]),
        lambda: signal.connected_to(note, A, senders=[B]).__enter__(),
        lambda: receiver(signal, sender=A, senders=[B]),
    ):
        with pytest.raises(InvalidOptionError, match="senders="):
            attempt()
    assert signal.connections == ()


def test_an_iterator_is_used_up_once(signal: Signal) -> None:
    """A decorator that was made from a generator connects each receiver to all senders."""
    other = Signal("other")
    decorate = receiver([signal, other], sender=(each for each in (A, B)))
    again = signal(each for each in (A, B))
    functions = [lambda **kwargs: 1, lambda **kwargs: 2]
    for function in functions:
        decorate(function)
        again(function)
    for each in (signal, other):
        assert each.receivers_for(A) == each.receivers_for(B) == functions


def test_all_senders(signal: Signal) -> None:
    """None by any name, or nothing, is every sender."""
    for connect in (
        signal,
        signal(),
        signal(None),
        signal(sender=None),
        signal(senders=None),
        signal([None]),
    ):
        connect(lambda **kwargs: None)
    assert [each.sender for each in signal.connections] == [None] * 6


def test_typed_signals_name_senders(signal: Signal) -> None:
    """Typed signals take the same."""

    @typed_signal
    def paid(sender: type, *, amount: int) -> None: ...

    paid(sender=A)(note)
    paid(senders=[B])(note)
    paid.connect(note, senders=(each for each in [Colour]))
    assert [each.sender for each in paid.connections] == [A, B, Colour]


@pytest.mark.parametrize("signal", [post_save, post_delete, m2m_changed, pre_migrate])
@pytest.mark.parametrize("sender", [7, 1.5, [A, 7]], ids=str)
def test_senders_that_can_never_send(signal: Signal, sender: Any) -> None:
    """No number sends a built-in signal; it is refused whichever way it is named."""
    before = signal.connections
    for attempt in (
        lambda: signal.connect(note, sender),
        lambda: signal.connect(sender=sender),
        lambda: signal(sender),
        lambda: signal(senders=sender),
        lambda: receiver(signal, sender=sender),
        lambda: signal.connected_to(note, sender).__enter__(),
    ):
        with pytest.raises(InvalidSenderError, match="never sends it"):
            attempt()
    assert signal.connections == before
    assert not signal.disconnect(note, sender)


def test_what_was_meant() -> None:
    """The refusal says what was given and what to write."""
    for sender, words in [
        (object(), "@post_save(Post)"),
        (note, "post_save.connect()"),
        (Mock(), "post_save.connect()"),
    ]:
        with pytest.raises(InvalidSenderError) as refused:
            post_save.connect(note, sender)
        assert words in str(refused.value)
    with pytest.raises(InvalidSenderError, match=r"test_senders\.note"):
        post_save(note, priority=1)
    with pytest.raises(InvalidSenderError, match="'upgrade'"):
        pre_migrate.connect(note, object())


def test_the_adapter_explains() -> None:
    """Without one, whatever is no number may send m2m_changed; with one, it decides."""
    table = object()
    with answering(problem_of_sender=Adapter().problem_of_sender):
        with m2m_changed.connected_to(note, table):
            assert m2m_changed.has_receivers(table)
        with pytest.raises(InvalidSenderError, match="it is not a class"):
            post_save.connect(note, table)
    with (
        answering(problem_of_sender=lambda sender, name, links: f"{name} {links}"),
        pytest.raises(InvalidSenderError, match="it m2m_changed True"),
    ):
        m2m_changed.connect(note, table)
