"""The pages in a real browser: live, by keyboard, in both color schemes, and against hostile names."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from kit.browsers import ARGUMENTS, find_chromium, served
from kit.models import Post
from kit.outbox_workers import Base, outbox
from kit.timelines import FakeTimeline, entry_view, group_view, receiver_view
from sqlalchemy import create_engine, insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from aksara_signals.contrib.inspector import Inspector, stream
from aksara_signals.contrib.outbox.rows.breaker import FAILURES_IN_A_ROW, note_failure
from aksara_signals.signals import post_save, pre_save

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium"),
]

HOSTILE = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">"\'&{{7*7}}'
SCREENSHOTS = Path(__file__).parents[4] / "docs" / "_static"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        yield found
        found.close()


@pytest.fixture
def outbox_sessions(tmp_path) -> Iterator[Any]:
    """Sessions on the outbox of an application, with dead rows and a breaker that is open."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(1, 9):
            receiver = "search.index" if number % 3 else "mail.welcome"
            is_dead = number % 4 == 0
            connection.execute(
                insert(outbox.tables.outbox).values(
                    id=uuid.uuid4(), receiver=receiver, type="post_save",
                    aggregatetype="app.models.Post", aggregateid=str(number), payload={},
                    status=2 if is_dead else number % 2, attempts=5 if is_dead else 0,
                    last_error="ConnectionError: secret" if is_dead else None,
                    done_at=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC) if is_dead or number % 2 else None,
                )
            )  # fmt: skip
        for _ in range(FAILURES_IN_A_ROW):
            note_failure(connection, outbox.tables, "search.index")
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def options() -> dict[str, Any]:
    """Those of the inspector."""
    return {}


@pytest.fixture
def opened(browser, made, options) -> Iterator[Callable[..., Any]]:
    """Opens pages of an inspector; what the console said is checked at the end."""
    said: list[str] = []
    with ExitStack() as stack:
        inspector = made(**options)
        # Closed before the server stops, which lets its streams finish first.
        address = stack.enter_context(served(inspector))
        stack.callback(inspector.close)

        def open_page(path: str = "/", **options: Any) -> Any:
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(5_000)
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(f"error: {error}"))
            page.goto(address + path)
            if path == "/" and options.get("java_script_enabled", True):
                page.locator("#live", has_text="Live.").wait_for()
            return page

        yield open_page
    assert [each for each in said if "status of 404" not in each] == []


def example(timeline: FakeTimeline) -> None:
    """Some of everything that a timeline can show."""
    first = entry_view(values={"slug": "hello-world"})
    nested = entry_view(
        depth=1, parent=first.number, signal="post_save", sender="Revision", key="12",
        receivers=(receiver_view("app.search.index_revision", milliseconds=48.2),),
    )  # fmt: skip
    failing = entry_view(
        signal="pre_save",
        sender="Comment",
        key=None,
        flush=2,
        savepoint=1,
        is_undone=True,
        receivers=(
            receiver_view(
                "app.moderation.check_words",
                state="failed",
                error="ValueError",
                notes=("while pre_save was sent by Comment",),
                file="app/moderation.py",
                line=31,
            ),
        ),
    )
    queued = entry_view(
        kind="queued",
        phase="after_commit",
        flush=None,
        receivers=(receiver_view("app.mail.notify_author", state="delivered", milliseconds=3.4),),
    )
    silenced = entry_view(
        kind="silenced", rows=500, key="1, 2, 3", context="signals_disabled(post_save)",
        receivers=(receiver_view("app.search.index_post", state="silenced", milliseconds=None),),
    )  # fmt: skip
    durable = entry_view(
        kind="durable", phase="durable",
        receivers=(receiver_view("app.search.reindex", state="waiting", milliseconds=None, detail="attempt 3"),),
    )  # fmt: skip
    timeline.put(
        group_view(1, first, nested, queued, durable),
        group_view(
            2, failing, silenced, state="rolled back", caused_by=(1, "app.mail.notify_author")
        ),
        group_view(3, entry_view(), state="open", milliseconds=None),
        group_view(4, entry_view(flush=None), state="none", session=None, omitted=3),
    )


def test_a_transaction_appears_within_a_second(opened, timeline) -> None:
    """And its outcome, when it is known, in the same place."""
    page = opened()
    timeline.put(group_view(12, state="open"))
    article = page.locator("#g12")
    article.wait_for(timeout=1_000)
    assert article.locator(".badge").inner_text() == "open"
    timeline.put(group_view(12, state="rolled back"))
    page.locator("#g12 .badge", has_text="rolled back").wait_for(timeout=1_000)
    assert page.locator("article").count() == 1


