"""What has become of the rows of durable receivers, on both databases, by both kinds of sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit.databases import Database
from kit.outbox_workers import DEAD, World, connect, outbox, table, world_of

from aksara_signals.contrib.inspector import stored
from aksara_signals.contrib.inspector.recorder import Recorder
from aksara_signals.contrib.inspector.store import Store
from aksara_signals.contrib.inspector.stored import StoredStates
from aksara_signals.testing import drain_outbox


@pytest.fixture(autouse=True)
def _own_durable_receivers(own_durable_receivers: None) -> None:
    """Those of other tests don't store rows here."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is due."""
    monkeypatch.setattr(stored, "REFRESH_SECONDS", 0.0)


@pytest.fixture(params=["async", "plain"])
async def world(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[World]:
    async with world_of(database, is_async=request.param == "async") as found:
        yield found


@pytest.fixture
def recording() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.start()
    yield recorder
    recorder.stop()


def notify(event: Any, **kwargs: Any) -> None: ...
def index(event: Any, **kwargs: Any) -> None: ...


def states(recorder: Recorder) -> list[list[tuple[str, str]]]:
    """Of each row that was written, oldest first: the states of its receivers."""
    return [
        [(each.state, each.detail) for each in entry.receivers]
        for group in reversed(recorder.timeline.groups())
        for entry in group.entries
        if entry.kind == "durable"
    ]


async def test_rows_show_what_has_become_of_them(world: World, recording: Recorder) -> None:
    """Waiting, failed and called again, done, dead; a group whose row changes has changed."""
    connect(notify)
    connect(index, durable="test.index")
    await world.write("a", "b")
    looked_up = StoredStates(recording.timeline, Store(outbox, world.sessions))
    await looked_up.refresh()
    assert states(recording) == [[("waiting", ""), ("waiting", "")]] * 2
    position = recording.timeline.position()
    rows = await world.rows()
    await world.change(table.c.seq == rows[0].seq, attempts=2)
    await world.change(table.c.seq == rows[1].seq, leased_by="somebody")
    await world.change(table.c.seq == rows[2].seq, status=DEAD, attempts=5)
    await world.change(table.c.seq == rows[3].seq, status=1)
    await looked_up.refresh()
    found = [each for row in states(recording) for each in row]
    assert sorted(found) == [
        ("dead", "after 5 failed attempts"),
        ("done", ""),
        ("waiting", "a worker has it"),
        ("waiting", "failed 2 times, is called again"),
    ]
    assert recording.timeline.changed_since(position).groups


async def test_final_states_are_not_looked_up_again(
    world: World, recording: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once all rows of all entries are done or dead, no query is made."""
    connect(notify)
    await world.write("a")
    looked_up = StoredStates(recording.timeline, Store(outbox, world.sessions))
    await world.change(table.c.seq > 0, status=1)
    await looked_up.refresh()
    assert states(recording) == [[("done", "")]]
    monkeypatch.setattr(stored, "_look_up", lambda *_: pytest.fail("it was looked up"))
    await looked_up.refresh()


async def test_a_database_that_fails_leaves_the_states(
    world: World, recording: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of the timeline goes on; that of the outbox says what is wrong."""
    connect(notify)
    await world.write("a")
    looked_up = StoredStates(recording.timeline, Store(outbox, world.sessions))
    await looked_up.refresh()

    def fail(*_: Any) -> None:
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(stored, "_look_up", fail)
        await looked_up.refresh()
    assert states(recording) == [[("waiting", "")]]
    await world.change(table.c.seq > 0, status=1)
    await looked_up.refresh()
    assert states(recording) == [[("done", "")]]


async def test_rows_are_looked_up_once_a_second(
    world: World, recording: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all browsers together; and never without an outbox."""
    connect(notify)
    await world.write("a")
    looks: list[object] = []
    monkeypatch.setattr(stored, "_look_up", lambda *_: looks.append(1) or [])
    monkeypatch.setattr(stored, "REFRESH_SECONDS", 60.0)
    looked_up = StoredStates(recording.timeline, Store(outbox, world.sessions))
    for _ in range(3):
        await looked_up.refresh()
    await StoredStates(recording.timeline, None).refresh()
    assert len(looks) == 1


async def test_a_worker_in_this_process_is_recorded(
    database: Database, recording: Recorder
) -> None:
    """The call of a durable receiver is a send of its own, in the transaction of the worker."""
    connect(notify)
    async with world_of(database, is_async=True) as world:
        await world.write("a")
        async with world.sessions() as session:
            await drain_outbox(session)
    calls = [
        entry
        for group in recording.timeline.groups()
        for entry in group.entries
        if entry.kind == "send"
    ]
    assert [(each.phase, each.receivers[0].state) for each in calls] == [("durable", "ok")]
