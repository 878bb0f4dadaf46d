"""Receiving what relays have published: each message is delivered once.

A broker delivers a message at least once. The inbox, a table in the database of the receivers,
makes exactly once of it for receivers that name ``session``: the message is noted there in the
receiver's own transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from aksara_signals.contrib.outbox.cloudevents import message_of
from aksara_signals.contrib.outbox.events import DurableEvent, message_from
from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.outbox import Outbox, the_outbox
from aksara_signals.contrib.outbox.registry import ReceiverEntry
from aksara_signals.contrib.outbox.rows import inbox, upkeep
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.attempts import (
    NEWER_SECONDS,
    OUTAGE_SECONDS,
    is_last,
)
from aksara_signals.contrib.outbox.worker.calling import Caller
from aksara_signals.contrib.outbox.worker.calls import Call, MissingRowError, prepare_call
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.gateway import Sessions, gateway_for
from aksara_signals.contrib.outbox.worker.health import observe
from aksara_signals.contrib.outbox.worker.known import KnownReceivers
from aksara_signals.contrib.outbox.worker.reports import log, log_failure, report_dead
from aksara_signals.exceptions import OutboxError

PURGE_SECONDS = 60.0
"""How often a process deletes old rows of the inbox."""


Event = DurableEvent | Mapping[str, Any] | str | bytes
"""What a relay has published: a CloudEvent as a dict or as JSON, or the event itself."""


class _RepeatError(Exception):
    """The message was delivered before."""


async def receive(
    event: Event,
    sessions: Sessions,
    *,
    outbox: Outbox | None = None,
    attempt: int = 1,
) -> bool:
    """Call the durable receiver that a message is for, unless it was delivered before.

    The receiver is called exactly as a worker calls it. If it names ``session``, the message is
    noted in the inbox in the same transaction: exactly once. If not, it is noted afterwards: at
    least once, and only a repeat after a crash reaches the receiver again.

    Acknowledge the message to its broker when this has returned; if it raises, let the broker
    deliver the message again.

    Args:
        event: What a relay has published: a CloudEvent as a dict or as JSON, or the event itself.
        sessions: An ``async_sessionmaker`` or a ``sessionmaker``, of the receivers' database.
        outbox: The outbox; by default, the one that is installed.
        attempt: 1 for the first delivery, and one more for each repetition: ``event.attempt``.

    Returns:
        Whether the message was new; False for a repeat.

    Raises:
        OutboxError: The message isn't one of a relay; no such receiver is connected in this
            process; the message is of a newer version than the receiver; or the inbox is missing.
        InvalidOptionError: ``sessions`` makes no sessions.
        BaseException: Whatever the receiver raises, after its transaction was rolled back.

    Source: the inbox, or idempotent consumer, pattern.
    """
    outcome = await attempt_once(event, sessions, the_outbox(outbox), attempt)
    if outcome.error is not None:
        raise outcome.error
    return outcome.is_new


async def receive_until_done(event: Event, sessions: Sessions, outbox: Outbox) -> bool:
    """As :func:`receive`, again and again, after the delays of the receiver's ``Retry``.

    For engines that don't repeat a message after a delay. The message stays unacknowledged
    meanwhile, so that those behind it wait, as their order demands.

    Returns:
        Whether it is done. If not, it is given up: its attempts are used up, which is made known as
        of a worker's dead letter, or it isn't a message of a relay.

    Raises:
        InvalidOptionError: ``sessions`` makes no sessions.
    """
    attempt = 1
    while True:
        try:
            outcome = await attempt_once(event, sessions, outbox, attempt)
        except OutboxError as error:
            log(logging.ERROR, "a message is given up: %s", error_text(error))
            return False
        if outcome.error is None:
            return True
        await outcome.report()
        if outcome.is_dead:
            return False
        await asyncio.sleep(outcome.delay_seconds)
        attempt = outcome.next_attempt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a message."""

    message: Message
    entry: ReceiverEntry | None
    """Its receiver, if that is connected here."""
    is_new: bool = True
    error: Exception | None = None
    """Why it has to be delivered again."""
    delay_seconds: float = 0.0
    """When."""
    counts: bool = True
    """Whether that was an attempt; what fails before the receiver is called is none."""

    @property
    def next_attempt(self) -> int:
        """The number of the next attempt."""
        return self.message.attempts + 1 + self.counts

    @property
    def is_dead(self) -> bool:
        """Whether its attempts are used up."""
        if self.error is None or self.entry is None or not self.counts:
            return False
        return is_last(self.entry, self.error, self.message.attempts + 1)

    async def report(self) -> None:
        """Log the failure; make a dead letter known as a worker does."""
        if self.error is None:
            return
        if self.is_dead:
            observe("dead", self.message.receiver, 1)
            await report_dead(self.message, self.entry, self.error)
        else:
            log_failure(self.message, self.error, self.delay_seconds, counts=self.counts)


async def attempt_once(event: Event, sessions: Sessions, outbox: Outbox, attempt: int) -> Outcome:
    """Call the receiver of a message, and judge what has become of it.

    Raises:
        OutboxError: The message isn't one of a relay.
        InvalidOptionError: ``sessions`` makes no sessions.
    """
    message = message_from(event) if isinstance(event, DurableEvent) else message_of(event, attempt)
    return await _consumer(outbox, sessions).attempt(message)


