"""The ring buffer of the inspector."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import pytest
from kit.models import Base, Post
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aksara_signals import Signal, post_save
from aksara_signals.contrib.inspector.entries import ROW_BYTES, Entry, Group
from aksara_signals.contrib.inspector.recorder import Recorder
from aksara_signals.contrib.inspector.timeline import MAX_BYTES, MAX_ENTRIES, Timeline

ping = Signal("ping")


@pytest.fixture
def timeline() -> Timeline:
    """One that remembers ten entries."""
    return Timeline(max_entries=10)


def add(timeline: Timeline, group: Group | None = None, count: int = 1) -> Group:
    group = group or Group("none")
    for _ in range(count):
        timeline.add(Entry("send", group, ping, "sender", ()))
    return group


def receive(**kwargs: Any) -> None: ...


def numbers(timeline: Timeline) -> list[list[int]]:
    return [[entry.number for entry in group.entries] for group in timeline.groups()]


def test_groups_come_newest_first_and_are_numbered_by_their_first_entry(timeline: Timeline) -> None:
    """The number is for the permanent link: it never changes."""
    first = add(timeline, count=2)
    add(timeline)
    add(timeline, first)
    assert [group.number for group in timeline.groups()] == [3, 1]
    assert numbers(timeline) == [[3], [1, 2, 4]]
    assert [group.number for group in timeline.groups(before=3)] == [1]
    assert [group.number for group in timeline.groups(limit=1)] == [3]


def test_the_oldest_entries_are_forgotten(timeline: Timeline) -> None:
    """A group without any is gone; one that has lost some says how many."""
    add(timeline, count=2)
    partly = add(timeline, count=6)
    add(timeline, count=7)
    assert numbers(timeline) == [[9, 10, 11, 12, 13, 14, 15], [6, 7, 8]]
    assert timeline.groups()[1].omitted == 3
    assert timeline.group(1) is None
    found = timeline.group(partly.number)
    assert found is not None
    assert len(found.entries) == 3


def test_a_forgotten_group_comes_back_with_its_next_entry(timeline: Timeline) -> None:
    """An open transaction may be older than all that is remembered."""
    old = add(timeline)
    add(timeline, count=10)
    assert timeline.group(1) is None
    add(timeline, old)
    found = timeline.group(1)
    assert found is not None
    assert (found.omitted, len(found.entries)) == (1, 1)


def test_entries_of_a_group_are_cut_on_request(timeline: Timeline) -> None:
    """The first ones are given, and how many follow."""
    add(timeline, count=5)
    [group] = timeline.groups(max_entries=2)
    assert (len(group.entries), group.further) == (2, 3)


def test_memory_is_limited_by_entries_with_many_receivers() -> None:
    """Entries that take more are fewer."""
    timeline = Timeline(max_bytes=50_000)
    for _ in range(100):
        entry = Entry("send", Group("none"), ping, "sender", ())
        entry.size = 10_000
        timeline.add(entry)
    assert len(timeline.entries()) == 5
    assert timeline.size_bytes == 50_000


def test_memory_is_limited_by_entries_that_grow() -> None:
    """One that has got more rows is counted with them, until it is forgotten."""
    timeline = Timeline(max_bytes=50_000)
    entries = [Entry("send", Group("none"), ping, "sender", ()) for _ in range(20)]
    for entry in entries:
        entry.size = 1_000
        timeline.add(entry)
        timeline.grow(entry, 9_000)
    assert timeline.entries() == entries[-5:]
    assert timeline.size_bytes == 50_000
    timeline.grow(entries[0], 9_000)
    assert timeline.size_bytes == 50_000


def test_a_flush_of_many_rows_is_counted_with_all_of_them() -> None:
    """What is subtracted when it is forgotten is what was added."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    recorder = Recorder()
    with post_save.connected_to(receive, sender=Post), Session(engine) as session:
        recorder.start()
        try:
            session.add_all([Post(title="") for _ in range(100)])
            session.flush()
        finally:
            recorder.stop()
    engine.dispose()
    [entry] = recorder.timeline.entries()
    assert entry.rows == 100
    assert recorder.timeline.size_bytes == entry.size > 100 * ROW_BYTES


def test_what_has_changed_is_given_once(timeline: Timeline) -> None:
    """Each reader has a position of its own; a later change of a group is given again."""
    first = add(timeline)
    position = timeline.position()
    assert timeline.changed_since(position).groups == []
    second = add(timeline)
    changed = timeline.changed_since(position)
    assert [group.number for group in changed.groups] == [2]
    again = timeline.changed_since(changed.position)
    assert again.groups == []
    timeline.note_change(first)
    timeline.note_change(second)
    timeline.note_change(first)
    latest = timeline.changed_since(again.position)
    assert [group.number for group in latest.groups] == [1, 2]
    assert [group.number for group in timeline.changed_since(position).groups] == [1, 2]


def test_only_the_latest_changes_are_given(timeline: Timeline) -> None:
    """Of many, the last ones, and how many more there are."""
    position = timeline.position()
    for _ in range(7):
        add(timeline)
    changed = timeline.changed_since(position, limit=3)
    assert [group.number for group in changed.groups] == [5, 6, 7]
    assert changed.left_off == 4


def test_what_is_looked_up_late_is_recorded_before_it_is_read() -> None:
    """Every reading catches up first."""
    timeline: Any = None
    timeline = Timeline(lambda: add(timeline))
    assert len(timeline.groups()) == 1
    assert len(timeline.changed_since(0).groups) == 2
    assert timeline.group(1) is not None


def test_threads_add_while_others_read() -> None:
    """Nothing is lost or torn: each entry is in its group once, in order."""
    timeline = Timeline(max_entries=100_000)
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        position = 0
        try:
            while not stop.is_set():
                position = timeline.changed_since(position, limit=10).position
                timeline.groups(5)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=lambda: add(timeline, count=2000)) for _ in range(4)]
    for each in (*readers, *writers):
        each.start()
    for each in writers:
        each.join()
    stop.set()
    for each in readers:
        each.join()
    assert failures == []
    found = numbers(timeline)
    assert sorted(number for group in found for number in group) == list(range(1, 8001))
    assert all(group == sorted(group) for group in found)


def test_what_is_sent_while_an_entry_is_added_blocks_nothing() -> None:
    """The garbage collector may run a finalizer that sends a signal, in the middle of an addition."""
    timeline = Timeline(max_entries=10)

    class Last:
        def __del__(self) -> None:
            add(timeline)

    group = Group("none")
    add(timeline, group, 10)
    group.entries[0].context = Last()  # type: ignore[assignment]
    add(timeline, count=3)
    assert len(timeline.entries()) <= 10


@pytest.mark.parametrize("receivers", [1, 20])
def test_entries_take_about_what_is_estimated(receivers: int) -> None:
    """So that 10,000 of them, or fewer with many receivers, take 32 MB at most."""

    def receiver_of(number: int) -> Any:
        def receiver(**kwargs: Any) -> None: ...

        receiver.__qualname__ = f"receiver_{number}"
        return receiver

    signal = Signal("busy")
    for number in range(receivers):
        signal.connect(receiver_of(number))
    recorder = Recorder()
    signal.send_sync("sender")
    tracemalloc.start()
    recorder.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(300):
            signal.send_sync("sender")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        recorder.stop()
        tracemalloc.stop()
    taken, estimated = after - before, recorder.timeline.size_bytes
    assert estimated / 300 * MAX_ENTRIES <= MAX_BYTES or receivers > 1
    assert 0.3 <= taken / estimated <= 1.2