def test_the_newest_stands_first(opened, timeline) -> None:
    """Whatever the order in which they change."""
    page = opened()
    timeline.put(group_view(2))
    page.locator("#g2").wait_for()
    timeline.put(group_view(3), group_view(1))
    page.locator("#g1").wait_for()
    numbers = page.locator("article").evaluate_all("all => all.map(each => each.dataset.number)")
    assert numbers == ["3", "2", "1"]


def test_filters_hold_for_the_page_and_for_what_comes(opened, timeline) -> None:
    """They are in the address, and the stream follows them."""
    timeline.put(group_view(1), group_view(2, entry_view(sender="Tag")))
    page = opened()
    page.get_by_label("Class").fill("Tag")
    page.get_by_label("Class").press("Enter")
    page.locator("#live", has_text="Live.").wait_for()
    assert "sender=Tag" in page.url
    assert page.locator("article").evaluate_all("all => all.map(each => each.id)") == ["g2"]
    timeline.put(group_view(3), group_view(4, entry_view(sender="Tag")))
    page.locator("#g4").wait_for()
    assert page.locator("#g3").count() == 0


def test_pause_holds_the_page_still(opened, timeline) -> None:
    """It counts what came meanwhile, and shows that afterwards."""
    page = opened()
    page.get_by_role("button", name="Pause").click()
    timeline.put(group_view(1), group_view(2))
    page.locator("#live", has_text="Paused; 2 changes meanwhile.").wait_for()
    assert page.locator("article").count() == 0
    page.get_by_role("button", name="Continue").click()
    page.locator("#g2").wait_for()
    assert page.locator("article").count() == 2


def test_clear_hides_what_there_was(opened, timeline) -> None:
    """Also what came after the page was loaded; the server still has it."""
    timeline.put(group_view(1))
    page = opened()
    timeline.put(group_view(2))
    page.locator("#g2").wait_for()
    page.get_by_role("link", name="Clear").click()
    page.locator("#live", has_text="Live.").wait_for()
    assert page.locator("article").count() == 0
    timeline.put(group_view(3))
    page.locator("#g3").wait_for()
    page.get_by_role("link", name="Show all").click()
    page.locator("#g1").wait_for()


def test_focus_and_what_is_open_stay(opened, timeline) -> None:
    """While the transaction that they are in changes."""
    failed = receiver_view(state="failed", error="ValueError", notes=("a note",))
    timeline.put(group_view(1, entry_view(receivers=(failed,)), state="open"))
    page = opened()
    page.locator("#g1 summary").click()
    page.locator("#g1 summary").focus()
    timeline.put(group_view(1, entry_view(receivers=(failed,)), state="committed"))
    page.locator("#g1 .badge", has_text="committed").wait_for()
    assert page.locator("#g1 .note").is_visible()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_the_page_stays_small(opened, timeline) -> None:
    """Only the newest two hundred are on it, and what was left off is counted."""
    page = opened()
    timeline.put(*(group_view(number) for number in range(1, 301)))
    page.locator("#g300").wait_for()
    for start in range(301, 601, 50):
        timeline.put(*(group_view(number) for number in range(start, start + 50)))
        page.locator(f"#g{start + 49}").wait_for()
    assert page.locator("article").count() <= 200
    assert re.search(r"\d+ more, not shown live; reload shows them", page.inner_text("#missed"))


def test_news_are_announced_politely(opened, timeline) -> None:
    """In one status line, at most each five seconds."""
    page = opened()
    timeline.put(*(group_view(number) for number in range(1, 13)))
    page.locator("#news", has_text="12 new transactions").wait_for(timeout=7_000, state="attached")
    assert page.locator("#timeline").get_attribute("aria-live") is None


def test_it_works_without_javascript(opened, timeline) -> None:
    """Tables, filters, permalinks and pages."""
    example(timeline)
    page = opened(java_script_enabled=False)
    assert page.locator("article").count() == 4
    assert not page.get_by_role("button", name="Pause").is_visible()
    page.get_by_label("Errors only").check()
    page.get_by_role("button", name="Filter").click()
    assert page.locator("article").count() == 1
    page.get_by_role("link", name="permalink").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Transaction 2"


