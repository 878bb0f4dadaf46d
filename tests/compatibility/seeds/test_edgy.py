"""Edgy's page on signals, on SQLAlchemy models (002)."""

from __future__ import annotations

from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import aksara_signals
from aksara_signals import (
    InvalidReceiverError,
    Signal,
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_update,
)
from aksara_signals.orm import SignalMixin

Sessions = async_sessionmaker[AsyncSession]
Key = BigInteger().with_variant(Integer, "sqlite")


class Base(SignalMixin, DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(255))
    is_verified: Mapped[bool] = mapped_column(default=False)
    kind: Mapped[str] = mapped_column(default="member")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "member"}


class Patron(Member):
    """A derived model."""

    __mapper_args__ = {"polymorphic_identity": "patron"}


class Badge(Base):
    __tablename__ = "badge"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    colour: Mapped[str] = mapped_column(String(255))


class Mailbox:
    """Stands where the examples send mail and push notifications."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def mail(self, address: str) -> None:
        self.sent.append(f"mail to {address}")

    def push(self, address: str) -> None:
        self.sent.append(f"push to {address}")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


async def member(name: str = "Ann", **values: Any) -> Member:
    return await Member.query.create(name=name, email=f"{name}@example.org", **values)


# -- How to use them ------------------------------------------------------------------------------


@pytest.mark.shows(
    "How to use them: pre_save, post_save",
    "pre_save",
    "post_save",
)
async def test_saves_by_save_and_create(sessions: Sessions, recorder: Recorder) -> None:
    """Both are found in one module; save() and query.create() send them."""
    recorder.record(aksara_signals.signals.pre_save, Member)
    recorder.record(aksara_signals.signals.post_save, Member)
    await member()
    await Member(name="Bob", email="b").save()
    assert recorder.names == ["pre_save", "post_save"] * 2


@pytest.mark.shows("How to use them: pre_update, post_update", "pre_update", "post_update")
async def test_updates_of_one_and_of_a_query(sessions: Sessions, recorder: Recorder) -> None:
    """update() sends them; a query's update() does for every row, with with_signals()."""
    one, two = await member("Ann"), await member("Bob")
    recorder.record(pre_update, Member)
    recorder.record(post_update, Member)
    await one.update(name="Anna")
    assert recorder.names == ["pre_update", "post_update"]
    recorder.clear()
    await Member.query.filter(Member.id <= two.id).update(is_verified=True)
    assert recorder.calls == []
    await Member.query.filter(Member.id <= two.id).with_signals().update(is_verified=False)
    assert [(call.signal, call.payload["instance"].id) for call in recorder.calls] == [
        ("pre_update", one.id),
        ("pre_update", two.id),
        ("post_update", one.id),
        ("post_update", two.id),
    ]


@pytest.mark.shows("How to use them: pre_delete, post_delete", "pre_delete", "post_delete")
async def test_deletions_of_one_and_of_a_query(sessions: Sessions, recorder: Recorder) -> None:
    """delete() sends them; a query's delete() does with with_signals()."""
    one = await member("Ann")
    for name in ("Bob", "Cid"):
        await member(name)
    recorder.record(pre_delete, Member)
    recorder.record(post_delete, Member)
    await one.delete()
    await Member.query.filter(name="Bob").delete()
    assert recorder.names == ["pre_delete", "post_delete"]
    await Member.query.filter(name="Cid").with_signals().delete()
    assert [call.payload["instance"].name for call in recorder.calls] == ["Ann"] * 2 + ["Cid"] * 2
    assert not await Member.query.exists()


# -- Receiver -------------------------------------------------------------------------------------


@pytest.mark.shows("Receiver: an e-mail upon creation", "post_save")
async def test_an_email_upon_creation(sessions: Sessions, mailbox: Mailbox) -> None:
    """A receiver that never looked at ``created`` is kept to creations by created=True."""

    @post_save(Member, created=True)
    async def greet(sender: type, instance: Member, **kwargs: Any) -> None:
        mailbox.mail(instance.email)

    ann = await member()
    await ann.update(name="Anna")
    ann.is_verified = True
    await ann.save()
    assert mailbox.sent == ["mail to Ann@example.org"]


