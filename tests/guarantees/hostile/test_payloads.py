"""Receivers that change what they are given: which others see the change?"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from kit import databases
from kit.misfits import WAYS, Account, Base, Team, send
from sqlalchemy import JSON, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import Signal, m2m_changed, post_save, signals
from aksara_signals.orm import SignalMixin


class Own(SignalMixin, DeclarativeBase):
    pass


class Doc(Own):
    __tablename__ = "doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON))


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_each_receiver_has_keywords_of_its_own(way: str, concurrent: bool) -> None:
    """A receiver that empties its kwargs takes nothing from the others; values are shared."""
    signal = Signal("emptied")
    received: list[Any] = []

    def empty(**kwargs: Any) -> None:
        received.append({**kwargs, "numbers": [*kwargs["numbers"]]})
        kwargs["numbers"].append(len(received))
        kwargs.clear()
        kwargs["forged"] = True

    signal.connect(empty, concurrent=concurrent)
    signal.connect(partial(empty), concurrent=concurrent)
    await send(signal, way, "me", numbers=[], text="x")
    common = {"signal": signal, "sender": "me", "text": "x"}
    assert received == [{**common, "numbers": []}, {**common, "numbers": [1]}]


async def test_payloads_of_a_flush_cannot_be_changed(sync_engine: Engine) -> None:
    """``changes`` is read-only, ``pk_set`` and ``update_fields`` are frozen."""
    Base.metadata.create_all(sync_engine)
    sent: list[Any] = []

    @post_save(Account)
    def tamper(changes: Any, update_fields: Any, **kwargs: Any) -> None:
        with pytest.raises(TypeError):
            changes["name"] = ("a", "b")
        sent.append(changes["name"])

    @m2m_changed(Account.teams)
    def tamper_more(pk_set: Any, objects: Any, **kwargs: Any) -> None:
        with pytest.raises(AttributeError):
            pk_set.add(7)
        sent.append(len(objects))

    with Session(sync_engine) as session:
        session.add(Account(name="x", teams=[Team(name="y")]))
        session.commit()
    assert sent == [1, (None, "x"), 1]


@pytest.mark.parametrize("coalesce", [False, True])
async def test_changes_after_a_commit_are_those_of_their_flush(
    async_engine: AsyncEngine, coalesce: bool
) -> None:
    """A value changed in place afterwards, by the program or by another receiver, isn't seen."""
    await databases.create_all(async_engine, Own.metadata)
    sent: list[Any] = []

    def receive(instance: Doc, changes: Any, **kwargs: Any) -> None:
        sent.append((changes["data"][1]["a"], instance.data["a"]))
        changes["data"][1]["a"] = instance.data["a"] = "forged"

    for number in range(2):
        post_save.connect(
            partial(receive),
            sender=Doc,
            phase="after_commit",
            coalesce=coalesce,
            dispatch_uid=number,
        )
    async with AsyncSession(async_engine) as session:
        doc = Doc(data={"a": 1})
        session.add(doc)
        await session.flush()
        doc.data["a"] = 2
        await session.flush()
        doc.data["a"] = 3
        await session.commit()
    assert sent == [(n, n) for n in ([3, 3] if coalesce else [1, 1, 2, 2, 3, 3])]


async def test_passed_args_after_a_commit_are_each_receivers_own(
    async_engine: AsyncEngine,
) -> None:
    """As they were when they were passed, with copies of instances; other values are the same."""
    await databases.create_all(async_engine, Base.metadata)
    sent: list[Any] = []
    reasons = ["because"]

    def receive(passed_args: Any, **kwargs: Any) -> None:
        sent.append(([*passed_args], passed_args["by"].name, passed_args["reasons"]))
        passed_args["by"].name = "forged"
        passed_args.clear()

    post_relation_add = signals.post_relation_add
    for number, phase in enumerate(["immediate", "after_commit", "after_commit"]):
        post_relation_add.connect(
            partial(receive), sender=Account, phase=phase, dispatch_uid=number
        )
    async with AsyncSession(async_engine, expire_on_commit=True) as session:
        by, account = Account(name="by"), Account(name="x")
        session.add_all([by, account])
        await session.commit()
        await session.refresh(by)
        await account.related("teams", session).add(Team(name="a"), by=by, reasons=reasons)
        await session.commit()
    assert sent == [(["by", "reasons"], "by", reasons)] * 3


