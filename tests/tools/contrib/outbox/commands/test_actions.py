"""The command ``aksara-signals outbox``: what it shows, what it changes, what it finds."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kit.claims import Store, outbox_engine, write_rows
from kit.databases import Database
from sqlalchemy import select, update

from aksara_signals.contrib.outbox.commands import database as database_module
from aksara_signals.contrib.outbox.commands import printing
from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.rows.breaker import FAILURES_IN_A_ROW, note_failure
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, clock

APP = """
    from kit.claims import async_outbox_engine, outbox_engine
    from kit.databases import Database
    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import async_sessionmaker
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

    from aksara_signals import post_save
    from aksara_signals.contrib.outbox import Outbox

    class Base(DeclarativeBase): ...

    class Post(Base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)

    database = Database({dialect!r}, make_url({async_url!r}), make_url({sync_url!r}), {schema!r})
    outbox = Outbox(Base.metadata)
    Sessions = async_sessionmaker(async_outbox_engine(database))
    PlainSessions = sessionmaker(outbox_engine(database))
    not_sessions = lambda: 1

    @post_save(Post, durable="mail.welcome")
    async def welcome(event, **kwargs): ...

    @post_save(Post, durable="search")
    async def index(event, **kwargs): ...
"""


class Command:
    """An application with an outbox, and the command that looks after it."""

    def __init__(self, project: Any, store: Store, sessions: str) -> None:
        self.project = project
        self.store = store
        self._app = ("--app", "boxed:outbox", "--sessions", f"boxed:{sessions}")

    def __call__(self, *arguments: str) -> str:
        """Run an action that succeeds; what it prints."""
        status, out, err = self.run(*arguments)
        assert (status, err) == (0, "")
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        status, out, err = self.project.run("outbox", *self._app, *arguments)
        return status, out, err

    def error(self, *arguments: str) -> str:
        """Run an action that can't be run; its one line of error."""
        status, out, err = self.run(*arguments)
        assert (status, out) == (2, "")
        (line,) = err.splitlines()
        return line.removeprefix("aksara-signals: ")

    def write(self, *rows: dict[str, Any]) -> None:
        given = [{"receiver": "search", **row} for row in rows]
        self.store.run_here(lambda connection: write_rows(connection, self.store.tables, given))

    def set(self, seqs: Any, **values: Any) -> None:
        table = self.store.tables.outbox
        statement = update(table).where(table.c.seq.in_(list(seqs))).values(**values)
        self.store.run_here(lambda connection: connection.execute(statement))

    def column(self, name: str) -> dict[int, Any]:
        table = self.store.tables.outbox
        statement = select(table.c.seq, table.c[name]).order_by("seq")
        rows = self.store.run_here(lambda connection: connection.execute(statement).all())
        return dict(map(tuple, rows))


@pytest.fixture(params=["Sessions", "PlainSessions"])
def command(request: pytest.FixtureRequest, project: Any, database: Database) -> Iterator[Command]:
    """The command, by async and by plain sessions."""
    urls = {
        name: getattr(database, name).render_as_string(hide_password=False)
        for name in ("async_url", "sync_url")
    }
    project.write("boxed", APP.format(dialect=database.dialect, schema=database.schema, **urls))
    store = Store(outbox_engine(database))
    store.run_here(store.tables.outbox.metadata.create_all)
    yield Command(project, store, request.param)
    store.engine.dispose()
    if "boxed" in sys.modules:
        sys.modules["boxed"].outbox.uninstall()


def died(hours: float = 0, **values: Any) -> dict[str, Any]:
    return {"status": DEAD, "done_at": clock(-3600 * hours), **values}


# -- looking --------------------------------------------------------------------------------------


