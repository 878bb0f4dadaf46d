"""Senders and receivers that are mapped classes, parts of them, or no mapped classes at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Engine, ForeignKey, MetaData, Table, create_engine, select
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    configure_mappers,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

from aksara_signals import (
    AksaraSignalsWarning,
    AmbiguousSenderError,
    InvalidOptionError,
    InvalidReceiverError,
    InvalidSenderError,
    Signal,
    SignalContext,
    m2m_changed,
    post_bulk_create,
    post_init,
    post_relation_add,
    post_save,
    pre_delete,
    pre_save,
)
from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.orm import SignalMixin, register, unregister
from aksara_signals.orm.mapping import unwired
from aksara_signals.testing import capture_signals, restored_signals

BUILT_IN = [post_save, pre_delete, post_init, post_bulk_create, post_relation_add, m2m_changed]


class Base(SignalMixin, DeclarativeBase):
    pass


class Stamped:
    """A mixin with a column."""

    stamp: Mapped[int | None] = mapped_column()


links = Table(
    "sender_links",
    Base.metadata,
    Column("page_id", ForeignKey("sender_page.id"), primary_key=True),
    Column("label_id", ForeignKey("sender_label.id"), primary_key=True),
)


class Label(Base):
    __tablename__ = "sender_label"
    id: Mapped[int] = mapped_column(primary_key=True)


class Page(Stamped, Base):
    __tablename__ = "sender_page"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Any | None] = mapped_column(JSON)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("sender_page.id"))
    parts: Mapped[list[Page]] = relationship()
    labels: Mapped[list[Label]] = relationship(secondary=links)
    by_name: Mapped[list[Label]] = relationship(
        secondary=lambda: links, viewonly=True, overlaps="labels"
    )
    number: Mapped[int] = column_property(parent_id + 1)

    @hybrid_property
    def is_new(self) -> bool:
        return self.id is None


def note(**kwargs: Any) -> None: ...


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_signals():
        yield


SENDERS: dict[str, tuple[Any, str]] = {
    "table": (Page.__table__, "(Page)"),
    "other table": (Table("unmapped_one", MetaData()), "m2m_changed"),
    "mapper": (Page.__mapper__, "(Page)"),
    "instance": (Page(id=1), "(Page)"),
    "number": (7, "Post"),
    "object": (object(), "Post"),
    "alias": (aliased(Page), "Post"),
    "session": (Session(), "Post"),
    "to many": (Page.parts, "m2m_changed"),
    "relationship": (Page.labels, "m2m_changed"),
    "property": (Page.labels.prop, "@m2m_changed(Page.labels)"),
    "loose property": (relationship(Label, secondary=links), "@m2m_changed(Post.tags)"),
    "column": (Page.data, "'data'"),
    "table's column": (Page.__table__.c.data, "fields="),
    "mixin's column": (Stamped.__dict__["stamp"], "fields="),
    "column property": (Page.number, "'number'"),
    "hybrid": (Page.is_new, "(P"),
}


@pytest.mark.parametrize("signal", BUILT_IN, ids=lambda signal: signal.name)
@pytest.mark.parametrize("name", SENDERS)
def test_senders_that_can_never_send(signal: Signal, name: str) -> None:
    """What only belongs to a mapped class is refused, and the class is named where it is known."""
    sender, words = SENDERS[name]
    if signal is post_save and name == "column":
        return  # narrows it
    if signal is m2m_changed:
        if name in ("table", "other table", "relationship"):
            assert signal.connect(note, sender) is note
            return
        words = ""
    before = signal.connections
    for given in (sender, [Page, sender]):
        with pytest.raises(InvalidSenderError) as refused:
            signal.connect(note, given)
        assert words in str(refused.value)
        assert signal.name in str(refused.value)
    assert signal.connections == before


def test_attributes_are_one_sender() -> None:
    """A custom signal may be sent by an attribute, which is never iterated over."""
    signal = Signal("of attributes")
    signal.connect(note, sender=Page.data)
    signal.connect(note, sender=[Page.labels, Session])
    assert [each.sender for each in signal.connections] == [Page.data, Page.labels, Session]
    assert signal.receivers_for(Page.data) == [note]
    assert signal.receivers_for(Page.number) == []


def test_links_are_sent_by_what_has_secondary() -> None:
    """m2m_changed takes relationships with secondary=, whichever way it is given."""
    for sender in (Page.labels, Page.by_name, links, Page, f"{__name__}.Page"):
        m2m_changed.connect(lambda **kwargs: None, sender=sender)
    with pytest.raises(InvalidSenderError, match="without secondary="):
        m2m_changed.connect(note, sender=Page.parts)


def test_refusing_a_sender_configures_no_mappers() -> None:
    """An attribute of a class whose relationships can't be resolved yet is refused all the same."""

    class Own(SignalMixin, DeclarativeBase):
        pass

    class Early(Own):
        __tablename__ = "early"
        id: Mapped[int] = mapped_column(primary_key=True)
        later: Mapped[list[Any]] = relationship("NotThereYet", secondary="not_there_yet")

    with pytest.raises(InvalidSenderError, match=r"@m2m_changed\(Early.later\)"):
        post_save.connect(note, Early.later)
    m2m_changed.connect(note, Early.later)
    with pytest.raises(InvalidSenderError, match=r"@pre_delete\(Early\)"):
        pre_delete.connect(note, Early.id)
    assert not Early.__mapper__.configured
    Own.registry.dispose()


