"""Chapters of Django's story: what is linked, and what is committed."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from kit.peers.django_world import Author, Post, Tag, chapter, lines

# -- many to many -----------------------------------------------------------------------------------


def cast() -> tuple[Any, list[Any]]:
    post = Post.objects.create(name="p")
    tags = [Tag.objects.create(name=name) for name in "abc"]
    lines.clear()
    return post, tags


@chapter
def adding() -> None:
    post, tags = cast()
    post.tags.add(*tags[:2])


@chapter
def adding_from_the_other_side() -> None:
    post, tags = cast()
    tags[0].posts.add(post)


@chapter
def adding_what_is_there() -> None:
    post, tags = cast()
    post.tags.add(tags[0])
    lines.clear()
    post.tags.add(tags[0])


@chapter
def adding_partly_what_is_there() -> None:
    post, tags = cast()
    post.tags.add(tags[0])
    lines.clear()
    post.tags.add(*tags[:2])


@chapter
def removing() -> None:
    post, tags = cast()
    post.tags.add(*tags)
    lines.clear()
    post.tags.remove(*tags[1:])


@chapter
def removing_from_the_other_side() -> None:
    post, tags = cast()
    post.tags.add(*tags)
    lines.clear()
    tags[0].posts.remove(post)


@chapter
def removing_what_is_not_there() -> None:
    post, tags = cast()
    post.tags.remove(tags[0])


@chapter
def setting() -> None:
    post, tags = cast()
    post.tags.add(*tags[:2])
    lines.clear()
    post.tags.set(tags[1:])


@chapter
def setting_what_is_set() -> None:
    post, tags = cast()
    post.tags.add(*tags)
    lines.clear()
    post.tags.set(tags)


@chapter
def clearing() -> None:
    post, tags = cast()
    post.tags.add(*tags)
    lines.clear()
    post.tags.clear()


@chapter
def clearing_from_the_other_side() -> None:
    post, tags = cast()
    post.tags.add(*tags)
    lines.clear()
    tags[0].posts.clear()


@chapter
def clearing_what_is_empty() -> None:
    post, _ = cast()
    post.tags.clear()


@chapter
def linking_through_a_model() -> None:
    _, tags = cast()
    author = Author.objects.create(name="ann")
    lines.clear()
    tags[0].winners.add(author)


@chapter
def adding_to_one_to_many() -> None:
    author, post = Author.objects.create(name="ann"), Post.objects.create(name="a")
    lines.clear()
    author.posts.add(post)
    lines.append(str(Post.objects.get().author_id))


# -- transactions -----------------------------------------------------------------------------------


class UndoError(Exception):
    pass


def later(name: str) -> None:
    transaction.on_commit(lambda: lines.append(name))


@chapter
def committing() -> None:
    with transaction.atomic():
        later("first")
        later("second")
        lines.append("inside")


@chapter
def rolling_back() -> None:
    try:
        with transaction.atomic():
            later("lost")
            raise UndoError
    except UndoError:
        lines.append("rolled back")


@chapter
def nested_blocks() -> None:
    with transaction.atomic():
        later("outer before")
        with transaction.atomic():
            later("inner")
        later("outer after")
        lines.append("inside")


@chapter
def a_nested_block_that_fails() -> None:
    with transaction.atomic():
        later("outer before")
        try:
            with transaction.atomic():
                later("inner")
                with transaction.atomic():
                    later("innermost")
                raise UndoError
        except UndoError:
            lines.append("inner rolled back")
        later("outer after")


@chapter
def a_block_that_fails_around_one_that_does_not() -> None:
    try:
        with transaction.atomic():
            with transaction.atomic():
                later("inner")
            raise UndoError
    except UndoError:
        lines.append("rolled back")


@chapter
def callbacks_see_what_was_committed() -> None:
    with transaction.atomic():
        Tag.objects.create(name="a")
        transaction.on_commit(lambda: lines.append(str(Tag.objects.count())))


@chapter
def callbacks_that_fail_robustly() -> None:
    def fail() -> None:
        lines.append("fails")
        raise ValueError("no")

    with transaction.atomic():
        transaction.on_commit(fail, robust=True)
        later("behind")
    lines.append("committed")


@chapter
def callbacks_that_fail() -> None:
    def fail() -> None:
        lines.append("fails")
        raise ValueError("no")

    try:
        with transaction.atomic():
            transaction.on_commit(fail)
            later("behind")
    except ValueError:
        lines.append("ValueError")
    else:
        lines.append("committed")


@chapter
def callbacks_outside_of_transactions() -> None:
    later("at once")
    lines.append("registered")
