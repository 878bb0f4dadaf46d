"""What tracing and metrics connect to; imports nothing of the outbox, and no database library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

header_hooks: list[Callable[[dict[str, str]], object]] = []
"""Called with the headers of what is stored, in the process that sends: to add a trace context.
Once for all rows of a flush."""

call_hooks: list[Callable[[Mapping[str, str]], AbstractContextManager[Any]]] = []
"""Called with the headers of a row, in the worker. What they return is entered around the call."""

observers: list[Callable[[str, str, float], object]] = []
"""Called with the name of a measurement, the receiver's name and the value, in the loop of the
worker. They must not raise, block or wait.

=====================  ==================================================================
``claimed``            Rows that were leased.
``done``               Calls that have succeeded.
``failed``             Calls that have failed.
``dead``               Rows that have become dead letters.
``skipped``            Calls that were left out, because the row of ``instance`` is gone.
``released``           Rows that were given back uncalled.
``lost_leases``        Rows that another worker has taken over, because a lease ran out.
``crashes``            Rows claimed after the lease of another worker ran out.
``unknown``            Rows of a receiver that is not connected here; once a minute.
``duration_seconds``   How long a call took.
``lag_seconds``        The time between the write of a row and its claim.
=====================  ==================================================================
"""
