"""Late patching: a mock under a module-level receiver's name is called in its place."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock
from unittest.mock import patch

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.receivers import patching

SOURCE = """
from aksara_signals import Signal

signal = Signal("patched")

@signal.connect
async def notify(sender, **kwargs):
    return "notify"

@signal.connect
def same(sender, **kwargs):
    return "first same"

first_same = same

@signal.connect
def same(sender, **kwargs):
    return "second same"

def wrapped(function):
    return lambda **kwargs: function(**kwargs)

@wrapped
@signal.connect
def inner(sender, **kwargs):
    return "inner"
"""


@pytest.fixture
def app() -> Iterator[Any]:
    """A module with receivers, as an application has one."""
    module = types.ModuleType("aksara_patched_app")
    sys.modules[module.__name__] = module
    exec(compile(SOURCE, "app.py", "exec"), module.__dict__)
    yield module
    del sys.modules[module.__name__]


async def responses(app: Any) -> list[Any]:
    return [response for _, response in await app.signal.send(1)]


async def test_a_mock_is_called_instead(app: Any) -> None:
    """The mock is called, the original isn't, and both only while the patch lasts."""
    with patch("aksara_patched_app.notify", new_callable=mock.AsyncMock, return_value="m") as fake:
        assert await responses(app) == ["m", "first same", "second same", "inner"]
        fake.assert_awaited_once()
        assert fake.call_args.kwargs["sender"] == 1
        assert "m" in [response for _, response in app.signal.send_sync(1)]
    assert await responses(app) == ["notify", "first same", "second same", "inner"]
    fake.assert_called_with(signal=app.signal, sender=1)


@pytest.mark.parametrize("before", [True, False])
async def test_two_receivers_of_one_name_are_not_confused(app: Any, before: bool) -> None:
    """A name means the receiver that is bound to it; the other one is left alone."""
    if before:
        await responses(app)
    with patch("aksara_patched_app.same", return_value="mock"):
        assert await responses(app) == ["notify", "first same", "mock", "inner"]
    app.signal.disconnect(app.first_same)
    app.signal.connect(app.first_same)
    with patch("aksara_patched_app.same", return_value="mock"):
        assert await responses(app) == ["notify", "mock", "inner", "first same"]


async def test_autospec_and_concurrent_receivers(app: Any) -> None:
    """An autospecced mock counts as one; concurrent receivers are replaced too."""
    app.signal.disconnect(app.notify)
    app.signal.connect(app.notify, concurrent=True)
    with patch("aksara_patched_app.notify", autospec=True, return_value="spec"):
        assert (await responses(app))[-1] == "spec"
    assert (await responses(app))[-1] == "notify"


async def test_what_is_no_mock_is_not_taken_for_one(app: Any) -> None:
    """A decorated or rebound name doesn't change who is called."""
    app.notify = lambda **kwargs: "something else"
    app.same = None
    assert await responses(app) == ["notify", "first same", "second same", "inner"]


def test_only_module_level_functions_have_a_name() -> None:
    """Lambdas, methods, inner functions and functions without a module can't be patched."""

    def inner(**kwargs: Any) -> None: ...

    homeless = types.FunctionType(_level.__code__, {})
    homeless.__qualname__ = "homeless"
    homeless.__name__ = "homeless"
    homeless.__module__ = None
    nameless = lambda **kwargs: None  # noqa: E731 - the point
    nameless.__qualname__ = "<lambda>"
    for receiver in (inner, nameless, homeless, Signal().send, print):
        assert patching.module_name_of(receiver) is None
    assert patching.module_name_of(_level) is not None


def test_without_mocks_nothing_is_looked_up(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that never imported unittest.mock nothing can be a mock."""
    monkeypatch.delitem(sys.modules, "unittest.mock")
    app.notify = object()
    name = patching.module_name_of(app.same)
    assert name is not None
    app.same = object()
    assert name.current("receiver") == "receiver"
    assert len(app.signal.send_sync(1)) == 4


def _level(**kwargs: Any) -> None: ...
