"""History tables, and rows that are never updated, kept by before_flush beside our receivers."""

from __future__ import annotations

from typing import Any

import pytest
from kit.peers.recipes import SentLines, Twin
from sqlalchemy import inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attributes,
    make_transient,
    make_transient_to_detached,
    mapped_column,
)

from aksara_signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
)
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


# -- a history table, kept by before_flush ----------------------------------------------------------


class Account(Base):
    """Its rows of old are copied into ``account_history``."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column(default=1)


class AccountHistory(Base):
    __tablename__ = "account_history"
    id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int]


def keep_history(session: Session, context: object, instances: object) -> None:
    """As the recipe does: from what the attributes were, a row of history for each change."""
    gone = [each for each in session.deleted if isinstance(each, Account)]
    changed = [each for each in session.dirty if isinstance(each, Account)]
    for account in gone + changed:
        state = inspect(account)
        old = {}
        is_changed = account in session.deleted
        for key in ("id", "revision", "owner", "balance"):
            history = state.attrs[key].load_history()
            old[key] = history.deleted[0] if history.deleted else getattr(account, key)
            is_changed = is_changed or bool(history.deleted)
        if is_changed:
            session.add(AccountHistory(**old))
            account.revision = old["revision"] + 1


async def test_a_history_table(twin: Twin, listen: Any) -> None:
    """The recipe keeps every version, and each change is sent once, with the old value."""
    listen("before_flush", keep_history)
    sent = SentLines(pre_save, post_save, pre_delete, post_delete, sender=Account)
    account = Account(owner="ann")
    await twin.save(account)
    assert sent.taken() == ["pre_save Account created", "post_save Account created"]

    account.balance = 5
    await twin.flush()
    changes = sent.changes[-1]
    assert changes == {"balance": (0, 5), "revision": (1, 2)}
    assert sent.taken() == ["pre_save Account", "post_save Account"]

    await twin.delete(account)
    await twin.commit()
    assert sent.taken() == ["pre_delete Account", "post_delete Account"]
    found = select(AccountHistory.revision, AccountHistory.balance)
    assert await twin.all(found.order_by(AccountHistory.revision)) == [(1, 0), (2, 5)]


async def test_rows_of_history_are_sent_too(twin: Twin, listen: Any) -> None:
    """Before and after from a listener before ours; from one after ours, afterwards and warned of."""
    listen("before_flush", keep_history)
    sent = SentLines(pre_save, post_save, sender=AccountHistory)
    account = Account(owner="ann")
    await twin.save(account)
    account.owner = "anna"
    after = "post_save AccountHistory created"
    if listen.is_first:
        await twin.commit()
        assert sent.taken() == ["pre_save AccountHistory created", after]
        return
    with pytest.warns(AksaraSignalsWarning, match="1 rows of AccountHistory"):
        await twin.commit()
    assert sent.taken() == [after]


async def test_history_of_what_receivers_change(twin: Twin, listen: Any) -> None:
    """A listener after ours sees what pre_save receivers change elsewhere; one before ours can't."""
    listen("before_flush", keep_history)
    account, bank = Account(owner="ann"), Account(owner="bank")
    await twin.save(account, bank)

    async def charge(instance: Any, **kwargs: Any) -> None:
        if instance is account:
            bank.balance += 1

    pre_save.connect(charge, sender=Account)
    account.owner = "anna"
    await twin.commit()
    await twin.refresh(bank)
    assert bank.balance == 1
    owners = await twin.all(select(AccountHistory.owner).order_by(AccountHistory.owner))
    assert owners == ([("ann",)] if listen.is_first else [("ann",), ("bank",)])


# -- rows that are never updated --------------------------------------------------------------------


class Draft(Base):
    """A change makes a new row of it."""

    __tablename__ = "draft"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def insert_instead(session: Session, context: object, instances: object) -> None:
    for draft in [each for each in session.dirty if isinstance(each, Draft)]:
        if session.is_modified(draft):
            make_transient(draft)
            draft.id = None
            session.add(draft)


async def test_an_update_that_becomes_an_insert(twin: Twin, listen: Any) -> None:
    """What is sent afterwards is what was written: a new row, whatever was sent before."""
    draft = Draft(text="a")
    await twin.save(draft)
    listen("before_flush", insert_instead)
    sent = SentLines(pre_save, post_update, post_save)
    draft.text = "b"
    if listen.is_first:
        await twin.flush()
        expected = ["pre_save Draft created", "post_save Draft created"]
    else:
        with pytest.warns(AksaraSignalsWarning, match="1 rows of Draft"):
            await twin.flush()
        expected = ["pre_save Draft", "post_save Draft created"]
    assert sent.changes[-1] == {"id": (None, 2), "text": (None, "b")}
    assert sent.taken() == expected
    await twin.commit()
    assert await twin.all(select(Draft.id, Draft.text).order_by(Draft.id)) == [(1, "a"), (2, "b")]


def update_instead(session: Session, context: object, instances: object) -> None:
    """New objects whose key is taken stand for the row that is there."""
    for draft in [each for each in session.new if isinstance(each, Draft) and each.id]:
        session.expunge(draft)
        make_transient_to_detached(draft)
        session.add(draft)
        attributes.flag_modified(draft, "text")


async def test_an_insert_that_becomes_an_update(twin: Twin, listen: Any) -> None:
    """The same the other way round."""
    await twin.save(Draft(text="a"))
    await twin.close()
    listen("before_flush", update_instead)
    sent = SentLines(pre_save, post_update, post_save)
    twin.session.add(Draft(id=1, text="b"))
    if listen.is_first:
        await twin.flush()
        expected = ["pre_save Draft", "post_update Draft", "post_save Draft"]
    else:
        with pytest.warns(AksaraSignalsWarning, match="1 rows of Draft"):
            await twin.flush()
        expected = ["pre_save Draft created", "post_update Draft", "post_save Draft"]
    assert sent.taken() == expected
    await twin.commit()
    assert await twin.all(select(Draft.id, Draft.text)) == [(1, "b")]
