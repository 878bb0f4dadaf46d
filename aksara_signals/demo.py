"""The demonstration: a small blog, the receivers its author would write, and what they receive.

Run it with ``python -m aksara_signals demo``. It prints a timeline: one line for each call of a
receiver.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, TextIO

from sqlalchemy import ForeignKey, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import (
    Signal,
    SignalContext,
    post_delete,
    post_init,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin
from aksara_signals.types import Changes

__all__ = ["EMBEDDED", "run"]

EMBEDDED = "sqlite+aiosqlite://"
"""A database in the memory of this process."""


# -- the blog -------------------------------------------------------------------------------------


class Base(SignalMixin, DeclarativeBase):
    """The base of the blog's models; inheriting the mixin is the whole set-up."""


class Author(Base):
    __tablename__ = "aksara_demo_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "aksara_demo_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]
    author_id: Mapped[int] = mapped_column(ForeignKey("aksara_demo_author.id"))
    author: Mapped[Author] = relationship(back_populates="posts")


class AuditEntry(Base):
    __tablename__ = "aksara_demo_audit_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class ClickbaitError(Exception):
    """A title that the editor rejects."""


# -- the timeline ---------------------------------------------------------------------------------


class Timeline:
    """Prints what happens, while it happens.

    Args:
        out: Where to print; in colour, if it is a terminal and ``NO_COLOR`` is not set.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._start = time.perf_counter()
        terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = terminal and "NO_COLOR" not in os.environ
        self.deliveries: int = 0
        """How many lines the receivers have printed."""

    def chapter(self, text: str) -> None:
        print(f"\n{self._paint('1', text)}", file=self._out)

    def note(self, text: str) -> None:
        print(f"  {self._paint('2', text)}", file=self._out)

    def showing(self, receiver: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a receiver, sync or async, so that every call of it prints a line."""
        if inspect.iscoroutinefunction(receiver):

            @functools.wraps(receiver)
            async def shown_async(**arguments: Any) -> Any:
                with self._line(receiver, arguments) as line:
                    line.text = await receiver(**arguments)

            return shown_async

        @functools.wraps(receiver)
        def shown(**arguments: Any) -> Any:
            with self._line(receiver, arguments) as line:
                line.text = receiver(**arguments)

        return shown

    @contextmanager
    def _line(
        self, receiver: Callable[..., Any], arguments: dict[str, Any]
    ) -> Iterator[SimpleNamespace]:
        line = SimpleNamespace(text="")
        called = time.perf_counter()
        try:
            yield line
        except Exception as error:
            line.text = self._paint("31", f"raises {type(error).__name__}: {error}")
            raise
        finally:
            self.deliveries += 1
            took = (time.perf_counter() - called) * 1000
            since = (called - self._start) * 1000
            signal = arguments["signal"].name
            who = f"{arguments['sender'].__name__} {arguments['instance'].id or '(new)'}"
            print(
                self._paint("2", f"{since:8.2f} ms"),
                self._paint("36", f"{signal:<11}"),
                f"{who:<12}",
                self._paint("32", f"{receiver.__name__:<17}"),
                self._paint("2", f"{took:6.2f} ms"),
                line.text or "",
                sep="  ",
                file=self._out,
            )

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured else text


# -- the receivers --------------------------------------------------------------------------------


@contextmanager
def connected_receivers(timeline: Timeline, cache: dict[int, str]) -> Iterator[None]:
    """Connect what the blog's author would write, for as long as the block lasts.

    Args:
        timeline: Prints a line for each call of a receiver.
        cache: Rendered pages by the identifier of their post; a deleted post's page is dropped.
    """

    async def generate_slug(instance: Post, **kwargs: Any) -> str:
        instance.slug = re.sub(r"[^a-z0-9]+", "-", instance.title.lower()).strip("-")
        return f"slug is {instance.slug!r}"

    async def reject_clickbait(instance: Post, **kwargs: Any) -> None:
        if "you won't believe" in instance.title.lower():
            raise ClickbaitError("not in this blog")

    async def write_audit_entry(
        instance: Post, created: bool, session: AsyncSession, **kwargs: Any
    ) -> str:
        action = "created" if created else "updated"
        session.add(AuditEntry(text=f"post {instance.id} {action}"))
        return f"adds 'post {instance.id} {action}' to the same transaction"

    async def show_changes(changes: Changes, **kwargs: Any) -> str:
        return ", ".join(f"{name}: {old!r} -> {new!r}" for name, (old, new) in changes.items())

    def warm_cache(instance: Post, **kwargs: Any) -> str:
        cache[instance.id] = f"<h1>{instance.title}</h1><p>by {instance.author.name}</p>"
        return f"page rendered, cache holds {len(cache)}"

    async def announce(instance: Post, **kwargs: Any) -> str:
        return f"committed: mail about {instance.title!r} can be sent"

    async def back_up(instance: Post, **kwargs: Any) -> str:
        return f"archives {instance.title!r}"

    async def clean_cache(instance: Post, **kwargs: Any) -> str:
        page = cache.pop(instance.id, None)
        return f"{'page dropped' if page else 'no page to drop'}, cache holds {len(cache)}"

    def greet(**kwargs: Any) -> str:
        return "an object was constructed"

    async def entry_written(instance: AuditEntry, **kwargs: Any) -> str:
        return f"audit entry {instance.id} is written"

    wanted: list[tuple[Signal, Callable[..., Any], type, dict[str, Any]]] = [
        (post_init, greet, Post, {}),
        (pre_save, reject_clickbait, Post, {"priority": 10}),
        (pre_save, generate_slug, Post, {}),
        (pre_update, show_changes, Post, {}),
        (post_update, warm_cache, Post, {}),
        (post_save, warm_cache, Post, {"created": True}),
        (post_save, write_audit_entry, Post, {}),
        (post_save, announce, Post, {"created": True, "phase": "after_commit"}),
        (post_save, entry_written, AuditEntry, {}),
        (pre_delete, back_up, Post, {}),
        (post_delete, clean_cache, Post, {}),
    ]
    with ExitStack() as connected:
        for signal, receiver, sender, options in wanted:
            connected.enter_context(
                signal.connected_to(timeline.showing(receiver), sender, **options)
            )
        yield


