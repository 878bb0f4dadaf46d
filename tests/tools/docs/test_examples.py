"""Whatever the documentation shows as Python runs, and prints what the page says."""

from __future__ import annotations

import ast
import asyncio
import builtins
import doctest
import gc
import importlib
import inspect
import json
import os
import pkgutil
import re
import runpy
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.event
from kit.brokers import nats_server, redis_namespace
from kit.databases import bound, own_database
from kit.pages import PAGES, ROOT, blocks
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Durable, Outbox
from aksara_signals.contrib.outbox.hooks import header_hooks
from aksara_signals.contrib.outbox.rows.tables import aware
from aksara_signals.dispatch.frozen import FrozenDict
from aksara_signals.orm import SignalMixin
from aksara_signals.testing import restored_signals
from aksara_signals.testing.outbox import restored_outboxes

SCRIPTS = sorted((ROOT / "docs" / "examples").glob("*.py"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "aksara_signals").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def program(text: str) -> str:
    """The Python blocks of a page that name no file as one program, each line at its own line."""
    lines = [""] * len(text.splitlines())
    for start, code, caption in blocks(text, "python"):
        if caption is not None:
            continue
        for offset, line in enumerate(code.splitlines()):
            lines[start + offset] = line
    return "\n".join(lines)


@restored_signals()
@restored_outboxes()
def execute(code: str, page: Path) -> None:
    """Run a page's program as a module of its own; ``await`` is allowed at its top level.

    Its receivers, and its outbox, are unknown to the next page.
    """
    compiled = compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    module = types.ModuleType("page_" + page.stem.replace("-", "_"))
    sys.modules[module.__name__] = module  # annotations of mapped classes are looked up there
    try:
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(types.FunctionType(compiled, module.__dict__)())
        else:
            exec(compiled, module.__dict__)
    finally:
        del sys.modules[module.__name__]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs_and_prints_what_it_says(page, capsys):
    """A page's Python blocks run in order, and print its ``output`` blocks."""
    text = page.read_text(encoding="utf-8")
    code = program(text)
    if not code.strip():
        return  # a page of prose
    execute(code, page)
    expected = "\n".join(block.code for block in blocks(text, "output"))
    assert expected.split() == capsys.readouterr().out.split()


def files(text: str) -> dict[str, str]:
    """What a page shows of each file that it names; several blocks of one file follow each other."""
    found: dict[str, list[str]] = {}
    for block in blocks(text, "python"):
        if block.caption is not None:
            found.setdefault(block.caption, []).append(block.code.strip("\n"))
    return {name: "\n\n\n".join(codes) + "\n" for name, codes in found.items()}


def commands(text: str) -> list[tuple[list[str], str]]:
    """The commands of a page that run its files, with what the page says they print."""
    programs = {
        "python": [sys.executable],
        "pytest": [sys.executable, "-m", "pytest"],
        "aksara-signals": [sys.executable, "-m", "aksara_signals"],
    }
    found = []
    for block in blocks(text, "console"):
        command, _, output = block.code.strip().partition("\n")
        prompt, program, *arguments = command.split()
        if prompt == "$" and program in programs:
            found.append(([*programs[program], *arguments], output))
    return found


def words(printed: str) -> list[str]:
    """What was printed, apart from the blanks between, and from what differs with each run."""
    for pattern in (
        r"\bin [\d.]+s\b",  # how long it took
        r"\b[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}\b",
        r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.+:\d]*)",
    ):
        printed = re.sub(pattern, "…", printed)
    return re.sub("─+", "─", printed).split()


