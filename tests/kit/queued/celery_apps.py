"""Celery applications on the brokers under test, and what they leave behind."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from celery import Celery

VISIBLE_SECONDS = 5
"""After this time, Redis gives an event of a killed worker to another one."""


def make_app(url: str, prefix: str) -> Celery:
    """An application whose queues, and keys in Redis, start with ``prefix``."""
    app = Celery("queued", broker=url, set_as_current=False)
    options: dict[str, Any] = {"confirm_publish": True}
    if url.startswith("redis"):
        options = {"visibility_timeout": VISIBLE_SECONDS, "global_keyprefix": prefix}
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options=options,
        task_default_queue=f"{prefix}default",
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
        # On a busy machine, a process of the pool may take longer than four seconds to start.
        worker_proc_alive_timeout=60,
    )
    return app


def template(prefix: str) -> str:
    """The names of its queues."""
    return f"{prefix}.{{receiver}}"


def clean(url: str, prefix: str) -> None:
    """Delete what an application has left in the broker."""
    if url.startswith("redis"):
        import redis

        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"{prefix}*"):
                client.delete(key)
        return
    with make_app(url, prefix).connection_for_write() as connection:
        channel = connection.default_channel
        for name in (f"{prefix}default", f"{prefix}.queued.copy"):
            channel.queue_delete(name)
            channel.exchange_delete(name)


def address(url: str) -> tuple[str, int]:
    """Host and port of a broker."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


def through(url: str, port: int) -> str:
    """The URL of a broker, by another port of this machine."""
    host, before = address(url)
    return url.replace(f"{host}:{before}", f"127.0.0.1:{port}")
