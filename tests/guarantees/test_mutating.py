"""The mutants of ``tox -e mutants``: named without lines, and really something else."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from kit.mutating import mutants_of
from kit.reaching import PACKAGE

MODULE = """
def clamp(value: int, limit: int = 3, *, strict=False) -> int:
    '''Not touched: "limit" == 'limit'.'''
    for _ in range(limit):
        if value < limit and not strict:
            continue
        value = value - 1
    return value
"""


def test_each_mutant_is_one_small_mistake(tmp_path: Path) -> None:
    """Operators, conditions, constants, statements; nothing in docstrings and annotations."""
    (tmp_path / "module.py").write_text(MODULE)
    mutants = mutants_of(tmp_path, "module.py")
    assert [mutant.name.removeprefix("module.py clamp: ") for mutant in mutants] == [
        "3 -> 4",
        "False -> True",
        "value < limit and (not strict) -> not (value < limit and (not strict))",
        "value < limit and (not strict) -> value < limit or not strict",
        "value < limit and (not strict) -> not strict",
        "value < limit and (not strict) -> value < limit",
        "value < limit -> value <= limit",
        "value < limit -> value > limit",
        "not strict -> strict",
        "[continue] -> [break]",
        "value - 1 -> value + 1",
        "1 -> 2",
        "[return value] -> [return None]",
    ]


def test_a_mutant_does_something_else(tmp_path: Path) -> None:
    """Its code is that of the module but for the mistake, which its diff shows."""
    (tmp_path / "module.py").write_text(MODULE)
    mutants = {mutant.after: mutant for mutant in mutants_of(tmp_path, "module.py")}
    namespace: dict[str, Any] = {}
    exec(MODULE, namespace)
    assert namespace["clamp"](5) == 2
    for after, result in {"4": 3, "value <= limit": 3, "[return None]": None}.items():
        exec(mutants[after].code(tmp_path), namespace)
        assert namespace["clamp"](5) == result
    assert mutants["value <= limit"].diff().splitlines() == [
        "--- module.py:5 clamp",
        "-if value < limit and (not strict):",
        "+if value <= limit and (not strict):",
    ]


def test_names_outlive_other_edits(tmp_path: Path) -> None:
    """A line more doesn't change them."""
    (tmp_path / "module.py").write_text(MODULE)
    before = [mutant.name for mutant in mutants_of(tmp_path, "module.py")]
    (tmp_path / "module.py").write_text(f"import os\n\n{MODULE}")
    assert [mutant.name for mutant in mutants_of(tmp_path, "module.py")] == before


@pytest.mark.parametrize("kind", ["equivalent", "survivor"])
def test_what_is_named_has_a_reason(kind: str) -> None:
    """And is named once."""
    text = (Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8")
    named = tomllib.loads(text).get(kind, [])
    assert all(each["reason"].strip() for each in named)
    names = [each["mutant"] for each in named]
    assert len(names) == len(set(names))


def test_what_is_named_exists() -> None:
    """A name that no mutant has any more says nothing."""
    text = (Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8")
    named = {each["mutant"] for kind in tomllib.loads(text).values() for each in kind}
    files = {name.partition(" ")[0] for name in named}
    assert named <= {mutant.name for file in files for mutant in mutants_of(PACKAGE, file)}
