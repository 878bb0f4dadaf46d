"""UPDATEs and DELETEs whose rows are locked and read before: no other transaction comes between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from kit import databases
from kit.databases import Database
from kit.statements import Animal, Article, Base, Cat, Seat, Tiger, fill
from kit.support import Recorder
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    inspect,
    literal_column,
    select,
    text,
    union,
    update,
)
from sqlalchemy.dialects import mysql as dialect_of_mysql
from sqlalchemy.exc import OperationalError, PendingRollbackError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    with_loader_criteria,
)
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql import base as sql_base

from aksara_signals import StatementSignalError, post_delete, post_save, post_update
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.statements import updating

BEFORE_18 = (15, 0)
"""The version of a PostgreSQL whose RETURNING doesn't know old values."""
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
on_mariadb = pytest.mark.parametrize("database", ["mariadb"], indirect=True)
on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
PATIENCE = 20.0
"""The seconds after which something that never happens fails the test."""

RENAME = update(Article).where(Article.status == "draft").values(name="new")
OCCUPY = update(Seat).where(Seat.row == "A").values(taken=True)


@pytest.fixture
def engine(sync_engine: Engine) -> Engine:
    """An engine on a database with rows; a PostgreSQL is taken for one that returns no old values."""
    Base.metadata.create_all(sync_engine)
    with sync_engine.begin() as connection:
        fill(connection)
    if sync_engine.dialect.name == "postgresql":
        sync_engine.dialect.server_version_info = BEFORE_18
    return sync_engine


@pytest.fixture
def others(database: Database) -> Iterator[Engine]:
    """An engine for other transactions, which wait for locks only a moment."""
    if database.dialect == "sqlite":
        engine = create_engine(database.sync_url, connect_args={"timeout": 0.05})
    else:
        engine = database.create_sync_engine()
        event.listen(engine, "connect", _wait_only_a_moment)
    yield engine
    engine.dispose()


def _wait_only_a_moment(connection: Any, _record: object) -> None:
    is_postgresql = hasattr(connection, "pgconn")
    with connection.cursor() as cursor:
        cursor.execute(
            "SET lock_timeout = '50ms'" if is_postgresql else "SET innodb_lock_wait_timeout = 0"
        )
    connection.commit()


@pytest.fixture
def sent() -> list[tuple[Any, Any]]:
    """The keys and changes of what receivers are sent."""
    calls: list[tuple[Any, Any]] = []

    def updated(instance: Any, changes: Any, **_: Any) -> None:
        calls.append((inspect(instance).identity, dict(changes)))

    def deleted(instance: Any, **_: Any) -> None:
        calls.append((inspect(instance).identity, None))

    post_update.connect(updated, sender=Base, statements=True)
    post_delete.connect(deleted, sender=Base, statements=True)
    return calls


@contextmanager
def _before(engine: Engine, beginning: str, work: Callable[[], None]) -> Iterator[list[str]]:
    """Do something before the first statement that begins so; its errors are noted."""
    errors: list[str] = []
    done: list[str] = []

    def do(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(beginning) and not done:
            done.append(statement)
            try:
                work()
            except OperationalError as error:
                errors.append(str(error.orig))

    event.listen(engine, "before_cursor_execute", do)
    try:
        yield errors
    finally:
        event.remove(engine, "before_cursor_execute", do)
    assert done


def _written_by(engine: Engine, *statements: Any) -> Callable[[], None]:
    """Another transaction that executes Core statements and commits."""

    def write() -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    return write


articles, seats, animals, cats = (each.__table__ for each in (Article, Seat, Animal, Cat))
CHANGE = update(articles).where(articles.c.id == 2).values(headline="other")
ADD = insert(articles).values(id=50, headline="phantom", status="draft", revision=1)
LOCKED = {
    "sqlite": "database is locked",
    "postgresql": "lock timeout",
    "mariadb": "Lock wait timeout",
}


PROCESS = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}
BLOCKED = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE {} = ANY(pg_blocking_pids(pid))",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_lock_waits JOIN "
    "information_schema.innodb_trx ON trx_id = blocking_trx_id WHERE trx_mysql_thread_id = {}",
}
"""Counts those who wait for a process."""


# -- nobody comes between --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "beginning", "change"),
    [
        (RENAME, "UPDATE article SET headline", CHANGE),
        (OCCUPY, "UPDATE seat SET taken", update(seats).values(taken=True)),
        (delete(Animal), "DELETE", update(animals).values(name="other")),
    ],
    ids=["update", "composite key", "delete of a joined class"],
)
def test_rows_are_locked_from_the_reading_on(
    engine: Engine, others: Engine, sent: Any, statement: Any, beginning: str, change: Any
) -> None:
    """Nobody else can change them before the statement does."""
    with Session(engine) as session:
        with _before(engine, beginning, _written_by(others, change)) as errors:
            session.execute(statement)
        session.commit()
    assert len(errors) == 1
    assert LOCKED[engine.dialect.name] in errors[0]
    assert sent


