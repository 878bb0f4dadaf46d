"""Mongoz's page on signals (003): Edgy's surface on documents.

A document with a string for its key is a dataclass here, mapped by SQLAlchemy.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from aksara_signals import (
    Signal,
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin

Sessions = async_sessionmaker[AsyncSession]


class Base(SignalMixin, MappedAsDataclass, DeclarativeBase):
    pass


class Document(Base, kw_only=True):
    __abstract__ = True

    id: Mapped[str] = mapped_column(
        String(32), primary_key=True, default_factory=lambda: uuid.uuid4().hex
    )


class Guest(Document, kw_only=True):
    __tablename__ = "guest"

    name: Mapped[str]
    email: Mapped[str]
    is_verified: Mapped[bool] = mapped_column(default=False)


class Ticket(Document, kw_only=True):
    __tablename__ = "ticket"

    kind: Mapped[str]


async def guest(name: str = "ann", **values: Any) -> Guest:
    return await Guest.objects.create(name=name, email=f"{name}@example.org", **values)


@pytest.mark.shows("pre_save, post_save", "pre_save", "post_save")
async def test_saving_and_creating_documents(sessions: Sessions, recorder: Recorder) -> None:
    """By save() and objects.create()."""
    recorder.record(pre_save, Guest)
    recorder.record(post_save, Guest)
    created = await guest()
    saved = Guest(name="bob", email="b")
    await saved.save()
    sent = [(call.signal, call.payload["instance"].id) for call in recorder.calls]
    assert sent == [
        (signal, document.id)
        for document in (created, saved)
        for signal in ("pre_save", "post_save")
    ]


@pytest.mark.shows("pre_update, post_update", "pre_update", "post_update")
async def test_updating_documents(sessions: Sessions, recorder: Recorder) -> None:
    """By update(), and by a query's update() with_signals()."""
    recorder.record(pre_update, Guest)
    recorder.record(post_update, Guest)
    one = await guest()
    await one.update(name="anna")
    assert recorder.names == ["pre_update", "post_update"]
    await Guest.objects.filter(name="anna").with_signals().update(name="annie")
    assert recorder.names == ["pre_update", "post_update"] * 2


@pytest.mark.shows("pre_delete, post_delete", "pre_delete", "post_delete")
async def test_deleting_documents(sessions: Sessions, recorder: Recorder) -> None:
    """By delete(), and by a query's delete() with_signals()."""
    recorder.record(pre_delete, Guest)
    recorder.record(post_delete, Guest)
    await (await guest("ann")).delete()
    await guest("bob")
    await Guest.objects.filter(name="bob").with_signals().delete()
    assert recorder.names == ["pre_delete", "post_delete"] * 2


@pytest.mark.shows("Receiver", "post_save")
async def test_a_confirmation_upon_creation(sessions: Sessions) -> None:
    """created=True keeps a receiver that knows nothing of updates to creations."""
    confirmed: list[str] = []

    @post_save(Guest, created=True)
    async def confirm(sender: type, instance: Guest, **kwargs: Any) -> None:
        confirmed.append(instance.email)

    ann = await guest()
    await ann.update(is_verified=True)
    assert confirmed == ["ann@example.org"]


@pytest.mark.shows("Multiple receivers", "post_save")
async def test_a_receiver_for_two_documents(sessions: Sessions) -> None:
    """A list of documents in one decorator."""
    seen: list[str] = []

    @post_save([Guest, Ticket])
    async def note(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(instance.email if isinstance(instance, Guest) else instance.kind)

    await guest()
    await Ticket.objects.create(kind="balcony")
    assert seen == ["ann@example.org", "balcony"]


@pytest.mark.shows("Multiple receivers for the same document", "post_save")
async def test_two_receivers_for_a_document(sessions: Sessions) -> None:
    """Both are called."""
    seen: list[str] = []

    @post_save(Guest)
    async def by_mail(sender: type, instance: Guest, **kwargs: Any) -> None:
        seen.append("mail")

    @post_save(Guest)
    async def by_push(sender: type, instance: Guest, **kwargs: Any) -> None:
        seen.append("push")

    await guest()
    assert seen == ["mail", "push"]


@pytest.mark.shows("Disconnecting receivers", "post_save")
async def test_disconnecting_from_a_document(sessions: Sessions) -> None:
    """Through meta.signals and through an instance."""
    seen: list[str] = []

    async def note(sender: type, instance: Guest, **kwargs: Any) -> None:
        seen.append(instance.name)

    for way in ("meta", "instance"):
        post_save(Guest)(note)
        one = await guest(f"received {way}")
        emitter = Guest.meta.signals if way == "meta" else one.signals
        assert emitter.post_save.disconnect(note)
        await guest("silent")
    assert seen == ["received meta", "received instance"]


@pytest.mark.shows("Custom Signals", "custom")
async def test_a_custom_signal_of_a_document(sessions: Sessions) -> None:
    """Made by assignment, sent after a look-up by key, disconnected again."""
    seen: list[str] = []
    Guest.meta.signals.on_arrival = Signal()

    async def welcome(sender: type, instance: Guest, **kwargs: Any) -> None:
        seen.append(instance.name)

    Guest.meta.signals.on_arrival.connect(welcome)
    ann = await guest(is_verified=True)
    for _ in range(2):
        found = await Guest.objects.get(pk=ann.id)
        await Guest.meta.signals.on_arrival.send(sender=Guest, instance=found)
        Guest.meta.signals.on_arrival.disconnect(welcome)
    assert seen == ["ann"]
