"""Signal: which receivers a send calls, and what becomes of results, errors and endless recursion."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from typing import Any

import pytest
from kit.senders import Child, Model, Other, echo

from aksara_signals import AsyncReceiverError, Signal, SignalRecursionError, post_save

# -- senders and their receivers ------------------------------------------------------------------


async def test_a_receiver_is_called_for_its_sender_and_subclasses(
    signal: Signal, send: Any
) -> None:
    """A receiver of a class is called for its subclasses too, and for no other sender."""
    signal.connect(echo("model"), sender=Model)
    signal.connect(echo("exact"), sender=Model, exact=True)
    signal.connect(echo("child"), sender=Child)
    signal.connect(echo("all"))
    received = [
        [response for _, response in await send(signal, sender)]
        for sender in (Model, Child, Other, None)
    ]
    assert received == [["model", "exact", "all"], ["model", "child", "all"], ["all"], ["all"]]


@pytest.mark.parametrize(
    "several", [[Model, Other], (Model, Other), {Model, Other}, [Model, Other, Model]]
)
async def test_several_senders(signal: Signal, send: Any, several: Any) -> None:
    """A list, tuple or set of senders is as many connections, for each sender one."""
    signal.connect(echo("x"), sender=several)
    assert len(signal.connections) == 2
    assert [len(await send(signal, sender)) for sender in (Model, Other, None)] == [1, 1, 0]


async def test_string_senders(signal: Signal, send: Any) -> None:
    """A string stands for an equal string and for classes of that name or dotted path."""
    signal.connect(echo("name"), sender="Later")
    signal.connect(echo("path"), sender=f"{Model.__module__}.Model")
    signal.connect(echo("exact"), sender="Later", exact=True)

    class Later: ...

    class EvenLater(Later): ...

    received = [
        [response for _, response in await send(signal, sender)]
        for sender in (Later, EvenLater, "Later", "Model", Child, Later())
    ]
    assert received == [["name", "exact"], ["name"], ["name", "exact"], [], ["path"], []]


async def test_numbers_are_equal_and_objects_are_themselves(signal: Signal, send: Any) -> None:
    """Numbers match by equality, other objects by identity, equal or not."""

    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None

    class Slots:
        __slots__ = ()

    one, two, slots = Equal(), Equal(), Slots()
    signal.connect(echo("number"), sender=1)
    signal.connect(echo("object"), sender=one)
    signal.connect(echo("slots"), sender=slots)
    received = [
        [response for _, response in await send(signal, sender)]
        for sender in (1, 1.0, 2, one, two, slots, Slots())
    ]
    assert received == [["number"], ["number"], [], ["object"], [], ["slots"], []]


async def test_a_receiver_reached_twice_is_called_once(signal: Signal, send: Any) -> None:
    """Connected to all, to a base and to the class itself, it is called at its first place."""
    both, other = echo("both"), echo("other")
    signal.connect(both)
    signal.connect(other, sender=Model)
    signal.connect(both, sender=[Model, Child])
    assert [response for _, response in await send(signal, Child)] == ["both", "other"]


async def test_order(signal: Signal, send: Any) -> None:
    """Higher priorities come first, equal ones in the order of connection across senders."""
    signal.connect(echo("a"), sender=Model)
    signal.connect(echo("b"))
    signal.connect(echo("first"), sender=Child, priority=5)
    signal.connect(echo("last"), priority=-1)
    signal.connect(echo("c"), sender=Child)
    signal.connect(echo("d"), sender=Model)
    order = [response for _, response in await send(signal, Child)]
    assert order == ["first", "a", "b", "c", "d", "last"]
    assert len(signal.receivers_for(Child)) == 6


async def test_created_narrows_save_signals(send: Any) -> None:
    """created=True receives INSERTs, created=False UPDATEs, and neither receives a send without created."""
    post_save.connect(echo("insert"), sender=Model, created=True)
    post_save.connect(echo("update"), sender=Model, created=False)
    post_save.connect(echo("both"), sender=Model)
    received = [
        [response for _, response in await send(post_save, Model, instance=1, created=created)]
        for created in (True, False, None, True)
    ]
    assert received == [["insert", "both"], ["update", "both"], ["both"], ["insert", "both"]]


# -- results and errors ---------------------------------------------------------------------------


async def test_results_come_in_call_order(signal: Signal, send: Any) -> None:
    """A send returns (receiver, response) pairs, awaited where a receiver is async."""

    async def asynchronous(**kwargs: Any) -> int:
        return 1

    def synchronous(**kwargs: Any) -> int:
        return 2

    def returns_awaitable(**kwargs: Any) -> Any:
        return asynchronous(**kwargs)

    for each in (asynchronous, synchronous, returns_awaitable):
        signal.connect(each)
    expected = [(asynchronous, 1), (synchronous, 2), (returns_awaitable, 1)]
    assert await send(signal) == expected
    assert await send(Signal("silent")) == []


async def test_errors(signal: Signal, send: Any, caplog: pytest.LogCaptureFixture) -> None:
    """send raises the receiver's own error with a note; send_robust collects and logs it."""

    class OwnError(Exception):
        pass

    @signal.connect
    def fail(**kwargs: Any) -> None:
        raise OwnError("broken")

    signal.connect(echo("after"))
    try:
        responses = await send(signal, Model)
    except OwnError as error:
        note = error.__notes__[0]
        assert "happened sent by" in note
        assert "Model to" in note
        assert "fail" in note
        assert caplog.records == []
        return
    assert [str(response) for _, response in responses] == ["broken", "after"]
    [record] = caplog.records
    assert record.name == "aksara_signals"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is OwnError


