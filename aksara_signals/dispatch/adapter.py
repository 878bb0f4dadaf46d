"""What a layer that knows a database gives the dispatcher.

The dispatcher knows no mapped classes, no primary keys and no transactions. Where it needs one of
them it asks the adapter, which such a layer installs once. Until then nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aksara_signals.exceptions import NoSessionError
from aksara_signals.types import Sender


def _nothing(*_: object) -> None:
    return None


class Adapter(NamedTuple):
    """The functions with which a layer that knows a database answers the dispatcher's questions.

    Those that are left out answer that nothing is known.
    """

    classes: Callable[[], Iterable[type]] = tuple
    """The live classes that may send the built-in signals."""
    is_model: Callable[[type], bool] = lambda _: False
    """Whether a class sends signals, so that it is neither a receiver nor a callback."""
    key_of: Callable[[Any], str | None] = _nothing
    """The primary key of an instance in words; None if it has none."""
    defer: Callable[[Any, Mapping[str, Any], tuple[Any, ...]], bool] = lambda *_: False
    """Queues a signal that was sent by hand until the outcome of its transaction is known.

    Takes the signal, all arguments (``signal`` and ``sender`` included) and the connections that
    wait; returns whether the arguments say which transaction that is."""
    connected: Callable[[Sender], object] = _nothing
    """Called when a receiver of a built-in signal was connected to a class, or to its name."""
    connections_changed: Callable[[Any], object] = _nothing
    """Called with a signal's payload when connections of that signal came or went."""
    problem_of_sender: Callable[[Any, str, bool], str | None] = _nothing
    """Why an object, neither a class nor a string, can't send a built-in signal; None if it may.

    Takes the object, the signal's name for the words, and whether it is ``m2m_changed``, which the
    links of relationships send. The answer goes on after "it"."""
    problem_of_silenced: Callable[[Any, tuple[Any, ...] | None], str | None] = _nothing
    """Why an object, neither a class nor a string, sends none of the signals to be silenced.

    Takes the object and the built-in signals, None for all. The answer goes on after "which"."""
    problem_of_receiver: Callable[[Any], str | None] = _nothing
    """Why something that can be called is no receiver; None if it may be one."""
    advice: Callable[[BaseException, Any], str | None] = _nothing
    """The way out of an error that a receiver raised, which becomes a note of it; None if unknown.

    Takes the error and the connection of the receiver."""


_adapter = Adapter()


def install_adapter(adapter: Adapter) -> None:
    """Have the dispatcher ask this adapter from now on, and no other."""
    global _adapter  # noqa: PLW0603 - one name for one value that is replaced in one step
    _adapter = adapter


def get_adapter() -> Adapter:
    """The adapter that was installed last."""
    return _adapter


def defer(signal: Any, arguments: Mapping[str, Any], connections: tuple[Any, ...]) -> None:
    """Queue a signal that was sent by hand for the receivers that wait for the outcome.

    Raises:
        NoSessionError: Nothing says whose outcome that is.
    """
    if not _adapter.defer(signal, arguments, connections):
        raise NoSessionError(
            f"{signal.display_name} was sent to receivers that wait for the outcome of a "
            f"transaction, and nothing says of which: pass session=, or an instance that is in a "
            f"session"
        )
