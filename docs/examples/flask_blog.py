"""A blog on Flask, with plain sessions; signals update its audit, search index and mail."""

from contextlib import ExitStack
from uuid import uuid4

from flask import Flask, abort, g, jsonify, request
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from aksara_signals import post_delete, post_save, pre_save, provenance
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str]
    body: Mapped[str]


class AuditRow(Base):
    __tablename__ = "audit_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int]
    action: Mapped[str]
    actor: Mapped[str | None]
    request: Mapped[str | None]


# Placeholders for a search engine and a mail server.
search_index = {}  # id of a post -> its words
outbox = []


# Receivers are plain functions here: there is no event loop in which an async one could wait.


@pre_save(Post)
def give_a_slug(sender, instance, **kwargs):
    instance.slug = instance.title.lower().replace(" ", "-")


@post_save(Post)
def audit_save(sender, instance, created, session, provenance, **kwargs):
    session.add(audit_row(instance, "created" if created else "changed", provenance))


@post_delete(Post)
def audit_deletion(sender, instance, session, provenance, **kwargs):
    session.add(audit_row(instance, "deleted", provenance))


def audit_row(post, action, origin):
    actor, request = origin.get("actor"), origin.get("request")
    return AuditRow(post_id=post.id, action=action, actor=actor, request=request)


@post_save(Post, phase="after_commit")
def index(sender, instance, **kwargs):
    search_index[instance.id] = set(f"{instance.title} {instance.body}".lower().split())


@post_delete(Post, phase="after_commit")
def forget(sender, instance, **kwargs):
    search_index.pop(instance.id, None)


@post_save(Post, phase="after_commit")
def notify(sender, instance, created, **kwargs):
    outbox.append(f"{'new' if created else 'changed'}: {instance.title}")


def show(post):
    return {"id": post.id, "title": post.title, "slug": post.slug, "body": post.body}


def create_app(url: str, inspector_port: int | None = None) -> Flask:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)

    app = Flask(__name__)
    app.extensions["engine"] = engine
    if inspector_port is not None:  # shows a developer what is sent; Flask mounts no ASGI
        from aksara_signals.contrib.inspector import Inspector

        app.extensions["inspector"] = Inspector(debug=True).in_thread(port=inspector_port)

    # Who writes, and in which request, for all receivers of all views. It is entered before the
    # view and left after it: a thread serves many requests, and none may inherit from the last one.

    @app.before_request
    def state_provenance():
        actor = request.headers.get("X-User")  # a placeholder for your authentication
        number = request.headers.get("X-Request-ID") or uuid4().hex
        g.request_blocks = ExitStack()
        g.request_blocks.enter_context(provenance(actor=actor, request=number))

    @app.teardown_request
    def leave_provenance(error):
        if "request_blocks" in g:
            g.request_blocks.close()

    def find(session, post_id):
        return session.get(Post, post_id) or abort(404)

    # Each view opens its own transaction. It ends before the view returns, so the answer is sent
    # after the commit; abort() raises, which rolls back what was written.

    @app.post("/posts")
    def create():
        given = request.get_json()
        with sessions.begin() as session:
            post = Post(title=given["title"], body=given["body"])
            session.add(post)
            session.flush()  # sets its id
            shown = show(post)
        return jsonify(shown), 201

    @app.post("/posts/import")
    def create_many():
        shown = []
        with sessions.begin() as session:
            for given in request.get_json():
                if session.scalar(select(Post.id).where(Post.title == given["title"])):
                    abort(409)  # rolls back the posts written before it
                post = Post(title=given["title"], body=given["body"])
                session.add(post)
                session.flush()
                shown.append(show(post))
        return jsonify(shown), 201

    @app.get("/posts/<int:post_id>")
    def read(post_id):
        with sessions() as session:
            return jsonify(show(find(session, post_id)))

    @app.put("/posts/<int:post_id>")
    def update(post_id):
        given = request.get_json()
        with sessions.begin() as session:
            post = find(session, post_id)
            post.title, post.body = given["title"], given["body"]
            session.flush()  # the receiver that gives the slug runs here
            shown = show(post)
        return jsonify(shown)

    @app.delete("/posts/<int:post_id>")
    def delete(post_id):
        with sessions.begin() as session:
            session.delete(find(session, post_id))
        return "", 204

    return app


def main():
    app = create_app("sqlite://")
    client = app.test_client()
    hello = {"title": "Hello", "body": "first words"}
    print(client.post("/posts", json=hello).json)
    print(client.post("/posts/import", json=[{"title": "Again", "body": "more"}, hello]).status)
    print(search_index, outbox)
    app.extensions["engine"].dispose()


if __name__ == "__main__":
    main()
