"""The timeline: prints what happens, while it happens."""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TextIO


class Timeline:
    """Prints what happens, while it happens.

    Args:
        out: Where to print; in colour, if it is a terminal and ``NO_COLOR`` is not set.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._start = time.perf_counter()
        terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = terminal and "NO_COLOR" not in os.environ
        self.deliveries: int = 0
        """How many lines the receivers have printed."""

    def chapter(self, text: str) -> None:
        print(f"\n{self._paint('1', text)}", file=self._out)

    def note(self, text: str) -> None:
        print(f"  {self._paint('2', text)}", file=self._out)

    def showing(self, receiver: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a receiver, sync or async, so that every call of it prints a line."""
        if inspect.iscoroutinefunction(receiver):

            @functools.wraps(receiver)
            async def shown_async(**arguments: Any) -> Any:
                with self._line(receiver, arguments) as line:
                    line.text = await receiver(**arguments)

            return shown_async

        @functools.wraps(receiver)
        def shown(**arguments: Any) -> Any:
            with self._line(receiver, arguments) as line:
                line.text = receiver(**arguments)

        return shown

    @contextmanager
    def _line(
        self, receiver: Callable[..., Any], arguments: dict[str, Any]
    ) -> Iterator[SimpleNamespace]:
        line = SimpleNamespace(text="")
        called = time.perf_counter()
        try:
            yield line
        except Exception as error:
            line.text = self._paint("31", f"raises {type(error).__name__}: {error}")
            raise
        finally:
            self.deliveries += 1
            took = (time.perf_counter() - called) * 1000
            since = (called - self._start) * 1000
            signal = arguments["signal"].name
            who = f"{arguments['sender'].__name__} {arguments['instance'].id or '(new)'}"
            print(
                self._paint("2", f"{since:8.2f} ms"),
                self._paint("36", f"{signal:<11}"),
                f"{who:<12}",
                self._paint("32", f"{receiver.__name__:<17}"),
                self._paint("2", f"{took:6.2f} ms"),
                line.text or "",
                sep="  ",
                file=self._out,
            )

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured else text
