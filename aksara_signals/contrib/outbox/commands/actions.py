"""What ``aksara-signals outbox`` does."""

from __future__ import annotations

import argparse
import asyncio
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.commands.arguments import row_key
from aksara_signals.contrib.outbox.commands.database import OutboxCommandError, Store, reported
from aksara_signals.contrib.outbox.commands.findings import (
    Problem,
    row_problems,
    silent_losses,
    start_problems,
    table_problems,
)
from aksara_signals.contrib.outbox.commands.printing import (
    STATUSES,
    age,
    progress,
    text_of,
    without_values,
    write,
    write_json,
    write_table,
)
from aksara_signals.contrib.outbox.outbox import Outbox
from aksara_signals.contrib.outbox.registry import durable_receivers
from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.rows.upkeep import Selection
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import AksaraSignalsError
from aksara_signals.introspection.findings import Severity
from aksara_signals.introspection.load import LoadError, find, importing, load


def run(name: str, options: argparse.Namespace) -> int:
    """Run ``aksara-signals worker`` or ``relay``, or an action of ``aksara-signals outbox``.

    Returns:
        The exit status.

    Raises:
        OutboxCommandError: It can't be run.
    """
    try:
        with importing():
            if name in {"worker", "relay"}:
                from aksara_signals.contrib.outbox.commands.process import run_service

                outbox, sessions = _load(options.app, options.sessions)
                with reported(outbox):
                    return run_service(outbox, sessions, options)
            return _run_action(name, options)
    except (AksaraSignalsError, OutboxCommandError, LoadError) as error:
        if options.traceback:
            traceback.print_exception(error.__cause__ or error)
        raise OutboxCommandError(str(error)) from error


def _run_action(name: str, options: argparse.Namespace) -> int:
    paths = [each for each in options.names if ":" in each]
    options.names = [each for each in options.names if ":" not in each]
    if name in {"stats", "dead", "purge"} and options.names:
        raise OutboxCommandError(
            f"{options.names[0]!r} is not an outbox: name it as module:attribute"
        )
    outbox, sessions = _load(paths[0] if paths else options.app, options.sessions)
    with asyncio.Runner() as runner:
        store = Store(outbox, sessions, runner)
        with reported(outbox):
            try:
                return _ACTIONS[name](store, options)
            finally:
                store.dispose()


def _load(app: str | None, factory: str | None) -> tuple[Outbox, Callable[[], Any]]:
    if app is None:
        raise OutboxCommandError("name the outbox with --app, such as --app app.main:outbox")
    if factory is None:
        raise OutboxCommandError("name what makes sessions, such as --sessions app.db:Sessions")
    outbox = find(app, "the outbox")
    if not isinstance(outbox, Outbox):
        raise OutboxCommandError(f"{app} is {describe_sender(outbox)}, and not an Outbox")
    sessions = find(factory, "--sessions")
    session = sessions() if callable(sessions) else None
    if not isinstance(session, (Session, AsyncSession)):
        raise OutboxCommandError(
            f"--sessions {factory} makes no sessions; name an async_sessionmaker or a sessionmaker"
        )
    return outbox, sessions


# -- looking --------------------------------------------------------------------------------------


def _stats(store: Store, options: argparse.Namespace) -> int:
    found = store.run(upkeep.stats, store.outbox.tables)
    if options.json:
        write_json({"receivers": [{**asdict(each), "pending": each.pending} for each in found]})
    elif not found:
        write("the outbox is empty")
    else:
        _table(
            ("receiver", "waiting", "retrying", "leased", "dead", "done", "oldest", ""),
            [
                (
                    each.receiver,
                    each.fresh,
                    each.retrying,
                    each.leased,
                    each.dead,
                    each.done,
                    age(each.oldest_seconds),
                    "down" if each.is_down else "",
                )
                for each in found
            ],
        )
    return 0


def _dead(store: Store, options: argparse.Namespace) -> int:
    found = store.run(
        upkeep.dead, store.outbox.tables, _selection(options, []), limit=options.limit
    )
    names = ("seq", "receiver", "aggregatetype", "aggregateid", "attempts", "crashes", "done_at")
    if options.json:
        write_json({"dead": [_readable(row) for row in found]})
    elif not found:
        write("no row is dead")
    else:
        _table(
            ("number", "receiver", "model", "key", "attempts", "crashes", "died (UTC)", "error"),
            [[*(row[name] for name in names), row["last_error"]] for row in found],
        )
    return 0


def _show(store: Store, options: argparse.Namespace) -> int:
    if not options.names:
        raise OutboxCommandError("name a row: its number, or the id of what was sent")
    found: list[dict[str, Any]] = []
    for key in _keys(options.names):
        rows = store.run(upkeep.show, store.outbox.tables, key)
        if not rows:
            raise OutboxCommandError(f"there is no row {key}")
        found += rows
    if not options.values:
        found = [without_values(row) for row in found]
    if options.json:
        write_json({"rows": [_readable(row) for row in found]})
        return 0
    for number, row in enumerate(found):
        if number:
            write("")
        for name, value in _readable(row).items():
            if value is not None:
                write(f"{name + ':':<15}{text_of(value)}")
    return 0


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "status": STATUSES.get(row["status"], row["status"])}


