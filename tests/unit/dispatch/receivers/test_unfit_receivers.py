"""What can be called and is no receiver: refused when it is connected, with the way out."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Annotated, Any, List, Optional, Union  # noqa: UP035

import pytest

from aksara_signals import (
    InvalidOptionError,
    InvalidReceiverError,
    InvalidSenderError,
    Signal,
    post_delete,
    post_save,
    receiver,
)


class Post: ...


class Handlers:
    def on_save(self, instance: Any, **kwargs: Any) -> None: ...

    @classmethod
    def of_class(cls, **kwargs: Any) -> None: ...

    @staticmethod
    def of_none(**kwargs: Any) -> None: ...


def receive(**kwargs: Any) -> None: ...


async def receive_async(**kwargs: Any) -> None: ...


order_paid = Signal("order_paid")
undeclared = Signal("undeclared")

ANNOTATIONS = [
    list[Post],
    type[Post],
    dict[str, Post],
    List[Post],  # noqa: UP006
    List,  # noqa: UP006
    Annotated[Post, 1],
    Callable[[Post], None],
]


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
@pytest.mark.parametrize("signal", [post_save, undeclared], ids=str)
def test_an_annotation_is_no_receiver(signal: Signal, annotation: Any) -> None:
    """``@post_save(type[Post])`` would connect what is meant as a sender, and call it."""
    for connect in (signal, signal.connect, signal.connect(sender=int), receiver(signal)):
        with pytest.raises(InvalidReceiverError, match=r"type annotation.* give the class itself"):
            connect(annotation)
    assert signal.connections == ()


CHOICES = [Optional[Post], Union[Post, int], Post | None]  # noqa: UP007, UP045


@pytest.mark.parametrize("annotation", CHOICES, ids=str)
def test_a_choice_of_classes_is_no_sender(annotation: Any) -> None:
    """``@post_save(Optional[Post])``: senders are classes, one by one or in a list."""
    with pytest.raises((InvalidReceiverError, InvalidSenderError), match="give the class"):
        post_save(annotation)
    assert post_save.connections == ()


@pytest.mark.parametrize(
    "unfit",
    [order_paid, post_delete, order_paid.send, post_save.send_sync, order_paid.connect],
    ids=["custom", "built in", "send", "send_sync", "connect"],
)
def test_a_signal_is_no_receiver(unfit: Any) -> None:
    """Called as one it would make a decorator, or be sent an argument named signal."""
    for signal in (post_save, undeclared):
        with pytest.raises(InvalidReceiverError, match="connect a function that sends"):
            signal.connect(unfit)
        assert signal.connections == ()


def test_a_signal_class_of_the_users_may_have_receivers() -> None:
    """Only what the library's signals can do is refused."""

    class Counting(Signal):
        count = 0

        def increase(self, **kwargs: Any) -> None:
            self.count += 1

    counting = Counting()
    undeclared.connect(counting.increase)
    undeclared.send_sync()
    assert counting.count == 1
    assert undeclared.disconnect(counting.increase)


def test_a_method_in_the_body_of_a_class_has_no_object_yet() -> None:
    """``self`` would be given the sender."""
    for signal in (post_save, undeclared):
        with pytest.raises(InvalidReceiverError, match=r"Handlers\.on_save .*nothing fills self"):
            signal.connect(Handlers.on_save)
        with pytest.raises(InvalidReceiverError, match="@staticmethod below"):

            class Wrong:
                @signal(sender=Post)
                async def on_save(self, instance: Any, **kwargs: Any) -> None: ...

        assert signal.connections == ()
    for fit in (Handlers().on_save, Handlers.of_class, Handlers.of_none, lambda self, **kwargs: 0):
        post_save.connect(fit)
        assert post_save.disconnect(fit)


def test_a_coroutine_and_a_weak_reference_stand_for_their_function() -> None:
    """The function itself is to be connected."""
    coroutine: Any = receive_async()
    try:
        with pytest.raises(InvalidReceiverError, match="without calling it"):
            post_save.connect(coroutine)
    finally:
        coroutine.close()
    with pytest.raises(InvalidReceiverError, match="weak=True"):
        post_save.connect(weakref.ref(receive))
    post_save.connect(functools.partial(receive, extra=1))
    assert len(post_save.connections) == 1


def test_a_decorator_above_nothing_says_so() -> None:
    """A decorator between ``@receiver`` and the function has returned nothing."""
    with pytest.raises(InvalidReceiverError, match="let it return the function"):
        receiver(post_save)(None)  # type: ignore[type-var]
    with pytest.raises(InvalidReceiverError, match="receiver None of signal post_save"):
        post_save.connect(sender=Post)(None)  # type: ignore[type-var]
    assert post_save.connections == ()


def test_senders_are_given_to_receiver_by_name() -> None:
    """``@receiver(post_save, Post)`` and ``@receiver(post_save, post_delete)`` are refused."""
    for given in (Post, post_delete):
        with pytest.raises(InvalidOptionError, match="senders go into sender="):
            receiver(post_save, given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [3, "receive", [receive], (receive,), {"a": receive}])
def test_what_was_never_connected_is_not_disconnected(given: Any) -> None:
    """False would look as if the receiver hadn't been connected."""
    post_save.connect(receive)
    with pytest.raises(InvalidReceiverError, match="one at a time"):
        post_save.disconnect(given)
    assert post_save.disconnect(receive)


@pytest.mark.parametrize("name", [" ", "Post ", " blog.Post", "Post\n"])
def test_no_class_has_spaces_around_its_name(name: str) -> None:
    """A built-in signal is never sent by one; a custom one may be sent by any string."""
    with pytest.raises(InvalidSenderError, match="begins or ends with a space"):
        post_save.connect(receive, sender=name)
    assert Signal().connect(receive, sender=name) is receive
