"""Runs concurrent receivers in one task group; none is cancelled because another one fails."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery, is_awaitable
from aksara_signals.dispatch.delivery.errors import handle_error, raise_errors
from aksara_signals.dispatch.delivery.frame import Frame, set_current
from aksara_signals.dispatch.delivery.tracing import around, hooks
from aksara_signals.dispatch.receivers.patching import mock_for, mocks
from aksara_signals.types import Receiver, Responses


async def deliver_concurrently(
    delivery: Delivery, frame: Frame, mocked: bool, robust: bool
) -> Responses:
    """Run the concurrent receivers of a delivery in one task group, each to its end.

    Args:
        delivery: What is delivered.
        frame: The frame of the loop that calls this.
        mocked: Whether receivers may be replaced by mocks.
        robust: As in :func:`~aksara_signals.dispatch.delivery.loop.deliver`.

    Returns:
        ``(receiver, response)`` pairs in call order.
    """
    responses: Responses = []
    errors: list[BaseException] = []
    cancelled: list[asyncio.CancelledError] = []

    async def run(place: int, connection: Connection, receiver: Receiver) -> None:
        # A task has a context of its own; the frame in it must name this receiver.
        own = copy(frame)
        own.current, own.connection = delivery, connection
        set_current(own)
        response: Any = None
        try:
            positional, keywords = connection.fit(delivery.arguments, delivery.extras)
            call = around(receiver, delivery, connection) if hooks else receiver
            response = call(*positional, **keywords)
            if response is not None and is_awaitable(response):
                response = await response
        except asyncio.CancelledError as error:
            cancelled.append(error)
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            response = error
            if not handle_error(error, delivery, connection, robust):
                errors.append(error)
        finally:
            own.current = own.connection = None
        responses[place] = (receiver, response)

    async with asyncio.TaskGroup() as group:
        for connection in delivery.concurrent:
            receiver = connection.reference()
            if receiver is None:
                continue
            if mocked and (mocks or connection.patch_place is not None):
                receiver = mock_for(receiver, connection.patch_place)
            responses.append((receiver, None))
            group.create_task(run(len(responses) - 1, connection, receiver))
    if cancelled:  # a receiver raised CancelledError itself, which a task group ignores
        raise cancelled[0]
    raise_errors(errors, f"of {delivery.signal.display_name}")
    return responses
