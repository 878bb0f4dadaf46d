"""provenance(): values of a context, and the receivers that are given them."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest

import aksara_signals
from aksara_signals import InvalidOptionError, Signal, provenance, typed_signal
from aksara_signals.dispatch.provenance import (
    ProvenanceValues,
    provenance_of,
    restored_provenance,
)


@pytest.fixture
def signal() -> Signal:
    return Signal("happened")


@pytest.fixture
def given(signal: Signal) -> list[Any]:
    """What a receiver of the signal was given."""
    found: list[Any] = []

    def note(provenance: Any, **kwargs: Any) -> None:
        found.append(provenance)

    signal.connect(note)
    return found


# -- blocks ----------------------------------------------------------------------------------------


async def test_every_form_of_block() -> None:
    """with, async with, and decorators of sync and async functions."""
    block = provenance(actor=1)
    with block as entered:
        assert entered == provenance.current() == {"actor": 1}
    async with block as entered:
        assert entered == provenance.current() == {"actor": 1}

    @block
    def sync(argument: int) -> Any:
        return argument, provenance.current()

    @block
    async def asynchronous(argument: int) -> Any:
        await asyncio.sleep(0)
        return argument, provenance.current()

    assert sync(1) == (1, {"actor": 1})
    assert await asynchronous(2) == (2, {"actor": 1})
    assert provenance.current() == {}
    assert repr(block) == "<provenance of actor>"


def test_outside_of_blocks_it_is_empty() -> None:
    """An empty mapping, not None."""
    assert provenance.current() == {}
    assert isinstance(provenance.current(), Mapping)
    with provenance():
        assert provenance.current() == {}


def test_nested_blocks_are_merged() -> None:
    """Of values with one name, the inner one is in force, None included; then the outer one."""
    with provenance(actor=1, request="a", tags={"x": 1}):
        with provenance(actor=None, tags={"y": 2}):
            assert provenance.current() == {"actor": None, "request": "a", "tags": {"y": 2}}
        assert provenance.current() == {"actor": 1, "request": "a", "tags": {"x": 1}}


def test_blocks_are_entered_again_and_left_in_any_order() -> None:
    """Also inside themselves; what is left are the values of those that were not left."""
    one, two = provenance(a=1, c=1), provenance(b=2, c=2)
    with one, one:
        assert provenance.current() == {"a": 1, "c": 1}
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert provenance.current() == {"b": 2, "c": 2}
    two.__exit__(None, None, None)
    assert provenance.current() == {}


def test_an_exception_leaves_the_block() -> None:
    """And is not swallowed."""
    with pytest.raises(LookupError), provenance(actor=1):
        raise LookupError
    assert provenance.current() == {}


def test_any_name_is_a_name() -> None:
    """Those that are no identifiers, and those of parameters."""
    with provenance(**{"http.route": "/", "self": 1, "values": 2}):
        assert provenance.current() == {"http.route": "/", "self": 1, "values": 2}


# -- contexts --------------------------------------------------------------------------------------


async def test_a_task_inherits_a_copy() -> None:
    """It keeps the values after the block, and what it sets itself stays with it."""
    left = asyncio.Event()

    async def child() -> Any:
        async with provenance(child=True):
            await left.wait()
            return provenance.current()

    async with provenance(actor=1):
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        assert provenance.current() == {"actor": 1}
    left.set()
    assert await task == {"actor": 1, "child": True}
    assert provenance.current() == {}


async def test_tasks_at_once_keep_apart() -> None:
    """Each one has its own values, in whichever order they go on."""
    block = asyncio.Barrier(2)

    async def request(actor: int) -> Any:
        async with provenance(actor=actor):
            await block.wait()
            return provenance.current()

    assert await asyncio.gather(request(1), request(2)) == [{"actor": 1}, {"actor": 2}]


async def test_a_thread_starts_empty_unless_it_is_given_the_context() -> None:
    """asyncio.to_thread() passes it on."""
    found: list[Any] = []
    with provenance(actor=1):
        thread = threading.Thread(target=lambda: found.append(provenance.current()))
        thread.start()
        thread.join()
        found.append(await asyncio.to_thread(provenance.current))
    assert found == [{}, {"actor": 1}]


def test_it_may_be_left_elsewhere() -> None:
    """Leaving in another context, as FastAPI's dependencies do, is quiet and changes nothing."""
    block = provenance(actor=1)
    copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert provenance.current() == {}
    with block:
        copy_context().run(block.__exit__, None, None, None)
        assert provenance.current() == {"actor": 1}


