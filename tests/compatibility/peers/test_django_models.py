"""One story, played with Django's models and with ours: each chapter here sends the same signals.

Where they do not, on purpose, is in ``test_django_differs_in_models``.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from kit.peers import aksara_links, aksara_receivers, aksara_saves
from kit.peers.aksara_world import CHAPTERS

SAME = [
    "connecting_by_name",
    "creating",
    "constructing",
    "changing",
    "saving_what_has_not_changed",
    "saving_some_fields",
    "saving_no_fields",
    "saving_an_unknown_field",
    "a_key_of_ones_own",
    "getting_or_creating",
    "creating_many",
    "updating_many",
    "updating_a_query",
    "a_receiver_sets_a_column",
    "keys_and_receivers",
    "a_veto",
    "writing_after_a_save",
    "saving_again_after_a_save",
    "deleting",
    "deleting_what_is_linked",
    "saving_a_subclass",
    "adding_from_the_other_side",
    "adding_partly_what_is_there",
    "removing",
    "removing_from_the_other_side",
    "setting_what_is_set",
    "rolling_back",
    "nested_blocks",
    "a_nested_block_that_fails",
    "a_block_that_fails_around_one_that_does_not",
    "callbacks_see_what_was_committed",
    "callbacks_that_fail_robustly",
]

SILENT = {"setting_what_is_set"}


@pytest.mark.parametrize("chapter", SAME)
def test_receivers_are_sent_what_django_sends(
    django_story: dict[str, list[str]], our_story: dict[str, list[str]], chapter: str
) -> None:
    """The same signals about the same rows with the same arguments, in the same order."""
    theirs = django_story[chapter]
    assert our_story[chapter] == theirs
    assert bool(theirs) is (chapter not in SILENT)


def test_every_chapter_is_held_against_the_other(django_story: dict[str, list[str]]) -> None:
    """Each sends the same in both, or has a test that shows how it differs."""
    modules = aksara_saves, aksara_receivers, aksara_links
    assert {each.__module__ for each in CHAPTERS.values()} == {each.__name__ for each in modules}
    assert {*CHAPTERS} - {*django_story} == {"deleting_a_query_with_signals"}
    source = Path(__file__).with_name("test_django_differs_in_models.py").read_text("utf-8")
    named = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {*SAME} | (named & {*CHAPTERS}) == {*CHAPTERS}
    assert not named & {*SAME}
