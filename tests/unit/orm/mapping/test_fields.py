"""Attributes that receivers can be narrowed to, and attributes given in the place of a sender."""

from __future__ import annotations

from typing import Any

import pytest
from kit.tickets import Base, Bug, Team, Ticket
from sqlalchemy import create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    relationship,
)

from aksara_signals import (
    Connection,
    InvalidOptionError,
    InvalidSenderError,
    Signal,
    UnknownFieldError,
    post_bulk_update,
    post_delete,
    post_save,
    pre_save,
    receiver,
)
from aksara_signals.orm import SignalMixin


def note(**kwargs: Any) -> None: ...


def own(signal: Signal) -> list[Connection]:
    """The connections that the test has made: other modules may have made some."""
    return [
        each for each in signal.connections if getattr(each.receiver, "__module__", "") == __name__
    ]


WRONG = {
    "misspelt": ("statsu", r"'statsu' .* did you mean 'status'"),
    "unknown": ("colour", r"neither a column nor a composite"),
    "relationship": ("team", r"foreign key"),
    "relationship itself": (Ticket.team, r"foreign key"),
    "column_property": ("twice", r"only read"),
    "synonym": ("state", r"'status'"),
    "of a subclass": ("severity", r"neither"),
    "of another class": (Team.id, r"attribute of Team"),
    "of a subclass itself": (Bug.severity, r"attribute of Bug"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_class_never_changes_is_refused(name: str) -> None:
    """When the receiver is connected, with what was meant."""
    given, words = WRONG[name]
    for options in ({"fields": [given]}, {"transition": {given: (1, 2)}}):
        for sender in (Ticket, [Bug, Ticket], "kit.tickets.Ticket"):
            with pytest.raises(UnknownFieldError, match=words) as refused:
                post_save.connect(note, sender, **options)
            assert "kit.tickets." in str(refused.value)
    assert own(post_save) == []


def test_columns_and_composites_can_be_named() -> None:
    """By their names, or as attributes of the class or of a base."""
    post_save.connect(note, Bug, fields=["status", Ticket.title, Bug.place, "severity"])
    [connection] = own(post_save)
    assert connection.fields == {"status", "title", "place", "severity"}
    post_save.connect(note, Bug, transition={Bug.status: (1, 2), "title": (..., 1)})
    assert set(own(post_save)[1].transition or ()) == {"status", "title"}
    with pytest.raises(InvalidOptionError, match="twice"):
        post_save.connect(note, Bug, transition={Bug.status: (1, 2), "status": (..., 1)})


def test_an_attribute_stands_for_its_class_and_itself() -> None:
    """However senders are given."""

    @pre_save(Ticket.status)
    @post_save(Ticket.status)
    @post_bulk_update([Ticket.status])
    def one(**kwargs: Any) -> None: ...

    @post_save(sender=Bug.severity)
    @receiver(pre_save, sender=Bug.severity)
    def inner(**kwargs: Any) -> None: ...

    @post_save(Ticket.status, Ticket.place, Team, "ClassOfNoModule", Bug.status)
    def several(**kwargs: Any) -> None: ...

    found = [(each.receiver, each.sender, each.fields) for each in own(post_save)]
    assert found == [
        (one, Ticket, {"status"}),
        (inner, Bug, {"severity"}),
        (several, Ticket, {"status", "place"}),
        (several, Bug, {"status"}),
        (several, Team, None),
        (several, "ClassOfNoModule", None),
    ]
    assert [each.fields for each in own(pre_save)] == [{"status"}, {"severity"}]
    assert [each.fields for each in own(post_bulk_update)] == [{"status"}]


def test_disconnecting_from_an_attribute_undoes_that_connection_only() -> None:
    """As connecting to it made it."""
    post_save.connect(note, Ticket)
    post_save.connect(note, Ticket.status)
    assert not post_save.disconnect(note, Ticket.title)
    assert post_save.disconnect(note, Ticket.status)
    assert [each.fields for each in own(post_save)] == [None]


def test_attributes_are_given_in_one_way() -> None:
    """Beside fields= or their own class they are refused."""
    with pytest.raises(InvalidOptionError, match="in one way"):
        post_save.connect(note, Ticket.status, fields=["title"])
    with pytest.raises(InvalidOptionError, match="in one way"):
        post_save(Ticket.status, fields=["status"])
    with pytest.raises(InvalidOptionError, match="leave one of them out"):
        post_save(Ticket, Ticket.status)
    assert own(post_save) == []


@pytest.mark.parametrize(
    "sender", [Ticket.team, Ticket.twice, Ticket.state, aliased(Ticket).status], ids=range(4)
)
def test_other_attributes_are_no_senders(sender: Any) -> None:
    """They have no changes of their own."""
    with pytest.raises(InvalidSenderError):
        post_save.connect(note, sender)


def test_signals_without_changes_refuse_attributes() -> None:
    """And name the class."""
    with pytest.raises(InvalidSenderError, match=r"@post_delete\(Ticket\)"):
        post_delete.connect(note, Ticket.status)


def test_an_attribute_configures_no_mappers() -> None:
    """It may stand right below its class, while the classes around it are still missing."""

    class Own(SignalMixin, DeclarativeBase):
        pass

    class Early(Own):
        __tablename__ = "early_fields"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        later: Mapped[Any] = relationship("NotThereYet")

    post_save.connect(note, Early.name)
    post_save.connect(note, Early, transition={Early.name: (1, 2), "id": (..., ...)})
    with pytest.raises(UnknownFieldError, match="relationship"):
        post_save.connect(note, Early, fields="later")
    assert not Early.__mapper__.configured
    Own.registry.dispose()


class Dated:
    """A mixin, whose columns belong to the classes that come."""

    at: Mapped[int | None] = mapped_column()


def test_a_class_that_comes_later_is_checked_at_its_first_send() -> None:
    """Whether its name was given, or a base."""

    class Own(SignalMixin, DeclarativeBase):
        pass

    post_save.connect(note, "LateField", fields=["naem"])

    class LateField(Own):
        __tablename__ = "late_field"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]

    class Event(Dated, Own):
        __tablename__ = "late_event"
        id: Mapped[int] = mapped_column(primary_key=True)

    engine = create_engine("sqlite://")
    Own.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(LateField())
        for _ in range(2):
            with pytest.raises(UnknownFieldError, match=r"note .*did you mean 'name'"):
                session.flush()
        session.rollback()
        post_save.disconnect(note, "LateField")
        called: list[object] = []
        post_save.connect(lambda instance, **kwargs: called.append(instance), Dated, fields="at")
        session.add_all([LateField(), event := Event(at=1)])
        session.flush()
        assert called == [event]
        post_save.connect(note, Own, fields="at")
        session.add(LateField())
        with pytest.raises(UnknownFieldError, match=r"LateField: 'at' is neither"):
            session.flush()
        session.rollback()
    engine.dispose()


def test_names_of_classes_that_are_not_mapped_are_not_checked() -> None:
    """They may send by hand, and nobody knows their attributes."""
    assert Base.metadata.tables
    post_save.connect(lambda **kwargs: None, int, fields="anything")
    assert post_save.send_sync(int, instance=1, changes={"anything": (1, 2)}) != []