@on_sqlite
@pytest.mark.parametrize("has_recipe", [True, False], ids=["begin recipe", "legacy transactions"])
@pytest.mark.parametrize("beginning", ["SELECT article", "UPDATE article SET headline"])
def test_sqlite_is_locked_before_the_reading(
    engine: Engine, database: Database, others: Engine, sent: Any, has_recipe: bool, beginning: str
) -> None:
    """Also if the driver would begin a transaction no earlier than at the statement."""
    own = engine if has_recipe else create_engine(database.sync_url)
    with Session(own) as session:
        with _before(own, beginning, _written_by(others, CHANGE)) as errors:
            session.execute(RENAME)
        session.commit()
    own.dispose()
    assert errors == ["database is locked"]
    assert [changes["name"][0] for _, changes in sent] == [f"title {n}" for n in (1, 2, 3, 4)]


@on_servers
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"headline": "other"}, ("other", "new")),
        ({"status": "published"}, None),
    ],
    ids=["changed", "no longer found"],
)
def test_a_row_that_another_transaction_is_changing_is_waited_for(
    engine: Engine, sent: Any, values: Any, expected: Any
) -> None:
    """Its old values are those that the other one has committed, if it is found then."""
    with engine.connect() as other:
        other.execute(update(articles).where(articles.c.id == 2).values(values))
        holder = other.exec_driver_sql(PROCESS[engine.dialect.name]).scalar_one()
        errors: list[BaseException] = []

        def rename() -> None:
            try:
                with Session(engine) as session:
                    session.execute(RENAME)
                    session.commit()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=rename)
        thread.start()
        _wait_for_a_blocked_one(engine, holder)
        other.commit()
        thread.join(PATIENCE)
    assert errors == []
    changes = {key[0]: each["name"] for key, each in sent}
    assert changes.pop(2, None) == expected
    assert [*changes] == [1, 3, 4]
    with Session(engine) as session:
        found = session.scalar(select(Article.name).where(Article.id == 2))
    assert found == ("new" if expected else "title 2")


def _wait_for_a_blocked_one(engine: Engine, holder: int) -> None:
    deadline = time.monotonic() + PATIENCE
    query = BLOCKED[engine.dialect.name].format(holder)
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.exec_driver_sql(query).scalar_one():
                return
        time.sleep(0.15)  # MariaDB looks anew only where nobody has asked for a tenth of a second
    raise AssertionError("nobody waits")


# -- what another transaction adds meanwhile ---------------------------------------------------------

PHANTOMS = {
    "update": (RENAME, "UPDATE article SET headline", [ADD], (50,)),
    "composite key": (
        OCCUPY,
        "UPDATE seat SET taken",
        [insert(seats).values(row="A", place=3, taken=False)],
        ("A", 3),
    ),
    "delete of a joined class": (
        delete(Animal),
        "DELETE",
        [
            insert(animals).values(id=50, kind="cat", name="phantom"),
            insert(cats).values(id=50, lives=1),
        ],
        (50,),
    ),
}


def _without_locks_of_gaps(engine: Engine) -> Engine:
    """The engine as PostgreSQL is by default; MariaDB would lock where no rows are yet."""
    return engine.execution_options(isolation_level="READ COMMITTED")


@on_mariadb
@pytest.mark.parametrize("name", PHANTOMS)
def test_rows_cannot_come_after_the_reading_by_default(
    engine: Engine, others: Engine, sent: Any, name: str
) -> None:
    """MariaDB's locks of a REPEATABLE READ hold off new rows as well."""
    statement, beginning, additions, key = PHANTOMS[name]
    with Session(engine) as session:
        with _before(engine, beginning, _written_by(others, *additions)) as errors:
            session.execute(statement)
        session.commit()
    assert len(errors) == 1
    assert key not in [each for each, _ in sent]


@on_servers
@pytest.mark.parametrize("name", PHANTOMS)
def test_rows_that_come_after_the_reading_are_left_alone(
    engine: Engine, others: Engine, sent: Any, name: str
) -> None:
    """They are neither written nor sent; the statement could as well have been executed before."""
    statement, beginning, additions, key = PHANTOMS[name]
    cls = statement.table._annotations["parententity"].class_
    with Session(_without_locks_of_gaps(engine)) as session:
        with _before(engine, beginning, _written_by(others, *additions)) as errors:
            result = session.execute(statement)
        assert errors == []
        assert result.rowcount == len(sent)
        session.commit()
        assert key not in [each for each, _ in sent]
        phantom = session.get_one(cls, key)
        assert getattr(phantom, "name", None) in ("phantom", None)
        assert getattr(phantom, "taken", False) is False


