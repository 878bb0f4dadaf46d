"""The Flask example: plain sessions, plain receivers, real requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from aksara_signals import post_save, provenance

HELLO = {"title": "Hello", "body": "first words"}


@pytest.fixture
def app(blog, sync_url):
    app = blog.create_app(sync_url)
    yield app
    app.extensions["engine"].dispose()


@pytest.fixture
def client(app):
    return app.test_client()


def test_created_post_is_sent_once(blog, client, look):
    """A request that creates a post has it indexed, announced and audited exactly once."""
    answer = client.post("/posts", json=HELLO)
    assert answer.status_code == 201
    assert answer.json["slug"] == "hello"
    post_id = answer.json["id"]
    assert blog.search_index == {post_id: {"hello", "first", "words"}}
    assert blog.outbox == ["new: Hello"]
    assert look("SELECT post_id, action FROM audit_rows") == [(post_id, "created")]


def test_notification_comes_after_the_commit(blog, client, look):
    """When receivers of the outcome run, another connection can read the post already."""
    seen = []

    @post_save(blog.Post, phase="after_commit")
    def look_from_outside(sender, instance, **kwargs):
        seen.append(look("SELECT title FROM posts"))

    client.post("/posts", json=HELLO)
    assert seen == [[("Hello",)]]


def test_failed_request_sends_nothing(blog, client, look):
    """A request that fails after it has written leaves no post and no audit row, and no word of it."""
    client.post("/posts", json=HELLO)
    answer = client.post("/posts/import", json=[{"title": "Again", "body": "more"}, HELLO])
    assert answer.status_code == 409
    assert look("SELECT title FROM posts") == [("Hello",)]
    assert look("SELECT action FROM audit_rows") == [("created",)]
    assert [words for words in blog.search_index.values() if "again" in words] == []
    assert blog.outbox == ["new: Hello"]


def test_receiver_can_reject_a_request(blog, client, look):
    """An error of a receiver in the transaction fails the request, and nothing remains of it."""

    @post_save(blog.Post)
    def reject(sender, instance, **kwargs):
        raise RuntimeError("not today")

    answer = client.post("/posts", json=HELLO)
    assert answer.status_code == 500
    assert look("SELECT * FROM posts") == []
    assert look("SELECT * FROM audit_rows") == []
    assert blog.search_index == {}
    assert blog.outbox == []


def test_update_is_sent_as_a_change(blog, client, recorder):
    """A request that changes a post sends it with created=False."""
    post_id = client.post("/posts", json=HELLO).json["id"]
    recorder.record(post_save, blog.Post, sync=True, phase="after_commit")
    answer = client.put(f"/posts/{post_id}", json={"title": "Good bye", "body": "last words"})
    assert answer.json["slug"] == "good-bye"
    assert [call.payload["created"] for call in recorder.calls] == [False]
    assert blog.outbox == ["new: Hello", "changed: Good bye"]
    assert blog.search_index == {post_id: {"good", "bye", "last", "words"}}


def test_deleted_post_is_forgotten(blog, client, look):
    """A request that deletes a post has it removed from the index, and audited."""
    post_id = client.post("/posts", json=HELLO).json["id"]
    assert client.delete(f"/posts/{post_id}").status_code == 204
    assert client.get(f"/posts/{post_id}").status_code == 404
    assert blog.search_index == {}
    assert look("SELECT action FROM audit_rows ORDER BY id") == [("created",), ("deleted",)]


def test_requests_at_once_keep_apart(blog, app, client, look):
    """Of requests in several threads, those that succeed send signals, those that fail don't."""
    client.post("/posts", json=HELLO)
    requests = [
        ("/posts", {"title": "One", "body": "."}),
        ("/posts/import", [{"title": "Lost", "body": "."}, HELLO]),
        ("/posts", {"title": "Two", "body": "."}),
    ]

    def send(request):
        path, body = request
        return app.test_client().post(path, json=body).status_code

    with ThreadPoolExecutor(len(requests)) as threads:
        assert list(threads.map(send, requests)) == [201, 409, 201]
    assert sorted(blog.outbox) == ["new: Hello", "new: One", "new: Two"]
    assert sorted(look("SELECT title FROM posts")) == [("Hello",), ("One",), ("Two",)]
    assert len(look("SELECT * FROM audit_rows")) == 3


def test_who_has_written_is_stated_once_for_all_requests(blog, app, client, look):
    """Receivers are given the user and the request, after the commit too; nothing outlives these."""
    seen = []

    @post_save(blog.Post, phase="after_commit")
    def note(instance, provenance, **kwargs):
        seen.append((instance.title, provenance["actor"], provenance["request"]))

    for user, number in (("ann", "r1"), ("bob", "r2")):
        headers = {"X-User": user, "X-Request-ID": number}
        client.post("/posts", json={"title": user, "body": "."}, headers=headers)
        assert provenance.current() == {}
    assert seen == [("ann", "ann", "r1"), ("bob", "bob", "r2")]
    assert look("SELECT action, actor, request FROM audit_rows ORDER BY id") == [
        ("created", "ann", "r1"),
        ("created", "bob", "r2"),
    ]
    client.delete(f"/posts/{look('SELECT min(id) FROM posts')[0][0]}")
    [(actor, number)] = look("SELECT actor, request FROM audit_rows WHERE action = 'deleted'")
    assert (actor, len(number)) == (None, 32)


def test_a_failed_request_leaves_its_provenance(client):
    """The next one of the thread doesn't inherit it."""
    client.post("/posts", json=HELLO, headers={"X-User": "ann"})
    assert client.post("/posts/import", json=[HELLO], headers={"X-User": "ann"}).status_code == 409
    assert provenance.current() == {}


def test_the_inspector_shows_what_is_sent(blog, app, sync_url):
    """On a port of its own, if it is given one."""
    assert "inspector" not in app.extensions
    app = blog.create_app(sync_url, inspector_port=0)
    with app.extensions["inspector"] as served:
        app.test_client().post("/posts", json=HELLO)
        [group] = httpx.get(f"{served.address}export.json").json()["groups"]
    app.extensions["engine"].dispose()
    receivers = [each["name"] for entry in group["entries"] for each in entry["receivers"]]
    assert f"{blog.__name__}.give_a_slug" in receivers
    assert f"{blog.__name__}.notify" in receivers
