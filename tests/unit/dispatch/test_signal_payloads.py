"""Signal: what is sent, how it reaches a receiver's parameters, and what can be a receiver."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import pytest
from kit.senders import Model, Other

from aksara_signals import (
    InvalidOptionError,
    InvalidReceiverError,
    Signal,
    SignalPayloadError,
    post_init,
    post_save,
    pre_init,
)
from aksara_signals.dispatch.receivers.payload import Payload

# -- payload and call shapes ----------------------------------------------------------------------


async def test_receivers_get_everything_by_keyword(send: Any) -> None:
    """signal, sender and payload come by keyword; what wasn't sent of a built-in one is None."""
    seen: list[Any] = []
    post_save.connect(lambda **kwargs: seen.append(kwargs), sender=Model)
    await send(post_save, Model, instance=5, extra=6)
    expected = {"signal": post_save, "sender": Model, "instance": 5, "extra": 6}
    unsent = {"created": None, "update_fields": None, "session": None, "raw": None}
    assert seen == [expected | unsent]


@pytest.mark.parametrize(
    ("receiver_", "expected"),
    [
        (lambda s, i, created, **k: (s, i, created, sorted(k)),
         (Model, 5, True, ["raw", "session", "signal", "update_fields"])),
        (lambda sender, i, **k: (sender, i), (Model, 5)),
        (lambda s, instance, **k: (s, instance), (Model, 5)),
        (lambda s, **k: (s, k["instance"]), (Model, 5)),
        (lambda instance, sender, **k: (sender, instance), (Model, 5)),
        (lambda s, i, /, created, **k: (s, i, created), (Model, 5, True)),
        (lambda sender, created, /, **k: (sender, created), (Model, True)),
        (lambda s, i, model=Other, **k: (s, i, model), (Model, 5, Other)),
        (lambda s, model=Other, **k: (s, k["instance"], model), (Model, 5, Other)),
        (lambda *args, **k: (args, k["instance"]), ((), 5)),
        (lambda *, instance, **k: instance, 5),
        (lambda s, changes, **k: (s, changes), (Model, None)),
    ],
)  # fmt: skip
async def test_call_shapes(send: Any, receiver_: Any, expected: Any) -> None:
    """Leading parameters of other names take sender and instance; defaults are left alone."""
    post_save.connect(receiver_, sender=Model)
    assert await send(post_save, Model, instance=5, created=True) == [(receiver_, expected)]


@pytest.mark.parametrize(
    ("receiver_", "problem"),
    [
        (lambda a, b, c, **k: 0, "parameter c that nothing fills"),
        (lambda sender, instance, craeted, **k: 0, "craeted"),
        (lambda created, x, **k: 0, "parameter x"),
        (lambda *, x, **k: 0, "parameter x"),
        (lambda s, i, sender, instance, **k: 0, "parameter s"),
        (lambda sender, instance: 0, r"must accept \*\*kwargs"),
        (lambda *args: 0, r"add \*\*kwargs"),
        (5, "is not callable"),
        (dict, "no signature"),
        (print, r"must accept \*\*kwargs"),
    ],
)
def test_receivers_that_can_not_be_called(receiver_: Any, problem: str) -> None:
    """A shape that can't be filled is refused at connect, with receiver and remedy."""
    with pytest.raises(InvalidReceiverError, match=problem) as error:
        post_save.connect(receiver_)
    assert isinstance(error.value, TypeError)
    assert str(error.value).endswith("[AKS-101]")
    if callable(receiver_) and hasattr(receiver_, "__code__"):
        assert f"{__file__}:{receiver_.__code__.co_firstlineno}" in str(error.value)
    assert post_save.connections == ()


def test_init_signals_have_no_instance_before() -> None:
    """A second leading parameter of pre_init has nothing to take."""
    with pytest.raises(InvalidReceiverError):
        pre_init.connect(lambda s, i, **k: 0)
    post_init.connect(lambda s, i, **k: 0)


async def test_undeclared_payloads_pass(send: Any) -> None:
    """Without providing_args whatever is sent passes, and receivers name what they like."""
    signal = Signal()
    signal.connect(lambda sender, anything, **k: anything)
    [(_, response)] = await send(signal, Model, anything=1)
    assert response == 1
    with pytest.raises(InvalidReceiverError):
        signal.connect(lambda a, /, **k: 0)


