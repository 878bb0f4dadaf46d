"""What tracing and metrics connect to; imports nothing of the outbox, and no database library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

header_hooks: list[Callable[[dict[str, str]], object]] = []
"""Called with the headers of what is stored, in the process that sends: to add a trace context.
Once for all rows of a flush."""

call_hooks: list[Callable[[Mapping[str, str]], AbstractContextManager[Any]]] = []
"""Called with the headers of a row or a message, where its receiver is called: in a worker or a
consumer. What they return is entered around the call."""

write_observers: list[Callable[[Any, Sequence[Any]], object]] = []
"""Called with a session and the rows (``writing.PreparedRow``) that were inserted in its
transaction, which may still be rolled back."""

observers: list[Callable[[str, str, float], object]] = []
"""Called with the name of a measurement, the receiver's name and the value, in the event loop of
a worker, a relay or a consumer. They must not raise, block or wait. In a relay, the publication of
a row stands for the call of its receiver.

=====================  ==================================================================
``claimed``            Rows that were leased.
``done``               Calls that have succeeded.
``failed``             Calls that have failed.
``dead``               Rows, or messages, that have become dead letters.
``skipped``            Calls that were left out, because the row of ``instance`` is gone.
``repeated``           Messages that were delivered before, and are not delivered again.
``released``           Rows that were given back uncalled.
``lost_leases``        Rows that another worker has taken over, because a lease ran out.
``crashes``            Rows claimed after the lease of another worker ran out.
``unknown``            Rows of a receiver that is not connected here; once a minute.
``duration_seconds``   How long a call took.
``lag_seconds``        The time between the write of a row and its claim.
=====================  ==================================================================

Consumers measure ``done``, ``failed``, ``dead``, ``skipped``, ``repeated`` and
``duration_seconds``. Workers and relays measure all but ``repeated``, and once a minute what is
left to do: ``pending``, ``retrying``, ``dead_letters`` (rows), ``oldest_age_seconds``, and
``down``, which is 1 while the circuit breaker of a receiver is open.
"""
