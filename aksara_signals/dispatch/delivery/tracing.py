"""One hook around every delivery: for tracing, metrics and logging.

Nothing is paid while there is no hook but a look at an empty list per send.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeAlias

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery, Failure, Source, is_awaitable
from aksara_signals.dispatch.delivery.errors import handle_error
from aksara_signals.dispatch.delivery.frame import key_of
from aksara_signals.dispatch.receivers.identity import same_receiver
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.signature import is_async_receiver, problem_of_generators
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import Receiver, Sender


class DeliveryStep:
    """What a hook stands around: a send, or the call of one of its receivers."""

    __slots__ = ("_arguments", "connection", "sender", "signal")

    def __init__(self, delivery: Delivery, connection: Connection | None) -> None:
        self.signal: Source = delivery.signal
        """The signal, or what is delivered like one, such as a callback of ``on_commit``."""
        self.sender: Sender = delivery.sender
        self.connection: Connection | None = connection
        """Whose receiver is called; None around the whole send."""
        self._arguments = delivery.arguments

    @property
    def is_send(self) -> bool:
        """Whether this is the whole send, and not one receiver."""
        return self.connection is None

    @property
    def signal_name(self) -> str:
        """The signal's name, for messages."""
        return self.signal.display_name

    @property
    def sender_name(self) -> str:
        """The sender in words."""
        return describe_sender(self.sender)

    @property
    def receiver_name(self) -> str | None:
        """The receiver in words, with file and line; None of a whole send."""
        return None if self.connection is None else describe_receiver(self.connection.receiver)

    @property
    def instance_key(self) -> str | None:
        """The primary key of the instance in the payload, if there is one and it has a key."""
        return key_of(self._arguments.get("instance"))

    def __repr__(self) -> str:
        return f"<{self.signal_name} of {self.sender_name} to {self.receiver_name or 'receivers'}>"


DeliveryHook: TypeAlias = Callable[[DeliveryStep], AbstractContextManager[Any]]
"""Gives a context manager that is entered before a step and left after it, with its error if it
fails. Steps of receivers stand inside the step of their send."""

hooks: list[DeliveryHook] = []
"""The hooks, outermost first. Changed in place: the loops look at this very list."""


def add_delivery_hook(hook: DeliveryHook) -> None:
    """Have a hook called around every send that reaches a receiver, and around every receiver.

    It counts for the whole process, from the next send on. What the hook itself raises reaches the
    code that sends; after a commit or rollback it is logged and passed to ``on_delivery_error``, as
    what a receiver raises is.

    Args:
        hook: Takes a :class:`DeliveryStep`, gives a context manager. Adding it twice does nothing.

    Raises:
        InvalidOptionError: It can't be called, or is an async or a generator function.
    """
    if not callable(hook):
        raise InvalidOptionError(
            f"add_delivery_hook() was given {describe_sender(hook)}, which can't be called; give a "
            f"function that takes a step and gives a context manager"
        )
    if problem_of_generators(hook) or is_async_receiver(hook):
        raise InvalidOptionError(
            f"add_delivery_hook() was given {describe_receiver(hook)}, which gives no context "
            f"manager when it is called; write a function that yields once, below "
            f"@contextlib.contextmanager"
        )
    if not any(same_receiver(hook, each) for each in hooks):
        hooks.append(hook)


def remove_delivery_hook(hook: DeliveryHook) -> bool:
    """Take a hook out, and return whether it was there.

    It is compared by identity, as receivers are: another one that says that it is equal stays.
    """
    left = [each for each in hooks if not same_receiver(hook, each)]
    is_there = len(left) < len(hooks)
    hooks[:] = left
    return is_there


def _entered(step: DeliveryStep) -> ExitStack:
    with ExitStack() as stack:
        for hook in tuple(hooks):
            around: Any = hook(step)
            if not hasattr(type(around), "__enter__"):
                raise InvalidOptionError(
                    f"the delivery hook {describe_receiver(hook)} has given "
                    f"{describe_sender(around)}, which is no context manager; write a function "
                    f"that yields once, below @contextlib.contextmanager"
                )
            stack.enter_context(around)
        return stack.pop_all()


def each_send(
    deliveries: Iterable[Delivery], failures: list[Failure] | None = None
) -> Generator[Delivery, None, None]:
    """The deliveries, each inside the hooks until the next one is asked for.

    Args:
        deliveries: Each to one receiver if failures are taken.
        failures: Takes what the hooks raise, as if the receiver had. One that raises before the
            delivery keeps it from its receiver, as one around the receiver itself does.
    """
    for delivery in deliveries:
        is_ending = False
        try:
            with _entered(DeliveryStep(delivery, None)):
                try:
                    yield delivery
                except BaseException:  # by end_sends(): it isn't the hooks' own
                    is_ending = True
                    raise
        except BaseException as error:
            if failures is None or is_ending:
                raise
            [connection] = delivery.sequential
            what = "a delivery hook failed"
            if not handle_error(error, delivery, connection, True, failures, what=what):
                raise


def end_sends(deliveries: Generator[Delivery, None, None]) -> None:
    """Leave the hooks of the last delivery, with the error that is under way, if there is one."""
    error = sys.exception()
    if error is None:
        deliveries.close()
        return
    try:
        deliveries.throw(error)
    except BaseException as raised:
        if raised is not error:
            raise


def around(receiver: Receiver, delivery: Delivery, connection: Connection) -> Receiver:
    """The receiver, called and awaited inside the hooks."""

    def call(*positional: Any, **keywords: Any) -> Any:
        with _entered(DeliveryStep(delivery, connection)) as stack:
            response = receiver(*positional, **keywords)
            if response is None or not is_awaitable(response):
                return response
            rest = stack.pop_all()
        return _awaited(response, rest)

    return call


async def _awaited(response: Any, stack: ExitStack) -> Any:
    with stack:
        return await response
