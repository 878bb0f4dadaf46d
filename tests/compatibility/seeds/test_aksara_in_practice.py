"""Aksara's signals, on SQLAlchemy models: the examples and the advice of the leading text (004)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from kit.aksara_text import (
    Base,  # noqa: F401 - the fixture ``sessions`` looks for it
    Ledger,
    Reader,
    Remark,
    Sessions,
    Story,
    Topic,
    columns,
)

from aksara_signals import SignalContext, SignalRecursionError, post_delete, post_save, pre_save

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
            log.error("not sent: %s", error)

    await Story.objects.create(title="Kept")
    assert await Story.objects.count() == 1
    assert "not sent: nobody there" in caplog.text

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
    """Inside disable_for() a model is silent, and only there; others send signals."""
    seen: list[str] = []

    @post_save()
    async def watcher(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(sender.__name__)

    async with SignalContext.disable_for(Story):
        story = await Story.objects.create(title="Quiet")
        await story.update(title="Quieter")
        await Topic.objects.create(label="received")
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
