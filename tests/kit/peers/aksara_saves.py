"""Chapters of the story that our signals are sent for, as in ``django_saves``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import (
    m2m_changed,
    post_delete,
    post_init,
    post_save,
    pre_delete,
    pre_init,
    pre_save,
)
from aksara_signals.orm import loading_fixtures
from kit.peers.aksara_world import (
    Author,
    Base,
    Post,
    Tag,
    Treatise,
    chapter,
    count,
    deleted,
    lines,
    linked,
    made,
    read,
    saved,
)

# -- which receivers are called ----------------------------------------------------------------------


def receiver_of(name: str) -> Any:
    async def receiver(sender: Any, **kwargs: Any) -> None:
        lines.append(f"{name} received {sender.__name__}")

    return receiver


@chapter
async def connecting_by_name(session: AsyncSession) -> None:
    post_save.connect(receiver_of("tags"), sender=f"{Tag.__module__}.Tag")
    await Tag.objects.create(name="a")


@chapter
async def disconnecting_by_name(session: AsyncSession) -> None:
    receiver = receiver_of("tags")
    post_save.connect(receiver, sender=f"{Tag.__module__}.Tag")
    lines.append(repr(post_save.disconnect(receiver, sender=f"{Tag.__module__}.Tag")))
    await Tag.objects.create(name="a")


@chapter
async def connecting_by_a_bare_name(session: AsyncSession) -> None:
    post_save.connect(receiver_of("treatises"), sender="Treatise")
    await Treatise.objects.create(name="a")


@chapter
async def listening_to_a_base(session: AsyncSession) -> None:
    post_save.connect(receiver_of("all"), sender=Base)
    post_save.connect(receiver_of("posts"), sender=Post)
    await Treatise.objects.create(name="e")


@chapter
async def listening_to_one_relationship(session: AsyncSession) -> None:
    async def receiver(action: str, **kwargs: Any) -> None:
        lines.append(f"received {action}")

    m2m_changed.connect(receiver, sender=Post.tags)
    post = await Post.objects.create(name="p")
    await post.related("tags").add(await Tag.objects.create(name="a"))


@chapter
async def what_receivers_are_given(session: AsyncSession) -> None:
    async def take(signal: Any, **kwargs: Any) -> None:
        kind = f" args {type(kwargs['args']).__name__}" if "args" in kwargs else ""
        lines.append(f"{signal.name} {sorted(kwargs)}{kind}")

    for signal in (pre_init, post_init, pre_save, post_save, pre_delete, post_delete):
        signal.disconnect(saved)
        signal.disconnect(deleted)
        signal.connect(take, sender=Post)
    m2m_changed.disconnect(linked)
    m2m_changed.connect(take)
    post = Post(name="a")
    await post.save()
    await post.related("tags").add(await Tag.objects.create(name="t"))
    await post.delete()


# -- creating and changing --------------------------------------------------------------------------


@chapter
async def creating(session: AsyncSession) -> None:
    await Author.objects.create(name="ann")


@chapter
async def constructing(session: AsyncSession) -> None:
    for signal in (pre_init, post_init):
        signal.connect(made)
    await Author(name="ann").save()


@chapter
async def loading(session: AsyncSession) -> None:
    await Author.objects.create(name="ann")
    session.expunge_all()
    for signal in (pre_init, post_init):
        signal.connect(made)
    await Author.objects.get(name="ann")


@chapter
async def changing(session: AsyncSession) -> None:
    author = await Author.objects.create(name="ann")
    author.name = "anna"
    await author.save()


@chapter
async def saving_what_has_not_changed(session: AsyncSession) -> None:
    author = await Author.objects.create(name="ann")
    await author.save()


@chapter
async def saving_some_fields(session: AsyncSession) -> None:
    post = await Post.objects.create(name="a", slug="a")
    post.name, post.slug = "b", "b"
    await post.save(update_fields=["name"])
    with session.no_autoflush:
        row = (await session.execute(select(Post.name, Post.slug))).one()
    lines.append(repr(tuple(row)))


@chapter
async def saving_no_fields(session: AsyncSession) -> None:
    post = await Post.objects.create(name="a")
    post.name = "b"
    await post.save(update_fields=[])
    with session.no_autoflush:
        lines.append(await read(session, Post.name))


@chapter
async def saving_an_unknown_field(session: AsyncSession) -> None:
    post = await Post.objects.create(name="a")
    try:
        await post.save(update_fields=["nope"])
    except ValueError:
        lines.append("ValueError")


@chapter
async def a_key_of_ones_own(session: AsyncSession) -> None:
    await Tag(id=99, name="new").save()


@chapter
async def a_key_that_is_there(session: AsyncSession) -> None:
    await Tag(id=99, name="new").save()
    await session.merge(Tag(id=99, name="newer"))
    await session.flush()


@chapter
async def getting_or_creating(session: AsyncSession) -> None:
    for _ in range(2):
        tag, is_new = await Tag.objects.get_or_create(name="new")
        lines.append(f"{tag.name} {is_new}")


@chapter
async def fixtures(session: AsyncSession) -> None:
    with loading_fixtures():
        await Author(name="ann").save()


@chapter
async def creating_many(session: AsyncSession) -> None:
    await Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])
    lines.append(await count(session, Tag))


@chapter
async def updating_many(session: AsyncSession) -> None:
    tags = [await Tag.objects.create(name=name) for name in "ab"]
    lines.clear()
    for tag in tags:
        tag.name *= 2
    await Tag.objects.bulk_update(tags, ["name"])
    lines.append(str([*await session.scalars(select(Tag.name).order_by(Tag.name))]))


@chapter
async def updating_a_query(session: AsyncSession) -> None:
    await Tag.objects.create(name="a")
    lines.clear()
    await Tag.objects.filter(name="a").update(name="b")
    lines.append(await read(session, Tag.name))