@pytest.mark.shows("Receiver: Requirements", "post_save")
async def test_requirements_of_receivers(sessions: Sessions, mailbox: Mailbox) -> None:
    """sender first and **kwargs: without them the receiver is refused when it is connected."""
    with pytest.raises(InvalidReceiverError):

        @post_save(Member)
        async def no_kwargs(sender: type, instance: Member) -> None: ...

    @post_save(Member)
    async def just_sender(sender: type, **kwargs: Any) -> None:
        mailbox.push(sender.__name__)

    await member()
    assert mailbox.sent == ["push to Member"]


# -- Multiple receivers ---------------------------------------------------------------------------


@pytest.mark.shows("Multiple receivers: one for several models", "post_save")
async def test_one_receiver_that_distinguishes_models(sessions: Sessions, mailbox: Mailbox) -> None:
    """isinstance() works as everywhere."""

    @post_save([Member, Badge])
    async def greet(sender: type, instance: Any, **kwargs: Any) -> None:
        if isinstance(instance, Member):
            mailbox.mail(instance.email)
        else:
            mailbox.push(instance.colour)

    await member()
    await Badge.query.create(colour="red")
    assert mailbox.sent == ["mail to Ann@example.org", "push to red"]


@pytest.mark.shows("Multiple receivers for the same model", "post_save")
async def test_every_receiver_of_a_model_runs(sessions: Sessions, mailbox: Mailbox) -> None:
    """In the order of their connection."""

    @post_save(Member)
    async def by_mail(sender: type, instance: Member, **kwargs: Any) -> None:
        mailbox.mail(instance.name)

    @post_save(Member)
    async def by_push(sender: type, instance: Member, **kwargs: Any) -> None:
        mailbox.push(instance.name)

    await member()
    assert mailbox.sent == ["mail to Ann", "push to Ann"]


@pytest.mark.parametrize("way", ["class", "instance"])
@pytest.mark.shows("Disconnecting receivers", "post_save")
async def test_disconnecting_through_meta_or_instance(
    sessions: Sessions, mailbox: Mailbox, way: str
) -> None:
    """Through the class's meta or an instance's signals."""

    @post_save(Member)
    async def greet(sender: type, instance: Member, **kwargs: Any) -> None:
        mailbox.mail(instance.name)

    ann = await member()
    emitter = Member.meta.signals if way == "class" else ann.signals
    assert emitter.post_save.disconnect(greet)
    await member("Bob")
    assert mailbox.sent == ["mail to Ann"]


# -- Custom Signals -------------------------------------------------------------------------------


@pytest.mark.shows("Custom Signals: create, connect, use, disconnect", "custom")
async def test_a_custom_signal_from_end_to_end(sessions: Sessions, mailbox: Mailbox) -> None:
    """Sent where the application decides, and by nothing else."""
    Member.meta.signals.on_verified = Signal()

    async def notify(sender: type, instance: Member, **kwargs: Any) -> None:
        mailbox.mail(instance.email)
        mailbox.push(instance.email)

    async def check(key: int) -> None:
        found = await Member.query.get(pk=key)
        if found.is_verified:
            await Member.meta.signals.on_verified.send(sender=Member, instance=found)

    Member.meta.signals.on_verified.connect(notify)
    one, two = await member("Ann", is_verified=True), await member("Bob")
    assert mailbox.sent == []
    for each in (one, two):
        await check(each.id)
    assert mailbox.sent == ["mail to Ann@example.org", "push to Ann@example.org"]
    Member.meta.signals.on_verified.disconnect(notify)
    await check(one.id)
    assert len(mailbox.sent) == 2


@pytest.mark.shows("Custom Signals: Danger", "custom")
async def test_a_custom_signal_belongs_to_derived_models_too() -> None:
    """The signal of a class is that of its subclasses and of all instances."""
    seen: list[type] = []
    Member.meta.signals.on_leave = Signal()

    @Member.meta.signals.on_leave.connect
    async def note(sender: type, **kwargs: Any) -> None:
        seen.append(sender)

    await Patron.meta.signals.on_leave.send(sender=Patron)
    await Patron(name="Eve", email="e").signals.on_leave.send(sender=Member)
    assert seen == [Patron, Member]
