"""Random mapped classes, as the source code that declares them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

__all__ = ["BY_UPDATES", "IMPORTS", "Blueprint", "Link", "Model", "blueprints"]

IMPORTS = """\
from contextlib import suppress

from sqlalchemy import Column, ForeignKey, Integer, String, Table
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, relationship

from aksara_signals.orm import SignalMixin
"""

BY_UPDATES = ("touched_", "version")
"""How the columns begin that every UPDATE sets."""
FORWARD, BACKWARD, VIEW = "r{}", "back{}", "view{}"


@dataclass(frozen=True)
class Model:
    """A mapped class and what its columns are like."""

    parent: int | None
    """The number of the class that it inherits from."""
    is_joined: bool
    """Whether a class that inherits has a table of its own."""
    has_given_key: bool
    extras: frozenset[str]


@dataclass(frozen=True)
class Link:
    """A relationship between two classes; where there is a foreign key, the target has it."""

    kind: str
    source: int
    target: int
    cascade: str
    is_required: bool
    passive_deletes: str
    extra: str = ""
    """An option of the relationships: ``"post_update"``, ``"dynamic"`` or ``"viewonly"``.

    The last is a second relationship that only reads.
    """

    @property
    def is_forward(self) -> bool:
        """Whether the source's side of a many-to-many relationship is the one that counts as forward.

        That is the only side, else that of the class that was defined first.
        """
        return self.kind == "many_to_many" or self.source <= self.target

    @property
    def lazy(self) -> str:
        """How the source's collection is loaded, as an argument."""
        return ', lazy="dynamic"' if self.extra == "dynamic" and self.has_collection else ""

    @property
    def post_update(self) -> str:
        """Whether the foreign key has an UPDATE of its own, as an argument.

        Of the reference only: given to a collection, SQLAlchemy forgets to write what is taken out.
        """
        return ", post_update=True" if self.extra == "post_update" else ""

    @property
    def is_many_to_many(self) -> bool:
        return "many_to_many" in self.kind

    @property
    def has_collection(self) -> bool:
        """Whether the source has a collection of the target."""
        return self.kind not in ("many_to_one", "one_to_one")


