"""The SQLModel example: models without the mixin, registered, written by real requests."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from aksara_signals import post_save

HELLO = {"title": "Hello", "body": "first words"}


@pytest.fixture
def app(blog, async_url):
    return blog.create_app(async_url)


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
    assert answer.json() == HELLO | {"id": post_id}
    assert blog.search_index == {post_id: {"hello", "first", "words"}}
    assert blog.outbox == ["new: Hello"]
    assert look("SELECT post_id, action FROM audit_rows") == [(post_id, "created")]


async def test_receiver_of_the_outcome_gets_a_whole_model(blog, client, look):
    """After the commit a receiver gets a model that SQLModel can dump, and that is committed."""
    seen = []

    @post_save(blog.Post, phase="after_commit")
    async def dump(sender, instance, **kwargs):
        seen.append((instance.model_dump(), await asyncio.to_thread(look, "SELECT id FROM posts")))

    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    assert seen == [(HELLO | {"id": post_id}, [(post_id,)])]


async def test_unregistered_model_is_silent(blog, client, recorder):
    """A model that was not registered sends nothing."""
    recorder.record(post_save, blog.AuditRow)
    await client.post("/posts", json=HELLO)
    assert recorder.calls == []


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
    """A request that changes a post sends it with created=False, and with what has changed."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    differences = []
    recorder.record(post_save, blog.Post, phase="after_commit")

    @post_save(blog.Post)
    async def compare(sender, instance, changes, **kwargs):
        differences.append(dict(changes))

    answer = await client.put(f"/posts/{post_id}", json=HELLO | {"title": "Goodbye"})
    assert answer.json() == HELLO | {"id": post_id, "title": "Goodbye"}
    assert [call.payload["created"] for call in recorder.calls] == [False]
    assert differences == [{"title": ("Hello", "Goodbye")}]
    assert blog.outbox == ["new: Hello", "changed: Goodbye"]
    assert blog.search_index == {post_id: {"goodbye", "first", "words"}}


async def test_deleted_post_is_forgotten(blog, client, look):
    """A request that deletes a post has it removed from the index, and audited."""
    post_id = (await client.post("/posts", json=HELLO)).json()["id"]
    assert (await client.delete(f"/posts/{post_id}")).status_code == 204
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
