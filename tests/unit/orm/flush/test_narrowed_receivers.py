"""Receivers that are called only for certain changes, in a flush."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit import databases
from kit.tickets import Base, Bug, Level, Place, Team, Ticket
from sqlalchemy import event, func, literal
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import (
    Signal,
    SignalContext,
    post_save,
    post_update,
    pre_save,
    pre_update,
)

SAVES = [pre_save, post_save]
UPDATES = [pre_save, pre_update, post_update, post_save]


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def called() -> list[str]:
    """What was called, in order."""
    return []


@pytest.fixture
def narrowed(called: list[str]) -> Callable[..., Any]:
    """Connects a receiver that notes its name; async if asked."""

    def connect(
        signal: Signal, name: str, sender: Any = Ticket, *, sync: bool = True, **options: Any
    ) -> Any:
        if sync:

            def note(**kwargs: Any) -> None:
                called.append(f"{signal.name} {name}" if name[0] != "*" else name)

            return signal.connect(note, sender, **options)

        async def note_async(**kwargs: Any) -> None:
            called.append(f"{signal.name} {name}" if name[0] != "*" else name)

        return signal.connect(note_async, sender, **options)

    return connect


async def stored(session: AsyncSession, **values: Any) -> Ticket:
    """A row, before any receiver is connected."""
    with SignalContext(Ticket):
        session.add(ticket := Ticket(**values))
        await session.commit()
    return ticket


@contextmanager
def selects(session: AsyncSession) -> Iterator[list[str]]:
    """Notes the SELECTs of a session."""
    noted: list[str] = []
    engine = session.bind.sync_engine  # type: ignore[union-attr]

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            noted.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield noted
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("sync", [True, False])
async def test_a_receiver_is_called_if_one_of_its_fields_changed(
    session: AsyncSession, called: list[str], narrowed: Any, sync: bool
) -> None:
    """Before and after an UPDATE."""
    ticket = await stored(session, status="new", title="x")
    for signal in UPDATES:
        narrowed(signal, "status", fields=["status", "level"], sync=sync)
    ticket.title = "y"
    await session.flush()
    assert called == []
    ticket.status = "open"
    await session.flush()
    assert called == [f"{signal.name} status" for signal in UPDATES]


async def test_a_new_row_counts_if_a_field_was_set(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """A default sets nothing; None does, and so does a relationship, once it is written."""
    for signal in SAVES:
        for name in ("status", "title", "queue", "id", "team_id", "place"):
            narrowed(signal, name, fields=[name])
    session.add(Ticket())
    await session.flush()
    assert called == []
    session.add(Ticket(status=None, title="x", place=Place("A", 1)))
    await session.flush()
    names = ("status", "title", "place")
    assert called == [f"{signal.name} {name}" for signal in SAVES for name in names]
    called.clear()
    session.add(Ticket(team=Team()))
    await session.flush()
    assert called == ["post_save team_id"]


async def test_the_new_value_of_a_new_row_is_what_the_row_has(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """Defaults included, before the INSERT too where they are values; its old value is None."""
    for signal in SAVES:
        narrowed(signal, "new", transition={"status": (None, "new")})
        narrowed(signal, "any", transition={"status": (..., ...)})
        narrowed(signal, "from new", transition={"status": ("new", ...)})
        narrowed(signal, "from nothing or new", transition={"status": ({None, "new"}, "open")})
        narrowed(signal, "nothing", transition={"title": (..., ...)})
        narrowed(signal, "any queue", transition={"queue": (None, ...)})
    narrowed(pre_save, "inbox", transition={"queue": (None, "inbox")})
    session.add(Ticket())
    await session.flush()
    for signal in SAVES:
        assert [each for each in called if each.startswith(signal.name)] == [
            f"{signal.name} {name}" for name in ("new", "any", "any queue")
        ]
    called.clear()
    session.add(Ticket(status="open", title=None))
    await session.flush()
    names = ("any", "from nothing or new", "nothing", "any queue")
    assert called == [f"{signal.name} {name}" for signal in SAVES for name in names]


async def test_the_database_s_default_is_known_after_the_insert(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """It comes back with the key, or is loaded for an async receiver."""
    narrowed(post_save, "inbox", transition={"queue": (None, "inbox")}, sync=False)
    narrowed(post_save, "outbox", transition={"queue": (None, "outbox")}, sync=False)
    session.add(Ticket())
    await session.flush()
    assert called == ["post_save inbox"]


TRANSITIONS: list[tuple[dict[str, Any], bool]] = [
    ({"status": ("new", "open")}, True),
    ({"status": ("new", ...)}, True),
    ({"status": (..., "open")}, True),
    ({"status": (..., ...)}, True),
    ({"status": ({"new", "old"}, frozenset(["open", "closed"]))}, True),
    ({"status": ("open", "new")}, False),
    ({"status": ({"open"}, ...)}, False),
    ({"status": (None, "open")}, False),
    ({"title": ("x", ...)}, False),
    ({"status": (..., ...), "title": (..., ...)}, False),
    ({"status": ("new", "open"), "level": (Level.LOW, Level.HIGH)}, True),
    ({"status": ("new", "open"), "level": (Level.LOW, Level.LOW)}, False),
    ({Ticket.status: ("new", "open"), "level": ({Level.LOW}, ...)}, True),
    ({"code": ("aBc", "XYZ")}, True),
    ({"code": ({"q", "abc"}, {"xyz"})}, True),
    ({"code": ("abc", "abcd")}, False),
    ({"place": (Place("A", 1), Place("A", 2))}, True),
    ({"place": (..., {Place("B", 2), Place("A", 2)})}, True),
    ({"place": (Place("A", 2), ...)}, False),
    ({"place": (..., Place("B", 2))}, False),
    ({"place": (None, ...)}, False),
    ({"place": (..., "A")}, False),
    ({"room": (1, 2)}, True),
    ({"building": (..., "A")}, False),
]


@pytest.mark.parametrize(("transition", "fits"), TRANSITIONS, ids=range(len(TRANSITIONS)))
async def test_a_transition_is_judged_as_sqlalchemy_compares(
    session: AsyncSession, called: list[str], narrowed: Any, transition: Any, fits: bool
) -> None:
    """Each attribute must have changed, from an old value to a new one that are meant."""
    ticket = await stored(
        session, status="new", level=Level.LOW, code="Abc", building="A", room=1, title="x"
    )
    for signal in UPDATES:
        narrowed(signal, "it", transition=transition)
    ticket.status, ticket.level, ticket.code, ticket.room = "open", Level.HIGH, "xyz", 2
    await session.flush()
    assert called == [f"{signal.name} it" for signal in UPDATES if fits]


async def test_a_value_that_the_column_s_type_takes_for_the_same_is_no_change(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """An UPDATE of something else doesn't count for it."""
    ticket = await stored(session, code="abc", place=Place("A", 1))
    narrowed(post_save, "it", fields=["code", "place"])
    ticket.code, ticket.place, ticket.title = "ABC", Place("A", 1), "x"
    await session.flush()
    assert called == []
    ticket.place = Place("A", 2)
    await session.flush()
    assert called == ["post_save it"]


