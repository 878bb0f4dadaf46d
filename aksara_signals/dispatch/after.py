"""Calls deferred receivers, once the outcome of their transaction is known.

At this point the transaction is over, and nothing that a receiver raises can change that. If the
exception were raised to the caller, it would look as if the commit had failed. So each failure is
logged and sent to ``on_delivery_error``, and the other receivers are called nevertheless. What a
delivery hook raises counts as a failure of the receiver.

Calling the loop takes time, so one call makes as many deliveries as possible: up to a failure,
which has to be reported before the next delivery, or up to a delivery with a time limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aksara_signals.dispatch.connections.options import is_seconds
from aksara_signals.dispatch.delivery.delivery import (
    AnyDelivery,
    Delivery,
    FailedDelivery,
    Failure,
    named,
)
from aksara_signals.dispatch.delivery.errors import log_error, raise_errors
from aksara_signals.dispatch.delivery.loop import deliver, deliver_sync
from aksara_signals.dispatch.provenance import (
    NO_PROVENANCE,
    current_provenance,
    restored_provenance,
    set_provenance,
)
from aksara_signals.dispatch.receivers.naming import counted, describe_sender
from aksara_signals.dispatch.receivers.payload import PROVENANCE, Payload
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError, SignalRecursionError
from aksara_signals.failures import observers

if TYPE_CHECKING:
    import asyncio

on_delivery_error: Signal = Signal(
    "on_delivery_error",
    providing_args=Payload(("error", "connection"), ("failed_signal", "payload"), can_defer=False),
    doc="A deferred receiver has failed after the outcome of its transaction.",
)
"""Payload: ``error`` (the exception), ``connection`` (that of the receiver), ``failed_signal``
(None for a callback of ``on_commit`` or ``on_rollback``) and ``payload`` (a dict of what the
receiver was sent). The sender is that of the failed signal. Sent after the error has been logged;
what its own receivers raise is logged too."""

_under_way: set[asyncio.Task[None]] = set()


async def deliver_outcome(deliveries: Iterable[AnyDelivery | FailedDelivery]) -> None:
    """Deliver in a separate task, which the cancellation of the caller doesn't cancel.

    Sequential receivers run one after another; the concurrent ones of all deliveries then run in
    one task group.

    Args:
        deliveries: Each with one connection, in ``sequential``, in the order to be delivered.

    Raises:
        asyncio.CancelledError: The caller was cancelled meanwhile. Raised after all receivers have
            run.
    """
    import asyncio

    task = asyncio.create_task(_deliver_all(deliveries))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()  # raises if the task itself was cancelled, as by an event loop that closes
    if cancelled is not None:
        raise cancelled


def deliver_outcome_sync(deliveries: Iterable[AnyDelivery | FailedDelivery]) -> None:
    """As :func:`deliver_outcome`, from synchronous code: one by one, and without time limits."""
    rest = iter(deliveries)
    is_over = False
    with restored_provenance(current_provenance()):  # each delivery sets its own
        while not is_over:
            run = _Run(rest)
            try:
                deliver_sync(run, robust=True, failures=run.failures)
            except SignalRecursionError as error:
                run.give_up(error)
            for failure in run.failures:
                with _logged(failure):
                    on_delivery_error.send_robust_sync(
                        failure.delivery.sender, **_report_of(failure)
                    )
            is_over = run.is_last


async def drain(timeout_seconds: float | None = 10.0) -> int:
    """Wait for the deliveries after commits and rollbacks that are in progress in this event loop.

    For the shutdown of a server, before its engines are disposed of. It also waits for further
    deliveries that these cause.

    Args:
        timeout_seconds: The longest time to wait; None means without a limit.

    Returns:
        How many are still in progress at the end, and continue; 0 means that all are done.

    Raises:
        InvalidOptionError: ``timeout_seconds`` is neither a number nor None.
    """
    import asyncio

    if timeout_seconds is not None and not is_seconds(timeout_seconds):
        raise InvalidOptionError(
            f"drain() was given {describe_sender(timeout_seconds)}; give a number of seconds, or "
            f"None to wait as long as it takes"
        )

    loop, own = asyncio.get_running_loop(), asyncio.current_task()
    end = None if timeout_seconds is None else loop.time() + timeout_seconds
    while True:
        tasks = [each for each in tuple(_under_way) if each.get_loop() is loop and each is not own]
        left = None if end is None else end - loop.time()
        if not tasks or (left is not None and left <= 0):
            return len(tasks)
        await asyncio.wait(tasks, timeout=left)


class _Run:
    """The deliveries that one call of the loop takes.

    A run ends after a failure, which is reported before the next delivery, and before a delivery
    that has a time limit.

    Args:
        rest: The remaining deliveries; consumed.
        concurrent: Takes the deliveries to concurrent receivers. None without an event loop: then
            all are delivered one by one, without time limits.
    """

    def __init__(
        self, rest: Iterator[AnyDelivery | FailedDelivery], concurrent: list[Delivery] | None = None
    ) -> None:
        self._rest = rest
        self._concurrent = concurrent
        self.failures: list[Failure] = []
        self.limited: Delivery | None = None
        """The delivery with a time limit that ended the run, if one did; still to be made."""
        self.is_last = False
        """Whether no delivery is left."""

    def __iter__(self) -> Iterator[AnyDelivery]:
        failures, concurrent = self.failures, self._concurrent
        for each in self._rest:
            if isinstance(each, FailedDelivery):
                _restore(each.delivery.extras)
                what = "a receiver was not called, because its arguments could not be prepared"
                _note(each.error, each.delivery, failures, what)
                return
            _, _, sequential, _, _, extras = each
            if concurrent is not None:
                [connection] = sequential
                if connection.concurrent:
                    concurrent.append(named(each))
                    continue
                if connection.timeout_seconds is not None:
                    self.limited = named(each)
                    return
            _restore(extras)
            yield each
            if failures:
                return
        self.is_last = True

    def give_up(self, error: SignalRecursionError) -> None:
        """Stop delivering, because receivers cause one another without end."""
        first = next(self._rest)
        delivery = first.delivery if isinstance(first, FailedDelivery) else named(first)
        _note(error, delivery, self.failures, "deferred receivers are not called any more")
        self.is_last = True


def _restore(extras: Mapping[str, Any]) -> None:
    """Put the provenance of a delivery in force, also for the report of its failure."""
    values = extras.get(PROVENANCE, NO_PROVENANCE) if extras else NO_PROVENANCE
    if values is not current_provenance():
        set_provenance(values)


async def _deliver_all(deliveries: Iterable[AnyDelivery | FailedDelivery]) -> None:
    rest = iter(deliveries)
    concurrent: list[Delivery] = []
    is_over = False
    while not is_over:
        run = _Run(rest, concurrent)
        try:
            await deliver(run, robust=True, failures=run.failures, in_own_task=True)
        except SignalRecursionError as error:
            run.give_up(error)
        if run.failures:
            await _report(run.failures)
        if run.limited is not None:
            await _deliver_one(run.limited)
        is_over = run.is_last
    if concurrent:
        await _deliver_concurrent(concurrent)


async def _deliver_concurrent(deliveries: list[Delivery]) -> None:
    """Deliver in one task group; none is cancelled because another one fails."""
    import asyncio

    escaped: list[BaseException] = []

    async def deliver_own(delivery: Delivery) -> None:
        try:
            await _deliver_one(delivery)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            escaped.append(error)

    async with asyncio.TaskGroup() as group:
        for delivery in deliveries:
            group.create_task(deliver_own(delivery))
    raise_errors(escaped, "deferred until the outcome")


async def _deliver_one(delivery: Delivery) -> None:
    """Deliver to one receiver, within its time limit if it has one."""
    import asyncio

    _restore(delivery.extras)
    [connection] = delivery.sequential
    seconds: Any = connection.timeout_seconds  # not None if the time is up
    failures: list[Failure] = []
    try:
        async with asyncio.timeout(seconds):
            await deliver((delivery,), robust=True, failures=failures, in_own_task=True)
    except TimeoutError as error:
        limit = counted(seconds, "second")
        _note(error, delivery, failures, f"a receiver was cancelled after {limit}")
    await _report(failures)


async def _report(failures: list[Failure]) -> None:
    for failure in failures:
        with _logged(failure):
            await on_delivery_error.send_robust(failure.delivery.sender, **_report_of(failure))


@contextmanager
def _logged(failure: Failure) -> Iterator[None]:
    """Log what a delivery hook raises while a failure is reported, instead of raising it."""
    for observe in observers:
        observe(failure.error)
    try:
        yield
    except SignalRecursionError:
        raise  # there is no depth left to report it here: a loop further out does
    except Exception as error:
        log_error("a failure could not be reported", error, failure.delivery, failure.connection)


def _report_of(failure: Failure) -> dict[str, Any]:
    error, delivery, connection = failure
    payload = dict(delivery.arguments)
    payload.pop("sender", None)
    return {
        "error": error,
        "connection": connection,
        "failed_signal": payload.pop("signal", None),
        "payload": payload,
    }


def _note(error: BaseException, delivery: Delivery, failures: list[Failure], what: str) -> None:
    [connection] = delivery.sequential
    log_error(what, error, delivery, connection)
    failures.append(Failure(error, delivery, connection))
