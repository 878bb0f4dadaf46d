"""Which rows a flush sends: late ones, but none that is silenced or that is taken back."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from kit.models import Audit, Author, Post
from kit.support import Recorder
from sqlalchemy import JSON, Engine, delete, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from aksara_signals import AksaraSignalsWarning, SignalContext, post_delete, post_save, pre_save
from aksara_signals.orm import SignalMixin

# -- silence --------------------------------------------------------------------------------------


async def test_a_silenced_model_is_written_without_signals(
    engine: AsyncEngine, recorder: Recorder
) -> None:
    """disable_for silences a model's flushes in this task, not in another."""
    recorder.record(post_save)

    async def write(title: str) -> None:
        async with AsyncSession(engine) as session:
            session.add_all([Post(title=title), Audit(text=title)])
            await session.commit()

    async with SignalContext.disable_for(Post):
        await write("a")
    await write("b")
    sent = [type(call.payload["instance"]).__name__ for call in recorder.calls]
    assert sent == ["Audit", "Post", "Audit"]


async def test_silence_is_for_one_task(engine: AsyncEngine, recorder: Recorder) -> None:
    """A task beside the silenced one sends its signals."""
    recorder.record(post_save, Post)
    silent, done = asyncio.Event(), asyncio.Event()

    async def quiet() -> None:
        async with SignalContext.disable_all():
            silent.set()
            await done.wait()

    task = asyncio.create_task(quiet())
    await silent.wait()
    async with AsyncSession(engine) as session:
        session.add(Post(title="a"))
        await session.commit()
    done.set()
    await task
    assert recorder.names == ["post_save"]


# -- what others add ------------------------------------------------------------------------------


async def test_what_a_later_listener_adds_is_sent_afterwards(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Objects from the user's own before_flush listener get post signals and one warning."""
    recorder.record(pre_save)
    recorder.record(post_save)

    @event.listens_for(session.sync_session, "before_flush")
    def add_more(session: Session, context: object, instances: object) -> None:
        session.add_all([Audit(text="x"), Audit(text="y")])

    session.add(Post(title="a"))
    with pytest.warns(AksaraSignalsWarning, match="2 rows of Audit") as caught:
        await session.flush()
    assert len(caught) == 1
    sent = [(call.signal, type(call.payload["instance"]).__name__) for call in recorder.calls]
    assert sent == [
        ("pre_save", "Post"),
        ("post_save", "Post"),
        ("post_save", "Audit"),
        ("post_save", "Audit"),
    ]


async def test_a_change_undone_by_a_pre_receiver_is_not_sent(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Where a pre receiver takes the change back there is no UPDATE, and no post signal."""
    post = Post(title="a")
    session.add(post)
    await session.commit()
    await session.refresh(post)
    recorder.record(post_save)

    @pre_save(Post)
    async def undo(instance: Post, **kwargs: Any) -> None:
        instance.title = "a"

    post.title = "b"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await session.commit()
    assert recorder.calls == []


def test_a_change_undone_in_place_is_not_sent(sync_engine: Engine) -> None:
    """The value is the same object as when the change was found, and equals the old one again."""

    class Base(SignalMixin, DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        content: Mapped[Any] = mapped_column(JSON)

    sent: list[str] = []
    post_save.connect(lambda **kwargs: sent.append("post_save"), sender=Document)
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add(document := Document(content={"views": 1}))
        session.commit()
        assert document.content == {"views": 1}

        @pre_save(Document)
        def undo(instance: Document, **kwargs: Any) -> None:
            sent.append("pre_save")
            instance.content["views"] = 1

        document.content = {"views": 2}
        session.commit()
    assert sent == ["post_save", "pre_save"]


async def test_a_row_that_is_gone_has_no_old_value(session: AsyncSession) -> None:
    """Where the old value can't be read any more, the flush fails as SQLAlchemy's own does."""
    post = Post(title="a", body="long")
    session.add(post)
    await session.commit()
    await session.refresh(post)

    @post_save(Post)
    async def look(changes: Any, **kwargs: Any) -> None: ...

    await session.execute(delete(Post), execution_options={"synchronize_session": False})
    post.body = "new"
    with pytest.raises((StaleDataError, ObjectDeletedError)):
        await session.flush()
    await session.rollback()


async def test_a_later_listener_may_change_a_fate(
    session: AsyncSession, recorder: Recorder
) -> None:
    """What was sent as an update and is deleted by a later listener is sent as deleted."""
    post, tag = Post(title="a"), Audit(text="x")
    session.add_all([post, tag])
    await session.commit()
    await session.refresh(post)
    await session.refresh(tag)
    recorder.record(post_save)
    recorder.record(post_delete)

    @event.listens_for(session.sync_session, "before_flush")
    def meddle(session: Session, context: object, instances: object) -> None:
        session.delete(post)
        tag.text = "y"

    post.title = "b"
    with pytest.warns(AksaraSignalsWarning):
        await session.flush()
    assert sorted(recorder.names) == ["post_delete", "post_save"]
    event.remove(session.sync_session, "before_flush", meddle)


async def test_a_class_without_receivers_costs_nothing(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Objects of a class without receivers are passed over, whatever happens to them."""
    recorder.record(post_save, Audit)
    author = Author(name="a", posts=[Post(title="x")])
    session.add_all([author, Audit(text="a")])
    await session.flush()
    author.posts[0].title = "y"
    await session.flush()
    await session.delete(author.posts[0])
    await session.delete(author)
    await session.flush()
    assert recorder.names == ["post_save"]


async def test_a_reference_assigned_to_what_it_is_sends_nothing(session: AsyncSession) -> None:
    """Without a net change of the foreign key there is no UPDATE, and nothing is sent."""
    author = Author(name="a")
    post = Post(title="x", author=author)
    session.add(post)
    await session.flush()
    sent: list[Any] = []
    for signal in (pre_save, post_save):
        signal.connect(lambda instance, **kwargs: sent.append(instance))
    post.author = None
    post.author = author
    await session.flush()
    assert sent == []
    post.author = None
    await session.flush()
    assert sent == [post, post]
