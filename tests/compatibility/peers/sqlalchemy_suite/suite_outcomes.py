"""A pytest plugin that writes down what became of each test: given with ``-p`` to both runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

OUTCOMES = Path(os.environ["SUITE_OUTCOMES"])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A line of JSON for each test, and one more if its setup or teardown fails."""
    if report.when == "call" or report.outcome != "passed":
        line = {
            "test": report.nodeid,
            "outcome": report.outcome if report.when == "call" else f"{report.when} failed",
            "why": str(report.longrepr) if report.failed else "",
        }
        if report.skipped:
            line["outcome"] = "skipped"
        with OUTCOMES.open("a") as file:
            file.write(json.dumps(line) + "\n")
