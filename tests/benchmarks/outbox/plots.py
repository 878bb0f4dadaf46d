"""Plots for the documentation; the same data give the same file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}

Series = Mapping[str, Mapping[int, float]]
"""Name of a line, which starts with its database, to size to value."""


def draw(path: Path, title: str, series: Series, x: str, y: str, scale: str = "log") -> None:
    """Write one file, with SQLite on the left and PostgreSQL on the right.

    Args:
        path: The file.
        title: What stands above.
        series: The lines.
        x: What is below.
        y: What is on the left.
        scale: Of both axes: ``"log"`` or ``"linear"``.
    """
    os.environ.setdefault("MPLBACKEND", "svg")
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "aksara", "svg.fonttype": "none", "font.size": 10})
    figure, both = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharey=True)
    colors: dict[str, str] = {}
    for axes, (dialect, name) in zip(both, DATABASES.items(), strict=True):
        _draw_lines(axes, dialect, series, colors)
        ticks = sorted({size for points in series.values() for size in points})
        axes.set(xscale=scale, yscale=scale, xlabel=x, title=name)
        axes.set_xticks(ticks, [_short(tick) for tick in ticks])
        axes.minorticks_off()
        if scale == "linear":
            axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)
    both[0].set_ylabel(y)
    figure.suptitle(title)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def _draw_lines(axes: Any, dialect: str, series: Series, colors: dict[str, str]) -> None:
    for name, points in series.items():
        database, _, label = name.partition(", ")
        if database != dialect:
            continue
        kind = label.partition(",")[0]
        color = colors.setdefault(kind, f"C{len(colors)}")
        is_extreme = label.endswith("p99")
        axes.plot(
            list(points),
            list(points.values()),
            marker="o",
            markersize=3,
            color=color,
            linestyle=":" if is_extreme or "by hand" in label else "-",
            linewidth=1.2 if is_extreme else 2,
            label=label,
        )


def _short(number: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)
