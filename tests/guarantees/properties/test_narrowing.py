"""Random filters and random writes: who is called is what a simple judgement of the changes says.

The reference is a receiver without filters, which is given ``changes``. It stands at the same place
in the order, so that it sees what the narrowed one is judged by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.effort import IS_ORDINARY, times
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from aksara_signals import post_save, pre_save
from aksara_signals.orm import SignalMixin
from aksara_signals.testing import restored_signals

NAMES = ("one", "two", "three")
DEFAULTS = {"one": "a"}


class Base(SignalMixin, DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "narrowed_thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    one: Mapped[str | None] = mapped_column(default="a")
    two: Mapped[str | None]
    three: Mapped[str | None] = mapped_column(deferred=True)


values = st.sampled_from([None, "a", "b", "c"])
names = st.sampled_from(NAMES)
written = st.dictionaries(names, values, max_size=3)
sides = st.one_of(values, st.just(...), st.sets(values, min_size=1))
filters = st.tuples(
    st.none() | st.sets(names, min_size=1),
    st.none() | st.dictionaries(names, st.tuples(sides, sides), min_size=1, max_size=2),
)
steps = st.lists(
    st.tuples(st.sampled_from(["flush", "commit", "expire"]), written), min_size=1, max_size=5
)


def fits(expected: Any, value: Any) -> bool:
    if expected is ...:
        return True
    return value in expected if isinstance(expected, set) else value == expected


def in_row(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values that an INSERT writes: SQLAlchemy takes None for a value that wasn't given."""
    return {name: DEFAULTS.get(name) if value is None else value for name, value in given.items()}


def judged(
    changes: Mapping[str, Any],
    given: Mapping[str, Any] | None,
    fields: set[str] | None,
    transition: Mapping[str, Any] | None,
) -> bool:
    """What the documentation says, in the simplest way.

    Args:
        changes: What a receiver is given as ``changes``.
        given: What was set of a new row, with its values in the row; None if it isn't new.
        fields: The names given as ``fields=``.
        transition: What was given as ``transition=``.
    """
    pairs = dict(changes)
    if given is not None:
        pairs = {name: (None, value) for name, value in {**DEFAULTS, **given}.items()}
    changed = changes if given is None else given
    if fields is not None and not fields & set(changed):
        return False
    return all(
        name in pairs and fits(old, pairs[name][0]) and fits(new, pairs[name][1])
        for name, (old, new) in (transition or {}).items()
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def connect(
    expected: list[Any],
    called: list[Any],
    made: dict[Any, Any],
    number: int,
    given: Any,
    **options: Any,
) -> None:
    """Connect the narrowed receiver, and one like it that notes whether that one has to be called."""
    fields, transition = given
    signal = pre_save if options.pop("before", False) else post_save

    def reference(instance: Thing, created: bool, changes: Any, **kwargs: Any) -> None:
        of_new = made if created else None
        if judged(changes, of_new, fields, transition):
            expected.append((number, signal.name))

    def narrowed(instance: Thing, **kwargs: Any) -> None:
        called.append((number, signal.name))

    signal.connect(reference, Thing, **options)
    signal.connect(narrowed, Thing, fields=fields, transition=transition, **options)


@settings(
    max_examples=times(60),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(filters, min_size=1, max_size=4), written, steps, st.none() | written)
def test_whoever_is_called_is_meant(
    engine: Engine, given: list[Any], first: dict[str, Any], then: list[Any], reaction: Any
) -> None:
    """Before and after each flush, after the commit, and for the net of a transaction."""
    expected: list[Any] = []
    called: list[Any] = []
    made: dict[str, Any] = {}

    def react(instance: Thing, created: bool, **kwargs: Any) -> None:
        for name, value in reaction.items():
            setattr(instance, name, value)
        if created:
            made.update(in_row(reaction))

    with restored_signals(), Session(engine) as session:
        for number, each in enumerate(given):
            if reaction and number == 1:
                pre_save.connect(react, Thing)
            connect(expected, called, made, number, each, before=True)
            connect(expected, called, made, number, each)
            connect(expected, called, made, number, each, phase="after_commit")
        made |= in_row(first)
        session.add(thing := Thing(**first))
        session.flush()
        for kind, change in then:
            if kind == "expire":
                session.flush()
                session.expire(thing)
            for name, value in change.items():
                setattr(thing, name, value)
            if kind == "commit":
                session.commit()
            else:
                session.flush()
        session.commit()
        session.delete(thing)
        session.commit()
    assert called == expected


@settings(
    max_examples=times(40),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(filters, st.none() | written, st.lists(written, max_size=4))
def test_the_net_is_judged_as_a_change_is(
    engine: Engine, given: Any, first: dict[str, Any] | None, then: list[dict[str, Any]]
) -> None:
    """The net of a transaction that has changed one row, or made it."""
    expected: list[Any] = []
    called: list[Any] = []
    made: dict[str, Any] = {}
    with restored_signals(), Session(engine) as session:
        thing = Thing(**(first or {}))
        session.add(thing)
        if first is None:
            session.commit()
        connect(expected, called, made, 0, given, phase="after_commit", coalesce=True)
        made |= in_row(first or {})
        session.flush()
        for change in then:
            differing = {k: v for k, v in change.items() if getattr(thing, k) != v}
            made |= differing
            for name, value in differing.items():
                setattr(thing, name, value)
            session.flush()
        session.commit()
    assert called == expected
