"""Who else follows the flushes and transactions of all sessions, such as the inspector.

They are called by the library's own listeners. One that came and went by itself would change
SQLAlchemy's lists of listeners while another task or thread goes through them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from sqlalchemy.orm import Session, SessionTransaction


class SessionObserver(ABC):
    """Follows sessions. What it raises, the session raises."""

    @abstractmethod
    def begin_flush(self, session: Session) -> None:
        """A flush begins; nothing is sent yet."""

    @abstractmethod
    def note_written(self, session: Session) -> None:
        """The flush has written its rows; post signals follow."""

    @abstractmethod
    def end_flush(self, session: Session) -> None:
        """The flush is over, or a receiver has made it fail before it wrote."""

    @abstractmethod
    def note_commit(self, session: Session) -> None:
        """A transaction was committed, or a savepoint released, and is about to end."""

    @abstractmethod
    def end(self, session: Session, transaction: SessionTransaction) -> None:
        """A transaction ends, of any kind; deferred receivers are not called yet."""


class SessionObservers:
    """The observers: replaced, and never changed, so that any thread may go on with them."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: tuple[SessionObserver, ...] = ()
        """In the order in which they were added."""

    def add(self, observer: SessionObserver) -> None:
        """Let an observer follow, from the next event on."""
        self.all = (*self.all, observer)

    def remove(self, observer: SessionObserver) -> None:
        """Undo :meth:`add`."""
        self.all = tuple(each for each in self.all if each is not observer)


session_observers: SessionObservers = SessionObservers()