# -- the story ------------------------------------------------------------------------------------


async def run(url: str = EMBEDDED, out: TextIO | None = None) -> int:
    """Run the whole story once.

    Args:
        url: Any async SQLAlchemy URL. Tables named ``aksara_demo_…`` are created there, and
            dropped at the end.
        out: Where the timeline is printed; by default, standard output.

    Returns:
        How many lines the receivers have printed, one for each call.

    Raises:
        SystemExit: The database can't be used; one line says why, and what to install.
    """
    timeline = Timeline(sys.stdout if out is None else out)
    engine = make_engine(url)
    try:
        await create_tables(engine)
        try:
            with connected_receivers(timeline, {}):
                await run_chapters(timeline, async_sessionmaker(engine, expire_on_commit=False))
        finally:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()
    return timeline.deliveries


async def run_chapters(timeline: Timeline, sessions: async_sessionmaker[AsyncSession]) -> None:
    """Write to the blog, chapter by chapter."""
    timeline.chapter("A post is written: session.add() and a commit, nothing else")
    async with sessions.begin() as session:
        author = Author(name="Ada")
        session.add(Post(title="Hello, signals", author=author))
    await count(timeline, sessions)

    timeline.chapter("Its title changes")
    async with sessions.begin() as session:
        post = (await session.scalars(select(Post))).one()
        post.title = "Hello, transactions"
    await count(timeline, sessions)

    timeline.chapter("A receiver raises, and everything in its transaction is rolled back")
    try:
        async with sessions.begin() as session:
            session.add(AuditEntry(text="written before the error"))
            await session.flush()
            session.add(Post(title="You won't believe this", author_id=author.id))
    except ClickbaitError as error:
        timeline.note(f"the commit failed: {type(error).__name__}: {error}")
    await count(timeline, sessions)

    timeline.chapter("An import runs in silence: SignalContext.disable_for(Post)")
    async with SignalContext.disable_for(Post), sessions.begin() as session:
        session.add(Post(title="Imported", author_id=author.id))
    await count(timeline, sessions)

    timeline.chapter("The author is deleted, and her posts with her")
    async with sessions.begin() as session:
        await session.delete(await session.get_one(Author, author.id))
    await count(timeline, sessions)


async def count(timeline: Timeline, sessions: async_sessionmaker[AsyncSession]) -> None:
    """Show how many rows the database holds."""
    async with sessions() as session:
        numbers = [
            f"{name}: {await session.scalar(select(func.count()).select_from(model))}"
            for model, name in ((Author, "authors"), (Post, "posts"), (AuditEntry, "audit entries"))
        ]
    timeline.note(f"in the database: {', '.join(numbers)}")


def make_engine(url: str) -> AsyncEngine:
    """An engine for the demonstration.

    Raises:
        SystemExit: The URL is malformed, or its driver is not installed or not async.
    """
    hint = f"try {EMBEDDED} or postgresql+asyncpg://…"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # A password may be anywhere in a malformed URL, so its text is not repeated.
        raise SystemExit(
            f"this is not a URL of an async database: it can't be read; {hint}"
        ) from None
    try:
        engine = create_async_engine(parsed)
    except ModuleNotFoundError as error:
        package = {"aiosqlite": "aksara-signals[sqlite]", "asyncpg": "aksara-signals[postgres]"}
        wanted = package.get(str(error.name), error.name)
        raise SystemExit(f"{error.name} is not installed; run: pip install '{wanted}'") from error
    except ImportError as error:
        raise SystemExit(f"{parsed.drivername} can't be loaded: {one_line(error)}") from error
    except (ArgumentError, NoSuchModuleError, InvalidRequestError) as error:
        raise SystemExit(
            f"this is not a URL of an async database: {one_line(error)}; {hint}"
        ) from error
    if engine.dialect.name == "sqlite":
        use_savepoints(engine)
    return engine


async def create_tables(engine: AsyncEngine) -> None:
    """Create the tables of the blog.

    Raises:
        SystemExit: The database can't be reached, or rejects the tables.
    """
    doing = "connect to"
    threads = {*threading.enumerate()}
    try:
        async with engine.connect():
            doing = "create tables in"
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
    except Exception as error:  # every driver has errors of its own
        if engine.dialect.name == "sqlite":
            # aiosqlite's thread of a connection that failed still reports to the event loop. If
            # the loop is closed before it does, a traceback is printed.
            for thread in {*threading.enumerate()} - threads:
                thread.join(timeout=1)
        # The query of the URL may hold secrets, too.
        where = engine.url.set(query={}).render_as_string(hide_password=True)
        why = one_line(error)
        if engine.url.password:
            why = why.replace(engine.url.password, "***")
        raise SystemExit(f"could not {doing} {where}: {why}") from error


def one_line(error: BaseException) -> str:
    """The type and message of an error; of the driver's own error, if SQLAlchemy has wrapped it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig.__cause__ or error.orig  # asyncpg's errors are wrapped twice
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(" .:")


def use_savepoints(engine: AsyncEngine) -> None:
    """SQLAlchemy's recipe for SQLite: without it, releasing a savepoint would commit."""

    @event.listens_for(engine.sync_engine, "connect")
    def leave_transactions_alone(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")
