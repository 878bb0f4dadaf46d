"""Which signals a coalescing receiver is sent: the net of a transaction."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from kit.committing import COMMIT, ROLLBACK, Sessions
from kit.models import Post
from kit.net import CHANGED, CREATED, DELETED, Animal, Cat, Dog, Named, Net, write
from sqlalchemy import select
from sqlalchemy.orm import Session

from aksara_signals import SignalContext, post_save
from aksara_signals.testing import as_if_committed


@pytest.mark.parametrize(
    ("before", "steps", "expected"),
    [
        ("", "c", CREATED),
        ("", "cu", CREATED),
        ("", "cuuu", CREATED),
        ("", "cd", []),
        ("", "cud", []),
        ("", "cdc", CREATED),
        ("", "cdcu", CREATED),
        ("", "cdcd", []),
        ("", "cs", CREATED),
        ("c", "u", CHANGED),
        ("c", "uu", CHANGED),
        ("c", "u=", []),
        ("c", "u=u", CHANGED),
        ("c", "ud", DELETED),
        ("c", "d", DELETED),
        ("c", "dc", DELETED + CREATED),
        ("c", "udcu", DELETED + CREATED),
        ("c", "dcd", DELETED),
        ("c", "dcdc", DELETED + CREATED),
        ("c", "s", DELETED + CREATED),
        ("c", "su", DELETED + CREATED),
        ("c", "sd", DELETED),
        ("", "c<u>", CREATED),
        ("", "<c>u", CREATED),
        ("", "c<d>", []),
        ("", "c<d!", CREATED),
        ("", "<c!c", CREATED),
        ("c", "<d!u", CHANGED),
        ("c", "u<=!", CHANGED),
        ("c", "u<=>", []),
        ("c", "<u!", []),
    ],
)
def test_the_net_of_a_row(session: Session, before: str, steps: str, expected: list[Any]) -> None:
    """Whatever was done to it, each receiver is sent what it comes to, or nothing."""
    write(session, before)
    session.commit()
    net = Net(Post)
    write(session, steps)
    session.commit()
    assert sorted(net.sent, key=str) == sorted(expected, key=str)
    kinds = [name for name, *_ in net.sent]
    if "post_delete" in kinds:
        assert kinds[0] == "post_delete" or "s" in steps


def test_keys_that_change(session: Session) -> None:
    """A row is followed under its new key; deleted, it is the one that the world knew."""
    session.add_all([Named(name="a", text="1"), Named(name="b", text="2"), Named(name="c")])
    session.commit()
    rows = {each.name: each for each in session.scalars(select(Named))}
    net = Net(Named)
    rows["a"].name = "x"
    session.flush()
    rows["a"].name = "a"
    session.commit()
    assert net.take() == []
    rows["a"].name = "x"
    session.flush()
    session.add(Named(name="a"))
    session.flush()
    session.delete(rows["a"])
    session.commit()
    assert net.take() == [
        ("post_save", "a", True),
        ("created", "a", True),
        ("post_delete", "a", None),
    ]
    session.delete(rows["c"])
    session.flush()
    rows["b"].name = "c"
    session.flush()
    rows["b"].text = "3"
    session.commit()
    assert net.take() == [
        ("post_delete", "c", None),
        ("post_update", "c", False),
        ("post_save", "c", False),
        ("changed", "c", False),
    ]
    new = Named(name="n")
    session.add(new)
    session.flush()
    new.name = "m"
    session.commit()
    assert net.take() == [("post_save", "m", True), ("created", "m", True)]


def test_a_row_that_becomes_one_of_another_class(session: Session) -> None:
    """Each class is sent its own half; their base both."""
    session.add(Cat(id=1))
    session.commit()
    cats, animals = Net(Cat), Net(Animal)
    session.delete(session.get(Cat, 1))
    session.flush()
    session.add(Dog(id=1))
    session.commit()
    assert cats.take() == DELETED
    assert animals.take() == DELETED + CREATED
    session.get(Dog, 1).name = "x"
    session.flush()
    session.delete(session.get(Dog, 1))
    session.flush()
    session.add(Cat(id=1))
    session.commit()
    assert cats.take() == CREATED
    assert animals.take() == DELETED + CREATED


def test_what_is_silenced(session: Session) -> None:
    """Isn't sent with the rest; but what came and went in silence is nothing all the same."""
    net = Net(Post)
    with SignalContext.disable_for(Post):
        write(session, "c")
    write(session, "u")
    session.commit()
    assert net.take() == CHANGED
    with SignalContext.disable_for(Post):
        write(session, "u")
    session.commit()
    assert net.take() == []
    write(session, "u")
    with SignalContext.disable_for(Post):
        write(session, "d")
    session.commit()
    assert net.take() == []
    write(session, "c")
    with SignalContext.disable_for(Post):
        write(session, "d")
    session.commit()
    assert net.take() == []
    with SignalContext.disable_for(Post):
        write(session, "c")
    write(session, "d")
    session.commit()
    assert net.take() == []
    write(session, "c")
    session.commit()
    net.take()
    with SignalContext.disable_for(Post):
        write(session, "s")
    write(session, "d")
    session.commit()
    assert net.take() == DELETED


