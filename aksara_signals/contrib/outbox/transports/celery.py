"""Durable receivers over Celery, with RabbitMQ or Redis as its broker.

Celery keeps no order. While an event waits for its next attempt, a worker has it, unacknowledged.
So the delays of ``Retry``, and the time that a receiver takes, must be shorter than what the broker
allows for that: ``visibility_timeout`` on Redis, ``consumer_timeout`` on RabbitMQ. Limit receivers
by ``Durable(timeout_seconds=…)``, not by time limits of Celery. Its pools ``prefork``, ``solo`` and
``threads`` can be used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from celery.exceptions import Reject  # type: ignore[import-untyped]

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.outbox import Outbox, the_outbox
from aksara_signals.contrib.outbox.transports.background import Background
from aksara_signals.contrib.outbox.transports.celery_publishing import (
    CONFIRM_SECONDS,
    TASK,
    make_publish,
    require_confirms,
)
from aksara_signals.contrib.outbox.transports.destinations import Destinations
from aksara_signals.contrib.outbox.worker.attempts import NEWER_SECONDS
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.reports import log
from aksara_signals.exceptions import OutboxError


def celery_publisher(
    app: Any, *, queue: str = "aksara.{receiver}", **options: Any
) -> Callable[[DurableEvent], None]:
    """What a relay publishes by: ``outbox.relay(celery_publisher(app), Sessions)``.

    Args:
        app: The Celery application; on RabbitMQ, with ``confirm_publish`` among its
            ``broker_transport_options``.
        queue: The queue; ``{receiver}`` stands for the receiver's name.
        options: More arguments of ``app.send_task()``, such as ``priority``.

    Raises:
        InvalidOptionError: RabbitMQ wouldn't confirm events, or ``queue`` can't be used.
    """
    return make_publish(app, Destinations(queue), options)


def celery_receiver(
    app: Any,
    sessions: Sessions,
    *,
    queue: str = "aksara.{receiver}",
    receivers: Iterable[str] = ("*",),
    outbox: Outbox | None = None,
    **options: Any,
) -> Any:
    """Register the task that calls the durable receivers of this process, and their queues.

    A worker that is started without ``-Q`` takes events from these queues. An event is acknowledged
    once its receiver has succeeded. If it fails, the task is retried after the delay of ``Retry``;
    if its attempts are used up, the event is rejected, to a dead letter exchange if there is one.

    Args:
        app: The Celery application, as of the publisher.
        sessions: An ``async_sessionmaker`` or a ``sessionmaker``, of the receivers' database. Of
            connections that were made before a fork, no use is made.
        queue: As of the publisher.
        receivers: Names or patterns of the receivers whose queues are taken, as ``"search.*"``.
        outbox: The outbox; by default, the one that is installed.
        options: More options of the task. When it is acknowledged, and that it belongs to this
            application only, can't be changed by them.

    Raises:
        OutboxError: No outbox is installed, or no such receiver is connected.
        InvalidOptionError: RabbitMQ wouldn't confirm retries, or ``queue`` can't be used.
    """
    background = Background(sessions, the_outbox(outbox))
    require_confirms(app)
    for _, name in Destinations(queue).received(receivers):
        app.amqp.queues.select_add(app.amqp.queues[name])

    def receive(task: Any, event: Any, attempt: int = 1) -> None:
        try:
            outcome = background.attempt(event, attempt)
        except OutboxError as error:
            log(logging.ERROR, "a message is given up: %s", error_text(error))
            raise Reject(error_text(error), requeue=False) from None
        except Exception as error:  # noqa: BLE001 - a time limit of Celery, for example
            log(logging.ERROR, "a message can't be delivered now: %s", error_text(error))
            _retry(task, event, attempt, NEWER_SECONDS)
        if outcome.is_dead and outcome.error is not None:
            raise Reject(error_text(outcome.error), requeue=False)
        if outcome.error is not None:
            _retry(task, event, outcome.next_attempt, outcome.delay_seconds)

    given = {"ignore_result": True, "max_retries": None, **options}
    given |= {"acks_late": True, "acks_on_failure_or_timeout": False, "reject_on_worker_lost": True}
    given["shared"] = False  # else every other application of the process would have the task
    return app.task(name=TASK, bind=True, **given)(receive)


def _retry(task: Any, event: Any, attempt: int, seconds: float) -> NoReturn:
    given = {"countdown": seconds, "confirm_timeout": CONFIRM_SECONDS}
    try:
        raise task.retry(args=(event,), kwargs={"attempt": attempt}, **given)
    except Reject as error:  # it can't be published, so the broker has to keep what it has
        raise Reject(error.reason, requeue=True) from None
