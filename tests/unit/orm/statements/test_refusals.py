"""Statements that are refused: before they write, with the reason and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit.statements import Article, Base, Seat, Tiger, fill, rows_of, upsert
from kit.support import Recorder
from sqlalchemy import (
    Engine,
    ForeignKey,
    bindparam,
    delete,
    insert,
    inspect,
    join,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import StatementSignalError, post_delete, post_save, post_statement, post_update
from aksara_signals.orm import SignalMixin

Form = tuple[Any, Any, dict[str, Any]]
"""A statement, its parameters, and its execution options."""
Make = Callable[[], Form]

RENAME = update(Article).where(Article.id < 3).values(name="new")
TWO = [{"name": "one"}, {"name": "two"}]
BY_BIND = update(Article).where(Article.id == bindparam("key")).values(name=bindparam("new"))
BOUND = [{"key": 1, "new": "one"}, {"key": 2, "new": "two"}]
COLUMNS = [{"headline": "one", "status": "new"}, {"headline": "two", "status": "new"}]
FOUND = select(Article.name, Article.status).where(Article.id < 3)
BY_KEY = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]

BY_UPDATE = ("from_statement", "returning text", "returning everything")
"""The statements whose RETURNING is that of an UPDATE, which MariaDB doesn't have."""
FORMS: dict[str, tuple[Form, str, str]] = {
    "from_statement": (
        (select(Article).from_statement(RENAME.returning(Article)), None, {}),
        "executes it as a SELECT",
        "execute the statement itself",
    ),
    "delete from_statement": (
        (
            select(Article).from_statement(
                delete(Article).where(Article.id < 3).returning(Article)
            ),
            None,
            {},
        ),
        "executes it as a SELECT",
        "execute the statement itself",
    ),
    "returning text": (
        (RENAME.returning(text("*")), None, {}),
        "its RETURNING has text",
        "name the columns",
    ),
    "returning everything": (
        (RENAME.returning(literal_column("*")), None, {}),
        "its RETURNING has text",
        "name the columns",
    ),
    "delete returning text": (
        (delete(Article).where(Article.id < 3).returning(text("id")), None, {}),
        "its RETURNING has text",
        "name the columns",
    ),
    "many by their own criteria": (
        (BY_BIND, BOUND, {"dml_strategy": "core_only"}),
        "with a list of parameters and dml_strategy='core_only'",
        "leave dml_strategy= out",
    ),
    "one by core_only": (
        (RENAME, None, {"dml_strategy": "core_only"}),
        "its dml_strategy is 'core_only'",
        "leave dml_strategy= out",
    ),
    "raw rows": (
        (insert(Article), COLUMNS, {"dml_strategy": "raw"}),
        "with a list of parameters and dml_strategy='raw'",
        "leave dml_strategy= out",
    ),
    "one raw row": (
        (insert(Article).values(headline="one", status="new"), None, {"dml_strategy": "raw"}),
        "its dml_strategy is 'raw'",
        "leave dml_strategy= out",
    ),
    "defaults of a SELECT": (
        (insert(Article).from_select(["headline", "status"], FOUND).return_defaults(), None, {}),
        "it has return_defaults()",
        "use returning()",
    ),
    "by key and more": (
        (update(Article).where(Article.status == "draft"), BY_KEY, {"synchronize_session": None}),
        "may leave some of them out",
        "leave the WHERE clause out",
    ),
    "a table by criteria of the class": (
        (update(Article.__table__).where(Article.id < 3).values(headline="new"), None, {}),
        "it names a table, not the class",
        "name the class",
    ),
}


def _skip_unknown(session: Session, name: str) -> None:
    if name in BY_UPDATE and not session.get_bind().dialect.update_returning:
        pytest.skip("the database has no UPDATE..RETURNING")


def _execute(session: Session, form: Form, **further: Any) -> Any:
    statement, parameters, options = form
    return session.execute(statement, parameters, execution_options={**options, **further})


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    """A session on the tables and rows."""
    Base.metadata.create_all(sync_engine)
    with sync_engine.begin() as connection:
        fill(connection)
    with Session(sync_engine) as session:
        yield session


@pytest.mark.parametrize("name", FORMS)
def test_a_refused_statement_writes_nothing(
    session: Session, recorder: Recorder, name: str
) -> None:
    """The error says why and names two ways out; what is pending stays, and the session goes on."""
    form, why, remedy = FORMS[name]
    recorder.record(post_save, Base, statements=True)
    recorder.record(post_delete, Base, statements=True)
    recorder.record(post_statement, Base)
    before = rows_of(session.connection())
    session.add(pending := Seat(row="Z", place=1))
    with pytest.raises(StatementSignalError) as refusal:
        _execute(session, form)
    message = str(refusal.value)
    for part in (why, remedy, "nothing was written", "execution_options={'signals': False}"):
        assert part in message
    assert recorder.calls == []
    assert pending in session.new
    assert rows_of(session.connection()) == before
    session.commit()
    assert recorder.names == ["post_save"]


@pytest.mark.parametrize("name", FORMS)
def test_a_refused_statement_can_be_executed_silently(
    session: Session, recorder: Recorder, name: str
) -> None:
    """It writes what it writes without receivers."""
    _skip_unknown(session, name)
    form, _, _ = FORMS[name]
    _execute(session, form)
    session.flush()
    plain = _without_keys(rows_of(session.connection()))
    session.rollback()
    recorder.record(post_save, Base, statements=True)
    recorder.record(post_delete, Base, statements=True)
    _execute(session, form, signals=False)
    assert _without_keys(rows_of(session.connection())) == plain
    assert recorder.calls == []


