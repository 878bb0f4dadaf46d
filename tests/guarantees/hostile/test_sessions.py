"""Receivers that do things to the session, the connection and the instance: rows and signals agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit import databases
from kit.effort import EFFORT
from kit.misfits import Account, Base, assert_nothing_is_left, do
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, make_transient

from aksara_signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)
from aksara_signals.dispatch.signal import restore_connections

LIFE_CYCLE = (pre_save, post_save, pre_update, post_update, pre_delete, post_delete)

Action = Callable[[Session, Any], Any]

ACTIONS: dict[str, Action] = {
    "commit": lambda s, _: s.commit(),
    "rollback": lambda s, _: s.rollback(),
    "close": lambda s, _: s.close(),
    "reset": lambda s, _: s.reset(),
    "invalidate": lambda s, _: s.invalidate(),
    "commit past the refusal": lambda s, _: Session.commit(s),
    "rollback past the refusal": lambda s, _: Session.rollback(s),
    "close past the refusal": lambda s, _: Session.close(s),
    "commit of the transaction": lambda s, _: s.get_transaction().commit(),
    "rollback of the transaction": lambda s, _: s.get_transaction().rollback(),
    "close of the transaction": lambda s, _: s.get_transaction().close(),
    "rollback of the connection": lambda s, _: s.connection().rollback(),
    "close of the connection": lambda s, _: s.connection().close(),
    "invalidate the connection": lambda s, _: s.connection().invalidate(),
    "flush": lambda s, _: s.flush(),
    "begin": lambda s, _: s.begin(),
    "savepoint left open": lambda s, _: s.begin_nested(),
    "savepoint rolled back": lambda s, _: s.begin_nested().rollback(),
    "expunge": lambda s, i: s.expunge(i),
    "expunge all": lambda s, _: s.expunge_all(),
    "expire": lambda s, i: s.expire(i),
    "expire all": lambda s, _: s.expire_all(),
    "refresh": lambda s, i: s.refresh(i),
    "make transient": lambda _, i: make_transient(i),
    "change the key": lambda _, i: setattr(i, "id", 77),
    "change the class": lambda _, i: setattr(i, "__class__", type("Other", (), {})),
    "empty the instance": lambda _, i: i.__dict__.clear(),
    "add to another session": lambda s, i: Session(s.get_bind()).add(i),
    "move to another session": lambda s, i: (s.expunge(i), Session(s.get_bind()).add(i)),
    "delete": lambda s, i: s.delete(i),
}
WRITES = {"create": (pre_save, post_save), "update": (pre_save, post_save)}
WRITES["delete"] = (pre_delete, post_delete)

MOMENTS = ["pre", "post", "after_commit"]

ENDS = ("commit", "rollback", "close", "reset", "invalidate")


class Trial:
    """A write whose first receiver does something to the session."""

    def __init__(self, signal: Any, phase: str, action: Action, forgives: bool) -> None:
        self.sent: list[tuple[str, str]] = []
        self.error: BaseException | None = None
        self.refused: BaseException | None = None
        self._action, self._forgives = action, forgives
        signal.connect(self.bad, sender=Account, phase=phase)
        for each in (post_save, post_delete):
            for when in ("after_commit", "after_rollback"):
                self.listen(each, when)

    def listen(self, signal: Any, when: str) -> None:
        def receive(signal: Any, **kwargs: Any) -> None:
            self.sent.append((signal.name, when))

        signal.connect(receive, sender=Account, phase=when)

    def bad(self, signal: Any, instance: Any, session: Any, **kwargs: Any) -> None:
        signal.disconnect(self.bad, sender=Account)
        plain = session.sync_session if isinstance(session, AsyncSession) else session
        try:
            self._action(plain, instance)
        except Exception as error:
            self.refused = error
            if not self._forgives:
                raise


def start(plain: Session, kind: str) -> None:
    """Begin a write of one kind; a row named ``old`` is there."""
    if kind == "create":
        plain.add(Account(name="new"))
        return
    account = plain.scalars(select(Account)).one()
    if kind == "update":
        account.name = "new"
    else:
        plain.delete(account)


def rows(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return [*session.scalars(select(Account.name).order_by(Account.id))]


def prepare(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(delete(Account))
        session.add(Account(name="old"))
        session.commit()


def check(trial: Trial, engine: Engine, what: str) -> None:
    assert engine.pool.checkedout() == 0, what
    is_changed = rows(engine) != ["old"]
    assert is_changed == any(when == "after_commit" for _, when in trial.sent), what
    with Session(engine) as session:
        session.add(Account(name="afterwards"))
        session.commit()


def forget() -> None:
    for signal in LIFE_CYCLE:
        restore_connections(signal, [])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    forget()


CASES = [
    (name, kind, flushes)
    for flushes in (False, True)
    for name in ACTIONS
    for kind in WRITES
    if (name, kind) != ("delete", "create")
]
"""Deleting in post_save what was just created leaves, after the commit, what was there before."""

SHARE = 1 if EFFORT > 1 else 13
"""An ordinary run tries every thirteenth, and each test others."""


@pytest.mark.parametrize("forgives", [False, True], ids=["raises", "forgives"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.filterwarnings("ignore")  # SQLAlchemy's, on what becomes of such sessions
def test_under_a_plain_session(moment: str, forgives: bool, sync_engine: Engine) -> None:
    """Whatever a receiver does, what is sent is what is in the database, or it is an error."""
    for name, kind, flushes in CASES[(2 * MOMENTS.index(moment) + forgives) % SHARE :: SHARE]:
        what = f"{name} in {moment} of {kind}, flush={flushes}"
        prepare(sync_engine)
        phase = "after_commit" if moment == "after_commit" else "immediate"
        trial = Trial(WRITES[kind][moment != "pre"], phase, ACTIONS[name], forgives)
        with Session(sync_engine) as session:
            try:
                start(session, kind)
                if flushes:
                    session.flush()
                session.commit()
            except Exception as error:
                trial.error = error
            assert_nothing_is_left(session)
            session.rollback()
        forget()
        if name in ENDS or (name == "expunge all" and moment == "after_commit"):
            assert type(trial.refused).__name__ == "SessionInUseError", what
        check(trial, sync_engine, what)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.filterwarnings("ignore")  # the same
async def test_under_an_async_session(
    moment: str, database: databases.Database, sync_engine: Engine, async_engine: AsyncEngine
) -> None:
    """The same through ``session.sync_session`` of an AsyncSession."""
    for name, kind, flushes in CASES[(6 + MOMENTS.index(moment)) % SHARE :: SHARE]:
        what = f"{name} in {moment} of {kind}, flush={flushes}"
        prepare(sync_engine)
        phase = "after_commit" if moment == "after_commit" else "immediate"
        trial = Trial(WRITES[kind][moment != "pre"], phase, ACTIONS[name], forgives=False)
        async with AsyncSession(async_engine) as session:
            try:
                await session.run_sync(start, kind)
                if flushes:
                    await session.flush()
                await session.commit()
            except Exception as error:
                trial.error = error
            assert_nothing_is_left(session)
            await do(session, "rollback")
        forget()
        assert async_engine.pool.checkedout() == 0, what
        check(trial, sync_engine, what)


@pytest.mark.parametrize("signal", [pre_save, post_save], ids=["pre", "post"])
def test_a_connection_that_is_committed_behind_the_session(
    signal: Any, sync_engine: Engine
) -> None:
    """SQLAlchemy refuses the session's commit; what was written stays, and is sent as rolled back."""
    prepare(sync_engine)
    trial = Trial(signal, "immediate", lambda s, _: s.connection().commit(), forgives=False)
    with Session(sync_engine) as session:
        start(session, "create")
        with pytest.raises(Exception, match="This transaction is inactive"):
            session.commit()
    assert trial.sent == [("post_save", "after_rollback")]
    assert rows(sync_engine) == (["old"] if signal is pre_save else ["old", "new"])


def test_sql_that_ends_the_transaction_is_not_seen(sync_engine: Engine) -> None:
    """Who sends ROLLBACK as text undoes what the session believes to be committed."""
    prepare(sync_engine)
    action = lambda s, _: s.connection().exec_driver_sql("ROLLBACK")  # noqa: E731 - one line
    trial = Trial(post_save, "immediate", action, forgives=False)
    with Session(sync_engine) as session:
        start(session, "create")
        session.commit()
        assert session.scalar(select(func.count(Account.id))) == 1
    assert trial.sent == [("post_save", "after_commit")]
    assert rows(sync_engine) == ["old"]
