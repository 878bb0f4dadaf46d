"""``Model.Meta.signals`` beside whatever stands in a ``Meta`` of the model's own."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from aksara_signals import InvalidOptionError, Signal, post_save
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Keyed(Base):
    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)


class Album(Keyed):
    __tablename__ = "album"

    class Meta:
        ordering = "id"
        verbose = "an album"


class LiveAlbum(Album):
    """Has the Meta that it inherits."""


class LateAlbum(LiveAlbum):
    """And who inherits from it."""


class DeepAlbum(LateAlbum):
    class Meta(LateAlbum.Meta):
        ordering = "title"


def signals_of(model: Any) -> type:
    """Whose signals ``model.Meta.signals`` are, shown by a connection."""

    def receiver(**kwargs: Any) -> None: ...

    model.Meta.signals.post_save.connect(receiver)
    [connection] = post_save.connections
    assert post_save.disconnect(receiver, sender=connection.sender)
    return connection.sender


def test_a_models_own_meta_stays_what_it_is() -> None:
    """It is the very class that was written, with signals besides."""
    assert isinstance(Album.Meta, type)
    assert Album.Meta.__qualname__ == "Album.Meta"
    assert (Album.Meta.ordering, Album.Meta.verbose) == ("id", "an album")
    assert signals_of(Album) is Album
    assert repr(Album.meta.signals) == repr(Album.signals) == repr(Album.Meta.signals)


def test_an_inherited_meta_has_the_signals_of_who_inherits_it() -> None:
    """Each model's signals are its own, however the Meta was come by."""
    assert LiveAlbum.Meta.ordering == "id"
    assert LateAlbum.Meta.verbose == "an album"
    assert signals_of(LiveAlbum) is LiveAlbum
    assert signals_of(LateAlbum) is LateAlbum
    assert (DeepAlbum.Meta.ordering, DeepAlbum.Meta.verbose) == ("title", "an album")
    assert issubclass(DeepAlbum.Meta, Album.Meta)
    assert signals_of(DeepAlbum) is DeepAlbum
    assert signals_of(Album) is Album


def test_a_meta_of_an_abstract_base_has_the_bases_signals() -> None:
    """Connected there, a receiver is called for every model below."""

    class OwnBase(SignalMixin, DeclarativeBase):
        class Meta:
            app = "shop"

    class Thing(OwnBase):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert signals_of(OwnBase) is OwnBase
    assert signals_of(Thing) is Thing
    assert Thing.Meta.app == "shop"
    assert Thing().Meta.app == "shop"


def test_a_method_or_property_of_this_name_is_what_it_is() -> None:
    """``model.meta.signals`` is there all the same."""

    class Handmade(Keyed):
        __abstract__ = True

        def Meta(self) -> str:  # noqa: N802 - the name that is tried
            return "called"

    class Computed(Keyed):
        __abstract__ = True

        @property
        def Meta(self) -> str:  # noqa: N802 - the name that is tried
            return "read"

    assert type(Handmade.__dict__["Meta"]).__name__ == "function"
    assert type(Computed.__dict__["Meta"]) is property
    assert repr(Handmade.meta.signals) == repr(Handmade.signals)


class Shared:
    ordering = "id"


class Colour(Enum):
    RED = 1


class Slotted:
    __slots__ = ("signals",)
    ordering = "id"


class Refusing(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("no")


@pytest.mark.parametrize(
    ("meta", "name", "value"),
    [
        (Shared, "ordering", "id"),
        (SimpleNamespace(ordering="id"), "ordering", "id"),
        ({"ordering": "id"}, "keys", None),
        (Colour, "RED", Colour.RED),
        (Slotted, "ordering", "id"),
        (Refusing("Meta", (), {"ordering": "id"}), "ordering", "id"),
    ],
)
def test_an_odd_meta_is_read_through(meta: Any, name: str, value: Any) -> None:
    """It may be shared, no class at all, or take no attributes: it isn't touched."""
    one = type("One", (Keyed,), {"__abstract__": True, "Meta": meta})
    two = type("Two", (Keyed,), {"__abstract__": True, "Meta": meta})
    found = getattr(one.Meta, name)
    assert callable(found) if value is None else found == value
    assert (signals_of(one), signals_of(two)) == (one, two)
    assert "signals" in dir(one.Meta)
    assert {*dir(meta)} <= {*dir(one.Meta)}
    assert "One" in repr(one.Meta)


def test_what_stands_behind_is_changed_and_called_through() -> None:
    """An attribute that is set or deleted, and a call, go to the Meta that was written."""

    class Options:
        ordering: Any = "id"

        def __init__(self, colour: str) -> None:
            self.colour = colour

    class One(Keyed):
        __abstract__ = True
        Meta = Options

    One.Meta.ordering = "title"
    assert Options.ordering == "title"
    del One.Meta.ordering
    assert not hasattr(One.Meta, "ordering")
    assert One.Meta("red").colour == "red"


def test_a_meta_that_is_none_is_none() -> None:
    """Who has taken it away wants none."""

    class One(Album):
        __abstract__ = True
        Meta = None

    assert One.Meta is None


def test_signals_that_a_meta_has_already_stay() -> None:
    """They are the user's."""
    own = Signal()

    class One(Keyed):
        __abstract__ = True

        class Meta:
            signals = own

    class Two(One):
        __abstract__ = True

    assert One.Meta.signals is Two.Meta.signals is own
    assert repr(One.meta.signals) == repr(One.signals)


def test_a_meta_beside_the_base_counts_too() -> None:
    """A mixin's Meta is found on either side of ours."""

    class WithMeta:
        class Meta:
            ordering = "id"

    class First(WithMeta, Keyed):
        __abstract__ = True

    class Second(Keyed, WithMeta):
        __abstract__ = True

    for cls in (First, Second):
        assert cls.Meta.ordering == "id"
        assert signals_of(cls) is cls
    assert not hasattr(WithMeta.Meta, "signals")


def test_a_column_named_meta_is_a_column() -> None:
    """As with every name of the mixin's."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class Page(OwnBase):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        Meta: Mapped[str] = mapped_column()

    class WithColumn:
        @declared_attr
        def Meta(cls) -> Mapped[str]:  # noqa: N802, N805 - what the column is called
            return mapped_column()

    class Sheet(WithColumn, OwnBase):
        __tablename__ = "sheet"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Page(Meta="x").Meta == Sheet(Meta="x").Meta == "x"
    OwnBase.registry.dispose()


def test_a_model_without_a_meta_has_one_of_signals_only() -> None:
    """Others may inherit from it as from Django's, and nothing is lost in it."""

    class One(Keyed):
        __abstract__ = True

        class Meta(Base.Meta):
            ordering = "id"

    assert One.Meta.ordering == "id"
    assert signals_of(One) is One
    assert signals_of(Keyed) is Keyed
    assert dir(Keyed.Meta) == ["signals"]
    with pytest.raises(AttributeError, match=r"Keyed.Meta has no 'ordering'"):
        Keyed.Meta.ordering  # noqa: B018 - the look-up is the test
    with pytest.raises(AttributeError, match="class Meta"):
        Keyed.Meta.ordering = "id"


def test_a_generated_meta_is_not_called_and_loses_nothing() -> None:
    """Errors of ours in both cases, which name the model."""

    class Bare(Keyed):
        __tablename__ = "bare"

    with pytest.raises(InvalidOptionError, match=r"Bare\.Meta can't be called"):
        Bare.Meta()
    with pytest.raises(AttributeError, match=r"Bare\.Meta has no 'ordering' to delete"):
        del Bare.Meta.ordering
