"""The page of the outbox: what it shows, and what it may change."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from html import unescape
from typing import Any

import httpx
import pytest
from kit.databases import Database
from kit.outbox_workers import DEAD, DONE, WAITING, World, connect, outbox, table, world_of
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from aksara_signals.contrib.inspector import Inspector
from aksara_signals.contrib.inspector.outbox_pages import class_of_error
from aksara_signals.contrib.outbox.rows import breaker, upkeep
from aksara_signals.contrib.outbox.rows.tables import clock

OWN = {"Origin": "http://localhost"}


@pytest.fixture(autouse=True)
def _own_durable_receivers(own_durable_receivers: None) -> None:
    """Those of other tests don't store rows here."""


@pytest.fixture(params=["async", "plain"])
async def world(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[World]:
    """An application with an outbox, by async sessions and by plain ones."""
    async with world_of(database, is_async=request.param == "async") as found:
        yield found


@pytest.fixture
def client_with(made: Callable[..., Inspector], client_of: Any, world: World) -> Any:
    """Makes clients of inspectors of the world's outbox."""

    def make(**options: Any) -> httpx.AsyncClient:
        given = {"outbox": outbox, "sessions": world.sessions, **options}
        return client_of(made(**given), headers=OWN)

    return make


def notify(event: Any, **kwargs: Any) -> None: ...
def index(event: Any, **kwargs: Any) -> None: ...


async def with_dead_rows(world: World, error: str = "ValueError: secret text") -> list[int]:
    """Two dead rows of one receiver and one of another, and a row of each that waits."""
    connect(notify)
    connect(index, durable="test.index")
    await world.write("a", "b")
    rows = await world.rows()
    dead = [row.seq for row in rows if row.receiver == "test.notes"] + [rows[-1].seq]
    await world.change(
        table.c.seq.in_(dead), status=DEAD, attempts=5, last_error=error, done_at=clock()
    )
    return dead


def text_of(page: httpx.Response) -> str:
    body = page.text.partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


async def test_counts_are_shown_by_receiver(world: World, client_with: Any) -> None:
    """With the age of the oldest row that waits, and dead rows, but not the texts of errors."""
    await with_dead_rows(world)
    page = await client_with().get("/outbox")
    text = text_of(page)
    assert page.status_code == 200
    assert re.search(r"test\.index 1 0 0 1 0 \d+ s closed", text)
    assert re.search(r"test\.notes 0 0 0 2 0 closed", text)
    assert text.count("ValueError") == 3
    assert "secret text" not in page.text
    assert "<form" not in page.text


async def test_texts_of_errors_are_shown_if_asked_for(world: World, client_with: Any) -> None:
    """By show_errors=True."""
    await with_dead_rows(world, "ValueError: <b>secret</b> text")
    page = await client_with(show_errors=True).get("/outbox")
    assert "ValueError: &lt;b&gt;secret&lt;/b&gt; text" in page.text


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("ValueError: secret", "ValueError"),
        ("ValueError", "ValueError"),
        ("sqlalchemy.exc.IntegrityError from asyncpg.Unique (SQLSTATE 23505)", None),
        ("ExceptionGroup of ValueError, KeyError", "ExceptionGroup"),
        ("secret text", ""),
        ("secret", "secret"),
        ("", ""),
        (None, ""),
    ],
)
def test_of_an_error_its_class_is_shown(error: str | None, shown: str | None) -> None:
    """And what else has no values."""
    assert class_of_error(error) == (error if shown is None else shown)


async def test_open_breakers_are_shown(world: World, client_with: Any) -> None:
    """With the failures in a row."""
    await with_dead_rows(world)

    def fail(session: Any) -> None:
        for _ in range(breaker.FAILURES_IN_A_ROW):
            breaker.note_failure(session.connection(), outbox.tables, "test.notes")
        breaker.note_failure(session.connection(), outbox.tables, "test.index")

    await world.run(fail)
    text = text_of(await client_with().get("/outbox"))
    assert "open 20 failures in a row, 0 probes" in text
    assert "closed 1 failure in a row" in text


async def test_an_empty_outbox_says_so(world: World, client_with: Any) -> None:
    """In place of empty tables."""
    text = text_of(await client_with().get("/outbox"))
    assert "The outbox is empty." in text
    assert "No row is dead." in text


