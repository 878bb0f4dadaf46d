"""A blog on Litestar that writes through repositories of Advanced Alchemy, with signals."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import uuid4

from advanced_alchemy.base import BigIntBase
from advanced_alchemy.extensions.litestar import SQLAlchemyAsyncConfig, SQLAlchemyPlugin
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from litestar import Litestar, Request, asgi, delete, get, post, put
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.exceptions import ClientException
from litestar.middleware import ASGIMiddleware
from litestar.params import FromPath, JSONBody
from litestar.testing import AsyncTestClient
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

from aksara_signals import drain, post_delete, post_save, provenance
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, BigIntBase):
    __abstract__ = True
    metadata = MetaData()  # only its own tables, not all tables of the process


class Post(Base):
    __tablename__ = "posts"
    title: Mapped[str]
    body: Mapped[str]


class AuditRow(Base):
    __tablename__ = "audit_rows"
    post_id: Mapped[int]
    action: Mapped[str]
    actor: Mapped[str | None]
    request: Mapped[str | None]


class PostRepository(SQLAlchemyAsyncRepository[Post]):
    model_type = Post


# Placeholders for a search engine and a mail server.
search_index = {}  # id of a post -> its words
outbox = []


@post_save(Post)
async def audit_save(sender, instance, created, session, provenance, **kwargs):
    session.add(audit_row(instance, "created" if created else "changed", provenance))


@post_delete(Post)
async def audit_deletion(sender, instance, session, provenance, **kwargs):
    session.add(audit_row(instance, "deleted", provenance))


def audit_row(post, action, origin):
    actor, request = origin.get("actor"), origin.get("request")
    return AuditRow(post_id=post.id, action=action, actor=actor, request=request)


@post_save(Post, phase="after_commit")
async def index(sender, instance, **kwargs):
    search_index[instance.id] = set(f"{instance.title} {instance.body}".lower().split())


@post_delete(Post, phase="after_commit")
async def forget(sender, instance, **kwargs):
    search_index.pop(instance.id, None)


@post_save(Post, phase="after_commit")
async def notify(sender, instance, created, **kwargs):
    outbox.append(f"{'new' if created else 'changed'}: {instance.title}")


@dataclass
class PostIn:
    title: str
    body: str


@dataclass
class PostOut:
    id: int
    title: str
    body: str


def show(found: Post) -> PostOut:
    return PostOut(id=found.id, title=found.title, body=found.body)


class StateProvenance(ASGIMiddleware):
    """States who writes, and in which request, for all receivers of all routes."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = Request(scope).headers
        actor = headers.get("X-User")  # a placeholder for your authentication
        async with provenance(actor=actor, request=headers.get("X-Request-ID") or uuid4().hex):
            await next_app(scope, receive, send)


async def open_posts(
    db_session: NamedDependency[AsyncSession],
) -> AsyncGenerator[PostRepository, None]:
    # One transaction per request, committed before the answer is sent. The plugin's "autocommit"
    # would answer 201 even if the commit failed.
    async with db_session.begin():
        yield PostRepository(session=db_session)


Posts = NamedDependency[PostRepository]


@post("/posts")
async def create(data: JSONBody[PostIn], posts: Posts) -> PostOut:
    return show(await posts.add(Post(title=data.title, body=data.body)))


@post("/posts/import")
async def create_many(data: JSONBody[list[PostIn]], posts: Posts) -> list[PostOut]:
    added = []
    for new in data:
        if await posts.exists(title=new.title):
            # The posts before it are written already; the error rolls them back.
            raise ClientException(f"there is a post {new.title!r} already", status_code=409)
        added.append(await posts.add(Post(title=new.title, body=new.body)))
    return [show(one) for one in added]


@get("/posts/{post_id:int}")
async def read(post_id: FromPath[int], posts: Posts) -> PostOut:
    return show(await posts.get(post_id))


@put("/posts/{post_id:int}")
async def update(post_id: FromPath[int], data: JSONBody[PostIn], posts: Posts) -> PostOut:
    return show(await posts.update(Post(id=post_id, title=data.title, body=data.body)))


@delete("/posts/{post_id:int}")
async def remove(post_id: FromPath[int], posts: Posts) -> None:
    # Not delete_many(): that is a DELETE statement, which calls no receivers of pre signals.
    await posts.delete(post_id)


def create_app(url: str, debug: bool = False) -> Litestar:
    database = SQLAlchemyAsyncConfig(connection_string=url, metadata=Base.metadata, create_all=True)

    async def shut_down():
        await drain(timeout_seconds=10)
        # The plugin has done this already; receivers under way may have opened connections since.
        await database.get_engine().dispose()

    handlers = [create, create_many, read, update, remove]
    if debug:  # /signals/ shows a developer what is sent; it needs aksara-signals[inspector]
        from aksara_signals.contrib.inspector import Inspector

        handlers.append(asgi("/signals", is_mount=True, copy_scope=True)(Inspector(debug=True)))

    return Litestar(
        handlers,
        dependencies={"posts": open_posts},
        middleware=[StateProvenance()],
        plugins=[SQLAlchemyPlugin(config=database)],
        on_shutdown=[shut_down],
        logging_config=None,  # a library's example shouldn't configure your logging
    )


async def main():
    async with AsyncTestClient(create_app("sqlite+aiosqlite://")) as client:
        hello = {"title": "Hello", "body": "first words"}
        print((await client.post("/posts", json=hello)).json())
        again = [{"title": "Again", "body": "more words"}, hello]
        print((await client.post("/posts/import", json=again)).json())
        print(search_index, outbox)


if __name__ == "__main__":
    asyncio.run(main())
