"""Comparisons: variants of one job, interleaved in one process, the minimum of many rounds."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import process_time

Job = Callable[[], object]
"""Does the work once per call; a variant is timed over a batch of calls."""


MOST_ROUNDS = "AKSARA_BENCHMARK_ROUNDS"
"""Variable of the environment: no more rounds than that, to try the programs."""

LONG_SECONDS = 0.2
"""A batch that takes longer may leave much garbage, which is collected before the next one."""


@dataclass(frozen=True)
class OwnTime:
    """A job of which only a part counts: it returns the seconds of that part."""

    job: Callable[[], float]

    def __call__(self) -> float:
        return self.job()


@dataclass
class Comparison:
    """Rows of the table that are measured together.

    ``ours`` is measured against ``reference``; ``control`` is the reference once more, and shows
    what the noise is: a difference smaller than the control's is none.
    """

    what: str
    """Ends with the reference, after "against"."""
    goal: float | None
    """How many times as long as the reference ours may take."""
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
    def noise(self) -> float:
        return abs(self.control / self.reference - 1)

    def rows(self) -> list[list[str]]:
        """Lines of the table, each with one goal: against the reference, then against each peer."""
        limits = {**dict.fromkeys(self.must_beat, 1.0), **self.at_most}
        subject, _, reference = self.what.rpartition(", against ")
        compared = [(reference, self.reference, self.goal)]
        compared += [(peer, seconds, limits.get(peer)) for peer, seconds in self.others.items()]
        return [self._row(f"{subject}, against {name}", *each) for name, *each in compared]

    def _row(self, what: str, seconds: float, goal: float | None) -> list[str]:
        ratio = self.ours / seconds
        if goal is None:
            return [what, f"{ratio:.2f}", "", f"{self.noise:.1%}", ""]
        met = met_or_not(ratio <= goal + self.noise)
        return [what, f"{ratio:.2f}", f"{goal:.2f}", f"{self.noise:.1%}", met]


@dataclass
class Figure:
    """One row of the table that is a number of its own, against a limit."""

    what: str
    value: float
    limit: float
    unit: str
    noise: str = ""

    def rows(self) -> list[list[str]]:
        value, limit = f"{self.value:.3g} {self.unit}", f"{self.limit:g} {self.unit}"
        return [[self.what, value, limit, self.noise, met_or_not(self.value <= self.limit)]]


def met_or_not(is_met: bool) -> str:
    """What the table says of a goal."""
    return "met" if is_met else "not met"


def sampled(
    jobs: dict[str, Job], *, calls: int, rounds: int, clock: Callable[[], float] = process_time
) -> dict[str, list[float]]:
    """Seconds per call of each job in each of the rounds, in which all of them take turns.

    The clock is the time of the processor that this process takes, in all its threads: what else
    the machine does meanwhile isn't part of it.
    """
    rounds = min(rounds, int(os.environ.get(MOST_ROUNDS, rounds)))
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for job in jobs.values():
        job()  # warm up caches, plans and connections
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                seconds = seconds_of(jobs[name], calls, clock)
                taken[name].append(seconds / calls)
                if seconds > LONG_SECONDS:
                    gc.collect()
            if number % 16 == 15:
                gc.collect()
    finally:
        gc.enable()
    return taken


def seconds_of(job: Job, calls: int = 1, clock: Callable[[], float] = process_time) -> float:
    """Seconds of as many calls of a job."""
    if isinstance(job, OwnTime):
        return sum(job() for _ in range(calls))
    start = clock()
    for _ in range(calls):
        job()
    return clock() - start


def interleaved(jobs: dict[str, Job], *, calls: int, rounds: int) -> dict[str, float]:
    """Seconds per call of each job: the minimum over all rounds."""
    taken = sampled(jobs, calls=calls, rounds=rounds)
    return {name: min(seconds) for name, seconds in taken.items()}


def compare(
    what: str,
    goal: float | None,
    *,
    ours: Job,
    reference: Job,
    peers: dict[str, Job] | None = None,
    must_beat: tuple[str, ...] = (),
    at_most: dict[str, float] | None = None,
    control: Job | None = None,
    calls: int = 1,
    rounds: int = 40,
) -> Comparison:
    """Measure one row; ``control`` is the reference, unless it has to be a job of its own."""
    jobs = {"ours": ours, "reference": reference, "control": control or reference}
    jobs |= peers or {}
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
