"""How far one commit walks through the house: packages, files, functions and changes of file.

``python tests/benchmarks/walk.py`` commits one row, with a receiver before the write, one after it
and one after the commit, and prints what the commit enters. Comprehensions count as part of their
function, and a generator that is resumed counts once. ``--show`` prints the walk itself.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import aksara_signals
from aksara_signals import post_save, pre_save
from aksara_signals.orm import SignalMixin

PACKAGE = Path(aksara_signals.__file__).parent
GENERATOR = 0x20 | 0x80 | 0x200
"""Flags of code that may be resumed."""
LOOP = "dispatch/delivery/loop.py"
"""It pulls its deliveries from rooms above it, and calls no other room against the imports."""


class Base(SignalMixin, DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Step(NamedTuple):
    """One function that was entered."""

    file: str
    function: str
    caller: str | None
    """The file of the nearest function of the package that called it."""
    is_direct: bool
    """Whether that one called it itself, and nothing outside of the package in between."""
    depth: int


class Walk:
    """Notes every function of the package that is entered inside of ``with``."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._seen: list[FrameType] = []

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._seen.clear()

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        file = _file_of(frame)
        if event != "call" or file is None or frame.f_code.co_name.startswith("<"):
            return
        if frame.f_code.co_flags & GENERATOR:
            if any(frame is each for each in self._seen):
                return  # resumed
            self._seen.append(frame)
        callers: list[FrameType] = []
        each = frame.f_back
        while each is not None:
            if _file_of(each) is not None and not each.f_code.co_name.startswith("<"):
                callers.append(each)
            each = each.f_back
        is_direct = bool(callers) and _outer(frame) is callers[0]
        caller = _file_of(callers[0]) if callers else None
        self.steps.append(Step(file, frame.f_code.co_qualname, caller, is_direct, len(callers)))

    @property
    def packages(self) -> set[str]:
        """The packages that were entered."""
        return {step.file.rpartition("/")[0] for step in self.steps}

    @property
    def files(self) -> set[str]:
        """The files that were entered."""
        return {step.file for step in self.steps}

    @property
    def functions(self) -> set[tuple[str, str]]:
        """The functions that were entered, each once."""
        return {(step.file, step.function) for step in self.steps}

    @property
    def changes(self) -> list[Step]:
        """The calls that led from one file to another."""
        return [step for step in self.steps if step.caller not in (None, step.file)]

    def against(self, imports: dict[str, set[str]]) -> list[Step]:
        """The calls of a file that imports the caller, but those that the loop pulls."""
        return [
            step
            for step in self.changes
            if step.is_direct and step.caller in imports[step.file] and step.caller != LOOP
        ]


def _file_of(frame: FrameType) -> str | None:
    path = frame.f_code.co_filename
    return str(Path(path).relative_to(PACKAGE)) if path.startswith(f"{PACKAGE}/") else None


def _outer(frame: FrameType) -> FrameType | None:
    """What called a function, past comprehensions."""
    each = frame.f_back
    while each is not None and each.f_code.co_name.startswith("<"):
        each = each.f_back
    return each


def imports_of_files() -> dict[str, set[str]]:
    """Which files of the package each file imports, directly or not."""
    import ast

    direct: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
                base = Path(*(node.module or "").split(".")[1:])
                for name in node.names:
                    found |= {f"{base}.py", f"{base / name.name}.py"}
        direct[str(path.relative_to(PACKAGE))] = found & {
            str(each.relative_to(PACKAGE)) for each in PACKAGE.rglob("*.py")
        }
    reached = {file: set(found) for file, found in direct.items()}
    for _ in reached:
        for file, found in reached.items():
            reached[file] = found.union(*(direct[each] for each in found))
    return reached


def receivers(is_async: bool) -> list[Callable[..., Any]]:
    """Three receivers that do nothing."""
    if is_async:

        async def receive(**kwargs: Any) -> None: ...
    else:

        def receive(**kwargs: Any) -> None: ...

    pre_save.connect(receive, Row)
    post_save.connect(receive, Row)
    post_save.connect(receive, Row, phase="after_commit")
    return [receive]


def walk_of_session() -> Walk:
    """One commit of a ``Session``; the second one, when all that is worked out once is."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    for _ in range(2):
        with Session(engine) as session:
            session.add(Row(title="x"))
            with Walk() as walk:
                session.commit()
    engine.dispose()
    return walk


async def walk_of_async_session() -> Walk:
    """One commit of an ``AsyncSession``."""
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    for _ in range(2):
        async with AsyncSession(engine) as session:
            session.add(Row(title="x"))
            with Walk() as walk:
                await session.commit()
    await engine.dispose()
    return walk


def main() -> None:
    """Print one line for each kind of session and of receivers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print the walk of the last one")
    options = parser.parse_args()
    imports = imports_of_files()
    print(f"{'':44} packages files changes functions against the imports")
    walk = Walk()
    for is_async in (False, True):
        connected = receivers(is_async)
        kind = "async" if is_async else "synchronous"
        for name in ("Session", "AsyncSession"):
            walk = walk_of_session() if name == "Session" else asyncio.run(walk_of_async_session())
            print(
                f"{kind + ' receivers of a commit of ' + name:44} "
                f"{len(walk.packages):8} {len(walk.files):5} {len(walk.changes):7} "
                f"{len(walk.functions):9} {len(walk.against(imports)):19}"
            )
        for each in connected:
            for signal in (pre_save, post_save):
                signal.disconnect(each, Row)
    if options.show:
        for step in walk.steps:
            print("  " * step.depth + f"{step.file} {step.function}")
        for step in walk.against(imports):
            print("against the imports:", step.caller, "->", step.file, step.function)


if __name__ == "__main__":
    main()
