"""Auditing by SQLAlchemy's own events beside our receivers, registered before ours or after."""

from __future__ import annotations

from typing import Any

import pytest
from kit.peers.recipes import SentLines, Twin
from sqlalchemy import Column, ForeignKey, Table, delete, event, insert, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import post_delete, post_save, pre_delete, pre_save
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    edited_by: Mapped[str | None]


class Entry(Base):
    """Of the audit."""

    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


EVERY = pre_save, post_save, pre_delete, post_delete


def changes_in(session: Session) -> list[str]:
    """What the unit of work holds, in words."""
    lines = [f"new {each.total}" for each in session.new if isinstance(each, Invoice)]
    for each in session.dirty:
        if isinstance(each, Invoice):
            history = inspect(each).attrs.total.history
            if history.has_changes():
                lines.append(f"{history.deleted[0]} to {history.added[0]}")
    return lines + [
        f"deleted {each.total}" for each in session.deleted if isinstance(each, Invoice)
    ]


def audit_before_flush(session: Session, context: object, instances: object) -> None:
    session.add_all([Entry(text=line) for line in changes_in(session)])


def audit_in_core(session: Session, context: object) -> None:
    """In after_flush, where history still shows what was written, by a statement."""
    for line in changes_in(session):
        session.connection().execute(insert(Entry.__table__).values(text=line))


async def entries(twin: Twin) -> list[str]:
    return [text for (text,) in await twin.all(select(Entry.text).order_by(Entry.id))]


@pytest.mark.parametrize(
    ("name", "audit"),
    [("before_flush", audit_before_flush), ("after_flush", audit_in_core)],
    ids=["before_flush", "after_flush"],
)
async def test_an_audit_beside_receivers(twin: Twin, listen: Any, name: str, audit: Any) -> None:
    """The audit has all, and receivers of the audited are called once, with the true changes."""
    listen(name, audit)
    sent = SentLines(*EVERY, sender=Invoice)
    invoice = Invoice(total=1)
    await twin.save(invoice)
    assert sent.changes[-1] == {"id": (None, 1), "total": (None, 1)}
    assert sent.taken() == ["pre_save Invoice created", "post_save Invoice created"]
    invoice.total = 2
    await twin.flush()
    assert sent.changes == [{"total": (1, 2)}] * 2
    assert sent.taken() == ["pre_save Invoice", "post_save Invoice"]
    await twin.delete(invoice)
    await twin.commit()
    assert sent.taken() == ["pre_delete Invoice", "post_delete Invoice"]
    assert await entries(twin) == ["new 1", "1 to 2", "deleted 2"]


async def test_the_audit_itself_is_sent(twin: Twin, listen: Any) -> None:
    """Rows that a listener adds have pre signals if it runs before ours, else a warning for them."""
    listen("before_flush", audit_before_flush)
    sent = SentLines(pre_save, post_save, sender=Entry)
    twin.session.add(Invoice(total=1))
    if listen.is_first:
        await twin.commit()
        assert sent.taken() == ["pre_save Entry created", "post_save Entry created"]
        return
    with pytest.warns(AksaraSignalsWarning, match="1 rows of Entry"):
        await twin.commit()
    assert sent.taken() == ["post_save Entry created"]


async def test_what_receivers_set_is_audited(twin: Twin, listen: Any) -> None:
    """By a listener after ours; one before ours looks at the unit of work too early."""

    async def round_up(instance: Any, **kwargs: Any) -> None:
        instance.total = 10

    listen("before_flush", audit_before_flush)
    pre_save.connect(round_up, sender=Invoice)
    await twin.save(Invoice(total=9))
    assert await entries(twin) == ["new 9" if listen.is_first else "new 10"]


@pytest.mark.parametrize("insert_first", [True, False])
async def test_a_listener_of_a_session_of_ones_own(twin: Twin, insert_first: bool) -> None:
    """It always runs after ours."""
    order: list[str] = []
    listener: Any = lambda *_: order.append("listener")  # noqa: E731 - as short as the others
    event.listen(twin.plain, "before_flush", listener, insert=insert_first)
    event.listen(twin.plain, "after_flush_postexec", lambda *_: order.append("postexec"))

    async def note(signal: Any, **kwargs: Any) -> None:
        order.append(signal.name)

    pre_save.connect(note)
    post_save.connect(note)
    twin.session.add(Invoice(total=1))
    await twin.flush()
    assert order == ["pre_save", "listener", "post_save", "postexec"]


