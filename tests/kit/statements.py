"""ORM statements of every form, the tables they write to, and what their caller sees of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    ForeignKey,
    String,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    mapped_column,
    with_loader_criteria,
)

from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    """The base of the classes that the statements write."""


class Article(Base):
    """Attributes of all kinds in one table."""

    __tablename__ = "article"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("headline", String(50))
    status: Mapped[str] = mapped_column(default="draft")
    slug: Mapped[str | None] = mapped_column(unique=True)
    views: Mapped[int] = mapped_column(server_default="0")
    revision: Mapped[int] = mapped_column(default=1, onupdate=text("revision + 1"))
    body: Mapped[str | None] = mapped_column(deferred=True)
    author_id: Mapped[int | None]


Article.shout = column_property(func.upper(Article.__table__.c.headline))


class Seat(Base):
    """A composite primary key."""

    __tablename__ = "seat"
    row: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    taken: Mapped[bool] = mapped_column(default=False)


class Animal(Base):
    """The base of classes with a table of their own, and of one without."""

    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]


class Cat(Animal):
    """In two tables."""

    __tablename__ = "cat"
    __mapper_args__ = {"polymorphic_identity": "cat"}
    id: Mapped[int] = mapped_column(ForeignKey("animal.id", ondelete="CASCADE"), primary_key=True)
    lives: Mapped[int]


class Tiger(Cat):
    """In the tables of its bases."""

    __mapper_args__ = {"polymorphic_identity": "tiger"}
    stripes: Mapped[int | None]


class Dog(Animal):
    """In the table of its base."""

    __mapper_args__ = {"polymorphic_identity": "dog"}
    tricks: Mapped[int | None]


CLASSES: tuple[Any, ...] = (Article, Seat, Animal, Cat, Tiger, Dog)

_ROWS: dict[str, list[dict[str, Any]]] = {
    "article": [
        {
            "id": number,
            "headline": f"title {number}",
            "status": "draft",
            "slug": slug,
            "views": number,
            "revision": 1,
            "body": "text",
            "author_id": None,
        }
        for number, slug in enumerate("abcd", 1)
    ],
    "seat": [{"row": row, "place": place, "taken": False} for row in "AB" for place in (1, 2)],
    "animal": [
        {"id": 1, "kind": "animal", "name": "ant", "tricks": None},
        {"id": 2, "kind": "cat", "name": "tom", "tricks": None},
        {"id": 3, "kind": "tiger", "name": "shere", "tricks": None},
        {"id": 4, "kind": "dog", "name": "rex", "tricks": 3},
    ],
    "cat": [{"id": 2, "lives": 9, "stripes": None}, {"id": 3, "lives": 1, "stripes": 40}],
}


def fill(connection: Connection) -> None:
    """Insert the rows that statements find, without signals, and let new keys begin at 100."""
    dialect = connection.dialect.name
    if dialect == "postgresql":  # it returns rows in the order of their places
        connection.exec_driver_sql("TRUNCATE article, seat, animal, cat")
    if dialect in MYSQL:  # commits, so it comes first
        for name in ("article", "animal"):
            connection.exec_driver_sql(f"ALTER TABLE {name} AUTO_INCREMENT = 100")
    for name, rows in _ROWS.items():
        connection.execute(insert(Base.metadata.tables[name]), rows)
    for name in ("article", "animal"):
        if dialect == "postgresql":
            connection.exec_driver_sql(f"SELECT setval('{name}_id_seq', 99)")


def rows_of(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {
        name: sorted(map(tuple, connection.execute(select(table))), key=repr)
        for name, table in Base.metadata.tables.items()
    }


Statement = tuple[Any, Any]
"""A statement, and the parameters it is executed with."""
Scenario = Callable[[str], Statement]
"""Makes a statement for a dialect."""

SCENARIOS: dict[str, Scenario] = {}
MYSQL = ("mysql", "mariadb")
"""The names of the dialects of one family."""
UNKNOWN_TO_MARIADB = (
    "delete_of_an_alias",
    "update_returning_entities",
    "update_returning_columns",
    "update_returning_a_bundle",
)
"""Statements for which it has no syntax."""


def _scenario(make: Scenario) -> Scenario:
    SCENARIOS[make.__name__.strip("_")] = make
    return make


def upsert(dialect: str, cls: Any, set_: Any, *, many: bool = False, **values: Any) -> Any:
    """An upsert of a class by its slug, in the words of a dialect.

    Args:
        dialect: Its name.
        cls: The class.
        set_: What is set of a row that exists; a function makes it of the row that was proposed.
        many: Whether the values are parameters.
        values: Those of a new row.
    """
    written: Any
    if dialect in MYSQL:
        written = mysql.insert(cls) if many else mysql.insert(cls).values(**values)
        changed = set_(written.inserted) if callable(set_) else set_
        return written.on_duplicate_key_update(changed)
    module: Any = sqlite if dialect == "sqlite" else postgresql
    written = module.insert(cls) if many else module.insert(cls).values(**values)
    changed = set_(written.excluded) if callable(set_) else set_
    return written.on_conflict_do_update(index_elements=["slug"], set_=changed)


def _renamed(proposed: Any) -> dict[str, Any]:
    return {"headline": proposed.headline}


@_scenario
def _update(_: str) -> Statement:
    return update(Article).where(Article.id < 3).values(name="new", status="draft"), None


@_scenario
def _update_by_sql(_: str) -> Statement:
    return update(Article).where(Article.id < 3).values(views=Article.views + 1), None


@_scenario
def _update_with_parameters(_: str) -> Statement:
    return update(Article).where(Article.id < bindparam("limit")).values(name="new"), {"limit": 3}


@_scenario
def _update_of_nothing(_: str) -> Statement:
    return update(Article).where(Article.id == 77).values(name="new"), None


@_scenario
def _update_of_all(_: str) -> Statement:
    return update(Article).values({Article.status: "published"}), None


@_scenario
def _update_from(_: str) -> Statement:
    seat = Seat.__table__.alias()
    matches = Article.id == seat.c.place
    return update(Article).where(matches, seat.c.taken.is_(False)).values(name=seat.c.row), None


@_scenario
def _update_by_column_name(_: str) -> Statement:
    written = update(Article).where(Article.id == 1).values({"headline": "new"})
    return written.execution_options(synchronize_session=False), None


@_scenario
def _update_with_criteria(_: str) -> Statement:
    criteria = with_loader_criteria(Article, Article.id > 1)
    return update(Article).where(Article.id < 4).values(name="new").options(criteria), None


@_scenario
def _update_of_a_composite_key(_: str) -> Statement:
    return update(Seat).where(Seat.row == "A").values(taken=True), None


@_scenario
def _update_of_a_base(_: str) -> Statement:
    return update(Animal).values(name="all"), None


@_scenario
def _update_of_a_joined_class(_: str) -> Statement:
    return update(Cat).where(Cat.lives > 0).values(lives=7), None


@_scenario
def _update_of_a_joined_class_by_its_base(_: str) -> Statement:
    matches = Cat.id == Animal.id
    return update(Cat).where(matches, Animal.name == "tom").values(lives=7), None


@_scenario
def _update_of_a_joined_class_with_criteria(_: str) -> Statement:
    criteria = with_loader_criteria(Cat, Cat.lives > 1)
    return update(Cat).values(lives=7).options(criteria), None


@_scenario
def _update_of_a_deferred_column(_: str) -> Statement:
    return update(Article).where(Article.id < 3).values(body="new"), None


@_scenario
def _update_of_a_deferred_column_by_key(_: str) -> Statement:
    return update(Article), [{"id": 1, "body": "one"}, {"id": 3, "body": "text"}]


@_scenario
def _update_of_a_single_table_class(_: str) -> Statement:
    return update(Dog).values(tricks=4), None


@_scenario
def _update_returning_entities(_: str) -> Statement:
    return update(Article).where(Article.id < 3).values(name="new").returning(Article), None


@_scenario
def _update_returning_columns(_: str) -> Statement:
    written = update(Article).where(Article.id < 3).values(name="new")
    return written.returning(Article.id, Article.name.label("title"), Article.views + 1), None


@_scenario
def _update_returning_a_bundle(_: str) -> Statement:
    bundle = Bundle("pair", Article.id, Article.name)
    return update(Article).where(Article.id < 3).values(name="new").returning(bundle), None


@_scenario
def _update_by_key(_: str) -> Statement:
    return update(Article), [{"id": 1, "name": "one"}, {"id": 3, "name": "three"}]


@_scenario
def _update_by_key_of_a_joined_class(_: str) -> Statement:
    return update(Cat), [{"id": 2, "name": "tim", "lives": 3}, {"id": 3, "lives": 2}]


@_scenario
def _update_of_an_alias(dialect: str) -> Statement:
    other = aliased(Article)
    written = update(other).where(other.id < 3).values(name="new")
    if dialect in MYSQL:  # SQLAlchemy would read the keys of all rows to synchronise the session
        written = written.execution_options(synchronize_session=False)
    return written, None


@_scenario
def _update_returning_defaults(_: str) -> Statement:
    return update(Article).where(Article.id < 3).values(name="new").return_defaults(), None


@_scenario
def _update_returning_one_default(_: str) -> Statement:
    written = update(Article).where(Article.id < 3).values(name="new")
    return written.return_defaults(Article.revision), None


@_scenario
def _delete_of_an_alias(dialect: str) -> Statement:
    other = aliased(Article)
    written = delete(other).where(other.id < 3)
    if dialect in MYSQL:  # as above
        written = written.execution_options(synchronize_session=False)
    return written, None


@_scenario
def _delete(_: str) -> Statement:
    return delete(Article).where(Article.id < 3), None


@_scenario
def _delete_of_nothing(_: str) -> Statement:
    return delete(Article).where(Article.id == 77), None


@_scenario
def _delete_of_a_composite_key(_: str) -> Statement:
    return delete(Seat).where(Seat.place == 2), None


@_scenario
def _delete_of_a_base(_: str) -> Statement:
    return delete(Animal).where(Animal.id > 1), None


@_scenario
def _delete_of_a_joined_class(_: str) -> Statement:
    return delete(Cat), None


@_scenario
def _delete_of_a_single_table_class(_: str) -> Statement:
    return delete(Dog), None


@_scenario
def _delete_returning_entities(_: str) -> Statement:
    return delete(Article).where(Article.id < 3).returning(Article), None


@_scenario
def _delete_returning_a_column(_: str) -> Statement:
    return delete(Article).where(Article.id < 3).returning(Article.name), None


@_scenario
def _insert_one(_: str) -> Statement:
    return insert(Article).values(name="new"), None


@_scenario
def _insert_one_with_its_key(_: str) -> Statement:
    return insert(Seat).values(row="C", place=1), None


@_scenario
def _insert_several_values(_: str) -> Statement:
    return insert(Article).values([{"name": "one"}, {"name": "two"}]), None


@_scenario
def _insert_several_values_with_their_keys(_: str) -> Statement:
    return insert(Article).values([{"id": 60, "name": "one"}, {"id": 55, "name": "two"}]), None


@_scenario
def _insert_with_a_parameter(_: str) -> Statement:
    return insert(Article), {"name": "new"}


@_scenario
def _insert_many(_: str) -> Statement:
    return insert(Article), [{"name": "one"}, {"name": "two"}, {"name": "three"}]


@_scenario
def _insert_many_unlike(_: str) -> Statement:
    return insert(Article), [{"name": "one"}, {"name": "two", "status": "published"}]


@_scenario
def _insert_many_with_values(_: str) -> Statement:
    return insert(Article).values(status="published"), [{"name": "one"}, {"name": "two"}]


@_scenario
def _insert_many_with_their_keys(_: str) -> Statement:
    return insert(Seat), [{"row": "C", "place": 1}, {"row": "C", "place": 2}]


@_scenario
def _insert_many_of_a_single_table_class(_: str) -> Statement:
    return insert(Dog), [{"name": "one", "tricks": 1}, {"name": "two", "tricks": 2}]


@_scenario
def _insert_many_of_a_joined_class(_: str) -> Statement:
    return insert(Cat), [{"name": "one", "lives": 1}, {"name": "two", "lives": 2}]


@_scenario
def _insert_many_of_a_joined_class_returning(_: str) -> Statement:
    return insert(Cat).returning(Cat), [{"name": "one", "lives": 1}, {"name": "two", "lives": 2}]


@_scenario
def _insert_returning_defaults(_: str) -> Statement:
    return insert(Article).values(name="new").return_defaults(Article.views), None


@_scenario
def _insert_from_select(_: str) -> Statement:
    found = select(Article.name, Article.status).where(Article.id < 3).order_by(Article.id)
    return insert(Article).from_select(["headline", "status"], found), None


@_scenario
def _insert_from_select_with_keys(_: str) -> Statement:
    found = select(Article.id + 50, Article.name).where(Article.id < 3).order_by(Article.id)
    return insert(Article).from_select(["id", "headline"], found), None


@_scenario
def _insert_returning_an_entity(_: str) -> Statement:
    return insert(Article).values(name="new").returning(Article), None


@_scenario
def _insert_many_returning(_: str) -> Statement:
    written = insert(Article).returning(Article.id, Article, sort_by_parameter_order=True)
    return written, [{"name": "one"}, {"name": "two"}]


@_scenario
def _insert_many_returning_a_literal(_: str) -> Statement:
    return insert(Article).returning(literal(1)), [{"name": "one"}, {"name": "two"}]


@_scenario
def _insert_from_select_returning(_: str) -> Statement:
    found = select(Article.name).where(Article.id < 3).order_by(Article.id)
    return insert(Article).from_select(["headline"], found).returning(Article.name), None


@_scenario
def _upsert_of_a_new_row(dialect: str) -> Statement:
    return upsert(dialect, Article, {"views": 9}, name="new", slug="z"), None


@_scenario
def _upsert_of_an_old_row(dialect: str) -> Statement:
    return upsert(dialect, Article, _renamed, name="new", slug="a"), None


@_scenario
def _upsert_of_a_deferred_column(dialect: str) -> Statement:
    return upsert(dialect, Article, {"body": "new"}, name="new", slug="a"), None


@_scenario
def _upsert_many(dialect: str) -> Statement:
    rows = [{"name": "one", "slug": "a"}, {"name": "two", "slug": "z"}]
    return upsert(dialect, Article, _renamed, many=True), rows


@_scenario
def _upsert_returning(dialect: str) -> Statement:
    return upsert(dialect, Article, _renamed, name="new", slug="a").returning(Article), None


@_scenario
def _insert_or_nothing(dialect: str) -> Statement:
    rows = [{"name": "one", "slug": "a"}, {"name": "two", "slug": "z"}]
    if dialect in MYSQL:
        return insert(Article).values(rows).prefix_with("IGNORE"), None
    module: Any = sqlite if dialect == "sqlite" else postgresql
    return module.insert(Article).values(rows).on_conflict_do_nothing(), None


USES: dict[str, Callable[[Any], object]] = {
    "all": lambda result: result.all(),
    "first": lambda result: result.first(),
    "one_or_none": lambda result: result.one_or_none(),
    "scalar": lambda result: result.scalar(),
    "scalars": lambda result: result.scalars().all(),
    "unique": lambda result: result.unique().all(),
    "mappings": lambda result: [dict(each) for each in result.mappings()],
    "keys": lambda result: [*result.keys()],
    "fetchmany": lambda result: [result.fetchmany(1), result.fetchmany(5), result.fetchmany(1)],
    "partitions": lambda result: [[*each] for each in result.partitions(1)],
    "columns": lambda result: result.columns(0).all(),
    "fields": lambda result: [each._fields for each in result],
    "closed": lambda result: (result.close(), result.closed),
    "again": lambda result: (result.all(), _outcome(result.all)),
}
"""What a caller may do with a result."""

FACTS = (
    "rowcount",
    "inserted_primary_key",
    "inserted_primary_key_rows",
    "lastrowid",
    "returns_rows",
    "is_insert",
    "closed",
    "returned_defaults",
    "returned_defaults_rows",
)
"""The attributes of a result."""


def seen_of(result: Any, use: str | None) -> object:
    """What a caller sees of a result: of one use of it, or of its attributes."""
    if use is None:
        facts = [
            f"{name}: {_outcome(lambda name=name: getattr(result, name))}"
            for name in FACTS
            if name != "lastrowid" or getattr(result, "is_insert", False)  # else it means nothing
        ]
        return [type(result).__name__, *facts]
    return _outcome(lambda: USES[use](result))


def _outcome(work: Callable[[], object]) -> str:
    try:
        return _shown(work())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _shown(value: object) -> str:
    if isinstance(value, Base):
        return f"{type(value).__name__} {value.__dict__.get('id')}"
    if isinstance(value, Mapping):
        return str({key: _shown(each) for key, each in value.items()})
    if isinstance(value, (list, tuple)) or hasattr(value, "_fields"):
        return f"[{', '.join(map(_shown, value))}]"
    return repr(value)


def load(session: Session) -> list[Any]:
    """Instances in all states: loaded, expired, changed, with a deferred column, deleted."""
    articles = {each.id: each for each in session.scalars(select(Article))}
    others = [*session.scalars(select(Animal)), *session.scalars(select(Seat))]
    found = sorted([*articles.values(), *others], key=lambda each: repr(inspect(each).identity))
    session.expire(articles[2])
    articles[3].name = "pending"
    assert articles[1].body == "text"
    return found


def states_of(session: Session, instances: list[Any]) -> Iterator[object]:
    """What the session holds, instance by instance."""
    for each in instances:
        state = each._sa_instance_state
        values = {key: _shown(value) for key, value in each.__dict__.items() if key[0] != "_"}
        yield (
            state.key,
            values,
            sorted(state.expired_attributes),
            sorted(state.committed_state),
            (state.persistent, state.deleted, state.detached),
        )
    yield sorted(map(repr, (key[:2] for key in session.identity_map)))
