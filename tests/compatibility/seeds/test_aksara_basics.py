"""Aksara's signals, on SQLAlchemy models: the leading text (004), apart from its examples."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from kit.aksara_text import (
    Base,  # noqa: F401 - the fixture ``sessions`` looks for it
    Reader,
    Sessions,
    Story,
    Topic,
    columns,
)
from kit.support import Recorder
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import (
    Signal,
    SignalPayloadError,
    m2m_changed,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_init,
    post_save,
    pre_bulk_create,
    pre_bulk_update,
    pre_delete,
    pre_init,
    pre_save,
)

EARLIER, LATER = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2020, 2030))


# -- Basic Usage ----------------------------------------------------------------------------------


@pytest.mark.shows("Basic Usage, Signal Decorators: pre_save", "pre_save")
async def test_a_slug_is_made_before_the_insert(sessions: Sessions) -> None:
    """What an async receiver sets before a save is what is stored."""

    @pre_save(Story)
    async def name_it(sender: type, instance: Story, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        instance.slug = instance.slug or instance.title.casefold().replace(" ", "-")

    await Story.objects.create(title="Long Way Home")
    await Story.objects.create(title="Short Cut", slug="own-slug")
    assert [story.slug for story in await Story.objects.all()] == ["long-way-home", "own-slug"]


@pytest.mark.shows("Basic Usage, Signal Decorators: post_save", "post_save")
async def test_creation_is_distinguished_from_change(sessions: Sessions) -> None:
    """``created`` is there as a parameter of its own."""
    sent: list[str] = []

    @post_save(Story)
    async def notify(sender: type, instance: Story, created: bool, **kwargs: Any) -> None:
        if created:
            sent.append(instance.title)

    story = await Story.objects.create(title="News")
    story.title = "Old News"
    await story.save()
    assert sent == ["News"]


@pytest.mark.shows("Basic Usage, Signal Decorators: deletions", "pre_delete", "post_delete")
async def test_archiving_before_and_cleaning_after_a_deletion(sessions: Sessions) -> None:
    """The row is there before a deletion, and gone after it."""
    archive: list[dict[str, Any]] = []
    index = {1, 2}

    @pre_delete(Story)
    async def keep(sender: type, instance: Story, session: AsyncSession, **kwargs: Any) -> None:
        archive.append(columns(instance))
        assert await Story.objects.filter(pk=instance.id).exists()

    @post_delete(Story)
    async def forget(sender: type, instance: Story, **kwargs: Any) -> None:
        assert not await Story.objects.filter(pk=instance.id).exists()
        index.discard(instance.id)

    story = await Story.objects.create(id=1, title="Gone")
    await story.delete()
    assert [row["title"] for row in archive] == ["Gone"]
    assert index == {2}


# -- Signal Arguments -----------------------------------------------------------------------------


@pytest.mark.shows("Signal Arguments: Pre-Save Arguments", "pre_save")
async def test_arguments_before_a_save(sessions: Sessions) -> None:
    """sender, instance and update_fields: None for a whole save, else what was named."""
    seen: list[Any] = []

    @pre_save(Story)
    async def stamp(
        sender: type, instance: Story, update_fields: Any = None, **kwargs: Any
    ) -> None:
        seen.append((sender, update_fields))
        if update_fields is None or "title" in update_fields:
            instance.updated_at = LATER

    story = await Story.objects.create(title="One", updated_at=EARLIER)
    story.updated_at = EARLIER
    story.reads = 5
    await story.save(update_fields=["reads"])
    story.title = "Two"
    await story.save(update_fields=["title"])
    assert seen == [(Story, None), (Story, {"reads"}), (Story, {"title"})]
    assert (await Story.objects.get(pk=story.id)).updated_at == LATER


@pytest.mark.shows("Signal Arguments: Post-Save Arguments", "post_save")
async def test_arguments_after_a_save(sessions: Sessions) -> None:
    """sender, instance, created and update_fields."""
    seen: list[Any] = []

    @post_save(Story)
    async def note(
        sender: type, instance: Story, created: bool, update_fields: Any, **kwargs: Any
    ) -> None:
        seen.append((sender, instance.title, created, update_fields))

    story = await Story.objects.create(title="One")
    story.title = "Two"
    await story.save(update_fields=["title"])
    assert seen == [(Story, "One", True, None), (Story, "Two", False, {"title"})]


@pytest.mark.shows("Signal Arguments: Delete Arguments", "pre_delete", "post_delete")
async def test_arguments_of_deletions(sessions: Sessions, recorder: Recorder) -> None:
    """sender and instance, whose key can be read before and after."""
    keys: list[int] = []

    async def note(sender: type, instance: Story, **kwargs: Any) -> None:
        assert sender is Story
        keys.append(instance.id)

    pre_delete.connect(note, sender=Story)
    post_delete.connect(note, sender=Story)
    story = await Story.objects.create(title="Gone")
    await story.delete()
    assert keys == [story.id, story.id]


# -- Connecting Signals Manually ------------------------------------------------------------------


@pytest.mark.shows("Connecting Signals Manually: Using connect()", "pre_save")
async def test_connecting_and_disconnecting_by_hand(sessions: Sessions) -> None:
    """connect() and disconnect() with a sender."""
    seen: list[str] = []

    async def watcher(sender: type, instance: Story, **kwargs: Any) -> None:
        seen.append(instance.title)

    pre_save.connect(watcher, sender=Story)
    await Story.objects.create(title="received")
    assert pre_save.disconnect(watcher, sender=Story)
    await Story.objects.create(title="silent")
    assert seen == ["received"]


@pytest.mark.shows("Connecting Signals Manually: Multiple Models", "post_save")
async def test_one_receiver_for_several_models(sessions: Sessions) -> None:
    """One receiver, connected in a loop."""
    seen: list[str] = []

    async def watcher(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(f"{sender.__name__} {instance.id}")

    for each in (Reader, Story):
        post_save.connect(watcher, sender=each)
    await Reader.objects.create(id=1, name="r")
    await Story.objects.create(id=2, title="s")
    await Topic.objects.create(id=3, label="t")
    assert seen == ["Reader 1", "Story 2"]


@pytest.mark.shows("Connecting Signals Manually: All Models", "post_save")
async def test_a_receiver_of_every_model(sessions: Sessions) -> None:
    """A receiver that is decorated without a sender is called for all of them."""
    seen: list[type] = []

    @post_save()
    async def watcher(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(sender)

    await Reader.objects.create(name="r")
    await Topic.objects.create(label="t")
    assert seen == [Reader, Topic]


# -- Custom Signals -------------------------------------------------------------------------------


@pytest.mark.shows("Custom Signals: Creating Custom Signals", "custom")
async def test_a_signal_of_ones_own() -> None:
    """A Signal without a name or arguments; its connect() decorates."""
    joined = Signal()
    seen: list[Any] = []

    @joined.connect
    async def greet(sender: type, instance: Reader, **kwargs: Any) -> str:
        seen.append((sender, instance))
        return "hello"

    reader = Reader(name="r")
    assert await joined.send(sender=Reader, instance=reader) == [(greet, "hello")]
    assert seen == [(Reader, reader)]


@pytest.mark.shows("Custom Signals: Signal with Custom Arguments", "custom")
async def test_a_signal_with_arguments() -> None:
    """Declared arguments reach the receiver's parameters; one that is missing is refused."""
    paid = Signal(providing_args=["amount", "currency"])
    seen: list[str] = []

    @paid.connect
    async def book(
        sender: type, instance: Reader, amount: float, currency: str, **kwargs: Any
    ) -> None:
        seen.append(f"{instance.name} paid {amount} {currency}")

    reader = Reader(name="r")
    await paid.send(sender=Reader, instance=reader, amount=12.5, currency="EUR")
    assert seen == ["r paid 12.5 EUR"]
    with pytest.raises(SignalPayloadError, match="currency"):
        await paid.send(sender=Reader, instance=reader, amount=12.5)