@pytest.mark.parametrize("sync", [True, False])
async def test_what_earlier_receivers_set_counts(
    session: AsyncSession, called: list[str], narrowed: Any, sync: bool
) -> None:
    """And what they undo doesn't; a receiver at an earlier place is not called any more."""
    first = await stored(session, title="a", status="new")
    second = await stored(session, title="b", status="new")
    narrowed(pre_save, "*early", fields=["status"], sync=sync)

    def change(instance: Ticket, **kwargs: Any) -> None:
        called.append(f"*{instance.title}")
        instance.status = "open" if instance is first else "new"

    async def change_async(instance: Ticket, **kwargs: Any) -> None:
        change(instance)

    pre_save.connect(change if sync else change_async, Ticket)
    narrowed(pre_save, "*late", fields=["status"], sync=sync)
    narrowed(pre_update, "*later", transition={"status": ("new", "open")}, sync=sync)
    narrowed(post_save, "*after", fields=["status"], sync=sync)
    first.title, second.status = "a2", "open"
    await session.flush()
    assert called == ["*a2", "*late", "*later", "*early", "*b", "*after"]


async def test_receivers_after_the_flush_are_judged_by_what_it_wrote(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """What a post receiver sets belongs to the next flush."""
    ticket = await stored(session, status="new", title="x", place=Place("A", 1))

    @post_save(Ticket)
    def change(instance: Ticket, **kwargs: Any) -> None:
        if instance.status == "open":
            instance.status, instance.room = "done", 9

    narrowed(post_save, "open", transition={"status": ("new", "open")})
    narrowed(post_save, "done", transition={"status": ("open", "done")})
    narrowed(post_save, "moved", transition={"place": (Place("A", 1), Place("B", 1))})
    ticket.status, ticket.building = "open", "B"
    await session.flush()
    assert called == ["post_save open", "post_save moved"]
    await session.flush()
    assert called[2:] == ["post_save done"]


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("how", ["expired", "deferred"])
async def test_an_unknown_old_value_is_read_first(
    session: AsyncSession, called: list[str], narrowed: Any, sync: bool, how: str
) -> None:
    """For a field too: what is assigned may be what the row has."""
    same, other = [await stored(session, status="new", notes="new") for _ in "ab"]
    session.expire_all()
    name = "status" if how == "expired" else "notes"
    for signal in (pre_save, post_save):
        narrowed(signal, "from new", transition={name: ("new", "open")}, sync=sync)
        narrowed(signal, "field", fields=[name], sync=sync)
    setattr(same, name, "new")
    setattr(other, name, "open")
    with selects(session) as noted:
        await session.flush()
    assert called == [f"{each.name} {name}" for each in SAVES for name in ("from new", "field")]
    assert len([each for each in noted if f"ticket.{name}" in each]) == 1


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("name", ["status", "notes"])
async def test_so_is_one_that_a_receiver_assigned(
    session: AsyncSession, called: list[str], narrowed: Any, sync: bool, name: str
) -> None:
    """Although a query can't be made between async receivers."""
    ticket = await stored(session, status="new", notes="new")
    session.expire_all()

    def change(instance: Ticket, **kwargs: Any) -> None:
        setattr(instance, name, "open")

    async def change_async(instance: Ticket, **kwargs: Any) -> None:
        setattr(instance, name, "open")

    pre_save.connect(change if sync else change_async, Ticket)
    for signal in (pre_save, pre_update, post_save):
        narrowed(signal, "yes", transition={name: ("new", "open")}, sync=sync)
        narrowed(signal, "no", transition={name: (None, "open")}, sync=sync)
    ticket.title = "x"
    await session.flush()
    assert called == ["pre_save yes", "pre_update yes", "post_save yes"]


async def test_what_the_database_computes_has_a_new_value_afterwards(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """Before, only ... matches it."""
    ticket = await stored(session, status="new", title="x")
    for signal in SAVES:
        narrowed(signal, "any", transition={"status": ("new", ...)})
        narrowed(signal, "open", transition={"status": (..., "open")})
        narrowed(signal, "field", fields=["status"])
    ticket.status = func.lower(literal("OPEN"))
    await session.flush()
    assert called == [
        "pre_save any",
        "pre_save field",
        *(f"post_save {name}" for name in ("any", "open", "field")),
    ]


async def test_a_requested_save_that_writes_nothing_changes_nothing(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """Receivers without filters are called for it."""
    ticket = await stored(session, status="new")
    for signal in UPDATES:
        narrowed(signal, "status", fields=["status"])
        narrowed(signal, "any", transition={"status": (..., ...)})
    narrowed(post_save, "all")
    await ticket.save(session)
    assert called == ["post_save all"]


async def test_a_partial_save_is_judged_by_what_it_writes(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """What stays pending counts in the flush that writes it."""
    ticket = await stored(session, status="new", title="x")
    narrowed(post_save, "status", fields=["status"])
    narrowed(post_save, "title", fields=["title"])
    ticket.status, ticket.title = "open", "y"
    await ticket.save(session, update_fields=["title"])
    assert called == ["post_save title"]
    await session.flush()
    assert called == ["post_save title", "post_save status"]


@pytest.mark.parametrize("sync", [True, False])
async def test_concurrent_receivers_are_judged_when_their_group_runs(
    session: AsyncSession, called: list[str], narrowed: Any, sync: bool
) -> None:
    """Each on its own, after the sequential ones."""
    ticket = await stored(session, status="new", title="x")
    narrowed(pre_save, "*status", fields=["status"], concurrent=True, sync=False)
    narrowed(pre_save, "*title", fields=["title"], concurrent=True, sync=False)
    narrowed(pre_save, "*all", concurrent=True, sync=False)
    pre_save.connect(lambda instance, **kwargs: setattr(instance, "status", "open"), Ticket)
    narrowed(pre_save, "*one", sync=sync)
    ticket.queue = "other"
    await session.flush()
    assert called == ["*one", "*status", "*all"]


@pytest.mark.parametrize("sync", [True, False])
async def test_a_receiver_with_several_connections_is_called_once(
    session: AsyncSession, called: list[str], narrowed: Any, sync: bool
) -> None:
    """At the first place that lets the row through, at whichever stage of the flush."""
    tickets = [await stored(session, status="new", title="x") for _ in range(3)]
    for signal in SAVES:
        receiver = narrowed(signal, "it", fields=["status"], sync=sync)
        narrowed(signal, "between", sync=not sync)
        signal.connect(receiver, Ticket, fields=["title"])
        signal.connect(receiver, Base, created=False, priority=-1)
    tickets[0].status = tickets[0].title = "open"
    tickets[1].title = "open"
    tickets[2].queue = "other"
    await session.flush()
    for signal in SAVES:
        alike = [each.removeprefix(f"{signal.name} ") for each in called if signal.name in each]
        assert alike == ["it", "between", "between", "between", "it", "it"]
    called.clear()
    session.add(Ticket(status=None, title=None))
    await session.flush()
    assert called == ["pre_save it", "pre_save between", "post_save it", "post_save between"]


async def test_a_receiver_called_at_a_later_place_is_not_called_twice(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """Its first place is over when a receiver in between makes the change."""
    ticket = await stored(session, status="new", title="x")
    receiver = narrowed(pre_save, "it", fields=["status"])
    pre_save.connect(lambda instance, **kwargs: setattr(instance, "status", "open"), Ticket)
    pre_save.connect(receiver, Ticket, fields=["status", "title"])
    pre_save.connect(receiver, Ticket, fields=["title", "queue", "status"])
    ticket.queue = "other"
    await session.flush()
    assert called == ["pre_save it"]


async def test_filters_add_up_with_each_other_and_with_classes(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """created=, exact=, subclasses, priority, and a context that silences."""
    narrowed(post_save, "*new", fields=["status"], created=True)
    narrowed(post_save, "*changed", fields=["status"], created=False)
    narrowed(post_save, "*exact", fields=["status"], exact=True)
    narrowed(post_save, "*bug", Bug, transition={"severity": (..., 5)}, priority=1)
    narrowed(post_save, "*attribute", Ticket.status)
    session.add(bug := Bug(status="new", severity=5))
    await session.flush()
    assert called == ["*bug", "*new", "*attribute"]
    called.clear()
    bug.status = "open"
    await session.flush()
    assert called == ["*changed", "*attribute"]
    called.clear()
    with SignalContext(Ticket):
        bug.status = "done"
        await session.flush()
    assert called == []


async def test_rows_are_judged_one_by_one(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """In the order of a flush without filters."""
    tickets = [await stored(session, status="new") for _ in range(4)]
    narrowed(post_save, "*all", sync=False)
    narrowed(post_save, "*status", fields=["status"], sync=False)
    for number, ticket in enumerate(tickets):
        ticket.title = "y"
        if number % 2:
            ticket.status = "open"
    await session.flush()
    assert called == ["*all", "*all", "*status"] * 2


async def test_only_watched_attributes_are_read(
    session: AsyncSession, called: list[str], narrowed: Any
) -> None:
    """A synchronous receiver that isn't called costs no statement."""
    ticket = await stored(session, status="new", title="x")
    narrowed(post_save, "status", transition={"status": ("new", "open")})
    session.expire(ticket, ["status"])
    ticket.title = "y"
    with selects(session) as noted:
        await session.flush()
    assert noted == called == []
