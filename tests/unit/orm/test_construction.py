"""pre_init and post_init: sent by constructors, hooked in only while a receiver is connected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit import databases
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column

from aksara_signals import AsyncReceiverError, SignalContext, post_init, pre_init
from aksara_signals.orm import SignalMixin, register, unregister


class Base(SignalMixin, DeclarativeBase):
    pass


class Plain(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")


class Titled(Note):
    __mapper_args__ = {"polymorphic_identity": "titled"}

    def __init__(self, title: str, /, text: str, *more: str, **rest: Any) -> None:
        super().__init__(text=text, **rest)
        self.title, self.more = title, more


class Outsider(Plain):
    __tablename__ = "outsider"
    id: Mapped[int] = mapped_column(primary_key=True)


class DataBase(MappedAsDataclass, SignalMixin, DeclarativeBase):
    pass


class Item(DataBase):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]
    size: Mapped[int] = mapped_column(default=3)


@pytest.fixture
def received() -> list[Any]:
    """What both signals sent, in order."""
    calls: list[Any] = []

    @pre_init
    def before(sender: type, args: list[Any], kwargs: dict[str, Any], **rest: Any) -> None:
        calls.append(("pre", sender, list(args), dict(kwargs)))

    @post_init
    def after(sender: type, instance: Any, **rest: Any) -> None:
        calls.append(("post", sender, instance))

    return calls


def test_both_are_sent_around_construction(received: list[Any]) -> None:
    """pre_init with what was given, post_init with the finished instance, once each."""
    note = Note(text="a")
    assert received == [("pre", Note, [], {"text": "a"}), ("post", Note, note)]
    received.clear()
    titled = Titled("t", "x")
    assert received == [("pre", Titled, ["t"], {"text": "x"}), ("post", Titled, titled)]
    received.clear()
    titled = Titled("t", "x", "y", "z", id=5)
    assert received[0] == ("pre", Titled, ["t", "x", "y", "z"], {"id": 5})
    assert (titled.text, titled.more) == ("x", ("y", "z"))
    assert received[1:] == [("post", Titled, titled)]


@pytest.mark.parametrize("kwargs", [{"name": "a"}, {"name": "a", "size": 5}])
def test_dataclasses_send_what_was_given(received: list[Any], kwargs: dict[str, Any]) -> None:
    """Defaults of a mapped dataclass are its own business, on every version of SQLAlchemy."""
    item = Item(**kwargs)
    assert received == [("pre", Item, [], kwargs), ("post", Item, item)]
    assert item.size == kwargs.get("size", 3)


def test_receivers_change_what_is_constructed() -> None:
    """Changed in place, args and kwargs are what the constructor gets."""

    @pre_init(Note)
    def fill(kwargs: dict[str, Any], **rest: Any) -> None:
        kwargs["text"] = "filled"

    assert Note().text == "filled"
    assert Note(text="given").text == "filled"


def test_a_receiver_may_refuse() -> None:
    """What pre_init raises is what the constructor raises."""

    @pre_init(Note)
    def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Note()


async def test_loading_is_not_construction(async_engine: AsyncEngine, received: list[Any]) -> None:
    """Nothing is sent for instances that come from the database."""
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        session.add(Note(text="a"))
        await session.commit()
    received.clear()
    async with AsyncSession(async_engine) as session:
        assert (await session.scalars(select(Note))).one().text == "a"
    assert received == []


def original(cls: type) -> Any:
    return inspect(cls).class_manager.original_init


def test_unused_construction_is_untouched() -> None:
    """Without receivers SQLAlchemy's own constructor is in place, before and after."""
    before = original(Note)
    one = pre_init.connect(lambda **kwargs: None, sender=Note)
    assert original(Note) is not before
    two = post_init.connect(lambda **kwargs: None)
    pre_init.disconnect(one, sender=Note)
    assert original(Note) is not before
    post_init.disconnect(two)
    assert original(Note) is before


def test_classes_mapped_later_send_as_well(received: list[Any]) -> None:
    """A class that is mapped while a receiver is connected is hooked in too; others are not."""

    class Late(Base):
        __tablename__ = "late"
        id: Mapped[int] = mapped_column(primary_key=True)

    class LateOutsider(Plain):
        __tablename__ = "late_outsider"
        id: Mapped[int] = mapped_column(primary_key=True)

    late = Late()
    LateOutsider()
    assert received == [("pre", Late, [], {}), ("post", Late, late)]


def test_registered_classes_send_as_well(received: list[Any]) -> None:
    """register() and unregister() hook in and out at once."""
    Outsider()
    assert received == []
    register(Outsider)
    outsider = Outsider()
    assert received == [("pre", Outsider, [], {}), ("post", Outsider, outsider)]
    unregister(Outsider)
    Outsider()
    assert len(received) == 2


def test_silence_covers_construction(received: list[Any]) -> None:
    """A silenced model is constructed without signals."""
    with SignalContext.disable_for(Note):
        Note()
    assert received == []


async def test_async_receivers_must_not_wait(async_engine: AsyncEngine) -> None:
    """A receiver can't wait in a constructor, but it can inside a flush."""
    await databases.create_all(async_engine, Base.metadata)

    @post_init(Note)
    async def ready(instance: Note, **kwargs: Any) -> None:
        instance.text = "ready"

    assert Note().text == "ready"

    @post_init(Note)
    async def waiting(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    with pytest.raises(AsyncReceiverError):
        Note()

    def construct(session: Session) -> str:
        return Note().text

    async with AsyncSession(async_engine) as session:
        assert await session.run_sync(construct) == "ready"
