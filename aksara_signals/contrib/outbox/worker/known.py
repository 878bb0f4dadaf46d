"""The receivers that a worker knows, and complaints that it makes once a minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aksara_signals.contrib.outbox.registry import ReceiverEntry, durable_receivers, matches
from aksara_signals.contrib.outbox.worker.reports import log
from aksara_signals.exceptions import OutboxError

REFRESH_SECONDS = 1.0
"""How soon a receiver is found that was connected while the worker runs."""

REPORT_SECONDS = 60.0
"""How often the same complaint is logged."""


class KnownReceivers:
    """The durable receivers of this process, looked up at most once a second.

    Args:
        patterns: Which of them the worker calls.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._loop = asyncio.get_running_loop()
        self._refresh_at = 0.0
        self._complaints: dict[str, float] = {}
        self._entries: dict[str, ReceiverEntry] = {}
        self._names: tuple[str, ...] = ()
        self._all_names: tuple[str, ...] = ()
        self.former_of: dict[str, tuple[str, ...]] = {}
        """The former names of receivers that have some."""

    def find(self, name: str) -> ReceiverEntry | None:
        """The receiver whose name, or former name, this is; None if it isn't called here."""
        self._refresh()
        return self._entries.get(name)

    def names(self) -> tuple[str, ...]:
        """The names whose rows this worker claims, former ones before the present one."""
        self._refresh()
        return self._names

    def _refresh(self) -> None:
        now = self._loop.time()
        if now < self._refresh_at:
            return
        self._refresh_at = now + REFRESH_SECONDS
        try:
            entries = durable_receivers().values()
        except OutboxError as error:  # two receivers claim one former name: those of before stay
            self.complain("registry", "the durable receivers can't be looked up: %s", error)
            return
        chosen = [entry for entry in entries if matches(entry.name, self._patterns)]
        self._entries = {name: entry for entry in chosen for name in entry.names}
        self._names = tuple(self._entries)
        self._all_names = tuple(name for entry in entries for name in entry.names)
        self.former_of = {
            entry.name: entry.options.formerly for entry in chosen if entry.options.formerly
        }

    def complain(self, about: str, text: str, *values: object) -> None:
        """Log a warning, but the same one only once a minute.

        Args:
            about: What makes it the same.
            text: The message.
            values: What is put into it.
        """
        now = self._loop.time()
        if now >= self._complaints.get(about, 0.0):
            self._complaints[about] = now + REPORT_SECONDS
            log(logging.WARNING, text, *values)

    def all_names(self) -> tuple[str, ...]:
        """The names of all receivers of this process, called by the worker or not."""
        self._refresh()
        return self._all_names