async def test_what_an_undeclared_payload_fills_is_not_known(signal: Signal, send: Any) -> None:
    """Parameters of other names are filled by whatever is sent, beside one by position."""

    def by_position(sender: Any, /, weight: int, **kwargs: Any) -> int:
        return weight

    signal.connect(by_position)
    assert await send(signal, Model, weight=5) == [(by_position, 5)]


async def test_declared_payloads_are_checked(send: Any) -> None:
    """Every declared argument must be sent, even without receivers; others pass."""
    paid = Signal("paid", providing_args=["amount", "currency"])
    assert paid.providing_args == ("amount", "currency")
    with pytest.raises(SignalPayloadError, match="without currency"):
        await send(paid, Model, amount=1)
    paid.connect(lambda s, amount, **k: (s, amount, k["note"]))
    [(_, response)] = await send(paid, Model, amount=1, currency="x", note="n")
    assert response == (Model, 1, "n")
    with pytest.raises(SignalPayloadError, match="named signal"):
        await send(paid, amount=1, currency="x", signal=1)
    with pytest.raises(SignalPayloadError, match="without instance"):
        await send(post_save, Model)


async def test_a_position_without_a_value(send: Any) -> None:
    """A custom signal sent without an instance can't fill the place of one."""
    paid = Signal("paid", providing_args=["amount"])
    paid.connect(lambda s, i, amount, **k: i)
    try:
        [(_, response)] = await send(paid, Model, amount=1)
    except SignalPayloadError as error:
        response = error
    assert "takes instance by position" in str(response)


@pytest.mark.parametrize("wrong", ["amount", ["a b"], ["sender"], ["signal"], [5]])
def test_payload_names_are_checked(wrong: Any) -> None:
    """providing_args holds names of arguments, and not those that are always passed."""
    with pytest.raises(InvalidOptionError):
        Signal(providing_args=wrong)


def test_a_name_is_a_string() -> None:
    """Django's old habit of giving the arguments first is refused."""
    with pytest.raises(InvalidOptionError, match="providing_args="):
        Signal(["amount"])


def test_a_payload_may_be_given_whole() -> None:
    """Optional and on-demand arguments are declared by a Payload, as the built-in signals do."""
    signal = Signal("x", providing_args=Payload(("a",), ("b",), ("c",)))
    seen: list[Any] = []
    signal.connect(lambda a, b, c, **k: seen.append((a, b, c)))
    signal.send_sync(a=1)
    assert seen == [(1, None, None)]


# -- what can be a receiver -----------------------------------------------------------------------


async def test_any_callable_can_be_a_receiver(signal: Signal, send: Any) -> None:
    """Mocks, partials, callable objects and methods: whatever accepts keywords."""

    class AwkwardReceiver:
        async def __call__(self, **kwargs: Any) -> str:
            return "object"

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("compared")

        def __hash__(self) -> int:
            raise RuntimeError("hashed")

        def __repr__(self) -> str:
            raise RuntimeError("shown")

    async def with_name(name: str, **kwargs: Any) -> str:
        return name

    signal.connect(mock.Mock(return_value="mock"))
    signal.connect(mock.AsyncMock(return_value="async mock"))
    signal.connect(mock.MagicMock(return_value="magic mock"))
    signal.connect(functools.partial(with_name, "partial"))
    signal.connect(AwkwardReceiver())
    signal.connect(AwkwardReceiver().__call__)
    responses = [response for _, response in await send(signal)]
    assert responses == ["mock", "async mock", "magic mock", "partial", "object", "object"]
    assert [each.is_async for each in signal.connections] == [False, True, False, True, True, True]
    assert "AwkwardReceiver" in repr(signal.connections)


async def test_a_class_may_be_a_receiver(signal: Signal, send: Any) -> None:
    """Calling a class makes an instance, which is the response."""

    class Note:
        def __init__(self, **kwargs: Any) -> None:
            self.kwargs = kwargs

        async def __call__(self) -> None: ...

    signal.connect(Note)
    [(_, response)] = await send(signal, Model)
    assert response.kwargs == {"signal": signal, "sender": Model}
