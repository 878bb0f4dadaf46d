"""Deploys: old and new code run at the same time, in processes of their own."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from kit.durable import drained
from kit.durable.programs import Programs, wait_until
from kit.durable.shop import outbox
from kit.durable.verdict import effects_of
from sqlalchemy import Engine, func, select, update

from aksara_signals.contrib.outbox.rows.tables import DONE, WAITING, clock

HEAD = """
    from aksara_signals import post_save
    from aksara_signals.contrib.outbox import Durable, Retry
    from kit.durable.shop import Effect, Ware

    def note(receiver, kind, event, session):
        values = {"step": 0, "mark": "", **event.values}
        session.add(Effect(receiver=receiver, kind=kind, ware_id=event.key[0], **values))
"""
OLD = """
    @post_save(Ware, durable=Durable("deploy.index", include=("mark",)))
    async def index(event, session, **kwargs):
        note("index", f"old {event.version}", event, session)
"""
WITH_ANOTHER = """
    @post_save(Ware, durable=Durable("deploy.mail", include=("mark",)))
    async def mail(event, session, **kwargs):
        note("mail", "new", event, session)
"""
SECOND_VERSION = """
    def upgrade(payload):
        if payload["values"]["mark"] in BROKEN:
            raise ValueError("the upgrade fails")
        payload["values"]["step"] = -1
        return payload

    BROKEN = ()
    INDEX = Durable(
        "deploy.index",
        include=("step", "mark"),
        version=2,
        upgrade={1: upgrade},
        retry=Retry(attempts=2, first_seconds=0.01),
    )

    @post_save(Ware, durable=INDEX)
    async def index(event, session, **kwargs):
        note("index", f"new {event.version}", event, session)
"""
RENAMED = """
    @post_save(Ware, durable=Durable("deploy.search", include=("mark",), formerly=("deploy.index",)))
    async def search(event, session, **kwargs):
        note("index", "renamed", event, session)