@on_servers
@pytest.mark.parametrize("name", PHANTOMS)
def test_rows_that_come_after_the_reading_of_very_many_fail_the_statement(
    engine: Engine, others: Engine, sent: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More keys than a statement can name: whoever wrote other rows than were read is rolled back."""
    monkeypatch.setattr(updating, "MAX_RESTRICTED", 1)
    statement, beginning, additions, key = PHANTOMS[name]
    cls = statement.table._annotations["parententity"].class_
    with Session(_without_locks_of_gaps(engine)) as session:
        session.execute(insert(Article).values(name="earlier", status="other"))
        with (
            _before(engine, beginning, _written_by(others, *additions)),
            pytest.raises(StatementSignalError, match="repeat the transaction"),
        ):
            session.execute(statement)
        assert sent == []
        with pytest.raises(PendingRollbackError):
            session.commit()
        session.rollback()
        assert (
            session.scalars(select(Article).where(Article.name.in_(["new", "earlier"]))).all() == []
        )
        assert session.get_one(cls, key)
        session.execute(statement)
        session.commit()
    assert key in [each for each, _ in sent]


# -- snapshots of MariaDB ----------------------------------------------------------------------------


@pytest.fixture
def snapshot(engine: Engine) -> Iterator[Session]:
    """A session whose queries read the rows as they are now, whatever others commit."""
    with Session(engine) as session:
        session.scalars(select(Article.id)).all()
        yield session


@on_mariadb
@pytest.mark.parametrize("parameters", [None, [{"id": 2, "name": "other"}]], ids=["one", "by key"])
def test_a_row_that_was_left_as_it_is_is_sent_as_it_is(
    snapshot: Session, others: Engine, sent: Any, parameters: Any
) -> None:
    """InnoDB makes no version of a row that has the values already: queries read an older one."""
    sent_names: list[str] = []
    post_save.connect(
        lambda instance, **_: sent_names.append(instance.name),
        sender=Article,
        statements=True,
        weak=False,
    )
    _written_by(others, CHANGE.values(revision=articles.c.revision))()
    changed = update(Article)
    if parameters is None:
        changed = changed.where(Article.id == 2).values(name="other", revision=Article.revision)
    else:
        parameters[0]["revision"] = 1
    snapshot.execute(changed, parameters)
    assert sent == [((2,), {})]
    assert sent_names == ["other"]


@on_mariadb
@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (delete(Cat).where(Cat.id == 50), None),
        (update(Cat).where(Cat.id == 50).values(lives=9), None),
        (update(Cat), [{"id": 50, "lives": 9}]),
        (update(Animal).where(Animal.id == 50).values(name="new"), None),
        (delete(Animal).where(Animal.id == 50), None),
    ],
    ids=["delete", "update", "update by key", "update of a base", "delete of a base"],
)
def test_rows_that_queries_do_not_see_yet_have_their_class_and_their_values(
    snapshot: Session, others: Engine, sent: Any, statement: Any, parameters: Any
) -> None:
    """A statement writes what others have committed meanwhile, in all of its tables."""
    found: list[Any] = []

    def note(sender: Any, instance: Any, **_: Any) -> None:
        found.append((sender, {"id", "name", "kind", "lives", "stripes"} - {*vars(instance)}))

    for signal in (post_save, post_delete):
        signal.connect(note, sender=Animal, statements=True)
    added = [
        insert(animals).values(id=50, kind="tiger", name="shy"),
        insert(cats).values(id=50, lives=1, stripes=3),
    ]
    _written_by(others, *added)()
    snapshot.execute(statement, parameters)
    assert [key for key, _ in sent] == [(50,)]
    assert found == [(Tiger, set())]


OTHER_SEAT = aliased(Seat)
TAKEN = select(Seat.place).where(Seat.taken)
SUBQUERIES = {
    "in": Article.id.in_(TAKEN),
    "exists": exists().where(Seat.place == Article.id, Seat.taken),
    "correlated": select(func.count()).where(Seat.place == Article.id, Seat.taken).scalar_subquery()
    > 0,
    "nested": Article.id.in_(select(OTHER_SEAT.place).where(OTHER_SEAT.place.in_(TAKEN))),
    "derived": Article.id.in_(select(TAKEN.subquery().c.place)),
    "joined": (Article.id == Seat.place) & Seat.taken,
}


@on_mariadb
@pytest.mark.parametrize("name", SUBQUERIES)
def test_criteria_find_what_others_have_committed(
    snapshot: Session, others: Engine, sent: Any, name: str
) -> None:
    """As those of the statement do without receivers: a plain SELECT would find an older state."""
    _written_by(others, update(seats).where(seats.c.place == 2).values(taken=True))()
    statement = update(Article).where(SUBQUERIES[name]).values(name="new")
    options = {"synchronize_session": False}
    snapshot.execute(statement, execution_options=options)
    assert [key for key, _ in sent] == [(2,)]
    names = snapshot.scalars(select(Article.name).with_for_update()).all()
    assert names == ["title 1", "new", "title 3", "title 4"]


def _where_taken(cls: Any) -> Any:
    return cls.id.in_(TAKEN)


OPTIONS = {
    "criterion": [with_loader_criteria(Article, Article.id.in_(TAKEN))],
    "correlated": [
        with_loader_criteria(
            Article, exists().where(Seat.place == Article.id, Seat.taken), include_aliases=True
        )
    ],
    "function": [with_loader_criteria(Article, _where_taken)],
    "function for a base": [with_loader_criteria(Base, _where_taken, include_aliases=True)],
    "of a subquery": [
        with_loader_criteria(Article, Article.id.in_(select(Animal.id))),
        with_loader_criteria(Animal, Animal.id.in_(TAKEN)),
    ],
}


@on_mariadb
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_criteria_of_options_find_what_others_have_committed(
    mysql: Engine, others: Engine, sent: Any, verb: str, name: str
) -> None:
    """Those of ``with_loader_criteria()`` too, also where they hold for a subquery."""
    statement: Any = update(Article).values(name="new") if verb == "update" else delete(Article)
    with Session(mysql) as snapshot:
        snapshot.scalars(select(Article.id)).all()
        _written_by(others, update(seats).where(seats.c.place == 2).values(taken=True))()
        limited = statement.options(*OPTIONS[name])
        result = snapshot.execute(limited, execution_options={"synchronize_session": False})
        assert result.rowcount == 1
        assert [key for key, _ in sent] == [(2,)]


@on_mariadb
def test_values_of_criteria_of_options_are_those_of_the_statement(
    snapshot: Session, sent: Any
) -> None:
    """Of two statements alike, one of which SQLAlchemy has compiled, each has its own."""
    for place in (1, 2):
        by_place = select(Seat.place).where(Seat.place == place)
        for criteria in (
            Article.id.in_(by_place),
            lambda cls: cls.id.in_(select(Seat.place).where(Seat.place == place)),
        ):
            option = with_loader_criteria(Article, criteria)
            sent.clear()
            snapshot.execute(update(Article).values(name="new").options(option))
            assert [key for key, _ in sent] == [(place,)]


@on_mariadb
def test_criteria_of_options_hold_for_joined_classes(
    snapshot: Session, others: Engine, sent: Any
) -> None:
    """Whose rows are read from the table that the statement names."""
    _written_by(others, update(seats).where(seats.c.place == 2).values(taken=True))()
    option = with_loader_criteria(Cat, Cat.id.in_(TAKEN))
    options = {"synchronize_session": False}
    snapshot.execute(update(Cat).values(lives=3).options(option), execution_options=options)
    assert [key for key, _ in sent] == [(2,)]


@on_mariadb
def test_statements_with_the_same_subquery_do_not_deadlock(engine: Engine, sent: Any) -> None:
    """Shared locks of what a statement then writes would let each wait for the others."""
    # Of few rows, InnoDB would read and lock all before it looks into the subquery.
    _written_by(
        engine, insert(articles).values([{"headline": "x", "status": "y", "revision": 1}] * 100)
    )()
    first = select(Article.id).order_by(Article.id).limit(2).subquery()
    renamed = update(Article).where(Article.id.in_(select(first.c.id)))
    count, rounds = 3, 10
    start = threading.Barrier(count)
    errors: list[BaseException] = []

    def rename(number: int) -> None:
        for each in range(rounds):
            try:
                with Session(engine) as session:
                    session.connection()
                    start.wait(PATIENCE)
                    session.execute(renamed.values(name=f"{number} {each}"))
                    session.commit()
            except OperationalError as error:
                errors.append(error)

    threads = [threading.Thread(target=rename, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert len(sent) == count * rounds * 2


AS_TEXT = text("id IN (Select place FROM seat WHERE taken)")
UNLOCKABLE = {
    "union": Article.id.in_(union(TAKEN, TAKEN)),
    "joined subquery": Article.id == TAKEN.subquery().c.place,
    "text": AS_TEXT,
    "text in a subquery": Article.id.in_(select(Article.id).where(AS_TEXT)),
    "textual select": Article.id.in_(text("TABLE seat").columns(Seat.place)),
    "literal column": Article.id == literal_column("(SELECT min(place) FROM seat)"),
}


@on_mariadb
@pytest.mark.parametrize("name", UNLOCKABLE)
@pytest.mark.parametrize("is_option", [False, True], ids=["where", "option"])
def test_subqueries_that_cannot_lock_are_refused(
    snapshot: Session, sent: Any, name: str, is_option: bool
) -> None:
    """What they find could be older than what the statement finds."""
    criterion, statement = UNLOCKABLE[name], update(Article).values(name="new")
    if is_option and name == "text":
        criterion = Article.id.is_not(None) & criterion  # an option takes no text alone
    option = with_loader_criteria(Article, criterion) if is_option else None
    statement = statement.where(criterion) if option is None else statement.options(option)
    options = {"synchronize_session": False}
    with pytest.raises(
        StatementSignalError, match=r"can't lock.*nothing was written.*IN or EXISTS"
    ):
        snapshot.execute(statement, execution_options=options)
    if name not in ("textual select", "joined subquery"):  # which MariaDB may not know
        snapshot.execute(statement, execution_options={**options, "signals": False})
    assert sent == []


@on_mariadb
def test_text_without_a_select_is_not_refused(snapshot: Session, sent: Any) -> None:
    """Nor are criteria for classes of which the statement has none."""
    other = with_loader_criteria(Seat, Seat.place.in_(union(TAKEN, TAKEN)))
    statement = update(Article).where(text("id = 2 AND status <> 'selected'")).values(name="new")
    snapshot.execute(statement.options(other))
    assert [key for key, _ in sent] == [(2,)]


# -- statements of MySQL and MariaDB -----------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["MariaDB", "MySQL"])
def mysql(request: pytest.FixtureRequest, engine: Engine) -> Engine:
    """The engine, also as one of a MySQL, which returns no rows at all."""
    if request.param:
        databases.take_for_mysql(engine)
    return engine


def _limited_by_option(statement: Any) -> Any:
    return statement.with_dialect_options(mariadb_limit=2)


def _limited_by_clause(statement: Any) -> Any:
    if not hasattr(dialect_of_mysql, "limit"):
        pytest.skip("SQLAlchemy 2.0 has no such clause")
    return statement.ext(dialect_of_mysql.limit(2))


@on_mariadb
@pytest.mark.parametrize("limit", [_limited_by_option, _limited_by_clause], ids=["2.0", "2.1"])
@pytest.mark.parametrize("maximum", [updating.MAX_RESTRICTED, 1])
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a_limit_holds_for_the_rows_that_are_sent(
    mysql: Engine, sent: Any, verb: str, maximum: int, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many are written, and they are those that are sent."""
    monkeypatch.setattr(updating, "MAX_RESTRICTED", maximum)
    statement: Any = update(Article).values(name="new") if verb == "update" else delete(Article)
    limited = limit(statement.where(Article.id > 1))
    with Session(mysql) as session:
        assert session.execute(limited).rowcount == 2
        left = session.scalars(select(Article.id).where(Article.name != "new"))
        assert {1, 2, 3, 4} - {*left} == {key[0] for key, _ in sent}
    assert len(sent) == 2


@on_mariadb
def test_other_syntax_after_the_criteria_is_refused(mysql: Engine, sent: Any) -> None:
    """A SELECT of the same rows isn't known; a DELETE of MariaDB returns them."""
    if not hasattr(sql_base, "SyntaxExtension"):
        pytest.skip("SQLAlchemy 2.0 knows none")

    class Newest(sql_base.SyntaxExtension, ClauseElement):
        inherit_cache = False

        def apply_to_update(self, statement: Any) -> None:
            statement.apply_syntax_extension_point(lambda _: [self], "post_criteria")

        apply_to_delete = apply_to_update

    @compiles(Newest)
    def newest(*_: Any, **__: Any) -> str:
        return "ORDER BY article.id DESC LIMIT 1"

    with Session(mysql) as session:
        with pytest.raises(StatementSignalError, match=r"syntax follows.*nothing was written"):
            session.execute(update(Article).values(name="new").ext(Newest()))
        gone = delete(Article).ext(Newest())
        if mysql.dialect.delete_returning:
            session.execute(gone, execution_options={"synchronize_session": False})
            assert sent == [((4,), None)]
            return
        with pytest.raises(StatementSignalError, match="syntax follows"):
            session.execute(gone)
        assert sent == []


@on_mariadb
@pytest.mark.parametrize("mode", ["auto", "fetch", False])
def test_criteria_of_other_tables(mysql: Engine, sent: Any, mode: Any) -> None:
    """UPDATE..FROM is an UPDATE of several tables; DELETE..USING returns nothing on MariaDB either."""
    options = {"synchronize_session": mode, "is_delete_using": True, "is_update_from": True}
    matches = Article.id == Seat.place
    with Session(mysql) as session:
        changed = update(Article).where(matches, Seat.taken.is_(False)).values(name=Seat.row)
        assert session.execute(changed, execution_options=options).rowcount == 2
        assert [key for key, _ in sent] == [(1,), (2,)]
        sent.clear()
        gone = delete(Article).where(matches, Seat.row == "A")
        assert session.execute(gone, execution_options=options).rowcount == 2
        assert sent == [((1,), None), ((2,), None)]
        assert session.scalars(select(Article.id)).all() == [3, 4]


@on_mariadb
def test_an_update_that_sets_columns_of_other_tables_is_refused(mysql: Engine, sent: Any) -> None:
    """What it changes there would be sent to nobody; a column of the class's own table is sent."""
    matches = Article.id == Seat.place
    with Session(mysql) as session:
        with pytest.raises(
            StatementSignalError, match=r"other tables.*nothing was written: write a"
        ):
            session.execute(
                update(Article).where(matches).values({Article.name: "new", Seat.taken: 1})
            )
        assert session.scalar(select(func.count()).where(Article.name == "new")) == 0
        renamed = update(Article).where(matches, Seat.row == "A").values({Article.name: "new"})
        session.execute(renamed)
    assert [key for key, _ in sent] == [(1,), (2,)]


@on_mariadb
def test_a_connection_that_counts_rows_otherwise_is_named_in_the_error(
    sync_engine: Engine, sent: Any
) -> None:
    """One of an engine's own ``creator=``, without the flag that SQLAlchemy sets."""
    url = sync_engine.url
    made = create_engine(
        url,
        creator=lambda: pymysql.connect(
            host=url.host or "",
            port=url.port or 3306,
            user=url.username,
            password=url.password or "",
            database=url.database,
        ),
    )
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.execute(insert(Article).values(name="new", status="x", revision=1))
        changed = update(Article).values(name="new", revision=1)
        with pytest.raises(StatementSignalError, match=r"FOUND_ROWS, if the engine has its own"):
            session.execute(changed)
    assert sent == []
    made.dispose()


@on_mariadb
def test_subqueries_of_the_same_table(mysql: Engine, sent: Any) -> None:
    """Where the database takes them, the library doesn't stand in the way."""
    newest = select(Article.id).order_by(Article.id.desc()).limit(1).scalar_subquery()
    with Session(mysql) as session:
        assert session.execute(update(Article).where(Article.id == newest).values(name="new"))
        assert [key for key, _ in sent] == [(4,)]
        session.execute(delete(Article).where(Article.id == newest))
        assert sent[1:] == [((4,), None)]


@on_mariadb
def test_a_key_that_the_database_spells_otherwise(mysql: Engine, sent: Any) -> None:
    """Its collation finds ``A`` by ``a``: what is sent is the row, as it is spelled."""
    with Session(mysql) as session:
        held = session.get_one(Seat, ("A", 1))
        session.execute(update(Seat), [{"row": "a", "place": 1, "taken": True}])
        assert sent == [(("A", 1), {"taken": (False, True)})]
        session.execute(update(Seat).where(Seat.row == "a").values(taken=False))
        assert sorted(sent[1:]) == [(("A", 1), {"taken": (True, False)}), (("A", 2), {})]
        session.refresh(held)
        assert held.taken is False
        session.execute(delete(Seat).where(Seat.row == "b", Seat.place == 1))
        assert sent[3:] == [(("B", 1), None)]


@on_mariadb
@pytest.mark.parametrize("key", [{}, {"id": 1}], ids=["key by the database", "given key"])
def test_an_insert_that_ignores_a_row_sends_nothing(
    mysql: Engine, recorder: Recorder, key: dict[str, int]
) -> None:
    """By ``INSERT IGNORE``, whose key may be that of the row which is there already."""
    recorder.record(post_save, Article, statements=True)
    with Session(mysql) as session:
        ignored = insert(Article).values(name="new", slug="a", **key).prefix_with("IGNORE")
        session.execute(ignored)
        assert recorder.calls == []
        session.execute(insert(Article).values(name="new", slug="z").prefix_with("IGNORE"))
    assert [call.payload["created"] for call in recorder.calls] == [True]


OWN = range(5, 11)
"""Of ten rows, those of one transaction: so many that MariaDB would sooner look at all of them."""
BY_KEY = {
    "list": (articles, update(Article), [{"id": each, "name": "new"} for each in OWN]),
    "composite keys": (
        seats,
        update(Seat),
        [{"row": "C", "place": each, "taken": True} for each in OWN],
    ),
    "joined class": (cats, update(Cat), [{"id": each, "lives": 3} for each in OWN]),
    "base of a joined class": (cats, update(Animal), [{"id": each, "name": "new"} for each in OWN]),
}


@on_mariadb
@pytest.mark.parametrize("with_changes", [False, True], ids=["rows", "changes"])
@pytest.mark.parametrize("name", BY_KEY)
def test_rows_of_other_transactions_are_not_waited_for(
    mysql: Engine, others: Engine, recorder: Recorder, name: str, with_changes: bool
) -> None:
    """The rows are found by their keys, and others aren't looked at, which would lock them."""
    table, statement, parameters = BY_KEY[name]
    with mysql.begin() as connection:
        for each in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(each))
        values = {"status": "x", "headline": "x", "revision": 1, "taken": False, "row": "C"}
        values |= {"kind": "cat", "name": "x", "lives": 9}
        for filled in (articles, seats, animals, cats):
            rows = [
                {"id": number, "place": number, "slug": f"s{number}", **values}
                for number in range(1, 11)
            ]
            known = [{key: row[key] for key in row if key in filled.c} for row in rows]
            connection.execute(insert(filled), known)
        connection.exec_driver_sql(f"ANALYZE TABLE {table.name}")

    def changed(instance: Any, changes: Any, **_: Any) -> None:
        assert changes

    if with_changes:
        post_update.connect(changed, sender=Base, statements=True)
    recorder.record(post_update, Base, statements=True)
    first = [column == ("C" if column.name == "row" else 1) for column in table.primary_key]
    with mysql.connect() as holder, Session(others) as session:
        holder.execute(select(table).where(*first).with_for_update())
        session.execute(statement, parameters)
    assert len(recorder.calls) == len(OWN)


