"""Arguments of a wrong kind: errors of ours, before anything is set, sent or written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Computed, ForeignKey, literal, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

from aksara_signals import (
    AksaraSignalsError,
    InstanceStateError,
    InvalidOptionError,
    InvalidReceiverError,
    UnknownFieldError,
    UnmappedClassError,
    signals,
)
from aksara_signals.orm import Manager, QuerySet, SignalMixin, on_commit, on_rollback


class Base(SignalMixin, DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    posts: Mapped[list[Post]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    views: Mapped[int] = mapped_column(default=1)
    twice: Mapped[int] = mapped_column(Computed("views * 2", persisted=True))
    seven: Mapped[int] = column_property(select(literal(7)).scalar_subquery())
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="posts")
    only_read: Mapped[Author | None] = relationship(viewonly=True)
    plain = "an attribute of the class"

    @hybrid_property
    def shown(self) -> str | None:
        return self.title

    @property
    def computed_here(self) -> int:
        return 1


class Seat(Base):
    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
async def post(async_engine: AsyncEngine) -> AsyncIterator[Post]:
    """A post that is in the database, of models that are bound to it."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    Base.bind_sessions(async_sessionmaker(async_engine))
    yield await Post.objects.create(title="a")
    Base.bind_sessions(None)


Attempt = Callable[[Post], Any]
ATTEMPTS: list[tuple[type[AksaraSignalsError], str, Attempt]] = [
    # -- instances
    (InvalidOptionError, "takes a list of names", lambda post: post.save(update_fields=3)),
    (InvalidOptionError, "takes a list of names", lambda post: post.save(update_fields=object())),
    (UnknownFieldError, "one string", lambda post: post.save(update_fields="title")),
    (UnknownFieldError, "one attribute", lambda post: post.save(update_fields=Post.title)),
    (UnknownFieldError, "Author.posts", lambda post: post.save(update_fields=[Author.posts])),
    (UnknownFieldError, "names 5", lambda post: post.save(update_fields=[5])),
    (UnknownFieldError, "names None", lambda post: post.save(update_fields=[None])),
    (UnknownFieldError, "names <list object>", lambda post: post.save(update_fields=[["title"]])),
    (UnknownFieldError, "names 116", lambda post: post.save(update_fields=b"title")),
    (
        UnknownFieldError,
        "computed by the database",
        lambda post: post.save(update_fields=["twice"]),
    ),
    (UnknownFieldError, "column_property", lambda post: post.save(update_fields=["seven"])),
    (UnknownFieldError, "viewonly", lambda post: post.save(update_fields=["only_read"])),
    (UnknownFieldError, "without a setter", lambda post: post.save(update_fields=["shown"])),
    (UnknownFieldError, "neither a column", lambda post: post.save(update_fields=["plain"])),
    (InvalidOptionError, "takes a Session", lambda post: post.save(3)),
    (UnknownFieldError, "computed by the database", lambda post: post.update(title="b", twice=4)),
    (UnknownFieldError, "column_property", lambda post: post.update(title="b", seven=4)),
    (UnknownFieldError, "viewonly", lambda post: post.update(title="b", only_read=None)),
    (UnknownFieldError, "without a setter", lambda post: post.update(title="b", shown="x")),
    (UnknownFieldError, "can be set", lambda post: post.update(title="b", computed_here=2)),
    (UnknownFieldError, "can be set", lambda post: post.update(title="b", save=2)),
    (UnknownFieldError, "can be set", lambda post: post.update(title="b", metadata={})),
    (UnknownFieldError, "can be set", lambda post: post.update(title="b", plain="x")),
    (UnknownFieldError, "mean 'title'", lambda post: post.update(views=2, titel="b")),
    (InvalidOptionError, "None or an instance", lambda post: post.update(title="b", author=3)),
    (InvalidOptionError, "takes a Session", lambda post: post.update(3, title="b")),
    (InvalidOptionError, "takes a Session", lambda post: post.delete(3)),
    (UnknownFieldError, "names no relationship", lambda post: Author(id=1).related(3)),
    (UnknownFieldError, "names no relationship", lambda post: Author(id=1).related(None)),
    (UnknownFieldError, "names no relationship", lambda post: Author(id=1).related([])),
    (UnknownFieldError, "mean 'posts'", lambda post: Author(id=1).related("post")),
    (UnknownFieldError, "Post.author", lambda post: Author(id=1).related(Post.author)),
    (UnknownFieldError, "set by assignment", lambda post: post.related(Post.author)),
    (UnknownFieldError, "names no relationship", lambda post: post.related(Post.title)),
    (InstanceStateError, "members are", lambda post: Author(id=1).related("posts").add(3)),
    (InstanceStateError, "members are", lambda post: Author(id=1).related("posts").set("ab")),
    (InstanceStateError, "members are", lambda post: Author(id=1).related("posts").add([None])),
    (InstanceStateError, "members are", lambda post: Author(id=1).related("posts").remove({1: 2})),
    (InvalidOptionError, "Session", lambda post: Author().related("posts", session=3).add(post)),
    # -- managers
    (UnmappedClassError, "3 is not mapped", lambda post: Manager(3)),
    (UnmappedClassError, "not mapped", lambda post: Manager(int)),
    (UnmappedClassError, "not mapped", Manager),
    (UnmappedClassError, "not mapped", lambda post: QuerySet("Post")),
    (UnmappedClassError, "not mapped", lambda post: Base.objects),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.create(3)),
    (InvalidOptionError, "it takes a dict", lambda post: Post.objects.get_or_create(5)),
    (InvalidOptionError, "it takes a dict", lambda post: Post.objects.get_or_create(["title"])),
    (InvalidOptionError, "list of instances", lambda post: Post.objects.bulk_create(3)),
    (InvalidOptionError, "list of instances", lambda post: Post.objects.bulk_create(None)),
    (InvalidOptionError, "list of instances", Post.objects.bulk_create),
    (InvalidOptionError, "among its instances", lambda post: Post.objects.bulk_create([3])),
    (InvalidOptionError, "among its instances", lambda post: Post.objects.bulk_create("ab")),
    (InvalidOptionError, "among its instances", lambda post: Post.objects.bulk_create([Post])),
    (InstanceStateError, "twice", lambda post: Post.objects.bulk_create([Post(id=8)] * 2)),
    (InstanceStateError, "SQL", lambda post: Post.objects.bulk_create([Post(views=literal(1))])),
    (InvalidOptionError, "batch_size", lambda post: Post.objects.bulk_create([Post()], "x")),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.bulk_create([Post()], 1, 3)),
    (InvalidOptionError, "list of instances", lambda post: Post.objects.bulk_update(3)),
    (InvalidOptionError, "list of instances", Post.objects.bulk_update),
    (InvalidOptionError, "among its instances", lambda post: Post.objects.bulk_update([3])),
    (
        InvalidOptionError,
        "fields was given 3; it takes a list of names",
        lambda post: Post.objects.bulk_update([post], 3),
    ),
    (UnknownFieldError, "one string", lambda post: Post.objects.bulk_update([post], "title")),
    (UnknownFieldError, "names 5", lambda post: Post.objects.bulk_update([post], ["title", 5])),
    (UnknownFieldError, "one attribute", lambda post: Post.objects.bulk_update([post], Post.title)),
    (UnknownFieldError, "computed", lambda post: Post.objects.bulk_update([post], ["twice"])),
    (UnknownFieldError, "not a column", lambda post: Post.objects.bulk_update([post], ["seven"])),
    (
        InvalidOptionError,
        "batch_size",
        lambda post: Post.objects.bulk_update([post], ["title"], -1),
    ),
    (InstanceStateError, "one model", lambda post: Post.objects.bulk_update([post, Author()])),
    # -- criteria
    (InvalidOptionError, "get(5) for a key", lambda post: Post.objects.filter(3)),
    (InvalidOptionError, "not an SQL", lambda post: Post.objects.filter("title = 'x'")),
    (InvalidOptionError, "not an SQL", lambda post: Post.objects.filter(None)),
    (InvalidOptionError, "not an SQL", lambda post: Post.objects.filter([Post.id == 5])),
    (InvalidOptionError, "not an SQL", lambda post: Post.objects.filter(Post.id == 1, 3)),
    (InvalidOptionError, "has computed", lambda post: Post.objects.filter(post.id == 5)),
    (InvalidOptionError, "has computed", lambda post: Post.objects.get(post.title == "a")),
    (InvalidOptionError, "one tuple", lambda post: Seat.objects.get(1, 2)),
    (InvalidOptionError, "a primary key", Post.objects.get),
    (UnknownFieldError, "row, number", lambda post: Seat.objects.get([1, 2])),
    (UnknownFieldError, "row, number", lambda post: Seat.objects.get((1,))),
    (UnknownFieldError, "consists of id", lambda post: Post.objects.get_or_none((1, 2))),
    (UnknownFieldError, "mean 'title'", lambda post: Post.objects.get(titel="x")),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.filter(session=3).all()),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.all(3)),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.first(3)),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.count(3)),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.exists("x")),
    (InvalidOptionError, "one by one", lambda post: Post.objects.order_by(3)),
    (InvalidOptionError, "one by one", lambda post: Post.objects.order_by(None)),
    (InvalidOptionError, "one by one", lambda post: Post.objects.order_by(["title"])),
    (UnknownFieldError, "mean 'title'", lambda post: Post.objects.order_by("titel")),
    (UnknownFieldError, "relationship", lambda post: Post.objects.order_by("author")),
    (UnknownFieldError, "not an attribute", lambda post: Post.objects.order_by("-")),
    (InvalidOptionError, "'x'; it takes an integer", lambda post: Post.objects.limit("x")),
    (InvalidOptionError, "-1; it takes an integer", lambda post: Post.objects.filter().limit(-1)),
    (InvalidOptionError, "it takes an integer", lambda post: Post.objects.limit(True)),
    (InvalidOptionError, "it takes an integer", lambda post: Post.objects.limit(1.5)),
    (InvalidOptionError, "takes True, False", lambda post: Post.objects.with_signals(3)),
    (InvalidOptionError, "takes True, False", lambda post: Post.objects.with_signals(Post)),
    # -- writing queries
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.update(3, title="b")),
    (InvalidOptionError, "takes a Session", lambda post: Post.objects.delete(3)),
    (UnknownFieldError, "no values", lambda post: Post.objects.update()),
    (UnknownFieldError, "computed", lambda post: Post.objects.update(title="b", twice=3)),
    (UnknownFieldError, "column_property", lambda post: Post.objects.update(title="b", seven=3)),
    (UnknownFieldError, "foreign key", lambda post: Post.objects.update(title="b", author=None)),
    (UnknownFieldError, "mean 'title'", lambda post: Post.objects.update(titel="b")),
    (
        UnknownFieldError,
        "computed",
        lambda post: Post.objects.with_signals().update(title="b", twice=3),
    ),
    (
        UnknownFieldError,
        "column_property",
        lambda post: Post.objects.with_signals().update(title="b", seven=3),
    ),
    (
        InvalidOptionError,
        "None or an instance",
        lambda post: Post.objects.with_signals().update(title="b", author=3),
    ),
    # -- sessions and callbacks
    (InvalidOptionError, "makes no sessions", lambda post: Post.bind_sessions(3)),
    (InvalidOptionError, "expire_on_commit", lambda post: Post.bind_sessions(lambda: None)),
    (InvalidReceiverError, "can't be called", lambda post: on_commit(3)),
    (InvalidReceiverError, "can't be called", lambda post: on_rollback(None)),
    (InvalidReceiverError, "can't be called", lambda post: on_commit(AsyncSession())),
    (
        InvalidReceiverError,
        "can't be called",
        lambda post: on_commit(scoped_session(sessionmaker())),
    ),
    (InvalidOptionError, "takes a Session", lambda post: on_commit(3, print)),
    (InvalidOptionError, "takes a Session", lambda post: on_commit(print, print)),
    # -- emitters
    (
        InvalidOptionError,
        "has its sender already",
        lambda post: Post.signals.post_save.connect(print, sender=Author),
    ),
    (
        InvalidOptionError,
        "has its sender already",
        lambda post: Post.signals.post_save.disconnect(print, senders=[Post]),
    ),
]


