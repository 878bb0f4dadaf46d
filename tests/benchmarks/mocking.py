"""What ``unittest.mock`` costs that somebody has imported: two processes that take turns."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from harness import Comparison, OwnTime, compare, seconds_of
from other_process import OtherProcess, serve
from receivers import receivers
from sending import BATCH, Sender, repeated

from aksara_signals import Signal

SIZES = (1, 10, 100)


def rows() -> Iterator[Comparison]:
    """One comparison for each number of receivers."""
    for count in SIZES:
        with ExitStack() as stack:
            usual, again, mocked = (
                OtherProcess("mocking", str(count), *options) for options in ([], [], ["--mock"])
            )
            for each in (usual, again, mocked):
                stack.callback(each.close)
            yield compare(
                f"``await send()``, {count} receiver{'s' * (count > 1)} of a module, "
                "``unittest.mock`` imported, against usual",
                1.1,
                ours=OwnTime(mocked.seconds),
                reference=OwnTime(usual.seconds),
                control=OwnTime(again.seconds),
                rounds=60,
            )


def send_when_asked(count: int) -> None:
    """Be the other process."""
    functions, signal = receivers(count), Signal()
    for function in functions:
        signal.connect(function, sender=Sender)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        job = repeated(
            loop,
            lambda: signal.send(Sender, instance=None, created=True, session=None),
            BATCH // count,
        )
        serve(lambda _: seconds_of(job))


if __name__ == "__main__":
    if "--mock" in sys.argv:
        import unittest.mock  # noqa: F401 - that it is imported is what is measured
    else:
        assert "unittest.mock" not in sys.modules
    send_when_asked(int(sys.argv[1]))