class Library(SignalMixin, DeclarativeBase):
    """The base of a table of its own."""


class Book(Library):
    """Mapped to what has no primary key in the database: a view, a table with a unique key."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str]


@on_mariadb
@pytest.mark.parametrize("is_view", [False, True], ids=["unique key", "view"])
def test_a_table_without_a_primary_key_is_read_as_well(
    sync_engine: Engine, recorder: Recorder, is_view: bool
) -> None:
    """There the rows are found as the database likes."""
    table = "shelf" if is_view else "book"
    with sync_engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {table} (id INT NOT NULL UNIQUE, title VARCHAR(9))"
        )
        if is_view:
            connection.exec_driver_sql("CREATE VIEW book AS SELECT * FROM shelf")
        connection.execute(
            insert(Book.__table__), [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]
        )
    recorder.record(post_update, Book, statements=True)
    with Session(sync_engine) as session:
        session.execute(update(Book).values(title="c"))
        session.execute(update(Book), [{"id": 2, "title": "d"}])
        session.commit()
        assert session.scalars(select(Book.title).order_by(Book.id)).all() == ["c", "d"]
    assert [call.payload["instance"].title for call in recorder.calls] == ["c", "c", "d"]


class Token(Base):
    """A key that the database makes, and MySQL doesn't return."""

    __tablename__ = "token"
    id: Mapped[str] = mapped_column(primary_key=True)


