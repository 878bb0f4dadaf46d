"""The unit of work at random: what is told is what is written, before and after, once each."""

from __future__ import annotations

from typing import Any

import databases
import pytest
from effort import times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import post_delete, post_save, pre_delete, pre_save
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    one_way: Mapped[list[Child]] = relationship(foreign_keys="Child.one_way_id")
    two_way: Mapped[list[Child]] = relationship(
        back_populates="parent", foreign_keys="Child.two_way_id"
    )
    owned: Mapped[list[Owned]] = relationship(cascade="all, delete-orphan")


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    one_way_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
    two_way_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
    parent: Mapped[Parent | None] = relationship(
        back_populates="two_way", foreign_keys=[two_way_id]
    )


class Owned(Base):
    __tablename__ = "owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))


CLASSES = (Parent, Child, Owned)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add",
                "name",
                "same",
                "append",
                "remove",
                "assign",
                "unassign",
                "own",
                "disown",
                "delete",
                "expire",
                "flush",
            ]
        ),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=14,
)


def rows(session: Session) -> dict[tuple[str, int], dict[str, Any]]:
    """Everything in the database, read past the session."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for cls in CLASSES:
        for row in session.connection().execute(select(cls.__table__)).mappings():
            found[cls.__name__, row["id"]] = dict(row)
    return found


class Story:
    """A session under test, with what its signals tell."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pre: list[tuple[str, Any]] = []
        self.post: list[tuple[str, Any]] = []
        self.changes: dict[tuple[str, int], Any] = {}
        self.connected = [
            (pre_save, self.before_save),
            (post_save, self.after_save),
            (pre_delete, lambda instance, **k: self.pre.append(("deleted", instance))),
            (post_delete, lambda instance, **k: self.post.append(("deleted", instance))),
        ]
        for signal, receiver in self.connected:
            signal.connect(receiver)

    def before_save(self, instance: Any, created: bool, **kwargs: Any) -> None:
        self.pre.append(("created" if created else "updated", instance))

    def after_save(self, instance: Any, created: bool, changes: Any, **kwargs: Any) -> None:
        self.post.append(("created" if created else "updated", instance))
        self.changes[type(instance).__name__, instance.id] = dict(changes)

    def close(self) -> None:
        for signal, receiver in self.connected:
            signal.disconnect(receiver)

    def flush(self) -> None:
        before = rows(self.session)
        self.pre.clear()
        self.post.clear()
        self.changes.clear()
        self.session.flush()
        after = rows(self.session)
        assert sorted(self.pre, key=str) == sorted(self.post, key=str), "pre and post differ"
        told = [(kind, type(one).__name__, one.id) for kind, one in self.post]
        assert len(told) == len(set(told)), "told twice"
        expected = {("created", *key) for key in after.keys() - before.keys()}
        expected |= {("deleted", *key) for key in before.keys() - after.keys()}
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        expected |= {("updated", *key) for key in changed}
        # A value assigned over an expired one is written although it may be the same.
        surplus = set(told) - expected
        assert {kind for kind, *_ in surplus} <= {"updated"}
        assert expected <= set(told), "written but not told"
        for key in changed:
            told_changes = self.changes[key]
            real = {
                name: (before[key][name], after[key][name])
                for name in after[key]
                if before[key][name] != after[key][name]
            }
            assert told_changes == real


def play(session: Session, steps: list[tuple[str, int, int]]) -> None:
    """Carry out random steps, and check every flush."""
    story = Story(session)
    parents: list[Any] = [Parent() for _ in range(2)]
    others: list[Any] = [Child(), Child(), Owned(), Owned()]
    try:
        session.add_all([*parents, *others[:2]])
        parents[0].owned.append(others[2])
        parents[1].owned.append(others[3])
        story.flush()
        for verb, first, second in [*steps, ("flush", 0, 0)]:
            parent, child = parents[first % 2], others[second % 2]
            owned, any_one = others[2 + second % 2], (*parents, *others)[second]
            with session.no_autoflush:
                try:
                    step(story, verb, parent, child, owned, any_one, second)
                except InvalidRequestError:
                    continue  # the object is gone already
                except IntegrityError:
                    # A child added to a parent that goes keeps its foreign key: SQLAlchemy's own
                    # flush fails on it, with us or without.
                    assert story.post == []
                    return
    finally:
        story.close()
        session.rollback()


def step(
    story: Story, verb: str, parent: Any, child: Any, owned: Any, any_one: Any, number: int
) -> None:
    session = story.session
    gone = [one for one in (parent, child, owned, any_one) if one not in session]
    if verb == "flush":
        story.flush()
    elif verb == "add":
        session.add(Child(parent=None if parent in gone else parent))
    elif gone:
        return
    elif verb == "name":
        any_one.name = f"name {number}"
    elif verb == "same":
        any_one.name = any_one.name
    elif verb == "append" and child not in parent.one_way:
        parent.one_way.append(child)
    elif verb == "remove" and child in parent.one_way:
        parent.one_way.remove(child)
    elif verb == "assign":
        child.parent = parent
    elif verb == "unassign":
        child.parent = None
    elif verb == "own" and owned not in parent.owned:
        for each in session.scalars(select(Parent)):
            if owned in each.owned:
                each.owned.remove(owned)
        parent.owned.append(owned)
    elif verb == "disown" and owned in parent.owned:
        parent.owned.remove(owned)
    elif verb == "delete":
        session.delete(any_one)
    elif verb == "expire":
        story.flush()
        session.expire(any_one)


@settings(max_examples=times(250), deadline=None)
@given(STEPS)
def test_on_sqlite(steps: list[tuple[str, int, int]]) -> None:
    """Every written row is told once before and once after, with its true changes."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        play(session, steps)
    engine.dispose()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@settings(
    max_examples=times(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(STEPS)
def test_on_postgresql(database: databases.Database, steps: list[tuple[str, int, int]]) -> None:
    """The same on PostgreSQL."""
    engine = database.create_sync_engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        play(session, steps)
    engine.dispose()
