"""Concurrent receivers: one task group, each to its end."""

from __future__ import annotations

import asyncio
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery, is_awaitable
from aksara_signals.dispatch.delivery.errors import is_collected, raise_together
from aksara_signals.dispatch.delivery.frame import set_current
from aksara_signals.dispatch.delivery.tracing import around, hooks
from aksara_signals.dispatch.receivers.patching import doubles, stand_in
from aksara_signals.types import Receiver, Responses

__all__ = ["deliver_together"]


async def deliver_together(delivery: Delivery, mocked: bool, robust: bool) -> Responses:
    """Run the concurrent receivers of a delivery in one task group, each to its end."""
    responses: Responses = []
    errors: list[BaseException] = []
    cancelled: list[asyncio.CancelledError] = []

    async def run(place: int, connection: Connection, receiver: Receiver) -> None:
        # In a task of its own there is a context of its own, which must name this receiver.
        own = delivery.to_one(connection)
        own.cause, own.is_aside = delivery.cause, delivery.is_aside
        own.connection = connection
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
            if not is_collected(error, delivery, connection, robust):
                errors.append(error)
        finally:
            own.connection = None
            own.let_go()
        responses[place] = (receiver, response)

    async with asyncio.TaskGroup() as group:
        for connection in delivery.concurrent:
            receiver = connection.reference()
            if receiver is None:
                continue
            if mocked and (doubles or connection.module_name is not None):
                receiver = stand_in(receiver, connection.module_name)
            responses.append((receiver, None))
            group.create_task(run(len(responses) - 1, connection, receiver))
    if cancelled:  # by the receiver itself: a task group keeps quiet about that
        raise cancelled[0]
    raise_together(errors, f"of {delivery.signal.display_name}")
    return responses
