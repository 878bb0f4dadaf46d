"""The command ``aksara-signals``: its arguments, its exit status, and what keeps it from running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import httpx
import pytest

from aksara_signals.cli import main

CUSTOM = """
    from aksara_signals import Signal

    paid = Signal("paid")

    @paid.connect(sender="shop")
    async def thank(**kwargs): ...
"""


def test_installed_command_runs_in_the_current_folder(project):
    """The console script imports modules of the current folder and prints JSON."""
    project.write("shop_a", CUSTOM)
    script = Path(sysconfig.get_path("scripts")) / "aksara-signals"
    done = subprocess.run(
        [script, "receivers", "shop_a", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=project.folder,
    )
    [found] = json.loads(done.stdout)["receivers"]
    assert found == {
        "signal": "paid",
        "sender": "shop",
        "sender_kind": "name",
        "receiver": "shop_a.thank",
        "file": "shop_a.py",
        "line": 5,
        "async": True,
        "options": {},
    }


def test_help_imports_no_sqlalchemy():
    """The command line is described without importing SQLAlchemy or asyncio."""
    code = (
        "import sys; from aksara_signals.cli import main\n"
        "try: main(['check', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'sqlalchemy', 'asyncio', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "executes" in done.stdout


WATCHED = """
import sys

done = []
reading = ("r", "rb", "rt")

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if mode not in reading and not (mode is None and flags & 3 == 0):
            done.append(f"{event} {path} {mode}")
    elif event.startswith(("socket.connect", "socket.bind", "subprocess.", "sqlite3.connect",
                           "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove",
                           "os.rename", "os.mkdir", "shutil.", "urllib.", "smtplib.", "ftplib.")):
        done.append(event)

sys.addaudithook(watch)
from aksara_signals.cli import main
status = main(sys.argv[1:])
print("DONE", status, *done, sep="\\n", file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["receivers", "--json"], ["graph"], ["check"]])
def test_looking_at_receivers_does_nothing_else(project, command):
    """No connection is opened, no process started, nothing written: Python's own audit says so."""
    project.write("shop_q", CUSTOM)
    verb, *options = command
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, verb, "shop_q", *options],
        capture_output=True,
        text=True,
        check=True,
        cwd=project.folder,
    )
    assert done.stderr.split("DONE")[-1].split() == ["0"]


def test_something_has_to_be_imported(project):
    """Without a module or an application there is nothing to look at."""
    status, out, err = project.run("receivers")
    assert (status, out) == (2, "")
    assert "name a module to import, or an application with --app" in err


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("(", "SyntaxError"),
    ],
)
def test_failing_import_is_named_without_a_traceback(project, code, why):
    """A module that can't be imported is named, with the reason and the place."""
    project.write("broken_a", code)
    status, out, err = project.run("check", "broken_a")
    assert (status, out) == (2, "")
    assert f"aksara-signals: could not import broken_a: {why}" in err
    assert "Traceback" not in err


def test_place_of_a_failing_import_is_reported(project):
    """The line that raised is in the message; a missing module has none."""
    project.write("broken_b", "\n\nx = 1 / 0")
    assert "broken_b.py:1)" in project.run("check", "broken_b")[2]
    assert "(" not in project.run("check", "never_written")[2]


def test_traceback_of_a_failing_import_is_shown_on_request(project):
    """``--traceback`` shows the module's own traceback."""
    project.write("broken_c", "x = 1 / 0")
    status, _, err = project.run("check", "broken_c", "--traceback")
    assert status == 2
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


