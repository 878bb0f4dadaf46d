"""Many links in one flush: what they cost is proportional to their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit.costs import calls_of
from kit.relationships import Base, Person, Post, Tag
from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aksara_signals import (
    m2m_changed,
    post_relation_add,
    post_relation_remove,
    pre_relation_add,
)
from aksara_signals.orm.relations import finder


@pytest.fixture
def sync_session() -> Iterator[Session]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        yield session
    engine.dispose()


def receive(**kwargs: Any) -> None:
    """A receiver that does nothing."""


def _extend(post: Post, tags: list[Tag]) -> None:
    post.tags.extend(tags)


def _from_members(post: Post, tags: list[Tag]) -> None:
    for tag in tags:
        tag.posts.append(post)


def _clear(post: Post, _: list[Tag]) -> None:
    post.tags.clear()


def _replace(post: Post, tags: list[Tag]) -> None:
    post.tags = tags


def _write(session: Session, post: Post) -> None:
    session.flush()
    session.expire(post, ["tags"])
    assert post.tags is not None  # loaded, as the next change finds it


@pytest.mark.parametrize(
    ("is_full", "change"),
    [(False, _extend), (False, _from_members), (True, _clear), (True, _replace)],
)
def test_many_links_of_one_instance_cost_in_proportion(
    sync_session: Session, is_full: bool, change: Callable[[Post, list[Tag]], None]
) -> None:
    """Twice as many links added, removed or replaced take twice as many calls."""
    for signal in (m2m_changed, post_relation_add, post_relation_remove):
        signal.connect(receive, sender=Post)

    def cost(size: int) -> int:
        post = Post(title="many", tags=[Tag(name="old") for _ in range(size * is_full)])
        tags = [Tag(name="new") for _ in range(size)]
        sync_session.add_all([post, *tags])
        _write(sync_session, post)
        for tag in tags:
            assert tag.posts == []
        return calls_of(lambda: (change(post, tags), sync_session.flush()))

    cost(10)  # what is worked out once
    assert cost(400) < 2.2 * cost(200)


def test_many_children_of_one_parent_cost_in_proportion(sync_session: Session) -> None:
    """Children added to a collection, moved to another one and removed cost a fixed sum each."""
    for signal in (post_relation_add, post_relation_remove):
        signal.connect(receive, sender=Person)

    def cost(size: int) -> list[int]:
        first, second = Person(name="first"), Person(name="second")
        posts = [Post(title="x") for _ in range(size)]
        sync_session.add_all([first, second, *posts])
        sync_session.flush()

        def add() -> None:
            first.posts.extend(posts)

        def move() -> None:
            second.posts = posts

        def remove() -> None:
            second.posts = []

        def refer() -> None:
            for post in posts:
                post.author = first

        return [
            calls_of(lambda work=work: (work(), sync_session.flush()))  # type: ignore[misc]
            for work in (add, move, remove, refer)
        ]

    cost(10)
    for many, half in zip(cost(400), cost(200), strict=True):
        assert many < 2.2 * half


def test_links_without_receivers_are_not_searched(
    sync_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver of another class leaves the links of this one alone."""
    for signal in (m2m_changed, post_relation_add):
        signal.connect(receive, sender=Person.locker if signal is m2m_changed else Person)
    searched = _searched(monkeypatch)
    sync_session.add(Post(title="linked", tags=[Tag(name="a"), Tag(name="b")]))

    sync_session.flush()

    assert searched == []


@pytest.mark.parametrize(
    "sender", [Post, Tag, Post.tags, Tag.posts, f"{Tag.__module__}.Tag", Post.tags.property]
)
def test_links_are_searched_for_receivers_of_either_side(
    sync_session: Session, monkeypatch: pytest.MonkeyPatch, sender: Any
) -> None:
    """Whichever of its senders m2m_changed is connected to, the links of both sides are found."""
    is_table = not isinstance(sender, (type, str)) and sender is Post.tags.property
    m2m_changed.connect(receive, sender=sender.secondary if is_table else sender)
    searched = _searched(monkeypatch)
    sync_session.add(Post(title="linked", tags=[Tag(name="a")]))

    sync_session.flush()

    assert {*searched} == {"tags", "posts"}


