"""Rows of the table: what was measured, and the goal."""

from __future__ import annotations

from dataclasses import dataclass

from harness import met_or_not

HEADER = ["what", "on", "figure", "beside it", "goal", "goal is"]
WIDTHS = [76, 10, 12, 24, 14, 0]


@dataclass(frozen=True)
class Result:
    """One figure."""

    what: str
    on: str
    """The database."""
    value: float
    unit: str = ""
    """Empty for a ratio."""
    goal: float | None = None
    is_least: bool = False
    """Whether the goal is a lower limit."""
    beside: str = ""
    """Another statistic of the same measurement."""
    noise: float = 0.0
    """How much the reference differs from itself: a goal missed by less is met."""

    @property
    def is_met(self) -> bool:
        """Whether the goal is met."""
        if self.goal is None:
            return True
        if self.is_least:
            return self.value >= self.goal - self.noise
        return self.value <= self.goal + self.noise

    def cells(self) -> list[str]:
        """The row of the table."""
        goal = verdict = ""
        if self.goal is not None:
            goal = f"{'≥' if self.is_least else '≤'} {self._shown(self.goal)}"
            verdict = met_or_not(self.is_met)
        return [self.what, self.on, self._shown(self.value), self.beside, goal, verdict]

    def _shown(self, value: float) -> str:
        if not self.unit:
            return f"{value:.2f}"
        number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
        return f"{number} {self.unit}"


def show(cells: list[str]) -> str:
    """One line of the table."""
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
