"""The arguments of ``aksara-signals worker``, ``relay`` and ``outbox``; imports no SQLAlchemy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_EXECUTES = "The application's modules are imported, which executes them."


def add_commands(commands: Any, run: Callable[[str, argparse.Namespace], int]) -> None:
    """Add the commands to a parser.

    Args:
        commands: What its ``add_subparsers()`` has returned.
        run: Runs the command of a name.
    """
    _add_worker(commands, run)
    _add_relay(commands, run)
    _add_outbox(commands, run)


def _add_worker(commands: Any, run: Callable[[str, argparse.Namespace], int]) -> None:
    worker: argparse.ArgumentParser = commands.add_parser(
        "worker",
        help="call durable receivers until it is stopped",
        description=f"Call durable receivers until it is stopped. {_EXECUTES} SIGTERM or SIGINT "
        f"ends it when its receivers have finished, a second one at once.",
    )
    _add_service(
        worker,
        "only receivers of this name, in which * is any text; may be given several times",
        ("concurrency", int, "N", "how many receivers run at a time (8)"),
        ("grace-seconds", float, "SECONDS", "how long receivers may go on at the end (25)"),
    )
    worker.set_defaults(run=lambda options: run("worker", options))


def _add_relay(commands: Any, run: Callable[[str, argparse.Namespace], int]) -> None:
    relay: argparse.ArgumentParser = commands.add_parser(
        "relay",
        help="publish what durable receivers are sent to a broker, until it is stopped",
        description=f"Publish what durable receivers are sent to a broker, until it is stopped. "
        f"{_EXECUTES} SIGTERM or SIGINT ends it when what it publishes is confirmed, a second one "
        f"at once.",
    )
    relay.add_argument(
        "--to",
        metavar="MODULE:FUNCTION",
        required=True,
        help="what publishes an event, such as app.queue:publish",
    )
    _add_service(
        relay,
        "only for receivers of this name, in which * is any text; may be given several times",
        ("concurrency", int, "N", "how many events are being published at a time (64)"),
        ("timeout-seconds", float, "SECONDS", "how long the broker may take to confirm one (30)"),
        ("grace-seconds", float, "SECONDS", "how long it may go on publishing at the end (25)"),
    )
    relay.set_defaults(run=lambda options: run("relay", options))


def _add_service(
    parser: argparse.ArgumentParser,
    receivers: str,
    *others: tuple[str, Callable[[str], Any], str, str],
) -> None:
    """Add what workers and relays have in common."""
    parser.add_argument("app", metavar="MODULE:OUTBOX", help="the outbox, such as app.main:outbox")
    _add_connection(parser, is_needed=True)
    parser.add_argument("--receivers", action="append", metavar="PATTERN", help=receivers)
    options: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
        *others,
        ("batch-size", int, "N", "how many rows it has at a time (200)"),
        ("lease-seconds", float, "SECONDS", "how long rows are reserved for it (60)"),
        ("health-file", Path, "FILE", "a file that is touched while it works with the database"),
    )
    for name, kind, metavar, text in options:
        parser.add_argument(
            f"--{name}", type=kind, metavar=metavar, help=text, default=argparse.SUPPRESS
        )
    parser.add_argument(
        "--listen",
        action="store_true",
        default=argparse.SUPPRESS,
        help="let PostgreSQL notify it of new rows, on a connection of its own",
    )


def _add_outbox(commands: Any, run: Callable[[str, argparse.Namespace], int]) -> None:
    outbox: argparse.ArgumentParser = commands.add_parser(
        "outbox",
        help="look after the rows of durable receivers",
        description=f"Look after the rows of durable receivers. {_EXECUTES}",
    )
    _add_app(outbox, None)
    _add_connection(outbox, None)
    actions = outbox.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        # Each may stand before the action, too, as in an alias: what stands there is the default.
        _add_app(parser, argparse.SUPPRESS)
        _add_connection(parser, argparse.SUPPRESS)
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")
        parser.set_defaults(run=lambda options: run(name, options))
        return parser

    _add_names(add("stats", "show how many rows each receiver has"), "")
    dead = add("dead", "list the rows that are given up, the latest first")
    _add_names(dead, "")
    _add_filters(dead)
    dead.add_argument(
        "--limit", type=_positive, default=100, metavar="N", help="at most so many (%(default)s)"
    )
    show = add("show", "show all of a row")
    _add_names(show, "ID")
    show.add_argument("--values", action="store_true", help="with the values of its payload")
    for name, text in (
        ("requeue", "let dead rows wait again, with all their attempts"),
        ("discard", "delete rows that wait or are dead"),
        ("replay", "let rows that are done wait again: their receivers are called once more"),
        ("republish", "publish again what a broker has lost: what it has delivered is refused"),
    ):
        parser = add(name, text)
        _add_names(parser, "ID")
        _add_filters(parser)
        parser.add_argument("--all", action="store_true", help="all rows, of all receivers")
        parser.add_argument(
            "--dry-run", action="store_true", help="only show how many rows it would change"
        )
    purge = add("purge", "delete rows that were done, or given up, long ago")
    _add_names(purge, "")
    for status, text in (("done", "are done"), ("dead", "are given up")):
        purge.add_argument(
            f"--keep-{status}",
            type=_kept,
            metavar="TIME",
            help=f"how long rows stay that {text}, as 24h or 0s (by default, as workers keep them)",
        )
    check = add("check", "find what keeps rows from being written or called")
    _add_names(check, "MODULE")
    check.add_argument(
        "--strict", action="store_true", help="exit with status 1 if there are warnings, too"
    )


def _add_app(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--app",
        metavar="MODULE:OUTBOX",
        default=default,
        help="the outbox, such as app.main:outbox",
    )


def _add_connection(
    parser: argparse.ArgumentParser, default: Any = None, *, is_needed: bool = False
) -> None:
    parser.add_argument(
        "--sessions",
        metavar="MODULE:FACTORY",
        default=default,
        required=is_needed,
        help="the async_sessionmaker or sessionmaker of the outbox's database",
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=False if default is None else default,
        help="show the traceback of an error",
    )


def _add_names(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add what stands without an option: the outbox, and IDs or modules."""
    texts = {
        "": "the outbox, in place of --app",
        "ID": "the numbers of rows, or the ids of what was sent",
        "MODULE": "modules that connect receivers: report those that outbox.install() doesn't",
    }
    parser.add_argument("names", nargs="*", metavar=metavar or "MODULE:OUTBOX", help=texts[metavar])


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--receiver", metavar="NAME", help="only rows of this receiver; * is any text"
    )
    parser.add_argument(
        "--since",
        type=duration,
        metavar="TIME",
        help="only rows that ended, or were written, in the last 90s, 30m, 2h, 1d or 1w",
    )


def duration(text: str) -> float:
    """The seconds of a duration, such as ``2h``."""
    found = _DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 30m, 2h, 1d or 1w")
    return float(found[1]) * _UNITS[found[2]]


def row_key(text: str) -> int | UUID:
    """The number of a row, or the id of what was sent."""
    try:
        return int(text) if text.isdecimal() else UUID(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither the number of a row nor an id; see 'aksara-signals outbox dead'"
        ) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _kept(text: str) -> float:
    return 0.0 if text in {"0", "0s"} else duration(text)
