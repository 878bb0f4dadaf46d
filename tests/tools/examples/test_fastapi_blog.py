"""The FastAPI example: real requests, answered by the application as a user would copy it."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from kit.browsers import ARGUMENTS, find_chromium, served

from aksara_signals import on_delivery_error, post_save

HELLO = {"title": "Hello", "body": "first words"}


@pytest.fixture
def app(blog, async_url):
    yield blog.create_app(async_url)
    blog.outbox.uninstall()


async def mail_of(blog, count):
    """What the worker has sent, once that is so many mails."""
    async with asyncio.timeout(30):
        while len(blog.sent_mail) < count:
            await asyncio.sleep(0.01)
    return sorted(blog.sent_mail)


@pytest.fixture
async def client(app):
    # An unhandled error is answered with 500, as a server would.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://blog") as client,
    ):
        yield client


async def test_created_post_is_sent_once(blog, client, look):
    """A request that creates a post has it indexed, announced and audited exactly once."""
    answer = await client.post("/posts", json=HELLO)
    assert answer.status_code == 201
    post_id = answer.json()["id"]
    assert blog.search_index == {post_id: {"hello", "first", "words"}}
    assert await mail_of(blog, 1) == ["new: Hello"]
    assert look("SELECT post_id, action FROM audit_rows") == [(post_id, "created")]


async def test_notification_comes_after_the_commit(blog, client, look):
    """When receivers of the outcome run, another connection can read the post already."""
    seen = []

    @post_save(blog.Post, phase="after_commit")
    async def look_from_outside(sender, instance, **kwargs):
        seen.append(await asyncio.to_thread(look, "SELECT title FROM posts"))

    await client.post("/posts", json=HELLO)
    assert seen == [[("Hello",)]]


async def test_answer_comes_after_the_commit(blog, app, client):
    """The answer starts only when the commit is made and its receivers have run."""
    sent = []

    async def watched(scope, receive, send):
        async def watch(message):
            sent.append((message["type"], list(blog.search_index)))
            await send(message)

        await app(scope, receive, watch)

    transport = httpx.ASGITransport(watched)
    async with httpx.AsyncClient(transport=transport, base_url="http://blog") as watcher:
        await watcher.post("/posts", json=HELLO)
    assert sent[0] == ("http.response.start", [1])


async def test_failed_request_sends_nothing(blog, client, look):
    """A request that fails after it has written leaves no post and no audit row, and no word of it."""
    await client.post("/posts", json=HELLO)
    again = [{"title": "Again", "body": "more"}, HELLO]
    answer = await client.post("/posts/import", json=again)
    assert answer.status_code == 409
    assert look("SELECT title FROM posts") == [("Hello",)]
    assert look("SELECT action FROM audit_rows") == [("created",)]
    assert [words for words in blog.search_index.values() if "again" in words] == []
    assert await mail_of(blog, 1) == ["new: Hello"]
    assert len(look("SELECT id FROM aksara_outbox")) == 1


async def test_import_sends_every_post(blog, client):
    """A request that writes several posts sends each of them, in their order."""
    posts = [{"title": title, "body": "."} for title in ("One", "Two", "Three")]
    answer = await client.post("/posts/import", json=posts)
    assert answer.status_code == 201
    assert await mail_of(blog, 3) == ["new: One", "new: Three", "new: Two"]


async def test_receiver_can_reject_a_request(blog, client, look):
    """An error of a receiver in the transaction fails the request, and nothing remains of it."""

    @post_save(blog.Post)
    async def reject(sender, instance, **kwargs):
        raise RuntimeError("not today")

    answer = await client.post("/posts", json=HELLO)
    assert answer.status_code == 500
    assert look("SELECT * FROM posts") == []
    assert look("SELECT * FROM audit_rows") == []
    assert blog.search_index == {}
    assert look("SELECT * FROM aksara_outbox") == []


async def test_error_after_the_commit_spares_the_request(blog, client, caplog):
    """An error of a receiver of the outcome is reported; the request succeeds, the others run."""
    reported = []

    @post_save(blog.Post, phase="after_commit", priority=1)
    async def fail(sender, instance, **kwargs):
        raise ConnectionError("nobody there")

    def report(error, **kwargs):
        reported.append(str(error))

    with on_delivery_error.connected_to(report):
        answer = await client.post("/posts", json=HELLO)
    assert answer.status_code == 201
    assert reported == ["nobody there"]
    assert await mail_of(blog, 1) == ["new: Hello"]


async def test_update_is_sent_as_a_change(blog, client, recorder):
    """A request that changes a post sends it with created=False."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    await mail_of(blog, 1)  # else it would have the later title: a worker loads the row as it is
    recorder.record(post_save, blog.Post, phase="after_commit")
    await client.put(f"/posts/{post_id}", json={"title": "Goodbye", "body": "last words"})
    assert [call.payload["created"] for call in recorder.calls] == [False]
    assert await mail_of(blog, 2) == ["changed: Goodbye", "new: Hello"]
    assert blog.search_index == {post_id: {"goodbye", "last", "words"}}


