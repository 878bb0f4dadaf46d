"""Versions of the loops in which the names of arguments are written out."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.delivery import loop, rewriting, specialized
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS
from aksara_signals.dispatch.delivery.specialized import GENERIC, OFTEN, Loops, loops_for


@pytest.fixture(autouse=True)
def _no_versions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without any version of the loops."""
    monkeypatch.setattr(specialized, "specialized", {})
    monkeypatch.setattr(specialized, "_sent", {})
    rewriting._source_of.cache_clear()
    yield
    rewriting._source_of.cache_clear()


class Sender:
    """Sends."""


def made_for(*names: str) -> Loops:
    """The versions for these names."""
    return loops_for((*names, "signal", "sender"), OFTEN)


def test_names_that_are_sent_often_get_versions() -> None:
    """The loops themselves do until then, and for rows they are counted one by one."""
    names = ("instance", "signal", "sender")
    for _ in range(OFTEN - 1):
        assert loops_for(names) is GENERIC
    found = loops_for(names)
    assert found is not GENERIC
    assert loops_for(names) is found
    assert loops_for(("other",), OFTEN) is not GENERIC


async def test_a_signal_uses_them() -> None:
    """After some sends, each plan knows the version for the names that were sent last."""
    signal = Signal(providing_args=["one"])
    received: list[Any] = []
    signal.connect(lambda **given: received.append(given))
    plan = signal.plan_for(Sender)
    for number in range(OFTEN):
        signal.send_sync(Sender, one=number)
        assert number < OFTEN - 1 or plan.sent == (("one",), made_for("one"))
        await signal.send(Sender, two=number, one=number)
    assert plan.sent == (("two", "one"), made_for("two", "one"))
    received.clear()
    signal.send_sync(Sender, one=1)
    await signal.send(Sender, two=2, one=1)
    await signal.send_robust(Sender, two=2, one=1)
    expected = {"one": 1, "signal": signal, "sender": Sender}
    assert received == [expected, {**expected, "two": 2}, {**expected, "two": 2}]
    assert list(received[1]) == ["two", "one", "signal", "sender"]


def test_what_is_not_sent_is_refused_as_before() -> None:
    """Names are checked when their versions are looked up."""
    signal = Signal(providing_args=["one"])
    signal.connect(lambda **_: None)
    for _ in range(OFTEN + 1):
        signal.send_sync(Sender, one=1)
    for wrong in ({}, {"two": 2}, {"one": 1, "signal": 2}):
        with pytest.raises(TypeError):
            signal.send_sync(Sender, **wrong)


@pytest.mark.parametrize(
    "name",
    ["class", "two words", "", "__debug__", "None", "\N{LATIN SMALL LIGATURE FI}", "é", "1"],
)
def test_a_name_that_cant_be_written_is_passed_as_it_is(name: str) -> None:
    """Python would refuse it, or take it for another one."""
    assert made_for(name) is GENERIC
    signal = Signal()
    received: list[Any] = []
    signal.connect(lambda **given: received.append(given))
    for _ in range(OFTEN + 2):
        signal.send_sync(Sender, **{name: 1})
    assert received[-1] == {name: 1, "signal": signal, "sender": Sender}


def test_a_subclass_of_str_is_no_name_to_write() -> None:
    """Its methods are a user's."""

    class Name(str):
        __slots__ = ()

    assert made_for(Name("one")) is GENERIC


def test_the_number_of_versions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is the memory for those that are sent rarely."""
    monkeypatch.setattr(specialized, "MAX_SETS", 2)
    first, second = made_for("a"), made_for("b")
    assert GENERIC not in (first, second)
    assert made_for("c") is GENERIC
    assert made_for("a") is first
    monkeypatch.setattr(specialized, "specialized", {})
    for number in range(10):
        loops_for((f"name{number}",))
    assert len(specialized._sent) <= 3


@pytest.mark.parametrize("problem", ["no source", "another source", "no python", "other places"])
def test_without_the_source_the_loops_are_used(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be installed, or may have been replaced by that of a later version."""
    real = rewriting.inspect.getsource

    def getsource(thing: Any) -> str:
        source = real(thing)
        match problem:
            case "no source":
                raise OSError("could not get source code")
            case "another source":
                return source.replace("responses.append", "responses.insert")
            case "no python":
                return source + "=("
        return source.replace("call(**arguments)", "call( **arguments)")

    monkeypatch.setattr(rewriting.inspect, "getsource", getsource)
    assert made_for("one") is GENERIC


def test_tracebacks_show_the_source_of_the_loops() -> None:
    """With the same line as without a version."""

    def fail(**_: Any) -> None:
        raise ValueError

    signal = Signal()
    signal.connect(fail)
    lines: list[Any] = []
    for _ in range(OFTEN + 2):
        with pytest.raises(ValueError) as caught:
            signal.send_sync(Sender)
        frames = traceback.extract_tb(caught.value.__traceback__)
        [frame] = [each for each in frames if each.filename == loop.__file__]
        lines.append((frame.lineno, frame.line, frame.name))
    assert signal.plan_for(Sender).sent is not None
    assert len(set(lines)) == 1


async def test_responses_are_collected_only_for_those_who_read_them() -> None:
    """The versions for flushes return none, and nothing of each row is kept."""
    signal = Signal()
    signal.connect(lambda one, **_: one)
    [connection] = signal.connections
    arguments = {"one": 1, "signal": signal, "sender": Sender}
    deliveries = [(signal, Sender, (connection,), arguments, (), NO_EXTRAS)] * 2
    loops = made_for("one")
    assert [each for _, each in loops.deliver_sync(deliveries)] == [1, 1]
    assert [each for _, each in await loops.deliver(deliveries)] == [1, 1]
    assert loops.deliver_sync_only(deliveries) == []
    assert await loops.deliver_only(deliveries) == []