async def test_a_dead_row_is_requeued_after_a_question(world: World, client_with: Any) -> None:
    """By a link to a form, which leads back with a message."""
    dead = await with_dead_rows(world)
    client = client_with(actions=True)
    page = await client.get("/outbox")
    assert f'aria-label="Requeue row {dead[0]}"' in page.text
    question = await client.get("/outbox/requeue", params={"seq": dead[0]})
    assert f"Requeue row {dead[0]}?" in text_of(question)
    assert "1 dead row waits again then" in text_of(question)
    assert (await world.statuses()).count(DEAD) == 3
    answer = await client.post("/outbox/requeue", data={"seq": dead[0]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/outbox?requeued=1")
    assert "1 row waits again." in text_of(await client.get(answer.headers["location"]))
    (row,) = [each for each in await world.rows() if each.seq == dead[0]]
    assert (row.status, row.attempts, row.last_error) == (WAITING, 0, None)
    again = await client.get("/outbox/requeue", params={"seq": dead[0]})
    assert "There is no such dead row, or not any more." in text_of(again)


async def test_all_dead_rows_of_a_receiver_are_requeued(world: World, client_with: Any) -> None:
    """Those of other receivers stay dead; workers in this process look at once."""
    await with_dead_rows(world)
    woken: list[int] = []
    wake = lambda: woken.append(1)  # noqa: E731 - the same object twice
    outbox.add_waker(wake)
    client = client_with(actions=True)
    assert 'aria-label="Requeue all dead rows of test.notes"' in (await client.get("/outbox")).text
    question = await client.get("/outbox/requeue", params={"receiver": "test.notes"})
    assert "2 dead rows wait again then" in text_of(question)
    answer = await client.post("/outbox/requeue", data={"receiver": "test.notes"})
    outbox.remove_waker(wake)
    assert answer.headers["location"] == "/outbox?requeued=2"
    assert (await world.statuses()).count(DEAD) == 1
    assert woken == [1]


async def test_many_rows_are_requeued_in_chunks(
    world: World, client_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a transaction of its own; the message is about all."""
    monkeypatch.setattr(upkeep, "CHUNK", 1)
    await with_dead_rows(world)
    answer = await client_with(actions=True).post(
        "/outbox/requeue", data={"receiver": "test.notes"}
    )
    assert answer.headers["location"] == "/outbox?requeued=2"


async def test_without_actions_nothing_is_changed(world: World, client_with: Any) -> None:
    """Neither the question nor the form is there."""
    dead = await with_dead_rows(world)
    client = client_with()
    assert (await client.get("/outbox/requeue", params={"seq": dead[0]})).status_code == 403
    answer = await client.post("/outbox/requeue", data={"seq": dead[0]})
    assert answer.status_code == 403
    assert "Inspector(actions=True)" in answer.text
    assert (await world.statuses()).count(DEAD) == 3


async def test_other_pages_change_nothing(world: World, client_with: Any) -> None:
    """A form of another origin is refused, whatever is allowed."""
    dead = await with_dead_rows(world)
    client = client_with(actions=True)
    foreign = {"Origin": "http://evil.example"}
    answer = await client.post("/outbox/requeue", data={"seq": dead[0]}, headers=foreign)
    assert answer.status_code == 403
    assert (await world.statuses()).count(DEAD) == 3


@pytest.mark.parametrize("given", [{}, {"receiver": "*"}, {"seq": "x"}, {"seq": "9" * 19}])
async def test_a_request_says_what_it_is_about(world: World, client_with: Any, given: Any) -> None:
    """No pattern, and nothing that isn't a number."""
    await with_dead_rows(world)
    answer = await client_with(actions=True).post("/outbox/requeue", data=given)
    assert answer.status_code == 400
    assert (await world.statuses()).count(DEAD) == 3


async def test_rows_that_are_done_stay_done(world: World, client_with: Any) -> None:
    """Only dead ones wait again."""
    dead = await with_dead_rows(world)
    await world.change(table.c.seq == dead[0], status=DONE)
    answer = await client_with(actions=True).post("/outbox/requeue", data={"seq": dead[0]})
    assert answer.headers["location"] == "/outbox?requeued=0"


@pytest.mark.parametrize("options", [{}, {"outbox": outbox}, {"sessions": sessionmaker()}])
async def test_without_an_outbox_the_page_says_how(made: Any, client_of: Any, options: Any) -> None:
    """And nothing can be requeued."""
    client = client_of(made(actions=True, **options), headers=OWN)
    page = await client.get("/outbox")
    assert "Inspector(outbox=outbox, sessions=Sessions)" in text_of(page)
    assert (await client.post("/outbox/requeue", data={"seq": "1"})).status_code == 404


async def test_a_database_that_cannot_be_read_is_said(made: Any, client_of: Any) -> None:
    """By the class of the error only, on each page."""
    sessions = sessionmaker(create_engine("sqlite:////nonexistent/secret.db"))
    client = client_of(made(actions=True, outbox=outbox, sessions=sessions), headers=OWN)
    page = await client.get("/outbox")
    assert page.status_code == 200
    assert "The database of the outbox can't be read: OperationalError" in text_of(page)
    question = await client.get("/outbox/requeue?seq=1")
    answer = await client.post("/outbox/requeue", data={"seq": "1"})
    assert (question.status_code, answer.status_code) == (503, 503)
    for each in (page, question, answer):
        assert "secret" not in each.text
    assert (await client.get("/")).status_code == 200
