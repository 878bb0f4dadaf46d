"""The hook around every delivery."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit.support import answering

from aksara_signals import (
    DeliveryStep,
    InvalidOptionError,
    Signal,
    add_delivery_hook,
    remove_delivery_hook,
)
from aksara_signals.dispatch.delivery import frame, tracing
from aksara_signals.dispatch.delivery.delivery import Delivery, Failure


class Model:
    """Sends."""


@pytest.fixture
def trace() -> Iterator[list[str]]:
    """What a hook sees, and with which error it is left."""
    trace: list[str] = []

    @contextmanager
    def note(step: DeliveryStep) -> Iterator[None]:
        what = "send" if step.is_send else (step.receiver_name or "").split(" ")[0].split(".")[-1]
        trace.append(f"+{what}")
        try:
            yield
        except BaseException as error:
            trace.append(f"-{what} {type(error).__name__}")
            raise
        trace.append(f"-{what}")

    add_delivery_hook(note)
    yield trace
    assert remove_delivery_hook(note)
    assert not remove_delivery_hook(note)
    assert tracing.hooks == []


async def first(**kwargs: Any) -> str:
    await asyncio.sleep(0)
    return "first"


def second(**kwargs: Any) -> str:
    return "second"


async def failing(**kwargs: Any) -> None:
    raise LookupError


async def test_a_hook_stands_around_the_send_and_each_receiver(
    signal: Signal, trace: list[str]
) -> None:
    """A receiver's step ends when it has been awaited; results are as ever."""
    for receiver in first, second:
        signal.connect(receiver)
    assert await signal.send(Model) == [(first, "first"), (second, "second")]
    assert trace == ["+send", "+first", "-first", "+second", "-second", "-send"]


def test_synchronous_sends_are_hooked_as_well(signal: Signal, trace: list[str]) -> None:
    """A coroutine is driven inside of the hook."""

    async def quick(**kwargs: Any) -> str:
        return "quick"

    signal.connect(quick)
    signal.connect(second)
    assert [response for _, response in signal.send_sync(Model)] == ["quick", "second"]
    assert trace == ["+send", "+quick", "-quick", "+second", "-second", "-send"]


async def test_hooks_are_left_with_the_error(signal: Signal, trace: list[str]) -> None:
    """At once, and not when the traceback is released."""
    signal.connect(failing)
    gc.disable()
    try:
        with pytest.raises(LookupError) as caught:
            await signal.send(Model)
        assert trace == ["+send", "+failing", "-failing LookupError", "-send LookupError"]
        trace.clear()
        with pytest.raises(LookupError):
            signal.send_sync(Model)
        assert trace == ["+send", "+failing", "-failing LookupError", "-send LookupError"]
    finally:
        gc.enable()
    assert caught.value.__notes__


async def test_a_robust_send_succeeds_though_its_receiver_fails(
    signal: Signal, trace: list[str]
) -> None:
    """Each step is left with what became of it."""
    signal.connect(failing)
    signal.connect(second)
    await signal.send_robust(Model)
    assert trace == ["+send", "+failing", "-failing LookupError", "+second", "-second", "-send"]


async def test_concurrent_receivers_are_hooked_in_their_tasks(
    signal: Signal, trace: list[str]
) -> None:
    """Their steps overlap, and all stand inside of the send's."""
    for receiver in first, second:
        signal.connect(receiver, concurrent=True)
    await signal.send(Model)
    assert trace[0] == "+send"
    assert trace[-1] == "-send"
    assert sorted(trace[1:-1]) == ["+first", "+second", "-first", "-second"]


async def test_hooks_nest_in_the_order_they_were_added(signal: Signal, trace: list[str]) -> None:
    """The first one is outermost; one that is added twice counts once."""

    @contextmanager
    def inner(step: DeliveryStep) -> Iterator[None]:
        trace.append("inner")
        yield
        trace.append("inner ends")

    add_delivery_hook(inner)
    add_delivery_hook(inner)
    signal.connect(second)
    await signal.send(Model)
    remove_delivery_hook(inner)
    assert trace[:4] == ["+send", "inner", "+second", "inner"]
    assert trace[4:] == ["inner ends", "-second", "inner ends", "-send"]