async def test_generators_may_be_closed_elsewhere() -> None:
    """Sync and async ones, as dependencies that yield; another block around stays in force."""

    @contextmanager
    def dependency() -> Iterator[None]:
        with provenance(actor=1):
            yield

    @asynccontextmanager
    async def async_dependency() -> AsyncIterator[None]:
        async with provenance(actor=1):
            yield

    plain, asynchronous = dependency(), async_dependency()
    plain.__enter__()
    await asynchronous.__aenter__()
    async with provenance(request="b"):
        await asyncio.create_task(asynchronous.__aexit__(None, None, None))
        await asyncio.to_thread(plain.__exit__, None, None, None)
        assert provenance.current() == {"actor": 1, "request": "b"}


def test_a_generator_is_not_decorated() -> None:
    """Its caller would have the values between two yields."""

    def generator() -> Iterator[None]:
        yield

    with pytest.raises(InvalidOptionError, match="provenance can't decorate the generator"):
        provenance(actor=1)(generator)


async def test_restored_values_take_the_place_of_all_others() -> None:
    """And those from before come back, also where the block is closed in another context."""
    stored = provenance_of({"actor": 1})
    with provenance(request="a"):
        with restored_provenance(stored):
            assert provenance.current() is stored
            with provenance(request="b"):
                assert provenance.current() == {"actor": 1, "request": "b"}
            assert provenance.current() == {"actor": 1}
        assert provenance.current() == {"request": "a"}

    async def abandoned() -> None:
        with restored_provenance(stored):
            await asyncio.Future()

    coroutine = abandoned()
    copy_context().run(coroutine.send, None)
    with provenance(request="a"):
        coroutine.close()
        gc.collect()
        assert provenance.current() == {"request": "a"}


# -- values ----------------------------------------------------------------------------------------