@on_mariadb
def test_a_key_that_nobody_returns_fails_the_insert(mysql: Engine, recorder: Recorder) -> None:
    """Rolled back, as its row can't be sent; MariaDB returns it."""
    recorder.record(post_save, Token, statements=True)
    added = insert(Token).values(id=func.concat("a", "b"))
    with Session(mysql) as session:
        if mysql.dialect.insert_returning:
            session.execute(added)
            assert [call.payload["instance"].id for call in recorder.calls] == ["ab"]
            return
        with pytest.raises(StatementSignalError, match=r"can't be found.*give the key"):
            session.execute(added)
        session.rollback()
        assert session.scalars(select(Token.id)).all() == []
        assert recorder.calls == []


# -- tables without RETURNING ------------------------------------------------------------------------


class Quiet(SignalMixin, DeclarativeBase):
    """The base of a class whose table returns nothing."""


class Note(Quiet):
    __tablename__ = "note"
    __table_args__ = {"implicit_returning": False}
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    length: Mapped[int] = mapped_column(server_default="0")


@pytest.fixture
def notes(sync_engine: Engine) -> Iterator[Session]:
    """A session on three notes, and none of its statements returns rows by itself."""
    Quiet.metadata.create_all(sync_engine)
    executed: list[str] = []
    event.listen(sync_engine, "before_cursor_execute", lambda *given: executed.append(given[2]))
    with Session(sync_engine) as session:
        rows = [{"id": number, "text": f"text {number}"} for number in (1, 2, 3)]
        session.execute(insert(Note.__table__), rows)
        session.commit()
        yield session
    assert not any("RETURNING" in each and "note.id AS" in each for each in executed)


