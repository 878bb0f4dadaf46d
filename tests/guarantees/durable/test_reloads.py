"""A module of receivers that is executed once more while a worker runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.outbox_workers import DONE, World, eventually

CODE = """
from aksara_signals import post_save
from kit.outbox_workers import Note

received = received if "received" in globals() else []

@post_save(Note, durable="reload.index")
async def index(event, **kwargs):
    received.append(({version!r}, event.key[0]))
"""


async def test_a_reload_takes_the_place_of_a_receiver(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are delivered once each, by the old function before, and by the new one afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "receivers_that_are_reloaded.py"
    file.write_text(CODE.format(version="old"), encoding="utf-8")
    module: Any = importlib.import_module(file.stem)
    try:
        async with world.worker() as worker:
            first = await world.write("a", "b")
            await eventually(lambda: len(module.received) == 2, 30)
            file.write_text(CODE.format(version="newer"), encoding="utf-8")
            importlib.reload(module)
            # A worker looks up its receivers once a second.
            second: list[int] = []

            async def is_newer() -> bool:
                second.extend(await world.write("c"))
                return any(version == "newer" for version, _ in module.received)

            await eventually(is_newer, 30)

            async def is_done() -> bool:
                return set(await world.statuses()) == {DONE}

            await eventually(is_done, 30)
            assert worker.health()["failed"] == 0
    finally:
        sys.modules.pop(file.stem)
    versions = [version for version, _ in module.received]
    assert versions == sorted(versions, reverse=True)  # none of the old one after the new one
    assert sorted(key for _, key in module.received) == sorted([*first, *second])