@pytest.mark.parametrize("concurrent", [True, False])
async def test_cancellation_always_escapes(signal: Signal, send: Any, concurrent: bool) -> None:
    """CancelledError is never collected, not even by the robust sends."""

    async def cancelled(**kwargs: Any) -> None:
        raise asyncio.CancelledError

    signal.connect(cancelled, concurrent=concurrent)
    with pytest.raises(asyncio.CancelledError):
        await send(signal)


@pytest.mark.parametrize("kind", ["send_sync", "send_robust_sync"])
def test_sync_sends_drive_what_never_waits(signal: Signal, kind: str) -> None:
    """An async receiver that waits is an AsyncReceiverError; one that doesn't is driven."""

    @signal.connect
    async def ready(**kwargs: Any) -> int:
        return 1

    assert getattr(signal, kind)() == [(ready, 1)]
    closed: list[bool] = []

    @signal.connect
    async def waiting(**kwargs: Any) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    if kind == "send_sync":
        with pytest.raises(AsyncReceiverError, match="waiting"):
            signal.send_sync()
    else:
        assert isinstance(signal.send_robust_sync()[1][1], AsyncReceiverError)
    assert closed == [True]


def test_an_awaitable_that_can_not_be_closed(signal: Signal) -> None:
    """Whatever is awaitable is driven, also without a close method."""

    class Awaitable:
        def __await__(self) -> Any:
            return iter([None])

    signal.connect(lambda **kwargs: Awaitable())
    with pytest.raises(AsyncReceiverError):
        signal.send_sync()


# -- concurrency ----------------------------------------------------------------------------------


async def test_concurrent_receivers_run_together_after_the_others(signal: Signal) -> None:
    """They meet each other, and their responses come last, in order."""
    meeting = asyncio.Barrier(2)

    async def meet(name: str, **kwargs: Any) -> str:
        async with asyncio.timeout(10):
            await meeting.wait()
        return name

    signal.connect(functools.partial(meet, "a"), concurrent=True)
    signal.connect(functools.partial(meet, "b"), concurrent=True)
    signal.connect(lambda **kwargs: "sync", concurrent=True)
    signal.connect(echo("sequential"))
    responses = [response for _, response in await signal.send()]
    assert responses == ["sequential", "a", "b", "sync"]


