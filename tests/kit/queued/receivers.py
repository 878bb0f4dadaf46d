"""Receivers of saved notes, whose texts say what is to happen."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from aksara_signals import on_delivery_error, post_save
from aksara_signals.contrib.outbox import Durable, Retry
from kit import outbox_workers
from kit.outbox_workers import Effect, Note, plain

FOLDER = "AKSARA_QUEUED_FOLDER"
"""Name of the environment: where receivers leave files."""

RETRY = Retry(attempts=3, first_seconds=0.2, factor=3, jitter=0)
COPY = Durable("queued.copy", include=("text",), retry=RETRY)
FAILS_TWICE, ALWAYS_FAILS, IS_SLOW = "fails twice", "always fails", "is slow the first time"


class Noted(NamedTuple):
    """One call of a receiver, or a dead letter with an attempt of 0."""

    text: str
    attempt: int
    pid: int
    at: float


class Receivers:
    """The receivers, which note in a file when they are called.

    Args:
        folder: Where this file is.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "calls"

    def connect(self) -> None:
        """Connect them in this process."""
        post_save.connect(self.copy, sender=Note, durable=COPY, weak=False)
        on_delivery_error.connect(self.note_dead, weak=False)

    async def copy(self, event: Any, session: Any, **kwargs: Any) -> None:
        text = event.values["text"]
        is_first = not any(call.text == text for call in self.calls())
        self._note(text, event.attempt)
        plain(session).add(Effect(note_id=event.key[0], by=text))
        if text == ALWAYS_FAILS or (text == FAILS_TWICE and event.attempt < 3):
            raise ValueError(text)
        if text == IS_SLOW and is_first:
            await asyncio.sleep(600)

    def note_dead(self, payload: Any, **kwargs: Any) -> None:
        self._note(f"dead {payload['receiver']}", 0)

    def _note(self, text: str, attempt: int) -> None:
        line = f"{text}|{attempt}|{os.getpid()}|{time.time()}\n"
        with self._file.open("a") as file:
            file.write(line)

    def calls(self) -> list[Noted]:
        """What is noted, in all processes."""
        if not self._file.exists():
            return []
        lines = [line.split("|") for line in self._file.read_text().splitlines()]
        return [Noted(text, int(attempt), int(pid), float(at)) for text, attempt, pid, at in lines]

    def attempts(self, text: str) -> list[int]:
        """The numbers of the attempts that were made to deliver a note."""
        return [call.attempt for call in self.calls() if call.text == text]


def connect_here() -> None:
    """Connect the receivers in a worker process, and install the outbox."""
    Receivers(Path(os.environ[FOLDER])).connect()
    outbox_workers.outbox.install()
