"""The two loops that call receivers: one can await them, the other can't.

Both take any number of deliveries, so that a single send and a flush of ten thousand rows go
through the same code: the order, errors, notes and responses are decided here and nowhere else.

There are two of them on purpose. When they were merged into one coroutine, which synchronous
callers stepped through by hand, ``send_sync`` took 45 % longer, and a ``StopIteration`` raised by a
receiver ended the coroutine instead of the send. For the same reason each is in one piece: a call
per receiver would be a considerable part of what a send costs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from sys import modules
from types import CoroutineType
from typing import Any

from aksara_signals.dispatch.connections.in_turn import InTurn
from aksara_signals.dispatch.delivery.delivery import (
    AnyDelivery,
    Failure,
    is_awaitable,
    is_generator_coroutine,
    named,
)
from aksara_signals.dispatch.delivery.errors import handle_error
from aksara_signals.dispatch.delivery.frame import (
    Frame,
    cause_of,
    get_current,
    reset_current,
    set_current,
)
from aksara_signals.dispatch.delivery.tracing import around, each_send, end_sends, hooks
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.receivers.patching import mock_for, mocks
from aksara_signals.exceptions import AsyncReceiverError
from aksara_signals.types import Drive, Receiver, Responses


async def deliver(
    deliveries: Iterable[AnyDelivery],
    robust: bool = False,
    failures: list[Failure] | None = None,
    in_own_task: bool = False,
) -> Responses:
    """Call the receivers of each delivery and await what they return.

    Sequential receivers run one after another; the concurrent ones of a delivery then run in a
    task group.

    Args:
        deliveries: In the order to be delivered.
        robust: Whether a receiver's exception is logged and becomes its response, instead of being
            raised.
        failures: Takes the exceptions that are logged. With it, a ``CancelledError`` is one of them
            if a receiver raises it although its task isn't cancelled.
        in_own_task: Whether this runs in a task of its own, off the stack of what caused it.

    Returns:
        ``(receiver, response)`` pairs in call order.

    Raises:
        SignalRecursionError: Too many deliveries are nested.
        BaseException: What a receiver raised, of its own type, with a note. Errors of several
            concurrent receivers are raised as an ``ExceptionGroup``.
    """
    responses: Responses = []
    frame = Frame()
    around_it = get_current()
    if around_it is not None:
        frame.cause = cause_of(around_it, in_own_task)
    if in_own_task:
        frame.in_own_task = True
    mocked = "unittest.mock" in modules
    is_looked_up: object = False
    traced = None
    if hooks:
        deliveries = traced = each_send(deliveries, failures)
    token = set_current(frame)
    try:
        for delivery in deliveries:
            frame.current = delivery
            _, _, sequential, arguments, concurrent, extras = delivery
            if mocked:
                is_looked_up = (
                    mocks or type(sequential) is not InTurn or sequential.may_be_patched(sequential)
                )
            for connection in sequential:
                receiver = connection.strong
                if receiver is None:
                    receiver = connection.reference()
                    if receiver is None:
                        continue
                if is_looked_up:
                    receiver = mock_for(receiver, connection.patch_place)
                frame.connection = connection
                call = receiver if traced is None else around(receiver, delivery, connection)
                try:
                    if connection.is_plain:
                        response = call(**arguments)
                    else:
                        positional, keywords = connection.fit(arguments, extras)
                        response = call(*positional, **keywords)
                    if type(response) is CoroutineType or (
                        response is not None and is_awaitable(response)
                    ):
                        response = await response
                except BaseException as error:
                    if not handle_error(error, named(delivery), connection, robust, failures):
                        raise
                    response = error
                responses.append((receiver, response))
            if concurrent:
                # Imported when needed: asyncio takes longer to import than all of this library.
                from aksara_signals.dispatch.delivery.concurrent import deliver_concurrently

                each = named(delivery)
                responses += await deliver_concurrently(each, frame, mocked, robust)
    finally:
        frame.current = frame.connection = None
        # A coroutine that is abandoned half-way is closed by the garbage collector, in another
        # context than its own, where the token isn't valid.
        try:  # noqa: SIM105 - unlike suppress(), try costs nothing
            reset_current(token)
        except ValueError:
            pass
        if traced is not None:  # last: a hook may raise
            end_sends(traced)
    return responses


def deliver_sync(
    deliveries: Iterable[AnyDelivery],
    robust: bool = False,
    failures: list[Failure] | None = None,
    drive: Drive | None = None,
) -> Responses:
    """Call the receivers of each delivery from synchronous code.

    Concurrent receivers are called one after another as well, after the sequential ones.

    Args:
        deliveries: In the order to be delivered.
        robust: As in :func:`deliver`.
        failures: As in :func:`deliver`.
        drive: Runs an awaitable that a receiver returns to its end; by default,
            :func:`drive_to_end`.

    Returns:
        ``(receiver, response)`` pairs in call order.

    Raises:
        AsyncReceiverError: An async receiver has to wait.
        SignalRecursionError: Too many deliveries are nested.
        BaseException: What a receiver raised, of its own type, with a note.
    """
    responses: Responses = []
    frame = Frame()
    around_it = get_current()
    if around_it is not None:
        frame.cause = cause_of(around_it, in_own_task=False)
    mocked = "unittest.mock" in modules
    is_looked_up: object = False
    traced = None
    if hooks:
        deliveries = traced = each_send(deliveries, failures)
    token = set_current(frame)
    try:
        for delivery in deliveries:
            frame.current = delivery
            _, _, sequential, arguments, concurrent, extras = delivery
            if concurrent:
                sequential += concurrent
            if mocked:
                is_looked_up = (
                    mocks or type(sequential) is not InTurn or sequential.may_be_patched(sequential)
                )
            for connection in sequential:
                receiver = connection.strong
                if receiver is None:
                    receiver = connection.reference()
                    if receiver is None:
                        continue
                if is_looked_up:
                    receiver = mock_for(receiver, connection.patch_place)
                frame.connection = connection
                call = receiver if traced is None else around(receiver, delivery, connection)
                try:
                    if connection.is_plain:
                        response = call(**arguments)
                    else:
                        positional, keywords = connection.fit(arguments, extras)
                        response = call(*positional, **keywords)
                    if response is not None and (
                        type(response) is CoroutineType or is_awaitable(response)
                    ):
                        response = (
                            drive_to_end(response, receiver) if drive is None else drive(response)
                        )
                except BaseException as error:
                    if not handle_error(error, named(delivery), connection, robust, failures):
                        raise
                    response = error
                responses.append((receiver, response))
    finally:
        frame.current = frame.connection = None
        reset_current(token)
        if traced is not None:  # last: a hook may raise
            end_sends(traced)
    return responses


def drive_to_end(awaitable: Awaitable[Any], receiver: Receiver) -> Any:
    """Run an awaitable that never has to wait, and return its result.

    Raises:
        AsyncReceiverError: It has to wait. A coroutine is closed first.
    """
    is_coroutine = type(awaitable) is CoroutineType or is_generator_coroutine(awaitable)
    steps: Any = awaitable if is_coroutine else awaitable.__await__()
    try:
        waited_for = steps.send(None) if is_coroutine else next(steps)
    except StopIteration as stop:
        return stop.value
    _release(waited_for)
    refusal = AsyncReceiverError(
        f"async receiver {describe_receiver(receiver)} has to wait for something, and this is a "
        f"synchronous send, which can't wait; use an AsyncSession or 'await …send()', or "
        f"make the receiver synchronous"
    )
    close = getattr(steps, "close", None)
    if close is not None:
        try:
            close()
        except Exception as error:  # it ignores GeneratorExit, or fails while it is closed
            raise refusal from error
    raise refusal


def _release(waited_for: Any) -> None:
    """Reset the flag of a future which says that a task has begun to wait for it.

    Awaiting the future has set the flag, but nothing is going to wait for it here. If the flag
    stayed, the next task to await the future would fail.
    """
    try:
        if getattr(waited_for, "_asyncio_future_blocking", False):
            waited_for._asyncio_future_blocking = False  # noqa: SLF001 - asyncio reads this flag
    except Exception:  # not a future, but a user's object whose attributes raise
        return
