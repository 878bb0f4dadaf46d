"""A blog with SQLModel models, which send signals once they are registered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from aksara_signals import drain, post_delete, post_save
from aksara_signals.orm import register


class Base(SQLModel, registry=registry()):
    pass


class PostIn(SQLModel):
    title: str
    body: str


class Post(Base, PostIn, table=True):
    __tablename__ = "posts"
    id: int | None = Field(default=None, primary_key=True)


class AuditRow(Base, table=True):
    __tablename__ = "audit_rows"
    id: int | None = Field(default=None, primary_key=True)
    post_id: int
    action: str


register(Post)  # instead of the mixin; audit rows need no signals


# Placeholders for a search engine and a mail server.
search_index = {}  # id of a post -> its words
outbox = []


@post_save(Post)
async def audit_save(sender, instance, created, session, **kwargs):
    session.add(AuditRow(post_id=instance.id, action="created" if created else "changed"))


@post_delete(Post)
async def audit_deletion(sender, instance, session, **kwargs):
    session.add(AuditRow(post_id=instance.id, action="deleted"))


@post_save(Post, phase="after_commit")
async def index(sender, instance, **kwargs):
    search_index[instance.id] = set(f"{instance.title} {instance.body}".lower().split())


@post_delete(Post, phase="after_commit")
async def forget(sender, instance, **kwargs):
    search_index.pop(instance.id, None)


@post_save(Post, phase="after_commit")
async def notify(sender, instance, created, **kwargs):
    outbox.append(f"{'new' if created else 'changed'}: {instance.title}")


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions.begin() as session:
        yield session


# Scope "function": commit first, then answer.
RequestSession = Annotated[AsyncSession, Depends(open_session, scope="function")]


async def find_post(post_id: int, session: RequestSession) -> Post:
    post = await session.get(Post, post_id)
    if post is None:
        raise HTTPException(404, "no such post")
    return post


FoundPost = Annotated[Post, Depends(find_post, scope="function")]


def create_app(url: str) -> FastAPI:
    engine = create_async_engine(url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await drain(timeout_seconds=10)  # receivers under way may still need the engine
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.state.sessions = async_sessionmaker(engine, class_=AsyncSession)

    @app.post("/posts", status_code=201)
    async def create(given: PostIn, session: RequestSession) -> Post:
        post = Post.model_validate(given)
        session.add(post)
        await session.flush()  # sets its id
        return post

    @app.post("/posts/import", status_code=201)
    async def create_many(given: list[PostIn], session: RequestSession) -> list[Post]:
        posts = []
        for new in given:
            if (await session.exec(select(Post).where(Post.title == new.title))).first():
                # The posts before it are written already; the error rolls them back.
                raise HTTPException(409, f"there is a post {new.title!r} already")
            posts.append(Post.model_validate(new))
            session.add(posts[-1])
            await session.flush()
        return posts

    @app.get("/posts/{post_id}")
    async def read(post: FoundPost) -> Post:
        return post

    @app.put("/posts/{post_id}")
    async def update(post: FoundPost, given: PostIn) -> Post:
        return post.sqlmodel_update(given)

    @app.delete("/posts/{post_id}", status_code=204)
    async def delete(post: FoundPost, session: RequestSession) -> None:
        await session.delete(post)

    return app


async def main():
    app = create_app("sqlite+aiosqlite://")
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://blog") as client,
    ):
        hello = {"title": "Hello", "body": "first words"}
        print((await client.post("/posts", json=hello)).json())
        again = [{"title": "Again", "body": "more words"}, hello]
        print((await client.post("/posts/import", json=again)).json())
        print(search_index, outbox)


if __name__ == "__main__":
    asyncio.run(main())