class _Consumer:
    """Receives messages in one event loop, with one factory of sessions."""

    def __init__(self, outbox: Outbox, sessions: Sessions) -> None:
        self._outbox = outbox
        self._gateway = gateway_for(sessions, outbox.tables)
        # One writer at a time: otherwise, they would fail instead of waiting for one another.
        turn: Any = asyncio.Lock() if self._gateway.is_sqlite else nullcontext()
        self._turn = turn
        self._caller = Caller(self._gateway, turn)
        self._known = KnownReceivers(("*",))
        self._loop = asyncio.get_running_loop()
        self._purge_at = self._loop.time() + PURGE_SECONDS

    def close(self) -> None:
        """End its threads."""
        self._gateway.close()

    async def attempt(self, message: Message) -> Outcome:
        start = self._loop.time()
        entry = self._known.find(message.receiver)
        problem = _problem(message, entry)
        if entry is None or problem is not None:
            return Outcome(message, None, True, problem, NEWER_SECONDS, counts=False)
        call: Call | None = None
        try:
            call = prepare_call(entry, message, self._outbox.metadata)
            is_new, was_called = await self._deliver(call, message)
        except Exception as error:  # noqa: BLE001 - whatever a receiver raises
            observe("failed", entry.name, 1)
            is_missing = isinstance(error, MissingRowError)
            if call is not None and not call.is_started and not is_missing:
                # The database is down, or has no inbox: that is not the receiver's fault.
                return Outcome(message, entry, True, error, OUTAGE_SECONDS, counts=False)
            delay = entry.options.retry.delay_seconds(message.attempts + 1)
            return Outcome(message, entry, True, error, delay)
        if not is_new:
            observe("repeated", entry.name, 1)
            return Outcome(message, entry, is_new=False)
        observe("done" if was_called else "skipped", entry.name, 1)
        observe("duration_seconds", entry.name, self._loop.time() - start)
        if self._loop.time() >= self._purge_at:
            await self._purge()
        return Outcome(message, entry)

    async def _deliver(self, call: Call, message: Message) -> tuple[bool, bool]:
        """Call the receiver; return whether the message is new, and whether it was called."""
        tables = self._outbox.tables
        # Under its first name: one that was published before a rename may come once more after it.
        message = replace(message, receiver=call.entry.names[0])
        receipt = _InboxReceipt(tables, message)
        try:
            if call.names_session:
                return True, await self._caller.call(call, receipt)
            if await self._in_transaction(inbox.is_noted, tables, message):
                return False, False
            was_called = await self._caller.call(call, receipt)
            return await self._in_transaction(inbox.note, tables, message), was_called
        except _RepeatError:
            return False, False

    async def _purge(self) -> None:
        self._purge_at = self._loop.time() + PURGE_SECONDS
        tables, seconds = self._outbox.tables, self._outbox.keep_inbox_seconds
        try:
            while await self._in_transaction(inbox.purge, tables, seconds) >= upkeep.CHUNK:
                pass
        except Exception as error:  # noqa: BLE001 - the message is delivered, whatever it is
            log(logging.WARNING, "old rows of the inbox can't be deleted: %s", error_text(error))

    async def _in_transaction(self, function: Any, *arguments: Any) -> Any:
        async with self._turn:
            return await self._gateway.run_in_transaction(function, *arguments)


def _problem(message: Message, entry: ReceiverEntry | None) -> OutboxError | None:
    """Why a message can't be delivered by this process."""
    if entry is None:
        return OutboxError(
            f"event {message.id} is for {message.receiver!r}, and no such durable receiver is "
            f"connected in this process: import its module (Outbox(modules=…)), or name it in "
            f"formerly= of its successor"
        )
    if message.version > entry.options.version:
        return OutboxError(
            f"event {message.id} has version {message.version} of durable receiver "
            f"{entry.name!r}, which has version {entry.options.version} in this process: let the "
            f"broker deliver it again, to a process with newer code"
        )
    return None


@dataclass(slots=True, eq=False)
class _InboxReceipt:
    """The receipt of a message: its row in the inbox."""

    tables: Tables
    message: Message

    def before(self, connection: Connection) -> None:
        """Note the message.

        Raises:
            _RepeatError: It was noted before.
        """
        if not inbox.note(connection, self.tables, self.message):
            raise _RepeatError

    def after(self, connection: Connection) -> None:
        """Nothing: it is committed with what the receiver has written."""


_consumers: dict[asyncio.AbstractEventLoop, dict[tuple[Outbox, Sessions], _Consumer]] = {}
"""Those of each event loop: a lock belongs to one loop, and a process that forks gets another."""


def _consumer(outbox: Outbox, sessions: Sessions) -> _Consumer:
    loop = asyncio.get_running_loop()
    consumers = _consumers.get(loop)
    if consumers is None:
        # Consumers hold their loop, so that weak references would keep both for ever.
        for other in [each for each in tuple(_consumers) if each.is_closed()]:
            for consumer in _consumers.pop(other, {}).values():
                consumer.close()
        consumers = _consumers[loop] = {}
    found = consumers.get((outbox, sessions))
    if found is None:
        found = consumers[outbox, sessions] = _Consumer(outbox, sessions)
    return found
