"""Chapters of Django's story: what is saved, and which receivers are called."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import signals

from kit.peers.django_world import (
    NAMES,
    Author,
    Post,
    Tag,
    Treatise,
    chapter,
    deleted,
    lines,
    linked,
    made,
    saved,
)

# -- which receivers are called ----------------------------------------------------------------------


def receiver_of(name: str) -> Any:
    def receiver(sender: Any, **kwargs: Any) -> None:
        lines.append(f"{name} received {sender.__name__}")

    KEPT.append(receiver)
    return receiver


KEPT: list[Any] = []


@chapter
def connecting_by_name() -> None:
    signals.post_save.connect(receiver_of("tags"), sender="story.Tag")
    Tag.objects.create(name="a")


@chapter
def disconnecting_by_name() -> None:
    receiver = receiver_of("tags")
    signals.post_save.connect(receiver, sender="story.Tag")
    lines.append(repr(signals.post_save.disconnect(receiver, sender="story.Tag")))
    Tag.objects.create(name="a")


@chapter
def connecting_by_a_bare_name() -> None:
    try:
        signals.post_save.connect(receiver_of("treatises"), sender="Treatise")
    except ValueError:
        lines.append("ValueError")
    Treatise.objects.create(name="a")


@chapter
def listening_to_a_base() -> None:
    signals.post_save.connect(receiver_of("all"), sender=models.Model)
    signals.post_save.connect(receiver_of("posts"), sender=Post)
    Treatise.objects.create(name="e")


@chapter
def listening_to_one_relationship() -> None:
    def receiver(action: str, **kwargs: Any) -> None:
        lines.append(f"received {action}")

    signals.m2m_changed.connect(receiver, sender=Post.tags.through)
    Post.objects.create(name="p").tags.add(Tag.objects.create(name="a"))


@chapter
def what_receivers_are_given() -> None:
    def take(signal: Any, **kwargs: Any) -> None:
        kind = f" args {type(kwargs['args']).__name__}" if "args" in kwargs else ""
        lines.append(f"{NAMES.get(signal, 'm2m_changed')} {sorted(kwargs)}{kind}")

    for signal in NAMES:
        signal.disconnect(saved)
        signal.disconnect(deleted)
        signal.connect(take, sender=Post)
    signals.m2m_changed.disconnect(linked)
    signals.m2m_changed.connect(take)
    post = Post(name="a")
    post.save()
    post.tags.add(Tag.objects.create(name="t"))
    post.delete()


# -- creating and changing --------------------------------------------------------------------------


@chapter
def creating() -> None:
    Author.objects.create(name="ann")


@chapter
def constructing() -> None:
    for signal in (signals.pre_init, signals.post_init):
        signal.connect(made)
    Author(name="ann").save()


@chapter
def loading() -> None:
    Author.objects.create(name="ann")
    for signal in (signals.pre_init, signals.post_init):
        signal.connect(made)
    Author.objects.get(name="ann")


@chapter
def changing() -> None:
    author = Author.objects.create(name="ann")
    author.name = "anna"
    author.save()


@chapter
def saving_what_has_not_changed() -> None:
    author = Author.objects.create(name="ann")
    author.save()


@chapter
def saving_some_fields() -> None:
    post = Post.objects.create(name="a", slug="a")
    post.name, post.slug = "b", "b"
    post.save(update_fields=["name"])
    lines.append(Post.objects.values_list("name", "slug").get().__repr__())


@chapter
def saving_no_fields() -> None:
    post = Post.objects.create(name="a")
    post.name = "b"
    post.save(update_fields=[])
    lines.append(Post.objects.values_list("name", flat=True).get())


@chapter
def saving_an_unknown_field() -> None:
    post = Post.objects.create(name="a")
    try:
        post.save(update_fields=["nope"])
    except ValueError:
        lines.append("ValueError")


@chapter
def a_key_of_ones_own() -> None:
    Tag(id=99, name="new").save()


@chapter
def a_key_that_is_there() -> None:
    Tag(id=99, name="new").save()
    Tag(id=99, name="newer").save()


@chapter
def getting_or_creating() -> None:
    for _ in range(2):
        tag, is_new = Tag.objects.get_or_create(name="new")
        lines.append(f"{tag.name} {is_new}")


@chapter
def fixtures() -> None:
    Author(name="ann").save_base(raw=True)


@chapter
def creating_many() -> None:
    Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])
    lines.append(str(Tag.objects.count()))


@chapter
def updating_many() -> None:
    tags = [Tag.objects.create(name=name) for name in "ab"]
    lines.clear()
    for tag in tags:
        tag.name *= 2
    Tag.objects.bulk_update(tags, ["name"])
    lines.append(str([*Tag.objects.order_by("name").values_list("name", flat=True)]))


@chapter
def updating_a_query() -> None:
    Tag.objects.create(name="a")
    lines.clear()
    Tag.objects.filter(name="a").update(name="b")
    lines.append(Tag.objects.get().name)
