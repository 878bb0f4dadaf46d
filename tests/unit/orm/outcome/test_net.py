"""What a coalescing receiver is sent: the net of a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.models import Base, Post
from sqlalchemy import Engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, Session, SessionTransaction, mapped_column

from aksara_signals import Signal, SignalContext, post_delete, post_save, post_update
from aksara_signals.dispatch.signal import restore_connections
from aksara_signals.orm import loading_fixtures
from aksara_signals.testing import as_if_committed

COMMIT, ROLLBACK = "after_commit", "after_rollback"
Sessions = async_sessionmaker[AsyncSession]


class Named(Base):
    __tablename__ = "named"

    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Animal(Base):
    __tablename__ = "net_animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Dog(Animal):
    __mapper_args__ = {"polymorphic_identity": "dog"}


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    """A session on empty tables."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine, expire_on_commit=False) as session:
        yield session


class Net:
    """What coalescing receivers of every kind are sent, in order."""

    def __init__(self, *senders: type, phase: str = COMMIT) -> None:
        self.sent: list[Any] = []
        for sender in senders:
            for signal, created in (
                (post_save, None),
                (post_save, True),
                (post_save, False),
                (post_update, None),
                (post_delete, None),
            ):
                self.connect(signal, sender, created, phase)

    def connect(self, signal: Signal, sender: type, created: bool | None, phase: str) -> None:
        name = {None: signal.name, True: "created", False: "changed"}[created]
        options = {} if created is None else {"created": created}

        def note(instance: Any, **kwargs: Any) -> None:
            identity = instance.name if isinstance(instance, Named) else instance.id
            self.sent.append((name, identity, kwargs.get("created")))

        signal.connect(note, sender=sender, phase=phase, coalesce=True, **options)

    def take(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent


CREATED = [("post_save", 1, True), ("created", 1, True)]
CHANGED = [("post_update", 1, False), ("post_save", 1, False), ("changed", 1, False)]
DELETED = [("post_delete", 1, None)]


def write(session: Session, steps: str) -> None:
    """Write the row 1 of Post, a flush for each letter."""
    savepoints: list[SessionTransaction] = []
    # SQLAlchemy takes back what a savepoint has created only while it is held.
    held: list[Post] = []
    for number, step in enumerate(steps):
        post = session.get(Post, 1)
        match step:
            case "c":
                held.append(Post(id=1, title="created"))
                session.add(held[-1])
            case "d":
                session.delete(post)
            case "=":
                post.title = "created"
            case "s":  # a row switch: one UPDATE
                session.delete(post)
                session.add(Post(id=1, title="switched"))
            case "<":
                savepoints.append(session.begin_nested())
            case ">":
                savepoints.pop().commit()
            case "!":
                savepoints.pop().rollback()
            case _:
                post.title = f"{step} {number}"
        session.flush()


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


def test_the_last_values_and_all_changes(session: Session) -> None:
    """Those of the last flush; first old and last new values, less what cancels out."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, coalesce=True)
    def look(instance: Post, created: bool, changes: Any, **kwargs: Any) -> None:
        seen.append((instance.title, instance.slug, created, dict(changes)))

    post = Post(id=1, title="a")
    session.add(post)
    session.flush()
    post.title, post.views = "b", 8
    session.commit()
    [(title, slug, created, changes)] = seen
    assert (title, slug, created) == ("b", None, True)
    assert (changes["title"], changes["views"]) == ((None, "b"), (None, 8))
    seen.clear()
    post.title, post.slug = "c", "s"
    session.flush()
    post.title, post.views = "b", 9
    session.flush()
    post.views = 10
    session.commit()
    [(*_, changes)] = seen
    assert changes == {"slug": (None, "s"), "views": (8, 10)}


def test_an_old_value_that_was_not_loaded_cancels_out(session: Session) -> None:
    """Nobody has to name changes for it."""
    write(session, "c")
    session.commit()
    session.expire_all()
    sent: list[Any] = []
    animal = Animal(id=1, name="a")
    session.add(animal)
    session.commit()
    post_save.connect(
        lambda **kwargs: sent.append(kwargs), sender=Animal, phase=COMMIT, coalesce=True
    )
    session.expire(animal)
    animal.name = "b"
    session.flush()
    session.expire(animal)
    animal.name = "a"
    session.commit()
    assert sent == []


def test_fields_and_raw_of_several(session: Session) -> None:
    """raw only if all were; update_fields together, or None if any had none."""
    write(session, "c")
    session.commit()
    seen: list[Any] = []
    post_update.connect(
        lambda raw, update_fields, **kwargs: seen.append((raw, update_fields)),
        sender=Post,
        phase=COMMIT,
        coalesce=True,
    )
    for raws in ((True, True), (True, False), (False, True)):
        for number, raw in enumerate(raws):
            session.get(Post, 1).title = f"{raws} {number}"
            if raw:
                with loading_fixtures():
                    session.flush()
            else:
                session.flush()
        session.commit()
    assert seen == [(True, None), (False, None), (False, None)]


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        (["title"], ["slug"], {"title", "slug"}),
        (["title"], None, None),
        (None, ["slug"], None),
    ],
)
async def test_update_fields_of_several(
    sessions: async_sessionmaker[AsyncSession], first: Any, then: Any, expected: Any
) -> None:
    """The union, or None if any had none."""
    seen: list[Any] = []
    async with sessions(expire_on_commit=False) as session:
        post = Post(title="x")
        session.add(post)
        await session.commit()
        post_save.connect(
            lambda update_fields, **kwargs: seen.append(update_fields),
            sender=Post,
            phase=COMMIT,
            coalesce=True,
        )
        post.title = "y"
        await post.save(update_fields=first)
        post.slug = "y"
        await post.save(update_fields=then)
        await session.commit()
    assert seen == [expected]


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


@pytest.mark.parametrize("signal", [post_save, post_delete])
def test_who_is_connected_to_nothing_else(session: Session, signal: Signal) -> None:
    """What other signals would tell counts, though nobody is connected to them."""
    sent: list[Any] = []
    signal.connect(lambda **kwargs: sent.append(1), sender=Post, phase=COMMIT, coalesce=True)
    write(session, "cud")
    session.commit()
    assert sent == []
    if signal is post_delete:  # several of one flush
        session.add_all(posts := [Post(id=number, title="brief") for number in (8, 9)])
        session.flush()
        for post in posts:
            session.delete(post)
        session.commit()
        assert sent == []
    write(session, "c")
    session.commit()
    write(session, "ud")
    session.commit()
    assert len(sent) == 1


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
    """No signal of one row has told of its creation."""
    net = Net(Post)
    async with sessions() as session:
        post = Post(id=1, title="came")
        await Post.objects.bulk_create([post], session=session)
        post.title = "changed"
        await session.commit()
    assert net.sent == CHANGED


async def test_the_net_has_the_values_of_a_bulk_update(sessions: Sessions) -> None:
    """The last values are those that the row has, and what it has put back cancels out."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, coalesce=True)
    async def look(instance: Post, created: bool, changes: Any, **kwargs: Any) -> None:
        seen.append((instance.title, instance.slug, created, changes.get("title")))

    async def write(session: AsyncSession, post: Post, title: str) -> None:
        post.title = title
        await session.flush()

    async def write_in_bulk(session: AsyncSession, post: Post, title: str) -> None:
        post.title = title
        await Post.objects.bulk_update([post], ["title"], session=session)

    async with sessions() as session:
        post = Post(id=1, title="draft")
        session.add(post)
        await session.flush()
        await write_in_bulk(session, post, "final")
        await session.commit()
        await write(session, post, "changed")
        await write_in_bulk(session, post, "final")
        await session.commit()
        await write(session, post, "changed")
        post.slug = "pending"
        await write_in_bulk(session, post, "other")
        post.slug = "x"
        await session.commit()
        await write_in_bulk(session, post, "silent")
        await session.commit()
        await write(session, post, "kept")
        async with session.begin_nested() as savepoint:
            await write_in_bulk(session, post, "undone")
            await savepoint.rollback()
        await session.commit()
        await write(session, post, "changed")
        post.slug = "pending"
        await write_in_bulk(session, post, "last")
        session.expire(post)
        await session.commit()
    assert seen == [
        ("final", None, True, (None, "final")),
        ("other", "x", False, ("final", "other")),
        ("kept", "x", False, ("silent", "kept")),
        ("last", "x", False, ("kept", "last")),
    ]


def test_a_row_is_deleted_with_the_key_that_it_has(session: Session) -> None:
    """Another key that was set and never written is that of another row, or of none."""
    deleted: list[int] = []
    for coalesce in (False, True):
        post_delete.connect(
            lambda instance, **kwargs: deleted.append(instance.id),
            sender=Post,
            phase=COMMIT,
            coalesce=coalesce,
        )
    write(session, "c")
    session.commit()
    post = session.get_one(Post, 1)
    post.id = 2
    session.delete(post)
    session.commit()
    assert deleted == [1, 1]


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


def test_sends_by_hand(session: Session) -> None:
    """One per row, the last; what the unit of work knows of the row counts for more."""
    sent: list[Any] = []
    post_save.connect(
        lambda instance, created, **kwargs: sent.append((instance.title, created)),
        sender=Post,
        phase=COMMIT,
        coalesce=True,
    )
    write(session, "c")
    post = session.get(Post, 1)
    post_save.send_sync(Post, instance=post, created=False)
    session.commit()
    assert sent == [("created", True)]
    sent.clear()
    post_save.send_sync(Post, instance=post, created=True)
    post_save.send_sync(Post, instance=post)
    session.commit()
    assert sent == [("created", True)]


def test_a_receiver_that_comes_late(session: Session) -> None:
    """It is sent what happened since, like any other; connected in a flush, it isn't sure."""
    write(session, "c")
    net = Net(Post)
    write(session, "u")
    session.commit()
    assert net.take() == CHANGED


def test_order_and_the_others(session: Session) -> None:
    """A net stands in the place of its last write, among those who coalesce nothing."""
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


def test_nothing_is_read_where_nobody_coalesces(session: Session, sync_engine: Engine) -> None:
    """Old values are asked for by those alone who are sent the net of changes."""
    write(session, "c")
    session.commit()
    statements: list[str] = []
    event.listen(
        sync_engine, "before_cursor_execute", lambda *each: statements.append(each[2].split()[0])
    )
    counts = []
    for options in ({"coalesce": True}, {"created": True, "coalesce": True}, {}):
        restore_connections(post_save, [])
        post_save.connect(lambda **kwargs: None, sender=Post, phase=COMMIT, **options)
        post = session.get(Post, 1)
        session.expire(post, ["title"])
        statements.clear()
        post.title = f"{options}"
        session.commit()
        counts.append(statements.count("SELECT"))
    assert counts[0] == counts[1] + 1
    assert counts[1] == counts[2]
