"""Records deliveries: the hook around sends and receivers, and what else there is to be noticed.

A receiver pays for all that is done here. So it notes what is at hand, and leaves the rest to those
who look at the timeline.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from sys import getsizeof
from time import perf_counter
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict

from aksara_signals.contrib.inspector.calls import Call
from aksara_signals.contrib.inspector.entries import MAX_KEYS, MAX_ROWS, ROW_BYTES, Entry, Group
from aksara_signals.contrib.inspector.remembered import remembered
from aksara_signals.contrib.inspector.timeline import Timeline
from aksara_signals.contrib.inspector.transactions import Transactions, is_own_callback
from aksara_signals.contrib.outbox.hooks import write_observers
from aksara_signals.contrib.outbox.writing import PreparedRow
from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.context import SignalContext, silence_observers
from aksara_signals.dispatch.delivery.delivery import AnyDelivery, is_awaitable, named
from aksara_signals.dispatch.delivery.errors import note_of
from aksara_signals.dispatch.delivery.frame import Frame, get_current
from aksara_signals.dispatch.delivery.tracing import (
    DeliveryRecorder,
    add_delivery_hook,
    remove_delivery_hook,
)
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import printable, safe_str, shortened
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK, DURABLE, IMMEDIATE, Receiver, Sender

MAX_TEXT = 500
"""How many characters of the text of an exception are recorded."""


class Recorder(DeliveryRecorder):
    """Records what is delivered in this process, from :meth:`start` to :meth:`stop`.

    Args:
        show: The attributes of instances whose values are recorded.
        show_errors: Whether the texts of exceptions are recorded, not only their classes.
    """

    def __init__(self, show: Sequence[str] = (), show_errors: bool = False) -> None:
        self._show = tuple(show)
        self._show_errors = show_errors
        self._name = f"inspected_{id(self)}"
        """The attribute of a frame that holds the entry of its send."""
        self.timeline: Timeline = Timeline(self._catch_up)
        self._transactions = Transactions(self._place, self._cause, self.timeline.note_change)
        self._is_recording = False

    def start(self) -> None:
        """Begin to record."""
        if not self._is_recording:
            self._is_recording = True
            self._transactions.start()
            add_delivery_hook(self)
            silence_observers.append(self._note_silence)
            write_observers.append(self._note_rows)

    def stop(self) -> None:
        """Record no more. What was recorded stays. A second call does nothing."""
        if self._is_recording:
            self._is_recording = False
            write_observers.remove(self._note_rows)
            silence_observers.remove(self._note_silence)
            remove_delivery_hook(self)
            self._transactions.stop()

    def _catch_up(self) -> None:
        if self._is_recording:
            self._transactions.catch_up()

    # -- sends and receivers -------------------------------------------------------------------

    def sends(self, deliveries: Iterable[AnyDelivery]) -> Generator[AnyDelivery, None, None]:
        """Record each delivery; successive ones that differ by their row only, in one entry."""
        frame: Any = get_current()  # that of the loop which delivers
        timeline = self.timeline
        entry: Entry | None = None
        first_signal = first_sender = first_sequential = None
        try:
            for delivery in deliveries:
                signal, sender, sequential, arguments, concurrent, _ = delivery
                if (
                    sequential is first_sequential
                    and entry is timeline.last
                    and entry is not None
                    and signal is first_signal
                    and sender is first_sender
                    and entry.rows < MAX_ROWS
                ):
                    entry.rows += 1
                    if entry.rows <= MAX_KEYS:
                        entry.identities.append(_identity_of(arguments))
                else:
                    if entry is not None:
                        self._end(entry)
                        entry = None
                    if type(signal) is Signal or not is_own_callback(signal, sequential):
                        entry = self._entry_of(delivery, frame)
                        first_signal, first_sender = signal, sender
                        first_sequential = None if concurrent or self._show else sequential
                    else:
                        vars(frame).pop(self._name, None)
                yield delivery
        finally:
            if entry is not None:
                self._end(entry)

    def around(self, receiver: Receiver, delivery: AnyDelivery, connection: Connection) -> Receiver:
        """Measure the calls of a receiver."""
        frame: Any = get_current()
        entry: Entry | None = vars(frame).get(self._name)
        if entry is None:  # the send began before the recorder
            return receiver
        key = None if connection.address is None else connection
        call = entry.calls.get(key)
        if call is None:
            call = entry.calls[key] = Call(remembered(connection))
        elif call.receiver is receiver:
            known: Receiver = call.timed
            return known
        timed = self._timed(receiver, entry, call, frame)
        call.receiver, call.timed = receiver, timed
        return timed

    def _timed(self, receiver: Receiver, entry: Entry, call: Call, frame: Frame) -> Receiver:
        append = call.seconds.append

        def timed(*positional: Any, **keywords: Any) -> Any:
            start = call.started = perf_counter()
            try:
                response = receiver(*positional, **keywords)
            except BaseException as error:
                self._note_error(entry, call, frame, error)
                raise
            if response is not None and is_awaitable(response):
                return self._awaited(response, entry, call, frame)
            append(perf_counter() - start)
            call.started = 0.0
            return response

        return timed

    async def _awaited(self, response: Any, entry: Entry, call: Call, frame: Frame) -> Any:
        start = call.started
        try:
            response = await response
        except BaseException as error:
            self._note_error(entry, call, frame, error)
            raise
        call.seconds.append(perf_counter() - start)
        call.started = 0.0
        return response

    def _entry_of(self, delivery: AnyDelivery, frame: Frame) -> Entry:
        signal, sender, sequential, arguments, concurrent, _ = delivery
        parent, _ = self._cause_of(frame.cause)
        connections = sequential + concurrent if concurrent else sequential
        phase = connections[0].phase if connections else IMMEDIATE
        group = self._group_for(arguments.get("session"), parent, phase)
        entry = Entry("send", group, signal, sender, connections)
        entry.identities.append(_identity_of(arguments))
        if self._show and (instance := arguments.get("instance")) is not None:
            entry.values = self._values_of(instance)
            entry.size += sum(map(getsizeof, entry.values.values()))
        if entry.phase == DURABLE:
            entry.event = getattr(arguments.get("event"), "id", None)
        self._place(entry, parent)
        vars(frame)[self._name] = entry
        return entry

    def _values_of(self, instance: object) -> dict[str, str]:
        # Not getattr(), which may run the user's code.
        loaded = {} if state_of(instance) is None else instance_dict(instance)
        return {name: shortened(loaded[name]) for name in self._show if name in loaded}

    def _end(self, entry: Entry) -> None:
        entry.end()
        more = sum(map(_bytes_of, entry.identities))
        if entry.rows > 1:
            more += ROW_BYTES * (entry.rows - 1) * (1 + len(entry.calls))
        if more:
            self.timeline.grow(entry, more)
        self.timeline.note_change(entry.group)

    def _note_error(self, entry: Entry, call: Call, frame: Frame, error: BaseException) -> None:
        """Note of an exception its class and the note of this library, and perhaps its text."""
        call.seconds.append(perf_counter() - call.started)
        call.started = 0.0
        is_first = call.error is None  # the texts of a further row take the place of these
        # A coroutine is closed where nobody can await it: that it had to wait is what failed.
        is_closed = isinstance(error, GeneratorExit)
        call.error = "not awaited to its end" if is_closed else type_name(error)
        connection = frame.connection
        if frame.current is not None and connection is not None:
            advice = get_adapter().advice(error, connection)
            note = note_of(named(frame.current), connection)
            call.notes = (note,) if advice is None else (advice, note)
        if self._show_errors:
            call.error_text = printable(safe_str(error))[:MAX_TEXT]
        if is_first:
            texts = (call.error, call.error_text or "", call.notes, *call.notes)
            self.timeline.grow(entry, sum(map(getsizeof, texts)))

    # -- what else there is to be noticed ------------------------------------------------------

    def _note_silence(
        self, signal: Any, sender: Sender, silenced: Sequence[Connection], context: SignalContext
    ) -> None:
        parent, _ = self._cause()
        group = self._transactions.current() or self._group_for(None, parent, IMMEDIATE)
        entry = Entry("silenced", group, signal, sender, tuple(silenced))
        entry.context = safe_str(context, repr)
        entry.rows = 0
        if group.flushes:  # several moments of it ask for the receivers
            parent = group.flushes[-1].cause
            if any(each.is_same_silence(entry) for each in group.entries[-20:]):
                return
        self._place(entry, parent)

    def _note_rows(self, session: Session, rows: Sequence[PreparedRow]) -> None:
        parent, _ = self._cause()
        group = self._transactions.group_of(session)
        by_event: dict[Any, list[PreparedRow]] = {}
        for row in rows:
            by_event.setdefault(row.values["id"], []).append(row)
        for event, several in by_event.items():
            send = several[0].send
            connections = tuple(each.connection for each in several)
            entry = Entry("durable", group, send.signal, send.sender, connections)
            entry.event = event
            state = state_of(several[0].instance)
            entry.identities = [None if state is None else state.identity]
            self._place(entry, parent)

    # -- places in the timeline ----------------------------------------------------------------

    def _cause_of(self, frame: Frame | None) -> tuple[Entry | None, Connection | None]:
        """The entry and the connection of the receiver that is running, if any is."""
        while frame is not None:
            entry: Entry | None = vars(frame).get(self._name)
            if entry is not None and frame.connection is not None:
                return entry, frame.connection
            frame = frame.cause
        return None, None

    def _group_for(self, session: Any, parent: Entry | None, phase: str) -> Group:
        is_finished = phase in (AFTER_COMMIT, AFTER_ROLLBACK)
        if session is not None:
            plain = session.sync_session if isinstance(session, AsyncSession) else session
            if isinstance(plain, Session):
                group = self._transactions.group_of(plain, is_finished=is_finished)
                group.session = type(session)
                return group
        if parent is None or is_finished:
            current = self._transactions.current(is_finished=is_finished)
            if current is not None:
                return current
        return Group("none") if parent is None else parent.group

    def _place(self, entry: Entry, parent: Entry | None) -> None:
        if parent is not None:
            entry.parent = parent
            entry.depth = parent.depth + 1 if parent.group is entry.group else 0
        self.timeline.add(entry)

    def _cause(self) -> tuple[Entry | None, Connection | None]:
        return self._cause_of(get_current())


def _identity_of(arguments: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The primary key of the instance that is sent, if there is one and it has a key."""
    state = state_of(arguments.get("instance"))
    return None if state is None or state.key is None else state.key[1]


def _bytes_of(identity: tuple[Any, ...] | None) -> int:
    """What a key takes beyond what every entry is counted with."""
    parts = () if identity is None else identity
    return sum(getsizeof(each) for each in parts if type(each) is not int)