def test_what_modules_print_does_not_get_into_the_output(project):
    """Standard output is the command's alone."""
    project.write("chatty", "print('hello')" + CUSTOM.replace("\n    ", "\n"))
    status, out, err = project.run("receivers", "chatty", "--json")
    assert (status, err) == (0, "hello\n")
    assert json.loads(out)["receivers"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["receivers", "app/models.py"], "app/models.py is a path; write the name of the module"),
        (["receivers", "app\\models"], "is a path; write the name of the module"),
        (["check", ".models"], "'.models' is not the full name of a module"),
        (["check", ""], "'' is not the full name of a module"),
    ],
)
def test_what_is_not_the_name_of_a_module_is_refused(project, arguments, what):
    """Before anything is imported."""
    status, out, err = project.run(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert what in err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["receivers", "app", "--bogus\nx"], "unrecognized arguments: --bogus x; see aksara-sign"),
        (["frob"], "invalid choice: 'frob'"),
        (["graph", "app", "--format", "png"], "see aksara-signals graph --help"),
    ],
)
def test_bad_arguments_are_a_line(project, arguments, what, capsys):
    """With the status 2, and where to read on."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("aksara-signals: ")
    assert what in line


def test_an_error_of_several_lines_is_a_line(project):
    """The rest of it is shown by ``--traceback``."""
    project.write("broken_e", "raise ValueError('one\\n  two')")
    [line] = project.run("check", "broken_e")[2].splitlines()
    assert "ValueError: one two (" in line


def test_path_is_left_as_it_was(project):
    """The current folder can be imported from during the command, and not afterwards."""
    project.write("shop_b", CUSTOM)
    before = list(sys.path)
    assert project.run("receivers", "shop_b", "--json")[0] == 0
    assert before == sys.path


def test_folder_on_the_path_stays_there(project, monkeypatch):
    """A current folder that could be imported from before still can be."""
    monkeypatch.syspath_prepend(project.folder)
    project.write("shop_c", CUSTOM)
    before = list(sys.path)
    assert project.run("receivers", "shop_c", "--json")[0] == 0
    assert before == sys.path


def test_module_may_take_the_folder_off_the_path(project):
    """A module that rearranges the path doesn't break the command."""
    project.write("tidy", "import os, sys\nsys.path.remove(os.getcwd())")
    assert project.run("receivers", "tidy", "--json")[0] == 0


@pytest.mark.parametrize(
    "factory",
    [
        "def create():\n    return connect()",
        "async def create():\n    return connect()",
        "class create:\n    def __init__(self): connect()",
        "class Space:\n    @staticmethod\n    def make(): return connect()\ncreate = Space",
        "connect()\ncreate = object()",
        "connect()\ndef create(scope, receive, send): raise AssertionError",
    ],
    ids=["function", "async", "class", "nested", "object", "ASGI application"],
)
def test_application_is_loaded(project, factory):
    """``--app`` calls what takes no arguments, awaits what is async, and leaves the rest alone."""
    project.write(
        "app_a",
        "from aksara_signals import Signal\npaid = Signal('paid')\n"
        f"def connect(): paid.connect(lambda **kwargs: None)\n{factory}\n",
    )
    path = "app_a:create.make" if "Space" in factory else "app_a:create"
    status, out, err = project.run("receivers", "--json", "--app", path)
    assert (status, err) == (0, "")
    assert [each["signal"] for each in json.loads(out)["receivers"]] == ["paid"]


def test_factory_without_a_signature_is_called(project):
    """A built-in type that can't say what it takes is called."""
    project.write("app_b", "create = dict")
    status, out, _ = project.run("receivers", "--json", "--app", "app_b:create")
    assert (status, json.loads(out)) == (0, {"receivers": []})


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("app_c", "write it as module:factory"),
        ("app_c:", "write it as module:factory"),
        (":create", "write it as module:factory"),
        ("app_c:missing", "app_c has no attribute missing"),
        ("missing_app:create", "could not import missing_app: ModuleNotFoundError"),
        ("app_c:fail", "could not load the application app_c:fail: RuntimeError: no database"),
    ],
)
def test_application_that_cannot_be_loaded(project, path, why):
    """What is wrong with ``--app`` is said in one line."""
    project.write("app_c", "def fail():\n    raise RuntimeError('no database')\n")
    status, out, err = project.run("check", "--app", path)
    assert (status, out) == (2, "")
    assert why in err


def test_table_needs_rich(project, monkeypatch):
    """Without Rich the command says how to install it; JSON works without."""
    project.write("shop_d", CUSTOM)
    monkeypatch.setitem(sys.modules, "rich", None)
    status, out, err = project.run("receivers", "shop_d")
    assert (status, out) == (2, "")
    assert "pip install 'aksara-signals[cli]'" in err
    assert project.run("receivers", "shop_d", "--json")[0] == 0


def test_table_shows_every_column(project):
    """The table has one line per receiver, which is never wrapped in a file or a pipe."""
    project.write("shop_e", CUSTOM.replace('"shop"', '"[bold]s" + "h" * 200, priority=2'))
    status, out, _ = project.run("receivers", "shop_e")
    [line] = [line for line in out.splitlines() if "paid" in line]
    assert status == 0
    assert line.split() == [
        "paid", f"'[bold]s{'h' * 200}'", "shop_e.thank", "shop_e.py:5", "priority=2", "async",
    ]  # fmt: skip


def test_unknown_signal_is_refused(project):
    """``--signal`` with a name that no signal has offers the nearest one."""
    project.write("shop_f", CUSTOM)
    status, _, err = project.run("receivers", "shop_f", "--signal", "post_sav")
    assert status == 2
    assert "did you mean 'post_save'? [AKS-204]" in err


