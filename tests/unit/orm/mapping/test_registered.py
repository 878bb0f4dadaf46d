"""Which classes send signals, and what follows when that changes."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    Mapped,
    declarative_base,
    mapped_column,
    registry,
)

from aksara_signals import UnmappedClassError
from aksara_signals.orm import register, unregister
from aksara_signals.orm.mapping.registered import Upkeep, is_wired, wired_classes


class Plain:
    """A base that isn't mapped."""


class Base(DeclarativeBase):
    pass


class Thing(Plain, Base):
    __tablename__ = "wired_thing"
    id: Mapped[int] = mapped_column(primary_key=True)


class Special(Thing):
    """Of the same table."""


class Other(Base):
    __tablename__ = "other_wired_thing"
    id: Mapped[int] = mapped_column(primary_key=True)


class NoMeta(DeclarativeBaseNoMeta):
    pass


class HasRegistry:
    """Names its registry as older code does."""

    _sa_registry = registry()


@pytest.mark.parametrize("base", [Base, NoMeta, declarative_base(), HasRegistry], ids=str)
def test_every_kind_of_base_is_registered_before_its_models(base: type) -> None:
    """It is recognized by its registry, whichever name that has."""
    register(base)
    assert is_wired(base)
    unregister(base)
    assert not is_wired(base)


def test_an_imperatively_mapped_class_is_registered() -> None:
    """It has no registry of its own."""

    class Mapped:
        pass

    with pytest.raises(UnmappedClassError):
        register(Mapped)
    table = Table("imperative_thing", MetaData(), Column("id", Integer, primary_key=True))
    mapping = registry()
    mapping.map_imperatively(Mapped, table)
    register(Mapped)
    assert wired_classes().count(Mapped) == 1
    unregister(Mapped)
    mapping.dispose()


def test_a_class_is_wired_with_its_subclasses() -> None:
    """And with no others."""
    register(Thing)
    assert [is_wired(cls) for cls in (Thing, Special, Other, Base)] == [
        True,
        True,
        False,
        False,
    ]
    wired = wired_classes()
    assert Thing in wired
    assert Special in wired
    assert Other not in wired
    unregister(Thing)
    assert not is_wired(Special)


def test_nothing_is_registered_if_one_is_refused() -> None:
    """The others of the same call stay as they are."""
    with pytest.raises(UnmappedClassError, match="int, which SQLAlchemy doesn't map"):
        register(Thing, int)
    assert not is_wired(Thing)


def test_upkeep_goes_on_after_an_error() -> None:
    """What was wanted then is done the next time."""
    done: list[int] = []

    @Upkeep
    def upkeep() -> None:
        done.append(len(done))
        if len(done) == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upkeep()
    upkeep()
    assert done == [0, 1]
