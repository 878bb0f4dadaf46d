"""Delivery hooks: context managers around every send and receiver, for tracing and logging.

Without a hook, they cost each send no more than a look at an empty list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeAlias

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import (
    AnyDelivery,
    Delivery,
    Failure,
    Source,
    is_awaitable,
    named,
)
from aksara_signals.dispatch.delivery.errors import handle_error
from aksara_signals.dispatch.delivery.frame import key_of
from aksara_signals.dispatch.provenance import current_provenance
from aksara_signals.dispatch.receivers.identity import same_receiver
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.signature import is_async_receiver, problem_of_generators
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import Receiver, Sender


class DeliveryStep:
    """What a hook is called for: a send, or the call of one of its receivers."""

    __slots__ = ("_arguments", "connection", "provenance", "sender", "signal")

    def __init__(self, delivery: Delivery, connection: Connection | None) -> None:
        self.signal: Source = delivery.signal
        """The signal, or what is delivered like one, such as a callback of ``on_commit``."""
        self.sender: Sender = delivery.sender
        self.connection: Connection | None = connection
        """The connection whose receiver is called; None for the whole send."""
        self.provenance: Mapping[str, Any] = current_provenance()
        """The values of :class:`~aksara_signals.provenance` at the send; empty without any."""
        self._arguments = delivery.arguments

    @property
    def is_send(self) -> bool:
        """Whether this is the whole send, rather than one of its receivers."""
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
        """The receiver in words, with file and line; None for the whole send."""
        return None if self.connection is None else describe_receiver(self.connection.receiver)

    @property
    def instance_key(self) -> str | None:
        """The primary key of the instance in the payload, if there is one and it has a key."""
        return key_of(self._arguments.get("instance"))

    @property
    def event(self) -> Any:
        """The event that a durable receiver is given; None for anything else."""
        if self.connection is None or self.connection.durable is None:
            return None
        return self._arguments.get("event")

    def __repr__(self) -> str:
        return f"<{self.signal_name} of {self.sender_name} to {self.receiver_name or 'receivers'}>"


DeliveryHook: TypeAlias = Callable[[DeliveryStep], AbstractContextManager[Any]]
"""Returns a context manager that is entered before a step and exited after it, with the exception
if the step fails. The steps of receivers are inside the step of their send."""

hooks: list[DeliveryHook] = []
"""The hooks, outermost first. Only changed in place, because the loops import this very list."""


def add_delivery_hook(hook: DeliveryHook) -> None:
    """Add a hook, called for every send that reaches a receiver, and for every receiver.

    It is added for the whole process, from the next send on. What the hook itself raises is treated
    like what a receiver raises: it is raised to the caller of the send, or, after a commit or
    rollback, logged and sent to ``on_delivery_error``.

    Args:
        hook: Takes a :class:`DeliveryStep` and returns a context manager. Adding it twice does
            nothing.

    Raises:
        InvalidOptionError: It is not callable, or is an async or a generator function.
    """
    if not callable(hook):
        raise InvalidOptionError(
            f"add_delivery_hook() was given {describe_sender(hook)}, which is not callable; give a "
            f"function that takes a step and returns a context manager"
        )
    if problem_of_generators(hook) or is_async_receiver(hook):
        raise InvalidOptionError(
            f"add_delivery_hook() was given {describe_receiver(hook)}, which doesn't return a "
            f"context manager when it is called; write a function that yields once, below "
            f"@contextlib.contextmanager"
        )
    if not any(same_receiver(hook, each) for each in hooks):
        hooks.append(hook)


def remove_delivery_hook(hook: DeliveryHook) -> bool:
    """Remove a hook, and return whether it was there.

    Hooks are compared by identity, as receivers are: a different one that compares equal stays.
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
                    f"the delivery hook {describe_receiver(hook)} returned "
                    f"{describe_sender(around)}, which is not a context manager; write a function "
                    f"that yields once, below @contextlib.contextmanager"
                )
            stack.enter_context(around)
        return stack.pop_all()


def each_send(
    deliveries: Iterable[AnyDelivery], failures: list[Failure] | None = None
) -> Generator[AnyDelivery, None, None]:
    """Yield the deliveries, each inside the hooks until the next one is requested.

    Args:
        deliveries: Each must have one receiver if there are ``failures``.
        failures: Takes what the hooks raise, as if the receiver had raised it. If a hook raises
            before the delivery, the receiver isn't called.
    """
    for delivery in deliveries:
        is_ending = False
        try:
            with _entered(DeliveryStep(named(delivery), None)):
                try:
                    yield delivery
                except BaseException:  # thrown in by end_sends(), not raised by a hook
                    is_ending = True
                    raise
        except BaseException as error:
            if failures is None or is_ending:
                raise
            failed = named(delivery)
            [connection] = failed.sequential
            what = "a delivery hook failed"
            if not handle_error(error, failed, connection, True, failures, what=what):
                raise


def end_sends(deliveries: Generator[AnyDelivery, None, None]) -> None:
    """Exit the hooks of the last delivery, with the exception being handled, if there is one."""
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
    """Wrap a receiver so that it is called and awaited inside the hooks."""

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
