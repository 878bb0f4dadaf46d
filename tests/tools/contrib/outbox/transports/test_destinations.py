"""Names of subjects, queues, streams and topics."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.outbox_workers import World, connect

from aksara_signals.contrib.outbox import Durable, DurableEvent
from aksara_signals.contrib.outbox.transports.destinations import Destinations
from aksara_signals.exceptions import InvalidOptionError


def _event(lane: int | None, identifier: UUID | None = None) -> DurableEvent:
    return DurableEvent.from_cloudevent(
        {
            "specversion": "1.0",
            "id": f"{identifier or uuid4()}:test.notes:0",
            "source": "/Note",
            "type": "post_save",
            "time": datetime.now(UTC).isoformat(),
            "receiver": "test.notes",
            "data": {"v": 1, "key": [1]},
            **({} if lane is None else {"partitionkey": str(lane)}),
        }
    )


@pytest.mark.parametrize("lane", [5, -5, 2**63 - 1, -(2**63)])
def test_all_events_of_one_object_go_to_one_partition(lane: int) -> None:
    to = Destinations("a.{receiver}", 4)
    assert to.of(_event(lane)) == to.of(replace(_event(lane), created=False))
    assert to.of(_event(lane)) == f"a.test.notes.{lane % 4}"


def test_one_partition_has_no_number() -> None:
    assert Destinations("a.{receiver}.b").of(_event(5)) == "a.test.notes.b"


def test_events_without_an_order_go_to_all_partitions() -> None:
    to = Destinations("{receiver}", 2)
    found = Counter(to.of(_event(None, UUID(int=number))) for number in range(10))
    assert found == {"test.notes.0": 5, "test.notes.1": 5}


def test_a_receiver_takes_what_was_published_under_its_former_names(small: World) -> None:
    connect(_receiver, Durable("test.notes", formerly=("old.notes",)))
    found = [name for _, name in Destinations("a.{receiver}", 2).received(["test.*"])]
    assert sorted(found) == ["a.old.notes.0", "a.old.notes.1", "a.test.notes.0", "a.test.notes.1"]
    assert len(list(Destinations("a.{receiver}").received(["test.*"]))) == 2


def _receiver(event: Any, **_: Any) -> None:
    """Only its name matters."""


@pytest.mark.parametrize(
    "template", ["aksara", "a.{other}", "a.{}", "a.{receiver", None, b"{receiver}"]
)
def test_a_name_without_the_receiver(template: Any) -> None:
    with pytest.raises(InvalidOptionError, match="events can't be published to"):
        Destinations(template)


@pytest.mark.parametrize("partitions", [0, -1, 1.5, True, "4", None])
def test_a_number_of_partitions_that_is_none(partitions: Any) -> None:
    with pytest.raises(InvalidOptionError, match="events can't be divided into"):
        Destinations("{receiver}", partitions)