async def test_a_send_without_receivers_is_no_delivery(signal: Signal, trace: list[str]) -> None:
    """A hook sees sends that reach a receiver."""
    await signal.send(Model)
    assert trace == []


async def test_a_hook_that_raises_reaches_the_sender(signal: Signal) -> None:
    """Before a receiver is called, and after it."""

    @contextmanager
    def refuse(step: DeliveryStep) -> Iterator[None]:
        if step.is_send:
            yield
            raise ZeroDivisionError
        yield

    signal.connect(second)
    signal.connect(failing)
    add_delivery_hook(refuse)
    try:
        signal.disconnect(failing)
        with pytest.raises(ZeroDivisionError):
            await signal.send(Model)
        with pytest.raises(ZeroDivisionError):
            signal.send_sync(Model)
    finally:
        remove_delivery_hook(refuse)


async def test_a_hook_may_turn_an_error_into_another_one(signal: Signal) -> None:
    """The one it raises counts."""

    @contextmanager
    def translate(step: DeliveryStep) -> Iterator[None]:
        try:
            yield
        except LookupError as error:
            if not step.is_send:
                raise
            raise ZeroDivisionError from error

    signal.connect(failing)
    add_delivery_hook(translate)
    try:
        for _ in range(frame.MAX_DEPTH + 1):  # nothing is left behind that looks like recursion
            with pytest.raises(ZeroDivisionError):
                await signal.send(Model)
            with pytest.raises(ZeroDivisionError):
                signal.send_sync(Model)
        assert frame.get_current() is None
    finally:
        remove_delivery_hook(translate)


def test_a_step_says_what_it_is(signal: Signal, trace: list[str]) -> None:
    """Names, class and key; never a column."""
    steps: list[DeliveryStep] = []

    @contextmanager
    def keep(step: DeliveryStep) -> Iterator[None]:
        steps.append(step)
        yield

    signal.connect(second)
    add_delivery_hook(keep)
    signal.send_sync(Model, instance=object())
    remove_delivery_hook(keep)
    send, call = steps
    assert (send.signal, send.sender, send.connection) == (signal, Model, None)
    assert (send.signal_name, send.receiver_name, send.instance_key) == ("happened", None, None)
    assert send.sender_name.endswith("test_tracing.Model")
    assert call.connection is signal.connections[0]
    assert repr(send).startswith("<happened of ")
    assert "second" in repr(call)


def test_a_step_knows_the_key_of_its_instance(signal: Signal) -> None:
    """The adapter says it; of nothing, there is none."""
    keys: list[str | None] = []

    @contextmanager
    def keep(step: DeliveryStep) -> Iterator[None]:
        keys.append(step.instance_key)
        yield

    signal.connect(second)
    add_delivery_hook(keep)
    with answering(key_of=lambda instance: f"key of {instance}"):
        signal.send_sync(Model, instance="x")
        signal.send_sync(Model, instance=None)
        signal.send_sync(Model)
    remove_delivery_hook(keep)
    assert keys == ["key of x"] * 2 + [None] * 4


def test_what_cant_be_called_is_no_hook() -> None:
    """It says what a hook is."""
    with pytest.raises(InvalidOptionError, match="takes a step and returns a context manager"):
        add_delivery_hook("hook")


def test_a_hook_that_gives_no_context_manager_gets_an_error(signal: Signal) -> None:
    """Async and generator functions when they are added, others when they are called."""

    async def hook_async(step: DeliveryStep) -> None: ...

    def hook_yielding(step: DeliveryStep) -> Iterator[None]:
        yield

    for hook in (hook_async, hook_yielding):
        with pytest.raises(InvalidOptionError, match=f"{hook.__name__}.*contextmanager"):
            add_delivery_hook(hook)  # type: ignore[arg-type]

    def hook_noting(step: DeliveryStep) -> None: ...

    signal.connect(lambda **kwargs: None)
    add_delivery_hook(hook_noting)  # type: ignore[arg-type]
    try:
        with pytest.raises(InvalidOptionError, match=r"hook_noting .* returned None"):
            signal.send_sync()
    finally:
        remove_delivery_hook(hook_noting)  # type: ignore[arg-type]


