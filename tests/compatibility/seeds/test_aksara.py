"""Aksara's signals, on SQLAlchemy models: the leading text (004)."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from kit.support import Recorder
from sqlalchemy import JSON, ForeignKey, inspect
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import (
    Signal,
    SignalContext,
    SignalPayloadError,
    SignalRecursionError,
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
from aksara_signals.orm import SignalMixin

Sessions = async_sessionmaker[AsyncSession]
EARLIER, LATER = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2020, 2030))


class Base(SignalMixin, AsyncAttrs, DeclarativeBase):
    pass


class Reader(Base):
    __tablename__ = "reader"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Topic(Base):
    __tablename__ = "topic"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class StoryTopic(Base):
    __tablename__ = "story_topic"

    story_id: Mapped[int] = mapped_column(ForeignKey("story.id"), primary_key=True)
    topic_id: Mapped[int] = mapped_column(ForeignKey("topic.id"), primary_key=True)


class Story(Base):
    __tablename__ = "story"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]
    reads: Mapped[int] = mapped_column(default=0)
    writer_id: Mapped[int | None] = mapped_column(ForeignKey("reader.id"))
    writer: Mapped[Reader | None] = relationship()
    topics: Mapped[list[Topic]] = relationship(secondary=StoryTopic.__table__)
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]


class Remark(Base):
    __tablename__ = "remark"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    writer_id: Mapped[int] = mapped_column(ForeignKey("reader.id"))
    story_id: Mapped[int] = mapped_column(ForeignKey("story.id"))
    story: Mapped[Story] = relationship()


class Ledger(Base):
    """The audit log of the examples."""

    __tablename__ = "ledger"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    row: Mapped[str]
    action: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


def columns(instance: Any) -> dict[str, Any]:
    """What ``to_dict()`` gives in Aksara."""
    mapper = inspect(type(instance))
    return {attribute.key: getattr(instance, attribute.key) for attribute in mapper.column_attrs}


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
async def test_creation_is_told_apart_from_change(sessions: Sessions) -> None:
    """``created`` is there as a parameter of its own."""
    told: list[str] = []

    @post_save(Story)
    async def tell(sender: type, instance: Story, created: bool, **kwargs: Any) -> None:
        if created:
            told.append(instance.title)

    story = await Story.objects.create(title="News")
    story.title = "Old News"
    await story.save()
    assert told == ["News"]


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
    await Story.objects.create(title="heard")
    assert pre_save.disconnect(watcher, sender=Story)
    await Story.objects.create(title="unheard")
    assert seen == ["heard"]


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
    """A decorator without a sender hears all of them."""
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


# -- Practical Examples ---------------------------------------------------------------------------


def audit_every_change() -> None:
    """Connect as the text does: lambdas in a loop, each returning a coroutine."""

    async def audit(sender: type, instance: Any, action: str, **kwargs: Any) -> None:
        await Ledger.objects.create(
            model=sender.__name__,
            row=str(instance.id),
            action=action,
            data=json.loads(json.dumps(columns(instance), default=str)),
        )

    for each in (Reader, Story):
        post_save.connect(
            lambda s, i, created, **k: audit(s, i, "created" if created else "changed", **k),
            sender=each,
        )
        post_delete.connect(lambda s, i, **k: audit(s, i, "deleted", **k), sender=each)


@pytest.mark.shows("Practical Examples: Audit Logging", "post_save", "post_delete")
async def test_auditing_with_lambdas(sessions: Sessions) -> None:
    """Positional parameters are filled, awaitables awaited, and lambdas outlive their loop."""
    audit_every_change()
    story = await Story.objects.create(title="One")
    await story.update(title="Two")
    await story.delete()
    await Reader.objects.create(name="r")
    entries = await Ledger.objects.filter().order_by("id").all()
    assert [(entry.model, entry.action) for entry in entries] == [
        ("Story", "created"),
        ("Story", "changed"),
        ("Story", "deleted"),
        ("Reader", "created"),
    ]
    assert [entry.data.get("title") for entry in entries] == ["One", "Two", "Two", None]


@pytest.mark.shows("Practical Examples: Audit Logging, in one transaction", "post_save")
async def test_audit_row_and_change_stand_or_fall_together(sessions: Sessions) -> None:
    """objects.create() in a receiver joins the transaction under way."""
    audit_every_change()
    async with sessions() as session:
        session.add(Story(title="Undone"))
        await session.flush()
        assert await Ledger.objects.count(session=session) == 1
        await session.rollback()
    assert await Ledger.objects.count() == await Story.objects.count() == 0
    async with sessions.begin() as session:
        session.add(Story(title="Done"))
    assert await Ledger.objects.count() == await Story.objects.count() == 1


@pytest.mark.shows("Practical Examples: Search Index Updates", "post_save", "post_delete")
async def test_a_search_index_follows(sessions: Sessions) -> None:
    """An index outside the database is kept up to date."""
    index: dict[int, str] = {}

    @post_save(Story)
    async def put(sender: type, instance: Story, **kwargs: Any) -> None:
        index[instance.id] = instance.title

    @post_delete(Story)
    async def drop(sender: type, instance: Story, **kwargs: Any) -> None:
        del index[instance.id]

    one = await Story.objects.create(id=1, title="One")
    await Story.objects.create(id=2, title="Two")
    await one.delete()
    assert index == {2: "Two"}


@pytest.mark.shows("Practical Examples: Automatic Timestamps", "pre_save")
async def test_timestamps_of_all_models_that_have_them(sessions: Sessions) -> None:
    """A new instance has no key before its INSERT; models without the columns are left alone."""
    clock = iter(range(2000, 2100))

    @pre_save()
    async def stamp(sender: type, instance: Any, **kwargs: Any) -> None:
        now = datetime(next(clock), 1, 1, tzinfo=UTC).replace(tzinfo=None)
        if not instance.id and hasattr(instance, "created_at"):
            instance.created_at = now
        if hasattr(instance, "updated_at"):
            instance.updated_at = now

    story = await Story.objects.create(title="One")
    await Topic.objects.create(label="no timestamps")
    await story.update(title="Two")
    stored = await Story.objects.get(pk=story.id)
    assert stored.created_at is not None
    assert stored.updated_at is not None
    assert (stored.created_at.year, stored.updated_at.year) == (2000, 2002)


@pytest.mark.shows("Practical Examples: Cache Invalidation", "post_save", "post_delete")
async def test_a_cache_is_invalidated(sessions: Sessions) -> None:
    """Keys of the cache are made from columns, after saves and after deletions."""
    cache: dict[str, int] = {}

    @post_save(Story)
    @post_delete(Story)
    async def invalidate(sender: type, instance: Story, **kwargs: Any) -> None:
        for key in (f"story {instance.id}", "stories", f"stories of {instance.writer_id}"):
            cache.pop(key, None)

    def fill() -> None:
        cache.update({"story 1": 1, "story 2": 1, "stories": 1, "stories of 7": 1})

    await Reader.objects.create(id=7, name="r")
    fill()
    story = await Story.objects.create(id=1, title="One", writer_id=7)
    assert cache == {"story 2": 1}
    fill()
    await story.delete()
    assert cache == {"story 2": 1}


@pytest.mark.shows("Practical Examples: Notification System", "post_save")
async def test_notifying_the_writer_of_a_story(sessions: Sessions) -> None:
    """Relations are awaited in receivers, as SQLAlchemy's AsyncAttrs has it."""
    sent: list[str] = []

    @post_save(Remark)
    async def notify(sender: type, instance: Remark, created: bool, **kwargs: Any) -> None:
        if not created:
            return
        story = await instance.awaitable_attrs.story
        writer = await story.awaitable_attrs.writer
        if instance.writer_id != writer.id:
            sent.append(f"{writer.name}: {instance.text!r} on {story.title!r}")

    one = await Reader.objects.create(name="One")
    two = await Reader.objects.create(name="Two")
    story = await Story.objects.create(title="Hers", writer_id=one.id)
    await Remark.objects.create(text="Mine", story_id=story.id, writer_id=one.id)
    remark = await Remark.objects.create(text="Well!", story_id=story.id, writer_id=two.id)
    await remark.update(text="Well?")
    assert sent == ["One: 'Well!' on 'Hers'"]


