"""The words of the house: none that was given up comes back.

``docs/contributing/words.rst`` says which word stands in whose place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aksara_signals

PACKAGE = Path(aksara_signals.__file__).parent
ROOT = Path(__file__).parents[2]

GIVEN_UP = frozenset(
    [
        "told",
        "Told",
        "telling",
        "tell",
        "waiting",
        "wait",
        "keep",
        "keepers",
        "mark",
        "waiting_in",
        "let_go",
        "is_aside",
        "everybody",
        "spares",
        "hear",
        "hearers",
        "audience",
        "NOBODY",
        "touches",
        "touched",
        "known_touches",
        "judging",
        "is_collected",
        "together",
        "turns",
        "take_turn",
        "ended",
        "envelope",
        "doubles",
        "stand_in",
        "worded",
        "Receiving",
        "Rules",
        "refuse",
        "permit",
        "Work",
        "within",
    ]
)
"""Identifiers."""

GIVEN_UP_PARTS = frozenset(
    [
        "told",
        "telling",
        "hear",
        "heard",
        "hearer",
        "hearers",
        "audience",
        "touches",
        "touched",
        "judging",
        "together",
        "envelope",
        "doubles",
        "worded",
        "everybody",
        "aside",
        "nobody",
        "whom",
    ]
)
"""Parts of identifiers."""

OF_OTHERS = {("asyncio", "wait"), ("pytest", "mark")}
"""Attributes of modules that aren't ours."""
CALLED_OF_OTHERS = {"wait"}
"""Methods of asyncio's events and processes; no function of ours has such a name."""

PROSE = re.compile(
    r"\b(told|tells?|telling|hear[sd]?|hearers?|audiences?|let(?:s|ting)? go|touches|doubles|whom"
    r"|who listens|mend the name|is no signal)\b",
    re.IGNORECASE,
)
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = sorted(
    path
    for path in [ROOT / "README.rst", *(ROOT / "docs").rglob("*.*")]
    if path.suffix in {".rst", ".py", ".csv"} and "_build" not in path.parts
)


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """The names of modules, classes, functions, attributes and parameters, with their lines."""
    yield 1, path.stem if path.stem != "__init__" else path.parent.name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            is_call_of_other = id(node) in called and node.attr in CALLED_OF_OTHERS
            if (owner, node.attr) not in OF_OTHERS and not is_call_of_other:
                yield node.lineno, node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield node.lineno, target.id


def parts(identifier: str) -> set[str]:
    """The words of an identifier."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier)
    return {part.lower() for part in spaced.split("_") if part}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_identifier_is_one_that_was_given_up(path: Path) -> None:
    """Nor is a part of one."""
    found = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in identifiers(path)
        if name.strip("_") in GIVEN_UP or parts(name) & GIVEN_UP_PARTS
    }
    assert found == set()


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_prose_uses_a_word_that_was_given_up(path: Path) -> None:
    """In docstrings, comments, messages and pages."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PROSE.search(line)
    ]
    assert found == []
