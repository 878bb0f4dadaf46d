"""The lock under which connections change: one thread at a time, for all signals.

The problem is finalisers. They run at any moment, also in the middle of a change that their own
thread is making, and they may connect and disconnect receivers of any signal. A change that a
finaliser asks for in the middle of another one is therefore queued, and made when that one ends.

For the same reason all signals share one lock. If each had its own, two threads could deadlock:
each is changing one signal, and each is interrupted by a finaliser that asks for the other one.

Whoever reads connections without the lock may find a change half made. :func:`undisturbed` waits
until it has been made.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Protocol

Mutation = Callable[[], bool]
"""Changes connections, and returns whether any were added or removed."""

MAX_WAIT_SECONDS = 0.1
"""How long a reader waits for the lock. A change takes microseconds, unless it calls code of a user
which waits for the reader: then the reader goes on without the lock."""


class HasConnections(Protocol):
    """Something that has connections."""

    def make(self, change: Mutation, changed: list[HasConnections]) -> None:
        """Make a change, under the lock; add itself to ``changed`` if its connections changed."""
        ...

    def changed(self) -> None:
        """Called after connections were added or removed, without the lock."""
        ...


class _State:
    def __init__(self) -> None:
        self.lock = RLock()
        """Re-entrant, for a finaliser that runs after the lock is taken and before ``holder`` is
        set."""
        self.holder: int | None = None
        """The thread that is making a change."""
        self.late: deque[tuple[HasConnections, Mutation]] = deque()
        """The changes that finalisers have asked for in the meantime."""


_state = _State()
if hasattr(os, "register_at_fork"):  # not on Windows
    # A thread that held the lock doesn't exist in the child, which would wait for it for ever.
    os.register_at_fork(after_in_child=_state.__init__)  # type: ignore[misc]


def serialized(changing: HasConnections, change: Mutation) -> bool:
    """Make a change under the lock, then report whose connections have changed.

    Returns:
        Whether it has been made. If not, this thread is in the middle of another change, and makes
        this one when that one ends.
    """
    here = get_ident()
    if _state.holder == here:
        _state.late.append((changing, change))
        return False
    changed: list[HasConnections] = []
    try:
        with _state.lock:
            _state.holder = here
            try:
                changing.make(change, changed)
            finally:
                try:
                    while _state.late:
                        late, asked = _state.late.popleft()
                        late.make(asked, changed)
                finally:
                    _state.holder = None
    finally:
        for each in changed:
            each.changed()
    return True


@contextmanager
def undisturbed() -> Iterator[bool]:
    """Keep something that was read from connections, while no other thread changes them.

    Yields:
        Whether all changes are complete. If not, one is being made, by this thread or for long by
        another one, and what was read may be half of it.
    """
    if _state.holder == get_ident() or not _state.lock.acquire(timeout=MAX_WAIT_SECONDS):
        yield False
        return
    try:
        yield True
    finally:
        _state.lock.release()
