"""Contexts that would silence nothing that is written are refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, create_engine, inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    configure_mappers,
    mapped_column,
    relationship,
    sessionmaker,
)

from aksara_signals import (
    InvalidOptionError,
    InvalidSenderError,
    Signal,
    SignalContext,
    m2m_changed,
    post_relation_add,
    post_save,
)
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


by_table = Table(
    "silence_by_table",
    Base.metadata,
    Column("post_id", ForeignKey("silence_post.id"), primary_key=True),
    Column("tag_id", ForeignKey("silence_tag.id"), primary_key=True),
)
by_name = Table(
    "silence_by_name",
    Base.metadata,
    Column("post_id", ForeignKey("silence_post.id"), primary_key=True),
    Column("tag_id", ForeignKey("silence_tag.id"), primary_key=True),
)
unused = Table("silence_unused", Base.metadata, Column("id", Integer, primary_key=True))


class Tag(Base):
    __tablename__ = "silence_tag"

    id: Mapped[int] = mapped_column(primary_key=True)


class Post(Base):
    __tablename__ = "silence_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("silence_post.id"))
    title: Mapped[str | None]
    parent: Mapped[Post | None] = relationship(remote_side="Post.id")
    tags: Mapped[list[Tag]] = relationship(secondary=by_table)
    others: Mapped[list[Tag]] = relationship(secondary="silence_by_name")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Post(id=1), "an instance; its class is what sends: name .*Post"),
        (lambda: Post.__table__, "a table and sends nothing"),
        (lambda: unused, "a table and sends nothing"),
        (lambda: select(Post), "SQL and sends nothing"),
        (lambda: aliased(Post), "an alias and sends nothing"),
        (lambda: Post.__mapper__, "a mapper and sends nothing: name its class, .*Post"),
        (lambda: Post.title, "the attribute title and sends nothing: name its class, .*Post"),
        (lambda: Post.parent, "the attribute parent and sends nothing"),
        (lambda: [Tag, Post(id=1)], "an instance"),
    ],
)
def test_what_sends_nothing_is_refused(make: Any, words: str) -> None:
    """In words that name the class, with and without signals=."""
    for options in ({}, {"signals": [post_save]}, {"signals": [m2m_changed]}):
        with pytest.raises(InvalidSenderError, match=words):
            SignalContext.disable_for(make(), **options)


def test_where_only_signals_of_classes_are_meant_nothing_else_is_taken() -> None:
    """A number may send signals of one's own, but no built-in one."""
    for sender in (7, object(), by_table, Post.tags):
        with pytest.raises(InvalidSenderError, match="would silence nothing"):
            SignalContext.disable_for(sender, signals=[post_save])
    for sender in (7, Post(id=1), unused):
        SignalContext.disable_for(sender, signals=[post_save, Signal()])


@pytest.mark.parametrize(
    ("sender", "silent"),
    [
        (Post, {"silence_by_table", "silence_by_name"}),
        ("Post", {"silence_by_table", "silence_by_name"}),
        ("SignalMixin", {"silence_by_table", "silence_by_name"}),
        (Base, {"silence_by_table", "silence_by_name"}),
        (by_table, {"silence_by_table"}),
        (by_name, {"silence_by_name"}),
        (Post.tags, {"silence_by_table"}),
        (Post.others, {"silence_by_name"}),
    ],
    ids=["class", "name", "base's name", "base", "table", "named table", "attribute", "other"],
)
def test_what_sends_links_silences_them(sender: Any, silent: set[str]) -> None:
    """A secondary table, given or by name, a many-to-many relationship, its class or a name."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    sent: set[str] = set()

    def note(sender: Any, **kwargs: Any) -> None:
        sent.add(sender.name)

    with (
        m2m_changed.connected_to(note),
        SignalContext(sender, signals=[m2m_changed]),
        Session(engine) as session,
    ):
        session.add(Post(id=1, tags=[Tag(id=1)], others=[Tag(id=2)]))
        session.flush()
    engine.dispose()
    assert sent == {"silence_by_table", "silence_by_name"} - silent


def test_no_mapper_is_configured_by_the_question() -> None:
    """A decorator that names a table may stand in a module whose models aren't complete yet."""

    class Own(SignalMixin, DeclarativeBase):
        pass

    links = Table("links", Own.metadata, Column("a", ForeignKey("halves.id")))

    class Half(Own):
        __tablename__ = "halves"

        id: Mapped[int] = mapped_column(primary_key=True)
        rest: Mapped[list[Any]] = relationship("ComesLater", secondary=lambda: links)

    assert not Half.__mapper__.configured
    SignalContext.disable_for(links)
    SignalContext.disable_for(Half.rest)
    assert not Half.__mapper__.configured
    Own.registry.dispose()
    configure_mappers()


def test_a_misspelt_name_is_refused() -> None:
    """Where the block begins; the nearest mapped class is offered."""
    with (
        pytest.raises(InvalidSenderError, match="did you mean 'Post'"),
        SignalContext.disable_for("Pots", signals=[post_relation_add]),
    ):
        raise AssertionError("entered")


def test_what_is_at_hand_where_models_are_sends_nothing() -> None:
    """Managers, signals, sessions, engines and parts of a mapping, unless a signal is named."""
    engine = create_engine("sqlite://")
    signal = Signal()
    with Session(engine) as session:
        for given, words in (
            (Post.objects, "the manager of a model"),
            (Post.objects.filter(id=1), "the manager of a model"),
            (Post.signals, "the signals of a model"),
            (Post.meta, "the signals of a model"),
            (Post.signals.post_save, "a signal of a model"),
            (session, "a session"),
            (sessionmaker(engine), "a factory of sessions"),
            (engine, "an engine"),
            (Base.metadata, "a collection of tables"),
            (Base.registry, "a registry"),
            (inspect(Post).attrs.id, "a part of a mapping"),
            (inspect(Post()), "a part of a mapping"),
            (mapped_column(), "a part of a mapping"),
        ):
            with pytest.raises(InvalidSenderError, match=f"which is {words}"):
                SignalContext(given)
            with SignalContext(given, signals=signal):
                pass
    engine.dispose()


def test_a_mapped_class_is_no_receiver_to_silence() -> None:
    """Models come first."""
    with pytest.raises(InvalidOptionError, match=r"disable_for\(Post\)"):
        SignalContext(signals=[post_save], receivers=[Post])
