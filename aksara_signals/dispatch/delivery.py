"""Delivery: the one loop that awaits receivers and the one that doesn't.

Both take any number of deliveries, so that a single send and a flush of ten thousand rows go
through the same lines: order, errors, notes and results are decided here and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping
from types import CoroutineType
from typing import Any, Protocol

from aksara_signals.dispatch.connection import Connection
from aksara_signals.dispatch.identity import describe_receiver
from aksara_signals.dispatch.patching import mocking_is_possible
from aksara_signals.dispatch.recursion import Frame, current_frame, describe_step, enter_frame
from aksara_signals.exceptions import AsyncReceiverError, SignalRecursionError
from aksara_signals.types import Drive, Receiver, Responses, Sender

__all__ = ["Delivery", "Failure", "Origin", "deliver", "deliver_sync", "drive_to_end"]

logger = logging.getLogger("aksara_signals")

NO_EXTRAS: Mapping[str, Any] = {}


class Origin(Protocol):
    """What a delivery comes from: a signal, or something that is delivered like one."""

    @property
    def display_name(self) -> str:
        """The name for messages."""
        ...


class Delivery:
    """One signal on its way from one sender to some receivers."""

    __slots__ = ("arguments", "concurrent", "extras", "sender", "sequential", "signal")

    def __init__(
        self,
        signal: Origin,
        sender: Sender,
        sequential: tuple[Connection, ...],
        arguments: dict[str, Any],
        *,
        concurrent: tuple[Connection, ...] = (),
        extras: Mapping[str, Any] = NO_EXTRAS,
    ) -> None:
        self.signal = signal
        self.sender = sender
        self.sequential = sequential
        self.concurrent = concurrent
        self.arguments = arguments
        """Everything that is sent, ``signal`` and ``sender`` included. Never changed."""
        self.extras = extras
        """On-demand arguments, for the receivers that name them."""


Failure = tuple[BaseException, Delivery, Connection]
"""An exception, and whom it came from while what was told."""


async def deliver(
    deliveries: Iterable[Delivery],
    *,
    robust: bool = False,
    failures: list[Failure] | None = None,
    is_aside: bool = False,
) -> Responses:
    """Call the receivers of each delivery and await what they return.

    Sequential receivers run one after another; the concurrent ones of a delivery then run
    together in a task group.

    Args:
        deliveries: In the order to be delivered.
        robust: Whether a receiver's exception is logged and takes the place of its response,
            instead of ending everything.
        failures: Takes the exceptions that are logged. A receiver that raises ``CancelledError``
            although nobody cancels the task is then one of them.
        is_aside: Whether this runs in a task of its own, off the stack of what caused it.

    Returns:
        ``(receiver, response)`` pairs in call order.

    Raises:
        SignalRecursionError: Too many deliveries stand inside one another.
        BaseException: Whatever a receiver raised, of its own type, with a note. Several
            concurrent receivers' errors come as an ``ExceptionGroup``.
    """
    responses: Responses = []
    frame = enter_frame(is_aside)
    mocked = mocking_is_possible()
    token = current_frame.set(frame)
    try:
        for delivery in deliveries:
            frame.delivery = delivery
            arguments = delivery.arguments
            for connection in delivery.sequential:
                receiver = connection.reference()
                if receiver is None:
                    continue
                if mocked and connection.module_name is not None:
                    receiver = connection.module_name.current(receiver)
                frame.connection = connection
                try:
                    if connection.is_plain:
                        response = receiver(**arguments)
                    else:
                        positional, keywords = connection.fit(arguments, delivery.extras)
                        response = receiver(*positional, **keywords)
                    if type(response) is CoroutineType or (
                        response is not None and is_awaitable(response)
                    ):
                        response = await response
                except BaseException as error:
                    _judge(error, delivery, connection, robust, failures)
                    response = error
                responses.append((receiver, response))
            if delivery.concurrent:
                responses += await _deliver_together(delivery, mocked, robust)
    finally:
        frame.delivery = None
        current_frame.reset(token)
    return responses


def deliver_sync(
    deliveries: Iterable[Delivery],
    *,
    robust: bool = False,
    failures: list[Failure] | None = None,
    drive: Drive | None = None,
) -> Responses:
    """Call the receivers of each delivery without an event loop of their own.

    Concurrent receivers run like the others, after them.

    Args:
        deliveries: In the order to be delivered.
        robust: As in :func:`deliver`.
        failures: As in :func:`deliver`.
        drive: What runs a returned awaitable to its end; :func:`drive_to_end` by default.

    Returns:
        ``(receiver, response)`` pairs in call order.

    Raises:
        AsyncReceiverError: A receiver would have had to wait.
        SignalRecursionError: Too many deliveries stand inside one another.
        BaseException: Whatever a receiver raised, of its own type, with a note.
    """
    responses: Responses = []
    frame = enter_frame()
    mocked = mocking_is_possible()
    token = current_frame.set(frame)
    try:
        for delivery in deliveries:
            frame.delivery = delivery
            arguments = delivery.arguments
            for connection in (*delivery.sequential, *delivery.concurrent):
                receiver = connection.reference()
                if receiver is None:
                    continue
                if mocked and connection.module_name is not None:
                    receiver = connection.module_name.current(receiver)
                frame.connection = connection
                try:
                    if connection.is_plain:
                        response = receiver(**arguments)
                    else:
                        positional, keywords = connection.fit(arguments, delivery.extras)
                        response = receiver(*positional, **keywords)
                    if response is not None and is_awaitable(response):
                        response = (
                            drive_to_end(response, receiver) if drive is None else drive(response)
                        )
                except BaseException as error:
                    _judge(error, delivery, connection, robust, failures)
                    response = error
                responses.append((receiver, response))
    finally:
        frame.delivery = None
        current_frame.reset(token)
    return responses


def is_awaitable(response: Any) -> bool:
    """Whether ``await response`` means something. Asks the type, as ``await`` itself does."""
    return hasattr(type(response), "__await__")


def drive_to_end(awaitable: Awaitable[Any], receiver: Receiver) -> Any:
    """Run an awaitable that never has to wait, and return its result.

    Raises:
        AsyncReceiverError: It would have had to wait. A coroutine is closed first.
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    close = getattr(steps, "close", None)
    if close is not None:
        close()
    raise AsyncReceiverError(
        f"async receiver {describe_receiver(receiver)} has to wait for something, and this is a "
        f"synchronous send, where nobody can wait; use an AsyncSession or 'await …send()', or "
        f"make the receiver synchronous"
    )