async def test_update_without_a_difference_sends_nothing(blog, client, look):
    """A request that sets what is there already changes nothing and sends nothing."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    answer = await client.put(f"/posts/{post_id}", json=HELLO)
    assert answer.status_code == 200
    assert await mail_of(blog, 1) == ["new: Hello"]
    assert look("SELECT action FROM audit_rows") == [("created",)]


async def test_cache_follows_the_post(blog, client):
    """A page that was cached is shown anew after a change, and not found after the deletion."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    first = (await client.get(f"/posts/{post_id}")).json()
    assert first == HELLO | {"id": post_id}
    assert list(blog.page_cache) == [post_id]
    await client.put(f"/posts/{post_id}", json=HELLO | {"title": "Goodbye"})
    assert blog.page_cache == {}
    second = (await client.get(f"/posts/{post_id}")).json()
    assert second["title"] == "Goodbye"
    await client.delete(f"/posts/{post_id}")
    assert (await client.get(f"/posts/{post_id}")).status_code == 404


async def test_deleted_post_is_forgotten(client, look):
    """A request that deletes a post has it removed from the index, and audited."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    answer = await client.delete(f"/posts/{post_id}")
    assert answer.status_code == 204
    assert (await client.get("/search", params={"word": "hello"})).json() == []
    assert look("SELECT action FROM audit_rows ORDER BY id") == [("created",), ("deleted",)]


async def test_requests_at_once_keep_apart(blog, client, look):
    """Of requests under way at once, those that succeed send signals, those that fail don't."""
    await client.post("/posts", json=HELLO)
    answers = await asyncio.gather(
        client.post("/posts", json={"title": "One", "body": "."}),
        client.post("/posts/import", json=[{"title": "Lost", "body": "."}, HELLO]),
        client.post("/posts", json={"title": "Two", "body": "."}),
    )
    assert [answer.status_code for answer in answers] == [201, 409, 201]
    assert await mail_of(blog, 3) == ["new: Hello", "new: One", "new: Two"]
    assert sorted(look("SELECT title FROM posts")) == [("Hello",), ("One",), ("Two",)]
    assert len(look("SELECT * FROM audit_rows")) == 3


async def test_shutdown_waits_for_receivers(blog, app, async_url, look):
    """Receivers under way when the server goes down come to their end, with an engine to use."""
    titles = []
    begun = asyncio.Event()

    @post_save(blog.Post, phase="after_commit")
    async def write_slowly(sender, instance, **kwargs):
        begun.set()
        await asyncio.sleep(0.05)
        async with app.state.sessions() as session:
            titles.append((await session.get(blog.Post, instance.id)).title)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://blog") as client:
        async with app.router.lifespan_context(app):
            request = asyncio.create_task(client.post("/posts", json=HELLO))
            await begun.wait()
            request.cancel()  # as a server does whose patience is at its end
        assert titles == ["Hello"]
        with pytest.raises(asyncio.CancelledError):
            await request


