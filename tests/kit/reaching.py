"""Which tests execute which lines of the package, found out under coverage and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.mutating import Mutant

__all__ = ["PACKAGE", "QUIETLY", "ROOT", "Reach"]

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"
PACKAGE = ROOT / "aksara_signals"

FEW = 10
"""Tests that execute something."""

QUIETLY = (
    "-q",
    "--no-header",
    "--tb=line",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    # Else pytest would compile the package itself, which holds one of its plugins.
    "--assert=plain",
)


@dataclass
class Reach:
    """Which tests execute which lines, and how long they take."""

    seconds: dict[str, float]
    """Of each test."""
    by_line: dict[str, dict[int, set[str]]]
    """By file of the package and line: the tests."""

    @classmethod
    def found(cls, cache: Path, folders: Iterable[str]) -> Reach:
        """Find out, as far as it isn't known from the last time."""
        cache.mkdir(parents=True, exist_ok=True)
        # Not the modules that tests share: what they change about the reach of a test is little.
        shared = _digest(PACKAGE.rglob("*.py"))
        known: dict[str, Path] = {}
        for folder in folders:
            missing = []
            for file in sorted((TESTS / folder).rglob("test_*.py")):
                name = hashlib.sha256(f"{file}{shared}{_digest([file])}".encode()).hexdigest()[:24]
                known[str(file.relative_to(ROOT))] = path = cache / f"{name}.json"
                if not path.exists():
                    missing.append(str(file.relative_to(ROOT)))
            if missing:
                print(f"finding out what tests/{folder} reaches ({len(missing)} files)", flush=True)
                _record(missing, known, cache)
        for path in cache.glob("*.json"):
            if path not in known.values() and path.stat().st_mtime < time.time() - 7 * 86400:
                path.unlink()
        seconds: dict[str, float] = {}
        by_line: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for path in known.values():
            data = json.loads(path.read_text(encoding="utf-8"))
            seconds.update(data["seconds"])
            for test, files in data["lines"].items():
                for file, lines in files.items():
                    for line in lines:
                        by_line[file][line].add(test)
        return cls(seconds, by_line)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Those that can notice a mutant, the quickest first.

        What few tests execute may be done once in a process, for all: then those that execute any
        line of the file follow.
        """
        found = self.by_line.get(mutant.file, {})
        tests = {test for line in mutant.lines for test in found.get(line, ())}
        others = {test for reached in found.values() for test in reached} - tests

        def by_time(tests: set[str]) -> list[str]:
            return sorted(tests, key=lambda test: (self.seconds.get(test, 1.0), test))

        return [*by_time(tests), *(by_time(others) if len(tests) < FEW else ())]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _record(files: list[str], known: dict[str, Path], cache: Path) -> None:
    """Run tests under coverage, each as a context of its own, in a process of their own."""
    made = cache / "recorded"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    here = str(TESTS)
    program = (
        f"import sys; sys.path.insert(0, {here!r}); from kit import reaching; reaching.record()"
    )
    environment = {**os.environ, "AKSARA_MUTANTS_FOLDER": str(made)}
    subprocess.run([sys.executable, "-c", program, *files], cwd=ROOT, env=environment, check=True)
    for file in files:
        part = made / file.replace(os.sep, "-")
        shutil.move(part, known[file])


class _Recorder:
    """A pytest plugin: which lines each test executes, and whether it passes."""

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.failed:
            self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


def record() -> None:
    """What the process of ``_record`` does: its arguments are files of tests."""
    import coverage
    import pytest

    folder, files = Path(os.environ["AKSARA_MUTANTS_FOLDER"]), sys.argv[1:]
    cover = coverage.Coverage(
        data_file=None,
        config_file=False,
        branch=False,
        concurrency=["thread", "greenlet"],
        source_pkgs=["aksara_signals"],
    )
    recorder = _Recorder(cover)
    cover.start()
    status = pytest.main([*QUIETLY, *files], plugins=[recorder])
    cover.stop()
    if status not in (0, 1):
        raise SystemExit(f"the tests themselves can't be run: pytest says {status}")
    if recorder.failed:
        print(f"fail without any mutant, and are left out: {sorted(recorder.failed)}", flush=True)
    lines: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    data = cover.get_data()
    for measured in data.measured_files():
        name = str(Path(measured).relative_to(PACKAGE))
        for line, tests in data.contexts_by_lineno(measured).items():
            for test in tests:
                if test and test not in recorder.failed:
                    lines[test][name].append(line)
    for file in files:
        own = {test: each for test, each in lines.items() if test.partition("::")[0] == file}
        seconds = {test: recorder.seconds[test] for test in own}
        text = json.dumps({"seconds": seconds, "lines": own})
        (folder / file.replace(os.sep, "-")).write_text(text, encoding="utf-8")
