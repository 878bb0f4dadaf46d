"""Where changes come from: values such as the user and the request, on their way to receivers.

They are kept in a context variable. Receivers that are called at once run in the context of the
send, and so find them there. For those that are called later, by this process or by a worker, the
values of the send are stored, and restored around the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, Never, NoReturn

from aksara_signals.dispatch.blocks import EveryBlock
from aksara_signals.dispatch.frozen import FrozenDict, frozen
from aksara_signals.dispatch.json_values import JsonValues, UnfitValueError, checked_text
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError


class ProvenanceValues(FrozenDict):
    """The values that are in force at one moment: a mapping that never changes."""

    __slots__ = ()

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Explain the mistake of a receiver whose parameter hides the context manager.

        Raises:
            InvalidOptionError: Always.
        """
        raise InvalidOptionError(
            "provenance(…) was called where provenance is the argument of a receiver, a mapping "
            "of values; to set others, write 'import aksara_signals' and "
            "'with aksara_signals.provenance(…)'"
        )


class _Entered(NamedTuple):
    """What is in force in a context."""

    values: ProvenanceValues
    blocks: tuple[tuple[object, FrozenDict], ...]
    """The blocks that were entered, outermost first, each with its own values."""


NO_PROVENANCE = ProvenanceValues()
_NOTHING = _Entered(NO_PROVENANCE, ())
_entered: ContextVar[_Entered] = ContextVar("aksara_signals_provenance", default=_NOTHING)
_get: Callable[[], _Entered] = _entered.get
_JSON = JsonValues()


class provenance(EveryBlock[Mapping[str, Any]]):  # noqa: N801 - it is used as a function
    """States where changes come from: by ``with``, ``async with``, or as a decorator.

    Receivers that name a parameter ``provenance`` are given the values as a read-only mapping, as
    they were at the flush or the send, whenever they are called: after the commit or in a worker,
    too. While they run, the same values are in force again, for what they write themselves. A
    signal that declares an argument of this name, or is sent with one, gives that instead.

    Blocks may be nested: the values of both are in force, and of those with the same name, the
    inner one. They apply to the task that entered the block and to the tasks and greenlets that are
    started inside it, and to no other task or thread. A block may be entered any number of times,
    by many tasks at once. Leaving it in another context than the one in which it was entered, as
    FastAPI does with dependencies that ``yield``, has no effect there.

    >>> with provenance(actor=5):
    ...     with provenance(request="a1"):
    ...         provenance.current()
    {'actor': 5, 'request': 'a1'}

    Args:
        values: By any names; JSON: strings, numbers, True, False, None, and lists and dicts of
            them. They are copied when the block is entered.

    Raises:
        InvalidOptionError: A value is given without a name. Entering the block raises it for a
            value that isn't JSON.
    """

    __slots__ = ("_values",)

    _name = "provenance"

    def __init__(self, /, *given: Never, **values: object) -> None:
        if given:
            raise InvalidOptionError(
                f"provenance() was given {describe_sender(given[0])} without a name; give values "
                f"by name, as in provenance(actor=5) or provenance(**values), and decorate a "
                f"function by @provenance(actor=5)"
            )
        self._values = values

    @staticmethod
    def current() -> Mapping[str, Any]:
        """The values that are in force here, as a mapping that never changes; empty without any."""
        return _get().values

    def __enter__(self) -> Mapping[str, Any]:
        values, blocks = _get()
        own = _checked(self._values)
        values = ProvenanceValues({**values, **own})
        _entered.set(_Entered(values, (*blocks, (self, own))))
        return values

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        blocks = _get().blocks
        for place in reversed(range(len(blocks))):
            if blocks[place][0] is self:
                left = blocks[:place] + blocks[place + 1 :]
                _entered.set(_Entered(_merged(left), left))
                break

    def __repr__(self) -> str:
        return f"<provenance of {', '.join(self._values) or 'nothing'}>"


def _checked(values: Mapping[str, object]) -> FrozenDict:
    """A copy of values that never changes.

    Raises:
        InvalidOptionError: Says which value, what in it, and what to give instead.
    """
    try:
        return FrozenDict(
            {
                checked_text(name, "a name"): frozen(_JSON.plain(value, name))
                for name, value in values.items()
            }
        )
    except UnfitValueError as error:
        raise InvalidOptionError(
            f"provenance() can't take what it was given: {error} (its values are stored as JSON: "
            f"strings, numbers, True, False, None, and lists and dicts of them)"
        ) from error


def _merged(blocks: tuple[tuple[object, FrozenDict], ...]) -> ProvenanceValues:
    merged: dict[str, Any] = {}
    for _, values in blocks:
        merged |= values
    return ProvenanceValues(merged) if merged else NO_PROVENANCE


def current_provenance() -> ProvenanceValues:
    """The values that are in force, for whatever is sent now."""
    return _get().values


def set_provenance(values: ProvenanceValues) -> None:
    """Put stored values in force, in the place of all others, to the end of this context."""
    _entered.set(_Entered(values, ((None, values),)))


@contextmanager
def restored_provenance(values: ProvenanceValues) -> Iterator[None]:
    """Put stored values in force, in the place of all others, and afterwards those from before."""
    token = _entered.set(_Entered(values, ((None, values),)))
    try:
        yield
    finally:
        # A coroutine that is abandoned half-way is closed by the garbage collector, in another
        # context than its own, where the token isn't valid.
        with suppress(ValueError):
            _entered.reset(token)


def provenance_of(stored: Mapping[str, Any] | None) -> ProvenanceValues:
    """The values that a row or a message holds; none in those of earlier versions."""
    if isinstance(stored, ProvenanceValues):
        return stored
    if not stored:
        return NO_PROVENANCE
    return ProvenanceValues({name: frozen(each) for name, each in stored.items()})
