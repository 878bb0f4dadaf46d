"""Instructions of one ``send_sync()`` to one function, part by part: ``python one_send.py``.

It needs ``valgrind``. Each part is counted by itself, in programs that repeat it. With ``--write``,
the table goes into the documentation. ``python one_send.py --drive PART TIMES`` is that program.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

from by_hand import sync_loop
from callgrind import counted
from receivers import receivers

from aksara_signals import Signal
from aksara_signals.dispatch.delivery.frame import Frame, reset_current, set_current
from aksara_signals.dispatch.delivery.specialized import OFTEN
from aksara_signals.dispatch.signal import _ready

TABLE = Path(__file__).parents[2] / "docs" / "explanation" / "one-send.csv"
HEADER = ["of one ``send_sync()`` to one function", "instructions"]
LESS, MORE = 2_000, 6_000


class Sender:
    """Sends."""


def parts() -> dict[str, Callable[[int], object]]:
    """What is repeated in the program of each part, by name."""
    [function] = receivers(1, is_async=False)
    signal = Signal()
    signal.connect(function, sender=Sender)
    for _ in range(OFTEN):
        signal.send_sync(Sender, instance=1, created=True, session=None)
    table, frame = signal._table, Frame()
    found = _ready(signal, table, Sender, {"instance": 1, "created": True, "session": None})
    assert found is not None
    loops, delivery, _ = found
    deliver = loops.deliver_sync
    assert delivery is not None
    by_hand_once = sync_loop([function], signal, Sender)

    def nothing(times: int) -> None:
        for _ in range(times):
            pass

    def call(times: int) -> None:
        for _ in range(times):
            function(signal=signal, sender=Sender, instance=1, created=True, session=None)

    def arguments(times: int) -> None:
        for _ in range(times):
            dict(instance=1, created=True, session=None)  # noqa: C408 - as a call makes it

    def ready(times: int) -> None:
        for _ in range(times):
            _ready(signal, table, Sender, dict(instance=1, created=True, session=None))  # noqa: C408

    def empty_loop(times: int) -> None:
        for _ in range(times):
            deliver(())

    def loop(times: int) -> None:
        for _ in range(times):
            deliver((delivery,))

    def make_frame(times: int) -> None:
        for _ in range(times):
            Frame()

    def context(times: int) -> None:
        for _ in range(times):
            reset_current(set_current(frame))

    def send(times: int) -> None:
        for _ in range(times):
            signal.send_sync(Sender, instance=1, created=True, session=None)

    def hand(times: int) -> None:
        for _ in range(times):
            by_hand_once()

    return {each.__name__: each for each in (
        nothing, call, arguments, ready, empty_loop, loop, make_frame, context, send, hand
    )}  # fmt: skip


def table() -> list[list[str]]:
    """The lines of the table; counts of whole parts less those of the parts in them."""
    each = {
        name: (
            counted(__file__, "--drive", name, str(MORE))
            - counted(__file__, "--drive", name, str(LESS))
        )
        / (MORE - LESS)
        for name in parts()
    }
    own = {name: count - each["nothing"] for name, count in each.items()}
    rows = {
        "the receiver's own call": own["call"],
        "the arguments of the send, as a dict": own["arguments"],
        "finding the plan of the sender, and the loops for these names": own["ready"]
        - own["arguments"],
        "the frame of the loop, as an object": own["make_frame"],
        "the frame in a context variable, and out of it again": own["context"],
        "the beginning and the end of the loop": own["empty_loop"]
        - own["make_frame"]
        - own["context"],
        "the delivery: its arguments, the connection, the response": own["loop"]
        - own["empty_loop"]
        - own["call"],
        "the method itself": own["send"] - own["loop"] - own["ready"],
        "all of it": own["send"],
        "a loop by hand": own["hand"],
    }
    return [HEADER, *([what, f"{count:,.0f}"] for what, count in rows.items())]


def main() -> None:
    """Count part by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the documentation")
    parser.add_argument("--drive", nargs=2, metavar=("PART", "TIMES"))
    arguments = parser.parse_args()
    if arguments.drive:
        name, times = arguments.drive
        parts()[name](int(times))
        return
    lines = table()
    for line in lines:
        print(" | ".join(line))
    if arguments.write:
        with TABLE.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)


if __name__ == "__main__":
    main()
