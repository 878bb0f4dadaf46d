"""The witness of the random stories objects to a library that is wrong; its stories run by themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from kit.properties.blueprints import Blueprint, Link, Model
from kit.properties.stories import Reaction, Step
from kit.properties.trials import Trial, sqlite_session

from aksara_signals import AksaraSignalsWarning
from aksara_signals.orm.flush import run, values
from aksara_signals.orm.flush.changes import changes_of
from aksara_signals.orm.flush.payloads import runs_of
from aksara_signals.orm.flush.prediction import Prediction
from aksara_signals.orm.flush.run import FlushRun
from aksara_signals.orm.outcome.entries import Queued
from aksara_signals.orm.outcome.rows import QueuedRows
from aksara_signals.orm.relations.signals import RelationshipRun
from aksara_signals.orm.statements import rows
from aksara_signals.orm.statements.execute import StatementRun
from aksara_signals.orm.statements.rows import RowChanges

PLAIN = Model(parent=None, is_joined=True, has_given_key=False, extras=frozenset())
KINDS = ("one_to_many", "two_way", "many_to_many")
BLUEPRINT = Blueprint(
    models=(PLAIN, PLAIN),
    links=tuple(
        Link(kind, 0, 1, cascade="", is_required=False, passive_deletes="False") for kind in KINDS
    ),
)
STEPS = [
    Step("new", 0, 0, 0),
    Step("new", 1, 0, 0),
    Step("commit", 0, 0, 0),
    Step("relate", 0, 0, 0),
    Step("commit", 0, 0, 0),
    Step("relate", 0, 1, 0),
    Step("commit", 0, 0, 0),
    Step("relate", 0, 2, 0),
    Step("commit", 0, 0, 0),
    Step("insert_many", 0, 0, 1),
    Step("update", 0, 0, 0),
    *[Step("update", 0, 0, 1)] * 8,
    Step("commit", 0, 0, 0),
    Step("savepoint", 0, 0, 0),
    Step("name", 0, 0, 0),
    Step("flush", 0, 0, 0),
    Step("roll_back_to", 0, 0, 0),
    Step("name", 0, 0, 0),
    Step("commit", 0, 0, 0),
    Step("unrelate", 0, 2, 0),
    Step("commit", 0, 0, 0),
    Step("delete", 0, 0, 0),
    Step("commit", 0, 0, 0),
]
REACTIONS = [
    Reaction("post_save", 1, Step("new", 0, 0, 0)),
    Reaction("pre_update", 1, Step("name", 0, 0, 0)),
]


def play(reactions: list[Reaction]) -> Trial:
    trial = Trial(BLUEPRINT)
    with sqlite_session() as session:
        trial.play(session, STEPS, reactions)
    return trial


Patch = pytest.MonkeyPatch


def ignore_children(patch: Patch) -> None:
    patch.setattr(Prediction, "_find_linked", lambda *_: None)


def ignore_abandoned_children(patch: Patch) -> None:
    patch.setattr(Prediction, "_find_abandoned", lambda *_: None)


def everything_is_foreseen(patch: Patch) -> None:
    """Also what isn't written: an object whose relationships have been looked at."""
    patch.setattr("aksara_signals.orm.flush.prediction._differs", lambda *_: True)
    patch.setattr("aksara_signals.orm.flush.prediction._has_new_target", lambda *_: True)


def changes_forget_a_column(patch: Patch) -> None:
    def forgetful(*arguments: Any) -> Any:
        found = changes_of(*arguments)
        return MappingProxyType({key: pair for key, pair in found.items() if key != "name"})

    patch.setattr(values, "changes_of", forgetful)


def changes_have_wrong_old_values(patch: Patch) -> None:
    def wrong(*arguments: Any) -> Any:
        return {key: (new, new) for key, (_, new) in changes_of(*arguments).items()}

    patch.setattr(values, "changes_of", wrong)


def post_signals_come_twice(patch: Patch) -> None:
    def twice(batches: Any, extras: Any) -> Iterator[Any]:
        yield from runs_of(batches, extras)
        if _are_sent_after(batches):
            yield from runs_of(batches, extras)

    patch.setattr(run, "runs_of", twice)


