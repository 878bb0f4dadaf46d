"""What subscribers of FastStream do with a message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from faststream.exceptions import RejectMessage

from aksara_signals.contrib.outbox.outbox import Outbox
from aksara_signals.contrib.outbox.receiving import receive_until_done
from aksara_signals.contrib.outbox.transports.engine import Engine
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.reports import log

PULSE_SECONDS = 10.0
"""How often an engine is informed that a message is still being worked on."""

AGAIN_SECONDS = 1.0
"""How long a message waits that can't be received at all, as if ``sessions`` makes no sessions."""


def handler_of(
    engine: Engine, sessions: Sessions, outbox: Outbox, is_ordered: bool
) -> Callable[[Any], Awaitable[None]]:
    """A handler of messages, which calls the receivers they are for.

    Args:
        engine: From where they come.
        sessions: The sessions of the receivers.
        outbox: The outbox.
        is_ordered: Whether a message is handled after those before it.
    """

    async def handle(message: Any) -> None:
        pulse = asyncio.create_task(_pulse(engine, message))
        try:
            if is_ordered:
                await engine.take_place(message)
            is_done = await receive_until_done(message.body, sessions, outbox)
        except Exception:
            await asyncio.sleep(AGAIN_SECONDS)  # most engines deliver it again at once
            raise
        finally:
            pulse.cancel()
        if not is_done and engine.can_reject:
            raise RejectMessage

    return handle


async def message_itself(message: Any) -> Any:
    """A decoder that gives a handler the whole message.

    FastStream's own raises an error for what isn't JSON, before a handler can reject it.
    """
    return message


async def _pulse(engine: Engine, message: Any) -> None:
    while True:
        await asyncio.sleep(PULSE_SECONDS)
        try:
            await engine.extend(message)
        except Exception as error:  # noqa: BLE001 - the next one may succeed
            text = "an engine can't be informed that a message is still being worked on: %s"
            log(logging.WARNING, text, error_text(error))
