"""Signals before and after Alembic's migrations, and silence while they run."""

from __future__ import annotations

from collections.abc import Iterator

from aksara_signals.dispatch.blocks import block
from aksara_signals.dispatch.context import SignalContext
from aksara_signals.dispatch.senders import MIGRATION_COMMANDS
from aksara_signals.exceptions import MigrationError
from aksara_signals.orm.sending import runs_of_signal, send
from aksara_signals.signals import post_migrate, pre_migrate

try:
    from alembic import context
    from alembic.runtime.migration import MigrationContext
except ImportError as _error:
    raise ImportError(
        "aksara_signals.contrib.alembic needs Alembic: pip install 'aksara-signals[alembic]'"
    ) from _error

__all__ = ["COMMANDS", "migration_signals"]

COMMANDS: tuple[str, ...] = MIGRATION_COMMANDS
"""The commands of Alembic that send the two signals: these names are the senders."""


@block
def migration_signals() -> Iterator[None]:
    """Send ``pre_migrate`` and ``post_migrate`` around migrations, and silence models meanwhile.

    For ``env.py``, around ``context.run_migrations()``. Inside ``context.begin_transaction()``,
    what receivers write through the payload's ``connection`` is committed or rolled back with the
    migration; around it, receivers run before and after its transaction. ``post_migrate`` is sent
    only if the migrations succeed. The senders are ``upgrade``, ``downgrade`` and ``revision``
    (which runs ``env.py`` only to compare models with a database); other commands run in silence
    and send neither signal. Where ``env.py`` uses an async engine, async receivers are awaited;
    elsewhere one that suspends raises ``AsyncReceiverError``.

    Raises:
        MigrationError: ``context.configure()`` has not been called yet.

    Source: Django's ``pre_migrate`` and ``post_migrate``, whose senders are its applications.
    """
    migration = _configured()
    sender = _command(migration)
    payload = {"connection": None if migration.as_sql else migration.connection}
    if sender is not None:
        send(runs_of_signal(pre_migrate, sender, payload))
    with SignalContext.disable_all():
        yield
    if sender is not None:
        send(runs_of_signal(post_migrate, sender, payload))


def _configured() -> MigrationContext:
    try:
        return context.get_context()
    except Exception as error:  # Alembic has no class of its own for this one
        raise MigrationError(
            "migration_signals() was entered before context.configure(); write it around "
            "context.run_migrations() in env.py"
        ) from error


def _command(migration: MigrationContext) -> str | None:
    # Alembic gives env.py a function to run, and not the name of the command. But each command
    # defines that function inside itself, so its name is in the path: "upgrade.<locals>.upgrade".
    name: str = getattr(migration.opts.get("fn"), "__qualname__", "").partition(".")[0]
    return name if name in COMMANDS else None
