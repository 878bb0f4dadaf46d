"""Receivers, senders and options whose attributes raise, lie, or can't be compared."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any
from unittest.mock import Mock

import pytest
from kit.misfits import WAYS, send

from aksara_signals import (
    InvalidOptionError,
    InvalidReceiverError,
    Signal,
    SignalContext,
    post_save,
)
from aksara_signals.contrib.structured_logging import log_deliveries, stop_logging_deliveries
from aksara_signals.dispatch.receivers.identity import same_receiver


def fail(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("not to be asked")


class Receiver:
    def __call__(self, **kwargs: Any) -> Any:
        return kwargs["fails"]()

    def method(self, **kwargs: Any) -> Any:
        return kwargs["fails"]()


class Raises(Receiver):
    __repr__ = __eq__ = __bool__ = __len__ = fail
    __hash__ = fail


class Unhashable(Receiver):
    __hash__ = None


class HasEverything(Receiver):
    def __getattr__(self, name: str) -> Any:
        return Mock()


class HasItself(Receiver):
    def __getattr__(self, name: str) -> Any:
        return self


class HasNothing(Receiver):
    __getattr__ = fail


class AnswersNothing(Receiver):
    __getattribute__ = fail


class NoModule(Receiver):
    __module__ = property(fail)


class NoSignature(Receiver):
    __signature__ = property(fail)


class NoClass(Receiver):
    __class__ = property(fail)


class SaysMethod(Receiver):
    __class__ = types.MethodType


class SaysFunction(Receiver):
    __class__ = types.FunctionType


class SaysClass(Receiver):
    __class__ = type


class SaysString(Receiver):
    __class__ = str


class ByMetaclass(type):
    def __call__(cls, **kwargs: Any) -> Any:
        return kwargs["fails"]()

    def __repr__(cls) -> str:
        return fail()

    def __eq__(cls, other: object) -> bool:
        return fail()

    def __hash__(cls) -> int:
        return fail()


class NamesRaise(type):
    """A metaclass whose classes can't be asked for their names or bases, as such."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__", "__mro__"):
            return fail()
        return super().__getattribute__(name)


class Text(str):
    """A string that can't be shown, looked into or compared."""

    __slots__ = ()
    __str__ = __repr__ = __format__ = __len__ = isprintable = fail
    __eq__ = __hash__ = fail


def with_texts_for_names() -> Any:
    def named(**kwargs: Any) -> Any:
        return kwargs["fails"]()

    named.__name__, named.__qualname__, named.__module__ = Text("f"), Text("f"), Text("m")
    return named


def class_with_texts_for_names() -> Any:
    made = type("Made", (Receiver,), {"__module__": Text("m")})
    made.__name__, made.__qualname__ = Text("Made"), Text("Made")
    return made


def class_without_module() -> Any:
    made: dict[str, Any] = {}
    exec("made = type('Made', (), {})", made)
    with pytest.raises(AttributeError):
        _ = made["made"].__module__
    return made["made"]


def forged(**kwargs: Any) -> Any:
    return kwargs["fails"]()


forged.__qualname__ = "forged\nERROR root: all is lost\x1b[31m\u202e"

CLASSES = [
    Raises,
    Unhashable,
    HasEverything,
    HasItself,
    HasNothing,
    AnswersNothing,
    NoModule,
    NoSignature,
    NoClass,
    SaysMethod,
    SaysFunction,
    SaysClass,
    SaysString,
]
RAISES = Raises()
RECEIVERS = {cls.__name__: cls for cls in CLASSES} | {
    "method": lambda: RAISES.method,
    "partial": lambda: functools.partial(functools.partial(Receiver(), fails=fail), more=1),
    "partial of a method": lambda: functools.partial(RAISES.method),
    "forged": lambda: forged,
    "texts for names": with_texts_for_names,
    "of a class with texts for names": class_with_texts_for_names(),
    "of a class whose names raise": NamesRaise("Made", (Receiver,), {}),
}
SENDERS = {cls.__name__: cls for cls in CLASSES} | {
    "class": lambda: ByMetaclass("Made", (), {}),
    "instance": lambda: object.__new__(ByMetaclass("Made", (), {})),
    "names raise": lambda: NamesRaise("Made", (), {}),
    "of a class whose names raise": NamesRaise("Made", (), {}),
    "texts for names": class_with_texts_for_names,
    "of a class with texts for names": class_with_texts_for_names(),
    "no module": class_without_module,
}


