"""Signal: connecting, disconnecting, sending, and what is called in which way."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from kit.support import answering

from aksara_signals import (
    AsyncReceiverError,
    InvalidOptionError,
    InvalidReceiverError,
    InvalidSenderError,
    Signal,
    SignalPayloadError,
    SignalRecursionError,
    post_delete,
    post_init,
    post_save,
    pre_init,
    receiver,
)
from aksara_signals.dispatch.connections import lock, routing
from aksara_signals.dispatch.receivers import identity, naming
from aksara_signals.dispatch.receivers.payload import Payload

KINDS = ["send", "send_robust", "send_sync", "send_robust_sync"]


class Model: ...


class Child(Model): ...


class Other: ...


@pytest.fixture
def signal() -> Signal:
    return Signal("happened")


@pytest.fixture(params=KINDS)
def send(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Each of the four ways to send, awaited where it has to be."""

    async def sending(signal: Signal, /, *args: Any, **payload: Any) -> Any:
        result = getattr(signal, request.param)(*args, **payload)
        return await result if asyncio.iscoroutine(result) else result

    return sending


def echo(name: str) -> Callable[..., str]:
    def receiver(**kwargs: Any) -> str:
        return name

    return receiver


# -- who hears whom -------------------------------------------------------------------------------


async def test_a_receiver_hears_its_sender_and_subclasses(signal: Signal, send: Any) -> None:
    """A receiver of a class hears its subclasses too, and nobody else."""
    signal.connect(echo("model"), sender=Model)
    signal.connect(echo("exact"), sender=Model, exact=True)
    signal.connect(echo("child"), sender=Child)
    signal.connect(echo("all"))
    heard = [
        [response for _, response in await send(signal, sender)]
        for sender in (Model, Child, Other, None)
    ]
    assert heard == [["model", "exact", "all"], ["model", "child", "all"], ["all"], ["all"]]


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
    signal.connect(echo("path"), sender=f"{__name__}.Model")
    signal.connect(echo("exact"), sender="Later", exact=True)

    class Later: ...

    class EvenLater(Later): ...

    heard = [
        [response for _, response in await send(signal, sender)]
        for sender in (Later, EvenLater, "Later", "Model", Child, Later())
    ]
    assert heard == [["name", "exact"], ["name"], ["name", "exact"], [], ["path"], []]


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
    heard = [
        [response for _, response in await send(signal, sender)]
        for sender in (1, 1.0, 2, one, two, slots, Slots())
    ]
    assert heard == [["number"], ["number"], [], ["object"], [], ["slots"], []]


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
    """created=True hears INSERTs, created=False UPDATEs, and a send by hand without it neither."""
    post_save.connect(echo("insert"), sender=Model, created=True)
    post_save.connect(echo("update"), sender=Model, created=False)
    post_save.connect(echo("both"), sender=Model)
    heard = [
        [response for _, response in await send(post_save, Model, instance=1, created=created)]
        for created in (True, False, None, True)
    ]
    assert heard == [["insert", "both"], ["update", "both"], ["both"], ["insert", "both"]]


async def test_what_an_undeclared_payload_fills_is_not_known(signal: Signal, send: Any) -> None:
    """Parameters of other names are filled by whatever is sent, beside one by position."""

    def by_position(sender: Any, /, weight: int, **kwargs: Any) -> int:
        return weight

    signal.connect(by_position)
    assert await send(signal, Model, weight=5) == [(by_position, 5)]


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
    assert await send(Signal("nobody")) == []


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


async def test_declared_payloads_are_checked(send: Any) -> None:
    """Every declared argument must be sent, even if nobody listens; others pass."""
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


# -- connecting and disconnecting -----------------------------------------------------------------


def test_duplicates_are_ignored(signal: Signal) -> None:
    """The same receiver for the same sender is one connection; a uid is its own identity."""

    class Auditor:
        def audit(self, **kwargs: Any) -> None: ...

    auditor = Auditor()
    for _ in range(2):
        signal.connect(auditor.audit, sender=Model)
        signal.connect(echo("x"), dispatch_uid="once")
        signal.connect(auditor.audit, sender=Other)
    assert len(signal.connections) == 3
    assert signal.disconnect(auditor.audit, sender=Model)
    assert not signal.disconnect(auditor.audit, sender=Model)
    assert not signal.disconnect(echo("x"))
    assert signal.disconnect(dispatch_uid="once")
    assert signal.disconnect(auditor.audit, sender=[Model, Other])
    assert signal.connections == ()


