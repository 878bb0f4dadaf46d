"""What type checkers make of the public API. Checked, never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_type

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import (
    Connection,
    Signal,
    SignalContext,
    drain,
    m2m_changed,
    on_delivery_error,
    post_save,
    provenance,
    receiver,
)
from aksara_signals.orm import on_commit, on_rollback
from aksara_signals.testing import rolled_back


class Post:
    """Stands for a mapped class."""


async def notify(sender: type[Post], instance: Post, **kwargs: Any) -> int:
    """A receiver whose own type must survive being connected."""
    return 1


# connect gives back what it was given, with its own parameters and return type
connected = post_save.connect(notify, sender=Post)
checked: Callable[[type[Post], Post], Any] = connected


@post_save.connect(sender=[Post], priority=1)
async def by_connect(sender: type[Post], instance: Post, **kwargs: Any) -> str:
    """A decorated receiver can still be called as what it is."""
    return "called"


async def use() -> None:
    """The types of sending and of looking inside."""
    assert_type(await notify(Post, Post()), int)
    assert_type(await connected(Post, Post()), int)
    assert_type(await by_connect(Post, Post()), str)

    custom = Signal("custom", providing_args=["amount"])
    assert_type(custom, Signal)
    assert_type(await custom.send(Post, amount=1), list[tuple[Callable[..., Any], Any]])
    assert_type(await custom.send_robust(Post, amount=1), list[tuple[Callable[..., Any], Any]])
    assert_type(custom.send_sync(Post, amount=1), list[tuple[Callable[..., Any], Any]])
    assert_type(custom.send_robust_sync(Post, amount=1), list[tuple[Callable[..., Any], Any]])
    assert_type(custom.connections, tuple[Connection, ...])
    assert_type(custom.has_receivers(Post), bool)
    assert_type(custom.disconnect(notify, sender=Post), bool)
    assert_type(custom.receivers_for(Post), list[Callable[..., Any]])

    with custom.connected_to(notify, sender=Post) as inside:
        assert_type(await inside(Post, Post()), int)

    with SignalContext.disable_for(Post) as context:
        assert_type(context, SignalContext)
    async with SignalContext.disable_all() as context:
        assert_type(context, SignalContext)
    with provenance(actor=1, request="a") as values:
        assert_type(values, Mapping[str, Any])
    async with provenance(actor=1) as values:
        assert_type(provenance.current(), Mapping[str, Any])
    assert_type(await provenance(actor=1)(notify)(Post, Post()), int)


@post_save(Post, phase="after_commit", coalesce=True, timeout_seconds=2.5)
async def deferred(sender: type[Post], instance: Post, **kwargs: Any) -> None:
    """A receiver that is called after the outcome."""


checked = post_save()(notify)
checked = post_save(notify)
checked = post_save(Post, "models.Tag", [Post])(notify)
assert_type(m2m_changed(object()), Any)

post_save.connect(notify, Post, phase="later")  # type: ignore[call-overload]  # no such phase
on_delivery_error.connect(notify)


async def shut_down() -> None:
    """The types of callbacks and deliveries after the outcome."""
    assert_type(await drain(), int)
    session = AsyncSession()
    on_commit(session, shut_down)
    on_rollback(session.sync_session, lambda: 5)


@receiver([post_save], sender=Post)
async def by_receiver(sender: type[Post], instance: Post, **kwargs: Any) -> None:
    """``@receiver`` keeps the type too."""


@SignalContext.disable_all()
def silenced(amount: int) -> str:
    """A decorated function keeps its type."""
    return str(amount)


assert_type(silenced(1), str)


class OwnSession(Session):
    """A session of the user's."""


class OwnAsyncSession(AsyncSession):
    """An async one."""


async def test_sessions(engine: Engine, async_engine: AsyncEngine) -> None:
    """``rolled_back`` gives the session of the engine, or what it was asked for."""
    with rolled_back(engine) as session:
        assert_type(session, Session)
    with rolled_back(engine, class_=OwnSession, autoflush=False) as own:
        assert_type(own, OwnSession)
    async with rolled_back(async_engine) as async_session:
        assert_type(async_session, AsyncSession)
    async with rolled_back(async_engine, class_=OwnAsyncSession) as own_async:
        assert_type(own_async, OwnAsyncSession)
    rolled_back(engine, class_=OwnAsyncSession)  # type: ignore[type-var]  # the other kind
