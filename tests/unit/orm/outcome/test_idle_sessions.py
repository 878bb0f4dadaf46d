"""What waits in a session that has no transaction yet."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, close_all_sessions, scoped_session, sessionmaker

from aksara_signals import Signal
from aksara_signals.orm import on_commit, on_rollback

Sessions = async_sessionmaker[AsyncSession]

ENDS: dict[str, Callable[[Session], Any]] = {
    "close": lambda session: session.close(),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "block": lambda session: session.__exit__(None, None, None),
    "all": lambda session: close_all_sessions(),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("ends", [1, 2])
def test_what_waits_goes_with_the_session(sync_engine: Engine, end: str, ends: int) -> None:
    """Callbacks and sends alike, neither called nor kept; a later use of the session has its own."""
    called: list[str] = []
    own = Signal("own")
    own.connect(lambda text, **kwargs: called.append(text), phase="after_commit")
    session = Session(sync_engine)
    for _ in range(ends):
        on_commit(session, lambda: called.append("lost"))
        on_rollback(session, lambda: called.append("lost"))
        own.send_sync(session=session, text="lost")
        ENDS[end](session)
    assert "_close_impl" not in vars(session)
    on_commit(session, lambda: called.append("commit"))
    on_rollback(session, lambda: called.append("rollback"))
    session.execute(text("select 1"))
    session.commit()
    session.execute(text("select 1"))
    session.rollback()
    session.close()
    assert called == ["commit"]


@pytest.mark.parametrize("end", ["close", "reset", "invalidate", "block"])
async def test_the_same_of_an_async_session(sessions: Sessions, end: str) -> None:
    """Also when a block is left."""
    called: list[str] = []
    session = sessions()
    on_commit(session, lambda: called.append("lost"))
    if end == "block":
        async with session:
            pass
    else:
        await getattr(session, end)()
    await session.execute(text("select 1"))
    await session.commit()
    await session.close()
    assert called == []


async def test_the_same_of_scoped_sessions(sessions: Sessions, sync_engine: Engine) -> None:
    """``remove()`` closes."""
    called: list[str] = []
    scoped = scoped_session(sessionmaker(sync_engine), scopefunc=lambda: 1)
    on_commit(scoped(), lambda: called.append("lost"))
    plain = scoped()
    scoped.remove()
    plain.execute(text("select 1"))
    plain.commit()
    plain.close()
    async_scoped = async_scoped_session(sessions, scopefunc=lambda: 1)
    own = async_scoped()
    on_commit(own, lambda: called.append("lost"))
    await async_scoped.remove()
    await own.execute(text("select 1"))
    await own.commit()
    await own.close()
    assert called == []


def test_what_waits_stays_with_anything_less(sync_engine: Engine) -> None:
    """Emptying a session, expiring it and rolling nothing back isn't closing it."""
    called: list[str] = []
    with Session(sync_engine) as session:
        on_commit(session, lambda: called.append("commit"))
        session.rollback()
        session.expire_all()
        session.expunge_all()
        on_commit(session, lambda: called.append("another"))
        session.execute(text("select 1"))
        assert "_close_impl" not in vars(session)
        session.commit()
        assert called == ["commit", "another"]


def test_a_session_that_is_dropped_is_released(sync_engine: Engine) -> None:
    """Without the garbage collector, with what waited in it."""
    gc.collect()
    gc.disable()
    try:
        session = Session(sync_engine)
        on_commit(session, lambda: None)
        reference, close = weakref.ref(session), vars(session)["_close_impl"]
        del session
        assert reference() is None
        close(invalidate=False)  # has nothing left to close
    finally:
        gc.enable()
