"""Prints, as JSON, the story of Django's own models and signals; run in a process of its own.

``test_django_models`` holds it against ours, chapter by chapter. Each begins with empty tables, and is
the list of what receivers, and the chapter itself, have written down.
"""

from __future__ import annotations

import json

from django.db import connection
from django.db.models import signals

from kit.peers import django_links, django_receivers, django_saves
from kit.peers.django_world import CHAPTERS, MODELS, NAMES, Post, lines, listen

assert {each.__name__ for each in (django_saves, django_receivers, django_links)} == {
    play.__module__ for play in CHAPTERS.values()
}


def main() -> None:
    """Play every chapter and print the whole."""
    with connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    story: dict[str, list[str]] = {}
    every = [*NAMES, signals.m2m_changed]
    for name, play in CHAPTERS.items():
        listen()
        play()
        story[name] = [*lines]
        for signal in every:
            signal.receivers.clear()
            signal.sender_receivers_cache.clear()
        for model in [Post.tags.through, *reversed(MODELS)]:
            model.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_sequence")
        lines.clear()
    print(json.dumps(story))


if __name__ == "__main__":
    main()