async def test_what_is_sent_by_hand_waits_as_it_is(async_engine: AsyncEngine) -> None:
    """Values of a payload of one's own are the same objects, but for instances."""
    await databases.create_all(async_engine, Base.metadata)
    custom, sent, data = Signal("custom"), [], {"a": [1]}
    custom.connect(lambda **kwargs: sent.append(kwargs), phase="after_commit")
    account = Account(name="x")
    async with AsyncSession(async_engine) as session:
        session.add(account)
        await session.flush()
        await custom.send(None, session=session, data=data, passed_args=data, who=account)
        await custom.send(None, session=session, data=data, passed_args=None, who=[account])
        await session.commit()
    assert [each["data"] is data for each in sent] == [True, True]
    assert [each["passed_args"] for each in sent] == [data, None]
    assert sent[0]["who"] is not account
    assert sent[1]["who"][0] is not account


async def test_who_creates_in_bulk_gets_what_was_created(async_engine: AsyncEngine) -> None:
    """A post receiver that empties ``instances`` changes neither the result nor what waits."""
    await databases.create_all(async_engine, Base.metadata)
    sent: list[Any] = []
    signals.post_bulk_create.connect(lambda instances, **kwargs: instances.clear(), sender=Team)
    signals.post_bulk_create.connect(
        lambda instances, **kwargs: sent.append(len(instances)), sender=Team, phase="after_commit"
    )
    async with AsyncSession(async_engine) as session:
        made = await Team.objects.bulk_create([Team(name="a"), Team(name="b")], session=session)
        await session.commit()
    assert len(made) == 2
    assert sent == [2]


async def test_what_a_pre_receiver_leaves_in_bulk_is_checked(async_engine: AsyncEngine) -> None:
    """Junk in ``instances`` is refused before anything is written; an empty list writes nothing."""
    await databases.create_all(async_engine, Base.metadata)
    for junk in ([None], ["x"], [Account(name="x")], [7, Team(name="y")]):

        def replace(instances: list[Any], junk: Any = junk, **kwargs: Any) -> None:
            instances[:] = junk

        with signals.pre_bulk_create.connected_to(replace, sender=Team):
            async with AsyncSession(async_engine) as session:
                with pytest.raises(Exception, match="one model at a time"):
                    await Team.objects.bulk_create([Team(name="a")], session=session)
    async with AsyncSession(async_engine) as session:
        assert await Team.objects.count(session) == 0


@pytest.mark.parametrize("way", WAYS)
async def test_payload_names_of_any_kind(way: str) -> None:
    """Whatever Python lets stand as a keyword arrives, but for ``signal``, which is taken."""
    signal = Signal("named")
    received: list[Any] = []

    def receive(**kwargs: Any) -> None:
        received.append(kwargs)

    signal.connect(receive)
    payload = dict.fromkeys(("self", "receiver", "connection", "no name", "", "\n", "class"), 1)
    payload |= {f"key{number}": number for number in range(5000)}
    await send(signal, way, None, **payload)
    assert received == [{"signal": signal, "sender": None, **payload}]


@pytest.mark.parametrize("way", WAYS)
async def test_self_in_a_payload_is_the_receivers_trouble(way: str) -> None:
    """A bound method has a self already: Python's TypeError is that receiver's, with a note."""
    signal = Signal("selfish")

    class Bound:
        def method(self, **kwargs: Any) -> None: ...

    signal.connect(Bound().method)
    try:
        [(_, found)] = await send(signal, way, None, self=1)
    except TypeError as error:
        found = error
    assert "robust" in way or "Bound.method" in found.__notes__[0]
    assert "multiple values for argument 'self'" in str(found)