async def _deliver_together(delivery: Delivery, mocked: bool, robust: bool) -> Responses:
    """Run the concurrent receivers of a delivery in one task group, each to its end."""
    responses: Responses = []
    errors: list[BaseException] = []
    cancelled: list[asyncio.CancelledError] = []

    async def run(place: int, connection: Connection, receiver: Receiver) -> None:
        # In a task of its own there is a context of its own: the frame must name this receiver.
        frame = Frame(current_frame.get())
        frame.delivery, frame.connection = delivery, connection
        frame.depth -= 1  # beside the delivery's own frame, not inside it
        current_frame.set(frame)
        response: Any = None
        try:
            positional, keywords = connection.fit(delivery.arguments, delivery.extras)
            response = receiver(*positional, **keywords)
            if response is not None and is_awaitable(response):
                response = await response
        except asyncio.CancelledError as error:
            cancelled.append(error)
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            response = error
            try:
                _judge(error, delivery, connection, robust)
            except BaseException:
                errors.append(error)
        finally:
            frame.delivery = None
        responses[place] = (receiver, response)

    async with asyncio.TaskGroup() as group:
        for connection in delivery.concurrent:
            receiver = connection.reference()
            if receiver is None:
                continue
            if mocked and connection.module_name is not None:
                receiver = connection.module_name.current(receiver)
            responses.append((receiver, None))
            group.create_task(run(len(responses) - 1, connection, receiver))
    if cancelled:  # by the receiver itself: a task group keeps quiet about that
        raise cancelled[0]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(
            f"{len(errors)} concurrent receivers of {delivery.signal.display_name} failed", errors
        )
    return responses


def _judge(
    error: BaseException,
    delivery: Delivery,
    connection: Connection,
    robust: bool,
    failures: list[Failure] | None = None,
) -> None:
    """Let an error be collected, or raise it with a note that says where it comes from."""
    is_own = failures is not None and _is_own_cancellation(error)
    if robust and (isinstance(error, Exception) or is_own):
        logger.error("a receiver failed: %s", describe_step(delivery, connection), exc_info=error)
        if failures is not None:
            failures.append((error, delivery, connection))
        return
    if not isinstance(error, (asyncio.CancelledError, GeneratorExit, SignalRecursionError)):
        error.add_note(f"while {describe_step(delivery, connection)}")
    raise error


def _is_own_cancellation(error: BaseException) -> bool:
    """Whether a receiver's ``CancelledError`` is of its own making: its task is not cancelled."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return True
    return task is None or not task.cancelling()
