"""Chapters of Django's story: what receivers do, and what is deleted."""

from __future__ import annotations

from typing import Any

from django.db.models import signals

from kit.peers.django_world import NAMES, Author, Award, Post, Tag, Treatise, chapter, lines

# -- what receivers do ------------------------------------------------------------------------------


@chapter
def a_receiver_sets_a_column() -> None:
    def set_slug(instance: Any, **kwargs: Any) -> None:
        instance.slug = instance.name.lower()

    signals.pre_save.connect(set_slug, sender=Post)
    Post.objects.create(name="A")
    lines.append(Post.objects.get().slug)


@chapter
def a_receiver_sets_a_column_that_is_not_saved() -> None:
    post = Post.objects.create(name="A", slug="old")

    def set_slug(instance: Any, **kwargs: Any) -> None:
        instance.slug = "set"

    signals.pre_save.connect(set_slug, sender=Post)
    post.name = "B"
    post.save(update_fields=["name"])
    lines.append(Post.objects.get().slug)


@chapter
def keys_and_receivers() -> None:
    def look(signal: Any, instance: Any, **kwargs: Any) -> None:
        lines.append(f"{NAMES[signal]} key {instance.pk}")

    signals.pre_save.connect(look, sender=Tag)
    signals.post_save.connect(look, sender=Tag)
    Tag.objects.create(name="a")


@chapter
def a_veto() -> None:
    def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    signals.pre_save.connect(refuse, sender=Tag)
    try:
        Tag.objects.create(name="a")
    except ValueError:
        lines.append("refused")
    lines.append(str(Tag.objects.count()))


@chapter
def a_late_veto() -> None:
    def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    signals.post_save.connect(refuse, sender=Tag)
    try:
        Tag.objects.create(name="a")
    except ValueError:
        lines.append("refused")
    lines.append(str(Tag.objects.count()))


@chapter
def writing_after_a_save() -> None:
    def note(instance: Any, **kwargs: Any) -> None:
        Tag.objects.create(name=f"of {instance.name}")

    signals.post_save.connect(note, sender=Author)
    Author.objects.create(name="ann")


@chapter
def writing_before_a_save() -> None:
    def note(instance: Any, **kwargs: Any) -> None:
        Tag.objects.create(name=f"of {instance.name}")

    signals.pre_save.connect(note, sender=Author)
    Author.objects.create(name="ann")


@chapter
def saving_again_after_a_save() -> None:
    def once(instance: Any, created: bool, **kwargs: Any) -> None:
        if created:
            instance.slug = f"post-{instance.pk}"
            instance.save()

    signals.post_save.connect(once, sender=Post)
    Post.objects.create(name="a")
    lines.append(Post.objects.get().slug)


# -- deleting ---------------------------------------------------------------------------------------


@chapter
def deleting() -> None:
    author = Author.objects.create(name="ann")
    lines.clear()
    author.delete()


@chapter
def deleting_what_others_refer_to() -> None:
    author = Author.objects.create(name="ann")
    for name in "ab":
        Post.objects.create(name=name, author=author)
    lines.clear()
    author.delete()
    lines.append(str(Post.objects.count()))


@chapter
def deleting_what_others_may_do_without() -> None:
    author = Author.objects.create(name="ann")
    Post.objects.create(name="a", editor=author)
    lines.clear()
    author.delete()
    lines.append(str(Post.objects.get().editor_id))


@chapter
def deleting_what_others_need() -> None:
    author, tag = Author.objects.create(name="ann"), Tag.objects.create(name="new")
    Award.objects.create(author=author, tag=tag)
    lines.clear()
    tag.delete()


@chapter
def deleting_what_is_linked() -> None:
    post = Post.objects.create(name="a")
    post.tags.add(Tag.objects.create(name="new"))
    lines.clear()
    post.delete()


@chapter
def deleting_a_query() -> None:
    for name in "ab":
        Tag.objects.create(name=name)
    lines.clear()
    Tag.objects.all().delete()
    lines.append(str(Tag.objects.count()))


# -- inheritance ------------------------------------------------------------------------------------


@chapter
def saving_a_subclass() -> None:
    treatise = Treatise.objects.create(name="e")
    treatise.name = "f"
    treatise.save()


@chapter
def deleting_a_subclass() -> None:
    treatise = Treatise.objects.create(name="e")
    lines.clear()
    treatise.delete()
