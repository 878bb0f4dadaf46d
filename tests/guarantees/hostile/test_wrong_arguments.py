"""Arguments of wrong kinds: an error of ours in words, of bounded length, and nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import (
    AksaraSignalsError,
    InvalidOptionError,
    InvalidPhaseError,
    InvalidReceiverError,
    InvalidSenderError,
    NoSessionError,
    Signal,
    SignalContext,
    UnknownSignalError,
    UnmappedClassError,
    add_delivery_hook,
    drain,
    lookup,
    post_save,
    pre_save,
    receiver,
    typed_signal,
)
from aksara_signals.contrib.structured_logging import log_deliveries, stop_logging_deliveries
from aksara_signals.dispatch.delivery import tracing
from aksara_signals.dispatch.signal import restore_connections
from aksara_signals.orm import (
    SignalMixin,
    on_commit,
    on_rollback,
    register,
    session_scope,
    unregister,
)
from aksara_signals.orm.mapping.registered import is_wired
from aksara_signals.testing import Calls, as_if_committed, capture_signals, mock_receiver


class Base(SignalMixin, DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"

    id: Mapped[int] = mapped_column(primary_key=True)


class Unwired(DeclarativeBase):
    pass


class Plain: ...


class Untouchable:
    """Whatever is asked of it raises."""

    def _refuse(self, *args: Any) -> Any:
        raise RuntimeError("asked")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def receive(**kwargs: Any) -> None: ...


def yielding() -> Any:
    yield 3


signal = Signal("wrongly_used")
SECRET = "hunter2-" * 500

WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "number": lambda: 3,
    "fraction": lambda: 1.5,
    "nan": lambda: float("nan"),
    "huge": lambda: 10**400,
    "bool": lambda: True,
    "text": lambda: SECRET,
    "bytes": lambda: b"x",
    "class": lambda: Plain,
    "model": lambda: Row,
    "instance": Plain,
    "row": lambda: Row(id=1),
    "generator": yielding,
    "empty list": list,
    "list": lambda: [3],
    "list of lists": lambda: [[post_save]],
    "dict": lambda: {3: 4},
    "exception": lambda: ValueError,
    "function": lambda: receive,
    "signal": lambda: post_save,
    "untouchable": Untouchable,
}
"""By name, what makes it: some can be used once only."""


class EnteredError(Exception):
    """A block was entered."""


def block(context: Any) -> None:
    with context:
        raise EnteredError


async def async_block(context: Any) -> None:
    async with context:
        raise EnteredError


CALLABLE = {"class", "model", "exception", "function", "signal"}
USES: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "Signal(name)": (Signal, {"None", "text"}),
    "Signal(providing_args)": (lambda x: Signal(providing_args=x), {"None", "empty list"}),
    "Signal(doc)": (lambda x: Signal(doc=x), {"None", "text"}),
    "typed_signal": (typed_signal, set()),
    "lookup": (lookup, set()),
    "receiver": (receiver, {"signal"}),
    "connect": (lambda x: signal.connect(x, sender=Plain), {"None", "function"}),
    "connected_to": (lambda x: block(signal.connected_to(x)), {"function"}),
    "disable_for(signals)": (lambda x: SignalContext(Plain, signals=x), {"None", "signal"}),
    "disable_for(receivers)": (
        lambda x: SignalContext(Plain, receivers=x),
        {"None", *CALLABLE} - {"signal", "model"},
    ),
    "decorating": (SignalContext.disable_all(), {"function", "signal"}),
    "add_delivery_hook": (add_delivery_hook, CALLABLE),
    "drain": (lambda x: asyncio.run(drain(x)), {"None", "number", "fraction"}),
    "capture_signals": (lambda x: block(capture_signals(x)), {"signal"}),
    "mock_receiver": (lambda x: block(mock_receiver(x)), CALLABLE - {"exception"}),
    "as_if_committed": (lambda x: block(as_if_committed(x)), set()),
    "Calls.of": (lambda x: Calls().of(x), {"None", "signal"}),
    "Calls[…]": (lambda x: Calls()[x], {"number", "huge", "bool"}),
    "assert_not_called": (lambda x: Calls().assert_not_called(x), {"None", "signal"}),
    "assert_order": (lambda x: Calls().assert_order(x), {"signal"}),
    "register": (register, {"model"}),
    "unregister": (unregister, {"class", "model", "exception"}),
    "on_commit(session)": (lambda x: on_commit(x, receive), set()),
    "on_commit(callback)": (lambda x: on_commit(Session(), x), CALLABLE - {"signal", "model"}),
    "on_rollback(callback)": (lambda x: on_rollback(Session(), x), CALLABLE - {"signal", "model"}),
    "session_scope": (lambda x: asyncio.run(async_block(session_scope(x))), set()),
    "log_deliveries": (log_deliveries, {"number", "huge"}),
}
"""What is tried, and which of the above it takes."""
UNDECIDED = {("connect", "model"), ("connect", "signal"), ("connect", "exception")}
UNDECIDED |= {("connected_to", name) for _, name in UNDECIDED}
"""What other tests are about, or what takes arguments by chance."""

for _flag in ("weak", "exact", "concurrent"):
    USES[f"connect({_flag})"] = (
        lambda x, flag=_flag: signal.connect(receive, **{flag: x}),
        {"bool"},
    )
for _flag, _taken in (("coalesce", {"bool"}), ("timeout_seconds", {"None", "number", "fraction"})):
    USES[f"connect({_flag}), waiting"] = (
        lambda x, flag=_flag: signal.connect(receive, phase="after_commit", **{flag: x}),
        _taken,
    )


@pytest.mark.parametrize("use", USES)
def test_what_makes_no_sense_is_refused(use: str) -> None:
    """By an error of ours that shows no long argument, and whatever was there is as it was."""
    call, taken = USES[use]
    for name, make in WRONG.items():
        if name in taken or (use, name) in UNDECIDED:
            continue
        before = signal.connections, post_save.connections, [*tracing.hooks], is_wired(Row)
        try:
            call(make())
        except AksaraSignalsError as error:
            text = str(error)
        else:
            pytest.fail(f"{name} was taken")
        assert text.isprintable()
        assert len(text) < 450
        assert SECRET[:100] not in text
        assert (
            signal.connections,
            post_save.connections,
            tracing.hooks,
            is_wired(Row),
        ) == before, name


@pytest.mark.parametrize("use", USES)
def test_what_makes_sense_is_taken(use: str) -> None:
    """So that the other test doesn't pass because everything is refused."""
    call, taken = USES[use]
    for name in taken:
        # A block that begins, an assertion that looks and fails, the number of no call.
        with suppress(EnteredError, AssertionError, IndexError):
            call(WRONG[name]())
        restore_connections(signal, [])
        tracing.hooks.clear()
        stop_logging_deliveries()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: typed_signal(3), InvalidOptionError, "an example such as"),
        (lambda: lookup(None), InvalidOptionError, "the name of a signal"),
        (lambda: lookup("wrongly_use"), UnknownSignalError, "did you mean 'wrongly_used'"),
        (lambda: Signal(providing_args=1.5), InvalidOptionError, "a list of the names"),
        (lambda: Signal(providing_args=[["a"]]), InvalidOptionError, "name of an argument"),
        (lambda: unregister("User"), UnmappedClassError, "give the class itself"),
        (lambda: register(Row(id=1)), UnmappedClassError, "its class, .*Row"),
        (register, InvalidOptionError, "object for every mapped class"),
        (lambda: capture_signals(3), InvalidOptionError, "give signals or their names"),
        (lambda: asyncio.run(drain("5")), InvalidOptionError, "a number of seconds"),
        (lambda: block(mock_receiver(receive, spec=3)), InvalidOptionError, "leave it out"),
        (lambda: Calls()["post_save"], InvalidOptionError, r"calls\.of\(signal\)"),
        (lambda: Calls().assert_not_called("post_sav"), UnknownSignalError, "'post_save'"),
        (lambda: log_deliveries("LOUD"), InvalidOptionError, "logging.INFO"),
    ],
)
def test_the_way_out_is_named(call: Any, error: type[Exception], words: str) -> None:
    """What was probably meant, in the words that the caller knows."""
    with pytest.raises(error, match=words):
        call()


