"""Rows that are written again and again in a transaction, and a record of what is sent of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Mapped, Session, SessionTransaction, mapped_column

from aksara_signals import Signal, post_delete, post_save, post_update
from kit.committing import COMMIT
from kit.models import Base, Post


class Named(Base):
    __tablename__ = "named"

    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Animal(Base):
    __tablename__ = "net_animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Dog(Animal):
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Net:
    """What coalescing receivers of every kind are sent, in order."""

    def __init__(self, *senders: type, phase: str = COMMIT) -> None:
        self.sent: list[Any] = []
        for sender in senders:
            for signal, created in (
                (post_save, None),
                (post_save, True),
                (post_save, False),
                (post_update, None),
                (post_delete, None),
            ):
                self.connect(signal, sender, created, phase)

    def connect(self, signal: Signal, sender: type, created: bool | None, phase: str) -> None:
        name = {None: signal.name, True: "created", False: "changed"}[created]
        options = {} if created is None else {"created": created}

        def note(instance: Any, **kwargs: Any) -> None:
            identity = instance.name if isinstance(instance, Named) else instance.id
            self.sent.append((name, identity, kwargs.get("created")))

        signal.connect(note, sender=sender, phase=phase, coalesce=True, **options)

    def take(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent


CREATED = [("post_save", 1, True), ("created", 1, True)]
CHANGED = [("post_update", 1, False), ("post_save", 1, False), ("changed", 1, False)]
DELETED = [("post_delete", 1, None)]


def write(session: Session, steps: str) -> None:
    """Write the row 1 of Post, a flush for each letter."""
    savepoints: list[SessionTransaction] = []
    # SQLAlchemy takes back what a savepoint has created only while it is held.
    held: list[Post] = []
    for number, step in enumerate(steps):
        post = session.get(Post, 1)
        match step:
            case "c":
                held.append(Post(id=1, title="created"))
                session.add(held[-1])
            case "d":
                session.delete(post)
            case "=":
                post.title = "created"
            case "s":  # a row switch: one UPDATE
                session.delete(post)
                session.add(Post(id=1, title="switched"))
            case "<":
                savepoints.append(session.begin_nested())
            case ">":
                savepoints.pop().commit()
            case "!":
                savepoints.pop().rollback()
            case _:
                post.title = f"{step} {number}"
        session.flush()