def _check(store: Store, options: argparse.Namespace) -> int:
    tables, outbox = store.outbox.tables, store.outbox
    outbox.install()
    installed = durable_receivers()
    with load(options.names):
        known = durable_receivers()
    problems: list[Problem] = store.run(lambda connection: list(table_problems(connection, tables)))
    if not any(each.severity is Severity.ERROR for each in problems):
        problems += store.in_session(
            lambda session: list(start_problems(session, tables, known.values(), outbox.modules))
        )
        problems += store.run(
            lambda connection: list(row_problems(connection, tables, known.values()))
        )
    problems += silent_losses(installed, known)
    errors = sum(each.severity is Severity.ERROR for each in problems)
    warnings = len(problems) - errors
    if options.json:
        found = [each.as_json() for each in problems]
        write_json(
            {"findings": found, "errors": errors, "warnings": warnings, "receivers": len(known)}
        )
    else:
        for each in problems:
            write(f"{each.severity} {each.code}: {text_of(each.what)}")
            write(f"    {text_of(each.remedy)}")
        write(f"durable receivers: {len(known)}, errors: {errors}, warnings: {warnings}")
    return int(bool(errors or (options.strict and warnings)))


# -- changing -------------------------------------------------------------------------------------


def _requeue(store: Store, options: argparse.Namespace) -> int:
    return _change(store, options, "requeue", upkeep.requeue)


def _discard(store: Store, options: argparse.Namespace) -> int:
    return _change(store, options, "discard", upkeep.discard)


def _replay(store: Store, options: argparse.Namespace) -> int:
    return _change(store, options, "replay", upkeep.replay)


def _republish(store: Store, options: argparse.Namespace) -> int:
    return _change(store, options, "republish", upkeep.republish)


def _change(
    store: Store,
    options: argparse.Namespace,
    name: upkeep.Action,
    action: Callable[..., upkeep.Chunk],
) -> int:
    has_filter = bool(options.names or options.receiver or options.since)
    if has_filter == options.all:
        raise OutboxCommandError(
            "--all is for all rows: name nothing beside it"
            if options.all
            else f"say which rows to {name}: IDs, --receiver, --since, or --all"
        )
    selection, tables = _selection(options, options.names), store.outbox.tables
    total = store.run(upkeep.count, tables, name, selection)
    if options.dry_run:
        rows = total
    else:
        with progress(name, total) as advance:
            rows = upkeep.all_chunks(store.run, action, tables, selection, advance)
    _report(options, name, rows, is_dry=options.dry_run)
    return 0


def _purge(store: Store, options: argparse.Namespace) -> int:
    rows, outbox = 0, store.outbox
    done, dead = options.keep_done, options.keep_dead
    with progress("purge", 0) as advance:
        while True:
            found: int = store.run(
                upkeep.purge,
                outbox.tables,
                done_seconds=outbox.keep_done_seconds if done is None else done,
                dead_seconds=outbox.keep_dead_seconds if dead is None else dead,
            )
            rows += found
            if advance is not None:
                advance(found)
            if found < upkeep.CHUNK:
                break
    _report(options, "purge", rows)
    return 0


def _report(options: argparse.Namespace, name: str, rows: int, *, is_dry: bool = False) -> None:
    if options.json:
        write_json({"action": name, "rows": rows, "dry_run": is_dry})
        return
    would = "would be " if is_dry else ""
    write(f"{rows} {'row' if rows == 1 else 'rows'} {would}{name.removesuffix('e')}ed")


def _selection(options: argparse.Namespace, names: list[str]) -> Selection:
    keys = _keys(names)
    return Selection(
        seqs=tuple(key for key in keys if isinstance(key, int)),
        ids=tuple(key for key in keys if isinstance(key, UUID)),
        receiver=options.receiver,
        since_seconds=options.since,
    )


def _keys(names: list[str]) -> list[int | UUID]:
    try:
        return [row_key(name) for name in names]
    except ValueError as error:
        raise OutboxCommandError(str(error)) from error


def _table(columns: Any, rows: Any) -> None:
    try:
        write_table(columns, rows)
    except ImportError as error:
        raise OutboxCommandError(
            "the table needs Rich: pip install 'aksara-signals[cli]'; or add --json"
        ) from error


_ACTIONS: dict[str, Callable[[Store, argparse.Namespace], int]] = {
    "check": _check,
    "dead": _dead,
    "discard": _discard,
    "purge": _purge,
    "replay": _replay,
    "republish": _republish,
    "requeue": _requeue,
    "show": _show,
    "stats": _stats,
}