def test_one_signal_that_refuses_keeps_the_receiver_from_all() -> None:
    """``@receiver`` of several signals connects to all or to none, and keeps what was there."""
    other = Signal("another")
    signal.connect(receive, sender=int)
    before = signal.connections
    with pytest.raises(InvalidReceiverError):
        receiver([signal, other])(3)  # type: ignore[type-var]
    with pytest.raises(InvalidPhaseError):
        receiver([post_save, pre_save], phase="after_commit")

    class Refusing(Signal):
        def connect(self, receiver: Any = None, sender: Any = None, **options: Any) -> Any:
            super().connect(receiver, sender, **options)
            if receiver is not None:
                raise RuntimeError("half done")
            return lambda function: function

    with pytest.raises(RuntimeError, match="half done"):
        receiver([signal, Refusing(), other], sender=(each for each in (int, str)))(receive)
    assert (signal.connections, other.connections) == (before, ())
    receiver((each for each in (signal, other)), sender=iter([str]))(receive)
    assert [each.sender for each in (*signal.connections, *other.connections)] == [int, str, str]
    restore_connections(signal, [])


def test_capturing_connects_everywhere_or_nowhere() -> None:
    """Also where the second of two signals refuses the sender, or all do."""
    other = Signal("refusing")
    with pytest.raises(InvalidSenderError), capture_signals([signal, other], sender=[]):
        raise AssertionError("entered")

    class Refusing(Signal):
        def connected_to(self, *args: Any, **kwargs: Any) -> Any:
            @contextmanager
            def refuse() -> Any:
                raise InvalidSenderError("not by such a sender")
                yield

            return refuse()

    refusing = Refusing("refusing")
    with pytest.raises(InvalidSenderError), capture_signals([signal, refusing]):
        raise AssertionError("entered")
    assert signal.connections == ()
    with capture_signals(sender=(each for each in (7, 8))) as calls:  # of those that take it
        signal.send_sync(7, amount=1)
        signal.send_sync(8)
        signal.send_sync(9)
    assert [call.sender for call in calls] == [7, 8]
    assert signal.connections == ()