def post_signals_stay_away(patch: Patch) -> None:
    def silent(batches: Any, extras: Any) -> Iterator[Any]:
        if not _are_sent_after(batches):
            yield from runs_of(batches, extras)

    patch.setattr(run, "runs_of", silent)


def _are_sent_after(batches: Any) -> bool:
    return any(
        signal.name.startswith("post_") for each in batches for signal, _ in each.recipients.plans
    )


def deliveries_are_lost(patch: Patch) -> None:
    patch.setattr(FlushRun, "_enqueue", lambda *_: None)


def savepoints_are_not_honoured(patch: Patch) -> None:
    due = QueuedRows.due

    def all_due(rows: QueuedRows, is_committed: bool) -> Any:
        rows.undone_by = None
        return due(rows, is_committed)

    patch.setattr(Queued, "is_due", lambda *_: True)
    patch.setattr(QueuedRows, "due", all_due)


def links_come_twice(patch: Patch) -> None:
    steps = RelationshipRun.post_runs

    def twice(run: RelationshipRun) -> Iterator[Any]:
        yield from steps(run)
        yield from steps(run)

    patch.setattr(RelationshipRun, "post_runs", twice)


def links_stay_away(patch: Patch) -> None:
    patch.setattr(RelationshipRun, "post_runs", lambda _: iter(()))


def statements_come_twice(patch: Patch) -> None:
    send = StatementRun._send_rows

    def twice(run: StatementRun, *arguments: Any) -> None:
        send(run, *arguments)
        send(run, *arguments)

    patch.setattr(StatementRun, "_send_rows", twice)


def statements_stay_away(patch: Patch) -> None:
    patch.setattr(StatementRun, "_send_rows", lambda *_: None)


def deliveries_of_statements_are_lost(patch: Patch) -> None:
    patch.setattr(StatementRun, "_enqueue", lambda *_: None)


def statements_forget_changes(patch: Patch) -> None:
    for name in ("_set_values", "_differences"):
        patch.setattr(rows, name, lambda *_: {})


def statements_queue_the_sessions_own_instances(patch: Patch) -> None:
    chunks = RowChanges.chunks
    patch.setattr(RowChanges, "chunks", lambda changes, **_: chunks(changes))


SABOTAGE = [
    ignore_children,
    ignore_abandoned_children,
    everything_is_foreseen,
    changes_forget_a_column,
    changes_have_wrong_old_values,
    post_signals_come_twice,
    post_signals_stay_away,
    deliveries_are_lost,
    savepoints_are_not_honoured,
    links_come_twice,
    links_stay_away,
    statements_come_twice,
    statements_stay_away,
    deliveries_of_statements_are_lost,
    statements_forget_changes,
]


@pytest.mark.parametrize("reactions", [[], REACTIONS], ids=["alone", "with receivers that write"])
@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda each: each.__name__)
def test_a_witness_objects(monkeypatch: Patch, sabotage: Any, reactions: list[Reaction]) -> None:
    """It names what is sent wrongly, twice or not at all, and adds the story as a script."""
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, AksaraSignalsWarning)) as objection:
        play(reactions)
    assert any("session = Session(engine)" in each for each in objection.value.__notes__)


def test_a_witness_objects_to_stale_deliveries(monkeypatch: Patch) -> None:
    """Of a session that isn't synchronised; where receivers write, the last value may be theirs."""
    statements_queue_the_sessions_own_instances(monkeypatch)
    with pytest.raises(AssertionError, match="delivered"):
        play([])


@pytest.mark.parametrize("reactions", [[], REACTIONS], ids=["alone", "with receivers that write"])
def test_a_story_runs_as_a_script(tmp_path: Path, reactions: list[Reaction]) -> None:
    """The same lines with the same reactions, in an interpreter of its own."""
    story = play(reactions).story
    assert len(story.reactions) == len(reactions)
    script = tmp_path / "story.py"
    script.write_text(story.script(), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert run.returncode == 0, run.stderr
    sent = [line.split()[0] for line in run.stdout.splitlines() if line.startswith("    ")]
    assert {"pre_save", "post_update", "post_delete"} <= {*sent}
