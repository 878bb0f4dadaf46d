"""SQLAlchemy's own tests of its ORM, with and without receivers: ``tox -e sqlalchemy-suite``.

The tests come from the source distribution of the SQLAlchemy that is installed, and run twice on
SQLite in memory: once plain, and once with a receiver on every signal of every mapped class that
reads nothing. Whatever passes without receivers has to pass with them. What can't, because it says
to the letter what no one else may do, is listed in ``EXCEPTIONS`` with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import sqlalchemy

FOLDER = Path(__file__).parent

ORM = (
    "ac_relationships",
    "association",
    "attributes",
    "backref_mutations",
    "bind",
    "cascade",
    "collection",
    "composites",
    "cycles",
    "dataclasses",
    "defaults",
    "deferred",
    "dynamic",
    "events",
    "expire",
    "hasparent",
    "instrumentation",
    "lazy_relations",
    "load_on_fks",
    "loading",
    "manytomany",
    "mapper",
    "merge",
    "naturalpks",
    "onetoone",
    "pickled",
    "relationships",
    "scoping",
    "session",
    "session_state_change",
    "sync",
    "transaction",
    "unitofwork",
    "unitofworkv2",
    "validators",
    "versioning",
)
"""Files of the ORM's tests: those of what writes, and of what a listener could disturb."""

TESTS = [
    "test/ext/test_associationproxy.py",
    "test/ext/test_horizontal_shard.py",
    "test/ext/test_mutable.py",
    "test/ext/test_orderinglist.py",
    "test/orm/dml",
    "test/orm/inheritance",
    *(f"test/orm/test_{name}.py" for name in ORM),
]
"""What is run; tests of mere queries are left out."""

_READS = "counts statements, and rows that no RETURNING knows are read by a SELECT"
_READ_ONCE = "doesn't read the result, and a statement that is sent is read completely before"

EXCEPTIONS = {
    r"test/orm/test_events\.py::SessionEventsTest::test_sessionmaker_gen_after_session_listen": (
        "calls all listeners of before_flush without arguments, and ours can't be called so"
    ),
    r"test/orm/test_session\.py::FlushWarningsTest::test_o2m_cascade_add": (
        "changes a collection in a mapper event, and asserts how it is warned; we warn of that, too"
    ),
    r"test/orm/dml/.*::test_bulk_update\[update_stmt\]": _READS,
    r"test/orm/dml/.*::test_bulk_update_synchronize_session\[.*": _READS,
    r"test/orm/dml/.*::InheritTest::test_update_from\[.*": _READS,
    r"test/orm/dml/.*::test_(update|delete)_fetch_returning\[False\]": _READS,
    r"test/orm/dml/.*::test_routing_session\[.*": "counts the calls of get_bind()",
    r"test/orm/dml/.*::test_update_populate_existing\[.*-returning-.*": _READ_ONCE,
    r"test/orm/dml/.*::test_upsert_populate_existing\[.*": _READ_ONCE,
}
"""The tests that fail beside receivers by their nature, each with its reason, as patterns."""

_DATABASE = re.compile(r"_sqlite\+pysqlite_[0-9_]+")
"""What SQLAlchemy's plugin adds to the name of a class: the database and its version."""

_LINES = 12
"""How much is shown of why a test has failed."""


def main() -> int:
    """Run both and compare.

    Returns:
        1 if tests fail with receivers that pass without, and aren't excepted; 0 otherwise.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", help="files, folders or tests instead of all of them")
    parser.add_argument("--source", type=Path, help="a source distribution that is here already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.source or download(folder)
        tests = options.tests or TESTS
        # A folder for each: some of the tests write databases into it.
        runs = [
            Run(unpack(source, folder / "plain"), tests),
            Run(unpack(source, folder / "receivers"), tests, "suite_receivers"),
        ]
        plain, receivers = (run.outcomes() for run in runs)
    return compare(plain, receivers)


# -- the tests -------------------------------------------------------------------------------------


def download(folder: Path) -> Path:
    """The source distribution of the installed SQLAlchemy, from the package index."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--dest", str(folder)),
            *("--no-deps", "--no-binary", "sqlalchemy", f"sqlalchemy=={version('sqlalchemy')}"),
        ],
        check=True,
    )
    return next(folder.glob("*.tar.gz"))