@pytest.mark.parametrize(
    ("signal", "looks"),
    [(m2m_changed, "both before and after"), (post_relation_add, "after"), (pre_relation_add, "")],
)
def test_unchanged_links_are_searched_once_in_a_flush(
    sync_session: Session, monkeypatch: pytest.MonkeyPatch, signal: Any, looks: str
) -> None:
    """Whatever is sent before and after the flush, each collection's history is read once."""
    signal.connect(receive, sender=Post)
    post = Post(title="linked")
    sync_session.add(post)
    sync_session.flush()
    searched = _searched(monkeypatch)
    post.tags = [Tag(name="a"), Tag(name="b")]

    sync_session.flush()

    assert sorted(searched) == ["posts", "posts", "tags"], looks


def _searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the relationships whose history the search for links reads from now on."""
    searched: list[str] = []
    read = finder.net_history

    def note(state: Any, key: str) -> Any:
        searched.append(key)
        return read(state, key)

    monkeypatch.setattr(finder, "net_history", note)
    return searched


def test_links_that_a_pre_receiver_changes_are_searched_again(sync_session: Session) -> None:
    """A member exchanged for another one before the flush: what is sent after it is the new one."""
    sent: list[tuple[str, set[int]]] = []
    first, second = Tag(name="first"), Tag(name="second")
    post = Post(title="linked")
    sync_session.add_all([post, first, second])
    sync_session.flush()

    def exchange(instance: Post, action: str, pk_set: set[int], **kwargs: Any) -> None:
        sent.append((action, set(pk_set)))
        if action == "pre_add" and first in instance.tags:
            instance.tags[:] = [second]

    m2m_changed.connect(exchange, sender=Post)
    post.tags.append(first)

    sync_session.flush()

    assert sent == [
        ("pre_add", {first.id}),
        ("pre_add", {second.id}),
        ("post_add", {second.id}),
    ]


def test_the_side_of_a_link_is_judged_again_after_a_pre_receiver(sync_session: Session) -> None:
    """A receiver that makes the link anew from the other side: that side sends what follows."""
    sent: list[tuple[str, object]] = []
    tag, post = Tag(name="a"), Post(title="linked")
    sync_session.add_all([post, tag])
    sync_session.flush()

    def turn(instance: object, action: str, **kwargs: Any) -> None:
        sent.append((action, instance))
        if instance is post and action == "pre_add":
            tag.posts.remove(post)
            tag.posts.append(post)

    m2m_changed.connect(turn, sender=[Post, Tag])
    post.tags.append(tag)

    sync_session.flush()

    assert sent == [("pre_add", post), ("post_add", tag)]


def test_a_link_whose_end_a_later_listener_expunges_is_not_sent(sync_session: Session) -> None:
    """Nothing has changed about the collection, but the flush doesn't write the link any more."""
    actions: list[tuple[str, frozenset[int]]] = []
    kept, gone, post = Tag(name="kept"), Tag(name="gone"), Post(title="linked")
    sync_session.add_all([post, kept, gone])
    sync_session.flush()

    def receive_and_expunge(action: str, pk_set: frozenset[int], **kwargs: Any) -> None:
        actions.append((action, pk_set))
        if inspect(gone).session is not None:
            sync_session.expunge(gone)

    m2m_changed.connect(receive_and_expunge, sender=Post)
    post.tags.extend([kept, gone])

    with pytest.warns(match="not in session"):
        sync_session.flush()

    assert actions == [("pre_add", frozenset({kept.id, gone.id})), ("post_add", {kept.id})]
