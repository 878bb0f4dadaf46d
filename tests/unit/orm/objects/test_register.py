"""register and unregister: classes without the mixin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declarative_base, mapped_column

from aksara_signals import UnmappedClassError, post_save
from aksara_signals.orm import register, unregister
from aksara_signals.orm.install import install_listeners
from aksara_signals.orm.mapping.registered import Upkeep


class Shared:
    """A base of mapped classes that isn't mapped itself."""


class Base(DeclarativeBase):
    pass


class Thing(Shared, Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


@pytest.mark.parametrize("cls", [Thing, Shared, Base, object])
def test_a_class_or_a_base_is_registered(session: Session, cls: type) -> None:
    """Mapped classes, their bases mapped or not, and object make instances send, until undone."""
    received: list[Any] = []
    post_save.connect(lambda instance, **k: received.append(instance))
    session.add(Thing())
    session.flush()
    assert received == []
    register(cls)
    thing = Thing()
    session.add(thing)
    session.flush()
    assert received == [thing]
    unregister(cls)
    unregister(cls)
    session.add(Thing())
    session.flush()
    assert received == [thing]


def test_a_base_without_models_is_registered() -> None:
    """A declarative base may be registered before its first model exists."""
    empty = declarative_base()
    register(empty)
    unregister(empty)


@pytest.mark.parametrize("wrong", [int, "Thing", Thing.id, None])
def test_what_is_not_mapped_is_refused(session: Session, wrong: Any) -> None:
    """An unmapped class is refused with the way out, and nothing is registered."""
    received: list[Any] = []
    post_save.connect(lambda instance, **k: received.append(instance))
    with pytest.raises(UnmappedClassError, match="map it first"):
        register(Thing, wrong)
    session.add(Thing())
    session.commit()
    assert received == []


def test_listeners_are_installed_once(session: Session) -> None:
    """Installing again changes nothing: one write is one delivery."""
    install_listeners()
    register(Thing)
    received: list[Any] = []
    post_save.connect(lambda instance, **k: received.append(instance))
    session.add(Thing())
    session.commit()
    unregister(Thing)
    assert len(received) == 1


@pytest.mark.parametrize("verb", [register, unregister])
def test_what_is_no_class_is_refused_by_the_name_of_the_verb(verb: Any) -> None:
    """With what to give instead."""
    with pytest.raises(UnmappedClassError, match=rf"^{verb.__name__}\(\) was given 'User', which"):
        verb("User")


def test_upkeep_that_asks_for_itself_is_done_once_more() -> None:
    """As where a finaliser connects in the midst of it: not inside itself, but afterwards."""
    done: list[str] = []

    @Upkeep
    def upkeep() -> None:
        done.append("begun")
        if len(done) == 1:
            upkeep()
        done.append("ended")

    upkeep()
    assert done == ["begun", "ended"] * 2
