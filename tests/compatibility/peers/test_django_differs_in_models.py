"""Where receivers of models are sent something else than in Django: each test shows both.

``docs/reference/coming-from.rst`` lists them; the documentation is not built if one is missing there.
"""

from __future__ import annotations

from collections.abc import Callable

import django
import pytest

import aksara_signals

Story = Callable[[str], tuple[list[str], list[str]]]


@pytest.fixture
def story(django_story: dict[str, list[str]], our_story: dict[str, list[str]]) -> Story:
    """What Django sends in a chapter, and what the library sends."""
    return lambda chapter: (django_story.get(chapter, []), our_story[chapter])


# -- which receivers are called ---------------------------------------------------------------------


def test_a_name_disconnects(story: Story) -> None:
    """disconnect() says whether anything was connected; of a name, Django's does not know."""
    theirs, ours = story("disconnecting_by_name")
    assert (theirs[0], ours[0]) == ("None", "True")
    assert theirs[1:] == ours[1:]


def test_a_name_needs_no_application(story: Story) -> None:
    """`Treatise` or `module.Treatise`; Django has `application.Treatise`, and refuses the bare name."""
    theirs, ours = story("connecting_by_a_bare_name")
    assert theirs[0] == "ValueError"
    assert ours[-1] == "treatises received Treatise"


def test_a_base_class_stands_for_its_subclasses(story: Story) -> None:
    """A base class, mapped or not, stands for what inherits it; in Django it is sent nothing."""
    theirs, ours = story("listening_to_a_base")
    assert theirs == ["pre_save Treatise e", "post_save Treatise e created"]
    assert ours == [*theirs, "all received Treatise", "posts received Treatise"]


def test_a_relationship_is_named_by_itself(story: Story) -> None:
    """m2m_changed is connected to Post.tags, its table or Post; in Django, to Post.tags.through."""
    theirs, ours = story("listening_to_one_relationship")
    assert ours == theirs
    assert ours[-1] == "received post_add"


def test_payloads(story: Story) -> None:
    """No using and no origin; session always, created before the write, objects of links."""
    theirs, ours = story("what_receivers_are_given")
    raw = "'raw', " if django.VERSION >= (6, 1) else ""
    links = f"['action', 'instance', 'model', 'pk_set', {raw}'reverse', 'sender', 'using']"
    assert theirs == [
        "pre_init ['args', 'kwargs', 'sender'] args tuple",
        "post_init ['instance', 'sender']",
        "pre_save ['instance', 'raw', 'sender', 'update_fields', 'using']",
        "post_save ['created', 'instance', 'raw', 'sender', 'update_fields', 'using']",
        *[f"m2m_changed {links}"] * 2,
        "pre_delete ['instance', 'origin', 'sender', 'using']",
        "post_delete ['instance', 'origin', 'sender', 'using']",
    ]
    of_links = ["action", "instance", "model", "objects", "pk_set", "reverse", "sender", "session"]
    assert ours == [
        "pre_init ['args', 'kwargs', 'sender'] args list",
        "post_init ['instance', 'sender']",
        "pre_save ['created', 'instance', 'raw', 'sender', 'session', 'update_fields']",
        "post_save ['created', 'instance', 'raw', 'sender', 'session', 'update_fields']",
        *[f"m2m_changed {of_links}"] * 2,
        "pre_delete ['instance', 'raw', 'sender', 'session']",
        "post_delete ['instance', 'raw', 'sender', 'session']",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "class_prepared",
        "setting_changed",
        "request_started",
        "connection_created",
        "user_logged_in",
    ],
)
def test_signals_of_a_framework_are_not_there(name: str) -> None:
    """What is no database's business is a signal of one's own."""
    assert not hasattr(aksara_signals, name)


# -- rows -------------------------------------------------------------------------------------------


def test_loading_is_no_construction(story: Story) -> None:
    """Django sends the init signals for each row that is read."""
    theirs, ours = story("loading")
    assert theirs[2:] == ["pre_init Author []", "post_init Author ann"]
    assert ours == theirs[:2]


def test_what_receivers_set_is_written_in_spite_of_update_fields(story: Story) -> None:
    """In Django it is not, and stays on the instance."""
    theirs, ours = story("a_receiver_sets_a_column_that_is_not_saved")
    assert (theirs[-1], ours[-1]) == ("old", "set")
    assert theirs[:-1] == ours[:-1]


def test_a_receiver_of_post_save_can_still_refuse(story: Story) -> None:
    """It fails the flush; in Django, outside of atomic(), the row is committed before."""
    theirs, ours = story("a_late_veto")
    assert (theirs[-2:], ours[-2:]) == (["refused", "1"], ["refused", "0"])


def test_what_a_pre_receiver_adds_joins_the_flush(story: Story) -> None:
    """In Django it is written, and its signals are sent, at once."""
    theirs, ours = story("writing_before_a_save")
    own, other = "post_save Author ann created", "post_save Tag of ann created"
    assert (theirs[2:], ours[2:]) == ([other, own], [own, other])
    assert theirs[:2] == ours[:2]


def test_a_row_that_is_there_is_merged(story: Story) -> None:
    """Django's save() of a new object with a known key updates; here session.merge() does."""
    theirs, ours = story("a_key_that_is_there")
    assert ours == theirs
    assert ours[-1] == "post_save Tag newer"


def test_fixtures_are_loaded_in_a_block(story: Story) -> None:
    """raw is true for what loading_fixtures() surrounds, as for what loaddata saves."""
    theirs, ours = story("fixtures")
    assert ours == theirs == ["pre_save Author ann raw", "post_save Author ann created raw"]


