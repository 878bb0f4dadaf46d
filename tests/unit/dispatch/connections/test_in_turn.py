"""Whether mocks may stand for receivers that are called in turn."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.connections.in_turn import InTurn
from aksara_signals.dispatch.receivers.patching import ModuleName

NAMES = ("first", "second", "third")


@pytest.fixture
def module() -> Iterator[Any]:
    """A module with functions."""
    name = "module_of_receivers_in_turn"
    found: Any = types.ModuleType(name)
    sys.modules[name] = found
    source = "".join(f"def {each}(**given): return {each!r}\n" for each in NAMES)
    exec(source, vars(found))
    yield found
    sys.modules.pop(name, None)


@pytest.fixture
def signal(module: Any) -> Signal:
    """A signal with the functions of the module, and others."""
    signal = Signal()
    for name in NAMES:
        signal.connect(getattr(module, name))
    signal.connect(lambda **_: "lambda")
    return signal


def responses(signal: Signal) -> list[Any]:
    """What receivers return."""
    return [response for _, response in signal.send_sync()]


def in_turn(signal: Signal) -> InTurn:
    """The connections of a send."""
    found = signal.plan_for(None).sequential
    assert type(found) is InTurn
    return found


EXPECTED = [*NAMES, "lambda"]


def test_a_mock_is_called_as_long_as_it_is_there(module: Any, signal: Signal) -> None:
    """One name or several, again and again."""
    for names in (["second"], ["first", "third"], ["second"]):
        assert responses(signal) == EXPECTED
        patches = [mock.patch.object(module, name, return_value="mock") for name in names]
        for each in patches:
            each.start()
        assert responses(signal) == ["mock" if name in names else name for name in EXPECTED]
        for each in patches:
            each.stop()
    assert responses(signal) == EXPECTED


def test_one_function_is_looked_up_as_well(module: Any) -> None:
    """There is nothing to gain by looking up several names at once."""
    signal = Signal()
    signal.connect(module.first)
    assert responses(signal) == ["first"]
    with mock.patch.object(module, "first", return_value="mock"):
        assert responses(signal) == ["mock"]
    assert responses(signal) == ["first"]


def test_names_are_not_looked_up_one_by_one(
    signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were at the first send; unless one of them is bound to something else."""
    assert responses(signal) == EXPECTED
    looked_up: list[Any] = []
    current = ModuleName.current

    def counted(self: ModuleName, receiver: Any) -> Any:
        looked_up.append(receiver)
        return current(self, receiver)

    monkeypatch.setattr(ModuleName, "current", counted)
    assert responses(signal) == EXPECTED
    assert looked_up == []
    with mock.patch("module_of_receivers_in_turn.third", return_value="mock"):
        assert responses(signal) == ["first", "second", "mock", "lambda"]
    assert len(looked_up) == len(NAMES)


@pytest.mark.parametrize(
    "change",
    [
        lambda module: delattr(module, "first"),
        lambda module: setattr(module, "first", 1),
        lambda module: sys.modules.pop(module.__name__),
        lambda module: sys.modules.update({module.__name__: types.ModuleType("other")}),
    ],
)
@pytest.mark.parametrize("names", [["first"], ["first", "second"]])
def test_what_is_rebound_may_be_patched(
    module: Any, names: list[str], change: Callable[[Any], object]
) -> None:
    """Without a mock, the receiver is called nevertheless."""
    signal = Signal()
    for name in names:
        signal.connect(getattr(module, name))
    assert responses(signal) == names
    found = in_turn(signal)
    assert not found.may_be_patched(found)
    change(module)
    assert found.may_be_patched(found)
    assert responses(signal) == names


def test_a_name_belongs_to_the_receiver_it_is_bound_to(module: Any) -> None:
    """Also when another function of that name has been connected meanwhile."""
    one, two = Signal(), Signal()
    one.connect(module.first)
    assert responses(one) == ["first"]
    original = module.first
    exec("\n\ndef first(**given): return 'another'\n", vars(module))
    two.connect(module.first)
    module.first = original
    assert responses(two) == ["another"]
    assert responses(one) == ["first"]
    with mock.patch.object(module, "first", return_value="mock"):
        assert responses(one) == ["mock"]
        assert responses(two) == ["another"]


def test_methods_are_looked_up_one_by_one(module: Any) -> None:
    """As are functions that are referenced weakly."""

    class Service:
        def notify(self, **_: Any) -> str:
            return "service"

    for receiver, weak in ((Service().notify, False), (module.first, True)):
        signal = Signal()
        signal.connect(receiver, weak=weak)
        assert len(responses(signal)) == 1
        found = in_turn(signal)
        assert found.may_be_patched(found)


def test_functions_of_several_modules(module: Any, signal: Signal) -> None:
    """Each module is asked for its names."""
    signal.connect(receive)
    assert responses(signal) == [*EXPECTED, "here"]
    found = in_turn(signal)
    assert not found.may_be_patched(found)
    with mock.patch(f"{__name__}.receive", return_value="mock"):
        assert found.may_be_patched(found)
        assert responses(signal) == [*EXPECTED, "mock"]
    with mock.patch.object(module, "first", return_value="mock"):
        assert responses(signal) == ["mock", *EXPECTED[1:], "here"]


def receive(**_: Any) -> str:
    """Belongs to this module."""
    return "here"