def test_disconnect_needs_to_know_whom(signal: Signal) -> None:
    """Neither a receiver nor a uid is an error."""
    with pytest.raises(InvalidOptionError):
        signal.disconnect()


def test_connect_decorates_in_every_form(signal: Signal) -> None:
    """connect and the call give back the receiver itself."""
    forms: list[Any] = [
        signal.connect,
        signal.connect(sender=Model),
        signal,
        signal(),
        signal(Model),
        signal(Model, Other),
        signal([Model, Other]),
        signal("Model", priority=3),
        signal(None),
        receiver(signal),
        receiver([signal, Signal()], sender=Model),
    ]
    senders: list[Any] = []
    for form in forms:
        before = len(signal.connections)
        one = echo("x")
        assert form(one) is one
        senders.append([each.sender for each in signal.connections[before:]])
    both = [Model, Other]
    assert senders == [
        [None], [Model], [None], [None], [Model], both, both, ["Model"], [None], [None], [Model]
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [[], Model, [Model], None])
def test_the_receiver_decorator_takes_signals(wrong: Any) -> None:
    """@receiver without a signal is refused."""
    with pytest.raises(InvalidOptionError):
        receiver(wrong)


def test_senders_that_can_not_be(signal: Signal) -> None:
    """An empty list and an empty string are no senders."""
    for wrong in ([], ""):
        with pytest.raises(InvalidSenderError):
            signal.connect(echo("x"), sender=wrong)
    assert signal.connections == ()


@pytest.mark.parametrize(
    "options",
    [{"nonsense": 1}, {"created": True}, {"priority": "high"}, {"dispatch_uid": []}],
)
def test_options_that_can_not_be(signal: Signal, options: Any) -> None:
    """Unknown options, and options that don't fit the signal, are refused at once."""
    for connect in (
        lambda: signal.connect(echo("x"), **options),
        lambda: signal.connect(**options),
        lambda: signal(Model, **options),
    ):
        with pytest.raises(InvalidOptionError):
            connect()
    with pytest.raises(InvalidOptionError):
        post_save.connect(echo("x"), created="yes")
    with pytest.raises(InvalidOptionError):
        post_delete.connect(echo("x"), created=True)


def test_connected_to_restores_what_it_changed(signal: Signal) -> None:
    """Inside it is connected; outside everything is as before, also when it was there already."""
    one = echo("x")
    with signal.connected_to(one, sender=Model) as same:
        assert same is one
        assert signal.has_receivers(Model)
    assert not signal.has_listeners(Model)
    signal.connect(one, sender=Model)
    with signal.connected_to(one, sender=[Model, Other]):
        assert signal.has_receivers(Other)
    assert [each.sender for each in signal.connections] == [Model]
    with signal.connected_to(one, sender=Other):
        signal.disconnect(one, sender=Other)
    assert not signal.has_receivers()


def test_a_connection_shows_its_options(signal: Signal) -> None:
    """A Connection has the receiver, the sender and every option, and can't be changed."""
    one = echo("x")
    signal.connect(one, Model, priority=2, exact=True, concurrent=True, dispatch_uid="u")
    [connection] = signal.connections
    assert (connection.receiver, connection.sender, connection.priority) == (one, Model, 2)
    assert (connection.exact, connection.concurrent, connection.weak) == (True, True, False)
    assert (connection.dispatch_uid, connection.created) == ("u", None)
    assert "echo" in repr(connection)
    with pytest.raises(AttributeError):
        connection.priority = 3


def test_representations() -> None:
    """A signal shows its name, if it has one."""
    assert repr(Signal("paid")) == "<Signal paid>"
    assert repr(Signal()).startswith("<Signal at 0x")
    assert Signal("paid", doc="Money came.").__doc__ == "Money came."


def test_the_adapter_follows_changes(signal: Signal) -> None:
    """It is called when receivers come or go, and only then."""
    seen: list[tuple[Any, bool]] = []
    with answering(connections_changed=lambda payload: seen.append((payload, signal.is_connected))):
        one = signal.connect(echo("x"))
        signal.connect(one)
        signal.disconnect(one)
        signal.disconnect(one)
    assert seen == [(signal.payload, True), (signal.payload, False)]


