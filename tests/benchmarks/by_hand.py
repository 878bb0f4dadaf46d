"""The references: loops as one writes them by hand, with keyword arguments, collecting results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from receivers import Receivers

PAYLOAD: dict[str, Any] = {"instance": object(), "created": True, "session": None}
"""What all sends of the comparisons have, beside signal and sender."""


def async_loop(
    functions: Receivers, signal: object, sender: object
) -> Callable[[], Awaitable[Any]]:
    """One send to async receivers."""

    async def send(sender: Any, instance: Any, created: bool, session: Any) -> list[Any]:
        responses = []
        for function in functions:
            response = await function(
                signal=signal, sender=sender, instance=instance, created=created, session=session
            )
            responses.append((function, response))
        return responses

    instance = PAYLOAD["instance"]
    return lambda: send(sender, instance=instance, created=True, session=None)


def sync_loop(functions: Receivers, signal: object, sender: object) -> Callable[[], Any]:
    """One send to plain functions."""

    def send(sender: Any, instance: Any, created: bool, session: Any) -> list[Any]:
        responses = []
        for function in functions:
            response = function(
                signal=signal, sender=sender, instance=instance, created=created, session=session
            )
            responses.append((function, response))
        return responses

    instance = PAYLOAD["instance"]
    return lambda: send(sender, instance=instance, created=True, session=None)
