"""What became of each change: delivered, lost, made up, delivered twice, out of order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from kit.durable.shop import Change, Effect, Ware


class Fact(NamedTuple):
    """A change of a ware, or its delivery."""

    kind: str
    ware_id: int
    step: int
    mark: str


@dataclass(frozen=True)
class Verdict:
    """The counts for one receiver."""

    receiver: str
    committed: int
    effects: int
    lost: int
    phantom: int
    double: int
    misplaced: tuple[Fact, ...]
    """First deliveries that came after that of a later change of the same ware."""

    @property
    def wrong(self) -> tuple[int, int, tuple[Fact, ...]]:
        """What must be nothing, however a receiver is called."""
        return self.lost, self.phantom, self.misplaced

    def __str__(self) -> str:
        return (
            f"{self.receiver}: {self.committed} committed, {self.effects} effects, "
            f"lost={self.lost}, phantom={self.phantom}, double={self.double}, "
            f"out of order={len(self.misplaced)}"
        )


def judge(
    receiver: str,
    committed: Iterable[Fact],
    effects: Sequence[Fact],
    without_order: Container[str] = (),
) -> Verdict:
    """Compare what was committed with what was delivered.

    Args:
        receiver: The name to show.
        committed: What was committed.
        effects: What was delivered, in this order.
        without_order: The marks of changes that may be out of order.
    """
    expected, found = set(committed), Counter(effects)
    return Verdict(
        receiver,
        committed=len(expected),
        effects=len(effects),
        lost=len(expected - found.keys()),
        phantom=len(found.keys() - expected),
        double=sum(count - 1 for count in found.values()),
        misplaced=tuple(_misplaced(fact for fact in effects if fact.mark not in without_order)),
    )


def _misplaced(effects: Iterable[Fact]) -> Iterator[Fact]:
    last: dict[int, tuple[int, bool]] = {}
    for fact in dict.fromkeys(effects):
        moment = (fact.step, fact.kind == "delete")
        if moment < last.get(fact.ware_id, moment):
            yield fact
        last[fact.ware_id] = max(moment, last.get(fact.ware_id, moment))


def changes(engine: Engine) -> list[Fact]:
    """What was committed."""
    with Session(engine) as session:
        return [_fact(each) for each in session.scalars(select(Change).order_by(Change.id))]


def effects_of(engine: Engine, receiver: str) -> list[Fact]:
    """What a receiver has written, in order."""
    statement = select(Effect).where(Effect.receiver == receiver).order_by(Effect.id)
    with Session(engine) as session:
        return [_fact(each) for each in session.scalars(statement)]


def _fact(row: Change | Effect) -> Fact:
    return Fact(row.kind, row.ware_id, row.step, row.mark)


def shipped(folder: Path) -> list[Fact]:
    """What ``ship`` has written, in order."""
    lines = (folder / "shipped").read_text(encoding="utf-8").splitlines()
    facts = [line.split(" ") for line in lines]
    return [Fact(kind, int(ware_id), int(step), mark) for kind, ware_id, step, mark in facts]


def stale(engine: Engine) -> int:
    """How many wares were indexed last as they were before their last change."""
    with Session(engine) as session:
        steps = dict(map(tuple, session.execute(select(Ware.id, Ware.step))))
    indexed = {fact.ware_id: fact.step for fact in effects_of(engine, "shop.index")}
    return sum(indexed.get(key) != step for key, step in steps.items())