def test_stats(command: Command) -> None:
    """Each receiver has a line of figures; one that is down is marked."""
    assert command("stats") == "the outbox is empty\n"
    command.write({}, {}, {}, {"receiver": "mail.welcome"})
    command.set([1], **died())
    command.set([2], created_at=clock(-4000))
    for _ in range(FAILURES_IN_A_ROW):
        command.store.run_here(note_failure, command.store.tables, "search")
    head, mail, search = [
        line.split() for line in command("stats").splitlines() if line.strip(" ─")
    ]
    assert head == ["receiver", "waiting", "retrying", "leased", "dead", "done", "oldest"]
    assert mail[:6] == ["mail.welcome", "1", "0", "0", "0", "0"]
    assert search[:9] == ["search", "2", "0", "0", "1", "0", "1", "h", "6"]
    assert search[-1] == "down"
    found = command.json("stats")["receivers"]
    assert [(each["receiver"], each["pending"], each["is_down"]) for each in found] == [
        ("mail.welcome", 1, False),
        ("search", 2, True),
    ]
    assert found[1]["oldest_seconds"] > 4000


def test_dead(command: Command) -> None:
    """Dead rows are listed with their errors, the latest first, by receiver and time."""
    assert command("dead") == "no row is dead\n"
    command.write({}, {"receiver": "mail.welcome"}, {})
    command.set([1], **died(3, last_error="[red]Value\x1bError\nat line 2[/red]"))
    command.set([2], **died(2))
    out = command("dead")
    assert "[red]Value\\x1bError at line 2[/red]" in out
    assert out.index("mail.welcome") < out.index("search")
    assert "title" not in out
    assert [row["seq"] for row in command.json("dead")["dead"]] == [2, 1]
    assert [row["seq"] for row in command.json("dead", "--limit", "1")["dead"]] == [2]
    (row,) = command.json("dead", "--receiver", "sea*")["dead"]
    assert (row["seq"], row["status"]) == (1, "dead")
    assert [row["seq"] for row in command.json("dead", "--since", "150m")["dead"]] == [2]


def test_show(command: Command) -> None:
    """A row is shown with the names in its payload; the values only on request."""
    payload = {
        "v": 1,
        "key": [7],
        "changed": ["email"],
        "values": {"email": "ann@example.com", "none": None},
        "data": {"ids": [1, 2], "empty": []},
    }
    send = uuid.uuid4()
    command.write(
        {"payload": payload, "headers": {"baggage": "user=ann"}, "id": send},
        {"id": send, "payload": "odd"},
    )
    (row,) = command.json("show", "1")["rows"]
    assert row["payload"] == {
        "v": 1,
        "key": [7],
        "changed": ["email"],
        "values": {"email": "…", "none": None},
        "data": {"ids": ["…"], "empty": []},
    }
    assert (row["headers"], row["status"], row["id"]) == ({"baggage": "…"}, "waiting", str(send))
    (row,) = command.json("show", "1", "--values")["rows"]
    assert row["payload"] == payload
    assert row["headers"] == {"baggage": "user=ann"}
    out = command("show", str(send))
    assert "ann" not in out
    assert "odd" not in out
    assert out.count("receiver:      search") == 2
    assert "last_error" not in out
    assert command.error("show", "99") == "there is no row 99"
    assert "name a row" in command.error("show")
    assert "'x1' is neither the number of a row nor an id" in command.error("show", "x1")


# -- changing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["requeue", "discard", "replay", "republish"])
def test_rows_have_to_be_selected(command: Command, action: str) -> None:
    """Nothing is changed without a selection, nor by --all together with one."""
    assert (
        command.error(action) == f"say which rows to {action}: IDs, --receiver, --since, or --all"
    )
    for more in (["1"], ["--receiver", "search"], ["--since", "1h"]):
        assert "--all is for all rows" in command.error(action, "--all", *more)


def test_requeue(command: Command) -> None:
    """Dead rows wait again: those selected, and how many is reported."""
    command.write(*[{}] * 4, {"receiver": "mail.welcome"})
    command.set([1, 2, 3, 5], **died())
    assert command("requeue", "--receiver", "search", "--dry-run") == "3 rows would be requeued\n"
    assert command("requeue", "3", "4") == "1 row requeued\n"
    assert command("requeue", "--receiver", "search") == "2 rows requeued\n"
    assert command.json("requeue", "--all") == {"action": "requeue", "rows": 1, "dry_run": False}
    assert set(command.column("status").values()) == {0}