@pytest.mark.parametrize("with_changes", [True, False])
def test_tables_that_return_nothing_are_read(notes: Session, with_changes: bool) -> None:
    """The rows of an UPDATE, of a DELETE and of an INSERT of one row are sent, with their values."""
    sent: list[Any] = []

    def plain(instance: Note, created: bool, **_: Any) -> None:
        sent.append((created, instance.id, instance.text, instance.length))

    def changed(changes: Any, **arguments: Any) -> None:
        plain(**arguments)
        sent.append(dict(changes))

    def deleted(instance: Note, **_: Any) -> None:
        sent.append(("deleted", instance.id, instance.text))

    post_save.connect(changed if with_changes else plain, sender=Note, statements=True)
    post_delete.connect(deleted, sender=Note, statements=True)

    def take() -> list[Any]:
        found = sent[:]
        sent.clear()
        return found

    result = notes.execute(update(Note).where(Note.id < 3).values(text="new"))
    assert result.rowcount == 2
    expected: list[Any] = []
    for number in (1, 2):
        expected.append((False, number, "new", 0))
        expected += [{"text": (f"text {number}", "new")}] * with_changes
    assert take() == expected
    result = notes.execute(insert(Note).values(id=9, text="more"))
    assert result.inserted_primary_key == (9,)
    assert take() == [
        (True, 9, "more", 0),
        *[{"id": (None, 9), "text": (None, "more")}] * with_changes,
    ]
    assert notes.execute(delete(Note).where(Note.id == 3)).rowcount == 1
    assert take() == [("deleted", 3, "text 3")]