# -- Best Practices -------------------------------------------------------------------------------


@pytest.mark.shows("Signal Best Practices: Error Handling", "post_save")
async def test_a_receiver_that_handles_its_errors(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """What a receiver catches doesn't break the save; what it lets out does."""
    log = logging.getLogger("shop")

    async def call_out() -> None:
        raise ConnectionError("nobody there")

    @post_save(Story)
    async def careful(sender: type, instance: Story, **kwargs: Any) -> None:
        try:
            await call_out()
        except ConnectionError as error:
            log.error("not told: %s", error)

    await Story.objects.create(title="Kept")
    assert await Story.objects.count() == 1
    assert "not told: nobody there" in caplog.text

    @post_save(Story)
    async def careless(sender: type, instance: Story, **kwargs: Any) -> None:
        await call_out()

    with pytest.raises(ConnectionError):
        await Story.objects.create(title="Lost")
    assert await Story.objects.count() == 1


@pytest.mark.shows("Signal Best Practices: Don't", "post_save")
async def test_saving_in_post_save_without_end_is_refused(sessions: Sessions) -> None:
    """A receiver that changes and saves its instance each time gets an error that shows the chain."""

    @post_save(Story)
    async def restless(sender: type, instance: Story, **kwargs: Any) -> None:
        instance.reads += 1
        await instance.save()

    with pytest.raises(SignalRecursionError, match="restless"):
        await Story.objects.create(title="Loop")
    assert await Story.objects.count() == 0


@pytest.mark.shows("Signal Best Practices: Disable Signals Temporarily", "post_save")
async def test_silence_for_one_model(sessions: Sessions) -> None:
    """Inside disable_for() a model is silent, and only there; others are heard."""
    seen: list[str] = []

    @post_save()
    async def watcher(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(sender.__name__)

    async with SignalContext.disable_for(Story):
        story = await Story.objects.create(title="Quiet")
        await story.update(title="Quieter")
        await Topic.objects.create(label="heard")
    await story.update(title="Loud")
    assert seen == ["Topic", "Story"]


@pytest.mark.shows("Signal Best Practices: Disable Signals Temporarily, F()", "post_save")
async def test_updating_a_query_is_silent(sessions: Sessions) -> None:
    """One statement, computed in the database, and no signal; a column stands where F() did."""
    seen: list[str] = []

    @post_save(Story)
    async def watcher(sender: type, instance: Story, **kwargs: Any) -> None:
        seen.append(instance.title)

    story = await Story.objects.create(title="Read", reads=41)
    await Story.objects.filter(id=story.id).update(reads=Story.reads + 1)
    assert (await Story.objects.get(pk=story.id)).reads == 42
    assert seen == ["Read"]


# -- Testing Signals ------------------------------------------------------------------------------


@post_save(Story)
async def notify_readers(sender: type, instance: Story, **kwargs: Any) -> None:
    """A receiver of a module, connected when the module is imported."""


post_save.disconnect(notify_readers, sender=Story)


@pytest.mark.shows("Testing Signals: Mock Signals", "post_save")
async def test_a_receiver_can_be_mocked(sessions: Sessions) -> None:
    """A mock patched over the receiver's name is called in its place."""
    post_save.connect(notify_readers, sender=Story)
    with patch(f"{__name__}.notify_readers", new_callable=AsyncMock) as mock:
        story = await Story.objects.create(title="Mocked")
    mock.assert_called_once()
    assert mock.call_args.kwargs["instance"] is story


@pytest.mark.shows("Testing Signals: Test Signal Handlers Directly", "pre_save")
async def test_a_receiver_can_be_called_directly(sessions: Sessions) -> None:
    """Decorating leaves the function as it was; the signal calls the same one."""

    @pre_save(Story)
    async def shorten(sender: type, instance: Story, **kwargs: Any) -> None:
        instance.slug = instance.title[:4].lower()

    story = Story(title="Direct Call")
    await shorten(Story, story)
    assert story.slug == "dire"
    saved = await Story.objects.create(title="Saved")
    assert saved.slug == "save"


# -- Built-in Signals -----------------------------------------------------------------------------


@pytest.mark.shows("Built-in Signals: pre_init, post_init", "pre_init", "post_init")
async def test_construction_is_told(sessions: Sessions, recorder: Recorder) -> None:
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
async def test_saves_and_deletions_are_told_before_and_after(
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
async def test_bulk_operations_are_told_once(sessions: Sessions, recorder: Recorder) -> None:
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
async def test_many_to_many_changes_are_told(sessions: Sessions) -> None:
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