def test_what_ends_the_sends_is_no_failure_of_the_hooks(signal: Signal, trace: list[str]) -> None:
    """The code that delivers handles it."""
    signal.connect(second)
    failures: list[Failure] = []
    delivery = Delivery(signal, Model, signal.connections, {"signal": signal, "sender": Model})
    for ending in (None, ZeroDivisionError()):
        sends = tracing.each_send([delivery], failures)
        assert next(sends) is delivery
        if ending is None:
            tracing.end_sends(sends)
        else:
            with pytest.raises(ZeroDivisionError):
                try:
                    raise ending
                finally:
                    tracing.end_sends(sends)
    assert failures == []
    assert trace == ["+send", "-send GeneratorExit", "+send", "-send ZeroDivisionError"]


class Recording(tracing.DeliveryRecorder):
    """Notes what it is given, as a hook that is not called for single steps."""

    def __init__(self, trace: list[str]) -> None:
        self._trace = trace

    def sends(self, deliveries: Any) -> Any:
        for delivery in deliveries:
            self._trace.append("+recorded")
            yield delivery
            self._trace.append("-recorded")

    def around(self, receiver: Any, delivery: Any, connection: Any) -> Any:
        def call(*positional: Any, **keywords: Any) -> Any:
            self._trace.append("call")
            return receiver(*positional, **keywords)

        return call


@pytest.mark.parametrize("answer", ["send", "send_sync"])
async def test_a_recorder_is_inside_of_the_hooks(answer: str, trace: list[str]) -> None:
    """It is given the deliveries, and wraps each receiver; the hooks are called as without it."""
    signal = Signal("traced")
    signal.connect(second)
    recording = Recording(trace)
    add_delivery_hook(recording)
    add_delivery_hook(recording)
    try:
        found = signal.send_sync(Model) if answer == "send_sync" else await signal.send(Model)
    finally:
        assert remove_delivery_hook(recording)
    assert [response for _, response in found] == ["second"]
    assert trace == ["+recorded", "+send", "+second", "call", "-second", "-send", "-recorded"]


def test_a_recorder_alone_is_enough() -> None:
    """Without any other hook, nothing else is around a send."""
    seen: list[str] = []
    signal = Signal("traced")
    signal.connect(second)
    recording = Recording(seen)
    add_delivery_hook(recording)
    try:
        signal.send_sync(Model)
    finally:
        remove_delivery_hook(recording)
    assert seen == ["+recorded", "call", "-recorded"]
    plain = tracing.DeliveryRecorder()
    add_delivery_hook(plain)
    try:
        assert signal.send_sync(Model) == [(second, "second")]
    finally:
        remove_delivery_hook(plain)
    with plain(tracing.DeliveryStep((signal, None, (), {}, (), {}), None)):
        pass


@pytest.mark.parametrize("receiver", [first, second])
async def test_a_hook_that_suppresses_an_error_leaves_no_response(receiver: Any) -> None:
    """The receiver counts as one that has returned None."""

    @contextmanager
    def suppress(step: DeliveryStep) -> Iterator[None]:
        with contextlib.suppress(ValueError):
            yield

    signal = Signal("traced")

    def fail(**kwargs: Any) -> None:
        raise ValueError

    async def fail_later(**kwargs: Any) -> None:
        raise ValueError

    failing = fail if receiver is second else fail_later
    signal.connect(failing)
    add_delivery_hook(suppress)
    try:
        assert await signal.send(Model) == [(failing, None)]
    finally:
        remove_delivery_hook(suppress)
