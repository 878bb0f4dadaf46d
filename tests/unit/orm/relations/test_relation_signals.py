"""The four relation signals: a change of a member is sent for the owner of the collection."""

from __future__ import annotations

from typing import Any

import pytest
from kit.relationships import RELATIONS, Base, Comment, Item, Locker, Person, Post, Tag, on, saved
from kit.support import Recorder
from sqlalchemy import Column, ForeignKey, Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import InstanceStateError, UnknownFieldError, m2m_changed, post_relation_add
from aksara_signals.orm.relations.origins import edits_or_none


def relation_calls(recorder: Recorder) -> list[tuple[Any, ...]]:
    calls = [
        (call.signal, call.sender, call.payload["instance"], call.payload["child"])
        for call in recorder.calls
    ]
    recorder.clear()
    return calls


async def test_a_many_to_one_set_by_hand_is_sent_for_the_collections_owner(
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


async def test_a_one_way_collection_sends_its_links(
    session: AsyncSession, recorder: Recorder
) -> None:
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
    received, silent = Post(title="received"), Post(title="silent")
    received.tags.append(Tag(name="x"))
    m2m_changed.disconnect(receiver, sender=Post)
    silent.tags.append(Tag(name="x"))
    assert edits_or_none(inspect(received)) is not None
    assert edits_or_none(inspect(silent)) is None


async def test_a_reference_to_something_else_than_a_key(
    session: AsyncSession, recorder: Recorder
) -> None:
    """By assignment it is sent; a column set to what is no key sends nothing."""
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


async def test_links_of_what_is_deleted_in_the_same_flush_are_not_sent(
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
