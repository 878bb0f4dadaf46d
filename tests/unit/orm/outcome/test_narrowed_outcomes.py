"""Deferred and durable receivers that are called only for certain changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit.committing import COMMIT, ROLLBACK
from kit.tickets import Base, Bug, Place, Ticket
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from aksara_signals import SignalContext, post_save, post_update
from aksara_signals.orm.flush.requested import save
from aksara_signals.orm.outcome import durable
from aksara_signals.orm.outcome.durable import DurableSend, install_writer

OPEN = {"status": ("new", "open")}
_numbers = itertools.count()


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def called() -> list[str]:
    """What was called, in order."""
    return []


@pytest.fixture
def narrowed(called: list[str]) -> Callable[..., Any]:
    """Connects a deferred receiver that notes its name."""

    def connect(name: str, signal: Any = post_save, sender: Any = Ticket, **options: Any) -> Any:
        def note(**kwargs: Any) -> None:
            called.append(name)

        return signal.connect(note, sender, **{"phase": COMMIT, **options})

    return connect


def stored(session: Session, **values: Any) -> Ticket:
    """A row, before any receiver is called."""
    with SignalContext(Ticket):
        session.add(ticket := Ticket(**values))
        session.commit()
    return ticket


def test_a_deferred_receiver_is_judged_by_its_flush(
    session: Session, called: list[str], narrowed: Any
) -> None:
    """Each flush on its own, whatever the row is like when it is called."""
    ticket = stored(session, status="new", title="x", place=Place("A", 1))
    narrowed("open", transition=OPEN)
    narrowed("status", fields=["status"])
    narrowed("title", fields=["title"])
    narrowed("place", transition={"place": (Place("A", 1), Place("A", 2))})
    ticket.status, ticket.room = "open", 2
    session.flush()
    ticket.status = "new"
    session.flush()
    assert called == []
    session.commit()
    assert called == ["open", "status", "place", "status"]


def test_so_is_one_of_a_rollback(session: Session, called: list[str], narrowed: Any) -> None:
    """And of a savepoint's."""
    ticket = stored(session, status="new", title="x")
    narrowed("status", fields=["status"], phase=ROLLBACK)
    narrowed("kept", fields=["status", "title"])
    with session.begin_nested() as savepoint:
        ticket.status = "open"
        session.flush()
        savepoint.rollback()
    ticket.title = "y"
    session.commit()
    assert called == ["status", "kept"]


def test_a_new_row_has_what_was_set_and_its_defaults(
    session: Session, called: list[str], narrowed: Any
) -> None:
    """For those of the net, too."""
    for coalesce in (False, True):
        narrowed(f"status {coalesce}", fields=["status"], coalesce=coalesce)
        narrowed(f"title {coalesce}", fields=["title"], coalesce=coalesce)
        narrowed(f"new {coalesce}", transition={"status": (None, "new")}, coalesce=coalesce)
        narrowed(f"inbox {coalesce}", transition={"queue": (None, "inbox")}, coalesce=coalesce)
    session.add(Ticket(title="x"))
    session.commit()
    assert called == [
        f"{name} {each}" for each in (False, True) for name in ("title", "new", "inbox")
    ]


NETS: list[tuple[list[str | None], list[str]]] = [
    (["open"], ["field", "open", "any"]),
    (["x", "open"], ["field", "open", "any"]),
    (["open", "new"], []),
    (["open", "done"], ["field", "any"]),
    (["x", "new", "open"], ["field", "open", "any"]),
    (["new"], []),
]


@pytest.mark.parametrize(("values", "expected"), NETS)
def test_a_coalescing_receiver_is_judged_by_the_net(
    session: Session, called: list[str], narrowed: Any, values: list[str], expected: list[str]
) -> None:
    """Of the transaction, in which other attributes change as well."""
    ticket = stored(session, status="new", title="x")
    narrowed("field", fields=["status"], coalesce=True)
    narrowed("open", transition=OPEN, coalesce=True)
    narrowed("any", post_update, transition={"status": ("new", ...)}, coalesce=True)
    narrowed("created", fields=["status"], coalesce=True, created=True)
    narrowed("place", fields=["place"], coalesce=True)
    for number, value in enumerate(values):
        ticket.status, ticket.title = value, f"x{number}"
        session.flush()
    session.commit()
    assert sorted(called) == sorted(expected)


def test_the_net_of_a_new_row_is_an_insert(
    session: Session, called: list[str], narrowed: Any
) -> None:
    """What was changed after the INSERT was set, and its old value is None."""
    narrowed("status", fields=["status"], coalesce=True)
    narrowed("level", fields=["level"], coalesce=True)
    narrowed("open", transition=OPEN, coalesce=True)
    narrowed("to open", transition={"status": (None, "open")}, coalesce=True)
    narrowed("place", transition={"place": (None, Place("A", 2))}, coalesce=True)
    session.add(ticket := Ticket(title="x", building="A"))
    session.flush()
    ticket.status = "open"
    session.flush()
    ticket.room = 2
    session.commit()
    assert called == ["status", "to open", "place"]


