"""The models of Django's story, and what their receivers write down."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings

# An installed app, because Django finds relations between models of such only.
story_app = types.ModuleType("story")
story_app.__path__ = [str(Path(__file__).parent)]
sys.modules["story"] = story_app

settings.configure(
    INSTALLED_APPS=["story"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    LOGGING_CONFIG=None,
    USE_TZ=False,
)
django.setup()

from django.db import models  # noqa: E402 - needs the settings
from django.db.models import signals  # noqa: E402


class Author(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        app_label = "story"


class Tag(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        app_label = "story"


class Post(models.Model):
    name = models.CharField(max_length=20)
    slug = models.CharField(max_length=20, default="")
    author = models.ForeignKey(Author, models.CASCADE, null=True, related_name="posts")
    editor = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="edited")
    tags = models.ManyToManyField(Tag, related_name="posts")

    class Meta:
        app_label = "story"


class Treatise(Post):
    length = models.IntegerField(default=0)

    class Meta:
        app_label = "story"


class Award(models.Model):
    year = models.IntegerField(default=0)
    name = models.CharField(max_length=20, default="award")
    author = models.ForeignKey(Author, models.CASCADE)
    tag = models.ForeignKey(Tag, models.CASCADE)

    class Meta:
        app_label = "story"


MODELS = [Author, Tag, Post, Treatise, Award]
Tag.add_to_class("winners", models.ManyToManyField(Author, through=Award, related_name="prizes"))

lines: list[str] = []
CHAPTERS: dict[str, Callable[[], Any]] = {}


def chapter(function: Callable[[], Any]) -> Callable[[], Any]:
    CHAPTERS[function.__name__] = function
    return function


# -- what receivers write down ----------------------------------------------------------------------


def saved(signal: Any, sender: Any, instance: Any, update_fields: Any, **kwargs: Any) -> None:
    line = f"{NAMES[signal]} {sender.__name__} {instance.name}"
    if kwargs.get("created"):
        line += " created"
    if kwargs["raw"]:
        line += " raw"
    if update_fields is not None:
        line += f" {sorted(update_fields)}"
    lines.append(line)


def deleted(signal: Any, sender: Any, instance: Any, **kwargs: Any) -> None:
    known = "with" if instance.pk else "without"
    lines.append(f"{NAMES[signal]} {sender.__name__} {instance.name} {known} key")


def linked(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **kwargs: Any
) -> None:
    side = "reverse" if reverse else "forward"
    keys = None if pk_set is None else sorted(pk_set)
    lines.append(f"{action} {instance.name} {side} {model.__name__} {keys}")


def made(signal: Any, sender: Any, **kwargs: Any) -> None:
    given = f" {sorted(kwargs['kwargs'])}" if "kwargs" in kwargs else f" {kwargs['instance'].name}"
    lines.append(f"{NAMES[signal]} {sender.__name__}{given}")


NAMES = {
    signals.pre_init: "pre_init",
    signals.post_init: "post_init",
    signals.pre_save: "pre_save",
    signals.post_save: "post_save",
    signals.pre_delete: "pre_delete",
    signals.post_delete: "post_delete",
}


def listen() -> None:
    for signal in (signals.pre_save, signals.post_save):
        signal.connect(saved)
    for signal in (signals.pre_delete, signals.post_delete):
        signal.connect(deleted)
    signals.m2m_changed.connect(linked)
