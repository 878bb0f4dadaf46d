"""Delivery hooks: context managers around every send and receiver, for tracing and logging.

Without a hook, they cost each send no more than a look at an empty list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeAlias

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import (
    AnyDelivery,
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

    __slots__ = ("_delivery", "connection", "provenance")

    def __init__(self, delivery: Any, connection: Connection | None) -> None:
        self._delivery: AnyDelivery = delivery
        self.connection: Connection | None = connection
        """The connection whose receiver is called; None for the whole send."""
        self.provenance: Mapping[str, Any] = current_provenance()
        """The values of :class:`~aksara_signals.provenance` at the send; empty without any."""

    @property
    def signal(self) -> Source:
        """The signal, or what is delivered like one, such as a callback of ``on_commit``."""
        return self._delivery[0]

    @property
    def sender(self) -> Sender:
        """The sender."""
        return self._delivery[1]

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
        return key_of(self._delivery[3].get("instance"))

    @property
    def event(self) -> Any:
        """The event that a durable receiver is given; None for anything else."""
        if self.connection is None or self.connection.durable is None:
            return None
        return self._delivery[3].get("event")

    def __repr__(self) -> str:
        return f"<{self.signal_name} of {self.sender_name} to {self.receiver_name or 'receivers'}>"


DeliveryHook: TypeAlias = Callable[[DeliveryStep], AbstractContextManager[Any]]
"""Returns a context manager that is entered before a step and exited after it, with the exception
if the step fails. The steps of receivers are inside the step of their send."""


class DeliveryRecorder:
    """A hook for whatever is sent very often: it is not called for each step, which costs objects.

    It is added by :func:`add_delivery_hook`. Of the hooks that are called, it is outside for sends,
    and inside for receivers.
    """

    def sends(self, deliveries: Iterable[AnyDelivery]) -> Generator[AnyDelivery, None, None]:
        """Yield the deliveries, each until the next one is requested."""
        yield from deliveries

    def around(self, receiver: Receiver, delivery: AnyDelivery, connection: Connection) -> Receiver:
        """Wrap a receiver. What the wrapper returns is awaited if it is awaitable."""
        return receiver

    def __call__(self, step: DeliveryStep) -> AbstractContextManager[Any]:
        """As a hook, it does nothing."""
        return nullcontext()


hooks: list[DeliveryHook] = []
"""All hooks, outermost first. Only changed in place, because the loops import this very list."""
_step_hooks: list[DeliveryHook] = []
_recorders: list[DeliveryRecorder] = []


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
        _change([*hooks, hook])


def remove_delivery_hook(hook: DeliveryHook) -> bool:
    """Remove a hook, and return whether it was there.

    Hooks are compared by identity, as receivers are: a different one that compares equal stays.
    """
    left = [each for each in hooks if not same_receiver(hook, each)]
    is_there = len(left) < len(hooks)
    _change(left)
    return is_there


def _change(changed: list[DeliveryHook]) -> None:
    _recorders[:] = [each for each in changed if isinstance(each, DeliveryRecorder)]
    _step_hooks[:] = [each for each in changed if not isinstance(each, DeliveryRecorder)]
    hooks[:] = changed


def _around(step: DeliveryStep) -> AbstractContextManager[Any]:
    """What the hooks return for a step, as one context manager, which isn't entered yet."""
    steps = tuple(_step_hooks)  # another thread may change them
    return _by(steps[0], step) if len(steps) == 1 else _all_around(steps, step)


@contextmanager
def _all_around(steps: tuple[DeliveryHook, ...], step: DeliveryStep) -> Iterator[None]:
    with ExitStack() as stack:
        for hook in steps:
            stack.enter_context(_by(hook, step))
        yield


def _by(hook: DeliveryHook, step: DeliveryStep) -> AbstractContextManager[Any]:
    manager: Any = hook(step)
    if not hasattr(type(manager), "__enter__"):
        raise InvalidOptionError(
            f"the delivery hook {describe_receiver(hook)} returned {describe_sender(manager)}, "
            f"which is not a context manager; write a function that yields once, below "
            f"@contextlib.contextmanager"
        )
    return manager  # type: ignore[no-any-return]  # it can be entered


def each_send(
    deliveries: Iterable[AnyDelivery], failures: list[Failure] | None = None
) -> Generator[AnyDelivery, None, None]:
    """Yield the deliveries, each inside the hooks until the next one is requested.

    Args:
        deliveries: Each must have one receiver if there are ``failures``.
        failures: Takes what the hooks raise, as if the receiver had raised it. If a hook raises
            before the delivery, the receiver isn't called.
    """
    around_each: list[Generator[AnyDelivery, None, None]] = []
    for recorder in _recorders:
        deliveries = recorder.sends(deliveries)
        around_each.append(deliveries)
    if _step_hooks or not around_each:
        around_each.append(_each_step(deliveries, failures))
    return around_each[0] if len(around_each) == 1 else _closing(around_each)


def _closing(
    around_each: list[Generator[AnyDelivery, None, None]],
) -> Generator[AnyDelivery, None, None]:
    """The last of some generators, each of which reads the one before it; closes all at its end."""
    try:
        yield from around_each[-1]
    finally:
        for each in reversed(around_each):
            each.close()


def _each_step(
    deliveries: Iterable[AnyDelivery], failures: list[Failure] | None
) -> Generator[AnyDelivery, None, None]:
    for delivery in deliveries:
        is_ending = False
        try:
            with _around(DeliveryStep(delivery, None)):
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


def around(receiver: Receiver, delivery: AnyDelivery, connection: Connection) -> Receiver:
    """Wrap a receiver so that it is called and awaited inside the hooks."""
    for recorder in _recorders:
        receiver = recorder.around(receiver, delivery, connection)
    return _inside_steps(receiver, delivery, connection) if _step_hooks else receiver


def _inside_steps(receiver: Receiver, delivery: AnyDelivery, connection: Connection) -> Receiver:
    def call(*positional: Any, **keywords: Any) -> Any:
        manager = _around(DeliveryStep(delivery, connection))
        leave = type(manager).__exit__
        # Entered by hand: it has to stay entered while a response is awaited.
        type(manager).__enter__(manager)
        try:
            response = receiver(*positional, **keywords)
        except BaseException as error:
            if not leave(manager, type(error), error, error.__traceback__):
                raise
            return None
        if response is not None and is_awaitable(response):
            return _awaited(response, manager)
        leave(manager, None, None, None)
        return response

    return call


async def _awaited(response: Any, manager: AbstractContextManager[Any]) -> Any:
    leave = type(manager).__exit__
    try:
        result = await response
    except BaseException as error:
        if not leave(manager, type(error), error, error.__traceback__):
            raise
        return None
    leave(manager, None, None, None)
    return result