def test_many_rows_that_are_not_returned_are_refused(notes: Session) -> None:
    """Nobody would know their keys, so nothing is written."""
    post_save.connect(lambda **_: None, sender=Note, statements=True, weak=False)
    with pytest.raises(StatementSignalError, match="nothing was written"):
        notes.execute(insert(Note), [{"text": "one"}, {"text": "two"}])
    assert notes.scalars(select(Note.id)).all() == [1, 2, 3]
    notes.commit()


# -- primary keys that change ------------------------------------------------------------------------

MOVE = update(Seat).where(Seat.row == "A", Seat.place == 2).values(place=7)


@on_postgresql
def test_a_primary_key_may_change_where_old_values_are_returned(engine: Engine, sent: Any) -> None:
    """The row is sent with its new key, and the old one is among the changes."""
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
    if int(version) < 180000:
        pytest.skip("the server doesn't return old values")
    engine.dialect.server_version_info = (18, 0)
    with Session(engine) as session:
        session.execute(MOVE)
        session.commit()
    assert sent == [(("A", 7), {"place": (2, 7)})]


def test_a_primary_key_that_changes_is_refused_elsewhere(engine: Engine, sent: Any) -> None:
    """Which new key belongs to which old row isn't known, so nothing is written."""
    with Session(engine) as session:
        with pytest.raises(StatementSignalError, match="it changes the primary key"):
            session.execute(MOVE)
        assert session.get_one(Seat, ("A", 2))
        session.commit()
    assert sent == []


