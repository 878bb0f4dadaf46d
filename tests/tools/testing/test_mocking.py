"""Receivers that are replaced by mocks."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from sqlalchemy.orm import Session

from aksara_signals import (
    AksaraSignalsWarning,
    InvalidOptionError,
    InvalidReceiverError,
    Signal,
    post_save,
    pre_save,
)
from aksara_signals.orm import on_commit
from aksara_signals.testing import mock_receiver


class Model:
    """Sends."""


class Service:
    """Has a method that is connected."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def notify(self, sender: Any, name: str, **kwargs: Any) -> str:
        self.names.append(name)
        return "real"


@pytest.fixture
def signal() -> Signal:
    return Signal("happened")


async def test_the_mock_is_called_wherever_the_receiver_is_connected(signal: Signal) -> None:
    """By every signal, connected before or during the mock, and never after it."""

    @signal.connect
    async def notify(sender: Any, name: str = "", **kwargs: Any) -> str:
        return "real"

    post_save.connect(notify, Model)
    with mock_receiver(notify, return_value="mocked") as replaced:
        pre_save.connect(notify, Model)
        assert await signal.send(Model, name="x") == [(replaced, "mocked")]
        assert signal.receivers_for(Model) == [notify]
        await post_save.send(Model, instance=1)
        await pre_save.send(Model, instance=1)
        assert signal.send_sync(Model, name="y") == [(replaced, "mocked")]
    assert replaced.await_count == 4
    replaced.assert_any_await(signal=signal, sender=Model, name="x")
    assert await signal.send(Model) == [(notify, "real")]
    assert replaced.await_count == 4


async def test_methods_weak_and_concurrent_receivers_are_replaced(signal: Signal) -> None:
    """Whatever can be connected can be mocked."""
    service, other = Service(), Service()
    signal.connect(service.notify, weak=True)
    signal.connect(other.notify, concurrent=True)
    with mock_receiver(service.notify) as replaced, mock_receiver(other.notify) as second:
        await signal.send(Model, name="x")
    replaced.assert_awaited_once()
    second.assert_awaited_once()
    assert service.names == other.names == []
    await signal.send(Model, name="y")
    assert service.names == other.names == ["y"]


async def test_the_mock_has_the_signature_of_the_receiver(signal: Signal) -> None:
    """A send that the receiver couldn't take fails."""

    async def notify(sender: Any, *, name: str, **kwargs: Any) -> None: ...

    signal.connect(notify)
    with mock_receiver(notify), pytest.raises(TypeError, match="name"):
        await signal.send(Model)


async def test_mocks_nest_and_end_exactly(signal: Signal) -> None:
    """The innermost is called; an error inside ends them as well."""

    @signal.connect
    def notify(**kwargs: Any) -> str:
        return "real"

    with mock_receiver(notify) as unconfigured:
        [(_, response)] = signal.send_sync()
        assert response.anything() is response.anything.return_value
        assert isinstance(unconfigured, mock.Mock)
    with mock_receiver(notify, return_value="outer") as outer:
        with pytest.raises(RuntimeError), mock_receiver(notify, side_effect=RuntimeError) as inner:
            signal.send_sync()
        inner.assert_called_once()
        assert signal.send_sync() == [(outer, "outer")]
    assert signal.send_sync() == [(notify, "real")]


def test_a_mock_may_decorate(signal: Signal) -> None:
    """For the time of a function."""

    @signal.connect
    def notify(**kwargs: Any) -> str:
        return "real"

    @mock_receiver(notify, return_value="mocked")
    def send() -> Any:
        return signal.send_sync()[0][1]

    assert [send(), signal.send_sync()[0][1], send()] == ["mocked", "real", "mocked"]


def test_what_cant_be_called_is_refused() -> None:
    """It can't be connected anywhere."""
    with pytest.raises(InvalidReceiverError, match=r"mock_receiver\(\) was given 'str'"):
        mock_receiver("app.notify").__enter__()


async def test_a_receiver_that_is_connected_nowhere_is_warned_of(signal: Signal) -> None:
    """At the end of the block, and by the assertions of the mock."""

    def notify(**kwargs: Any) -> None: ...

    @signal.connect
    def wrapper(**kwargs: Any) -> None:
        notify(**kwargs)

    what = r"notify .*was replaced by a mock, but is not connected to any signal; give mock_receive"
    replaced = mock_receiver(notify)
    mocked = replaced.__enter__()
    signal.send_sync()
    with pytest.raises(AssertionError, match=what):
        mocked.assert_called()
    with pytest.warns(AksaraSignalsWarning, match=what):
        replaced.__exit__(None, None, None)
    with pytest.warns(AksaraSignalsWarning, match=what) as caught, mock_receiver(notify):
        pass
    assert [each.filename for each in caught] == [__file__]

    @mock_receiver(notify)
    def decorated() -> None: ...

    with pytest.warns(AksaraSignalsWarning, match=what) as caught:
        decorated()
    assert [each.filename for each in caught] == [__file__]
    with pytest.warns(AksaraSignalsWarning, match=what) as caught:
        async with mock_receiver(notify):
            pass
    assert [each.filename for each in caught] == [__file__]
    with pytest.raises(RuntimeError), mock_receiver(notify):
        raise RuntimeError  # not hidden by a warning


def test_connections_inside_of_the_block_count(signal: Signal) -> None:
    """Also those that are gone at its end, and callbacks."""

    def notify(**kwargs: Any) -> None: ...

    with mock_receiver(notify), signal.connected_to(notify):
        pass
    signal.connect(held := Service().notify, weak=True)
    with mock_receiver(held):
        signal.disconnect(held)
    with mock_receiver(notify) as replaced, Session() as session:
        signal.connect(lambda **kwargs: None)
        on_commit(session, notify)
    replaced.assert_not_called()


async def test_async_blocks_and_functions(signal: Signal) -> None:
    """As with a plain block; a decorated coroutine is mocked while it runs."""

    @signal.connect
    async def notify(**kwargs: Any) -> str:
        return "real"

    async with mock_receiver(notify, return_value="mocked") as replaced:
        await signal.send(Model)
    replaced.assert_awaited_once()

    @mock_receiver(notify, return_value="mocked")
    async def send() -> Any:
        return (await signal.send(Model))[0][1]

    assert [await send(), (await signal.send(Model))[0][1], await send()] == [
        "mocked",
        "real",
        "mocked",
    ]


def test_generators_are_not_decorated(signal: Signal) -> None:
    """A fixture would hand over before its mock is there."""

    @signal.connect
    def notify(**kwargs: Any) -> None: ...

    def fixture() -> Any:
        yield

    with pytest.raises(InvalidOptionError, match=r"generator .*fixture .*; write 'with' inside"):
        mock_receiver(notify)(fixture)


async def test_a_mock_in_one_task_is_a_mock_in_all(signal: Signal) -> None:
    """As with any patch: it belongs to the process."""

    @signal.connect
    async def notify(**kwargs: Any) -> None: ...

    with mock_receiver(notify) as replaced:
        await asyncio.gather(*(signal.send(Model) for _ in range(3)))
    assert isinstance(replaced, mock.AsyncMock)
    assert replaced.await_count == 3


def test_a_mock_needs_no_mock() -> None:
    """A receiver that is one already has calls of its own."""
    for receiver in (mock.Mock(), mock.AsyncMock(), mock.MagicMock()):
        with pytest.raises(InvalidReceiverError, match="records its calls itself"):
            mock_receiver(receiver)
