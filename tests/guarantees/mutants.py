"""Do the tests notice when the package does something else?

Makes mutants of the package, each with one small mistake, and runs the tests that reach the
mistake: first those of the module's mirror folder, then the others. A mutant is killed if one of
them fails, or doesn't come to an end. Run by ``tox -e mutants``; no part of the ordinary tests.

    python tests/guarantees/mutants.py dispatch/connections/routing.py orm/bridge --seconds 600 --seed 7

Which test reaches which line is found out once and kept; only what has changed since is run again.
A mutant lives in a forked process, as a module that is compiled from the changed syntax tree: no
file is changed. Programs that a test starts know nothing of it.

``mutants.toml`` names the mutants that no test can notice and those that survive, with the reason.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import random
import shutil
import signal
import sys
import time
import tomllib
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from kit import databases  # noqa: E402 - of the tests
from kit.mutating import Mutant, mutants_of  # noqa: E402
from kit.reaching import PACKAGE, QUIETLY, ROOT, Reach  # noqa: E402

FOLDERS = (
    "unit",
    "compatibility",
    "guarantees/hostile",
    "guarantees/faults",
    "guarantees/properties",
    "tools/testing",
)
"""Of the tests that run in one process, and come to an end while coverage looks on."""
MODULES = ("dispatch", "orm")
"""Of the package: what is mutated unless something else is asked for."""
SURVIVES = "SURVIVES "
"""Before a name in a report."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "modules", nargs="*", default=MODULES, help="files and folders of the package"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides on the order of the mutants")
    parser.add_argument("--seconds", type=float, default=3600, help="begin none after this time")
    parser.add_argument("--most", type=int, default=None, help="how many mutants at the most")
    parser.add_argument("--jobs", type=int, default=1, help="how many mutants at a time")
    parser.add_argument("--named", default="", help="only mutants whose name contains this")
    parser.add_argument("--again", type=Path, help="only the survivors of this report")
    parser.add_argument(
        "--tests", nargs="*", default=FOLDERS, help="folders of tests to choose from"
    )
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds of tests per mutant and stage"
    )
    parser.add_argument(
        "--at-least", type=float, default=95, help="the rate that has to be reached"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".tox" / "mutants")
    parser.add_argument("--list", action="store_true", help="say what would be tried, and end")
    options = parser.parse_args(arguments)
    mutants = list(_chosen(options))
    if options.list:
        for each in mutants:
            print(each.name)
        return 0
    with databases.throw_away_server() as server:
        os.environ.setdefault(
            "AKSARA_TEST_POSTGRES_URL", server.render_as_string(hide_password=False)
        )
        reach = Reach.found(options.cache, options.tests)
        tally = _try_all(mutants, reach, options)
    return tally.report(options)


def _chosen(options: argparse.Namespace) -> Iterator[Mutant]:
    """The mutants in the order of trial: by chance, but the same each time."""
    files = sorted(
        str(path.relative_to(PACKAGE))
        for given in options.modules
        for path in (
            [PACKAGE / given] if given.endswith(".py") else (PACKAGE / given).rglob("*.py")
        )
    )
    every = [each for file in files for each in mutants_of(PACKAGE, file)]
    wanted = None
    if options.again:
        lines = options.again.read_text(encoding="utf-8").splitlines()
        wanted = {line.partition(SURVIVES)[2] for line in lines if SURVIVES in line}
    # By name, so that a new line somewhere doesn't shuffle all the others.
    every.sort(key=lambda each: random.Random(f"{options.seed} {each.name}").random())
    matching = [
        each
        for each in every
        if options.named in each.name and (wanted is None or each.name in wanted)
    ]
    yield from matching[: options.most]


# -- one mutant -----------------------------------------------------------------------------------


