"""Whose turn it is to change connections: one thread at a time, whichever the signal.

Finalisers of users run at any moment, also in the midst of a change that their thread is making,
and may connect and disconnect: what they ask for then waits for its end. As they may ask it of any
signal, there is one lock for all: with one each, two threads that are changing a signal each, and
are interrupted by finalisers that ask for the other one, would wait forever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock, get_ident
from typing import Protocol

Mutation = Callable[[], bool]
"""Changes connections, and returns whether one has come or gone."""


class HasConnections(Protocol):
    """What has connections."""

    def make(self, change: Mutation, changed: list[HasConnections]) -> None:
        """Make a change in one's turn; if connections came or went, it is one of the changed."""
        ...

    def changed(self) -> None:
        """Connections came or went; no lock is held."""
        ...


class _Turn:
    def __init__(self) -> None:
        self.lock = RLock()
        """Re-entrant for a finaliser that comes between taking it and noting who has."""
        self.holder: int | None = None
        """The thread that is in the midst of a change."""
        self.late: deque[tuple[HasConnections, Mutation]] = deque()
        """What finalisers have asked for in the midst of another change."""


_turn = _Turn()


def serialized(changing: HasConnections, change: Mutation) -> bool:
    """Make a change while nobody else does, and pass on whose connections came or went.

    Returns:
        Whether it has been made; else it will be, at the end of the change that is under way.
    """
    here = get_ident()
    if _turn.holder == here:
        _turn.late.append((changing, change))
        return False
    changed: list[HasConnections] = []
    try:
        with _turn.lock:
            _turn.holder = here
            try:
                changing.make(change, changed)
            finally:
                try:
                    while _turn.late:
                        late, asked = _turn.late.popleft()
                        late.make(asked, changed)
                finally:
                    _turn.holder = None
    finally:
        for each in changed:
            each.changed()
    return True
