"""SQLAlchemy's optimistic locking beside our receivers: what is sent for a stale row."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from kit.peers.recipes import SentLines, Twin
from sqlalchemy import select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
)
from sqlalchemy.orm.exc import StaleDataError

from aksara_signals import (
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from aksara_signals.orm import SignalMixin, on_commit


class Base(SignalMixin, DeclarativeBase):
    pass


class Page(Base):
    """Counted by SQLAlchemy: an UPDATE names the version that it was made from."""

    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Stamped(Base):
    """The same with a version of Python's making."""

    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[str] = mapped_column()
    __mapper_args__ = {
        "version_id_col": version,
        "version_id_generator": lambda _: uuid.uuid4().hex,
    }


# -- optimistic locking -----------------------------------------------------------------------------


@pytest.fixture
def outcomes() -> list[str]:
    """What was delivered once an outcome was known."""
    received: list[str] = []
    for phase in ("after_commit", "after_rollback"):
        for signal in (post_save, post_delete):

            async def receiver(
                signal: Any, instance: Any, phase: str = phase, **kwargs: Any
            ) -> None:
                received.append(f"{phase} {signal.name} {instance.text}")

            signal.connect(receiver, phase=phase)
    return received


@pytest.mark.parametrize("cls", [Page, Stamped])
@pytest.mark.parametrize("verb", ["update", "delete"])
async def test_a_stale_row_is_refused(
    make_session: Any, outcomes: list[str], cls: Any, verb: str
) -> None:
    """StaleDataError reaches the caller, nothing counts as done, and the session goes on."""
    mine, theirs = make_session(expire_on_commit=False), make_session()
    page = cls(text="first")
    mine.session.add(page)
    await mine.commit()
    other = await theirs.get(cls, page.id)
    other.text = "theirs"
    await theirs.commit()
    outcomes.clear()

    sent = SentLines(pre_save, pre_delete, post_save, post_delete)
    on_commit(mine.plain, lambda: outcomes.append("committed"))
    if verb == "update":
        page.text = "mine"
    else:
        await mine.delete(page)
    with pytest.raises(StaleDataError):
        await mine.commit()
    pre = "pre_save" if verb == "update" else "pre_delete"
    assert sent.taken() == [f"{pre} {cls.__name__}"]
    await mine.rollback()
    assert outcomes == []

    await mine.refresh(page)
    assert page.text == "theirs"
    page.text = "mine again"
    await mine.commit()
    assert sent.taken() == [f"pre_save {cls.__name__}", f"post_save {cls.__name__}"]
    assert outcomes == ["after_commit post_save mine again"]


async def test_a_stale_row_takes_the_whole_flush_along(make_session: Any) -> None:
    """What was written beside it is sent before, and not after, and is not there."""
    mine, theirs = make_session(expire_on_commit=False), make_session()
    page = Page(text="first")
    mine.session.add(page)
    await mine.commit()
    other = await theirs.get(Page, page.id)
    other.text = "theirs"
    await theirs.commit()

    sent = SentLines(pre_save, post_save)
    page.text = "mine"
    mine.session.add(Stamped(text="beside"))
    with pytest.raises(StaleDataError):
        await mine.flush()
    await mine.rollback()
    assert sorted(sent.taken()) == ["pre_save Page", "pre_save Stamped created"]
    assert await mine.all(select(Stamped.text)) == []


async def test_a_stale_row_in_a_savepoint(make_session: Any, outcomes: list[str]) -> None:
    """Only the savepoint is lost; what the transaction does besides is committed and sent."""
    mine, theirs = make_session(expire_on_commit=False), make_session()
    page = Page(text="first")
    mine.session.add(page)
    await mine.commit()
    other = await theirs.get(Page, page.id)
    other.text = "theirs"
    await theirs.commit()
    outcomes.clear()

    mine.session.add(Stamped(text="kept"))
    await mine.flush()
    savepoint = Twin(await mine.begin_nested())
    page.text = "mine"
    with pytest.raises(StaleDataError):
        await mine.flush()
    await savepoint.rollback()
    await mine.commit()
    assert outcomes == ["after_commit post_save kept"]


async def test_the_version_is_no_change_until_it_is_written(twin: Twin) -> None:
    """changes has what was assigned; a counter is on the instance when post_save is sent."""
    sent, seen = SentLines(post_save, sender=Page), []

    async def look(instance: Any, **kwargs: Any) -> None:
        seen.append(instance.version)

    post_save.connect(look, sender=Page)
    page = Page(text="a")
    await twin.save(page)
    page.text = "b"
    await twin.commit()
    assert sent.changes[1] == {"text": ("a", "b")}
    assert seen == [1, 2]


async def test_a_receiver_that_writes_counts_once_more(twin: Twin) -> None:
    """What post_save sets is a second UPDATE, from the version that the first has left."""

    async def trim(instance: Any, **kwargs: Any) -> None:
        instance.text = instance.text.strip()

    pre_save.connect(trim, sender=Page)
    page = Page(text=" a ")
    await twin.save(page)
    assert (page.text, page.version) == ("a", 1)
    pre_save.disconnect(trim, sender=Page)
    post_save.connect(trim, sender=Page)
    page.text = " b "
    await twin.commit()
    await twin.refresh(page)
    assert (page.text, page.version) == ("b", 3)
