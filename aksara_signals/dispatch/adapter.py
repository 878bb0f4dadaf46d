"""The adapter: what a layer with a database provides to the dispatcher.

The dispatcher itself has no idea of mapped classes, primary keys and transactions. Where it needs
one of them, it asks the adapter, which a layer with a database installs once. Until then, the
default adapter answers that nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from aksara_signals.exceptions import NoSessionError
from aksara_signals.types import Sender


def _nothing(*_: object) -> None:
    return None


def _no_transaction(signal: Any, what: str) -> NoSessionError:
    """The error for a signal sent by hand, of which nothing says to which transaction it belongs.

    Args:
        signal: The signal.
        what: Describes its receivers, after "receivers that".
    """
    return NoSessionError(
        f"{signal.display_name} was sent to receivers that {what} a transaction, and nothing says "
        f"which transaction: pass session=, or an instance that is in a session"
    )


def cannot_store(signal: Any, *_: object) -> NoReturn:
    """Raise the error for durable receivers: nothing says in which transaction to store a signal.

    Raises:
        NoSessionError: Always.
    """
    raise _no_transaction(signal, "are durable: what they are sent is stored in")


class Adapter(NamedTuple):
    """Functions of a layer with a database, which answer the dispatcher's questions.

    The default of each answers that nothing is known.
    """

    classes: Callable[[], Iterable[type]] = tuple
    """The live classes that may send the built-in signals."""
    is_model: Callable[[type], bool] = lambda _: False
    """Whether a class sends signals, so that it can be neither a receiver nor a callback."""
    key_of: Callable[[Any], str | None] = _nothing
    """The primary key of an instance in words; None if it has none."""
    defer: Callable[[Any, Mapping[str, Any], tuple[Any, ...]], bool] = lambda *_: False
    """Queues a signal that was sent by hand until the outcome of its transaction is known.

    Takes the signal, all arguments (``signal`` and ``sender`` included) and the deferred
    connections; returns whether the arguments determine the transaction."""
    store: Callable[[Any, Mapping[str, Any], tuple[Any, ...], bool], Any] = cannot_store
    """Stores a signal that was sent by hand, for its durable receivers, in its transaction.

    Takes the signal, all arguments, the durable connections, and whether the caller can await.
    Returns an awaitable that stores it, or None if it is stored, or will be. Raises
    ``NoSessionError`` if the arguments don't determine the transaction."""
    connected: Callable[[Sender], object] = _nothing
    """Called when a receiver of a built-in signal was connected to a class, or to its name."""
    connections_changed: Callable[[Any], object] = _nothing
    """Called with a signal's payload after connections of the signal were added or removed."""
    problem_of_sender: Callable[[Any, str, bool], str | None] = _nothing
    """Why an object, neither a class nor a string, can't send a built-in signal; None if it may.

    Takes the object, the signal's name for the message, and whether the signal is ``m2m_changed``,
    which the links of relationships send. The answer completes a sentence after "it"."""
    attribute_of: Callable[[Any], tuple[type, str] | None] = _nothing
    """The class and the name of a mapped column attribute or composite, as ``Post.status`` is one;
    None for anything else."""
    problem_of_field: Callable[[type, Any], str | None] = _nothing
    """Why a class never changes an attribute that a receiver is narrowed to; None if it may.

    Takes the class, and the name of the attribute or the attribute itself. Nothing is known of a
    class that isn't mapped. The answer completes a sentence after "it"."""
    row_changes: Callable[[Any, Mapping[str, Any], Any], Any] = _nothing
    """Changes that were sent by hand, as filters judge them; None if the sender isn't mapped.

    Takes the sender, the changes, and the instance or None. Returns a ``JudgedChanges``."""
    problem_of_silenced: Callable[[Any, tuple[Any, ...] | None], str | None] = _nothing
    """Why an object, neither a class nor a string, sends none of the signals to be silenced; None
    if it may.

    Takes the object and the built-in signals, None for all. The answer completes a sentence after
    "which"."""
    problem_of_receiver: Callable[[Any], str | None] = _nothing
    """Why a callable can't be a receiver; None if it may be one."""
    advice: Callable[[BaseException, Any], str | None] = _nothing
    """The way out of an error that a receiver raised, to be added as a note; None if unknown.

    Takes the error and the connection of the receiver."""


_adapter = Adapter()


def install_adapter(adapter: Adapter) -> None:
    """Replace the adapter."""
    global _adapter  # noqa: PLW0603 - one value, which is replaced by a single assignment
    _adapter = adapter


def get_adapter() -> Adapter:
    """The adapter that was installed last."""
    return _adapter


def defer(signal: Any, arguments: Mapping[str, Any], connections: tuple[Any, ...]) -> None:
    """Queue a signal that was sent by hand for its deferred receivers.

    Raises:
        NoSessionError: The arguments don't determine the transaction.
    """
    if not _adapter.defer(signal, arguments, connections):
        raise _no_transaction(signal, "are deferred until the outcome of")