# -- deletions --------------------------------------------------------------------------------------


def test_post_delete_has_the_order_of_pre_delete(story: Story) -> None:
    """In Django the instances of a class come in reverse."""
    theirs, ours = story("deleting_what_others_refer_to")
    assert ours[:4] == theirs[:4]
    assert ours[4:6] == theirs[5:3:-1]
    assert ours[6:] == theirs[6:] == ["0"]


def test_a_reference_that_is_nulled_is_sent(story: Story) -> None:
    """The unit of work updates the row; Django's SET_NULL is a silent statement."""
    theirs, ours = story("deleting_what_others_may_do_without")
    assert theirs == ["pre_delete Author ann with key", "post_delete Author ann with key", "None"]
    assert sorted(ours) == sorted([*theirs, "pre_save Post a", "post_save Post a"])


def test_cascades_are_the_relationships(story: Story) -> None:
    """Without cascade="all" the reference is nulled, or refused; with it, all are sent as there."""
    theirs, ours = story("deleting_what_others_need")
    assert theirs == [
        *["pre_delete Award award with key", "pre_delete Tag new with key"],
        *["post_delete Award award with key", "post_delete Tag new with key"],
    ]
    assert sorted(ours) == ["pre_delete Tag new with key", "pre_save Award award", "refused"]
    theirs, ours = story("deleting_what_others_refer_to")
    assert sorted(ours) == sorted(theirs)


def test_deleting_a_query_is_silent(story: Story) -> None:
    """It is one statement; with_signals() before it is what Django does."""
    theirs, ours = story("deleting_a_query")
    assert ours == ["0"]
    assert theirs[:2] == ["pre_delete Tag a with key", "pre_delete Tag b with key"]


def test_deleting_a_query_with_signals(story: Story) -> None:
    """It sends the signals of each row then, as Django's does."""
    theirs, _ = story("deleting_a_query")
    _, ours = story("deleting_a_query_with_signals")
    assert sorted(ours) == sorted(theirs)
    assert ours[:2] == theirs[:2]


def test_a_subclass_is_deleted_once(story: Story) -> None:
    """Django sends signals for the inherited row as well, as an instance of the base."""
    theirs, ours = story("deleting_a_subclass")
    assert ours == ["pre_delete Treatise e with key", "post_delete Treatise e with key"]
    assert [each for each in theirs if "Post" not in each] == ours
    assert len(theirs) == 4


# -- links ------------------------------------------------------------------------------------------


def test_members_are_added_by_awaiting(story: Story) -> None:
    """post.tags.add(tag) is await post.related("tags").add(tag), and sends the same."""
    theirs, ours = story("adding")
    assert ours == theirs == ["pre_add p forward Tag [1, 2]", "post_add p forward Tag [1, 2]"]


@pytest.mark.parametrize(
    "chapter", ["adding_what_is_there", "removing_what_is_not_there", "clearing_what_is_empty"]
)
def test_a_link_that_does_not_change_is_silent(story: Story, chapter: str) -> None:
    """Django sends m2m_changed for the attempt."""
    theirs, ours = story(chapter)
    assert (len(theirs), ours) == (2, [])


def test_set_removes_and_adds_in_one_flush(story: Story) -> None:
    """Both pre actions come before both post actions."""
    theirs, ours = story("setting")
    assert sorted(ours) == sorted(theirs)
    assert [each.split()[0] for each in theirs] == [
        "pre_remove",
        "post_remove",
        "pre_add",
        "post_add",
    ]
    assert [each.split()[0] for each in ours] == [
        "pre_remove",
        "pre_add",
        "post_remove",
        "post_add",
    ]


@pytest.mark.parametrize(
    ("chapter", "keys"), [("clearing", "[1, 2, 3]"), ("clearing_from_the_other_side", "[1]")]
)
def test_clear_sends_the_keys(story: Story, chapter: str, keys: str) -> None:
    """Django's pk_set is None then."""
    theirs, ours = story(chapter)
    assert ours == [each.replace("None", keys) for each in theirs]
    assert ours != theirs


def test_a_link_that_is_a_model_is_sent_as_one(story: Story) -> None:
    """An association object is saved like any other; Django sends m2m_changed instead."""
    theirs, ours = story("linking_through_a_model")
    assert theirs == ["pre_add a forward Author [1]", "post_add a forward Author [1]"]
    assert ours == ["pre_save Award award", "post_save Award award created"]


def test_adding_to_one_to_many_saves(story: Story) -> None:
    """The member's foreign key changes, which is sent; Django's add() is a silent statement."""
    theirs, ours = story("adding_to_one_to_many")
    assert (theirs, ours) == (["1"], ["pre_save Post a", "post_save Post a", "1"])


# -- transactions -----------------------------------------------------------------------------------


def test_on_commit_is_given_the_session(story: Story) -> None:
    """transaction.on_commit(callback, using=…) is on_commit(session, callback)."""
    theirs, ours = story("committing")
    assert ours == theirs == ["inside", "first", "second"]


def test_callbacks_that_fail_are_always_robust(story: Story) -> None:
    """The data is durable, so the caller gets no error; Django's does unless robust=True."""
    theirs, ours = story("callbacks_that_fail")
    assert theirs == ["fails", "ValueError"]
    assert ours == ["fails", "behind", "committed"]


def test_callbacks_of_an_idle_session_wait(story: Story) -> None:
    """For the transaction that begins next; outside of atomic(), Django calls them at once."""
    theirs, ours = story("callbacks_outside_of_transactions")
    assert theirs == ["at once", "registered"]
    assert ours == ["registered", "inside", "at once"]
