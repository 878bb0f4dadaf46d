"""The command ``aksara-signals``.

SQLAlchemy is imported only when a command needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aksara_signals.contrib.outbox.commands.arguments import add_commands
from aksara_signals.exceptions import AksaraSignalsError

if TYPE_CHECKING:
    from aksara_signals.introspection.collect import ReceiverEntry

__all__ = ["main"]

EXECUTES = (
    "The modules are imported, which executes them: name only modules that you would run. Modules "
    "of the current folder can be imported. What modules print goes to standard error."
)

EMBEDDED = "sqlite+aiosqlite://"


class CommandError(Exception):
    """A command can't be run; the message is for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: By default, those of the command line.

    Returns:
        The exit status: 0, or 1 if a check found something, or 2 if a command can't be run.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.error(
            "name a command: demo, inspect, receivers, graph, check, worker, relay or outbox"
        )
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except CommandError as error:
        _complain(error)
        return 2


class _Parser(argparse.ArgumentParser):
    """A parser that reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{message}; see {self.prog} --help")
        self.exit(2)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for, because that takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import aksara_signals

        print("aksara-signals", aksara_signals.__version__)
        parser.exit()


def _parser() -> _Parser:
    parser = _Parser(prog="aksara-signals", description="Django-style signals for SQLAlchemy 2.x.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(dest="command")

    demo = commands.add_parser("demo", help="show signals being sent by real writes")
    demo.add_argument(
        "--url",
        default=EMBEDDED,
        help="any async SQLAlchemy URL; by default, SQLite in memory (%(default)s)",
    )
    demo.add_argument(
        "--inspect",
        action="store_true",
        help="go on until Ctrl-C, and show what is sent in a browser, too",
    )
    demo.set_defaults(run=_demo)
    _add_inspect(commands)

    receivers = _inspecting(commands, "receivers", "show the receivers, in call order")
    _add_selection(receivers)
    receivers.add_argument("--json", action="store_true", help="print JSON instead of text")
    receivers.set_defaults(run=_loaded(_receivers))

    graph = _inspecting(commands, "graph", "draw senders, their signals and the receivers")
    _add_selection(graph)
    graph.add_argument(
        "--format",
        choices=("mermaid", "dot", "svg"),
        default="mermaid",
        help="the format of the graph (%(default)s)",
    )
    graph.add_argument(
        "--output", metavar="FILE", type=Path, help="write to this file instead of standard output"
    )
    graph.set_defaults(run=_loaded(_graph))

    check = _inspecting(
        commands,
        "check",
        "find receivers that are never called, or connected twice",
        "Packages are imported with all modules below them. ",
    )
    check.add_argument("--json", action="store_true", help="print JSON instead of text")
    check.add_argument(
        "--strict", action="store_true", help="exit with status 1 if there are warnings, too"
    )
    check.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module below a package that is not imported; may be given several times",
    )
    check.set_defaults(run=_loaded(_check, walks=True))
    add_commands(commands, _outbox)
    return parser


def _inspecting(
    commands: Any, name: str, summary: str, remark: str = ""
) -> argparse.ArgumentParser:
    """Add a command that imports and inspects modules."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {remark}{EXECUTES}"
    )
    parser.add_argument(
        "modules",
        nargs="*",
        metavar="MODULE",
        help="a module that maps classes or connects receivers, such as app.models",
    )
    parser.add_argument(
        "--app",
        metavar="MODULE:FACTORY",
        help="also load this application: a factory that takes no arguments is called, and awaited "
        "if it is async",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show the traceback of a failed import"
    )
    return parser


def _add_inspect(commands: Any) -> None:
    inspect: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="serve an application, and pages that show live what is sent",
        description="Serve an ASGI application for development, and beside it pages that show live "
        "what is sent, who receives it, and how it ends. The application's modules are imported, "
        "which executes them. Ctrl-C ends it.",
    )
    inspect.add_argument(
        "--app",
        metavar="MODULE:APPLICATION",
        required=True,
        help="the application, such as app.main:app, or a factory that takes no arguments",
    )
    inspect.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (%(default)s)"
    )
    inspect.add_argument("--port", type=int, default=8765, help="0 is any free one (%(default)s)")
    inspect.add_argument("--path", default="/signals", help="where the pages are (%(default)s)")
    inspect.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="a file with a token that has to be entered, which another host than this machine "
        "needs; or set AKSARA_SIGNALS_TOKEN",
    )
    inspect.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the pages may be opened; may be given several times",
    )
    inspect.add_argument("--outbox", metavar="MODULE:OUTBOX", help="an outbox to be shown")
    inspect.add_argument(
        "--sessions", metavar="MODULE:FACTORY", help="the sessions of its database"
    )
    inspect.add_argument(
        "--show",
        action="append",
        default=[],
        metavar="NAME",
        help="an attribute whose values are shown; may be given several times",
    )
    inspect.add_argument("--show-errors", action="store_true", help="show texts of exceptions")
    inspect.add_argument(
        "--actions", action="store_true", help="let dead rows of the outbox be queued again"
    )
    inspect.add_argument(
        "--traceback", action="store_true", help="show the traceback of a failed import"
    )
    inspect.set_defaults(run=_inspect)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signal", metavar="NAME", help="only signals of this name")
    parser.add_argument(
        "--sender",
        metavar="NAME_OR_PATH",
        help="only receivers that this class, string, table or relationship reaches",
    )