async def test_who_has_written_is_stated_once_for_all_requests(blog, client, look):
    """Receivers are given the user and the request, of each request its own, after the commit too."""
    seen = []

    @post_save(blog.Post, phase="after_commit")
    async def note(instance, provenance, **kwargs):
        seen.append((instance.title, provenance["actor"], provenance["request"]))

    def sent_by(user, number):
        given = {"title": user, "body": "."}
        return client.post("/posts", json=given, headers={"X-User": user, "X-Request-ID": number})

    await asyncio.gather(sent_by("ann", "r1"), sent_by("bob", "r2"))
    assert sorted(seen) == [("ann", "ann", "r1"), ("bob", "bob", "r2")]
    assert sorted(look("SELECT action, actor, request FROM audit_rows")) == [
        ("created", "ann", "r1"),
        ("created", "bob", "r2"),
    ]
    post_id = look("SELECT id FROM posts WHERE title = 'ann'")[0][0]
    await client.delete(f"/posts/{post_id}")
    [(actor, number)] = look("SELECT actor, request FROM audit_rows WHERE action = 'deleted'")
    assert (actor, len(number)) == (None, 32)


async def test_the_worker_knows_who_has_written(blog, client):
    """A durable receiver is given what was stated in the request."""
    seen = []

    @post_save(blog.Post, durable="test.seen")
    async def note(provenance, **kwargs):
        seen.append(dict(provenance))

    headers = {"X-User": "ann", "X-Request-ID": "r1"}
    await client.post("/posts", json=HELLO, headers=headers)
    async with asyncio.timeout(30):
        while not seen:
            await asyncio.sleep(0.01)
    assert seen == [{"actor": "ann", "request": "r1"}]


async def test_the_inspector_shows_what_is_sent(blog, async_url, opened_inspectors):
    """In debug mode, below /signals; otherwise it isn't there."""
    for debug, status in ((True, 200), (False, 404)):
        app = blog.create_app(async_url, debug=debug)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            await client.post("/posts", json=HELLO)
            answer = await client.get("/signals/export.json")
            outbox = await client.get("/signals/outbox")
        blog.outbox.uninstall()
        assert (answer.status_code, outbox.status_code) == (status, status)
        if debug:
            groups = answer.json()["groups"]
            receivers = [
                each["name"]
                for group in groups
                for entry in group["entries"]
                for each in entry["receivers"]
            ]
            assert f"{blog.__name__}.index" in receivers
            assert "mail.notify" in outbox.text
    assert len(opened_inspectors) == 1


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium: see the closing lines")
def test_a_write_appears_in_the_browser(blog, async_url, opened_inspectors):
    """Within a second: what is sent, what is queued and its outcome; then what the worker has done."""
    from playwright.sync_api import sync_playwright

    app = blog.create_app(async_url, debug=True)
    with served(app) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        page = browser.new_page()
        page.set_default_timeout(10_000)
        page.goto(f"{address}/signals")
        page.locator("#live", has_text="Live.").wait_for()
        httpx.post(f"{address}/posts", json=HELLO).raise_for_status()
        committed = page.locator("article.state-committed", has_text="audit_save").first
        committed.wait_for(timeout=1_000)
        text = " ".join(committed.inner_text().split())
        assert re.search(r"after commit post_save .*Post 1 .*queued → delivered .*index", text)
        assert "first words" not in page.content()
        committed.locator(".receiver.is-done", has_text="notify").wait_for()
        given = [{"title": "Other", "body": "words"}, HELLO]
        assert httpx.post(f"{address}/posts/import", json=given).status_code == 409
        undone = page.locator("article", has_text="rolled back").first
        undone.wait_for(timeout=1_000)
        assert "dropped (rolled back)" in undone.inner_text()
        for each in opened_inspectors:
            each.close()
        browser.close()
    blog.outbox.uninstall()