@pytest.mark.parametrize("comes", ["first", "live"])
def test_hostile_names_do_nothing(opened, timeline, comes: str) -> None:
    """Markup in names of classes, receivers, errors, notes, keys and values is shown as text."""
    receiver = receiver_view(
        HOSTILE, state="failed", error=HOSTILE, error_text=HOSTILE, notes=(HOSTILE,), file=HOSTILE,
        detail=HOSTILE,
    )  # fmt: skip
    entry = entry_view(
        signal=HOSTILE, sender=HOSTILE, key=HOSTILE, values={HOSTILE: HOSTILE}, context=HOSTILE,
        receivers=(receiver,),
    )  # fmt: skip
    group = group_view(1, entry, session=HOSTILE, caused_by=(1, HOSTILE))
    if comes == "first":
        timeline.put(group)
    page = opened()
    timeline.put(group)
    page.locator("#g1").wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("window.hacked") is None
    assert page.locator("article script, article img").count() == 0
    assert page.locator(".sender").inner_text() == HOSTILE
    page.get_by_label("Receiver contains").fill(HOSTILE)
    page.get_by_role("button", name="Filter").click()
    page.locator("#g1").wait_for()
    assert page.get_by_label("Receiver contains").input_value() == HOSTILE
    assert page.evaluate("window.hacked") is None


def test_everything_is_reached_by_the_keyboard(opened, timeline) -> None:
    """The first stop skips to the content, and each stop can be seen."""
    example(timeline)
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    stops = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focus = "document.activeElement"
        if page.evaluate(f"{focus} === document.body"):
            break  # around once
        stops.append(page.evaluate(f"{focus}.name || {focus}.id || {focus}.className"))
        outline = page.evaluate(f"getComputedStyle({focus}).outlineStyle")
        assert (stops[-1], outline) != (stops[-1], "none")
    for stop in ("signal", "sender", "receiver", "slower", "errors", "pause", "clear", "permalink"):
        assert stop in stops


@pytest.fixture
def receivers_connected() -> None:
    """Something for the page of receivers."""
    names = ("app.search.index_post", "app.mail.notify_author", "app.audit.note_change")

    def make(name: str) -> Callable[..., None]:
        def receiver(sender: Any, **kwargs: Any) -> None: ...

        receiver.__module__, _, receiver.__qualname__ = name.rpartition(".")
        return receiver

    search, mail, audit = map(make, names)
    post_save.connect(search, sender=Post)
    post_save.connect(mail, sender=Post, phase="after_commit")
    pre_save.connect(audit)


@pytest.fixture
def with_outbox(options, outbox_sessions) -> None:
    """An inspector that may requeue rows."""
    options.update(outbox=outbox, sessions=outbox_sessions, actions=True)


def test_a_dead_row_is_requeued(with_outbox, opened) -> None:
    """After a question, and with a message."""
    page = opened("/outbox")
    assert page.get_by_role("button", name="Requeue row").count() == 2
    page.get_by_role("button", name="Requeue row 8").click()
    page.get_by_role("heading", name="Requeue row 8?").wait_for()
    page.get_by_role("button", name="Requeue 1 row").click()
    page.get_by_text("1 row waits again.").wait_for()
    assert page.get_by_role("button", name="Requeue row").count() == 1
    page.get_by_role("button", name="Requeue all dead rows of search.index").click()
    page.get_by_role("button", name="Requeue 1 row").click()
    page.get_by_text("No row is dead.").wait_for()


PATHS = ["/", "/?errors=1&slower=x", "/transactions/2", "/receivers", "/outbox",
         "/outbox/requeue?seq=8", "/outbox?requeued=2", "/nothing"]  # fmt: skip


@pytest.mark.usefixtures("with_outbox", "receivers_connected")
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing(opened, timeline, scheme: str) -> None:
    """On no page, in either color scheme."""
    from axe_playwright_python.sync_playwright import Axe

    example(timeline)
    for path in PATHS if scheme == "dark" else ("/", "/transactions/2", "/receivers", "/outbox"):
        # The script of axe is put into the page, whose policy forbids that.
        page = opened(path, color_scheme=scheme, bypass_csp=True)
        for summary in page.locator("summary").all():
            summary.click()
        found = Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"


@pytest.mark.usefixtures("with_outbox", "receivers_connected")
def test_no_page_is_wider_than_its_window(opened, timeline) -> None:
    """Wide tables scroll within themselves, from 360 to 1600 pixels."""
    example(timeline)
    timeline.put(
        group_view(9, entry_view(sender="A" * 200, receivers=(receiver_view("b." * 150),)))
    )
    for path in PATHS:
        page = opened(path)
        for width in (360, 800, 1600):
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert (path, wide) == (path, width)


