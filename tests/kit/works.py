"""What sessions do in the tests of memory: each way to write, to fail and to give up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import SignalContext, post_save
from aksara_signals.orm import on_commit, on_rollback
from kit.crowd import Entry, Label

Work = Callable[[AsyncEngine, Callable[[object], None]], Awaitable[None]]
"""Takes an engine, and what each object is shown to that must not outlive the work."""


class VetoError(Exception):
    """What receivers raise."""


def _veto(**kwargs: Any) -> None:
    raise VetoError


async def commits(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    async with AsyncSession(engine) as session:
        entry = Entry(text="x")
        session.add(entry)
        show(session), show(session.sync_session), show(entry)
        on_commit(session, lambda: None)
        await session.commit()
        entry.text = "y"
        await session.commit()
        await session.delete(entry)
        await session.commit()


async def rolls_back(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    async with AsyncSession(engine) as session:
        entry = Entry(text="x")
        session.add(entry)
        show(session), show(entry)
        on_rollback(session, lambda: None)
        async with session.begin_nested():
            await session.flush()
        await session.rollback()


async def closes(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    async with AsyncSession(engine) as session:
        entry = Entry(text="x")
        session.add(entry)
        show(session), show(entry)
        await session.flush()


async def never_begins(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    """Abandoned without close, with something that waits for a transaction."""
    session = AsyncSession(engine)
    entry = Entry(text="x")
    session.add(entry)
    on_commit(session, lambda: entry)
    show(session), show(session.sync_session), show(entry)


async def is_vetoed(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    entry = Entry(text="x")
    show(entry)
    with post_save.connected_to(_veto, sender=Entry), contextlib.suppress(VetoError):
        async with AsyncSession(engine) as session, session.begin():
            session.add(entry)
            show(session)


async def is_refused(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    """By the database, in the midst of a savepoint and of the flush itself."""
    async with AsyncSession(engine) as session:
        await session.execute(delete(Label))
        await session.execute(insert(Label), [{"text": "taken"}])
        label = Label(text="taken")
        show(session), show(label)
        try:
            async with session.begin_nested():
                session.add_all([label, Entry(text="x")])
                await session.flush()
        except IntegrityError as error:
            show(error)
        session.add(Entry(text="y"))
        await session.commit()


async def is_cancelled(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    entered = asyncio.Event()

    async def stuck(**kwargs: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async def write() -> None:
        async with AsyncSession(engine) as session:
            entry = Entry(text="x")
            session.add(entry)
            show(session), show(entry)
            await session.commit()

    with post_save.connected_to(stuck, sender=Entry):
        task = asyncio.create_task(write())
        show(task)
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])


async def fails_after_commit(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    def keep_nothing(instance: object, **kwargs: Any) -> None:
        show(instance)
        raise VetoError

    async with AsyncSession(engine) as session:
        with post_save.connected_to(keep_nothing, sender=Entry, phase="after_commit"):
            entry = Entry(text="x")
            session.add(entry)
            show(session), show(entry)
            await session.commit()


async def writes_in_bulk(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    async with AsyncSession(engine) as session:
        made = await Entry.objects.bulk_create([Entry(text="x") for _ in range(3)], session=session)
        made[0].text = "y"
        await Entry.objects.bulk_update(made, ["text"], session=session)
        show(session), show(made[0])
        await session.commit()


async def links(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(delete(Label))
        label = Label(text="linked")
        entry = Entry(text="x", labels=[label])
        session.add(entry)
        show(session), show(entry), show(label)
        await session.flush()
        label.entries.remove(entry)
        await session.flush()
        await entry.related("labels").add(label, note="passed")
        await session.rollback()


async def is_silenced(engine: AsyncEngine, show: Callable[[object], None]) -> None:
    async with AsyncSession(engine) as session:
        entry = Entry(text="x")
        session.add(entry)
        show(session), show(entry)
        with SignalContext.disable_for(Entry):
            await session.commit()


ALL: tuple[Work, ...] = (
    commits,
    rolls_back,
    closes,
    never_begins,
    is_vetoed,
    is_refused,
    is_cancelled,
    fails_after_commit,
    writes_in_bulk,
    links,
    is_silenced,
)
