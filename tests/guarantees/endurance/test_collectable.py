"""What is no longer used can be collected, whatever has happened to it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.crowd import Base, Entry, Label, new_base, new_class, queued
from kit.databases import Database, create_all
from kit.effort import times
from kit.memory import async_growth_of
from kit.works import ALL, Work, commits
from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session, configure_mappers, relationship

from aksara_signals import (
    Signal,
    m2m_changed,
    post_delete,
    post_init,
    post_save,
    post_update,
    pre_delete,
    pre_init,
    pre_save,
    pre_update,
)
from aksara_signals.orm import on_commit

pytestmark = pytest.mark.slow

SIGNALS = (pre_save, post_save, pre_update, post_update, pre_delete, post_delete, m2m_changed)


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """Empty tables, and a pool of one, so that a lost connection stops everything."""
    engine = database.create_async_engine(pool_size=1, max_overflow=0, pool_timeout=60)
    await create_all(engine, Base.metadata)
    yield engine
    await engine.dispose()


@pytest.fixture
def receivers(silent_log: list[int]) -> None:
    """Receivers of every kind listen, some of which ask for changes."""

    async def receive(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    def ask(changes: Any, **kwargs: Any) -> None: ...

    def receive_late(**kwargs: Any) -> None: ...

    async def receive_concurrently(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    for signal in SIGNALS:
        signal.connect(receive, sender=[Entry, Label])
        signal.connect(receive_concurrently, sender=[Entry, Label], concurrent=True)
    post_save.connect(ask, sender=[Entry, Label])
    for signal in (post_save, post_update, post_delete, m2m_changed):
        for phase in ("after_commit", "after_rollback"):
            signal.connect(receive_late, sender=[Entry, Label], phase=phase)
            signal.connect(receive, sender=[Entry, Label], phase=phase)


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.__name__)
async def test_sessions_and_instances_can_be_collected(
    engine: AsyncEngine, receivers: None, work: Work
) -> None:
    """After success, failure and cancellation, nothing keeps a session or an instance alive."""
    shown: list[weakref.ref[Any]] = []
    await work(engine, lambda thing: shown.append(weakref.ref(thing)))
    await asyncio.sleep(0)
    gc.collect()
    assert shown
    assert [type(kept) for each in shown if (kept := each()) is not None] == []


async def test_sessions_keep_nothing(engine: AsyncEngine, receivers: None) -> None:
    """However often sessions do all of it, there are as many objects as before."""

    async def work() -> None:
        for each in ALL:
            await each(engine, lambda thing: None)

    assert await async_growth_of(work, times(10)) == {}


async def test_sessions_without_receivers_keep_nothing(engine: AsyncEngine) -> None:
    """The same where no receiver is connected but those that the work itself connects."""
    assert await async_growth_of(lambda: commits(engine, lambda thing: None), times(30)) == {}


def test_an_abandoned_session_goes_with_what_waits_in_it(database: Database) -> None:
    """A session that is dropped in the midst of a transaction delivers nothing and is collected."""
    engine = database.create_sync_engine(pool_size=1, max_overflow=0, pool_timeout=10)
    Base.metadata.create_all(engine)
    sent: list[Any] = []
    post_save.connect(lambda **kwargs: sent.append(1), sender=Entry, phase="after_commit")
    post_save.connect(lambda **kwargs: sent.append(1), sender=Entry, phase="after_rollback")
    for _ in range(times(5)):  # each needs the connection that the last one has left
        session = Session(engine)
        entry = Entry(text="x")
        session.add(entry)
        session.flush()
        on_commit(session, lambda: None)
        assert queued(session)
        refs = [weakref.ref(session), weakref.ref(entry), weakref.ref(session.get_transaction())]
        del session, entry
        gc.collect()
        assert [each() for each in refs] == [None] * 3
    assert sent == []
    engine.dispose()


def test_an_engine_can_be_collected(database: Database) -> None:
    """Nothing keeps an engine whose sessions have sent signals."""
    engine = database.create_sync_engine()
    Base.metadata.create_all(engine)
    post_save.connect(lambda **kwargs: None, sender=Entry, phase="after_commit")
    with Session(engine) as session, session.begin():
        session.add(Entry(text="x"))
    ref = weakref.ref(engine)
    engine.dispose()
    del engine, session
    gc.collect()
    assert ref() is None


def test_a_receiver_that_was_disconnected_can_be_collected(database: Database) -> None:
    """The cached receivers of a class that is never written again don't keep a receiver alive."""

    class Receiver:
        def __call__(self, **kwargs: Any) -> None: ...

    engine = database.create_sync_engine()
    Base.metadata.create_all(engine)
    receiver = Receiver()
    post_save.connect(receiver, sender=Entry)
    with Session(engine) as session, session.begin():
        session.add(Entry(text="x"))
    post_save.disconnect(receiver, sender=Entry)
    ref = weakref.ref(receiver)
    del receiver
    gc.collect()
    assert ref() is None
    engine.dispose()


@pytest.mark.parametrize("how", ["all", "string", "class"])
def test_a_class_with_receivers_can_be_collected(how: str) -> None:
    """A class with a many-to-many relationship goes with its registry, receivers or not."""
    base = new_base()
    link = Table(
        "left_right",
        base.metadata,
        Column("left_id", ForeignKey("left.id"), primary_key=True),
        Column("right_id", ForeignKey("right.id"), primary_key=True),
    )
    left = new_class("Left", base)
    right = new_class("Right", base)
    left.rights = relationship(right, secondary=link, back_populates="lefts")
    right.lefts = relationship(left, secondary=link, back_populates="rights")
    sender: Any = {"all": None, "string": "Left", "class": left}[how]
    for signal in (*SIGNALS, pre_init, post_init):
        signal.connect(lambda **kwargs: None, sender=sender, dispatch_uid="collectable")
    left.signals.on_something.connect(lambda **kwargs: None)
    configure_mappers()
    one = left(rights=[right()])
    one.rights.clear()
    refs = [weakref.ref(each) for each in (left, right, one, link)]
    base.registry.dispose()
    sender = None
    del base, left, right, one, link
    gc.collect()
    assert [each() for each in refs] == [None] * 4
    for signal in (*SIGNALS, pre_init, post_init):
        if how != "class":
            signal.disconnect(dispatch_uid="collectable", sender=None if how == "all" else "Left")


async def test_signals_and_receivers_can_be_collected() -> None:
    """A signal goes with its strong receivers, also after errors; a weak receiver goes alone."""

    class Receiver:
        async def __call__(self, **kwargs: Any) -> None:
            raise LookupError

    signal, strong, weak = Signal("mortal"), Receiver(), Receiver()
    signal.connect(strong, sender=Entry)
    signal.connect(weak, weak=True)
    refs = [weakref.ref(weak), weakref.ref(strong), weakref.ref(signal)]
    with pytest.raises(LookupError):
        await signal.send(Entry)
    del weak
    gc.collect()
    assert refs[0]() is None
    assert len(signal.connections) == 1
    del strong
    gc.collect()
    assert refs[1]() is not None
    del signal
    gc.collect()
    assert [each() for each in refs] == [None] * 3