# -- Built-in Signals -----------------------------------------------------------------------------


@pytest.mark.shows("Built-in Signals: pre_init, post_init", "pre_init", "post_init")
async def test_construction_is_sent(sessions: Sessions, recorder: Recorder) -> None:
    """Before and after __init__; loading from the database is no construction."""
    recorder.record(pre_init, Topic, sync=True)
    recorder.record(post_init, Topic, sync=True)
    topic = Topic(label="new")
    assert [(call.signal, call.sender) for call in recorder.calls] == [
        ("pre_init", Topic),
        ("post_init", Topic),
    ]
    assert recorder.calls[0].payload["kwargs"] == {"label": "new"}
    assert recorder.calls[1].payload["instance"] is topic
    await topic.save()
    recorder.clear()
    assert (await Topic.objects.get(label="new")) is not topic
    assert recorder.calls == []


@pytest.mark.shows(
    "Built-in Signals: saves and deletions",
    "pre_save",
    "post_save",
    "pre_delete",
    "post_delete",
)
async def test_saves_and_deletions_are_sent_before_and_after(
    sessions: Sessions, recorder: Recorder
) -> None:
    """In this order, around the writing."""
    for signal in (post_delete, pre_delete, post_save, pre_save):
        recorder.record(signal, Topic)
    topic = await Topic.objects.create(label="t")
    await topic.delete()
    assert recorder.names == ["pre_save", "post_save", "pre_delete", "post_delete"]


@pytest.mark.shows(
    "Built-in Signals: bulk",
    "pre_bulk_create",
    "post_bulk_create",
    "pre_bulk_update",
    "post_bulk_update",
)
async def test_bulk_operations_are_sent_once(sessions: Sessions, recorder: Recorder) -> None:
    """One signal before and one after, with all instances."""
    for signal in (pre_bulk_create, post_bulk_create, pre_bulk_update, post_bulk_update):
        recorder.record(signal, Topic)
    topics = await Topic.objects.bulk_create([Topic(label=label) for label in "abc"])
    for topic in topics:
        topic.label *= 2
    await Topic.objects.bulk_update(topics, ["label"])
    assert [(call.signal, len(call.payload["instances"])) for call in recorder.calls] == [
        ("pre_bulk_create", 3),
        ("post_bulk_create", 3),
        ("pre_bulk_update", 3),
        ("post_bulk_update", 3),
    ]


@pytest.mark.shows("Built-in Signals: m2m_changed", "m2m_changed")
async def test_many_to_many_changes_are_sent(sessions: Sessions) -> None:
    """With the action and the keys that were linked or unlinked."""
    seen: list[Any] = []

    @m2m_changed(Story.topics)
    async def note(
        sender: Any, instance: Story, action: str, pk_set: set[int], **kwargs: Any
    ) -> None:
        seen.append((sender.name, action, sorted(pk_set)))

    topics = await Topic.objects.bulk_create([Topic(label="a"), Topic(label="b")])
    async with sessions.begin() as session:
        story = Story(title="Linked", topics=[await session.merge(topic) for topic in topics])
        session.add(story)
        await session.flush()
        story.topics.pop()
    keys = sorted(topic.id for topic in topics)
    assert seen == [
        ("story_topic", "pre_add", keys),
        ("story_topic", "post_add", keys),
        ("story_topic", "pre_remove", keys[1:]),
        ("story_topic", "post_remove", keys[1:]),
    ]
