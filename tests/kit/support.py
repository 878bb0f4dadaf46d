"""Helpers of the tests that need no database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from aksara_signals.dispatch.adapter import get_adapter, install_adapter


class Call(NamedTuple):
    """One call of a recorded receiver."""

    signal: str
    sender: Any
    payload: dict[str, Any]


class Recorder:
    """Connects receivers that write down, in one list, what reaches them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def record(self, signal: Any, sender: Any = None, *, sync: bool = False, **options: Any) -> Any:
        """Connect a recording receiver to ``signal``, async unless ``sync``; return it."""

        def note(signal: Any, sender: Any, payload: dict[str, Any]) -> None:
            self.calls.append(Call(signal.name, sender, payload))

        if sync:

            def recording_receiver(*, signal: Any, sender: Any, **kwargs: Any) -> None:
                note(signal, sender, kwargs)

        else:

            async def recording_receiver(*, signal: Any, sender: Any, **kwargs: Any) -> None:
                note(signal, sender, kwargs)

        return signal.connect(recording_receiver, sender=sender, **options)

    @property
    def names(self) -> list[str]:
        """The names of the signals that arrived, in order."""
        return [call.signal for call in self.calls]

    def of(self, signal: Any) -> list[Call]:
        """The calls that ``signal`` made, in order."""
        return [call for call in self.calls if call.signal == signal.name]

    def clear(self) -> None:
        """Forget all calls; the receivers stay connected."""
        self.calls.clear()


@contextmanager
def answering(**answers: Callable[..., Any]) -> Iterator[None]:
    """An adapter that gives these answers to the dispatcher, and otherwise those of before."""
    before = get_adapter()
    install_adapter(before._replace(**answers))
    try:
        yield
    finally:
        install_adapter(before)