class Unmixed(DeclarativeBase):
    pass


class Plain(Unmixed):
    __tablename__ = "sender_plain"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize("cls", [Page, Base, SignalMixin, Plain, Unmixed])
@pytest.mark.parametrize("signal", [post_save, m2m_changed, Signal("custom")], ids=repr)
def test_a_mapped_class_is_no_receiver(signal: Signal, cls: type) -> None:
    """Nor is a base of such: the error says how to name it as the sender."""
    for attempt in (
        lambda: signal.connect(cls),
        lambda: signal.connect()(cls),
        lambda: signal.connect(cls, sender=Page),
        lambda: signal.connected_to(cls).__enter__(),
        lambda: signal(Page)(cls),
    ):
        with pytest.raises(InvalidReceiverError) as refused:
            attempt()
        assert f"@{signal.name}({cls.__name__})" in str(refused.value)
    assert signal.connections == ()


def test_other_classes_are_receivers() -> None:
    """Also when every class there is has been registered."""

    class Report:
        def __init__(self, **kwargs: Any) -> None: ...

    register(object)
    try:
        post_save.connect(Report)
    finally:
        unregister(object)
    assert post_save.receivers_for(Page) == [Report]


def test_the_signals_of_a_model_have_their_sender() -> None:
    """Model.signals takes no other sender, and has what a signal has."""
    bound = Page.signals.post_save
    for option in ({"sender": Label}, {"senders": [Label]}):
        for method in (bound.connect, bound, bound.disconnect, bound.connected_to):
            with pytest.raises(InvalidOptionError, match="has its sender already"):
                method(note, **option)
    with bound.connected_to(note, created=True) as same:
        assert same is note
        assert bound.has_listeners()
        assert [each.created for each in bound.connections] == [True]
    assert not bound.has_receivers()
    bound.connect(note, created=True)
    bound.connect(note, created=False)
    assert bound.disconnect(note, created=False)
    assert [each.created for each in bound.connections] == [True]


def test_captured_are_the_signals_that_a_sender_can_send() -> None:
    """capture_signals of a table records m2m_changed, of a generator each sender."""
    with capture_signals(sender=links) as calls:
        m2m_changed.send_sync(links, instance=None)
        post_save.send_sync(Page, instance=None)
    assert calls.names == ["m2m_changed"]
    with capture_signals(sender=(each for each in (Page, Label))) as calls:
        for sender in (Page, Label, Plain):
            post_save.send_sync(sender, instance=None)
    assert [each.sender for each in calls] == [Page, Label]
    with pytest.raises(InvalidSenderError), capture_signals(post_save, sender=links):
        pass


def test_a_name_of_two_classes_is_ambiguous_for_links() -> None:
    """A string that two live mapped classes answer to is refused when links are sent, too."""

    class Doubled(Base):
        __tablename__ = "doubled"
        id: Mapped[int] = mapped_column(primary_key=True)

    m2m_changed.connect(note, sender="Doubled")
    first = Doubled

    class Others(SignalMixin, DeclarativeBase):
        pass

    class Doubled(Others):  # type: ignore[no-redef]
        __tablename__ = "doubled"
        id: Mapped[int] = mapped_column(primary_key=True)

    for sender in (first, Doubled, SenderGroup(links, first)):
        with pytest.raises(AmbiguousSenderError):
            m2m_changed.send_sync(sender, instance=None)
    with pytest.raises(AmbiguousSenderError):
        post_save.connect(note, sender="Doubled")


# -- mapped classes that send nothing ------------------------------------------------------------


@pytest.fixture
def wired_later() -> Iterator[type[Any]]:
    """A mapped class without the mixin, unknown to the check."""

    class Own(DeclarativeBase):
        pass

    class Later(Own):
        __tablename__ = "later"
        id: Mapped[int] = mapped_column(primary_key=True)

    yield Later
    unregister(Later, Own)


