"""What a SignalContext may be given, and that one which silences nothing is refused."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import UserList, deque
from collections.abc import Callable
from typing import Any

import pytest
from kit.support import answering

from aksara_signals import (
    InvalidOptionError,
    InvalidSenderError,
    Signal,
    SignalContext,
    post_migrate,
    post_save,
    pre_migrate,
)
from aksara_signals.dispatch.senders import is_sent_by_classes


class Model: ...


class Child(Model): ...


class Other: ...


@pytest.fixture
def signal() -> Signal:
    signal = Signal("silenced")
    signal.connect(receive)
    return signal


def receive(**kwargs: Any) -> str:
    return "called"


def is_silent(signal: Signal, sender: Any) -> bool:
    return not signal.send_sync(sender)


@pytest.mark.parametrize("make", [SignalContext, SignalContext.disable_for])
@pytest.mark.parametrize(
    "given",
    [
        lambda: (Model, Other),
        lambda: ([Model, Other],),
        lambda: ({Model: 1, Other: 2}.keys(),),
        lambda: ((each for each in (Model, Other)),),
        lambda: (Model, iter([Other])),
        lambda: ("Model", f"{__name__}.Other"),
    ],
)
async def test_models_are_given_alone_or_together(
    signal: Signal, make: Any, given: Callable[[], tuple[Any, ...]]
) -> None:
    """One or more, in a list, a view or a generator, with both ways to make a context."""
    context = make(*given())
    for _ in range(2):
        with context:
            assert [is_silent(signal, each) for each in (Model, Child, Other, int)] == [
                True,
                True,
                True,
                False,
            ]
        async with context:
            assert is_silent(signal, Child)
    assert not is_silent(signal, Child)


def test_the_constructor_takes_the_options_too(signal: Signal) -> None:
    """``SignalContext(Model, signals=…, receivers=…)`` is ``disable_for`` of the same."""
    with SignalContext(Model, signals=(each for each in [signal]), receivers={receive: 1}.keys()):
        assert is_silent(signal, Model)
        assert not is_silent(signal, Other)
    with SignalContext(signals=signal):
        assert is_silent(signal, Other)


@pytest.mark.parametrize("make", [SignalContext, SignalContext.disable_for])
@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ((), {}, "nothing to silence"),
        ((None,), {}, r"disable_all\(\)"),
        (([Model, None],), {}, r"disable_all\(\)"),
        (([],), {}, "empty list"),
        (([],), {"signals": [post_save]}, "empty list"),
        ((iter(()),), {}, "empty list"),
        (([[Model]],), {}, "inside a list"),
        ((Model, [(Model,)]), {}, "inside a list"),
        ((post_save,), {}, "signals="),
        ((receive,), {}, "receivers="),
        ((receive,), {"signals": [post_save]}, "receivers="),
        (("",), {}, "empty string"),
        ((), {"signals": []}, "signals= is empty"),
        ((), {"receivers": iter(())}, "receivers= is empty"),
        ((), {"signals": 5}, "not a signal"),
        ((), {"receivers": "receive"}, "not a receiver"),
        ((), {"receivers": [post_save]}, "go into signals="),
    ],
)
def test_what_would_silence_nothing_is_refused(
    make: Any, given: Any, options: Any, words: str
) -> None:
    """In words that name what was meant, where the context is made."""
    with pytest.raises((InvalidOptionError, InvalidSenderError), match=words):
        make(*given, **options)


def test_a_name_that_no_class_has_is_refused_where_the_block_begins() -> None:
    """Not before: the class may come later. The nearest name is offered."""
    signal = Signal("named")
    signal.connect(receive)
    context = SignalContext("ComesLater")
    long = SignalContext("N" * 5000, signals=[post_save])

    @context
    def decorated() -> bool:
        return is_silent(signal, cls)

    for each in (context, long):
        with pytest.raises(InvalidSenderError, match="which no class has") as caught, each:
            raise AssertionError("entered")
        assert len(str(caught.value)) < 500
    with pytest.raises(InvalidSenderError):
        decorated()
    cls = type("ComesLater", (), {})
    for _ in range(2):
        with context:
            assert is_silent(signal, cls)
        assert not is_silent(signal, cls)
    assert decorated()


def test_a_name_whose_class_has_died_is_unknown_again(signal: Signal) -> None:
    """It would silence nothing."""
    context = SignalContext("ShortLived")
    cls = type("ShortLived", (), {})
    with context:
        assert is_silent(signal, cls)
    del cls
    gc.collect()
    with pytest.raises(InvalidSenderError, match="'ShortLived'"), context:
        raise AssertionError("entered")


def test_each_of_several_names_has_to_be_known() -> None:
    """Also behind a class, and behind a name that has been found before."""
    for known in (Model, "Model"):
        context = SignalContext(known, "ComesNever")
        for _ in range(2):
            with pytest.raises(InvalidSenderError, match="'ComesNever'"), context:
                raise AssertionError("entered")


def test_strings_that_are_senders_themselves_are_taken() -> None:
    """With custom signals, where a receiver is connected to the string, and with those of migrations."""
    signal = Signal("by_string")
    with pytest.raises(InvalidSenderError, match="signals="), SignalContext("the shop"):
        raise AssertionError("entered")
    with SignalContext("the shop", signals=[signal, post_save]):
        assert is_silent(signal, "the shop")
    signal.connect(receive, sender="the shop")
    with SignalContext("the shop"):
        assert is_silent(signal, "the shop")
    assert not is_silent(signal, "the shop")
    with SignalContext("upgrade"):
        assert is_silent(pre_migrate, "upgrade")


def test_anything_may_send_signals_of_ones_own(signal: Signal) -> None:
    """Numbers and objects; functions where the signal is named."""
    thing = Model()
    with SignalContext(7, thing):
        assert (is_silent(signal, 7), is_silent(signal, thing)) == (True, True)
        assert not is_silent(signal, 8)
    with SignalContext(receive, signals=[signal]):
        assert is_silent(signal, receive)


def test_the_adapter_is_asked() -> None:
    """It gets the built-in signals that are to be silenced, and says what can be meant."""
    asked: list[Any] = []

    def refuse_all(sender: Any, signals: Any) -> str | None:
        asked.append((sender, signals))
        return "is not to my liking"

    with answering(problem_of_silenced=refuse_all):
        for options in ({}, {"signals": [post_save]}):
            with pytest.raises(InvalidSenderError, match="5, which is not to my liking"):
                SignalContext(5, **options)
        SignalContext(5, signals=[Signal()])
        SignalContext(Model, "Model")
    assert asked == [(5, None), (5, (post_save,))]


def test_migrations_are_no_signals_of_classes() -> None:
    """Every other built-in signal is."""
    from aksara_signals import signals

    others = {getattr(signals, name) for name in signals.__all__}
    others = {each for each in others if not is_sent_by_classes(each.payload)}
    assert others == {pre_migrate, post_migrate}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({Model: 1}, "is one dict, not the models in it"),
        (deque([Model]), "is one deque"),
        (UserList([Model]), "is one UserList"),
        (weakref.WeakSet([Model]), "is one WeakSet"),
        (b"Model", "is one bytes"),
        (list[Model], "is a type annotation"),
        (asyncio, "is a module"),
    ],
    ids=["dict", "deque", "UserList", "WeakSet", "bytes", "annotation", "module"],
)
def test_what_models_are_in_is_no_model(signal: Signal, given: Any, words: str) -> None:
    """It is one sender at most, and only of a signal that is named."""
    for make in (SignalContext, SignalContext.disable_for, lambda each: SignalContext([each])):
        with pytest.raises((InvalidSenderError, InvalidOptionError), match=words):
            make(given)
    with SignalContext(given, signals=signal):
        assert is_silent(signal, given)
        assert not is_silent(signal, Model)


@pytest.mark.parametrize("option", ["sender", "senders", "models", "signal", "receiver"])
def test_a_context_names_its_arguments(option: str) -> None:
    """There are models, signals= and receivers=."""
    for make in (SignalContext, SignalContext.disable_for):
        with pytest.raises(InvalidOptionError, match=f"given '{option}'; models are given by"):
            make(Model, **{option: Model})  # type: ignore[arg-type]


def test_everybody_is_silenced_without_an_argument() -> None:
    """``@SignalContext.disable_all`` lacks its parentheses; models are for disable_for()."""
    for given in (receive, Model, [Model]):
        with pytest.raises(InvalidOptionError, match=r"@SignalContext\.disable_all\(\)"):
            SignalContext.disable_all(given)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="takes no arguments"):
        SignalContext.disable_all(signals=[post_save])  # type: ignore[arg-type]


def test_a_class_is_not_decorated(signal: Signal) -> None:
    """It would be a function from then on, so that a class of tests would be run no more."""
    for decorator in (SignalContext.disable_all(), signal.connected_to(receive)):
        with pytest.raises(InvalidOptionError, match="decorate its methods"):
            decorator(Model)
