"""Publishing by Celery: an event is in the queue when its broker has confirmed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.transports.destinations import Destinations
from aksara_signals.exceptions import InvalidOptionError

TASK = "aksara.receive"
"""The name of the task."""

CONFIRM_SECONDS = 10.0
"""How long RabbitMQ may take to confirm an event."""


def make_publish(
    app: Any, to: Destinations, options: dict[str, Any]
) -> Callable[[DurableEvent], None]:
    """What :func:`celery_publisher` returns.

    Raises:
        InvalidOptionError: RabbitMQ wouldn't confirm events.
    """
    require_confirms(app)
    # RabbitMQ returns what no queue takes if it is mandatory; otherwise, it would be dropped.
    given = {"confirm_timeout": CONFIRM_SECONDS, "mandatory": True, **options}
    given |= {"retry": False, "ignore_result": True}

    def publish(event: DurableEvent) -> None:
        with app.producer_or_acquire() as producer:
            try:
                arguments = (event.as_cloudevent(),)
                app.send_task(TASK, arguments, producer=producer, queue=to.of(event), **given)
            except BaseException:
                # A confirmation that is late would be taken for that of the next event.
                producer.connection.close()
                raise

    return publish


def require_confirms(app: Any) -> None:
    """Check that what an application publishes is confirmed.

    Raises:
        InvalidOptionError: It publishes to RabbitMQ, and doesn't ask for confirmations.
    """
    with app.connection_for_write() as connection:  # which is not connected
        is_amqp = connection.transport.driver_type == "amqp"
    if is_amqp and not app.conf.broker_transport_options.get("confirm_publish"):
        raise InvalidOptionError(
            "RabbitMQ wouldn't confirm what this Celery application publishes, and events would be "
            "lost; set broker_transport_options={'confirm_publish': True}"
        )