"""


@pytest.fixture
def deployed(shop_programs: Programs, tmp_path: Path) -> Programs:
    """Modules ``code_…``, each of which is the code of one deploy."""
    for name, codes in {
        "code_old": (OLD,),
        "code_another": (OLD, WITH_ANOTHER),
        "code_second": (SECOND_VERSION,),
        "code_broken": (SECOND_VERSION.replace("BROKEN = ()", 'BROKEN = ("a",)'),),
        "code_renamed": (RENAMED,),
    }.items():
        code = textwrap.dedent(HEAD) + "".join(textwrap.dedent(each) for each in codes)
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    return shop_programs


def save(programs: Programs, code: str, *marks: str) -> None:
    program = programs.run("kit.durable.save", *marks, modules=[code])
    assert program.wait() == 0, program.output


def delivered(engine: Engine, receiver: str = "index") -> list[tuple[str, str]]:
    """Mark and kind of what a receiver has noted, in order."""
    return [(fact.mark, fact.kind) for fact in effects_of(engine, receiver)]


def test_an_old_worker_meets_rows_of_a_new_receiver(
    shop_engine: Engine, deployed: Programs
) -> None:
    """It delivers the others, leaves these uncounted, and says so; a new worker delivers them."""
    old = deployed.worker(modules=["code_old"])
    old.wait_until_ready()
    save(deployed, "code_another", "a", "b")
    wait_until(lambda: len(delivered(shop_engine)) == 2, "the known receiver's rows are done")
    left = [row for row in drained.rows(shop_engine) if row.status == WAITING]
    assert [(row.receiver, row.attempts, row.leased_by) for row in left] == [
        ("deploy.mail", 0, None)
    ] * 2
    new = deployed.worker(modules=["code_another"])
    drained.wait_until_drained(shop_engine)
    assert sorted(delivered(shop_engine, "mail")) == [("a", "new"), ("b", "new")]
    assert deployed.end_all() == []
    # A worker that starts finds them at once, and one that runs within a minute.
    late = deployed.worker(modules=["code_old"])
    save(deployed, "code_another", "c")
    late.wait_until_ready()
    assert deployed.end_all() == []
    assert "WARNING" not in new.output


def test_an_old_worker_meets_rows_of_a_newer_version(
    shop_engine: Engine, deployed: Programs
) -> None:
    """It puts them off for a minute, uncounted, with a warning; a new worker delivers them."""
    old = deployed.worker(modules=["code_old"])
    save(deployed, "code_second", "a", "b")
    table = outbox.tables.outbox
    is_put_off = (
        select(func.count())
        .select_from(table)
        .where(table.c.visible_at > clock(30), table.c.leased_by.is_(None))
    )

    def put_off() -> int:
        with shop_engine.begin() as connection:
            return connection.execute(is_put_off).scalar_one()

    wait_until(lambda: put_off() == 2, "the rows are put off")
    assert [(row.attempts, row.crashes) for row in drained.rows(shop_engine)] == [(0, 0)] * 2
    new = deployed.worker(modules=["code_second"])
    new.wait_until_ready()
    assert delivered(shop_engine) == []
    with shop_engine.begin() as connection:  # a minute later
        connection.execute(
            update(table).where(table.c.leased_by.is_(None)).values(visible_at=clock(-1))
        )
    # The old worker may be the first once more; then that was not the last minute.
    assert old.end() == 0, old.output
    with shop_engine.begin() as connection:
        connection.execute(
            update(table)
            .where(table.c.leased_by.is_(None), table.c.status == WAITING)
            .values(visible_at=clock(-1))
        )
    drained.wait_until_drained(shop_engine)
    assert sorted(delivered(shop_engine)) == [("a", "new 2"), ("b", "new 2")]
    assert "waits for a worker with newer code" in old.output
    assert deployed.end_all() == []


def test_a_new_worker_meets_rows_of_an_older_version(
    shop_engine: Engine, deployed: Programs
) -> None:
    """It upgrades them, and delivers them before later ones about the same row."""
    save(deployed, "code_old", "a", "b")
    save(deployed, "code_second", "1:a2")
    deployed.worker(modules=["code_second"])
    drained.wait_until_drained(shop_engine)
    facts = effects_of(shop_engine, "index")
    assert [(fact.mark, fact.step) for fact in facts if fact.ware_id == 1] == [("a", -1), ("a2", 2)]
    assert [(fact.mark, fact.step) for fact in facts if fact.ware_id == 2] == [("b", -1)]
    assert deployed.end_all() == []


def test_an_upgrade_fails(shop_engine: Engine, deployed: Programs) -> None:
    """It counts as a failed attempt; the dead letter holds up neither others nor its own lane."""
    save(deployed, "code_old", "a", "b", "1:a2")
    deployed.worker(modules=["code_broken"])
    drained.wait_until_drained(shop_engine)
    assert sorted(mark for mark, _ in delivered(shop_engine)) == ["a2", "b"]
    dead, *others = drained.rows(shop_engine)
    assert (dead.attempts, dead.last_error.split(":")[0]) == (2, "ValueError")
    assert {row.status for row in others} == {DONE}
    assert deployed.end_all() == []


def test_a_receiver_is_renamed_while_rows_wait(shop_engine: Engine, deployed: Programs) -> None:
    """The new name takes the old one's rows over, first and in order, while old workers run."""
    save(deployed, "code_old", "1", *[f"1:{step}" for step in range(2, 6)])
    save(deployed, "code_renamed", *[f"1:{step}" for step in range(6, 10)])
    for code in "code_renamed", "code_old":
        deployed.worker(modules=[code], batch_size=2)
    # Rows of the new name wait behind the old ones, which both workers call.
    drained.wait_until_drained(shop_engine)
    assert [mark for mark, _ in delivered(shop_engine)] == [str(step) for step in range(1, 10)]
    assert deployed.end_all() == []