# -- life and death -------------------------------------------------------------------------------


async def test_references_are_strong_unless_weak(signal: Signal, send: Any) -> None:
    """Lambdas live on; weak receivers, functions and methods alike, go when they die."""

    class Auditor:
        def audit(self, **kwargs: Any) -> str:
            return "audited"

    auditor, function = Auditor(), echo("function")
    signal.connect(lambda **k: "strong")
    signal.connect(auditor.audit, weak=True)
    signal.connect(function, weak=True)
    assert [r for _, r in await send(signal)] == ["strong", "audited", "function"]
    del auditor, function
    gc.collect()
    assert [r for _, r in await send(signal)] == ["strong"]
    assert len(signal.connections) == 1
    signal.connect(echo("swept"))
    assert signal._table.snapshot.length == 2


def test_what_supports_no_weak_references(signal: Signal) -> None:
    """A receiver that can't be referenced weakly is refused with weak=True."""

    class Slotted:
        __slots__ = ()

        def __call__(self, **kwargs: Any) -> None: ...

    with pytest.raises(InvalidReceiverError, match="weak=False"):
        signal.connect(Slotted(), weak=True)
    signal.connect(Slotted())


async def test_dead_senders_take_their_connections_along(signal: Signal, send: Any) -> None:
    """A class made in a test can be collected, and an heir of its address hears nothing."""

    def make() -> weakref.ref[type]:
        class Short: ...

        signal.connect(echo("x"), sender=Short)
        return weakref.ref(Short)

    reference = make()
    await send(signal, Model)
    gc.collect()
    assert reference() is None
    assert signal.connections == ()
    for _ in range(50):
        assert await send(signal, type("Heir", (), {})) == []


def test_collection_takes_no_lock(signal: Signal) -> None:
    """A receiver may die while this very thread holds the lock of all signals."""
    held = [echo("x")]
    signal.connect(held[0], weak=True)
    with lock._turn.lock:
        held.clear()
        gc.collect()
    assert signal.connections == ()


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


# -- mocks ----------------------------------------------------------------------------------------


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


async def test_addresses_that_collide_are_told_apart(
    signal: Signal, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Look-ups go by address and end with a comparison of the live objects."""
    for module in (identity, routing):
        monkeypatch.setattr(module, "id", lambda _: 7, raising=False)
    one, two = echo("one"), echo("two")
    for sender in (Model, Other):
        signal.connect(one, sender=sender)
        signal.connect(two, sender=sender)
    assert len(signal.connections) == 4
    assert [r for _, r in await send(signal, Model)] == ["one", "two"]
    assert signal.disconnect(one, sender=Other)
    assert [r for _, r in await send(signal, Other)] == ["two"]
    assert [r for _, r in await send(signal, Model)] == ["one", "two"]


def test_what_is_the_same(signal: Signal) -> None:
    """Methods of one object are one receiver, of another object another one."""
    first: list[Any] = []
    second: list[Any] = []
    assert identity.same_receiver(first.append, first.append)
    assert not identity.same_receiver(first.append, second.append)
    assert not identity.same_receiver(first.append, first.pop)
    assert not identity.same_receiver(first.append, echo("x"))
    assert identity.receiver_address(first.append) == identity.receiver_address(first.append)
    assert not identity.sender_key(Model).same(identity.sender_key("Model"))
    assert naming.describe_sender(first) == "<list object>"
    assert naming.describe_receiver(None) == "a receiver that is gone"


async def test_a_class_may_be_a_receiver(signal: Signal, send: Any) -> None:
    """Calling a class makes an instance, which is the response."""

    class Note:
        def __init__(self, **kwargs: Any) -> None:
            self.kwargs = kwargs

        async def __call__(self) -> None: ...

    signal.connect(Note)
    [(_, response)] = await send(signal, Model)
    assert response.kwargs == {"signal": signal, "sender": Model}


def test_a_dead_receiver_is_in_no_new_plan(signal: Signal) -> None:
    """A weak receiver that died before the first send is passed over."""
    held = [echo("x")]
    signal.connect(held[0], weak=True)
    held.clear()
    gc.collect()
    assert signal.send_sync(Model) == []
    assert not signal.has_receivers(Model)
