"""What the pages show."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from kit.models import Post
from kit.timelines import entry_view, group_view, receiver_view

from aksara_signals.contrib.inspector import pages, routes, wording
from aksara_signals.introspection.collect import collect
from aksara_signals.introspection.graph import make_graph
from aksara_signals.introspection.svg import to_svg
from aksara_signals.signals import post_save, pre_save

FOLDER = Path(pages.__file__).parent


def text_of(html: str) -> str:
    """What a reader sees, with single spaces."""
    body = html.partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


async def shown(client: Any, path: str = "/") -> str:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return text_of(response.text)


def test_templates_have_no_inline_script_or_style() -> None:
    """The policy would not let them run."""
    for template in (FOLDER / "templates").iterdir():
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?! src)", text)


async def test_an_empty_timeline_says_so(client) -> None:
    """And other words if filters are the reason."""
    assert "Nothing was sent yet." in await shown(client)
    assert "Nothing matches." in await shown(client, "/?signal=post_save")


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("open", "Transaction 1 open"),
        ("committed", "Transaction 1 committed"),
        ("rolled back", "Transaction 1 rolled back"),
        ("none", "Send 1 no transaction"),
    ],
)
async def test_the_state_of_a_transaction_is_in_words(client, timeline, state, word) -> None:
    """Not only in a color."""
    timeline.put(group_view(1, state=state))
    assert word in await shown(client)


async def test_a_transaction_shows_its_figures(client, timeline) -> None:
    """Time, duration, entries, session, cause and a permanent link."""
    timeline.put(
        group_view(2, entry_view(), entry_view(), milliseconds=1234.5, caused_by=(1, "app.mail"))
    )
    page = await client.get("/")
    text = text_of(page.text)
    assert "03:04:05.678 1.23 s 2 entries AsyncSession caused by 1 (app.mail) permalink" in text
    assert 'href="/transactions/1"' in page.text
    assert 'href="/transactions/2"' in page.text


async def test_an_entry_shows_all_of_it(client, timeline) -> None:
    """Signal, class, key, rows, flush, savepoint, values, and its receivers."""
    receiver = receiver_view(
        state="failed", error="ValueError", error_text="no", notes=("while it was sent",),
        detail="attempt 3", slowest=1.0,
    )  # fmt: skip
    entry = entry_view(
        rows=3000, savepoint=2, is_undone=True, values={"slug": "hello"}, receivers=(receiver,),
        milliseconds=0.25, flush=4,
    )  # fmt: skip
    timeline.put(group_view(1, entry))
    text = await shown(client)
    assert "post_save Post 7 3,000 rows flush 4 savepoint 2 (undone) 0.25 ms slug hello" in text
    assert "failed app.receivers.notify 1.5 ms slowest 1.0 ms /srv/app/receivers.py:12" in text
    assert "attempt 3 ValueError the error no while it was sent" in text


async def test_silenced_ones_name_the_context(client, timeline) -> None:
    """With its receivers, which were not called."""
    silenced = receiver_view(state="silenced", milliseconds=None)
    timeline.put(
        group_view(
            1,
            entry_view(kind="silenced", context="signals_disabled()", receivers=(silenced,)),
            entry_view(kind="durable", rows=0),
        )
    )
    text = await shown(client)
    assert "silenced post_save Post 7 flush 1 by signals_disabled() silenced app" in text
    assert "durable post_save Post 7 rows not counted" in text


@pytest.mark.parametrize(
    ("receiver_state", "is_undone", "group_state", "words"),
    [
        ("queued", False, "open", "queued"),
        ("delivered", False, "committed", "queued → delivered"),
        ("dropped", False, "rolled back", "queued → dropped (rolled back)"),
        ("dropped", True, "committed", "queued → dropped (savepoint undone)"),
        ("dropped", False, "open", "queued → dropped"),
        ("failed", False, "committed", "queued → failed"),
    ],
)
def test_what_was_queued_says_how_it_ended(receiver_state, is_undone, group_state, words) -> None:
    """Once the outcome of the transaction is known."""
    entry = entry_view(
        kind="queued", is_undone=is_undone, receivers=(receiver_view(state=receiver_state),)
    )
    assert wording.outcome(entry, group_view(1, entry, state=group_state)) == words
    assert wording.outcome(entry_view(), group_view()) == ""


async def test_causes_are_indented_and_in_words(client, timeline) -> None:
    """At most eight levels deep, for screen readers by number."""
    first = entry_view()
    timeline.put(
        group_view(
            1,
            first,
            entry_view(depth=1, parent=first.number),
            entry_view(depth=30, parent=first.number),
        )
    )
    page = await client.get("/")
    assert 'class="entry kind-send depth-1"' in page.text
    assert 'class="entry kind-send depth-8"' in page.text
    assert f"level 31, caused by send {first.number}:" in text_of(page.text)


async def test_a_long_transaction_is_cut(client, timeline) -> None:
    """To fifty on the timeline; its own page shows them all, five hundred at a time."""
    timeline.put(group_view(1, *(entry_view(sender=f"C{at}.") for at in range(1000)), omitted=2))
    text = await shown(client)
    assert "and 950 more" in text
    assert "1,002 entries" in text
    assert "2 older entries are forgotten." in text
    assert ("C49." in text, "C50." in text) == (True, False)
    first = await shown(client, "/transactions/1")
    assert ("C499." in first, "C500." in first) == (True, False)
    assert "1 to 500 of 1,000 Later entries" in first
    second = await shown(client, "/transactions/1?page=2")
    assert ("C499." in second, "C500." in second) == (False, True)
    assert "Earlier entries 501 to 1,000 of 1,000" in second
    assert second == await shown(client, "/transactions/1?page=99")
    assert first == await shown(client, "/transactions/1?page=x")


async def test_a_transaction_that_is_not_known_is_a_page(client) -> None:
    """With the status 404."""
    for path in ("/transactions/77", "/transactions/77.json"):
        response = await client.get(path)
        assert response.status_code == 404
        assert "Transaction 77 is not known, or not any more." in response.text


async def test_older_transactions_are_a_page_further(client, timeline) -> None:
    """With the same filters."""
    timeline.put(*(group_view(number) for number in range(1, 251)))
    seen: list[str] = []
    path: str | None = "/?sender=Post"
    while path:
        page = (await client.get(path)).text
        seen += re.findall(r'<article id="g(\d+)"', page)
        found = re.search(r'href="([^"]*before=\d+)"', page)
        path = unescape(found[1]) if found else None
    assert seen == [str(number) for number in range(250, 0, -1)]


async def test_filters_look_at_all_that_is_known(client, timeline) -> None:
    """Not only at the newest hundred, nor only at the first fifty entries."""
    many = [entry_view() for _ in range(100)]
    timeline.put(group_view(1, *many, entry_view(sender="Tag")))
    timeline.put(*(group_view(number) for number in range(2, 400)))
    text = await shown(client, "/?sender=Tag")
    assert "Transaction 1" in text
    assert text.count("permalink") == 1


async def test_clear_and_export_have_the_filters(client, timeline) -> None:
    """And clear is an address that can be shared."""
    timeline.put(group_view(1), group_view(2))
    page = unescape((await client.get("/?sender=Post")).text)
    assert 'href="/?sender=Post&after=2"' in page
    assert 'href="/export.json?sender=Post"' in page
    cleared = unescape((await client.get("/?sender=Post&after=2")).text)
    assert "<article" not in cleared
    assert 'href="/?sender=Post"' in cleared


async def test_the_export_has_all_that_matches(client, timeline) -> None:
    """Newest first, with stable keys."""
    assert (await client.get("/export.json")).json() == {"groups": []}
    timeline.put(*(group_view(number) for number in range(1, 251)))
    timeline.put(group_view(251, entry_view(sender="Tag", values={"slug": "a"})))
    everything = await client.get("/export.json")
    assert [each["number"] for each in everything.json()["groups"]] == list(range(251, 0, -1))
    assert "attachment" in everything.headers["content-disposition"]
    (found,) = (await client.get("/export.json?sender=Tag")).json()["groups"]
    one = (await client.get("/transactions/251.json")).json()
    assert found == one
    assert one["entries"][0]["values"] == {"slug": "a"}


@pytest.mark.parametrize("path", ["/", "/transactions/1", "/transactions/1.json"])
async def test_pages_look_up_what_is_known_elsewhere(
    made, client_of, timeline, monkeypatch, path
) -> None:
    """Before they show it; but a database that does not answer delays none for long."""
    monkeypatch.setattr(routes, "REFRESH_SECONDS", 0.05)
    calls = []

    async def refresh() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    timeline.put(group_view(1))
    inspector = made()
    (room,) = {each.endpoint.__self__ for each in inspector._app.routes if each.name == "timeline"}
    monkeypatch.setattr(room, "_refresh", refresh)
    response = await client_of(inspector).get(path)
    assert (response.status_code, calls) == (200, [1])


def notify(sender: Any, **kwargs: Any) -> None: ...


async def test_receivers_are_listed_and_drawn(client) -> None:
    """A class leads to its receivers, each with file and line."""
    pre_save.connect(notify, sender=Post)
    page = await client.get("/receivers")
    place = next(each for each in collect() if each.receiver.name.endswith("notify"))
    assert place.receiver.title in page.text
    assert "<svg" in page.text
    address = re.search(r'href="(/receivers\?sender=[^"]*Post)"', page.text)
    assert address is not None
    post_save.connect(notify)
    narrowed = await shown(client, address[1])
    assert "Receivers of kit.models.Post" in narrowed
    assert narrowed.count("notify") >= 2


async def test_the_graph_leads_to_receivers_and_their_places(client) -> None:
    """The box of a class to its receivers, the box of a receiver to its row of the table."""
    pre_save.connect(notify, sender=Post)
    post_save.connect(notify)
    page = await client.get("/receivers")
    graph = page.text.partition("<svg")[2]
    links = re.findall(r'<a href="([^"]*)">\n<rect class="(\w+)"', graph)
    assert {kind for _, kind in links} == {"sender", "receiver"}
    [(address, _)] = [each for each in links if each[0].endswith("Post")]
    assert (await client.get(address)).status_code == 200
    rows = re.findall(r'<tr id="([^"]*)">', page.text)
    assert {address[1:] for address, kind in links if kind == "receiver"} <= set(rows)


async def test_an_unknown_sender_is_said(client) -> None:
    """With the message of the command."""
    text = await shown(client, "/receivers?sender=<b>Nobody")
    assert "no sender is named '<b>Nobody'" in text


async def test_without_receivers_the_page_says_so(client, monkeypatch) -> None:
    """In place of an empty table."""
    monkeypatch.setattr("aksara_signals.contrib.inspector.routes.collect", lambda sender: [])
    assert "No receivers are connected." in await shown(client, "/receivers")


def test_a_picture_without_style_has_none() -> None:
    """And otherwise it is the same picture."""
    graph = make_graph(collect())
    assert "style" not in to_svg(graph, style=False)
    assert "<style>" in to_svg(graph)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0 s"), (-1, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_700, "1 h 1 min"),
     (90_000, "1 d 1 h")],
)  # fmt: skip
def test_ages_have_two_units(seconds: float | None, text: str) -> None:
    """The two largest ones."""
    assert wording.age(seconds) == text


def test_durations_are_short() -> None:
    """With as many digits as mean something; none without one."""
    assert [wording.duration(each) for each in (None, 0.123, 12.34, 1234.5)] == [
        "", "0.12 ms", "12.3 ms", "1.23 s",
    ]  # fmt: skip


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    """Whatever it is."""
    assert wording.clock("2030-01-02T03:04:05.678+00:00") == "03:04:05.678"
    assert wording.clock("soon") == "soon"
