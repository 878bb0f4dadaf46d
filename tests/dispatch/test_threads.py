"""Threads connect, disconnect and send at once."""

from __future__ import annotations

import threading
from typing import Any

from aksara_signals import Signal


def test_no_connection_is_lost() -> None:
    """What stays connected is called in every send, whatever others do meanwhile."""
    signal = Signal("busy")
    stays = signal.connect(lambda **kwargs: "stays")
    stop = threading.Event()
    problems: list[Any] = []

    def churn() -> None:
        while not stop.is_set():
            mine = [signal.connect(lambda **kwargs: "mine") for _ in range(5)]
            problems.extend("lost" for each in mine if not signal.disconnect(each))

    def send() -> None:
        for _ in range(300):
            responses = signal.send_sync(object)
            if responses[0] != (stays, "stays"):
                problems.append(responses)

    churners = [threading.Thread(target=churn) for _ in range(3)]
    senders = [threading.Thread(target=send) for _ in range(3)]
    for thread in (*churners, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    stop.set()
    for thread in churners:
        thread.join()
    assert problems == []
    assert len(signal.connections) == 1


def test_receivers_may_disconnect_during_a_send() -> None:
    """A send calls those that were connected when it began."""
    signal = Signal("self")

    def once(**kwargs: Any) -> str:
        signal.disconnect(once)
        signal.disconnect(other)
        signal.connect(late)
        return "once"

    def other(**kwargs: Any) -> str:
        return "other"

    def late(**kwargs: Any) -> str:
        return "late"

    signal.connect(once)
    signal.connect(other)
    assert [response for _, response in signal.send_sync()] == ["once", "other"]
    assert [response for _, response in signal.send_sync()] == ["late"]
