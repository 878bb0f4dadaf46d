"""What the timeline is narrowed to."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest
from kit.timelines import entry_view, group_view, receiver_view

from aksara_signals.contrib.inspector.filters import Filters


def numbers(filters: Filters, *entries: Any) -> list[int] | None:
    group = filters.apply(group_view(5, *entries))
    return None if group is None else [each.number for each in group.entries]


def test_without_filters_all_is_shown() -> None:
    """As the same group."""
    group = group_view(5)
    assert Filters.of({}).apply(group) is group
    assert Filters.of({}).is_empty


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({"signal": "post_save"}, True),
        ({"signal": "pre_save"}, False),
        ({"sender": "Post"}, True),
        ({"sender": "app.Post"}, True),
        ({"sender": "app"}, False),
        ({"sender": "Pos"}, False),
        ({"receiver": "SEARCH.index"}, True),
        ({"receiver": "mail"}, False),
        ({"slower": "40"}, True),
        ({"slower": "40.5"}, False),
        ({"slower": "0"}, True),
        ({"errors": "1"}, True),
        ({"errors": "0", "signal": "other"}, False),
        ({"receiver": "search", "errors": "1"}, False),
        ({"receiver": "broken", "errors": "1"}, True),
        ({"receiver": "broken", "slower": "40"}, False),
        ({"signal": "post_save", "sender": "Tag"}, False),
        ({"signal": " post_save "}, True),
    ],
)
def test_conditions_must_all_hold(given: dict[str, str], matches: bool) -> None:
    """Those about receivers for one and the same of them."""
    receivers = (
        receiver_view("app.search.index", milliseconds=40.0),
        receiver_view("app.broken", state="failed", milliseconds=None),
    )
    entry = entry_view(sender="app.Post", receivers=receivers)
    found = numbers(Filters.of(given), entry)
    assert found == ([entry.number] if matches else None)


def test_the_slowest_call_counts() -> None:
    """Not the sum of many quick ones."""
    quick = entry_view(receivers=(receiver_view(milliseconds=100.0, slowest=1.0),))
    assert numbers(Filters(slower=50), quick) is None
    assert numbers(Filters(slower=1), quick) == [quick.number]


def test_a_send_that_takes_long_is_slow() -> None:
    """Even if each of its receivers is quick; one receiver is not slow because of others."""
    entry = entry_view(milliseconds=60.0)
    assert numbers(Filters(slower=50), entry) == [entry.number]
    assert numbers(Filters(slower=50, receiver="notify"), entry) is None
    assert numbers(Filters(slower=50, errors=True), entry) is None


def test_dead_rows_are_errors() -> None:
    """As failed receivers are."""
    entry = entry_view(kind="durable", receivers=(receiver_view(state="dead"),))
    assert numbers(Filters(errors=True), entry) == [entry.number]


def test_causes_are_shown_with_what_they_caused() -> None:
    """All the way up, in their order, without their other consequences."""
    first = entry_view()
    second = entry_view(parent=first.number, depth=1)
    third = entry_view(parent=second.number, depth=2, sender="Tag")
    other = entry_view(parent=first.number, depth=1)
    found = numbers(Filters(sender="Tag"), first, second, third, other)
    assert found == [first.number, second.number, third.number]


def test_a_forgotten_cause_is_no_problem() -> None:
    """It is not there to be shown."""
    entry = entry_view(parent=-1, depth=1, sender="Tag")
    assert numbers(Filters(sender="Tag"), entry) == [entry.number]


def test_after_is_about_groups() -> None:
    """Of higher numbers; it is not one of the filters that can be taken off."""
    assert Filters(after=5).apply(group_view(5)) is None
    assert Filters(after=4).apply(group_view(5)) is not None
    assert Filters(after=4).is_empty


@pytest.mark.parametrize("slower", ["x", "nan", "inf", "-1", "1e999", "1 2", "٣x"])
def test_what_is_no_number_is_reported(slower: str) -> None:
    """And left out."""
    filters = Filters.of({"slower": slower, "signal": "post_save"})
    assert filters.slower is None
    assert filters.signal == "post_save"
    assert "is not a number of milliseconds" in filters.problems[0]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 100, "٣"])
def test_a_bad_number_of_a_group_is_reported(after: str) -> None:
    """And left out."""
    filters = Filters.of({"after": after})
    assert filters.after == 0
    assert "is not the number of a transaction" in filters.problems[0]


def test_filters_go_through_an_address() -> None:
    """And come back the same."""
    filters = Filters("post_save", "app.Post", "a&b=c", 12.5, errors=True, after=7)
    given = {name: values[0] for name, values in parse_qs(filters.query()).items()}
    assert Filters.of(given) == filters
    assert Filters().query() == ""
    assert filters.query(after="", before=3).endswith("&errors=1&before=3")


async def test_a_bad_number_is_said_on_the_page(client) -> None:
    """Which is shown nevertheless; an export of all, by mistake, is not."""
    page = await client.get("/", params={"slower": "<b>"})
    assert page.status_code == 200
    assert "slower: &#39;&lt;b&gt;&#39; is not a number of milliseconds" in page.text
    assert (await client.get("/export.json", params={"slower": "x"})).status_code == 400
