"""Which rows are sent for a statement, judged by triggers of the database."""

from __future__ import annotations

from typing import Any

import pytest
from kit.committing import COMMIT
from kit.databases import take_for_mysql
from kit.properties.row_log import WrittenRow, log_rows
from kit.statements import (
    MYSQL,
    SCENARIOS,
    UNKNOWN_TO_MARIADB,
    Article,
    Base,
    fill,
    upsert,
)
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import InvalidRequestError, ProgrammingError
from sqlalchemy.orm import Session

from aksara_signals import StatementSignalError, post_delete, post_save, post_update

on_mariadb = pytest.mark.parametrize("database", ["mariadb"], indirect=True)
REFUSED_BY_MYSQL = (
    "insert_several",
    "insert_with_a_parameter",
    "insert_many",
    "insert_from",
    "insert_or_nothing",
    "upsert",
)
"""How the names of statements begin that may insert several rows, or none."""
Sent = dict[str, Any]


@pytest.fixture
def written() -> list[WrittenRow]:
    """What the triggers see."""
    return []


@pytest.fixture
def engine(sync_engine: Engine, written: list[WrittenRow]) -> Engine:
    """An engine on a database with the tables and triggers."""
    log_rows(sync_engine, Base.metadata, written.append)
    return sync_engine


class Sends:
    """Receivers of all rows."""

    def __init__(self, *, with_changes: bool) -> None:
        self.updated: list[Sent] = []
        self.saved: list[Sent] = []
        self.deleted: list[Sent] = []
        if with_changes:
            post_save.connect(self.save_with_changes, sender=Base, statements=True)
            post_update.connect(self.update_with_changes, sender=Base, statements=True)
        else:
            post_save.connect(self.save, sender=Base, statements=True)
        post_delete.connect(self.delete, sender=Base, statements=True)

    def save(self, sender: Any, instance: Any, created: bool | None, **_: Any) -> None:
        self.saved.append(_noted(sender, instance, created=created))

    def save_with_changes(self, changes: Any, **arguments: Any) -> None:
        self.save(**arguments)
        self.saved[-1]["changes"] = dict(changes)

    def update_with_changes(self, sender: Any, instance: Any, changes: Any, **_: Any) -> None:
        self.updated.append(_noted(sender, instance, changes=dict(changes)))

    def delete(self, sender: Any, instance: Any, **_: Any) -> None:
        self.deleted.append(_noted(sender, instance))


def _noted(sender: Any, instance: Any, **further: Any) -> Sent:
    mapper = inspect(type(instance))
    assert sender is type(instance)
    values = {
        column.name: vars(instance)[prop.key]
        for prop in mapper.column_attrs
        for column in prop.columns[:1]
        if prop.key not in ("body", "shout")
    }
    return {"class": sender, "values": values, **further}


def _by_row(written: list[WrittenRow], root: str) -> dict[Any, tuple[str, Sent, Sent]]:
    """What triggers saw of each row: the operation, the old columns and the new ones.

    Rows of one instance in several tables are put together.
    """
    found: dict[Any, tuple[str, Sent, Sent]] = {}
    for each in written:
        tables = ("animal", "cat") if root == "animal" else (root,)
        if each.table in tables:
            row = each.new or each.old
            key = (row["row"], row["place"]) if root == "seat" else row["id"]
            _, old, new = found.get(key, ("", {}, {}))
            found[key] = each.operation, {**old, **each.old}, {**new, **each.new}
    return found


def _execute(engine: Engine, name: str, written: list[WrittenRow]) -> str:
    """Execute a statement; returns the table of the class at the root of its hierarchy."""
    statement, parameters = SCENARIOS[name](engine.dialect.name)
    with Session(engine) as session:
        fill(session.connection())
        written.clear()
        session.execute(statement, parameters)
        session.commit()
    mapper: Any = statement.table._annotations["parententity"].mapper
    return str(mapper.base_mapper.local_table.name)


def _is_unknown(engine: Engine, name: str) -> bool:
    """Whether the database has no syntax for a statement."""
    return engine.dialect.name in MYSQL and name in UNKNOWN_TO_MARIADB


def _require_unknown(engine: Engine, name: str, written: list[WrittenRow], sends: Sends) -> None:
    """The error is the database's, and nothing is sent."""
    with pytest.raises(ProgrammingError, match="1064"):
        _execute(engine, name, written)
    assert written == sends.saved == sends.updated == sends.deleted == []


def _tells_upserts(engine: Engine) -> bool:
    return engine.dialect.name == "postgresql"


def _tells_old_values(engine: Engine) -> bool:
    return _tells_upserts(engine) and (engine.dialect.server_version_info or ()) >= (18,)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_row_is_sent_once_with_its_values(
    engine: Engine, written: list[WrittenRow], name: str
) -> None:
    """Triggers see the same rows, and the same values in them, as receivers."""
    _require_all_rows(engine, written, name)


def _require_all_rows(engine: Engine, written: list[WrittenRow], name: str) -> None:
    sends = Sends(with_changes=False)
    if _is_unknown(engine, name):
        _require_unknown(engine, name, written, sends)
        return
    root = _execute(engine, name, written)
    rows = _by_row(written, root)
    sent = [*sends.saved, *sends.deleted]
    assert len(sent) == len(rows)
    for each in sent:
        values = each["values"]
        key = (values["row"], values["place"]) if root == "seat" else values["id"]
        operation, old, new = rows.pop(key)
        assert {name: values[name] for name in (new or old) if name in values} == {
            name: value for name, value in (new or old).items() if name in values
        }
        if operation == "DELETE":
            assert each in sends.deleted
        elif not (name.startswith("upsert") and not _tells_upserts(engine)):
            assert each["created"] is (operation == "INSERT")


