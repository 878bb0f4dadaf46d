"""Relationships that lead to a class whose concrete subclasses have tables of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kit.support import Recorder
from sqlalchemy import Engine, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import post_relation_add, post_save, post_update
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "concrete_owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    things: Mapped[list[Thing]] = relationship(back_populates="owner", enable_typechecks=False)


class Thing(Base):
    __tablename__ = "concrete_thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("concrete_owner.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="things")


class Tool(Thing):
    __tablename__ = "concrete_tool"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("concrete_owner.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="things")
    __mapper_args__ = {"concrete": True}


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


@pytest.mark.parametrize("is_old", [False, True])
def test_a_member_of_a_concrete_subclass(
    session: Session, recorder: Recorder, is_old: bool
) -> None:
    """Its row gets the key as a row of the base class does, and receivers are sent both."""
    for signal in (post_save, post_update, post_relation_add):
        recorder.record(signal, sync=True)
    tool, owner = Tool(), Owner()
    session.add(owner)
    if is_old:
        session.add(tool)
        session.commit()
        recorder.clear()
    owner.things.append(tool)
    session.commit()
    assert tool.owner_id == owner.id
    sent = [call.payload["instance"] for call in recorder.of(post_save)]
    assert sent == ([tool] if is_old else [owner, tool])
    assert [call.payload["instance"] for call in recorder.of(post_relation_add)] == [owner]
    assert len(recorder.of(post_update)) == is_old
