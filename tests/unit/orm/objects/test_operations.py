"""Which operation sends what: the table of ``docs/reference/operations.rst`` is made here.

``AKSARA_UPDATE_DOCS=1`` writes the table anew.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, delete, insert, select, update
from sqlalchemy import text as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import SignalContext, signals
from aksara_signals.orm import SignalMixin, loading_fixtures, session_scope

TABLE = Path(__file__).parents[4] / "docs" / "reference" / "operations.csv"

COLUMNS = {
    "init": ("pre_init", "post_init"),
    "save": ("pre_save", "post_save"),
    "update": ("pre_update", "post_update"),
    "delete": ("pre_delete", "post_delete"),
    "statement": ("post_statement",),
    "bulk_create": ("pre_bulk_create", "post_bulk_create"),
    "bulk_update": ("pre_bulk_update", "post_bulk_update"),
    "relation_add": ("pre_relation_add", "post_relation_add"),
    "relation_remove": ("pre_relation_remove", "post_relation_remove"),
    "m2m_changed": (),
}
"""The columns of the table; each is a pair of signals, but for ``statement`` and the last."""

OPTION = "; receivers with ``statements=True``"
"""The end of those rows for whose operations the receivers are connected with the option."""


class Base(SignalMixin, DeclarativeBase):
    pass


class PostTag(Base):
    __tablename__ = "post_tag"

    post_id: Mapped[int] = mapped_column(ForeignKey("post.id"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), primary_key=True)


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="")
    tags: Mapped[list[Tag]] = relationship(secondary=PostTag.__table__)
    comments: Mapped[list[Comment]] = relationship(
        back_populates="post", cascade="all, delete-orphan"
    )


class Comment(Base):
    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int | None] = mapped_column(ForeignKey("post.id"))
    post: Mapped[Post | None] = relationship(back_populates="comments")


@dataclass
class World:
    """What an operation finds: a post with a comment and a tag, and another tag."""

    session: AsyncSession
    received: list[Any] = field(default_factory=list)

    async def set_up(self) -> None:
        async with SignalContext.disable_all():
            self.post = Post(comments=[Comment()], tags=[Tag()])
            self.tag = Tag()
            self.session.add_all([self.post, self.tag])
            await self.session.commit()
            await self.session.refresh(self.post, ["title", "tags", "comments"])
            await self.session.refresh(self.tag)


Operation = Callable[[World], Awaitable[Any]]
OPERATIONS: dict[str, tuple[Operation, bool]] = {}
"""By what the row says: the operation, and whether receivers are connected with the option."""


def operation(text: str, *options: bool) -> Callable[[Operation], Operation]:
    """A row of the table; two rows of an operation that sends the more with ``statements=True``."""

    def note(function: Operation) -> Operation:
        for option in options or (False,):
            is_second = option and len(options) > 1
            OPERATIONS[f"{text}{OPTION}" if is_second else text] = function, option
        return function

    return note


def _silently(make: Callable[[], Any]) -> Any:
    with SignalContext.disable_all():
        return make()


@operation("``Post()``")
async def construct(world: World) -> None:
    Post()


@operation("``session.get()``, ``select()``, ``refresh()``")
async def load(world: World) -> None:
    world.session.expunge_all()
    post = (await world.session.scalars(select(Post))).one()
    await world.session.refresh(post)


@operation("``session.add(post)`` of a new instance")
async def add(world: World) -> None:
    world.session.add(_silently(Post))


@operation("``post.title = …``")
async def change(world: World) -> None:
    world.post.title = "new"


@operation("``post.title = …``, the value it has")
async def change_nothing(world: World) -> None:
    world.post.title = world.post.title + ""


@operation("``session.delete(tag)``")
async def delete_one(world: World) -> None:
    await world.session.delete(world.tag)


@operation("``session.delete(post)``, its comments cascading")
async def delete_cascading(world: World) -> None:
    await world.session.delete(world.post)


@operation("``session.merge(post)`` of an unknown row")
async def merge_new(world: World) -> None:
    await world.session.merge(_silently(lambda: Post(id=77)))


@operation("``session.merge(post)`` of a known row, changed")
async def merge_changed(world: World) -> None:
    await world.session.merge(_silently(lambda: Post(id=world.post.id, title="new")))


@operation("``post.comments.append(…)`` of a new comment")
async def append_child(world: World) -> None:
    world.post.comments.append(_silently(Comment))


@operation("``comment.post_id = …``")
async def set_key(world: World) -> None:
    world.post.comments[0].post_id = None


@operation("``post.comments.remove(…)``, an orphan to be deleted")
async def remove_orphan(world: World) -> None:
    world.post.comments.pop()


@operation("``post.tags.append(…)``")
async def append_tag(world: World) -> None:
    world.post.tags.append(world.tag)


@operation("``post.tags.remove(…)``, ``post.tags = []``")
async def remove_tag(world: World) -> None:
    world.post.tags = []


@operation("``await post.related('tags').add(…)``")
async def related_add(world: World) -> None:
    await world.post.related("tags").add(world.tag)


@operation("``await post.related('tags').remove(…)``")
async def related_remove(world: World) -> None:
    await world.post.related("tags").remove(world.post.tags[0])


@operation("``await post.related('tags').set(…)``")
async def related_set(world: World) -> None:
    await world.post.related("tags").set([world.tag])


@operation("``await post.related('tags').clear()``")
async def related_clear(world: World) -> None:
    await world.post.related("tags").clear()


@operation("``await post.save()`` of a new instance")
async def save_new(world: World) -> None:
    await _silently(Post).save(session=world.session)


@operation("``await post.save()`` of a changed instance")
async def save_changed(world: World) -> None:
    world.post.title = "new"
    await world.post.save()


@operation("``await post.save()``, ``update()`` of an unchanged instance")
async def save_unchanged(world: World) -> None:
    await world.post.save()
    await world.post.update()


@operation("``await post.save(update_fields=…)``")
async def save_fields(world: World) -> None:
    world.post.title = "new"
    await world.post.save(update_fields=["title"])


@operation("``await post.update(title=…)``")
async def update_one(world: World) -> None:
    await world.post.update(title="new")


@operation("``await tag.delete()``")
async def delete_itself(world: World) -> None:
    await world.tag.delete()


@operation("``await Post.objects.create()``, ``get_or_create()`` of an unknown row")
async def create(world: World) -> None:
    await Post.objects.create()


@operation("``await Post.objects.get_or_create()`` of a known row; ``get()``, ``filter()``, …")
async def read(world: World) -> None:
    await Post.objects.get_or_create(id=world.post.id)
    await Post.objects.get(pk=world.post.id)
    await Post.objects.filter(Post.id > 0).all()
    await Post.objects.count()


@operation("``await Post.objects.bulk_create(posts)``", True)
async def bulk_create(world: World) -> None:
    await Post.objects.bulk_create(_silently(lambda: [Post(), Post()]))


@operation("``await Post.objects.bulk_update(posts, fields)``", True)
async def bulk_update(world: World) -> None:
    world.post.title = "new"
    await Post.objects.bulk_update([world.post], ["title"])


@operation("``await Post.objects.filter(…).update(…)``", False, True)
async def query_update(world: World) -> None:
    await Post.objects.filter(id=world.post.id).update(title="new")


@operation("``await Post.objects.filter(…).with_signals().update(…)``", True)
async def query_update_with_signals(world: World) -> None:
    await Post.objects.filter(id=world.post.id).with_signals().update(title="new")


@operation("``await Tag.objects.filter(…).delete()``", False, True)
async def query_delete(world: World) -> None:
    await Tag.objects.filter(id=world.tag.id).delete()


@operation("``await Tag.objects.filter(…).with_signals().delete()``", True)
async def query_delete_with_signals(world: World) -> None:
    await Tag.objects.filter(id=world.tag.id).with_signals().delete()


@operation("``session.execute(insert(Post)…)``", False, True)
async def insert_statement(world: World) -> None:
    await world.session.execute(insert(Post).values(title="new"))
    await world.session.execute(insert(Post), [{"title": "new"}, {"title": "newer"}])


@operation("``session.execute(update(Post)…)``", False, True)
async def update_statement(world: World) -> None:
    await world.session.execute(update(Post).values(title="new"))


@operation("``session.execute(delete(Tag)…)``", False, True)
async def delete_statement(world: World) -> None:
    await world.session.execute(delete(Tag).where(Tag.id == world.tag.id))


@operation("``session.query(Post).update(…)``", False, True)
async def legacy_update(world: World) -> None:
    await world.session.run_sync(lambda session: session.query(Post).update({"title": "new"}))


@operation("``session.query(PostTag).delete()``", False, True)
async def legacy_delete(world: World) -> None:
    await world.session.run_sync(lambda session: session.query(PostTag).delete())


@operation("an upsert: ``insert(Post).on_conflict_do_nothing()``", False, True)
async def upsert(world: World) -> None:
    dialect = world.session.get_bind().dialect.name
    if dialect in ("mysql", "mariadb"):
        statement: Any = insert(Post).prefix_with("IGNORE")
    else:
        dialects = {"sqlite": sqlite, "postgresql": postgresql}
        statement = dialects[dialect].insert(Post).on_conflict_do_nothing()
    await world.session.execute(statement.values(title="new"))


@operation("statements with ``execution_options={'signals': False}``", True)
async def silent_statements(world: World) -> None:
    for statement in (insert(Post), update(Post).values(title="new"), delete(PostTag)):
        await world.session.execute(statement, execution_options={"signals": False})


@operation("statements on tables and connections, ``text()``", True)
async def core_statements(world: World) -> None:
    await world.session.execute(insert(Post.__table__).values(title="new"))
    await world.session.execute(sql("UPDATE post SET title = 'newer'"))
    await (await world.session.connection()).execute(delete(PostTag))


@operation(
    "``bulk_save_objects()``, ``bulk_insert_mappings()``, ``bulk_update_mappings()``",
    True,
)
async def legacy(world: World) -> None:
    def write(session: Any) -> None:
        session.bulk_save_objects([_silently(Post)])
        session.bulk_insert_mappings(Post, [{"title": "new"}])
        session.bulk_update_mappings(Post, [{"id": key, "title": "newer"}])

    key = world.post.id
    await world.session.run_sync(write)


@operation("any of these with ``SignalContext.disable_all()``", True)
async def silent(world: World) -> None:
    async with SignalContext.disable_all():
        await Post.objects.create()
        await world.tag.delete()
        world.post.title = "new"
        await world.session.flush()


@operation("any of these with ``loading_fixtures()``: the same, with ``raw=True``")
async def fixtures(world: World) -> None:
    world.session.add(_silently(Post))
    with loading_fixtures():
        await world.session.flush()
    assert {call["raw"] for call in world.received} == {True}


async def sent_by(text: str, engine: AsyncEngine) -> list[str]:
    """One row of the table."""
    perform, is_asked_for = OPERATIONS[text]
    async with AsyncSession(engine) as session, session_scope(session):
        world = World(session)
        await world.set_up()

        async def listen(**payload: Any) -> None:
            world.received.append(payload)

        connected = [getattr(signals, name) for name in signals.__all__]
        for signal in connected:
            can_ask = signal.payload.is_sent_by_statements
            signal.connect(listen, statements=is_asked_for and can_ask)
        try:
            await perform(world)
            await session.flush()
        finally:
            for signal in connected:
                signal.disconnect(listen)
    names = {call["signal"].name for call in world.received}
    row = [text]
    for column, pair in COLUMNS.items():
        if pair:
            sent = names.intersection(pair)
            if len(sent) < len(pair) and sent:
                assert is_asked_for, f"{text} sends only one of {pair}"
                assert sent == {pair[1]}
                row.append("post")
            else:
                row.append("•" if sent else "")
        else:
            actions = [call["action"] for call in world.received if call["signal"].name == column]
            row.append(", ".join(dict.fromkeys(each.partition("_")[2] for each in actions)))
    return row


async def test_operations_send_what_the_table_says(async_engine: AsyncEngine) -> None:
    """Every operation is performed, on each database, and sends what the documentation lists."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    rows = [["operation", *COLUMNS]]
    for text in OPERATIONS:
        rows.append(await sent_by(text, async_engine))
        async with async_engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                await connection.execute(table.delete())
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    if os.environ.get("AKSARA_UPDATE_DOCS"):
        TABLE.write_text(written.getvalue(), encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == written.getvalue()
