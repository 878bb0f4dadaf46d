"""Whatever the documentation shows as Python runs, and prints what the page says."""

from __future__ import annotations

import ast
import asyncio
import doctest
import gc
import importlib
import inspect
import pkgutil
import runpy
import sys
import textwrap
import types
from pathlib import Path

import pytest

import aksara_signals

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.rst", *(ROOT / "docs").glob("**/*.rst")])
SCRIPTS = sorted((ROOT / "docs" / "examples").glob("*.py"))
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(aksara_signals.__path__, "aksara_signals.")
    if not module.name.endswith("__main__")
)


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """The code blocks of ``text`` in ``language``: first line's index, and the code."""
    found = []
    lines = text.splitlines()
    for start, line in enumerate(lines):
        if line.strip() != f".. code-block:: {language}":
            continue
        margin = len(line) - len(line.lstrip())
        body: list[str] = []
        for following in lines[start + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= margin:
                break
            body.append(following)
        if body and body[0].strip():
            pytest.fail(f"line {start + 1}: this test knows no options of code blocks")
        found.append((start + 1, textwrap.dedent("\n".join(body)).rstrip()))
    return found


def program(text: str) -> str:
    """All Python blocks of a page as one program, each line at its line in the page."""
    lines = [""] * len(text.splitlines())
    for start, code in blocks(text, "python"):
        for offset, line in enumerate(code.splitlines()):
            lines[start + offset] = line
    return "\n".join(lines)


def execute(code: str, page: Path) -> None:
    """Run a page's program as a module of its own; ``await`` is allowed at its top level."""
    compiled = compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    module = types.ModuleType("page_" + page.stem.replace("-", "_"))
    sys.modules[module.__name__] = module  # annotations of mapped classes are looked up there
    try:
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(types.FunctionType(compiled, module.__dict__)())
        else:
            exec(compiled, module.__dict__)
    finally:
        del sys.modules[module.__name__]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs_and_prints_what_it_says(page, capsys):
    """A page's Python blocks run in order, and print its ``output`` blocks."""
    text = page.read_text(encoding="utf-8")
    code = program(text)
    if not code.strip():
        return  # a page of prose
    execute(code, page)
    expected = "\n".join(code for _, code in blocks(text, "output"))
    assert expected.split() == capsys.readouterr().out.split()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_runs(script, capsys):
    """A script in ``docs/examples`` runs to its end and shows something."""
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_module_hold(name):
    """The examples in the docstrings of a module give what they say."""
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    # A mapped class takes its lines out of linecache when it is collected; doctest looks through
    # linecache, and stumbles if that happens meanwhile.
    gc.collect()
    gc.disable()
    try:
        failed, _attempted = doctest.testmod(module, optionflags=flags)
    finally:
        gc.enable()
    assert failed == 0


def test_commands_print_what_the_page_shows(project):
    """Each command on the command line's page prints what stands below it."""
    text = (ROOT / "docs" / "reference" / "cli.rst").read_text(encoding="utf-8")
    project.write("journal", "\n\n\n".join(code for _, code in blocks(text, "python")))
    commands = [
        (command.split()[2:], output.split())
        for _, code in blocks(text, "console")
        for command, _, output in [code.strip().partition("\n")]
        if command.startswith("$ aksara-signals ")
    ]
    assert {arguments[0] for arguments, _ in commands} == {"receivers", "graph", "check"}
    for arguments, output in commands:
        assert project.run(*arguments)[1].split() == output