@dataclass(frozen=True)
class Blueprint:
    """A few classes, and how they are related."""

    models: tuple[Model, ...]
    links: tuple[Link, ...]

    def name(self, number: int) -> str:
        return "ABCDEFGH"[number]

    def root(self, number: int) -> int:
        parent = self.models[number].parent
        return number if parent is None else self.root(parent)

    def table(self, number: int) -> str:
        """The table of a class's own columns."""
        model = self.models[number]
        if model.parent is not None and not model.is_joined:
            return self.table(model.parent)
        return self.name(number).lower()

    def lineage(self, number: int) -> list[int]:
        """A class and those that it inherits from."""
        parent = self.models[number].parent
        return [number, *([] if parent is None else self.lineage(parent))]

    def ends(self, number: int) -> list[tuple[str, int, bool]]:
        """The relationships of a class: attribute, class at the other end, whether a collection."""
        found: list[tuple[str, int, bool]] = []
        family = self.lineage(number)
        for place, link in enumerate(self.links):
            forward = link.kind != "many_to_one"
            if forward and link.source in family:
                found.append((FORWARD.format(place), link.target, link.has_collection))
            if link.kind in ("many_to_one", "two_way", "one_to_one") and link.target in family:
                found.append((BACKWARD.format(place), link.source, False))
            if link.kind == "many_to_many_two_way" and link.target in family:
                found.append((BACKWARD.format(place), link.source, True))
        return found

    def views(self, number: int) -> list[str]:
        """The attributes of a class that only read."""
        return [
            VIEW.format(place)
            for place, link in enumerate(self.links)
            if link.extra == "viewonly" and link.source in self.lineage(number)
        ]

    def source_code(self) -> str:
        """The classes as Python declares them."""
        lines = [IMPORTS, "", "class Base(SignalMixin, DeclarativeBase):", "    pass", ""]
        for number in range(len(self.models)):
            lines += ["", *self._class(number), ""]
        for place, link in enumerate(self.links):
            lines += self._secondary(place, link)
        return "\n".join(lines)

    def _class(self, number: int) -> list[str]:
        model = self.models[number]
        name, own = self.name(number), self.table(number)
        root = self.root(number)
        lines = []
        arguments: list[str] = []
        if model.parent is None:
            lines.append(f"class {name}(Base):")
            lines.append(f'    __tablename__ = "{own}"')
            lines.append(
                f"    id = mapped_column(Integer, primary_key=True, "
                f"autoincrement={not model.has_given_key})"
            )
            lines.append('    name = mapped_column(String, default="")')
            lines.append('    kind = mapped_column(String, default="")')
            arguments += ['"polymorphic_on": kind']
        else:
            lines.append(f"class {name}({self.name(model.parent)}):")
            if model.is_joined:
                above = self.table(model.parent)
                lines.append(f'    __tablename__ = "{own}"')
                lines.append(
                    f'    id = mapped_column(ForeignKey("{above}.id", name="up_{own}"), '
                    f"primary_key=True)"
                )
                arguments += [f'"inherit_condition": id == {self.name(model.parent)}.id']
        arguments.append(f'"polymorphic_identity": "{name}"')
        low = name.lower()
        if "column" in model.extras:
            lines.append(f'    plain_{low} = mapped_column("column_{low}", String)')
        if "deferred" in model.extras:
            lines.append(f"    late_{low} = mapped_column(String, deferred=True)")
        if "server_default" in model.extras:
            lines.append(f"    served_{low} = mapped_column(String, server_default=text(\"'s'\"))")
        if "onupdate" in model.extras:
            lines.append(
                f'    touched_{low} = mapped_column(String, onupdate=lambda: "touched {name}")'
            )
        if "version" in model.extras and number == root:
            lines.append("    version = mapped_column(Integer, nullable=False)")
            arguments.append('"version_id_col": version')
        for place, link in enumerate(self.links):
            lines += self._ends(place, link, number)
        lines.append(f"    __mapper_args__ = {{{', '.join(arguments)}}}")
        return lines

    def _ends(self, place: int, link: Link, number: int) -> list[str]:
        source, target = self.name(link.source), self.name(link.target)
        forward, backward = FORWARD.format(place), BACKWARD.format(place)
        lines = []
        if link.is_many_to_many:
            joins = (
                f'primaryjoin="{source}.id == link{place}.c.left_id", '
                f'secondaryjoin="{target}.id == link{place}.c.right_id"'
            )
            joins_back = (
                f'primaryjoin="{target}.id == link{place}.c.right_id", '
                f'secondaryjoin="{source}.id == link{place}.c.left_id"'
            )
            populates = link.kind == "many_to_many_two_way"
            if number == link.source:
                first = f'relationship("{target}", secondary="link{place}", {joins}'
                lines.append(
                    f"    {forward} = {first}{link.lazy}"
                    + (f', back_populates="{backward}")' if populates else ")")
                )
                if link.extra == "viewonly":
                    lines.append(f"    {VIEW.format(place)} = {first}, viewonly=True)")
            if number == link.target and populates:
                lines.append(
                    f'    {backward} = relationship("{source}", secondary="link{place}", '
                    f'{joins_back}, back_populates="{forward}")'
                )
            return lines
        column = f"key{place}"
        populates = link.kind in ("two_way", "one_to_one")
        join = f'primaryjoin="{source}.id == foreign({target}.{column})"'
        if number == link.target:
            action = ', ondelete="CASCADE"' if link.passive_deletes == "True" else ""
            lines.append(
                f"    {column} = mapped_column("
                f'ForeignKey("{self.table(link.source)}.id", name="fk_{place}"{action}), '
                f"nullable={not link.is_required})"
            )
            if link.kind != "one_to_many":
                lines.append(
                    f'    {backward} = relationship("{source}", {join}, remote_side="{source}.id"'
                    f"{link.post_update}" + (f', back_populates="{forward}")' if populates else ")")
                )
        if number == link.source and link.kind != "many_to_one":
            options = [f'"{target}"', join, f'remote_side="{target}.{column}"']
            if link.cascade:
                options.append(f'cascade="{link.cascade}"')
            if link.passive_deletes != "False":
                options.append(f"passive_deletes={link.passive_deletes}")
            if not link.has_collection:
                options.append("uselist=False")
            if populates:
                options.append(f'back_populates="{backward}"')
            lines.append(f"    {forward} = relationship({', '.join(options)}{link.lazy})")
        if number == link.source and link.extra == "viewonly":
            lines.append(
                f'    {VIEW.format(place)} = relationship("{target}", {join}, '
                f'remote_side="{target}.{column}", viewonly=True)'
            )
        return lines

    def _secondary(self, place: int, link: Link) -> list[str]:
        if not link.is_many_to_many:
            return []
        left, right = self.table(link.source), self.table(link.target)
        return [
            "",
            "Table(",
            f'    "link{place}",',
            "    Base.metadata,",
            f'    Column("left_id", ForeignKey("{left}.id"), primary_key=True),',
            f'    Column("right_id", ForeignKey("{right}.id"), primary_key=True),',
            ")",
        ]


EXTRAS = ["column", "deferred", "server_default", "onupdate", "version"]
KINDS = [
    "many_to_one",
    "one_to_many",
    "two_way",
    "one_to_one",
    "many_to_many",
    "many_to_many_two_way",
]


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    """One to four classes with up to four relationships, among them to themselves."""
    count = draw(st.integers(1, 4))
    models: list[Model] = []
    for number in range(count):
        parent = draw(st.one_of(st.none(), st.integers(0, number - 1))) if number else None
        models.append(
            Model(
                parent=parent,
                is_joined=draw(st.booleans()) if parent is not None else True,
                has_given_key=draw(st.booleans()),
                extras=draw(st.frozensets(st.sampled_from(EXTRAS))),
            )
        )
    place = st.integers(0, count - 1)
    links = draw(
        st.lists(
            st.builds(_link, st.sampled_from(KINDS), place, place, CHOICES), min_size=1, max_size=4
        )
    )
    return Blueprint(tuple(models), tuple(links))


CHOICES = st.tuples(
    st.sampled_from(["", "", "all", "all, delete-orphan", "delete"]),
    st.booleans(),
    st.sampled_from(["False", "False", "True", '"all"']),
    st.sampled_from(["", "", "", "post_update", "dynamic", "viewonly"]),
)


def _link(kind: str, source: int, target: int, choices: tuple[str, bool, str, str]) -> Link:
    cascade, is_required, passive_deletes, extra = choices
    if '"all"' in passive_deletes and "delete" in f"{cascade}{'delete' * ('all' in cascade)}":
        passive_deletes = "False"  # SQLAlchemy refuses the two together
    return Link(
        kind=kind,
        source=source,
        target=target,
        cascade=cascade,
        # A required key to its own table could never be given to the first row.
        is_required=is_required and source != target and extra != "post_update",
        passive_deletes=passive_deletes,
        extra=extra,
    )
