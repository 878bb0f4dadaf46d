"""Receivers that are defined again: reloaded modules, notebook cells, and what only looks alike."""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aksara_signals import Signal
from aksara_signals.testing import restored_signals

Write = Callable[[str], Any]

_numbers = itertools.count()


@pytest.fixture
def signal() -> Signal:
    return Signal(f"redefined{next(_numbers)}")  # functions keep earlier ones alive for a while


@pytest.fixture
def write(signal: Signal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the module of receivers and executes it, once more if it was there before."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = "redefined_receivers"

    def write(code: str) -> Any:
        lines = f"""
import functools
from aksara_signals import lookup
signal = lookup({signal.name!r})
"""
        (tmp_path / f"{name}.py").write_text(lines + code)
        importlib.invalidate_caches()
        if name in sys.modules:
            return importlib.reload(sys.modules[name])
        return importlib.import_module(name)

    yield write
    sys.modules.pop(name, None)


def run_cell(code: str, namespace: dict[str, Any]) -> None:
    exec(compile(code, "<cell>", "exec"), namespace)


@pytest.fixture
def notebook(signal: Signal) -> dict[str, Any]:
    return {"__name__": "__main__", "signal": signal, "functools": functools}


def sent(signal: Signal) -> list[Any]:
    return [response for _, response in signal.send_sync()]


NOTE = "@signal.connect\ndef note(**kwargs):\n    return {}\n"


def test_a_reloaded_module_replaces_its_receivers(signal: Signal, write: Write) -> None:
    """What is called is what the module says now, for the senders that it says now."""
    write(NOTE.format(1) + "signal.connect(note, sender='x')\n")
    write(NOTE.format(2))
    assert sent(signal) == [2]
    assert len(signal.connections) == 1
    write("@signal\n@signal('x')\ndef note(**kwargs):\n    return 3\n")
    assert sent(signal) == [3]
    assert len(signal.connections) == 2


def test_a_module_that_is_imported_anew_replaces_its_receivers(
    signal: Signal, write: Write
) -> None:
    """The same when it was taken out of sys.modules in between."""
    write(NOTE.format(1))
    del sys.modules["redefined_receivers"]
    write(NOTE.format(2))
    assert sent(signal) == [2]


def test_receivers_of_one_execution_are_all_live(signal: Signal, write: Write) -> None:
    """Two functions of one name, loops, factories and lambdas replace no receiver in one execution."""
    write(
        NOTE.format(1)
        + NOTE.format(2)
        + "for number in (3, 4):\n"
        + "    @signal.connect\n"
        + "    def looped(number=number, **kwargs):\n        return number\n"
        + "def factory(number):\n    def made(**kwargs):\n        return number\n    return made\n"
        + "signal.connect(factory(5))\nsignal.connect(factory(6))\n"
        + "signal.connect(lambda **kwargs: 7)\n"
    )
    assert sent(signal) == [1, 2, 3, 4, 5, 6, 7]


def test_lambdas_and_factories_are_never_replaced(signal: Signal, write: Write) -> None:
    """They can't be distinguished by name."""
    code = (
        "signal.connect(lambda **kwargs: 1)\n"
        "def factory():\n    def made(**kwargs):\n        return 2\n    return made\n"
        "signal.connect(factory())\n"
    )
    write(code)
    write(code)
    assert sent(signal) == [1, 2, 1, 2]


WRAPPED = """
def wrapped(function):
    @functools.wraps(function)
    def wrapper(**kwargs):
        return function(**kwargs)
    return wrapper

@signal.connect
@wrapped
def note(**kwargs):
    return 1
"""
PARTIAL = """
def note(number, **kwargs):
    return number

signal.connect(functools.partial(note, 1))
"""
OF_CLASS = """
class Service:
    @{0}
    def note({1}**kwargs):
        return 1

signal.connect(Service.note)
"""


@pytest.mark.parametrize(
    "code",
    [
        WRAPPED,
        PARTIAL,
        OF_CLASS.format("classmethod", "cls, "),
        OF_CLASS.format("staticmethod", ""),
    ],
    ids=["wraps", "partial", "classmethod", "staticmethod"],
)
def test_wrappers_are_judged_by_what_they_wrap(
    signal: Signal, write: Write, notebook: dict[str, Any], code: str
) -> None:
    """A decorated function, a partial, and functions of a class are replaced like plain ones."""
    write(code)
    write(code)
    assert sent(signal) == [1]
    run_cell(code, notebook)
    run_cell(code, notebook)
    assert sent(signal) == [1, 1]


def test_methods_of_instances_are_not_replaced(signal: Signal, write: Write) -> None:
    """Their instances may be live, whichever execution made them."""
    code = (
        "class Service:\n    def note(self, **kwargs):\n        return 1\n"
        "service = Service()\nsignal.connect(service.note)\n"
    )
    write(code)
    write(code)
    assert sent(signal) == [1, 1]


def test_a_cell_that_is_run_again_replaces_its_receivers(
    signal: Signal, notebook: dict[str, Any]
) -> None:
    """Where the module has no __spec__, another code object is another execution."""
    run_cell(NOTE.format(1), notebook)
    run_cell(NOTE.format(2), notebook)
    run_cell(NOTE.format(2), notebook)
    assert sent(signal) == [2]
    run_cell("for number in (3, 4):\n    @signal.connect\n    def note(n=number, **kwargs):\n"
             "        return n\n", notebook)  # fmt: skip
    assert sent(signal) == [3, 4]
    run_cell("signal.connect(lambda **kwargs: 5)\n" * 2, notebook)
    assert sent(signal) == [3, 4, 5, 5]


def test_receivers_of_one_script_are_all_live(signal: Signal, notebook: dict[str, Any]) -> None:
    """One execution of one text may define two functions of one name, without a __spec__, too."""
    run_cell(NOTE.format(1) + NOTE.format(2), notebook)
    assert sent(signal) == [1, 2]
    run_cell(NOTE.format(3), notebook)
    assert sent(signal) == [3]


def test_a_function_connected_from_elsewhere_replaces_its_forerunner(
    signal: Signal, notebook: dict[str, Any]
) -> None:
    """Where no cell is running, the code object decides; the same function is connected besides."""
    run_cell("def note(**kwargs):\n    return 1\n", notebook)
    signal.connect(notebook["note"], sender=str)
    signal.connect(notebook["note"], sender=int)
    assert len(signal.connections) == 2
    run_cell("def note(**kwargs):\n    return 2\n", notebook)
    signal.connect(notebook["note"])
    assert sent(signal) == [2]
    assert len(signal.connections) == 1


def test_another_signal_or_module_is_left_alone(signal: Signal, notebook: dict[str, Any]) -> None:
    """Only receivers of the same signal, module and name are replaced."""
    other = Signal("other")
    run_cell(NOTE.format(1), notebook)
    run_cell(NOTE.format(2), {**notebook, "__name__": "elsewhere"})
    run_cell(NOTE.format(3), {**notebook, "signal": other})
    assert (sent(signal), sent(other)) == ([1, 2], [3])


def test_two_modules_of_one_name_are_two(signal: Signal, notebook: dict[str, Any]) -> None:
    """Modules from different files, as two conftest.py are, replace nothing of one another."""
    for number in (1, 2):
        spec = importlib.machinery.ModuleSpec("conftest", None, origin=f"/{number}/conftest.py")
        run_cell(NOTE.format(number), {**notebook, "__name__": "conftest", "__spec__": spec})
    assert sent(signal) == [1, 2]


def test_what_was_there_before_a_reload_can_be_connected_again(
    signal: Signal, write: Write
) -> None:
    """A function that is still referenced isn't its own redefinition, and the new one replaces it."""
    old = write("def note(**kwargs):\n    return 1\n").note
    signal.connect(old, sender=str)
    new = write("def note(**kwargs):\n    return 2\n").note
    signal.connect(old, sender=int)
    assert [each.sender for each in signal.connections] == [str, int]
    signal.connect(new, sender=str)
    assert [(each.receiver, each.sender) for each in signal.connections] == [(new, str)]


def test_a_name_gives_way_to_its_redefinition(signal: Signal, write: Write) -> None:
    """With a dispatch_uid, too, the new function is connected, with its new options."""
    code = (
        "@signal.connect(dispatch_uid='note', priority={0})\ndef note(**kwargs):\n    return {0}\n"
    )
    write(code.format(1))
    write(code.format(2))
    assert sent(signal) == [2]
    assert [each.priority for each in signal.connections] == [2]


def test_redefinition_leaves_temporary_connections(signal: Signal, notebook: Any) -> None:
    """connected_to replaces no receiver and is replaced by none; at its end all is as before."""
    run_cell(NOTE.format(1), notebook)
    run_cell("def note(**kwargs):\n    return 2\n", notebook)
    with signal.connected_to(notebook["note"]):
        assert sent(signal) == [1, 2]
        run_cell(NOTE.format(3), notebook)
        assert sent(signal) == [2, 3]
    assert sent(signal) == [3]


def test_a_weak_receiver_gives_way(signal: Signal, write: Write) -> None:
    """A dead one leaves nothing behind, one that is still referenced is replaced."""
    code = "@signal.connect(weak=True)\ndef note(**kwargs):\n    return {}\n"
    module = write(code.format(1))
    held = module.note
    write(code.format(2))
    assert sent(signal) == [2]
    del module.note, held, module
    sys.modules.pop("redefined_receivers")
    gc.collect()
    assert sent(signal) == []
    write(code.format(3))
    assert sent(signal) == [3]


def test_restored_connections_give_way_too(signal: Signal, notebook: dict[str, Any]) -> None:
    """What restored_signals brings back is known as a definition as before."""
    run_cell(NOTE.format(1), notebook)
    with restored_signals():
        run_cell(NOTE.format(2), notebook)
    assert sent(signal) == [1]
    run_cell(NOTE.format(3), notebook)
    assert sent(signal) == [3]


def test_names_that_are_no_plain_strings_are_no_names(signal: Signal) -> None:
    """A function whose module or name is of a class of its own is never replaced."""

    class Name(str):
        __slots__ = ()

    for attribute in ("__qualname__", "__module__"):
        for _ in range(2):
            namespace: dict[str, Any] = {"__name__": "__main__"}
            run_cell("def note(**kwargs):\n    return 1\n", namespace)
            setattr(namespace["note"], attribute, Name(getattr(namespace["note"], attribute)))
            signal.connect(namespace["note"])
    assert sent(signal) == [1, 1, 1, 1]