def test_unknown_sender_is_refused(project):
    """``--sender`` with a name that nothing has offers the nearest one."""
    project.write("shop_g", CUSTOM)
    status, _, err = project.run("graph", "shop_g", "--sender", "shpo")
    assert status == 2
    assert "did you mean 'shop'?" in err


def test_messages_hold_no_escape_sequences(project):
    """What comes from a user's code can't steer the terminal."""
    project.write("broken_d", r"raise ValueError('\x1b[2J')")
    assert r"\x1b[2J" in project.run("check", "broken_d")[2]


def test_values_of_a_failing_statement_are_hidden(project):
    """A module that asks its database while it is imported doesn't give values away."""
    project.write(
        "asking",
        """
        from sqlalchemy import create_engine, text

        from sqlalchemy.pool import NullPool

        engine = create_engine("sqlite://", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("SELECT :word FROM nowhere"), {"word": "sec" + "ret"})
        """,
    )
    status, _, err = project.run("check", "asking", "--traceback")
    assert status == 2
    assert "no such table: nowhere" in err
    assert "secret" not in err


def test_graph_is_written_to_a_file(project):
    """``--output`` writes the file and prints nothing."""
    project.write("shop_h", CUSTOM)
    assert project.run("graph", "shop_h", "--output", "graph.mmd") == (0, "", "")
    assert (project.folder / "graph.mmd").read_text().startswith("flowchart LR\n")


def test_graph_that_cannot_be_written(project):
    """A file that can't be written is a usage problem."""
    project.write("shop_i", CUSTOM)
    status, _, err = project.run("graph", "shop_i", "--output", "no/such/folder")
    assert status == 2
    assert "could not write no/such/folder: No such file or directory" in err


def test_unknown_format_is_refused(project, capsys):
    """Formats other than the three are refused by the parser."""
    with pytest.raises(SystemExit, match="2"):
        main(["graph", "shop", "--format", "png"])
    assert "mermaid" in capsys.readouterr().err


SERVED = """
    import asyncio
    from contextlib import asynccontextmanager

    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from aksara_signals import post_save
    from aksara_signals.orm import SignalMixin

    class Base(SignalMixin, DeclarativeBase): ...

    class Post(Base):
        __tablename__ = "posts"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    @post_save(Post, phase="after_commit")
    async def announce(**kwargs): ...

    def create_app():
        engine = create_async_engine("sqlite+aiosqlite://")
        sessions = async_sessionmaker(engine)

        @asynccontextmanager
        async def lifespan(app):
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            yield
            await engine.dispose()
            print("the application has shut down", flush=True)

        async def write(request):
            async with sessions.begin() as session:
                session.add(Post(title="sec" + "ret"))
            return PlainTextResponse("written", 201)

        return Starlette(routes=[Route("/posts", write, methods=["POST"])], lifespan=lifespan)
"""


def test_an_application_is_served_with_the_inspector_until_ctrl_c(project):
    """A write through it is shown; Ctrl-C ends both within seconds, in spite of an open stream."""
    project.write("served_app", SERVED)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "aksara_signals", "inspect"),
            *("--app", "served_app:create_app", "--port", "0"),
        ],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            name, _, address = process.stdout.readline().strip().partition(" ")
            assert name == "inspector:", process.stderr.read()
            assert httpx.post(httpx.URL(address).join("/posts")).status_code == 201
            text = httpx.get(f"{address}export.json").text
            [group] = json.loads(text)["groups"]
            with httpx.stream("GET", f"{address}stream", timeout=30) as stream:
                next(stream.iter_text())
                start = time.monotonic()
                process.send_signal(signal.SIGINT)
                rest, errors = process.communicate(timeout=30)
            seconds = time.monotonic() - start
        finally:
            process.kill()
    assert group["state"] == "committed"
    sent = {(each["signal"], each["sender"], each["phase"]) for each in group["entries"]}
    assert ("post_save", "served_app.Post", "after_commit") in sent
    assert "secret" not in text
    assert (process.returncode, rest, errors) == (0, "the application has shut down\n", "")
    assert seconds < 3


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["inspect", "--app", "app:app"], "starlette"),
        (["inspect", "--app", "app:app"], "jinja2"),
        (["inspect", "--app", "app:app"], "uvicorn"),
        (["demo", "--inspect"], "uvicorn"),
    ],
)
def test_what_the_inspector_needs_is_named(arguments, module, tmp_path):
    """Without it, a line gives the command that installs it."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from aksara_signals.cli import main\nsys.exit(main({arguments!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "pip install 'aksara-signals[inspector]'" in line