@contextmanager
def servers(text: str, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What a page needs beside its files, as variables of the environment."""
    if "NATS_URL" in text:
        with nats_server() as server:
            yield {"NATS_URL": server.url}
    elif "DATABASE_URL" in text:
        with redis_namespace() as redis:
            yield request.getfixturevalue("postgresql") | redis
    else:
        yield {}


PAGES_WITH_FILES = [page for page in PAGES if files(page.read_text(encoding="utf-8"))]


@pytest.fixture
def run_files(tmp_path):
    """Writes the files of a page into a folder of their own, and runs commands of the page there.

    Nothing but these files and what is installed can be imported there: under tox, the wheel.
    """

    def run(text: str, found: list[tuple[list[str], str]], servers: dict[str, str]) -> None:
        assert found
        for name, code in files(text).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(code, encoding="utf-8")
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "COV"))
            and name not in {"PYTHONPATH", "PYTHONSAFEPATH"}
        }
        for command, expected in found:
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env={**clean, **servers},
                capture_output=True,
                text=True,
                check=False,
            )
            assert words(expected) == words(done.stdout), done.stdout + done.stderr
            assert done.returncode == 0

    return run


@pytest.fixture
def postgresql(request) -> Iterator[dict[str, str]]:
    """The environment of files that want an empty PostgreSQL database."""
    with own_database(request.getfixturevalue("postgresql_server")) as url:
        plain = url.set(drivername="postgresql")
        yield {"DATABASE_URL": plain.render_as_string(hide_password=False)}


@pytest.mark.slow  # each starts several processes
@pytest.mark.parametrize("page", PAGES_WITH_FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_a_page_work_as_it_shows(page, run_files, request):
    """The files of a page, in a folder of their own, do by its commands what it says they do."""
    text = page.read_text(encoding="utf-8")
    with servers(text, request) as found:
        run_files(text, commands(text), found)


RECIPES = (ROOT / "docs" / "howto" / "other-engines.rst").read_text(encoding="utf-8")


def test_recipe_for_dramatiq_works_without_redis(run_files, postgresql):
    """With the broker for tests that dramatiq has, which is in the same process."""
    command = [each for each in commands(RECIPES) if each[0][-1] == "try_dramatiq.py"]
    run_files(RECIPES, command, postgresql)


def as_connect_writes(value: Any) -> bytes | None:
    """A column's value as text, which Kafka Connect makes of what Debezium has read."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return aware(value).isoformat().replace("+00:00", "Z").encode()
    if isinstance(value, dict):
        return json.dumps(value).encode()
    return str(value).encode()


async def test_recipe_for_debezium_delivers_rows_as_they_are_inserted(
    async_engine, restored, capsys, monkeypatch
):
    """The connector's configuration takes all from the row that the consumer needs."""

    class LoggedBase(SignalMixin, DeclarativeBase): ...

    class Logged(LoggedBase):
        __tablename__ = "logged"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    outbox = Outbox(LoggedBase.metadata, mode="cdc")
    inserted: list[Any] = []

    async def index_logged(event, session, **_):
        found = await event.load(session)
        print(found.title, event.values["title"], event.created, event.sent_at, event.headers)

    post_save.connect(
        index_logged, sender=Logged, durable=Durable("search.logged", include=("title",))
    )

    @sqlalchemy.event.listens_for(async_engine.sync_engine, "after_cursor_execute")
    def read_log(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO aksara_outbox"):
            inserted.extend(connection.execute(select(outbox.tables.outbox)).mappings())

    async with bound(LoggedBase, async_engine) as sessions:
        outbox.install()
        header_hooks.append(lambda headers: headers.update(traceparent="00-1-2-01"))
        async with sessions.begin() as session:
            session.add(Logged(title="Hello"))
        [row] = inserted
        [config] = [json.loads(block.code)["config"] for block in blocks(RECIPES, "json")]
        router = {name.removeprefix("transforms.outbox."): config[name] for name in config}
        headers = [("id", as_connect_writes(row["id"]))]
        for each in router["table.fields.additional.placement"].split(","):
            column, placement, *alias = each.split(":")
            assert placement == "header"
            headers.append((alias[0] if alias else column, as_connect_writes(row[column])))
        value = as_connect_writes(row["payload"])
        assert row[router["table.field.event.key"]] is not None
        assert row[router["route.by.field"]] == "search.logged"

        monkeypatch.setitem(sys.modules, "shop", types.SimpleNamespace(Sessions=sessions))
        consumer: dict[str, Any] = {}
        exec(files(RECIPES)["debezium_consumer.py"], consumer)
        await consumer["deliver"](headers, value)
        await consumer["deliver"](headers, value)
    LoggedBase.registry.dispose()
    sent_at = aware(row["created_at"])
    assert capsys.readouterr().out.splitlines() == [
        f"Hello Hello True {sent_at} {FrozenDict(traceparent='00-1-2-01')}",
        "delivered",
        "a repeat",
    ]


@pytest.fixture
def restored() -> Iterator[None]:
    """Undoes what a test does to receivers, outboxes and hooks."""
    hooks = list(header_hooks)
    with restored_signals(), restored_outboxes():
        yield
    header_hooks[:] = hooks


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_runs(script, capsys):
    """A script in ``docs/examples`` runs to its end and shows something."""
    with restored_outboxes():
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_module_hold(name):
    """The examples in the docstrings of a module give what they say."""
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    # A mapped class takes its lines out of linecache when it is collected; doctest looks through
    # linecache, and stumbles if that happens meanwhile.
    gc.collect()
    gc.disable()
    try:
        failed, attempted = doctest.testmod(module, optionflags=flags)
    finally:
        gc.enable()
    assert attempted
    assert failed == 0


def test_commands_print_what_the_page_shows(project):
    """Each command on the command line's page prints what stands below it."""
    text = (ROOT / "docs" / "reference" / "cli.rst").read_text(encoding="utf-8")
    project.write("journal", "\n\n\n".join(block.code for block in blocks(text, "python")))
    commands = [
        (command.split()[2:], output.split())
        for block in blocks(text, "console")
        for command, _, output in [block.code.strip().partition("\n")]
        if command.startswith("$ aksara-signals ")
    ]
    assert {arguments[0] for arguments, _ in commands} == {"receivers", "graph", "check"}
    for arguments, output in commands:
        assert project.run(*arguments)[1].split() == output


def test_names_of_inventories_exist():
    """Each name that our pages link into the pages of others is one that Python finds."""
    inventories = sorted((ROOT / "docs" / "inventories").glob("*.inv"))
    assert inventories
    for inventory in inventories:
        for line in inventory.read_text(encoding="utf-8").splitlines()[3:]:
            name = line.split()[0]
            if "." in name:
                pkgutil.resolve_name(name)  # raises if there is none
            else:
                assert hasattr(builtins, name) or hasattr(typing, name), name
