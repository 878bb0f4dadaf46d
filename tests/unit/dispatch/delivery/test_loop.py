"""The loops: where a delivery stands while receivers run, and what is left behind."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from typing import Any

import pytest

from aksara_signals import AsyncReceiverError, Signal
from aksara_signals.dispatch.delivery.delivery import Delivery, Failure
from aksara_signals.dispatch.delivery.frame import get_current
from aksara_signals.dispatch.delivery.loop import deliver, drive_to_end
from aksara_signals.dispatch.delivery.specialized import GENERIC, OFTEN, Loops, loops_for


def delivery_to(*receivers: Callable[..., Any], concurrent: bool = False) -> Delivery:
    """A delivery of a signal of its own."""
    signal = Signal("happened")
    for receiver in receivers:
        signal.connect(receiver, concurrent=concurrent)
    arguments = {"signal": signal, "sender": int}
    connections = signal.connections
    if concurrent:
        return Delivery(signal, int, (), arguments, concurrent=connections)
    return Delivery(signal, int, connections, arguments)


@pytest.fixture(params=["loops", "versions of them"])
def loops(request: pytest.FixtureRequest) -> Loops:
    """The loops themselves, or those that are made for the names of ``delivery_to()``."""
    return GENERIC if request.param == "loops" else loops_for(("signal", "sender"), OFTEN)


@pytest.fixture(params=["awaited", "synchronous"])
def run(request: pytest.FixtureRequest, loops: Loops) -> Any:
    """Runs deliveries in one of the two loops."""

    async def run(*deliveries: Delivery, **options: Any) -> list[Any]:
        if request.param == "awaited":
            return [response for _, response in await loops.deliver(deliveries, **options)]
        return [response for _, response in loops.deliver_sync(deliveries, **options)]

    return run


async def test_the_delivery_under_way_is_known(run: Any) -> None:
    """With the connection whose receiver runs; one loop has one frame, which is empty afterwards."""
    seen: list[Any] = []
    frames: list[Any] = []

    def look(**kwargs: Any) -> None:
        current = get_current()
        assert current is not None
        frames.append(current)
        seen.append((current.delivery, current.connection, current.cause))

    def look_too(**kwargs: Any) -> None:
        look()

    first, second = delivery_to(look, look_too), delivery_to(look)
    await run(first, second)
    assert seen == [
        (first, first.sequential[0], None),
        (first, first.sequential[1], None),
        (second, second.sequential[0], None),
    ]
    assert get_current() is None
    assert len({id(each) for each in frames}) == 1
    assert frames[0].delivery is frames[0].connection is None
    assert not frames[0].in_own_task


async def test_what_is_sent_inside_has_a_cause(run: Any) -> None:
    """And when it is over, the outer one is under way again, with its connection."""
    seen: list[Any] = []

    def look(**kwargs: Any) -> None:
        frame = get_current()
        assert frame is not None
        seen.append((frame, frame.delivery))

    inner = delivery_to(look)

    async def outer_receiver(**kwargs: Any) -> None:
        await run(inner)
        look()

    outer = delivery_to(outer_receiver)
    await run(outer)
    (inner_frame, first), (outer_frame, second) = seen
    assert (first, second) == (inner, outer)
    assert inner_frame.cause is outer_frame
    assert outer_frame.cause is None
    assert get_current() is None


async def test_an_error_leaves_nothing_behind(run: Any) -> None:
    """What comes behind it isn't delivered."""
    seen: list[int] = []

    def fail(**kwargs: Any) -> None:
        raise LookupError

    delivery = delivery_to(fail, lambda **kwargs: seen.append(1))
    with pytest.raises(LookupError) as caught:
        await run(delivery, delivery_to(lambda **kwargs: seen.append(2)))
    assert caught.value.__notes__[0].startswith("while happened sent by ")
    assert seen == []
    assert get_current() is None


async def test_robust_loops_go_on(run: Any) -> None:
    """The error takes the place of the response, and is taken down with what was sent."""
    error = LookupError()
    failures: list[Failure] = []

    def fail(**kwargs: Any) -> None:
        raise error

    delivery = delivery_to(fail, lambda **kwargs: 2)
    assert await run(delivery, robust=True, failures=failures) == [error, 2]
    assert failures == [(error, delivery, delivery.sequential[0])]