def test_a_primary_key_may_change_if_nobody_asks_for_changes(engine: Engine) -> None:
    """The rows are returned with their new keys; MariaDB returns none."""
    sent: list[Any] = []

    @post_save(Seat, statements=True)
    def note(instance: Seat, **_: Any) -> None:
        sent.append((instance.row, instance.place))

    with Session(engine) as session:
        if not engine.dialect.update_returning:
            with pytest.raises(StatementSignalError, match="it changes the primary key"):
                session.execute(MOVE)
            return
        session.execute(MOVE)
        session.commit()
    assert sent == [("A", 7)]


# -- classes in several tables -----------------------------------------------------------------------


def test_a_joined_class_is_read_without_the_join_that_the_statement_lacks(
    database: Database, engine: Engine, sent: Any
) -> None:
    """An UPDATE joins the tables only if its criteria say so; SQLAlchemy warns of one that doesn't."""
    own = database.create_sync_engine(enable_from_linting=False)
    if database.dialect == "postgresql":
        databases.take_for(own, BEFORE_18)
    with Session(own) as session:
        session.execute(update(Cat).where(Animal.name == "tom").values(lives=7))
        session.commit()
    own.dispose()
    assert sorted(sent) == [((2,), {"lives": (9, 7)}), ((3,), {"lives": (1, 7)})]