class _MutatedModule(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Has one module of the package made from other code than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        self._path = str(PACKAGE / mutant.file)
        self._code = mutant.code(PACKAGE)
        name = mutant.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self._name = f"{PACKAGE.name}.{name}"
        self.is_used = False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        is_package = self._path.endswith("__init__.py")
        return importlib.util.spec_from_file_location(
            fullname,
            self._path,
            loader=self,
            submodule_search_locations=[str(Path(self._path).parent)] if is_package else None,
        )

    def get_code(self, fullname: str) -> CodeType:
        self.is_used = True
        return self._code

    def get_data(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def get_filename(self, fullname: str) -> str:
        return self._path


class _Chosen:
    """A pytest plugin: runs certain tests, in a certain order."""

    def __init__(self, tests: list[str]) -> None:
        self._places = {test: place for place, test in enumerate(tests)}
        self.failed: str | None = None

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(chosen, key=lambda item: self._places[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed = report.nodeid


def _be_mutated(mutant: Mutant | None, tests: list[str], answer: Path) -> NoReturn:
    """What the forked process does."""
    status = 1
    try:
        os.setsid()
        output = os.open(answer.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(ROOT)
        mutated = None if mutant is None else _MutatedModule(mutant)
        if mutated is not None:
            sys.meta_path.insert(0, mutated)
        import pytest

        chosen = _Chosen(tests)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        status = int(pytest.main([*QUIETLY, "-x", *files], plugins=[chosen]))
        assert mutated is None or mutated.is_used, "the mutant was never imported"
        answer.write_text(chosen.failed or "", encoding="utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@dataclass
class Trial:
    """One mutant, as far as it has been tried."""

    mutant: Mutant
    stages: list[list[str]]
    """Tests to run, one list after another."""
    left_out: int
    """How many tests there was no time for."""
    folder: Path
    killer: str = ""
    process: int = 0
    deadline: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def begin(self, reach: Reach) -> bool:
        """Begin the next stage; False if there is none."""
        if not self.stages:
            return False
        tests = self.stages.pop(0)
        seconds = sum(reach.seconds.get(test, 1.0) for test in tests)
        self.deadline = time.monotonic() + 30 + 5 * seconds
        self.process = os.fork()
        if not self.process:
            _be_mutated(self.mutant, tests, self.folder / f"{os.getpid()}.txt")
        return True

    def outcome(self) -> bool | None:
        """Whether it has been killed; None while the stage goes on."""
        ended, status = os.waitpid(self.process, os.WNOHANG)
        answer = self.folder / f"{self.process}.txt"
        if not ended:
            if time.monotonic() < self.deadline:
                return None
            with suppress(ProcessLookupError):
                os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            self.killer = "(takes too long)"
            return True
        if os.waitstatus_to_exitcode(status) == 0:
            return False
        if not answer.exists():
            output = answer.with_suffix(".out").read_text(encoding="utf-8")
            raise RuntimeError(f"{self.mutant.name} could not be tried:\n{output}")
        failed = answer.read_text(encoding="utf-8")
        self.killer = failed or "(the tests can't be imported)"
        return True


def _stages(
    mutant: Mutant, reach: Reach, killers: dict[str, int], patience: float
) -> tuple[list[list[str]], int]:
    """The tests of a mutant: likely killers first, then the module's own, then all others."""
    tests = reach.tests_of(mutant)
    own_file = f"test_{Path(mutant.file).stem}.py::"
    # Stable: of those that are alike, the quick ones stay in front.
    tests.sort(key=lambda test: (-killers.get(test, 0), own_file not in test))
    mirror = f"tests/unit/{mutant.file.partition('/')[0]}/"
    own = [test for test in tests if test.startswith(mirror)]
    others = [test for test in tests if not test.startswith(mirror)]
    first, own = own[:15], own[15:]
    stages, left_out = [first], 0
    for stage in (own, others):
        chosen, seconds = [], 0.0
        for test in stage:
            seconds += reach.seconds.get(test, 1.0)
            if seconds > patience:
                break
            chosen.append(test)
        left_out += len(stage) - len(chosen)
        stages.append(chosen)
    return [stage for stage in stages if stage], left_out


# -- all of them ----------------------------------------------------------------------------------


@dataclass
class Tally:
    """How the mutants fared."""

    equivalent: dict[str, str]
    """Why no test can notice: by name."""
    known: dict[str, str]
    """Why it survives: by name."""
    killed: list[Trial] = field(default_factory=list)
    survived: list[Trial] = field(default_factory=list)
    skipped: list[Mutant] = field(default_factory=list)

    @classmethod
    def with_names(cls) -> Tally:
        """With what ``mutants.toml`` says."""
        named = tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))
        return cls(
            *(
                {each["mutant"]: each["reason"] for each in named.get(kind, ())}
                for kind in ("equivalent", "survivor")
            )
        )

    def report(self, options: argparse.Namespace) -> int:
        """Print what came of it; the exit status."""
        unexplained = [each for each in self.survived if each.mutant.name not in self.known]
        for trial in self.survived:
            print(f"\n{SURVIVES}{trial.mutant.name}")
            print(trial.mutant.diff())
            if trial.left_out:
                print(f"({trial.left_out} tests that reach it were left out)")
            reason = self.known.get(trial.mutant.name)
            print(f"known: {reason}" if reason else "not explained")
        tried = len(self.killed) + len(self.survived)
        rate = 100 * len(self.killed) / tried if tried else 100.0
        print(
            f"\n{tried} mutants: {len(self.killed)} killed, {len(self.survived)} survived "
            f"({len(unexplained)} of them not explained); {rate:.1f} % died. "
            f"{len(self.skipped)} equivalent ones were left out. Seed {options.seed}."
        )
        files = {name.partition(" ")[0] for name in (*self.equivalent, *self.known)}
        there = {
            each.name
            for file in files
            if (PACKAGE / file).exists()
            for each in mutants_of(PACKAGE, file)
        }
        for name in sorted({*self.equivalent, *self.known} - there):
            print(f"mutants.toml names what isn't there any more: {name}")
        return int(rate < options.at_least)


def _try_all(mutants: list[Mutant], reach: Reach, options: argparse.Namespace) -> Tally:
    _import_what_all_need()
    tally = Tally.with_names()
    folder = options.cache / f"answers-{os.getpid()}"
    folder.mkdir(parents=True)
    _require_that_all_is_well(reach, folder)
    end = time.monotonic() + options.seconds
    killers: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    waiting = iter(mutants)
    running: list[Trial] = []
    tried, is_over = 0, False
    while running or not is_over:
        while not is_over and len(running) < options.jobs:
            mutant = next(waiting, None) if time.monotonic() < end else None
            if mutant is None:
                is_over = True
            elif mutant.name in tally.equivalent:
                tally.skipped.append(mutant)
            else:
                stages = _stages(mutant, reach, killers[mutant.file], options.patience)
                trial = Trial(mutant, *stages, folder)
                if trial.begin(reach):
                    running.append(trial)
                else:
                    tally.survived.append(trial)  # no test reaches it
        time.sleep(0.02)
        for trial in tuple(running):
            outcome = trial.outcome()
            if outcome is None or (not outcome and trial.begin(reach)):
                continue
            running.remove(trial)
            tried += 1
            (tally.killed if outcome else tally.survived).append(trial)
            killers[trial.mutant.file][trial.killer] += 1
            word = "killed   " if outcome else SURVIVES
            print(
                f"{tried:4} {time.monotonic() - trial.began:5.1f} s {word}{trial.mutant.name}"
                f"{'  by ' + trial.killer if outcome else ''}",
                flush=True,
            )
    shutil.rmtree(folder, ignore_errors=True)
    return tally


def _require_that_all_is_well(reach: Reach, folder: Path) -> None:
    """Without a mutant the forked process must find nothing, or it would kill every one."""
    tests = sorted(reach.seconds, key=lambda test: reach.seconds[test])[:100]
    process = os.fork()
    if not process:
        _be_mutated(None, tests, folder / "none.txt")
    _, status = os.waitpid(process, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit((folder / "none.out").read_text(encoding="utf-8"))


def _import_what_all_need() -> None:
    """Once for all forked processes; nothing of the package, which each imports for itself."""
    import aiosqlite  # noqa: F401
    import asyncpg  # noqa: F401
    import hypothesis  # noqa: F401
    import psycopg  # noqa: F401
    import pytest  # noqa: F401
    import pytest_asyncio  # noqa: F401
    import sqlalchemy.dialects.postgresql
    import sqlalchemy.dialects.sqlite.aiosqlite
    import sqlalchemy.ext.asyncio
    import sqlalchemy.ext.hybrid
    import sqlalchemy.ext.mutable  # noqa: F401

    assert not any(name.partition(".")[0] == PACKAGE.name for name in sys.modules)


if __name__ == "__main__":
    sys.exit(main())
