"""A blog on FastAPI whose audit, search index, cache and mail are kept up to date by signals."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import drain, post_delete, post_save, provenance
from aksara_signals.contrib.outbox import Outbox
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]


class AuditRow(Base):
    __tablename__ = "audit_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int]
    action: Mapped[str]
    actor: Mapped[str | None]
    request: Mapped[str | None]


outbox = Outbox(Base.metadata)  # what durable receivers are sent is stored in this database

# Placeholders for a search engine, a cache server and a mail server.
search_index = {}  # id of a post -> its words
page_cache = {}  # id of a post -> what is shown of it
sent_mail = []


# In the transaction of the post: a request that fails leaves no audit row.


@post_save(Post)
async def audit_save(sender, instance, created, session, provenance, **kwargs):
    session.add(audit_row(instance, "created" if created else "changed", provenance))


@post_delete(Post)
async def audit_deletion(sender, instance, session, provenance, **kwargs):
    session.add(audit_row(instance, "deleted", provenance))


def audit_row(post, action, origin):
    # Empty where nobody has stated an origin: what a script writes has no request.
    actor, request = origin.get("actor"), origin.get("request")
    return AuditRow(post_id=post.id, action=action, actor=actor, request=request)


# After the commit: external systems only see what is in the database.


@post_save(Post, phase="after_commit")
async def index(sender, instance, **kwargs):
    search_index[instance.id] = set(f"{instance.title} {instance.body}".lower().split())


@post_delete(Post, phase="after_commit")
async def forget(sender, instance, **kwargs):
    search_index.pop(instance.id, None)


@post_save(Post, phase="after_commit", created=False)
@post_delete(Post, phase="after_commit")
async def invalidate(sender, instance, **kwargs):
    page_cache.pop(instance.id, None)


# By the worker of the application: no mail is lost, whenever the process ends.


@post_save(Post, durable="mail.notify")
async def notify(sender, instance, created, **kwargs):
    sent_mail.append(f"{'new' if created else 'changed'}: {instance.title}")


class PostIn(BaseModel):
    title: str
    body: str


class PostOut(PostIn):
    id: int


# Who writes, and in which request, for all receivers of all routes. It is async: a dependency that
# is not would be entered in another thread, and state it there.
async def state_provenance(
    x_user: Annotated[str | None, Header()] = None,  # a placeholder for your authentication
    x_request_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[None]:
    async with provenance(actor=x_user, request=x_request_id or uuid4().hex):
        yield


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions.begin() as session:
        yield session


# Scope "function": commit first, then answer. FastAPI's default is the other way round, and would
# confirm a post to the client before it is saved.
RequestSession = Annotated[AsyncSession, Depends(open_session, scope="function")]


async def find_post(post_id: int, session: RequestSession) -> Post:
    post = await session.get(Post, post_id)
    if post is None:
        raise HTTPException(404, "no such post")
    return post


FoundPost = Annotated[Post, Depends(find_post, scope="function")]


def show(post: Post) -> PostOut:
    return PostOut(id=post.id, title=post.title, body=post.body)


def create_app(url: str, debug: bool = False) -> FastAPI:
    engine = create_async_engine(url)
    sessions = async_sessionmaker(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        outbox.install()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with outbox.worker(sessions, concurrency=4):
            yield
        await drain(timeout_seconds=10)  # receivers under way may still need the engine
        await engine.dispose()

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(state_provenance)])
    app.state.sessions = sessions
    if debug:  # /signals/ shows a developer what is sent; it needs aksara-signals[inspector]
        from aksara_signals.contrib.inspector import Inspector

        app.mount("/signals", Inspector(debug=True, outbox=outbox, sessions=sessions))

    @app.post("/posts", status_code=201)
    async def create(given: PostIn, session: RequestSession) -> PostOut:
        post = Post(title=given.title, body=given.body)
        session.add(post)
        await session.flush()  # sets its id
        return show(post)

    @app.post("/posts/import", status_code=201)
    async def create_many(given: list[PostIn], session: RequestSession) -> list[PostOut]:
        posts = []
        for new in given:
            if await session.scalar(select(Post.id).where(Post.title == new.title)):
                # The posts before it are written already; the error rolls them back.
                raise HTTPException(409, f"there is a post {new.title!r} already")
            posts.append(Post(title=new.title, body=new.body))
            session.add(posts[-1])
            await session.flush()
        return [show(post) for post in posts]

    @app.get("/posts/{post_id}")
    async def read(post_id: int, session: RequestSession) -> PostOut:
        if post_id not in page_cache:
            page_cache[post_id] = show(await find_post(post_id, session))
        return page_cache[post_id]

    @app.put("/posts/{post_id}")
    async def update(post: FoundPost, given: PostIn) -> PostOut:
        post.title, post.body = given.title, given.body
        return show(post)

    @app.delete("/posts/{post_id}", status_code=204)
    async def delete(post: FoundPost, session: RequestSession) -> None:
        await session.delete(post)

    @app.get("/search")
    async def search(word: str) -> list[int]:
        return sorted(key for key, words in search_index.items() if word.lower() in words)

    return app


async def main():
    with tempfile.TemporaryDirectory() as folder:
        await use(create_app(f"sqlite+aiosqlite:///{folder}/blog.sqlite"))


async def use(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://blog") as client,
    ):
        hello = {"title": "Hello", "body": "first words"}
        print((await client.post("/posts", json=hello)).json())
        again = [{"title": "Again", "body": "more words"}, hello]
        print((await client.post("/posts/import", json=again)).json())
        print((await client.get("/search", params={"word": "words"})).json())
        await asyncio.sleep(0.5)  # the worker has the mail by now; else it would send it next time
        print(sent_mail)


if __name__ == "__main__":
    asyncio.run(main())
