"""Plots for the documentation."""

from __future__ import annotations

import os
from pathlib import Path

Series = dict[str, dict[int, float]]
"""Name of a line to size to seconds."""

OURS = "aksara_signals"
"""Lines whose names begin with it are drawn thicker."""


def draw(path: Path, title: str, unit: str, series: Series) -> None:
    """Write one plot, both axes logarithmic; the same data give the same file."""
    os.environ.setdefault("MPLBACKEND", "svg")
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "aksara", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in series.items():
        axes.plot(
            list(points),
            [seconds * 1e6 for seconds in points.values()],
            marker="o",
            markersize=3,
            linewidth=2.4 if name.startswith(OURS) else 1.2,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="microseconds", title=title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
