"""The Litestar example: Advanced Alchemy's repositories write, and signals follow them."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from litestar.testing import AsyncTestClient
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals import post_delete, post_save

HELLO = {"title": "Hello", "body": "first words"}


@pytest.fixture
def app(blog, async_url):
    return blog.create_app(async_url)


@pytest.fixture
async def client(app):
    async with AsyncTestClient(app, raise_server_exceptions=False) as client:
        yield client


async def test_added_post_is_sent_once(blog, client, look):
    """A post that a repository adds is indexed, announced and audited exactly once."""
    answer = await client.post("/posts", json=HELLO)
    assert answer.status_code == 201
    post_id = answer.json()["id"]
    assert blog.search_index == {post_id: {"hello", "first", "words"}}
    assert blog.outbox == ["new: Hello"]
    assert look("SELECT post_id, action FROM audit_rows") == [(post_id, "created")]


async def test_notification_comes_after_the_commit(blog, client, look):
    """When receivers of the outcome run, another connection can read the post already."""
    seen = []

    @post_save(blog.Post, phase="after_commit")
    async def look_from_outside(sender, instance, **kwargs):
        seen.append(await asyncio.to_thread(look, "SELECT title FROM posts"))

    await client.post("/posts", json=HELLO)
    assert seen == [[("Hello",)]]


async def test_answer_comes_after_the_commit(blog, app):
    """The answer starts only when the commit is made and its receivers have run."""
    sent = []

    async def watched(scope, receive, send):
        async def watch(message):
            sent.append((message["type"], list(blog.outbox)))
            await send(message)

        await app(scope, receive, watch)

    transport = httpx.ASGITransport(watched)
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://blog") as watcher,
    ):
        await watcher.post("/posts", json=HELLO)
    assert sent[0] == ("http.response.start", ["new: Hello"])


async def test_failed_request_sends_nothing(blog, client, look):
    """A request that fails after it has written leaves no post and no audit row, and no word of it."""
    await client.post("/posts", json=HELLO)
    again = [{"title": "Again", "body": "more"}, HELLO]
    answer = await client.post("/posts/import", json=again)
    assert answer.status_code == 409
    assert look("SELECT title FROM posts") == [("Hello",)]
    assert look("SELECT action FROM audit_rows") == [("created",)]
    assert [words for words in blog.search_index.values() if "again" in words] == []
    assert blog.outbox == ["new: Hello"]


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
    assert blog.outbox == []


async def test_update_is_sent_as_a_change(blog, client, recorder):
    """A post that a repository updates is sent with created=False, once."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    recorder.record(post_save, blog.Post, phase="after_commit")
    answer = await client.put(f"/posts/{post_id}", json={"title": "Goodbye", "body": "last words"})
    assert answer.status_code == 200
    assert [call.payload["created"] for call in recorder.calls] == [False]
    assert blog.outbox == ["new: Hello", "changed: Goodbye"]
    assert blog.search_index == {post_id: {"goodbye", "last", "words"}}


async def test_update_of_nothing_is_not_found(blog, client):
    """A post that isn't there can't be updated, and nothing is sent."""
    answer = await client.put("/posts/1", json=HELLO)
    assert answer.status_code == 404
    assert blog.outbox == []


async def test_deleted_post_is_forgotten(blog, client, look):
    """A post that a repository deletes is removed from the index, and audited."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    answer = await client.delete(f"/posts/{post_id}")
    assert answer.status_code == 204
    assert (await client.get(f"/posts/{post_id}")).status_code == 404
    assert blog.search_index == {}
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
    assert sorted(blog.outbox) == ["new: Hello", "new: One", "new: Two"]
    assert sorted(look("SELECT title FROM posts")) == [("Hello",), ("One",), ("Two",)]
    assert len(look("SELECT * FROM audit_rows")) == 3


@pytest.fixture
async def posts(blog, client, async_engine):
    """A repository outside of requests, on a session of its own; the client's start made the tables."""
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield blog.PostRepository(session=session)


def some_posts(blog):
    return [blog.Post(title=title, body=".") for title in ("One", "Two")]


async def test_add_many_sends_each(blog, posts):
    """add_many() adds objects to the session, so each of them is sent."""
    await posts.add_many(some_posts(blog), auto_commit=True)
    assert blog.outbox == ["new: One", "new: Two"]


async def test_upsert_sends_what_it_did(blog, posts):
    """upsert() of a known key is sent as a change, of an unknown one as a creation."""
    known = await posts.add(some_posts(blog)[0], auto_commit=True)
    changed = blog.Post(id=known.id, title="Uno", body=".")
    await posts.upsert(changed, auto_commit=True)
    await posts.upsert(some_posts(blog)[1], auto_commit=True)
    assert blog.outbox == ["new: One", "changed: Uno", "new: Two"]


async def test_update_many_and_delete_many_are_statements(blog, posts, recorder, look):
    """update_many() and delete_many() of a repository are statements, and send nothing."""
    added = await posts.add_many(some_posts(blog), auto_commit=True)
    keys = [one.id for one in added]
    recorder.record(post_save, blog.Post)
    recorder.record(post_delete, blog.Post)
    changed = [blog.Post(id=key, title="Same", body=".") for key in keys]
    await posts.update_many(changed, auto_commit=True)
    assert look("SELECT title FROM posts") == [("Same",), ("Same",)]
    await posts.delete_many(keys, auto_commit=True)
    assert look("SELECT * FROM posts") == []
    assert recorder.calls == []


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


async def test_the_inspector_shows_what_is_sent(blog, async_url, opened_inspectors):
    """In debug mode, below /signals; otherwise it isn't there."""
    for debug, status in ((True, 200), (False, 404)):
        app = blog.create_app(async_url, debug=debug)
        async with AsyncTestClient(app, base_url="http://127.0.0.1") as client:
            await client.post("/posts", json=HELLO)
            answer = await client.get("/signals/export.json")
        assert answer.status_code == status
        if debug:
            [group] = answer.json()["groups"]
            assert group["state"] == "committed"
            receivers = [each["name"] for one in group["entries"] for each in one["receivers"]]
            assert f"{blog.__name__}.notify" in receivers
    assert len(opened_inspectors) == 1