async def test_errors_of_concurrent_receivers(signal: Signal) -> None:
    """All run; one error is raised as itself, several as a group; robust sends collect them."""
    ran: list[str] = []

    async def fail(name: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        ran.append(name)
        raise ValueError(name)

    one, two = functools.partial(fail, "one"), functools.partial(fail, "two")
    signal.connect(one, concurrent=True)
    signal.connect(lambda **kwargs: ran.append("fine"), concurrent=True)
    with pytest.raises(ValueError, match="one") as single:
        await signal.send()
    assert "fail" in single.value.__notes__[0]
    signal.connect(two, concurrent=True)
    with pytest.raises(ExceptionGroup) as group:
        await signal.send()
    assert [str(error) for error in group.value.exceptions] == ["one", "two"]
    assert sorted(ran) == ["fine", "fine", "one", "one", "two"]
    responses = await signal.send_robust()
    assert [str(response) for _, response in responses] == ["one", "None", "two"]


async def test_cancelling_the_send_cancels_concurrent_receivers(signal: Signal) -> None:
    """A cancelled send takes its task group with it."""
    ended: list[str] = []

    async def slow(**kwargs: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    signal.connect(slow, concurrent=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await signal.send_robust()
    assert ended == ["cancelled"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_exits_are_not_collected(signal: Signal, error: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit end a robust send."""

    def leave(**kwargs: Any) -> None:
        raise error

    signal.connect(leave)
    with pytest.raises(error):
        await signal.send_robust()


def test_exits_of_concurrent_receivers(signal: Signal) -> None:
    """The same in a task group, which lets them out as they are."""

    def leave(**kwargs: Any) -> None:
        raise SystemExit(3)

    signal.connect(leave, concurrent=True)
    with pytest.raises(SystemExit):
        asyncio.run(signal.send_robust())


async def test_concurrent_receivers_of_model_signals_get_no_session(send: Any) -> None:
    """A session is not for two tasks."""
    post_save.connect(lambda session, **k: session, sender=Model, concurrent=True)
    post_save.connect(lambda session, **k: session, sender=Model)
    responses = [r for _, r in await send(post_save, Model, instance=1, session="s")]
    assert responses == ["s", None]


async def test_a_dead_weak_receiver_is_passed_over_in_flight(signal: Signal, send: Any) -> None:
    """A receiver that dies while others run is not called."""
    held: list[Any] = [echo("weak"), echo("weak too")]

    @signal.connect
    def drop(**kwargs: Any) -> str:
        held.clear()
        gc.collect()
        return "dropped"

    last, concurrent = echo("last"), echo("concurrent")
    signal.connect(held[0], weak=True)
    signal.connect(last)
    signal.connect(held[1], weak=True, concurrent=True)
    signal.connect(concurrent, concurrent=True)
    assert await send(signal) == [
        (drop, "dropped"),
        (last, "last"),
        (concurrent, "concurrent"),
    ]


# -- recursion ------------------------------------------------------------------------------------


async def test_recursion_is_stopped(signal: Signal, send: Any) -> None:
    """A receiver that sends its own signal is stopped, and the chain is shown."""

    @signal.connect
    async def again(signal: Signal, sender: Any, **kwargs: Any) -> None:
        signal.send_sync(sender)

    try:
        responses = await send(signal, Model)
    except SignalRecursionError as error:
        responses = [(again, error)]
    [(_, error)] = responses
    assert isinstance(error, SignalRecursionError)
    assert "happened sent by" in str(error)
    assert "again" in str(error)


async def test_a_task_that_outlives_its_delivery_starts_anew(signal: Signal) -> None:
    """A chain of tasks, each started by a receiver and sending afterwards, is no recursion."""
    done = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def send_later(number: int) -> None:
        await asyncio.sleep(0)
        await signal.send(number=number)

    @signal.connect
    async def next_one(number: int, **kwargs: Any) -> None:
        if number == 200:
            done.set()
        else:
            tasks.append(asyncio.create_task(send_later(number + 1)))

    await signal.send(number=0)
    async with asyncio.timeout(10):
        await done.wait()
    await asyncio.gather(*tasks)