@pytest.mark.parametrize("name", SCENARIOS)
def test_changes_are_what_was_changed(engine: Engine, written: list[WrittenRow], name: str) -> None:
    """The old and new values of an update are those that the triggers see, and no others."""
    _require_true_changes(engine, written, name)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", SCENARIOS)
def test_changes_are_what_was_changed_before_postgresql_18(
    engine: Engine, written: list[WrittenRow], name: str
) -> None:
    """Also where RETURNING doesn't know the old values."""
    engine.dialect.server_version_info = (15, 0)
    _require_true_changes(engine, written, name)


@on_mariadb
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_row_is_sent_once_with_its_values_by_mysql(
    engine: Engine, written: list[WrittenRow], name: str
) -> None:
    """Also where the database returns nothing at all, or the statement is refused."""
    take_for_mysql(engine)
    error = _error_by_mysql(name)
    if error is None:
        _require_all_rows(engine, written, name)
        return
    Sends(with_changes=False)
    with pytest.raises(error):
        _execute(engine, name, written)
    assert written == []


@on_mariadb
@pytest.mark.parametrize("name", SCENARIOS)
def test_changes_are_what_was_changed_by_mysql(
    engine: Engine, written: list[WrittenRow], name: str
) -> None:
    """The old values of what isn't refused are read."""
    take_for_mysql(engine)
    if _error_by_mysql(name) is None:
        _require_true_changes(engine, written, name)


def _error_by_mysql(name: str) -> type[Exception] | None:
    """The error of a statement whose rows aren't returned; MariaDB itself has a RETURNING."""
    if not name.startswith(REFUSED_BY_MYSQL):
        return None
    if name.endswith("returning_defaults") or "returning" not in name:
        return StatementSignalError
    return InvalidRequestError if "many" in name else None


def _require_true_changes(engine: Engine, written: list[WrittenRow], name: str) -> None:
    sends = Sends(with_changes=True)
    if _is_unknown(engine, name):
        _require_unknown(engine, name, written, sends)
        return
    if name.startswith("upsert") and not _tells_old_values(engine):
        with pytest.raises(StatementSignalError, match="doesn't return"):
            _execute(engine, name, written)
        assert written == []
        return
    root = _execute(engine, name, written)
    rows = _by_row(written, root)
    updates = {key: row for key, row in rows.items() if row[0] == "UPDATE"}
    assert len(sends.updated) == len(updates)
    attributes = {"headline": "name"}
    for each in sends.updated:
        values = each["values"]
        key = (values["row"], values["place"]) if root == "seat" else values["id"]
        _, old, new = updates.pop(key)
        assert each["changes"] == {
            attributes.get(column, column): (old[column], new[column])
            for column in new
            if new[column] != old[column]
        }


def test_rows_that_set_different_columns_have_changes_of_their_own(
    engine: Engine, written: list[WrittenRow]
) -> None:
    """The rows of one INSERT, each with what its own parameters have set."""
    sends = Sends(with_changes=True)
    _execute(engine, "insert_many_unlike", written)
    assert [each["changes"] for each in sends.saved] == [
        {"name": (None, "one")},
        {"name": (None, "two"), "status": (None, "published")},
    ]


def test_the_sender_is_the_class_of_the_row(engine: Engine, written: list[WrittenRow]) -> None:
    """An update of a base class reaches the receivers of its subclasses, with all their columns."""
    sends = Sends(with_changes=False)
    _execute(engine, "update_of_a_base", written)
    assert [(each["class"].__name__, each["values"].get("lives")) for each in sends.saved] == [
        ("Animal", None),
        ("Cat", 9),
        ("Tiger", 1),
        ("Dog", None),
    ]


def test_the_changes_of_a_new_row_are_what_was_set(
    engine: Engine, written: list[WrittenRow]
) -> None:
    """Defaults of columns are not among them, as with a flush."""
    sends = Sends(with_changes=True)
    _execute(engine, "insert_from_select", written)
    assert [each["changes"] for each in sends.saved] == [
        {"name": (None, "title 1"), "status": (None, "draft")},
        {"name": (None, "title 2"), "status": (None, "draft")},
    ]


def test_rows_are_sent_in_the_order_of_the_database(
    engine: Engine, written: list[WrittenRow]
) -> None:
    """Rows come in the order in which the database returned them."""
    sends = Sends(with_changes=False)
    _execute(engine, "insert_many_with_their_keys", written)
    assert [each["values"]["place"] for each in sends.saved] == [1, 2]


def test_the_net_has_what_an_upsert_sets_of_a_row_that_exists(engine: Engine) -> None:
    """Also if it wouldn't set that of a new row; a receiver of flushes gets the row as it is."""
    sent: dict[str, list[tuple[str, int]]] = {"statements": [], "net": []}

    def connect(name: str, **options: Any) -> None:
        def note(instance: Article, **_: Any) -> None:
            sent[name].append((instance.name, instance.views))

        post_save.connect(note, sender=Article, phase=COMMIT, **options)

    connect("net", coalesce=True)
    connect("statements", statements=True)
    with Session(engine) as session:
        session.add(Article(id=1, name="flushed", slug="a", views=1))
        session.flush()
        session.execute(upsert(engine.dialect.name, Article, {"views": 9}, name="new", slug="a"))
        session.commit()
    assert sent == {"statements": [("flushed", 1), ("flushed", 9)], "net": [("flushed", 9)]}
