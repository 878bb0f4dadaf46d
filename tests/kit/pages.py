"""The code blocks of the pages of the documentation."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.rst", *(ROOT / "docs").glob("**/*.rst")])


class Block(NamedTuple):
    """One code block of a page."""

    start: int
    """The index of the line on which the code begins."""
    code: str
    caption: str | None
    """The file that it is a part of, if it is one of several on its page."""


def blocks(text: str, language: str) -> list[Block]:
    """The code blocks of ``text`` in ``language``."""
    found = []
    lines = text.splitlines()
    for start, line in enumerate(lines, 1):
        if line.strip() != f".. code-block:: {language}":
            continue
        margin = len(line) - len(line.lstrip())
        body: list[str] = []
        for following in lines[start:]:
            if following.strip() and len(following) - len(following.lstrip()) <= margin:
                break
            body.append(following)
        options = 0
        caption = None
        if body and body[0].strip():
            options = 1
            option, colon, caption = body.pop(0).strip().partition(": ")
            if option + colon != ":caption: " or (body and body[0].strip()):
                pytest.fail(f"line {start}: this test knows no option of code blocks but :caption:")
        found.append(Block(start + options, textwrap.dedent("\n".join(body)).rstrip(), caption))
    return found
