"""Random work with random classes, as the lines of a script that anybody can run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from kit.properties.blueprints import Blueprint
from kit.properties.statements import INSERTS, STATEMENTS, StatementLines

__all__ = ["PRELUDE", "REACTIONS", "REFUSALS", "STEPS", "Reaction", "Step", "Story"]

REFUSALS = (SQLAlchemyError, ValueError)
"""What SQLAlchemy refuses a line with. ``list.remove(x): x not in list`` is one as well: a collection
that is loaded by an autoflush forgets what was to be taken out of it."""

PRELUDE = """

def append(collection, item):
    if item not in collection:
        collection.append(item)


def remove(collection, item):
    if item in collection:
        collection.remove(item)


def take(cls, name, item):
    for owner in session.scalars(select(cls)).all():
        remove(getattr(owner, name), item)

"""


class Step(NamedTuple):
    """Something to do; its numbers choose among what there is when it is done."""

    verb: str
    first: int
    second: int
    third: int


class Reaction(NamedTuple):
    """A step that a receiver takes when it is called for the n-th time."""

    signal: str
    call: int
    step: Step


IN_RECEIVERS = ["new", "name", "same", "column", "relate", "relate", "unrelate", "remove", "delete"]
RELATE = ["relate", "assign", "replace_all"]
VERBS = [*IN_RECEIVERS, "new", *RELATE, "key", "expire", "merge", "query", "look", "again"]
VERBS += STATEMENTS
# The first is nothing at all, most of the time: what Hypothesis shrinks to.
SESSION = ["release", "flush", "flush", "commit", "rollback", "savepoint", "roll_back_to"]
NUMBERS = (st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
STEPS = st.builds(
    list.__add__,
    st.lists(st.builds(Step, st.just("new"), *NUMBERS), min_size=1, max_size=5),
    st.lists(
        st.builds(Step, st.sampled_from([*SESSION, *VERBS]), *NUMBERS), min_size=8, max_size=30
    ),
)
REACTIONS = st.lists(
    st.one_of(
        st.builds(
            Reaction,
            st.sampled_from(["pre_save", "pre_update", "pre_delete"]),
            st.integers(1, 6),
            st.builds(Step, st.sampled_from([*IN_RECEIVERS, *INSERTS]), *NUMBERS),
        ),
        st.builds(
            Reaction,
            st.sampled_from(["post_save", "post_update", "post_delete"]),
            st.integers(1, 6),
            st.builds(
                Step,
                st.sampled_from([*IN_RECEIVERS, *STATEMENTS, "flush", "query", "nested"]),
                *NUMBERS,
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)


class Story:
    """Plays steps with one session, and keeps the lines that it ran.

    Args:
        blueprint: The classes; they are declared anew, for this story alone.
        after_line: Called after each line, with what SQLAlchemy refused it with, or None.
    """

    def __init__(
        self, blueprint: Blueprint, after_line: Callable[[Exception | None], None]
    ) -> None:
        self.blueprint = blueprint
        self.lines: list[str] = []
        self.reactions: dict[tuple[str, int], str] = {}
        self.names: dict[str, Any] = {"__name__": "story"}
        self.has_reacted = False
        """Whether a receiver has done anything during the line under way."""
        self.set_by_column: set[int] = set()
        """The relationships that know nothing of what set their foreign key."""
        self._after_line = after_line
        self._classes: dict[str, int] = {}
        self._count = 0
        self._savepoints: list[str] = []
        self._refused: set[int] = set()
        self._statements = StatementLines(self)
        exec(blueprint.source_code() + PRELUDE, self.names)  # our own words, made above
        self.base: Any = self.names["Base"]
        self.base.registry.configure()

    @property
    def session(self) -> Session:
        return self.names["session"]

    @property
    def knows_upserted(self) -> bool:
        """Whether the database returns which rows an upsert has updated, and their old values."""
        dialect: Any = self.session.get_bind().dialect
        return dialect.name == "postgresql" and dialect.server_version_info >= (18,)

    def cls(self, number: int) -> Any:
        return self.names[self.blueprint.name(number)]

    def number_of(self, name: str) -> int:
        """The number of the class of an object."""
        return self._classes[name]

    def next_number(self) -> int:
        """A number that makes something unique."""
        self._count += 1
        return self._count

    def script(self) -> str:
        """The whole story, to be run by itself."""
        lines = [
            *self.blueprint.source_code().splitlines(),
            *PRELUDE.splitlines(),
            "from collections import Counter",
            "from sqlalchemy import create_engine",
            "from aksara_signals import post_delete, post_save, post_update",
            "from aksara_signals import pre_delete, pre_save, pre_update",
            "",
            f"REACTIONS = {self.reactions!r}",
            "calls = Counter()",
            "",
            "def react(signal, instance, **kwargs):",
            "    calls[signal.name] += 1",
            "    print('   ', signal.name, instance)",
            "    exec(REACTIONS.get((signal.name, calls[signal.name]), ''), globals())",
            "",
            "for signal in (pre_save, pre_update, pre_delete):",
            "    signal.connect(react, sender=Base)",
            "for signal in (post_update, post_save, post_delete):",
            "    signal.connect(react, sender=Base, statements=True)",
            'engine = create_engine("sqlite://", echo=True)',
            "Base.metadata.create_all(engine)",
            "session = Session(engine)",
        ]
        for number, line in enumerate(self.lines):
            if number in self._refused:
                lines += [
                    "with suppress(SQLAlchemyError, ValueError):",
                    f"    {line}",
                    "session.rollback()",
                ]
            else:
                lines.append(line)
        return "\n".join(lines)

    # -- playing -------------------------------------------------------------------------------

    def play(self, session: Session, steps: list[Step], reactions: list[Reaction]) -> None:
        """Take every step, and flush at the end.

        Args:
            session: Not begun yet.
            steps: In order.
            reactions: What receivers do; who connects them calls ``react``.
        """
        self.names["session"] = session
        self._planned = {(each.signal, each.call): each.step for each in reactions}
        self._calls: Counter[str] = Counter()
        for step in [*steps, Step("flush", 0, 0, 0), Step("commit", 0, 0, 0)]:
            line = self.line_of(step)
            if line:
                self._run(line)

    def replay(self, session: Session, lines: list[str]) -> None:
        """Run the lines of another story about the same blueprint."""
        self.names["session"] = session
        self._planned = {}
        for line in lines:
            self._run(line)

    def _run(self, line: str) -> None:
        self.lines.append(line)
        self.has_reacted = False
        refusal: Exception | None = None
        try:
            exec(line, self.names)
        except REFUSALS as error:
            refusal = error
            self._refused.add(len(self.lines) - 1)
            self._savepoints.clear()
            self.session.rollback()
        self._after_line(refusal)

    def react(self, signal: str) -> None:
        """What a receiver of ``signal`` does this time."""
        self._calls[signal] += 1
        step = self._planned.get((signal, self._calls[signal]))
        line = self.line_of(step, in_receiver=True) if step else ""
        if line:
            self.has_reacted = True
            self.reactions[signal, self._calls[signal]] = line
            exec(line, self.names)

    # -- steps in words ------------------------------------------------------------------------

    def line_of(self, step: Step, *, in_receiver: bool = False) -> str:
        """What a step comes to now, or an empty line: nothing."""
        verb, first, second, third = step
        if verb == "new":
            return self._new(first % len(self.blueprint.models), "session.add({})")
        if verb in ("savepoint", "release", "roll_back_to"):
            return self._of_savepoints(verb)
        if verb in ("commit", "rollback"):
            self._savepoints.clear()
            return f"session.{verb}()"
        if verb in ("flush", "query", "expire_all"):
            return "session.flush()" if verb == "flush" else self._query(first)
        known = self.known(range(len(self.blueprint.models)))
        if not known:
            return ""
        name = known[first % len(known)]
        if verb in STATEMENTS:
            return self._statements.line_of(verb, name, second, third, in_receiver=in_receiver)
        if verb == "name":
            self._count += 1
            return f'{name}.name = "n{self._count}"'
        if verb == "nested":
            self._count += 1
            return f'with session.begin_nested(): {name}.name = "n{self._count}"'
        if verb == "look":
            views = self.blueprint.views(self._classes[name])
            return f"{name}.{views[second % len(views)]}" if views else ""
        if verb == "again":
            return self._again(name)
        if verb == "same":
            return f"{name}.name = {name}.name"
        if verb == "delete":
            # Deleted by a receiver of the flush that it causes itself, it would be deleted twice:
            # SQLAlchemy fails ("Failed to add object to the flush context!").
            calm = "with session.no_autoflush: " if self._planned else ""
            return f"{calm}session.delete({name})"
        if verb == "expire":
            return f"session.flush(); session.expire({name})"
        if verb == "merge":
            self._count += 1
            cls = self.blueprint.name(self._classes[name])
            return f'session.flush(); session.merge({cls}(id={name}.id, name="m{self._count}"))'
        if verb == "column":
            return self._column(name, second, third)
        if verb == "key":
            return self._key(name, second, third)
        return self._relation(verb, name, second, third)

    def _new(self, number: int, how: str) -> str:
        self._count += 1
        name = f"o{self._count}"
        self._classes[name] = number
        given = self.blueprint.models[self.blueprint.root(number)].has_given_key
        key = f"id={100 + self._count}, " if given else ""
        value = f'"n{self._count}"' if self._count % 5 else f'func.upper("n{self._count}")'
        make = f"{self.blueprint.name(number)}({key}name={value})"
        return f"{name} = {make}; {how.format(name)}"

    def _again(self, former: str) -> str:
        """Use the given key of a deleted object again."""
        number = self._classes[former]
        if not self.blueprint.models[self.blueprint.root(number)].has_given_key:
            return ""
        self._count += 1
        name = f"o{self._count}"
        self._classes[name] = number
        make = f'{self.blueprint.name(number)}(id={former}.id, name="n{self._count}")'
        delete = f"session.flush(); session.delete({former}); session.flush()"
        return f"{delete}; {name} = {make}; session.add({name})"

    def _of_savepoints(self, verb: str) -> str:
        if verb == "savepoint":
            if len(self._savepoints) == 2:
                return ""
            self._count += 1
            self._savepoints.append(f"savepoint{self._count}")
            return f"{self._savepoints[-1]} = session.begin_nested()"
        if not self._savepoints:
            return ""
        return f"{self._savepoints.pop()}.{'commit' if verb == 'release' else 'rollback'}()"

    def _query(self, number: int) -> str:
        cls = self.blueprint.name(number % len(self.blueprint.models))
        return f"session.scalars(select({cls})).all()"

    def known(self, classes: range | list[int]) -> list[str]:
        """The variables of those objects that the session writes, if it has to."""
        found = []
        for name, number in self._classes.items():
            instance = self.names.get(name)
            if instance is None or instance not in self.session or instance in self.session.deleted:
                continue
            if not {*classes}.isdisjoint(self.blueprint.lineage(number)):
                found.append(name)
        return found

    def _others(self, name: str, number: int) -> list[str]:
        """The objects of a class that another one may refer to.

        Not to itself: without ``post_update``, SQLAlchemy forgets to write that such a reference ends.
        """
        return [each for each in self.known([number]) if each != name]

    def _column(self, name: str, choice: int, how: int) -> str:
        attributes = inspect(type(self.names[name])).column_attrs
        columns = [
            attribute.key
            for attribute in attributes
            if attribute.key.startswith(("plain_", "late_", "served_"))
        ]
        self._count += 1
        value = f'"c{self._count}"' if how % 3 else f'func.upper("c{self._count}")'
        return f"{name}.{columns[choice % len(columns)]} = {value}" if columns else ""

    def _key(self, name: str, second: int, third: int) -> str:
        """Set a foreign key by its column."""
        links = self.blueprint.links
        lineage = self.blueprint.lineage(self._classes[name])
        places = [
            place
            for place, link in enumerate(links)
            if not link.is_many_to_many and link.target in lineage
        ]
        if not places:
            return ""
        place = places[second % len(places)]
        others = self._others(name, links[place].source)
        if not others:
            return ""
        if links[place].kind == "one_to_many":
            self.set_by_column.add(place)
        other = others[third % len(others)]
        return f"session.flush(); {name}.key{place} = {other}.id"

    def _relation(self, verb: str, name: str, second: int, third: int) -> str:
        ends = self.blueprint.ends(self._classes[name])
        if not ends:
            return ""
        attribute, cls, is_collection = ends[second % len(ends)]
        others = self._others(name, cls)
        # SQLAlchemy may forget to write what a new value pushes out if it was never loaded: always,
        # or by the order of addresses.
        loaded = "" if is_collection else f"{name}.{attribute}; "
        if verb == "unrelate" or not others:
            return f"{loaded}{name}.{attribute} = {[] if is_collection else None}"
        other = others[third % len(others)]
        number = attribute.lstrip("rback")
        is_one_to_one = self.blueprint.links[int(number)].kind == "one_to_one"
        if loaded and is_one_to_one and attribute.startswith("back"):
            loaded += f"{other}.r{number}; "
        if verb == "remove" and is_collection:
            return f"remove({name}.{attribute}, {other})"
        return self._taken_first(attribute, other) + (
            f"append({name}.{attribute}, {other})"
            if is_collection and verb != "replace_all"
            else f"{loaded}{name}.{attribute} = {f'[{other}]' if is_collection else other}"
        )

    def _taken_first(self, attribute: str, other: str) -> str:
        """A child of two one-way collections would belong to either of them, as SQLAlchemy pleases."""
        place = int(attribute.lstrip("rback"))
        link = self.blueprint.links[place]
        if link.kind != "one_to_many":
            return ""
        return f'take({self.blueprint.name(link.source)}, "{attribute}", {other}); '