async def test_a_row_that_was_created_in_bulk_and_went_is_nothing(sessions: Sessions) -> None:
    """Neither its delete nor a change before that is sent; those of a row that was there are."""
    async with sessions() as session:
        await Post.objects.bulk_create([Post(id=1, title="there")], session=session)
        await session.commit()
        net = Net(Post)
        came = [Post(id=number, title="came") for number in (2, 3, 4)]
        await Post.objects.bulk_create(came, session=session)
        came[1].title = "changed"
        await session.flush()
        for post in came:
            await session.delete(post)
        await session.delete(await session.get_one(Post, 1))
        await session.commit()
        assert net.take() == DELETED
        again = Post(id=2, title="came")
        async with session.begin_nested():
            await Post.objects.bulk_create([again], session=session)
        await session.delete(again)
        await session.commit()
        assert net.take() == []


async def test_a_row_that_was_created_in_bulk_and_switched_is_created(sessions: Sessions) -> None:
    """What takes over its row is new to everybody."""
    net = Net(Post)
    async with sessions() as session:
        post = Post(id=1, title="came")
        await Post.objects.bulk_create([post], session=session)
        await session.delete(post)
        session.add(Post(id=1, title="switched"))
        await session.commit()
    assert net.sent == CREATED


async def test_a_row_that_was_created_in_bulk_and_changed_is_changed(sessions: Sessions) -> None:
    """No signal of one row was sent for its creation."""
    net = Net(Post)
    async with sessions() as session:
        post = Post(id=1, title="came")
        await Post.objects.bulk_create([post], session=session)
        post.title = "changed"
        await session.commit()
    assert net.sent == CHANGED


def test_a_rollback_is_no_net_across_savepoints(session: Session) -> None:
    """What a savepoint has undone is sent apart from what the transaction has undone."""
    write(session, "c")
    session.commit()
    net = Net(Post, phase=ROLLBACK)
    write(session, "<u!u=")
    session.commit()
    assert net.take() == CHANGED
    write(session, "u<u!")
    session.rollback()
    assert net.take() == CHANGED * 2
    write(session, "u<u>")
    session.rollback()
    assert net.take() == CHANGED
    write(session, "<d<c>!u")
    session.rollback()
    assert net.take() == DELETED + CREATED + CHANGED


def test_as_if_committed_has_the_net_of_its_block(session: Session) -> None:
    """What was done before it isn't part of it."""
    write(session, "c")
    net = Net(Post)
    with as_if_committed(session):
        write(session, "uu")
    assert net.take() == CHANGED
    with as_if_committed(session):
        write(session, "dc")
    assert net.take() == DELETED + CREATED


def test_a_receiver_that_comes_late(session: Session) -> None:
    """It is sent what happened since, like any other; connected in a flush, it isn't sure."""
    write(session, "c")
    net = Net(Post)
    write(session, "u")
    session.commit()
    assert net.take() == CHANGED


def test_order_and_the_others(session: Session) -> None:
    """A net stands in the place of its last write, among receivers that don't coalesce."""
    sent: list[Any] = []
    for coalesce in (False, True):
        post_save.connect(
            lambda instance, coalesce=coalesce, **kwargs: sent.append((instance.id, coalesce)),
            sender=Post,
            phase=COMMIT,
            coalesce=coalesce,
            priority=coalesce,
        )
    write(session, "c")
    session.add(Post(id=2, title="x"))
    session.flush()
    write(session, "u")
    session.commit()
    assert sent == [(1, False), (2, True), (2, False), (1, True), (1, False)]


def test_the_queue_keeps_no_instance_alive(session: Session) -> None:
    """What is queued for the net of a transaction is a note of the row, and a copy."""
    Net(Post)
    session.add(post := Post(title="x"))
    session.flush()
    alive = weakref.ref(post)
    session.expunge(post)
    del post
    gc.collect()
    assert alive() is None