def test_classes_are_registered_together_or_not_at_all() -> None:
    """In a list, a generator or alone."""
    with pytest.raises(UnmappedClassError):
        register([Unwired, Plain])
    assert not is_wired(Unwired)
    register(each for each in [Unwired])
    assert is_wired(Unwired)
    with pytest.raises(UnmappedClassError):
        unregister(Unwired, "Row")
    assert is_wired(Unwired)
    unregister([Unwired])
    assert not is_wired(Unwired)


async def test_factories_that_make_no_session() -> None:
    """They are recognised when they are bound or, where that is impossible, at their first use."""
    engine = create_engine("sqlite://")

    async def late(**kwargs: Any) -> Any:
        return Session(engine)

    for factory, words in (
        (lambda: Session(engine), "expire_on_commit=False"),
        (lambda expire_on_commit, /: Session(engine), "expire_on_commit=False"),
        (engine, "makes no sessions"),
    ):
        with pytest.raises(InvalidOptionError, match=words):
            Base.bind_sessions(factory)  # type: ignore[arg-type]
        with pytest.raises(NoSessionError):
            await Row.objects.count()
    for bad in (dict, late):
        Base.bind_sessions(bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidOptionError, match="must make a Session"):
            await Row.objects.count()
    Base.metadata.create_all(engine)

    def plain(expire_on_commit: bool = True) -> Session:
        return Session(engine, expire_on_commit=expire_on_commit)

    Base.bind_sessions(plain)
    assert await Row.objects.count() == 0
    Base.bind_sessions(None)
    engine.dispose()


class Equal:
    """A hook that says it is equal to all."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, step: Any) -> Any:
        raise AssertionError("not called here")


def test_hooks_are_distinguished_by_identity() -> None:
    """Two that are equal are two; a method is the same each time that it is asked for."""
    one, two = Equal(), Equal()
    from aksara_signals import remove_delivery_hook

    for hook in (one, two, one, one.__call__, one.__call__):
        add_delivery_hook(hook)
    try:
        assert len(tracing.hooks) == 3
        assert remove_delivery_hook(two)
        assert not remove_delivery_hook(two)
        assert tracing.hooks[0] is one
        assert remove_delivery_hook(one.__call__)
        assert remove_delivery_hook(one)
    finally:
        assert tracing.hooks == []
