"""m2m_changed: links are sent once, from the side that was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit.relationships import (
    RELATIONS,
    Base,
    Comment,
    Essay,
    Locker,
    Person,
    Post,
    Seat,
    Tag,
    on,
    post_tag,
    saved,
)
from kit.support import Recorder
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import (
    AksaraSignalsWarning,
    SignalContext,
    m2m_changed,
    post_relation_add,
    post_save,
    pre_save,
)


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


async def test_links_of_a_new_instance_are_sent_before_and_after(
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


async def test_assignment_sends_removed_and_added_members(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Members that stay are not sent, and removals come first."""
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


async def test_a_link_is_sent_once_from_the_side_that_was_changed(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """Both collections show the change; it is sent only for the one that was edited."""
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
    """Ann follows Bob, or Bob gets Ann as a follower: one link, sent for the side that was edited."""
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


async def test_nothing_is_sent_when_nothing_changes_in_the_end(
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


async def test_sets_dicts_and_scalars_are_sent_like_lists(
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
async def test_collections_that_are_never_loaded_send_what_is_really_linked(
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


async def test_clear_is_sent_as_clear_and_emptying_as_remove(
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


async def test_deleting_an_instance_sends_no_links(
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


async def test_cascades_of_a_new_graph_are_sent(session: AsyncSession, recorder: Recorder) -> None:
    """What comes into the session behind another instance is sent as well."""
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
    [post_tag, Post.tags, Essay.tags, Tag.posts, Post, Tag, Essay, f"{Post.__module__}.Post", None],
    ids=str,
)
async def test_connecting_by_table_relationship_or_class(
    session: AsyncSession, recorder: Recorder, sender: Any
) -> None:
    """The table, either relationship, either class, a name, or nothing: all receive the link once."""
    recorder.record(m2m_changed, sender)
    essay = Essay(title="x", tags=[Tag(name="a")])
    session.add(essay)
    await session.commit()
    assert [call.payload["action"] for call in recorder.calls] == ["pre_add", "post_add"]


async def test_relationships_over_other_tables_are_not_received(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Connected to one relationship, a receiver is called for no other one of the class."""
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
    """What a pre receiver adds joins the flush and is sent in a round of its own."""
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


async def test_links_of_later_listeners_are_sent_by_post_signals_with_a_warning(
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


async def test_the_second_of_two_flushes_sends_only_its_own_links(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """What was sent is forgotten, on both sides."""
    post, a, b = Post(title="x", tags=[]), Tag(name="a"), Tag(name="b")
    await saved(session, post, a, b)
    post.tags.append(a)
    await session.flush()
    m2m()
    post.tags.append(b)
    await session.flush()
    assert [call[4] for call in m2m()] == [{b.id}, {b.id}]
    await session.rollback()


def test_a_synchronous_session_sends_links_too(sync_engine: Any, recorder: Recorder) -> None:
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


async def test_two_scalar_sides_are_sent_once(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """A many-to-many relationship of one to one knows the side that was assigned."""
    one, two, locker = Person(name="1"), Person(name="2"), Locker(code="x")
    await saved(session, one, two, locker)
    await on(session, lambda: setattr(one, "locker", locker))
    sent = ("locker_keeper", one, "pre_add", False, {locker.id})
    assert m2m() == [sent, (*sent[:2], "post_add", *sent[3:])]
    await on(session, lambda: setattr(locker, "keeper", two))
    assert [(instance, action, keys) for _, instance, action, _, keys in m2m()] == [
        (locker, "pre_remove", {one.id}),
        (locker, "pre_add", {two.id}),
        (locker, "post_remove", {one.id}),
        (locker, "post_add", {two.id}),
    ]


async def test_keys_of_expired_members_are_known(
    session: AsyncSession, m2m: Callable[[], Any]
) -> None:
    """An expired instance is sent by the key of its row, without a query."""
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
