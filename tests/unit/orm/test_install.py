"""What the unit of work gives to the dispatcher."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import (
    AmbiguousSenderError,
    Signal,
    UnresolvedSenderError,
    check_senders,
    post_save,
)
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.install import install_listeners


class Base(SignalMixin, DeclarativeBase):
    pass


class Twofold(Base):
    __tablename__ = "twofold"

    id: Mapped[int] = mapped_column(primary_key=True)


def note(**kwargs: object) -> None: ...


def test_a_name_of_two_mapped_classes_is_ambiguous() -> None:
    """Also if one of them comes after the connection."""
    signal, first = Signal(), Twofold
    signal.connect(note, sender="Twofold")
    assert len(signal.send_sync(first)) == 1

    class Others(SignalMixin, DeclarativeBase):
        pass

    another = type(
        "Twofold",
        (Others,),
        {
            "__module__": "elsewhere",
            "__tablename__": "twofold",
            "id": mapped_column(Integer, primary_key=True),
        },
    )
    for sender in (first, another):
        with pytest.raises(AmbiguousSenderError):
            signal.send_sync(sender)
    with pytest.raises(AmbiguousSenderError):
        Signal().connect(note, sender="Twofold")


def test_everything_is_listened_to_once(sync_engine: Engine) -> None:
    """However often it is asked for."""
    install_listeners()
    sent: list[object] = []
    post_save.connect(lambda instance, **kwargs: sent.append(instance), sender=Twofold)
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add(row := Twofold())
        session.commit()
        assert sent == [row]


def test_the_nearest_mapped_class_is_offered() -> None:
    """For a name that has a slip in it."""
    post_save.connect(note, sender="Twofolds")
    with pytest.raises(UnresolvedSenderError, match="did you mean 'Twofold'"):
        check_senders()