async def test_what_makes_no_sense_is_refused_before_anything_happens(post: Post) -> None:
    """The message says what was given and what is taken; no receiver was called, nothing is pending."""
    called: list[str] = []
    built_in = [getattr(signals, name) for name in signals.__all__ if not name.endswith("_init")]
    for signal in built_in:
        signal.connect(lambda signal, **kwargs: called.append(signal.name))
    before = [each.connections for each in built_in]
    for number, (error, words, attempt) in enumerate(ATTEMPTS):
        with pytest.raises(error) as caught:
            result = attempt(post)
            if isinstance(result, Awaitable):
                await result
        what = f"attempt {number} at {words!r}"
        assert words in str(caught.value), what
        assert len(str(caught.value)) < 600, what
        assert called == [], what
        assert [each.connections for each in built_in] == before, what
        assert post.title == "a", what
    [found] = await Post.objects.all()
    assert (found.title, found.views, found.author_id) == ("a", 1, None)


async def test_a_computed_column_that_was_set_is_no_change_to_be_written(post: Post) -> None:
    """bulk_update() without fields names it instead of failing in the database."""
    post.title, post.twice = "b", 9
    with pytest.raises(InstanceStateError, match="'twice' was changed, which is computed"):
        await Post.objects.bulk_update([post])
    assert (await Post.objects.get(post.id)).title == "a"


async def test_a_relationship_to_many_is_no_field(post: Post) -> None:
    """It is written in other rows."""
    author = Author(id=1)
    await author.save()
    with pytest.raises(UnknownFieldError, match="written in other rows"):
        await author.save(update_fields=["posts"])


async def test_a_collection_is_given_a_collection(post: Post) -> None:
    """A relationship to many takes a list of instances, and no lone one."""
    author = Author(id=1)
    await author.save()
    for wrong in (post, 3, "ab", None):
        with pytest.raises(InvalidOptionError, match="a collection of"):
            await author.update(posts=wrong)


async def test_a_factory_of_something_else_is_refused(post: Post) -> None:
    """It is found out when the first session is made."""
    Post.bind_sessions(dict)
    try:
        with pytest.raises(InvalidOptionError, match="has made <dict object>"):
            await post.save()
    finally:
        Post.bind_sessions(None)


async def test_a_models_signals_take_their_own_model_as_sender() -> None:
    """It says the same once more."""

    def receiver(**kwargs: Any) -> None: ...

    Post.signals.post_save.connect(receiver, sender=Post)
    assert Post.signals.post_save.disconnect(receiver, sender=Post)