@pytest.mark.parametrize("coalesce", [False, True])
def test_a_receiver_with_several_connections_is_called_once(
    session: Session, called: list[str], narrowed: Any, coalesce: bool
) -> None:
    """For a flush, or for the net of a row."""
    ticket = stored(session, status="new", title="x")
    receiver = narrowed("it", fields=["status"], coalesce=coalesce)
    options: dict[str, Any] = {"phase": COMMIT, "coalesce": coalesce}
    post_save.connect(receiver, Ticket, fields=["title"], **options)
    ticket.status = ticket.title = "open"
    session.commit()
    assert called == ["it"]
    called.clear()
    ticket.title = "z"
    session.flush()
    ticket.status = "done"
    session.commit()
    assert called == (["it"] if coalesce else ["it", "it"])
    called.clear()
    ticket.room = 5
    session.commit()
    assert called == []


def test_filters_by_created_leave_one_call_of_the_net(
    session: Session, called: list[str], narrowed: Any
) -> None:
    """A receiver of a class and of its subclass, too."""
    receiver = narrowed("it", sender=Bug, created=True, coalesce=True)
    post_save.connect(receiver, Ticket, phase=COMMIT, coalesce=True)
    now = narrowed("now", sender=Bug, created=True, phase="immediate")
    post_save.connect(now, Ticket)
    session.add(bug := Bug(title="x"))
    session.commit()
    assert called == ["now", "it"]
    bug.title = "y"
    session.commit()
    assert called == ["now", "it"] * 2


def test_a_requested_save_that_writes_nothing_calls_none(
    session: Session, called: list[str], narrowed: Any
) -> None:
    """Those without filters are called."""
    ticket = stored(session, status="new")
    narrowed("all")
    narrowed("status", fields=["status"])
    narrowed("net", fields=["status"], coalesce=True)
    save(session, ticket)
    session.commit()
    assert called == ["all"]


def test_sends_by_hand_are_judged_when_they_are_queued(
    session: Session, called: list[str], narrowed: Any
) -> None:
    """By the changes that are sent."""
    ticket = stored(session, status="new")
    narrowed("open", transition=OPEN)
    narrowed("net", transition=OPEN, coalesce=True)
    for changes in (None, {"status": ("new", "done")}, {"status": ("new", "open")}):
        post_save.send_sync(Ticket, instance=ticket, session=session, changes=changes)
    session.commit()
    assert called == ["open", "net"]


# -- durable ones ----------------------------------------------------------------------------------


class FakeWriter:
    """Notes for which receivers something would be stored."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    def prepare(self, sends: Any) -> list[Any]:
        found: list[DurableSend] = list(sends)
        self.stored += [
            str(connection.durable_name).rpartition(".")[2]
            for each in found
            for connection in each.connections
        ]
        return found

    def write(self, session: Session, rows: list[Any]) -> None:
        """Nothing is written."""


@pytest.fixture
def writer() -> Iterator[FakeWriter]:
    before = durable._writer
    writer = FakeWriter()
    install_writer(writer)
    yield writer
    install_writer(before)


def test_only_what_lets_a_change_through_is_stored(session: Session, writer: FakeWriter) -> None:
    """Whether a flush has sent it, or a send by hand."""

    def connect(name: str, receiver: Any = None, **options: Any) -> Any:
        name = f"narrowed{next(_numbers)}.{name}"
        return post_save.connect(lambda **kwargs: None, Ticket, durable=name, **options)

    ticket = stored(session, status="new", title="x")
    connect("all")
    connect("open", transition=OPEN)
    connect("title", fields=["title"])
    ticket.status = "open"
    session.commit()
    ticket.room = 3
    session.commit()
    assert writer.stored == ["all", "open", "all"]
    writer.stored.clear()
    session.add(Ticket(status="open", title="y"))
    session.commit()
    assert writer.stored == ["all", "title"]
    writer.stored.clear()
    changes = {"status": ("new", "open")}
    post_save.send_sync(Ticket, instance=ticket, session=session, changes=changes)
    assert writer.stored == ["all", "open"]


def test_a_durable_receiver_with_several_connections_is_stored_once(
    session: Session, writer: FakeWriter
) -> None:
    """For each send."""
    ticket = stored(session, status="new", title="x")

    def index(**kwargs: Any) -> None: ...

    name = f"narrowed{next(_numbers)}.it"
    post_save.connect(index, Ticket, durable=name, fields=["status"])
    post_save.connect(index, Ticket, durable=name, fields=["title"])
    ticket.status = ticket.title = "z"
    session.commit()
    assert writer.stored == ["it"]
