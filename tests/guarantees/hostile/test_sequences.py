"""Any sequence of misbehaving receivers around a good one, whose fate follows the written rule."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import times
from kit.misfits import (
    EXCEPTIONS,
    WAYS,
    Account,
    Base,
    assert_nothing_is_left,
    raising,
    send,
)
from sqlalchemy import create_engine, delete, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aksara_signals import Signal, post_save, pre_save
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.delivery.frame import get_current
from aksara_signals.dispatch.signal import restore_connections


@types.coroutine
def ready(**kwargs: Any) -> Any:
    yield from ()


def empty(**kwargs: Any) -> None:
    kwargs.clear()


HARMLESS: dict[str, Callable[..., Any]] = {
    "empties its kwargs": empty,
    "returns a generator": lambda **kwargs: (each for each in ()),
    "is a generator-based coroutine": ready,
    "sends more": lambda **kwargs: Signal("inner").send_sync(None),
    "returns itself": lambda signal, **kwargs: signal,
}
REFUSED: dict[str, Callable[[Session], Any]] = {
    "commits": lambda session: session.commit(),
    "rolls back": lambda session: session.rollback(),
    "closes": lambda session: session.close(),
}
NAMES = [*EXCEPTIONS, *HARMLESS]
SEQUENCES = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=6)


def receiver_of(name: str, is_async: bool, thrown: list[BaseException]) -> Callable[..., Any]:
    """A misbehaving receiver, a new one each time."""
    if name in EXCEPTIONS:
        return raising(EXCEPTIONS[name], is_async, thrown)
    harmless = HARMLESS[name]

    def behave(**kwargs: Any) -> Any:
        return harmless(**kwargs)

    return behave


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Any:
    """Tracebacks of exceptions that can't be shown are not for pytest's log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("aksara_signals"), "callHandlers", lambda record: None)
        yield


def ends_it(names: list[str], robust: bool) -> bool:
    """Whether what comes after these receivers is not called."""
    return any(
        name in EXCEPTIONS and not (robust and issubclass(type(EXCEPTIONS[name]()), Exception))
        for name in names
    )


@given(before=SEQUENCES, after=SEQUENCES, way=st.sampled_from(WAYS))
@settings(max_examples=times(150), deadline=None)
def test_sends(before: list[Any], after: list[Any], way: str) -> None:
    """The good receiver is called if none before it raised what this send lets escape."""
    signal = Signal("mixed")
    thrown: list[BaseException] = []
    good: list[str] = []
    for name, is_async in before:
        signal.connect(receiver_of(name, is_async, thrown))
    signal.connect(lambda **kwargs: good.append("good"))
    for name, is_async in after:
        signal.connect(receiver_of(name, is_async, thrown))
    robust = "robust" in way

    async def program() -> bool:
        try:
            await send(signal, way)
        except BaseException:
            return True
        return False

    escaped = asyncio.run(program())
    assert bool(good) is not ends_it([name for name, _ in before], robust)
    assert escaped is ends_it([name for name, _ in (*before, *after)], robust)
    assert get_current() is None
    assert get_active_contexts() == ()
    plain = Signal("plain")
    plain.connect(lambda **kwargs: 7)
    assert [response for _, response in plain.send_sync(None)] == [7]


ENGINE = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


@pytest.fixture(scope="module", autouse=True)
def tables() -> Any:
    Base.metadata.create_all(ENGINE)
    yield
    ENGINE.dispose()


PHASES = st.sampled_from(["pre", "post", "after_commit"])
WRITING = st.lists(
    st.tuples(st.sampled_from([*NAMES, *REFUSED]), st.booleans(), PHASES), max_size=6
)


def connect(entry: tuple[str, bool, str], thrown: list[BaseException]) -> None:
    name, is_async, phase = entry
    receiver: Any
    if name in REFUSED:

        def receiver(session: Session, **kwargs: Any) -> None:
            REFUSED[name](session)

    else:
        receiver = receiver_of(name, is_async, thrown)
    if phase == "pre":
        pre_save.connect(receiver, sender=Account)
    else:
        waits = {"phase": "after_commit"} if phase == "after_commit" else {}
        post_save.connect(receiver, sender=Account, **waits)


def vetoes(entry: tuple[str, bool, str]) -> bool:
    name, _, phase = entry
    return phase != "after_commit" and (name in EXCEPTIONS or name in REFUSED)


def ends_deliveries(entry: tuple[str, bool, str]) -> bool:
    name, _, phase = entry
    return (
        phase == "after_commit"
        and name in EXCEPTIONS
        and not isinstance(EXCEPTIONS[name](), (Exception, asyncio.CancelledError))
    )


@given(before=WRITING, after=WRITING)
@settings(max_examples=times(60), deadline=None)
def test_writes(before: list[Any], after: list[Any]) -> None:
    """The row is there unless a receiver vetoed it, and the good receiver is sent just that."""
    thrown: list[BaseException] = []
    good: list[str] = []
    try:
        with Session(ENGINE) as session:
            session.execute(delete(Account))
            session.commit()
            for entry in before:
                connect(entry, thrown)
            post_save.connect(
                lambda **kwargs: good.append("good"), sender=Account, phase="after_commit"
            )
            for entry in after:
                connect(entry, thrown)
            session.add(Account(name="tried"))
            escaped = False
            try:
                session.commit()
            except BaseException:
                escaped = True
            vetoed = any(map(vetoes, (*before, *after)))
            cut_off = any(map(ends_deliveries, before))
            ended = any(map(ends_deliveries, (*before, *after)))
            assert bool(good) is (not vetoed and not cut_off)
            assert escaped is (vetoed or ended)
            restore_connections(pre_save, [])
            restore_connections(post_save, [])
            assert_nothing_is_left(session)
            session.rollback()
            session.add(Account(name="plain"))
            session.commit()
            found = [*session.scalars(select(Account.name).order_by(Account.name))]
        assert found == (["plain"] if vetoed else ["plain", "tried"])
    finally:
        restore_connections(pre_save, [])
        restore_connections(post_save, [])