async def test_objects_added_after_a_flush_are_sent_with_the_next(twin: Twin, listen: Any) -> None:
    """A commit flushes until nothing is left, and each object is sent once."""

    def add_afterwards(session: Session, context: object) -> None:
        session.add_all([Entry(text=line) for line in changes_in(session)])

    listen("after_flush", add_afterwards)
    sent = SentLines(*EVERY)
    twin.session.add(Invoice(total=1))
    await twin.commit()
    assert sent.taken() == [
        "pre_save Invoice created",
        "post_save Invoice created",
        "pre_save Entry created",
        "post_save Entry created",
    ]
    assert await entries(twin) == ["new 1"]


async def test_objects_changed_in_postexec_are_sent_with_the_next(twin: Twin, listen: Any) -> None:
    """The same of what is changed once a flush is over."""

    def approve(session: Session, context: object) -> None:
        for each in session.identity_map.values():
            if isinstance(each, Invoice) and each.edited_by is None:
                each.edited_by = "auditor"

    listen("after_flush_postexec", approve)
    sent = SentLines(*EVERY)
    invoice = Invoice(total=1)
    twin.session.add(invoice)
    await twin.commit()
    assert sent.changes[-1] == {"edited_by": (None, "auditor")}
    assert sent.taken() == [
        "pre_save Invoice created",
        "post_save Invoice created",
        "pre_save Invoice",
        "post_save Invoice",
    ]


async def test_objects_added_before_a_commit_are_sent(twin: Twin, listen: Any) -> None:
    """before_commit comes before the last flush."""

    def sum_up(session: Session) -> None:
        session.add(Entry(text=f"{len(session.new)} new"))

    listen("before_commit", sum_up)
    sent = SentLines(*EVERY)
    twin.session.add(Invoice(total=1))
    await twin.commit()
    assert sorted(sent.taken()) == [
        "post_save Entry created",
        "post_save Invoice created",
        "pre_save Entry created",
        "pre_save Invoice created",
    ]


async def test_a_listener_that_refuses(twin: Twin, listen: Any) -> None:
    """Nothing is written and no post signal sent; the session goes on after a rollback."""

    def refuse(session: Session, context: object, instances: object) -> None:
        if any(each.total < 0 for each in session.new):
            raise ValueError("negative")

    listen("before_flush", refuse)
    sent = SentLines(*EVERY)
    twin.session.add(Invoice(total=-1))
    with pytest.raises(ValueError, match="negative"):
        await twin.commit()
    assert sent.taken() == ([] if listen.is_first else ["pre_save Invoice created"])
    await twin.rollback()
    await twin.save(Invoice(total=1))
    assert sent.taken() == ["pre_save Invoice created", "post_save Invoice created"]
    assert await twin.all(select(Invoice.total)) == [(1,)]


# -- orphans ----------------------------------------------------------------------------------------

labelled = Table(
    "labelled",
    Base.metadata,
    Column("box_id", ForeignKey("box.id"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
)


class Box(Base):
    __tablename__ = "box"
    id: Mapped[int] = mapped_column(primary_key=True)
    labels: Mapped[list[Label]] = relationship(
        secondary=labelled, back_populates="boxes", lazy="selectin"
    )


class Label(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    boxes: Mapped[list[Box]] = relationship(secondary=labelled, back_populates="labels")


async def test_orphans_of_a_many_to_many(twin: Twin, listen: Any) -> None:
    """The recipe deletes them by a statement after the flush, which is silent as all are."""

    def sweep(session: Session, context: object) -> None:
        statement = delete(Label).where(~Label.boxes.any())
        session.execute(statement, execution_options={"synchronize_session": False})

    box = Box(labels=[Label(), Label()])
    await twin.save(box)
    listen("after_flush", sweep)
    sent = SentLines(*EVERY)
    box.labels.pop()
    await twin.commit()
    assert sent.taken() == []
    assert len(await twin.all(select(Label.id))) == 1
