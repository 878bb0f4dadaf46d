"""m2m_changed and the four relation signals: told once, from the side that was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, Table, event, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)

from aksara_signals import (
    AksaraSignalsWarning,
    InstanceStateError,
    SignalContext,
    UnknownFieldError,
    m2m_changed,
    post_relation_add,
    post_relation_remove,
    post_save,
    pre_relation_add,
    pre_relation_remove,
    pre_save,
)
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.relations.origins import edits_or_none

RELATIONS = (pre_relation_add, post_relation_add, pre_relation_remove, post_relation_remove)


class Base(SignalMixin, DeclarativeBase):
    pass


def link(name: str, left: str, right: str, **options: Any) -> Table:
    """A secondary table between two tables with a key of one column."""
    return Table(
        name,
        Base.metadata,
        Column("left_id", ForeignKey(f"{left}.id"), primary_key=True),
        Column("right_id", ForeignKey(f"{right}.id"), primary_key=True),
        **options,
    )


post_tag = link("post_tag", "post", "tag")
post_label = link("post_label", "post", "tag")
post_fan = link("post_fan", "post", "person")
post_reader = link("post_reader", "post", "person")
post_cover = link("post_cover", "post", "tag")
post_named = link("post_named", "post", "tag")
follow = link("follow", "person", "person")


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(back_populates="author")
    following: Mapped[list[Person]] = relationship(
        secondary=follow,
        primaryjoin=lambda: Person.id == follow.c.left_id,
        secondaryjoin=lambda: Person.id == follow.c.right_id,
        back_populates="followers",
    )
    locker: Mapped[Locker | None] = relationship(
        secondary="locker_keeper", back_populates="keeper", uselist=False
    )
    followers: Mapped[list[Person]] = relationship(
        secondary=follow,
        primaryjoin=lambda: Person.id == follow.c.right_id,
        secondaryjoin=lambda: Person.id == follow.c.left_id,
        back_populates="following",
    )


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    kind: Mapped[str] = mapped_column(default="post")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    author: Mapped[Person | None] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tag, back_populates="posts")
    labels: Mapped[set[Tag]] = relationship(secondary=post_label)  # one-way
    fans: WriteOnlyMapped[Person] = relationship(secondary=post_fan, passive_deletes=True)
    readers: DynamicMapped[Person] = relationship(secondary=post_reader, passive_deletes=True)
    cover: Mapped[Tag | None] = relationship(secondary=post_cover, uselist=False)
    named: Mapped[dict[str, Tag]] = relationship(
        secondary=post_named, collection_class=attribute_keyed_dict("name")
    )
    comments: Mapped[list[Comment]] = relationship(cascade="all, delete-orphan")  # one-way
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "post"}


class Essay(Post):
    __mapper_args__ = {"polymorphic_identity": "essay"}


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(secondary=post_tag, back_populates="tags")


class Locker(Base):
    """One person's at most, and found by a code that is no key."""

    __tablename__ = "locker"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    keeper: Mapped[Person | None] = relationship(
        secondary="locker_keeper", back_populates="locker", uselist=False
    )
    items: Mapped[list[Item]] = relationship(back_populates="locker")
    visitors: Mapped[list[Person]] = relationship(secondary="locker_visitor")


link("locker_keeper", "locker", "person")
locker_visitor = Table(
    "locker_visitor",
    Base.metadata,
    Column("locker_id", ForeignKey("locker.id"), primary_key=True),
    Column("person_id", ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
)


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(ForeignKey("locker.code"))
    locker: Mapped[Locker | None] = relationship(back_populates="items")


class Comment(Base):
    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int | None] = mapped_column(ForeignKey("post.id"))
    text: Mapped[str]