def unpack(source: Path, folder: Path) -> Path:
    """Unpack what isn't the package itself: that is the installed one, compiled and all.

    Returns:
        The folder in which SQLAlchemy's tests are to be started.
    """
    with tarfile.open(source) as archive:
        members = [each for each in archive if each.name.split("/")[1:2] != ["lib"]]
        archive.extractall(folder, members, filter="data")
    root = folder / source.name.removesuffix(".tar.gz")
    library = root / "lib"  # the tests load a plugin from there by its path
    library.mkdir()
    (library / "sqlalchemy").symlink_to(Path(sqlalchemy.__file__).parent)
    return root


class Run:
    """One run of the tests, in a process of its own that starts at once.

    Args:
        root: Where to start them.
        tests: Which ones.
        plugins: Names of pytest's plugins in this folder.
    """

    def __init__(self, root: Path, tests: list[str], *plugins: str) -> None:
        self._outcomes = root / "outcomes.jsonl"
        self._log = root / "output.log"
        environment = {
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(FOLDER),
            "SUITE_OUTCOMES": str(self._outcomes),
        }
        given = [part for each in ("suite_outcomes", *plugins) for part in ("-p", each)]
        # Without the user's site, SQLAlchemy's conftest leaves sys.path alone.
        command = [sys.executable, "-s", "-m", "pytest", "-q", "--maxfail=0", *given, *tests]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def outcomes(self) -> dict[str, dict[str, str]]:
        """What became of each test, by its name; waits for the end of the run.

        Raises:
            RuntimeError: The tests didn't run to their end.
        """
        if self._process.wait() > 1:  # pytest's 1: tests have failed
            raise RuntimeError(f"the run has broken off: {self._log.read_text()[-4000:]}")
        found: dict[str, dict[str, str]] = {}
        for line in self._outcomes.read_text().splitlines():
            outcome = json.loads(line)
            test = _DATABASE.sub("", outcome["test"])
            if test not in found or found[test]["outcome"] == "passed":
                found[test] = outcome  # else its teardown has failed, too
        return found


# -- comparing -------------------------------------------------------------------------------------


def compare(plain: dict[str, dict[str, str]], receivers: dict[str, dict[str, str]]) -> int:
    """Print what fails with receivers only."""
    passed = [test for test, outcome in plain.items() if outcome["outcome"] == "passed"]
    failed = [test for test in passed if receivers.get(test, {}).get("outcome") != "passed"]
    refused = [test for test in failed if _is_refused(receivers.get(test))]
    unexpected = [test for test in failed if test not in refused and _exception_for(test) is None]
    expected = {_exception_for(test) for test in failed}
    for test in unexpected:
        print(f"\n{test}")
        for line in _why(receivers.get(test)):
            print(f"    {line}")
    for pattern, reason in EXCEPTIONS.items():
        if pattern in expected:
            print(f"\nexpected: {pattern}\n    {reason}")
        elif pattern in map(_exception_for, passed):
            print(f"\nno exception any more: {pattern}")
    print(
        f"\nSQLAlchemy {version('sqlalchemy')}: {len(passed)} of {len(plain)} tests pass without "
        f"receivers; with receivers, {len(failed)} of these fail: {len(refused)} because a statement "
        f"is refused, {len(unexpected)} unexpectedly"
    )
    for reason, count in Counter(_reason_of(receivers[test]) for test in refused).most_common():
        print(f"    {count:4} because {reason}")
    return 1 if unexpected or not passed else 0


_REFUSAL = re.compile(
    r"StatementSignalError: this \w+ of \w+ can't be sent to receivers connected with "
    r"statements=True, because (?P<reason>.*?); nothing was written"
)


def _is_refused(outcome: dict[str, str] | None) -> bool:
    """Whether a test has failed because its statement can't be sent, which is an error of ours."""
    return outcome is not None and _reason_of(outcome) is not None


def _reason_of(outcome: dict[str, str]) -> str | None:
    last = "\n".join(outcome["why"].splitlines()[-3:])
    found = _REFUSAL.search(last)
    return None if found is None else found["reason"]


def _exception_for(test: str) -> str | None:
    """The pattern of the exceptions that a test matches, if any."""
    return next((each for each in EXCEPTIONS if re.fullmatch(each, test)), None)


def _why(outcome: dict[str, str] | None) -> Iterator[str]:
    if outcome is None:
        yield "was not run"
        return
    yield outcome["outcome"]
    yield from outcome["why"].splitlines()[-_LINES:]


if __name__ == "__main__":
    sys.exit(main())