def test_rows_are_named_by_what_was_sent(command: Command) -> None:
    """An id is as good as a number."""
    send = uuid.uuid4()
    command.write({"id": send}, {"id": send}, {}, {})
    command.set(range(1, 5), **died())
    assert command("requeue", str(send), "4") == "3 rows requeued\n"
    assert command.column("status") == {1: 0, 2: 0, 3: DEAD, 4: 0}


def test_discard(command: Command) -> None:
    """What waits or is dead is deleted."""
    command.write({}, {}, {"receiver": "old"}, {})
    command.set([1], **died())
    command.set([4], status=DONE)
    assert command("discard", "--receiver", "old") == "1 row discarded\n"
    assert command("discard", "--all") == "2 rows discarded\n"
    assert list(command.column("seq")) == [4]


def test_replay(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done since then waits again, in chunks."""
    monkeypatch.setattr(upkeep, "CHUNK", 2)
    command.write(*[{}] * 4)
    command.set([1, 2, 3, 4], status=DONE, done_at=clock())
    command.set([1], done_at=clock(-7300))
    assert command("replay", "--since", "2h", "--receiver", "search") == "3 rows replayed\n"
    assert command.column("generation") == {1: 0, 2: 1, 3: 1, 4: 1}


def test_republish(command: Command) -> None:
    """What was done since then waits again, as what it was."""
    command.write(*[{}] * 3)
    command.set([1, 2], status=DONE, done_at=clock(), generation=3)
    command.set([1], done_at=clock(-7300))
    assert command("republish", "--since", "2h", "--dry-run") == "1 row would be republished\n"
    assert command("republish", "--since", "2h") == "1 row republished\n"
    assert command.column("generation") == {1: 3, 2: 3, 3: 0}
    assert command.column("status") == {1: DONE, 2: 0, 3: 0}


def test_purge(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended long ago is deleted: after a day and thirty, or as given."""
    monkeypatch.setattr(upkeep, "CHUNK", 2)
    command.write(*[{}] * 6)
    command.set([1, 2, 3], status=DONE, done_at=clock(-90_000))
    command.set([4], status=DONE, done_at=clock(-4000))
    command.set([5], **died(24))
    assert command("purge") == "3 rows purged\n"
    assert command.json("purge", "--keep-done", "1h", "--keep-dead", "12h") == {
        "action": "purge",
        "rows": 2,
        "dry_run": False,
    }
    assert list(command.column("seq")) == [6]


def test_progress_is_shown_on_a_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on standard error, so that standard output stays what it is; none without Rich."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    command.write({}, {})
    command.set([1, 2], **died())
    status, out, _ = command.run("requeue", "1")
    assert (status, out) == (0, "1 row requeued\n")
    assert command.run("purge")[:2] == (0, "0 rows purged\n")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert command.run("requeue", "2") == (0, "1 row requeued\n", "")


# -- checking -------------------------------------------------------------------------------------


def test_check_finds_nothing(command: Command) -> None:
    """Where all is well, it says how many receivers there are."""
    command.write({}, {"receiver": "mail.welcome"})
    assert command("check") == "durable receivers: 2, errors: 0, warnings: 0\n"
    assert command("check", "boxed").endswith("errors: 0, warnings: 0\n")


def test_check_finds_rows_that_stay(command: Command) -> None:
    """Rows of unknown receivers, dead ones, and receivers that are down, each with what to do."""
    command.write({}, {"receiver": "old\x1b"}, {"receiver": "mail.welcome"})
    command.set([1], **died())
    for _ in range(FAILURES_IN_A_ROW):
        command.store.run_here(note_failure, command.store.tables, "mail.welcome")
    status, out, err = command.run("check")
    assert (status, err) == (1, "")
    assert "error unknown-receiver: 1 rows wait for 'old\\x1b'" in out
    assert "error dead-rows: 1 rows of 'search' were given up" in out
    assert "warning down: 'mail.welcome' fails at every call" in out
    status, out, _ = command.run("check", "--json")
    found = json.loads(out)
    assert (status, found["errors"], found["warnings"], found["receivers"]) == (1, 2, 1, 2)
    assert [each["code"] for each in found["findings"]] == [
        "unknown-receiver",
        "down",
        "dead-rows",
    ]


def test_warnings_fail_a_strict_check(command: Command) -> None:
    """A missing index makes claims slow, which is an error only if one asks for it."""
    (index,) = (
        each for each in command.store.tables.outbox.indexes if each.name.endswith("_fresh")
    )
    command.store.run_here(index.drop)
    assert "warning missing-index: table aksara_outbox" in command("check")
    status, out, _ = command.run("check", "--strict")
    assert status == 1
    assert "ix_aksara_outbox_fresh" in out


def test_check_finds_missing_tables_and_columns(command: Command) -> None:
    """It names the migration that is missing."""
    command.store.run_here(
        lambda connection: connection.exec_driver_sql(
            "ALTER TABLE aksara_outbox DROP COLUMN last_error"
        )
    )
    command.store.run_here(command.store.tables.breaker.drop)
    status, out, err = command.run("check")
    assert (status, err) == (1, "")
    assert "error missing-column: table aksara_outbox of the database lacks last_error" in out
    assert "error missing-table: the database has no table aksara_breaker" in out
    assert "alembic revision --autogenerate" in out


def test_check_finds_receivers_that_install_alone_does_not_connect(command: Command) -> None:
    """Another process, which doesn't import them, would lose their rows without an error."""
    command.project.write(
        "boxed_jobs",
        """
        from boxed import Post
        from aksara_signals import post_save

        @post_save(Post, durable="jobs.count")
        async def count(event, **kwargs): ...
        """,
    )
    assert command("check").startswith("durable receivers: 2")
    status, out, err = command.run("check", "boxed_jobs")
    assert (status, err) == (1, "")
    assert "error not-installed: durable receiver 'jobs.count', boxed_jobs.count" in out
    assert "modules=['boxed_jobs']" in out


def test_check_finds_what_keeps_workers_from_starting(project: Any, tmp_path: Any) -> None:
    """As SQLite's transactions that begin deferred; or that there is no receiver at all."""
    project.write(
        "boxed",
        f"""
        from sqlalchemy import create_engine, event
        from sqlalchemy.orm import DeclarativeBase, sessionmaker
        from aksara_signals.contrib.outbox import Outbox
        from kit.databases import use_begin_recipe

        class Base(DeclarativeBase): ...
        outbox = Outbox(Base.metadata)
        engine = create_engine("sqlite:///{tmp_path}/test.sqlite")
        Base.metadata.create_all(engine)
        use_begin_recipe(engine)
        Sessions = sessionmaker(engine)
        """,
    )
    status, out, _ = project.run("outbox", "check", "boxed:outbox", "--sessions", "boxed:Sessions")
    assert status == 1
    assert "error no-start: a worker was started, and no durable receiver" in out
    sys.modules["boxed"].outbox.uninstall()


# -- what can't be run ----------------------------------------------------------------------------


def test_missing_tables_are_named(command: Command) -> None:
    """Every other action points to the check."""
    command.store.run_here(command.store.tables.outbox.metadata.drop_all)
    for action in (["stats"], ["dead"], ["requeue", "--all"], ["purge"]):
        assert command.error(*action).startswith(
            "table aksara_outbox is missing, or lacks a column"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], "name the outbox with --app"),
        (["stats", "boxed:outbox"], "name what makes sessions"),
        (["stats", "boxed"], "'boxed' is not an outbox"),
        (["stats", "boxed:Post", "--sessions", "boxed:Sessions"], "boxed:Post is boxed.Post"),
        (["stats", "boxed:none", "--sessions", "x:y"], "boxed has no attribute none"),
        (["stats", "boxed:", "--sessions", "x:y"], "write it as module:name"),
        (["stats", "boxed:outbox", "--sessions", "boxed:not_sessions"], "makes no sessions"),
        (["stats", "boxed:outbox", "--sessions", "boxed:database"], "makes no sessions"),
        (["stats", "nobox:outbox", "--sessions", "x:y"], "could not import nobox"),
        (["dead", "--since", "2 hours"], "'2 hours' is not a time such as 90s"),
        (["dead", "--since", "0h"], "'0h' is not a time"),
        (["dead", "--limit", "0"], "'0' is not a number above 0"),
        (["purge", "--keep-done", "-1"], "'-1' is not a time"),
        (["purge", "--keep-dead", "x"], "'x' is not a time"),
        ([], "the following arguments are required: ACTION"),
        (["nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(
    command: Command, arguments: list[str], message: str
) -> None:
    """Status 2, and one line on standard error that says what to write."""
    try:
        status, out, err = command.project.run("outbox", *arguments)
    except SystemExit as error:
        status, (out, err) = error.code, command.project._capsys.readouterr()
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
def test_a_database_that_is_not_there(project: Any, driver: str) -> None:
    """What the driver says is shown in one line; the traceback on request."""
    is_async = driver.endswith("asyncpg")
    project.write(
        "boxed",
        f"""
        from sqlalchemy import MetaData, create_engine
        from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
        from sqlalchemy.orm import sessionmaker
        from aksara_signals.contrib.outbox import Outbox

        outbox = Outbox(MetaData())
        url = "{driver}://nobody:secret@127.0.0.1:9/none"
        Sessions = {"async_sessionmaker(create_async_engine(url))" if is_async else "sessionmaker(create_engine(url))"}
        """,
    )
    arguments = ("outbox", "stats", "boxed:outbox", "--sessions", "boxed:Sessions")
    status, out, err = project.run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("aksara-signals: the database: ")
    assert "secret" not in err
    assert len(err.splitlines()) == 1
    assert "Traceback" in project.run(*arguments, "--traceback")[2]


@pytest.mark.parametrize("name", ["Sessions", "PlainSessions"])
def test_a_database_of_another_name(project: Any, postgresql_server: Any, name: str) -> None:
    """Errors that asyncpg raises itself are shown as those that SQLAlchemy wraps."""
    url = postgresql_server.set(database="no_such_database")
    urls = {
        key: url.set(drivername=driver).render_as_string(hide_password=False)
        for key, driver in (
            ("async_url", "postgresql+asyncpg"),
            ("sync_url", "postgresql+psycopg"),
        )
    }
    project.write("boxed", APP.format(dialect="postgresql", schema="public", **urls))
    status, _, err = project.run("outbox", "stats", "boxed:outbox", "--sessions", f"boxed:{name}")
    assert status == 2
    assert "no_such_database" in err
    assert len(err.splitlines()) == 1


def test_errors_that_are_ours_are_not_hidden(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only errors of the database are reported as such."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(upkeep, "stats", fail)
    with pytest.raises(ZeroDivisionError):
        command("stats")


def test_tables_need_rich(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Rich the way out is shown; JSON needs none."""
    command.write({})
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert "pip install 'aksara-signals[cli]'" in command.error("stats")
    assert command.json("stats")["receivers"]


def test_help_imports_no_sqlalchemy() -> None:
    """The commands are described without importing SQLAlchemy."""
    for arguments in (["outbox", "--help"], ["outbox", "replay", "--help"], ["worker", "--help"]):
        code = (
            "import sys; from aksara_signals.cli import main\n"
            f"try: main({arguments})\n"
            "except SystemExit: pass\n"
            "sys.exit(bool({'sqlalchemy', 'asyncio', 'rich'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-3, "0 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_ages_are_readable(seconds: float | None, text: str) -> None:
    """Two units are enough."""
    assert printing.age(seconds) == text


def test_json_is_for_what_is_json() -> None:
    """Only times and ids are written as text; anything else would be a mistake of ours."""
    with pytest.raises(TypeError, match="object"):
        printing.write_json({"a": object()})
    assert database_module._first_line(ValueError()) == "ValueError: no message"
