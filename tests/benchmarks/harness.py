"""Comparisons: variants of one job, interleaved in one process, the minimum of many rounds."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

Job = Callable[[], object]
"""Does the work once per call; a variant is timed over a batch of calls."""


@dataclass
class Comparison:
    """One row of the table.

    ``ours`` is measured against ``reference``; ``control`` is the reference once more, and shows
    what the noise is: a difference smaller than the control's is none.
    """

    what: str
    goal: float | None
    ours: float
    reference: float
    control: float
    others: dict[str, float] = field(default_factory=dict)
    """Seconds of peers, by name."""
    must_beat: tuple[str, ...] = ()
    """The peers that ours has to be faster than."""
    at_most: dict[str, float] = field(default_factory=dict)
    """How many times as long as a peer ours may take."""

    @property
    def ratio(self) -> float:
        return self.ours / self.reference

    @property
    def noise(self) -> float:
        return abs(self.control / self.reference - 1)

    @property
    def is_met(self) -> bool:
        within = self.goal is None or self.ratio <= self.goal + self.noise
        limits = {**dict.fromkeys(self.must_beat, 1.0), **self.at_most}
        return within and all(
            self.ours < self.others[peer] * (limit + self.noise) for peer, limit in limits.items()
        )

    def cells(self) -> list[str]:
        """What the table shows: what, ratio, goal, noise, whether it is met, and the peers."""
        goal = "" if self.goal is None else f"{self.goal:.2f}"
        peers = (f"{name} {seconds / self.ours:.2f}" for name, seconds in self.others.items())
        met = "met" if self.is_met else "not met"
        return [self.what, f"{self.ratio:.2f}", goal, f"{self.noise:.1%}", met, ", ".join(peers)]


@dataclass
class Figure:
    """One row of the table that is a number of its own, against a limit."""

    what: str
    value: float
    limit: float
    unit: str
    noise: str = ""

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit

    def cells(self) -> list[str]:
        met = "met" if self.is_met else "not met"
        value, limit = f"{self.value:.3g} {self.unit}", f"{self.limit:g} {self.unit}"
        return [self.what, value, limit, self.noise, met, ""]


def interleaved(jobs: dict[str, Job], *, calls: int, rounds: int) -> dict[str, float]:
    """Seconds per call of each job: the minimum over rounds in which all of them take turns."""
    best = dict.fromkeys(jobs, float("inf"))
    names = list(jobs)
    for job in jobs.values():
        job()  # warm up caches, plans and connections
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                job = jobs[name]
                start = perf_counter()
                for _ in range(calls):
                    job()
                best[name] = min(best[name], (perf_counter() - start) / calls)
            if number % 16 == 15:
                gc.collect()
    finally:
        gc.enable()
    return best


def compare(
    what: str,
    goal: float | None,
    *,
    ours: Job,
    reference: Job,
    peers: dict[str, Job] | None = None,
    must_beat: tuple[str, ...] = (),
    at_most: dict[str, float] | None = None,
    calls: int = 1,
    rounds: int = 40,
) -> Comparison:
    """Measure one row."""
    jobs = {"ours": ours, "reference": reference, "control": reference, **(peers or {})}
    best = interleaved(jobs, calls=calls, rounds=rounds)
    return Comparison(
        what,
        goal,
        best.pop("ours"),
        best.pop("reference"),
        best.pop("control"),
        best,
        must_beat,
        at_most or {},
    )