async def test_nothing_to_deliver(run: Any) -> None:
    """No delivery is current, and the list of responses is empty."""
    assert await run() == []
    assert await run(delivery_to()) == []
    assert get_current() is None


async def test_whatever_can_be_awaited_is(run: Any) -> None:
    """A coroutine, a generator that is one, an object; other responses are as they were."""

    class Answer:
        def __await__(self) -> Any:
            return iter(())

    @types.coroutine
    def old_style() -> Any:
        return 2
        yield

    async def new_style(**kwargs: Any) -> int:
        return 1

    receivers = [
        new_style,
        lambda **kwargs: old_style(),
        lambda **kwargs: Answer(),
        lambda **kwargs: 0,
        lambda **kwargs: None,
        lambda **kwargs: iter([]),
    ]
    responses = await run(delivery_to(*receivers))
    assert responses[:5] == [1, 2, None, 0, None]
    assert list(responses[5]) == []


async def test_concurrent_ones_come_behind(run: Any) -> None:
    """In each delivery, in the order they were connected."""
    signal = Signal()
    for name, concurrent in (("a", True), ("b", False), ("c", True), ("d", False)):
        signal.connect(lambda name=name, **kwargs: name, concurrent=concurrent, dispatch_uid=name)
    by_uid = {each.dispatch_uid: each for each in signal.connections}
    delivery = Delivery(
        signal,
        None,
        (by_uid["b"], by_uid["d"]),
        {"signal": signal, "sender": None},
        concurrent=(by_uid["a"], by_uid["c"]),
    )
    assert await run(delivery, delivery) == ["b", "d", "a", "c"] * 2


async def test_concurrent_receivers_are_under_way_in_their_tasks() -> None:
    """Each has a frame of its own, which is empty when it has ended, and the cause of all."""
    seen: list[Any] = []

    async def look(**kwargs: Any) -> None:
        current = get_current()
        assert current is not None
        await asyncio.sleep(0)
        assert get_current() is current
        seen.append((current, current.connection, current.cause, current.in_own_task))

    async def start(**kwargs: Any) -> None:
        await deliver([both])

    async def look_too(**kwargs: Any) -> None:
        await look()

    both = delivery_to(look, look_too, concurrent=True)
    outer = delivery_to(start)
    await deliver([outer])
    assert [connection for _, connection, _, _ in seen] == [*both.concurrent]
    assert all(cause.cause is None and not in_own_task for _, _, cause, in_own_task in seen)
    assert len({id(own) for own, _, _, _ in seen}) == 2
    assert all(own.delivery is own.connection is None for own, _, _, _ in seen)


# -- driving --------------------------------------------------------------------------------------


async def answer() -> int:
    """Never waits."""
    return 7


def test_what_never_waits_is_driven_to_its_end() -> None:
    """Its result comes back, or its error."""

    class Answer:
        def __await__(self) -> Any:
            return 8
            yield

    async def fail() -> None:
        raise LookupError

    assert drive_to_end(answer(), print) == 7
    assert drive_to_end(Answer(), print) == 8
    with pytest.raises(LookupError):
        drive_to_end(fail(), print)


def test_what_has_to_wait_is_closed() -> None:
    """At once, so that nothing is left half done; the error names the receiver."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("closed")

    with pytest.raises(AsyncReceiverError, match=r"async receiver .*print.* has to wait"):
        drive_to_end(wait(), print)
    assert ended == ["closed"]


def test_what_fails_in_being_closed_is_shown_as_the_cause() -> None:
    """The refusal comes first; an object without a close() is left alone."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise LookupError

    class Waits:
        def __await__(self) -> Any:
            return iter([None])

    with pytest.raises(AsyncReceiverError) as caught:
        drive_to_end(stubborn(), print)
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(AsyncReceiverError) as caught:
        drive_to_end(Waits(), print)
    assert caught.value.__cause__ is None


async def test_a_future_without_a_waiter_can_be_awaited() -> None:
    """The mark that a refused receiver has left on it is taken back."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await future

    with pytest.raises(AsyncReceiverError):
        drive_to_end(wait(), print)
    asyncio.get_running_loop().call_soon(future.set_result, 9)
    assert await future == 9
