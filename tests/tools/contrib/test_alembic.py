"""A real Alembic project, whose data migration writes through mapped classes."""

from __future__ import annotations

import asyncio
import importlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command, context
from alembic.config import Config
from kit.blog import Entry
from kit.databases import Database
from kit.support import Recorder
from sqlalchemy import select
from sqlalchemy.orm import Session

from aksara_signals import (
    AsyncReceiverError,
    MigrationError,
    SignalContext,
    post_migrate,
    post_save,
    pre_init,
    pre_migrate,
    pre_save,
)
from aksara_signals.contrib.alembic import COMMANDS, migration_signals

PROJECT = Path(__file__).with_name("migrations")


@pytest.fixture(params=["sync", "async"])
def config(request: pytest.FixtureRequest, database: Database) -> Config:
    """Alembic's configuration, for an ``env.py`` with a plain and with an async engine."""
    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    config.set_main_option("script_location", str(PROJECT))
    config.set_main_option("path_separator", "os")
    config.attributes["database"] = database
    config.attributes["is_async"] = request.param == "async"
    return config


def entries(database: Database) -> list[tuple[str, str | None]]:
    engine = database.create_sync_engine()
    with Session(engine) as session:
        rows = session.execute(select(Entry.title, Entry.slug).order_by(Entry.id)).all()
    engine.dispose()
    return [tuple(row) for row in rows]


def test_migrations_are_sent_and_models_are_silent(
    config: Config, database: Database, recorder: Recorder
) -> None:
    """upgrade and downgrade are the senders; nothing is sent for the rows of the data migration."""
    for signal in (pre_migrate, post_migrate, pre_save, post_save, pre_init):
        recorder.record(signal)
    command.upgrade(config, "head")
    assert [(c.signal, c.sender) for c in recorder.calls] == [
        ("pre_migrate", "upgrade"),
        ("post_migrate", "upgrade"),
    ]
    assert entries(database) == [
        ("First Steps", "first-steps"),
        ("Second Thoughts", "second-thoughts"),
        ("Third Time", "third-time"),
    ]
    recorder.clear()
    command.downgrade(config, "0001")
    assert [(c.signal, c.sender) for c in recorder.calls] == [
        ("pre_migrate", "downgrade"),
        ("post_migrate", "downgrade"),
    ]


def test_autogenerating_is_sent_as_revision(
    config: Config, tmp_path: Path, recorder: Recorder
) -> None:
    """revision --autogenerate sends; check and current, which also run env.py, don't."""
    recorder.record(pre_migrate)
    command.upgrade(config, "head")
    recorder.clear()
    command.current(config)
    command.check(config)
    assert recorder.calls == []
    config.set_main_option("version_locations", f"{PROJECT / 'versions'}:{tmp_path}")
    command.revision(config, "nothing", autogenerate=True, version_path=str(tmp_path))
    assert [call.sender for call in recorder.calls] == ["revision"]


def test_one_command_can_be_listened_to(config: Config) -> None:
    """A receiver for one command isn't called for another."""
    seen: list[str] = []

    @post_migrate("downgrade")
    def note(sender: str, **kwargs: Any) -> None:
        seen.append(sender)

    command.upgrade(config, "head")
    command.downgrade(config, "base")
    assert seen == ["downgrade"]
    assert set(COMMANDS) == {"upgrade", "downgrade", "revision"}


def test_receivers_write_in_the_migrations_transaction(
    config: Config, database: Database, recorder: Recorder
) -> None:
    """What a receiver writes through the connection is committed with the migration, and sends signals."""
    recorder.record(post_save, Entry)

    @post_migrate("upgrade")
    def add(sender: str, connection: Any, **kwargs: Any) -> None:
        with Session(connection) as session:
            session.add(Entry(title="Added", slug="added"))
            session.commit()

    command.upgrade(config, "head")
    assert entries(database)[-1] == ("Added", "added")
    assert len(recorder.calls) == 1


def test_a_failing_migration_has_no_end(
    config: Config, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """post_migrate isn't sent for a migration that fails, and models send signals again."""
    recorder.record(pre_migrate)
    recorder.record(post_migrate)
    with pytest.raises(RuntimeError, match="no such luck"):
        monkeypatch.setattr(
            "alembic.runtime.migration.MigrationContext.run_migrations",
            lambda self, **kwargs: (_ for _ in ()).throw(RuntimeError("no such luck")),
        )
        command.upgrade(config, "head")
    assert recorder.names == ["pre_migrate"]
    recorder.record(pre_init, Entry, sync=True)
    Entry(title="sent")
    assert recorder.names == ["pre_migrate", "pre_init"]


def test_receivers_that_suspend(config: Config) -> None:
    """An async receiver may suspend where env.py has an async engine, and raises elsewhere."""
    seen: list[str] = []

    @pre_migrate
    async def suspend(sender: str, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append(sender)

    if config.attributes["is_async"]:
        command.upgrade(config, "head")
        assert seen == ["upgrade"]
    else:
        with pytest.raises(AsyncReceiverError):
            command.upgrade(config, "head")


def test_offline_migrations_have_no_connection(config: Config, recorder: Recorder) -> None:
    """Alembic's offline mode sends as well, with connection=None."""
    recorder.record(pre_migrate, sync=True)
    recorder.record(post_migrate, sync=True)
    command.upgrade(config, "head", sql=True)
    assert [call.payload["connection"] for call in recorder.calls] == [None, None]
    assert "CREATE TABLE entry" in config.output_buffer.getvalue()


def test_silenced_migrations_are_not_sent(config: Config, recorder: Recorder) -> None:
    """A SignalContext around the command silences the signals of migrations, too."""
    recorder.record(pre_migrate)
    with SignalContext.disable_for("upgrade"):
        command.upgrade(config, "head")
    assert recorder.calls == []


def test_outside_of_a_configured_environment(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entered before context.configure(), the error says where the line belongs."""

    def unconfigured() -> Any:
        raise Exception("No context has been configured yet.")

    monkeypatch.setattr(context, "get_context", unconfigured, raising=False)
    with pytest.raises(MigrationError, match="around"), migration_signals():
        raise AssertionError("never entered")


def test_without_alembic_the_way_out_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the bridge where Alembic isn't installed says what to install."""
    monkeypatch.setitem(sys.modules, "alembic", None)
    monkeypatch.delitem(sys.modules, "aksara_signals.contrib.alembic")
    with pytest.raises(ImportError, match=r"pip install 'aksara-signals\[alembic\]'"):
        importlib.import_module("aksara_signals.contrib.alembic")