def flush(cls: type[Any]) -> None:
    engine = create_engine("sqlite://")
    cls.metadata.create_all(engine)
    try:
        with Session(engine) as session:
            session.add(cls(id=1))
            session.flush()
    finally:
        engine.dispose()


@pytest.mark.parametrize("signal", [post_save, pre_save, post_init, m2m_changed], ids=repr)
@pytest.mark.parametrize("by_name", [False, True])
def test_an_unwired_class_warns_once_at_a_flush(
    wired_later: type[Any], signal: Signal, by_name: bool
) -> None:
    """The first flush after the connect names the receiver and register(), later ones don't."""
    configure_mappers()
    signal.connect(note, "Later" if by_name else wired_later)
    with pytest.warns(AksaraSignalsWarning, match=r"Later is mapped and sends no.*register\(Later"):
        flush(wired_later)
    signal.connect(lambda **kwargs: None, wired_later)
    flush(wired_later)


def test_an_unwired_class_warns_when_mappers_are_configured(wired_later: type[Any]) -> None:
    """Mapper configuration is the other moment."""
    post_save.connect(note, wired_later)
    with pytest.warns(AksaraSignalsWarning, match=r"note .* is connected to its post_save"):
        configure_mappers()
    configure_mappers()


def test_a_class_that_is_mapped_later_is_checked_then() -> None:
    """A class is taken before it is mapped, and warned of once it is and isn't wired."""

    class Own(DeclarativeBase):
        pass

    class Abstract(Own):
        __abstract__ = True

    class Eager:
        pass

    post_save.connect(note, [Abstract, Eager, "NobodyYet"])
    configure_mappers()
    flush(Page)

    table = Table(
        "eager", Own.metadata, Column("id", ForeignKey("sender_page.id"), primary_key=True)
    )
    Own.registry.map_imperatively(Eager, table)
    with pytest.warns(AksaraSignalsWarning, match="Eager is mapped"):
        configure_mappers()


def test_no_warning_without_a_reason(wired_later: type[Any]) -> None:
    """Wired in time, disconnected, of a custom signal, or with a wired subclass: nothing is said."""
    post_save.connect(note, wired_later)
    post_save.disconnect(note, wired_later)
    Signal("custom").connect(note, wired_later)
    flush(wired_later)
    post_save.connect(note, wired_later)
    register(wired_later)
    flush(wired_later)

    class Root(DeclarativeBase):
        pass

    class Animal(Root):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Cat(SignalMixin, Animal):
        pass

    post_save.connect(note, Animal)
    flush(Cat)
    assert not unwired.is_check_due


def test_the_check_costs_no_statement(sync_engine: Engine) -> None:
    """Nothing is left to do at the flush after the check."""
    Base.metadata.create_all(sync_engine)
    post_save.connect(note, Page)
    assert unwired.is_check_due
    with Session(sync_engine) as session:
        session.add(Label(id=1))
        session.flush()
        assert not unwired.is_check_due
        assert session.scalars(select(Label)).all() != []


def test_what_makes_sessions_and_models_signals_are_no_receivers() -> None:
    """They can be called, and would be with the payload of a send."""
    engine = create_engine("sqlite://")
    for unfit, words in (
        (sessionmaker(engine), "makes sessions"),
        (async_sessionmaker(), "makes sessions"),
        (scoped_session(sessionmaker(engine)), "makes sessions"),
        (Page.signals.post_save, "a model's signal"),
        (Page.meta, "<Meta of Page> and not a receiver"),
    ):
        for connect in (pre_save, pre_save.connect, pre_save.connect(sender=Page)):
            with pytest.raises(InvalidReceiverError, match=words):
                connect(unfit)
    assert pre_save.connections == ()
    engine.dispose()


def test_only_a_classs_own_relationship_sends() -> None:
    """Those of an alias, and those that were narrowed, are made for queries."""
    for given in (
        aliased(Page).labels,
        Page.labels.of_type(Label),
        Page.labels.and_(Label.id > 0),
    ):
        with pytest.raises(InvalidSenderError, match=r"own, as in @m2m_changed\(Page\.labels\)"):
            m2m_changed.connect(print, sender=given)
        with pytest.raises(InvalidSenderError, match="the attribute labels"):
            SignalContext(given)
    m2m_changed(Page.labels)
    SignalContext(Page.labels)


def test_the_name_of_an_attribute_is_no_name_of_a_class() -> None:
    """A receiver of ``"Page.labels"`` would never be called."""
    for signal in (m2m_changed, pre_save):
        for name in ("Page.labels", f"{__name__}.Page.id"):
            with pytest.raises(InvalidSenderError, match="is the name of an attribute"):
                signal(name)
        signal("Page.later")