seat_guest = Table(
    "seat_guest",
    Base.metadata,
    Column("row", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    ForeignKeyConstraint(["row", "number"], ["seat.row", "seat.number"]),
)


class Seat(Base):
    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    guests: Mapped[list[Person]] = relationship(secondary=seat_guest, backref="seats")


@pytest.fixture
async def session(async_engine: AsyncEngine) -> Any:
    """A session on a database with empty tables."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with async_sessionmaker(async_engine, expire_on_commit=False)() as session:
        yield session


@pytest.fixture
def m2m(recorder: Recorder) -> Callable[[], list[tuple[Any, ...]]]:
    """Records m2m_changed; gives what arrived since the last look."""
    recorder.record(m2m_changed)

    def arrived() -> list[tuple[Any, ...]]:
        calls = [
            (
                call.sender.name,
                call.payload["instance"],
                call.payload["action"],
                call.payload["reverse"],
                call.payload["pk_set"],
            )
            for call in recorder.of(m2m_changed)
        ]
        recorder.clear()
        return calls

    return arrived


async def saved(session: AsyncSession, *instances: Any) -> None:
    """Commit new instances, silently, with all collections loaded."""
    with SignalContext.disable_all():
        session.add_all(instances)
        await session.commit()


async def on(session: AsyncSession, work: Callable[[], Any]) -> None:
    """Do what may load lazily, and commit."""
    await session.run_sync(lambda _: work())
    await session.commit()


# -- m2m_changed ----------------------------------------------------------------------------------


async def test_a_new_instance_with_members_is_told_before_and_after(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Saves come before additions; keys that are yet to be made are in post_add only."""
    for signal in (pre_save, m2m_changed, post_save):
        recorder.record(signal)
    old, new = Tag(name="old"), Tag(name="new")
    await saved(session, old)
    post = Post(title="a", tags=[old, new])
    session.add(post)
    await session.commit()
    assert recorder.names == [
        *["pre_save"] * 2,
        "m2m_changed",
        *["post_save"] * 2,
        "m2m_changed",
    ]
    pre, after = recorder.of(m2m_changed)
    assert pre.sender is after.sender is post_tag
    assert pre.payload == {
        "instance": post,
        "action": "pre_add",
        "reverse": False,
        "model": Tag,
        "pk_set": {old.id},
        "objects": [old, new],
        "session": session,
    }
    assert after.payload == pre.payload | {"action": "post_add", "pk_set": {old.id, new.id}}


async def test_assignment_tells_what_goes_and_what_comes(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Members that stay are not told, and removals come first."""
    a, b, c = (Tag(name=name) for name in "abc")
    post = Post(title="x", tags=[a, b])
    await saved(session, post, c)
    post.tags = [b, c]
    await session.commit()
    assert m2m() == [
        ("post_tag", post, "pre_remove", False, {a.id}),
        ("post_tag", post, "pre_add", False, {c.id}),
        ("post_tag", post, "post_remove", False, {a.id}),
        ("post_tag", post, "post_add", False, {c.id}),
    ]


async def test_a_link_is_told_once_from_the_side_that_was_changed(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Both collections show the change; only the one that was touched tells it."""
    tag, post = Tag(name="a"), Post(title="x")
    await saved(session, tag, post)
    await on(session, lambda: tag.posts.append(post))
    assert m2m() == [
        ("post_tag", tag, "pre_add", True, {post.id}),
        ("post_tag", tag, "post_add", True, {post.id}),
    ]
    await on(session, lambda: post.tags.remove(tag))
    assert [call[1:4] for call in m2m()] == [
        (post, "pre_remove", False),
        (post, "post_remove", False),
    ]
    await on(session, lambda: setattr(tag, "posts", [post]))
    assert [call[1:4] for call in m2m()] == [(tag, "pre_add", True), (tag, "post_add", True)]


async def test_a_self_referencing_relationship_knows_its_sides(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Ann follows Bob, or Bob gets Ann as a follower: one link, told by whom it was said of."""
    ann, bob = Person(name="ann"), Person(name="bob")
    await saved(session, ann, bob)
    await on(session, lambda: ann.following.append(bob))
    assert [call[1:] for call in m2m()] == [
        (ann, "pre_add", False, {bob.id}),
        (ann, "post_add", False, {bob.id}),
    ]
    await on(session, lambda: ann.followers.append(bob))
    assert [call[1:] for call in m2m()] == [
        (ann, "pre_add", True, {bob.id}),
        (ann, "post_add", True, {bob.id}),
    ]


async def test_nothing_is_told_when_nothing_changes_in_the_end(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Added and removed again, there already, or assigned as it was: no row, no signal."""
    tag, other = Tag(name="a"), Tag(name="b")
    post = Post(title="x", tags=[tag])
    await saved(session, post, other)
    post.tags.append(other)
    post.tags.remove(other)
    await session.commit()
    post.tags = [tag]
    await session.commit()
    await post.related("tags").add(tag)
    await post.related("tags").remove(other)
    assert m2m() == []


async def test_sets_dicts_and_scalars_are_told_like_lists(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Whatever holds the members, the links are the same."""
    a, b = Tag(name="a"), Tag(name="b")
    post = Post(title="x")
    await saved(session, a, b, post)

    def change() -> None:
        post.labels.add(a)
        post.named["b"] = b
        post.cover = a

    await on(session, change)
    assert {call for call in m2m() if call[2] == "post_add"} == {
        ("post_label", post, "post_add", False, frozenset({a.id})),
        ("post_named", post, "post_add", False, frozenset({b.id})),
        ("post_cover", post, "post_add", False, frozenset({a.id})),
    }
    post.cover = b
    del post.named["b"]
    await session.commit()
    assert [(call[0], call[2], call[4]) for call in m2m() if call[2].startswith("post")] == [
        ("post_cover", "post_remove", {a.id}),
        ("post_cover", "post_add", {b.id}),
        ("post_named", "post_remove", {b.id}),
    ]


@pytest.mark.parametrize("name", ["fans", "readers"])
async def test_collections_that_are_never_loaded_tell_what_is_really_linked(
    session: AsyncSession, m2m: Callable[[], Any], name: str
) -> None:
    """Write-only and dynamic: additions, removals, and nothing for a link that isn't there."""
    ann, bob = Person(name="ann"), Person(name="bob")
    post = Post(title="x")
    await saved(session, ann, bob, post)
    getattr(post, name).add(ann)
    await session.commit()
    assert [call[1:] for call in m2m()] == [
        (post, "pre_add", False, {ann.id}),
        (post, "post_add", False, {ann.id}),
    ]
    await post.related(name).add(ann, bob)
    assert [call[4] for call in m2m()] == [{bob.id}, {bob.id}]
    await post.related(name).remove(ann)
    assert [call[2:] for call in m2m()] == [
        ("pre_remove", False, {ann.id}),
        ("post_remove", False, {ann.id}),
    ]
    await post.related(name).clear()
    assert [call[2] for call in m2m()] == ["pre_clear", "post_clear"]
    if session.bind.dialect.name == "postgresql":  # SQLite reports the missing row as an error
        getattr(post, name).remove(ann)
        await session.commit()
        assert m2m() == []


async def test_composite_keys_are_tuples(session: AsyncSession, m2m: Callable[[], Any]) -> None:
    """``pk_set`` holds one value per member, or a tuple; a backref is the reverse side."""
    ann = Person(name="ann")
    seat = Seat(row=1, number=2)
    await saved(session, ann, seat)
    await on(session, lambda: ann.seats.append(seat))
    assert [call[1:] for call in m2m()] == [
        (ann, "pre_add", True, {(1, 2)}),
        (ann, "post_add", True, {(1, 2)}),
    ]
    await on(session, lambda: seat.guests.remove(ann))
    assert [call[1:] for call in m2m()] == [
        (seat, "pre_remove", False, {ann.id}),
        (seat, "post_remove", False, {ann.id}),
    ]


async def test_clear_is_told_as_clear_and_emptying_as_remove(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Only ``related(…).clear()`` is a clear."""
    tags = [Tag(name="a"), Tag(name="b")]
    keys = {1, 2}
    post = Post(title="x", tags=list(tags))
    await saved(session, post)
    post.tags.clear()
    await session.commit()
    assert [call[2:] for call in m2m()] == [
        ("pre_remove", False, keys),
        ("post_remove", False, keys),
    ]
    await post.related("tags").set(tags)
    assert [call[2] for call in m2m()] == ["pre_add", "post_add"]
    await post.related("tags").clear()
    assert [call[2:] for call in m2m()] == [
        ("pre_clear", False, keys),
        ("post_clear", False, keys),
    ]
    await post.related("tags").clear()
    assert m2m() == []


async def test_deleting_an_instance_tells_no_links(
    session: AsyncSession, m2m: Callable[[], Any], recorder: Recorder
) -> None:
    """As in Django: its links go with it, silently."""
    for signal in RELATIONS:
        recorder.record(signal)
    post = Post(title="x", tags=[Tag(name="a")], comments=[Comment(text="c")])
    await saved(session, post)
    await session.delete(post)
    await session.commit()
    assert recorder.calls == []


async def test_cascades_of_a_new_graph_are_told(session: AsyncSession, recorder: Recorder) -> None:
    """What comes into the session behind another instance is told as well."""
    recorder.record(post_relation_add)
    person = Person(name="p", posts=[Post(title="x", tags=[Tag(name="a")])])
    session.add(person)
    await session.commit()
    assert {(type(c.payload["instance"]), c.payload["relation_name"]) for c in recorder.calls} == {
        (Person, "posts"),
        (Post, "tags"),
    }


@pytest.mark.parametrize(
    "sender",
    [post_tag, Post.tags, Essay.tags, Tag.posts, Post, Tag, Essay, f"{__name__}.Post", None],
    ids=str,
)
async def test_connecting_by_table_relationship_or_class(
    session: AsyncSession, recorder: Recorder, sender: Any
) -> None:
    """The table, either relationship, either class, a name, or nothing: all hear the link once."""
    recorder.record(m2m_changed, sender)
    essay = Essay(title="x", tags=[Tag(name="a")])
    session.add(essay)
    await session.commit()
    assert [call.payload["action"] for call in recorder.calls] == ["pre_add", "post_add"]


async def test_relationships_over_other_tables_are_not_heard(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Connected to one relationship, a receiver hears no other one of the class."""
    recorder.record(m2m_changed, Post.labels)
    session.add(Post(title="x", tags=[Tag(name="a")]))
    await session.commit()
    assert recorder.calls == []


@pytest.mark.parametrize("model", [Post, Tag])
async def test_silencing_a_model_silences_its_relationships(
    session: AsyncSession, recorder: Recorder, model: type
) -> None:
    """Either class, wherever the change is made."""
    recorder.record(m2m_changed)
    post, tag = Post(title="x"), Tag(name="a")
    await saved(session, post, tag)
    with SignalContext.disable_for(model):
        await on(session, lambda: tag.posts.append(post))
    assert recorder.calls == []


async def test_receivers_may_change_relationships_before_the_flush(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """What a pre receiver adds joins the flush and is told in a round of its own."""
    extra = Tag(name="extra")
    await saved(session, extra)

    @m2m_changed.connect(sender=Post.tags)
    async def add_extra(instance: Any, action: str, objects: list[Any], **kwargs: Any) -> None:
        if action == "pre_add" and extra not in instance.tags:
            await instance.related("tags").add(extra, by="receiver")

    post = Post(title="x", tags=[Tag(name="a")])
    session.add(post)
    await session.commit()
    *pre, after = m2m()
    assert [call[2] for call in pre] == ["pre_add", "pre_add"]
    assert pre[1][4] == {extra.id}
    assert after[4] == {extra.id, post.tags[0].id}


async def test_a_veto_leaves_nothing_behind(session: AsyncSession) -> None:
    """A pre_add receiver that raises makes the flush fail."""

    @m2m_changed.connect(sender=Post.tags)
    async def refuse(action: str, **kwargs: Any) -> None:
        raise PermissionError(action)

    session.add(Post(title="x", tags=[Tag(name="a")]))
    with pytest.raises(PermissionError, match="pre_add"):
        await session.commit()
    await session.rollback()


async def test_links_of_later_listeners_are_told_by_post_signals_with_a_warning(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """A before_flush listener of the user's runs after ours: its links are found afterwards."""
    tag = Tag(name="a")
    post = Post(title="x", tags=[])
    await saved(session, tag, post)

    def add_late(*_: Any) -> None:
        post.tags.append(tag)

    event.listen(session.sync_session, "before_flush", add_late)
    post.title = "y"
    with pytest.warns(AksaraSignalsWarning, match="1 links"):
        await session.flush()
    assert [call[2] for call in m2m()] == ["post_add"]


async def test_the_second_of_two_flushes_tells_only_its_own_links(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """What was told is forgotten, on both sides."""
    post, a, b = Post(title="x", tags=[]), Tag(name="a"), Tag(name="b")
    await saved(session, post, a, b)
    post.tags.append(a)
    await session.flush()
    m2m()
    post.tags.append(b)
    await session.flush()
    assert [call[4] for call in m2m()] == [{b.id}, {b.id}]
    await session.rollback()


def test_a_synchronous_session_tells_links_too(sync_engine: Any, recorder: Recorder) -> None:
    """Lazy loads, backrefs and signals, without an event loop."""
    Base.metadata.create_all(sync_engine)
    recorder.record(m2m_changed, sync=True)
    with Session(sync_engine) as session:
        tag, post = Tag(name="a"), Post(title="x")
        session.add_all([tag, post])
        session.commit()
        tag.posts.append(post)
        session.commit()
        assert [c.payload["instance"] for c in recorder.calls] == [tag, tag]


# -- relation signals -----------------------------------------------------------------------------


def relation_calls(recorder: Recorder) -> list[tuple[Any, ...]]:
    calls = [
        (call.signal, call.sender, call.payload["instance"], call.payload["child"])
        for call in recorder.calls
    ]
    recorder.clear()
    return calls


async def test_a_many_to_one_set_by_hand_is_told_for_the_collections_owner(
    session: AsyncSession, recorder: Recorder
) -> None:
    """By the relationship, by the collection, or by the foreign key: the same signals, once."""
    for signal in RELATIONS:
        recorder.record(signal)
    ann, bob, post = Person(name="ann"), Person(name="bob"), Post(title="x")
    await saved(session, ann, bob, post)
    added = [
        ("pre_relation_add", Person, ann, post),
        ("post_relation_add", Person, ann, post),
    ]
    moved = [
        ("pre_relation_remove", Person, ann, post),
        ("pre_relation_add", Person, bob, post),
        ("post_relation_remove", Person, ann, post),
        ("post_relation_add", Person, bob, post),
    ]
    await on(session, lambda: setattr(post, "author", ann))
    assert relation_calls(recorder) == added
    await on(session, lambda: setattr(post, "author_id", bob.id))
    assert relation_calls(recorder) == moved
    await session.refresh(post)
    await on(session, lambda: setattr(post, "author", None))
    assert [call[0] for call in relation_calls(recorder)] == [
        "pre_relation_remove",
        "post_relation_remove",
    ]
    await on(session, lambda: ann.posts.append(post))
    assert relation_calls(recorder) == added
    await on(session, lambda: bob.posts.append(post))
    assert sorted(relation_calls(recorder), key=str) == sorted(moved, key=str)
    session.add(Post(title="new", author_id=ann.id))
    await session.commit()
    assert [call[:3] for call in relation_calls(recorder)] == [
        ("pre_relation_add", Person, ann),
        ("post_relation_add", Person, ann),
    ]


async def test_a_link_that_went_with_its_end_is_not_removed_again(
    session: AsyncSession, recorder: Recorder
) -> None:
    """What was deleted may still stand in a loaded collection; taking it out cuts nothing."""
    tag = Tag(name="a")
    post = Post(title="x", tags=[tag])
    await saved(session, post, tag)
    await session.refresh(post, ["tags"])
    for signal in (m2m_changed, *RELATIONS):
        recorder.record(signal)
    await session.delete(tag)
    await session.flush()
    recorder.clear()
    post.tags.remove(tag)
    await session.commit()
    assert recorder.calls == []


async def test_a_one_way_collection_is_told(session: AsyncSession, recorder: Recorder) -> None:
    """Without a way back, the collection's history is all there is; orphans are removed first."""
    for signal in RELATIONS:
        recorder.record(signal, Post)
    comment = Comment(text="c")
    post = Post(title="x", comments=[comment])
    session.add(post)
    await session.commit()
    assert [call[0] for call in relation_calls(recorder)] == [
        "pre_relation_add",
        "post_relation_add",
    ]
    post.comments.remove(comment)
    await session.commit()
    assert relation_calls(recorder) == [
        ("pre_relation_remove", Post, post, comment),
        ("post_relation_remove", Post, post, comment),
    ]


async def test_passed_args_reach_the_receivers_of_their_own_call(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Keyword arguments of ``related(…)`` go to the relation signals and nowhere else."""
    for signal in RELATIONS:
        recorder.record(signal, Post)
    tag = Tag(name="a")
    post = Post(title="x", tags=[])
    await saved(session, post, tag)
    await post.related("tags").add(tag, weight=3, by="me")
    assert [call.payload["passed_args"] for call in recorder.calls] == [
        {"weight": 3, "by": "me"}
    ] * 2
    recorder.clear()
    await post.related("tags").clear(why="test")
    assert [call.payload["passed_args"] for call in recorder.calls] == [{"why": "test"}] * 2
    recorder.clear()
    post.tags.append(tag)
    await session.flush()
    assert [call.payload["passed_args"] for call in recorder.calls] == [{}] * 2


async def test_related_works_on_collections_that_are_not_loaded(
    session: AsyncSession, async_engine: AsyncEngine
) -> None:
    """What native changes can't do under async: the collection is loaded on the way."""
    await saved(session, Post(title="x"), Tag(name="a"), Tag(name="b"), Person(name="p"))
    async with AsyncSession(async_engine, expire_on_commit=False) as fresh:
        post = await fresh.get_one(Post, 1)
        tags = [await fresh.get_one(Tag, key) for key in (1, 2)]
        person = await fresh.get_one(Person, 1)
        await post.related("tags").add(*tags)
        await post.related("cover").add(tags[0])
        await post.related("labels").set(tags)
        await person.related("posts").set(post)
        await fresh.commit()
        await fresh.refresh(post, ["tags", "cover", "labels", "author_id"])
        assert set(post.tags) == set(tags) == post.labels
        assert post.cover is tags[0]
        assert post.author_id == person.id
        await post.related("tags").set(tags[1])
        await post.related("cover").set(tags[1])
        await person.related("posts").clear()
        await fresh.refresh(post, ["tags", "cover", "author_id"])
        assert (post.tags, post.cover, post.author_id) == ([tags[1]], tags[1], None)


async def test_related_with_a_session_of_the_librarys_own_commits(
    async_engine: AsyncEngine, session: AsyncSession
) -> None:
    """Detached instances are written in one short transaction."""
    await saved(session, Post(title="x"), Tag(name="a"))
    Base.bind_sessions(async_sessionmaker(async_engine))
    session.expunge_all()
    post, tag = await Post.objects.get(pk=1), await Tag.objects.get(pk=1)
    await post.related("tags").add(tag)
    stored = await Post.objects.get(pk=1, session=session)
    await session.refresh(stored, ["tags"])
    assert [each.id for each in stored.tags] == [tag.id]


@pytest.mark.parametrize("name", ["author", "tagz", "title"])
def test_a_name_that_leads_to_no_members_is_refused(name: str) -> None:
    """References, columns and misspellings have no members to add to."""
    with pytest.raises(UnknownFieldError, match=name):
        Post(title="x").related(name)
    with pytest.raises(UnknownFieldError, match="did you mean 'tags'"):
        Post(title="x").related("tag")


@pytest.mark.parametrize("verb", ["add", "remove", "set"])
@pytest.mark.parametrize("wrong", [5, None, Post(title="no tag"), Tag])
async def test_a_member_of_another_class_is_refused(
    session: AsyncSession, verb: str, wrong: Any
) -> None:
    """Before anything is done: what stands before it in the list isn't linked either."""
    post, tag = Post(title="x"), Tag(name="t")
    session.add_all([post, tag])
    await session.commit()
    await session.refresh(post, ["tags"])
    with pytest.raises(InstanceStateError, match=r"'tags'.* instances of .*Tag"):
        await getattr(post.related("tags"), verb)(tag, wrong)
    await session.commit()
    await session.refresh(post, ["tags"])
    assert post.tags == []


async def test_relations_of_classes_that_are_not_wired_are_silent(
    async_engine: AsyncEngine, recorder: Recorder
) -> None:
    """Only classes with the mixin, or registered ones, send."""

    class Plain(DeclarativeBase):
        pass

    table = Table(
        "plain_link",
        Plain.metadata,
        Column("a", ForeignKey("plain.id"), primary_key=True),
        Column("b", ForeignKey("plain.id"), primary_key=True),
    )

    class Node(Plain):
        __tablename__ = "plain"

        id: Mapped[int] = mapped_column(primary_key=True)
        others: Mapped[list[Node]] = relationship(
            secondary=table,
            primaryjoin=lambda: Node.id == table.c.a,
            secondaryjoin=lambda: Node.id == table.c.b,
        )

    recorder.record(m2m_changed)
    async with async_engine.begin() as connection:
        await connection.run_sync(Plain.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        session.add(Node(others=[Node()]))
        await session.commit()
    assert recorder.calls == []


async def test_listeners_come_with_the_first_receiver_and_stay_idle_without_one() -> None:
    """The first receiver puts listeners on two-way relationships; alone, they note nothing."""

    async def receiver(**kwargs: Any) -> None: ...

    Base.registry.configure()
    m2m_changed.connect(receiver, sender=Post)
    there = len(list(Post.tags.dispatch.append))
    m2m_changed.disconnect(receiver, sender=Post)
    m2m_changed.connect(receiver, sender=Post)
    assert len(list(Post.tags.dispatch.append)) == there
    heard, unheard = Post(title="heard"), Post(title="unheard")
    heard.tags.append(Tag(name="x"))
    m2m_changed.disconnect(receiver, sender=Post)
    unheard.tags.append(Tag(name="x"))
    assert edits_or_none(inspect(heard)) is not None
    assert edits_or_none(inspect(unheard)) is None


async def test_two_scalar_sides_are_told_once(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """A many-to-many relationship of one to one knows the side that was assigned."""
    one, two, locker = Person(name="1"), Person(name="2"), Locker(code="x")
    await saved(session, one, two, locker)
    await on(session, lambda: setattr(one, "locker", locker))
    told = ("locker_keeper", one, "pre_add", False, {locker.id})
    assert m2m() == [told, (*told[:2], "post_add", *told[3:])]
    await on(session, lambda: setattr(locker, "keeper", two))
    assert [(instance, action, keys) for _, instance, action, _, keys in m2m()] == [
        (locker, "pre_remove", {one.id}),
        (locker, "pre_add", {two.id}),
        (locker, "post_remove", {one.id}),
        (locker, "post_add", {two.id}),
    ]


async def test_a_reference_to_something_else_than_a_key(
    session: AsyncSession, recorder: Recorder
) -> None:
    """By assignment it is told; a column set to what is no key can't be, and sends nothing."""
    item, locker = Item(), Locker(code="x")
    await saved(session, item, locker)
    recorder.record(post_relation_add, Locker)
    item.code = "x"
    await session.commit()
    assert recorder.calls == []
    await session.refresh(item, ["locker"])
    await on(session, lambda: setattr(item, "locker", None))
    await on(session, lambda: setattr(item, "locker", locker))
    assert [call.payload["child"] for call in recorder.calls] == [item]


async def test_a_reference_set_and_set_back_sends_nothing(
    session: AsyncSession, recorder: Recorder
) -> None:
    """No net change of a foreign key, no signal."""
    one = Person(name="1")
    post = Post(title="a", author=one)
    await saved(session, one, post, Person(name="2"))
    for signal in RELATIONS:
        recorder.record(signal)
    post.author_id, post.title = one.id + 1, "b"
    post.author_id = one.id
    await session.commit()
    assert recorder.calls == []


async def test_keys_of_expired_members_are_known(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """An expired instance is told by the key of its row, without a query."""
    tag, post = Tag(name="a"), Post(title="x")
    post.tags.append(tag)
    await saved(session, post)
    key = tag.id
    session.expire(tag)
    post.tags.remove(tag)
    await session.flush()
    assert [(action, keys) for *_, action, _, keys in m2m()] == [
        ("pre_remove", {key}),
        ("post_remove", {key}),
    ]


async def test_what_is_deleted_in_the_same_flush_is_not_told(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Neither a link to what is deleted, nor that a deleted owner has lost a child."""
    old, new = Person(name="old"), Person(name="new")
    locker = Locker(code="x", visitors=[])
    post = Post(title="x", author=old)
    await saved(session, old, new, post, locker)
    for signal in (m2m_changed, *RELATIONS):
        recorder.record(signal)
    post.author = new
    locker.visitors.append(old)
    await session.delete(old)
    await session.commit()
    assert [(c.signal, c.payload["instance"], c.payload["child"]) for c in recorder.calls] == [
        ("pre_relation_add", new, post),
        ("post_relation_add", new, post),
    ]


async def test_related_adds_to_what_has_no_row_yet(
    session: AsyncSession, recorder: Recorder
) -> None:
    """A new instance is saved along with the members of a collection that is never loaded."""
    recorder.record(post_relation_add, Post)
    post, fan = Post(title="new"), Person(name="fan")
    await post.related("fans", session=session).add(fan)
    assert [call.payload["child"] for call in recorder.calls] == [fan]
    assert (await session.scalars(post.fans.select())).all() == [fan]