# -- the commands ---------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    import asyncio

    from aksara_signals import demo

    try:
        if options.inspect:
            from aksara_signals.demo.inspected import run_inspected

            with suppress(KeyboardInterrupt):
                asyncio.run(run_inspected(options.url))
        else:
            asyncio.run(demo.run(options.url))
    except (ImportError, SystemExit) as error:
        raise CommandError(str(error)) from error
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from aksara_signals.introspection.load import LoadError

    try:
        from aksara_signals.contrib.inspector.command import run

        return run(options)
    except (AksaraSignalsError, ImportError, LoadError) as error:
        if options.traceback:
            traceback.print_exception(error.__cause__ or error)
        raise CommandError(str(error)) from error


def _outbox(name: str, options: argparse.Namespace) -> int:
    from aksara_signals.contrib.outbox.commands.actions import run
    from aksara_signals.contrib.outbox.commands.database import OutboxCommandError

    try:
        return run(name, options)
    except OutboxCommandError as error:
        raise CommandError(str(error)) from error


def _loaded(
    command: Callable[[argparse.Namespace], int], walks: bool = False
) -> Callable[[argparse.Namespace], int]:
    """Wrap a command: import its modules first, and report what can't be imported."""

    def run(options: argparse.Namespace) -> int:
        from aksara_signals.introspection.load import LoadError, Walk, load

        walk = Walk(options.exclude) if walks else None
        try:
            _require_modules(options)
            with load(options.modules, options.app, walk):
                options.not_imported = list(walk.failed) if walk else []
                status = command(options)
        except (AksaraSignalsError, CommandError, LoadError) as error:
            if options.traceback:
                traceback.print_exception(error.__cause__ or error)
            raise CommandError(str(error)) from error
        for failure in walk.failed.values() if walk else ():
            if options.traceback:
                traceback.print_exception(failure.__cause__ or failure)
            _complain(failure)
            status = 2
        return status

    return run


def _complain(what: object) -> None:
    """Print a message as one line, without characters that control the terminal."""
    from aksara_signals.dispatch.receivers.naming import printable

    line = " ".join(printable(line.strip()) for line in str(what).splitlines())
    print("aksara-signals:", line, file=sys.stderr)


def _require_modules(options: argparse.Namespace) -> None:
    if not options.modules and options.app is None:
        raise CommandError("name a module to import, or an application with --app")


def _receivers(options: argparse.Namespace) -> int:
    entries = _entries(options)
    if options.json:
        _print_json({"receivers": [entry.as_json() for entry in entries]})
        return 0
    from aksara_signals.introspection.terminal import print_table

    if not entries:
        is_filtered = options.signal is not None or options.sender is not None
        print("no receiver matches" if is_filtered else "no receiver is connected")
        return 0
    try:
        print_table(entries)
    except ImportError as error:
        raise CommandError(
            "the table needs Rich: pip install 'aksara-signals[cli]'; or add --json"
        ) from error
    return 0


def _graph(options: argparse.Namespace) -> int:
    from aksara_signals.introspection.graph import make_graph, to_dot, to_mermaid
    from aksara_signals.introspection.svg import to_svg

    formats = {"dot": to_dot, "mermaid": to_mermaid, "svg": to_svg}
    text = formats[options.format](make_graph(_entries(options)))
    if options.output is None:
        sys.stdout.write(text)
        return 0
    output: Path = options.output
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"could not write {output}: {error.strerror}") from error
    return 0


def _check(options: argparse.Namespace) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from aksara_signals.introspection.check import check, take_inventory
    from aksara_signals.introspection.findings import Severity
    from aksara_signals.introspection.names import printable

    try:
        findings = check()
    except SQLAlchemyError as error:
        raise CommandError(
            f"could not configure the mapped classes: {type(error).__qualname__}: {error}"
        ) from error
    errors, warnings, notes = (
        sum(each.severity is severity for each in findings) for severity in Severity
    )
    inventory = take_inventory()
    if options.json:
        _print_json(
            {
                "findings": [each.as_json() for each in findings],
                "errors": errors,
                "warnings": warnings,
                "notes": notes,
                "receivers": inventory.receivers,
                "models": inventory.models,
                "not_imported": options.not_imported,
            }
        )
    else:
        for each in findings:
            where = printable(each.where.title)
            print(f"{where}: {each.severity} {each.code}: {printable(each.what)}")
            print(f"    {printable(each.remedy)}")
        for remark in inventory.remarks:
            print(remark)
        and_notes = f", notes: {notes}" if notes else ""
        print(f"errors: {errors}, warnings: {warnings}{and_notes}")
    return int(bool(errors or (options.strict and warnings)))


def _entries(options: argparse.Namespace) -> list[ReceiverEntry]:
    from aksara_signals.introspection.collect import collect

    return collect(options.signal, options.sender)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
