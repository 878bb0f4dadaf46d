"""Chapters of the story that our signals are sent for, as in ``django_receivers``."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import post_save, pre_save
from kit.peers.aksara_world import Author, Award, Post, Tag, Treatise, chapter, count, lines, read

# -- what receivers do ------------------------------------------------------------------------------


@chapter
async def a_receiver_sets_a_column(session: AsyncSession) -> None:
    async def set_slug(instance: Any, **kwargs: Any) -> None:
        instance.slug = instance.name.lower()

    pre_save.connect(set_slug, sender=Post)
    await Post.objects.create(name="A")
    lines.append(await read(session, Post.slug))


@chapter
async def a_receiver_sets_a_column_that_is_not_saved(session: AsyncSession) -> None:
    post = await Post.objects.create(name="A", slug="old")

    async def set_slug(instance: Any, **kwargs: Any) -> None:
        instance.slug = "set"

    pre_save.connect(set_slug, sender=Post)
    post.name = "B"
    await post.save(update_fields=["name"])
    with session.no_autoflush:
        lines.append(await read(session, Post.slug))


@chapter
async def keys_and_receivers(session: AsyncSession) -> None:
    async def look(signal: Any, instance: Any, **kwargs: Any) -> None:
        lines.append(f"{signal.name} key {instance.id}")

    pre_save.connect(look, sender=Tag)
    post_save.connect(look, sender=Tag)
    await Tag.objects.create(name="a")


async def refuse(**kwargs: Any) -> None:
    raise ValueError("no")


async def vetoed(session: AsyncSession, signal: Any) -> None:
    signal.connect(refuse, sender=Tag)
    try:
        await Tag.objects.create(name="a")
    except ValueError:
        lines.append("refused")
    await session.rollback()
    lines.append(await count(session, Tag))


@chapter
async def a_veto(session: AsyncSession) -> None:
    await vetoed(session, pre_save)


@chapter
async def a_late_veto(session: AsyncSession) -> None:
    await vetoed(session, post_save)


async def note(instance: Any, **kwargs: Any) -> None:
    await Tag.objects.create(name=f"of {instance.name}")


@chapter
async def writing_after_a_save(session: AsyncSession) -> None:
    post_save.connect(note, sender=Author)
    await Author.objects.create(name="ann")


@chapter
async def writing_before_a_save(session: AsyncSession) -> None:
    pre_save.connect(note, sender=Author)
    await Author.objects.create(name="ann")


@chapter
async def saving_again_after_a_save(session: AsyncSession) -> None:
    async def once(instance: Any, created: bool, **kwargs: Any) -> None:
        if created:
            instance.slug = f"post-{instance.id}"
            await instance.save()

    post_save.connect(once, sender=Post)
    await Post.objects.create(name="a")
    lines.append(await read(session, Post.slug))


# -- deleting ---------------------------------------------------------------------------------------


@chapter
async def deleting(session: AsyncSession) -> None:
    author = await Author.objects.create(name="ann")
    lines.clear()
    await author.delete()


@chapter
async def deleting_what_others_refer_to(session: AsyncSession) -> None:
    author = await Author.objects.create(name="ann")
    for name in "ab":
        await Post.objects.create(name=name, author=author)
    lines.clear()
    await author.delete()
    lines.append(await count(session, Post))


@chapter
async def deleting_what_others_may_do_without(session: AsyncSession) -> None:
    author = await Author.objects.create(name="ann")
    await Post.objects.create(name="a", editor=author)
    lines.clear()
    await author.delete()
    lines.append(str(await read(session, Post.editor_id)))


@chapter
async def deleting_what_others_need(session: AsyncSession) -> None:
    author, tag = await Author.objects.create(name="ann"), await Tag.objects.create(name="new")
    await Award.objects.create(author=author, tag=tag, name="award")
    lines.clear()
    try:
        await tag.delete()
    except IntegrityError:
        await session.rollback()
        lines.append("refused")


@chapter
async def deleting_what_is_linked(session: AsyncSession) -> None:
    post = await Post.objects.create(name="a")
    await post.related("tags").add(await Tag.objects.create(name="new"))
    lines.clear()
    await post.delete()


@chapter
async def deleting_a_query(session: AsyncSession) -> None:
    for name in "ab":
        await Tag.objects.create(name=name)
    lines.clear()
    await Tag.objects.filter().delete()
    lines.append(await count(session, Tag))


@chapter
async def deleting_a_query_with_signals(session: AsyncSession) -> None:
    for name in "ab":
        await Tag.objects.create(name=name)
    lines.clear()
    await Tag.objects.filter().with_signals().delete()
    lines.append(await count(session, Tag))


# -- inheritance ------------------------------------------------------------------------------------


@chapter
async def saving_a_subclass(session: AsyncSession) -> None:
    treatise = await Treatise.objects.create(name="e")
    treatise.name = "f"
    await treatise.save()


@chapter
async def deleting_a_subclass(session: AsyncSession) -> None:
    treatise = await Treatise.objects.create(name="e")
    lines.clear()
    await treatise.delete()