def test_the_token_is_entered_in_a_form(made, browser, timeline, monkeypatch) -> None:
    """A wrong one leads to the form again, the right one to the timeline, whose stream it admits."""
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.5)
    inspector = made(debug=False, token="open sesame")
    timeline.put(group_view(1))
    with served(inspector) as address:
        page = browser.new_page()
        page.set_default_timeout(5_000)
        page.goto(address)
        page.get_by_label("Token").fill("wrong token")
        page.keyboard.press("Enter")
        page.get_by_text("This is not the token.").wait_for()
        page.get_by_label("Token").fill("open sesame")
        page.keyboard.press("Enter")
        page.locator("#g1").wait_for()
        page.locator("#live", has_text="Live.").wait_for()
        assert "sesame" not in page.url
        page.context.clear_cookies()  # as if the application had been started anew
        page.locator("#live", has_text="Reload to log in again.").wait_for()
        page.reload()
        page.get_by_label("Token").fill("open sesame")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Token").wait_for()
        page.context.close()
        inspector.close()


def test_a_page_goes_on_after_an_interruption(made, browser, timeline, monkeypatch) -> None:
    """Without losing anything; if the application was started anew, it shows only that run."""
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.3)
    runs = [made()]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await runs[-1](scope, receive, send)

    with served(application, lifespan="off") as address:
        page = browser.new_page()
        page.goto(address)
        for number in range(1, 9):
            timeline.put(group_view(number))
            time.sleep(0.2)
        page.locator("#g8").wait_for(timeout=5_000)
        assert page.locator("article").count() == 8
        assert page.inner_text("#live") == "Live."
        timeline.forget()
        timeline.put(group_view(1, state="open"))
        runs.append(made())
        runs[0].close()
        page.locator("#g1.state-open").wait_for(timeout=5_000)
        assert page.locator("article").count() == 1
        page.context.close()
        runs[1].close()


def application(folder: Path, inspector: Inspector) -> FastAPI:
    """An application that writes posts, with the inspector mounted."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'blog.db'}")
    sessions = async_sessionmaker(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Post.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.mount("/signals", inspector)

    @app.post("/posts/{title}")
    async def write(title: str) -> int:
        async with sessions.begin() as session:
            post = Post(title=title)
            session.add(post)
            await session.flush()
            if title == "rejected":
                await session.rollback()
                return 0
            return post.id

    return app


def test_a_write_of_an_application_appears(browser, tmp_path) -> None:
    """Within a second, with its receivers and its outcome, from where the inspector is mounted."""

    async def index_post(sender: Any, **kwargs: Any) -> None: ...
    async def notify_author(sender: Any, **kwargs: Any) -> None: ...

    post_save.connect(index_post, sender=Post)
    post_save.connect(notify_author, sender=Post, phase="after_commit")
    with Inspector(debug=True) as inspector, served(application(tmp_path, inspector)) as address:
        page = browser.new_page()
        page.set_default_timeout(5_000)
        page.goto(f"{address}/signals")
        page.locator("#live", has_text="Live.").wait_for()
        httpx.post(f"{address}/posts/hello").raise_for_status()
        article = page.locator("article", has=page.locator(".badge", has_text="committed"))
        article.first.wait_for(timeout=1_000)
        text = " ".join(article.first.inner_text().split())
        assert re.search(r"AsyncSession .* post_save .*Post .*ok .*index_post", text)
        assert re.search(r"after commit post_save .*queued → delivered .*notify_author", text)
        assert "hello" not in text
        httpx.post(f"{address}/posts/rejected").raise_for_status()
        undone = page.locator("article", has=page.locator(".badge", has_text="rolled back"))
        undone.first.wait_for(timeout=1_000)
        assert "dropped (rolled back)" in undone.first.inner_text()
        page.context.close()
        inspector.close()


@pytest.mark.usefixtures("with_outbox", "receivers_connected")
@pytest.mark.slow
def test_pictures_for_the_documentation(opened, timeline, tmp_path: Path) -> None:
    """Of the timeline, the receivers and the outbox; AKSARA_SCREENSHOTS=1 replaces the files."""
    example(timeline)
    folder = SCREENSHOTS if os.environ.get("AKSARA_SCREENSHOTS") else tmp_path
    for name, path in (("timeline", "/"), ("receivers", "/receivers"), ("outbox", "/outbox")):
        for scheme in ("light", "dark"):
            page = opened(path, color_scheme=scheme, viewport={"width": 1100, "height": 700})
            page.screenshot(path=folder / f"inspector-{name}-{scheme}.png")
    assert {each.name for each in folder.glob("inspector-*.png")} == {
        each.name for each in SCREENSHOTS.glob("inspector-*.png")
    }