@pytest.mark.parametrize("weak", [False, True], ids=["strong", "weak"])
@pytest.mark.parametrize("name", RECEIVERS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_strange_receiver_is_called(
    way: str, name: str, weak: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is connected once, called, named in one line of text, silenced and disconnected."""
    signal = Signal("strange")
    receiver = RECEIVERS[name]()
    for _ in range(2):
        signal.connect(receiver, weak=weak)
    [connection] = signal.connections
    assert "\n" not in repr(connection)
    [(called, response)] = await send(signal, way, None, fails=lambda: 7)
    assert response == 7
    assert same_receiver(called, connection.receiver)

    def refuse() -> None:
        raise ValueError("the receiver's own")

    try:
        [(_, error)] = await send(signal, way, None, fails=refuse)
    except ValueError as raised:
        error = raised
    assert str(error) == "the receiver's own"
    texts = caplog.messages if "robust" in way else error.__notes__
    [text] = texts
    assert text.isprintable()
    with SignalContext.disable_for(signals=signal, receivers=receiver):
        assert await send(signal, way, None, fails=fail) == []
    assert signal.disconnect(receiver)
    assert not signal.disconnect(receiver)


@pytest.mark.parametrize("name", SENDERS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_strange_sender_is_matched_by_identity(
    way: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also beside connections to names, numbers and classes, and where the error names it."""
    signal = Signal("strange")
    sender, other = SENDERS[name](), SENDERS[name]()
    received: list[int] = []
    for number, each in enumerate((sender, other, None, "Made up", 7, int)):
        signal.connect(lambda number=number, **kwargs: received.append(number), sender=each)
    await send(signal, way, sender)
    assert received == [0, 2]
    assert "\n" not in repr(signal.connections)
    with SignalContext.disable_for(sender):
        await send(signal, way, sender)
        await send(signal, way, other)
    assert received == [0, 2, 1, 2]

    def refuse(**kwargs: Any) -> None:
        raise ValueError("the receiver's own")

    signal.connect(refuse, sender=sender, priority=1)
    try:
        await send(signal, way, sender)
    except ValueError as error:
        assert error.__notes__  # noqa: PT017 - a robust send raises nothing
    else:
        assert len(caplog.messages) == 1
    assert signal.disconnect(refuse, sender=sender)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", [f"{__name__}.Made", "Made"])
async def test_a_class_answers_to_its_true_names(where: str, way: str) -> None:
    """Those that Python knows it by, whatever its metaclass makes of them."""
    signal = Signal("strange")
    signal.connect(lambda **kwargs: 7, sender=where)
    sender = NamesRaise("Made", (), {"__module__": __name__})
    assert [response for _, response in await send(signal, way, sender)] == [7]


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_whose_class_has_no_names(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """A built-in signal names the class and its instance, and the receiver's error arrives."""
    sender = NamesRaise("Made", (), {})

    def refuse(**kwargs: Any) -> None:
        raise ValueError("the receiver's own")

    log_deliveries()
    try:
        with post_save.connected_to(refuse, sender=sender):
            [(_, error)] = await send(post_save, way, sender, instance=sender())
    except ValueError as raised:
        error = raised
    finally:
        stop_logging_deliveries()
    assert str(error) == "the receiver's own"
    [text] = error.__notes__ if "robust" not in way else caplog.messages[-1:]
    assert "post_save sent by tests.guarantees.hostile.test_strange_objects.Made to" in text


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_raised_may_be_of_a_class_without_names(way: str) -> None:
    """The log of deliveries names it."""
    raised = NamesRaise("Unnamed", (ValueError,), {})("the receiver's own")

    def refuse(**kwargs: Any) -> None:
        raise raised

    signal = Signal("strange")
    signal.connect(refuse)
    log_deliveries()
    try:
        [(_, error)] = await send(signal, way)
    except ValueError as caught:
        error = caught
    finally:
        stop_logging_deliveries()
    assert error is raised


def test_a_receiver_without_a_readable_signature_is_refused() -> None:
    """Whatever inspect stumbles over, it is one error, at connect."""

    def itself(**kwargs: Any) -> None: ...

    itself.__wrapped__ = itself

    def junk(**kwargs: Any) -> None: ...

    junk.__signature__ = 7
    unreadable = [itself, junk]
    # Until Python 3.13, inspect compared a class, and what is inside a partial, with its own.
    compared = [functools.partial(Raises()), ByMetaclass("Made", (), {})]
    if sys.version_info < (3, 13):
        unreadable += compared
    else:
        for receiver in compared:
            Signal("read").connect(receiver)
    for receiver in unreadable:
        with pytest.raises(InvalidReceiverError, match="no signature that can be read"):
            Signal("read").connect(receiver)


@pytest.mark.parametrize(
    "name", [7, b"x", object(), ["x"], Raises, pytest.param(SaysString(), id="says str")]
)
def test_a_name_is_a_string(name: Any) -> None:
    """Anything else is refused when the signal is made."""
    with pytest.raises(InvalidOptionError, match="must be a string"):
        Signal(name)


@pytest.mark.parametrize("name", ["", "x" * 100_000, "a\nERROR b", "\x1b[31m", "\u202e", "\x00"])
async def test_a_name_cannot_forge_a_line(name: str) -> None:
    """Control characters are written out wherever the signal is named; the name stays."""
    signal = Signal(name)
    signal.connect(fail)
    with pytest.raises(RuntimeError) as caught:
        await signal.send("a\nb")
    assert signal.name == name
    assert caught.value.__notes__[0].isprintable()
    assert repr(signal).isprintable()
    assert signal.display_name.isprintable()


@pytest.mark.parametrize("way", WAYS)
async def test_a_name_is_a_plain_copy(way: str) -> None:
    """A string of one's own class, which raises when it is shown, is no trouble as a name."""
    signal = Signal(Text("named"))
    signal.connect(Receiver())
    assert (type(signal.name), signal.name, repr(signal)) == (str, "named", "<Signal named>")

    def refuse() -> None:
        raise ValueError("the receiver's own")

    try:
        [(_, error)] = await send(signal, way, Text("sender"), fails=refuse)
    except ValueError as raised:
        error = raised
    assert str(error) == "the receiver's own"


class Uncomparable:
    def __eq__(self, other: object) -> bool:
        return fail()

    def __hash__(self) -> int:
        return 7


@pytest.mark.parametrize("uid", [[], {}, Raises()], ids=["list", "dict", "raises"])
def test_a_dispatch_uid_is_hashable(uid: Any) -> None:
    """Both connect and disconnect say so."""
    signal = Signal("uid")
    with pytest.raises(InvalidOptionError, match="not hashable"):
        signal.connect(Receiver(), dispatch_uid=uid)
    with pytest.raises(InvalidOptionError, match="not hashable"):
        signal.disconnect(dispatch_uid=uid)
    assert signal.connections == ()


def test_a_dispatch_uid_that_cannot_be_compared_connects_nothing() -> None:
    """Its own error comes out, and what was connected stays, no more and no less."""
    signal = Signal("uid")
    kept = signal.connect(Receiver(), sender=int, dispatch_uid=Uncomparable())
    with pytest.raises(RuntimeError, match="not to be asked"):
        signal.connect(Receiver(), sender=[str, int], dispatch_uid=Uncomparable())
    signal.connect(Receiver(), sender=float)
    assert [each.sender for each in signal.connections] == [int, float]
    assert signal.connections[0].receiver is kept


@pytest.mark.parametrize(
    "options",
    [
        {"priority": float("nan")},
        {"priority": Raises()},
        {"weak": Raises()},
        {"coalesce": Raises(), "phase": "after_commit"},
        {"phase": Raises()},
        {"phase": ["after_commit"]},
        {"timeout_seconds": float("nan"), "phase": "after_commit"},
        {"timeout_seconds": 10**400, "phase": "after_commit"},
        {"timeout_seconds": Unhashable(), "phase": "after_commit"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """By one error, which doesn't ask the value for its repr."""
    signal = Signal("options")
    with pytest.raises(InvalidOptionError):
        signal.connect(Receiver(), **options)
    assert signal.connections == ()