class Word(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é", "é"),
        (5, 5),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ([1, ["a"]], [1, ["a"]]),
        ((1, 2), [1, 2]),
        (OrderedDict(a={"b": []}), {"a": {"b": []}}),
        (Word.A, "a"),
        (Number.ONE, 1),
        ({Word.A: 1}, {"a": 1}),
    ],
)
def test_values_are_json(value: Any, expected: Any) -> None:
    """And come back as JSON gives them."""
    with provenance(it=value) as values:
        assert values == {"it": expected}
        assert json.loads(json.dumps(values)) == values
        assert type(values["it"]) not in (Word, Number)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (UUID(int=1), r"it is UUID, which JSON doesn't have; give a string, such as str\(\) of it"),
        ([0, {"a": b""}], r"it\[1\]\['a'\] is bytes, which JSON doesn't have"),
        ({1, 2}, "it is set, which JSON"),
        (object, "it is type"),
        (float("nan"), "it is not a finite number"),
        ("a\0", "it contains the character NUL"),
        ("\ud800", "it contains half of a surrogate pair"),
        ({1: 2}, "it has a key of type int; give strings as keys"),
        (10**4300, "it is a number of more than 4300 digits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bad_values_are_refused_on_entering(value: Any, message: str) -> None:
    """The error says which value, what in it, and what to give; nothing is in force then."""
    block = provenance(actor=1, it=value)
    with pytest.raises(InvalidOptionError, match=message) as caught:
        block.__enter__()
    assert "strings, numbers, True, False, None, and lists and dicts of them" in str(caught.value)
    assert provenance.current() == {}


def test_endless_values_and_names_that_nothing_stores_are_refused() -> None:
    """A list that contains itself, a NUL in a name."""
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(InvalidOptionError, match="nested too deeply, or contains itself"):
        provenance(it=itself).__enter__()
    with pytest.raises(InvalidOptionError, match="a name contains the character NUL"):
        provenance(**{"a\0": 1}).__enter__()


def test_values_have_names() -> None:
    """A mapping by position, and a decorator without parentheses."""
    given: Any = {"actor": 1}
    with pytest.raises(InvalidOptionError, match=r"without a name; .*provenance\(\*\*values\)"):
        provenance(given)

    def function() -> None: ...

    decorated: Any = function
    with pytest.raises(InvalidOptionError, match=r"@provenance\(actor=5\)"):
        provenance(decorated)


def test_later_mutation_changes_nothing() -> None:
    """Neither in what is in force, nor in what was read; a block that is entered again sees it."""
    roles = ["reader"]
    block = provenance(user={"roles": roles})
    with block as values:
        roles.append("admin")
        assert provenance.current() == {"user": {"roles": ["reader"]}}
    assert values == {"user": {"roles": ["reader"]}}
    with block as values:
        assert values == {"user": {"roles": ["reader", "admin"]}}


def test_what_is_read_never_changes() -> None:
    """At no depth; copies are equal, and never change either."""
    with provenance(user={"roles": ["reader"]}):
        values: Any = provenance.current()
    for change in (
        lambda: values.update(a=1),
        lambda: values["user"].pop("roles"),
        lambda: values["user"]["roles"].append("admin"),
    ):
        with pytest.raises(TypeError, match="never changes"):
            change()
    for found in (copy.deepcopy(values), pickle.loads(pickle.dumps(values))):
        assert found == values
        assert type(found) is ProvenanceValues


def test_what_a_row_without_provenance_holds_is_empty() -> None:
    """As one of an earlier version."""
    assert provenance_of(None) == provenance_of({}) == {}
    assert provenance_of({"a": [1]})["a"] == [1]


# -- receivers -------------------------------------------------------------------------------------


async def test_a_receiver_that_names_it_is_given_it(send: Any, given: list[Any]) -> None:
    """In each way of sending; empty outside of blocks."""
    signal = Signal("happened")

    def note(sender: Any, provenance: Any, **kwargs: Any) -> None:
        given.append((provenance, sorted(kwargs)))

    signal.connect(note)
    with provenance(actor=1):
        await send(signal, None, amount=5)
    await send(signal, None)
    assert given == [({"actor": 1}, ["amount", "signal"]), ({}, ["signal"])]


def test_a_receiver_that_does_not_name_it_is_not_given_it(signal: Signal) -> None:
    """Its call stays as plain as it was."""
    found: list[Any] = []

    def note(**kwargs: Any) -> None:
        found.append(kwargs)

    signal.connect(note)
    with provenance(actor=1):
        signal.send_sync("shop")
    assert found == [{"signal": signal, "sender": "shop"}]
    assert signal.connections[0].is_plain


def test_it_is_filled_by_position_and_in_the_place_of_a_default() -> None:
    """As any other argument."""
    signal = Signal("paid", providing_args=["amount"])
    found: list[Any] = []

    def by_position(sender: Any, provenance: Any, /, **kwargs: Any) -> None:
        found.append(provenance)

    def with_default(provenance: Any = None, **kwargs: Any) -> None:
        found.append(provenance)

    signal.connect(by_position)
    signal.connect(with_default)
    signal.connect(lambda s, *, provenance, **kwargs: found.append(provenance))
    with provenance(actor=1):
        signal.send_sync(None, amount=1)
    assert found == [{"actor": 1}] * 3


@pytest.mark.parametrize("providing_args", [None, ["provenance"]])
def test_one_that_is_sent_takes_its_place(providing_args: Any) -> None:
    """By a signal that declares it, or that declares nothing."""
    signal = Signal("paid", providing_args=providing_args)
    found: list[Any] = []

    def note(provenance: Any, **kwargs: Any) -> None:
        found.append(provenance)

    signal.connect(note)
    with provenance(actor=1):
        signal.send_sync(None, provenance="mine")
    assert found == ["mine"]


def test_a_signal_that_declares_the_argument_owns_it() -> None:
    """An optional one that isn't sent has its own default."""

    @typed_signal
    def paid(sender: Any, *, provenance: str = "none") -> None: ...

    found: list[Any] = []

    @paid.connect
    def note(sender: Any, provenance: str, **kwargs: Any) -> None:
        found.append(provenance)

    with provenance(actor=1):
        paid.send_sync(None)
    assert found == ["none"]


async def test_concurrent_receivers_are_given_it(signal: Signal) -> None:
    """And what one of them sets is not given to the other."""
    found: list[Any] = []

    async def one(provenance: Any, **kwargs: Any) -> None:
        with aksara_signals.provenance(actor=2):
            await asyncio.sleep(0)
            found.append(provenance)

    async def two(provenance: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        found.append((provenance, aksara_signals.provenance.current()))

    signal.connect(one, concurrent=True)
    signal.connect(two, concurrent=True)
    async with provenance(actor=1):
        await signal.send(None)
    assert found == [{"actor": 1}, ({"actor": 1}, {"actor": 1})]


async def test_what_a_receiver_sends_carries_it_on(signal: Signal, given: list[Any]) -> None:
    """With what it adds."""
    first = Signal("first")

    @first.connect
    async def send_on(**kwargs: Any) -> None:
        async with provenance(step=1):
            await signal.send(None)

    async with provenance(actor=1):
        await first.send(None)
    assert given == [{"actor": 1, "step": 1}]


def test_calling_the_argument_names_the_context_manager(signal: Signal) -> None:
    """A receiver whose parameter hides it would otherwise be at a loss."""

    def hide(provenance: Any, **kwargs: Any) -> None:
        with provenance(actor=1):
            pass

    signal.connect(hide)
    with pytest.raises(TypeError, match=r"aksara_signals\.provenance\(…\)"):
        signal.send_sync(None)