@pytest.mark.parametrize("name", FORMS)
def test_a_statement_is_sent_as_a_whole_where_its_rows_cannot_be(
    session: Session, recorder: Recorder, name: str
) -> None:
    """``post_statement`` needs no rows, so nothing is refused for it."""
    _skip_unknown(session, name)
    form, _, _ = FORMS[name]
    before = rows_of(session.connection())
    recorder.record(post_statement, Base)
    _execute(session, form)
    assert recorder.names == ["post_statement"]
    assert rows_of(session.connection()) != before


def _without_keys(rows: dict[str, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """The articles without the numbers that the database gives them."""
    return sorted((row[1:] for row in rows["article"]), key=repr)


def test_defaults_of_many_rows_are_refused(session: Session) -> None:
    """SQLAlchemy can return them in no way that is left to the caller."""
    post_save.connect(lambda **_: None, sender=Base, statements=True, weak=False)
    with pytest.raises(StatementSignalError, match="return_defaults"):
        session.execute(insert(Article).return_defaults(), TWO)
    assert session.scalars(select(Article.id)).all() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("signal", "options"),
    [(post_update, {}), (post_save, {"created": True}), (post_save, {"fields": ["views"]})],
    ids=["post_update", "created", "fields"],
)
def test_an_upsert_is_refused_if_a_receiver_asks_what_the_database_does_not_say(
    session: Session, recorder: Recorder, signal: Any, options: dict[str, Any]
) -> None:
    """Only a receiver of both, who asks for no changes, can be called for each row."""
    dialect = session.get_bind().dialect
    is_postgresql = dialect.name == "postgresql"
    if is_postgresql:
        dialect.server_version_info = (15, 0)
    written = upsert(dialect.name, Article, {"views": 9}, name="new", slug="a")
    recorder.record(signal, Article, statements=True, **options)
    before = rows_of(session.connection())
    is_known = is_postgresql and "fields" not in options
    if is_known:  # which rows are new is known
        session.execute(written)
        assert recorder.names == (["post_update"] if signal is post_update else [])
        return
    with pytest.raises(StatementSignalError, match="without them"):
        session.execute(written)
    assert rows_of(session.connection()) == before
    session.execute(written, execution_options={"signals": False})
    assert rows_of(session.connection()) != before
    assert recorder.calls == []


# -- classes and tables ------------------------------------------------------------------------------


class Plain(DeclarativeBase):
    """The base of a class that sends nothing."""


class OfNoReceiver(Plain):
    __tablename__ = "unwired"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_classes_without_signals_and_tables_send_nothing(
    session: Session, recorder: Recorder
) -> None:
    """Not even to receivers of everything, and nothing about them is refused."""
    Plain.metadata.create_all(session.connection())
    recorder.record(post_save, statements=True)
    recorder.record(post_delete, statements=True)
    recorder.record(post_statement)
    table = Article.__table__
    session.execute(insert(OfNoReceiver), [{"name": "one"}, {"name": "two"}])
    session.execute(update(OfNoReceiver).values(name="new"))
    session.execute(delete(OfNoReceiver).returning(text("*")))
    session.execute(update(table).where(table.c.id == 1).values(headline="new"))
    session.execute(insert(table).values(headline="new", status="new", revision=1))
    session.execute(delete(table).where(table.c.id == 2))
    for named in (Article, inspect(Article)):  # which choose an engine
        session.execute(delete(table).where(table.c.id == 3), bind_arguments={"mapper": named})
    session.execute(text("UPDATE article SET status = 'new'"))
    assert recorder.calls == []


class Wired(SignalMixin, DeclarativeBase):
    """The base of a class that is mapped to no table."""


class HalfOfBoth(Wired):
    __tablename__ = "left_part"
    id: Mapped[int] = mapped_column(primary_key=True)


class OtherHalfOfBoth(Wired):
    __tablename__ = "right_part"
    right_id: Mapped[int] = mapped_column(ForeignKey("left_part.id"), primary_key=True)


class Both(Wired):
    __table__ = join(HalfOfBoth.__table__, OtherHalfOfBoth.__table__)
    id = HalfOfBoth.__table__.c.id
    right_id = OtherHalfOfBoth.__table__.c.right_id


def test_a_class_that_is_mapped_to_no_table_is_refused(session: Session) -> None:
    """SQLAlchemy can't write to it either, unless the database has statements for that."""
    post_delete.connect(lambda **_: None, sender=Both, statements=True, weak=False)
    Wired.metadata.create_all(session.connection())
    with pytest.raises(StatementSignalError, match=r"not mapped to a table.*name the class of"):
        session.execute(delete(Both), execution_options={"synchronize_session": False})
    session.commit()


def test_a_class_that_only_another_table_distinguishes_is_refused(session: Session) -> None:
    """SQLAlchemy would write rows of its base class, too; by keys it doesn't."""
    keys: list[Any] = []

    def note(sender: Any, instance: Any, **_: Any) -> None:
        keys.append((sender, instance.id))

    post_save.connect(note, sender=Base, statements=True)
    post_delete.connect(note, sender=Base, statements=True)
    before = rows_of(session.connection())
    for statement in (update(Tiger).values(stripes=1), delete(Tiger)):
        with pytest.raises(StatementSignalError, match=r"all rows of cat.*name the base class"):
            session.execute(statement)
    assert rows_of(session.connection()) == before
    session.execute(update(Tiger), [{"id": 3, "stripes": 1}])
    assert keys == [(Tiger, 3)]
