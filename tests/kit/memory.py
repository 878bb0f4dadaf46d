"""Whether something that is done over and over keeps memory."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from coverage import Coverage

SLACK_OBJECTS = 40
"""How many objects of a type may come without counting as a leak: caches fill, pools breathe."""
SLACK_BYTES = 200_000
WARM_UP = 100
TRIES = 3
"""A cache that happens to fill grows in one of them, a leak in each."""


class Growth:
    """What there is more of than at the start.

    A leak of one object per repetition shows in any run, one of some forty bytes in a long one; what
    comes once and stays doesn't.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        tracemalloc.start()
        try:
            self._objects = _census()
            self._bytes, _ = tracemalloc.get_traced_memory()
        except BaseException:
            tracemalloc.stop()
            raise

    def of(self) -> dict[str, int]:
        """Types with more live objects than before, and traced bytes; empty if nothing leaks."""
        try:
            now = _census()
            traced, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # A tenth of the repetitions is noise of a long run, not something that each one leaves.
        slack = max(SLACK_OBJECTS, self._count // 10)
        more = {name: n - self._objects[name] for name, n in now.items()}
        grown = {name: n for name, n in more.items() if n > slack}
        # Coverage's own notes grow with what is called in new greenlets and threads.
        allowed = SLACK_BYTES * (1 if Coverage.current() is None else 5)
        if traced - self._bytes > allowed + 40 * self._count:
            grown["bytes"] = traced - self._bytes
        return grown


def _census() -> Counter[str]:
    for _ in range(3):
        gc.collect()
    # Python's sqlite3 keeps a weak reference for each cursor, and clears them away by the hundred.
    counted = (each for each in gc.get_objects() if type(each) is not weakref.ref)
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in counted)


def growth_of(work: Callable[[], Any], count: int) -> dict[str, int]:
    """What ``count`` repetitions leave behind, once it has been done some times."""
    for _ in range(min(count, WARM_UP)):
        work()
    grown: dict[str, int] = {}
    for _ in range(TRIES):
        growth = Growth(count)
        for _ in range(count):
            work()
        grown = growth.of()
        if not grown:
            break
    return grown


async def async_growth_of(work: Callable[[], Awaitable[Any]], count: int) -> dict[str, int]:
    """The same of something to be awaited."""
    for _ in range(min(count, WARM_UP)):
        await work()
    grown: dict[str, int] = {}
    for _ in range(TRIES):
        growth = Growth(count)
        for _ in range(count):
            await work()
        grown = growth.of()
        if not grown:
            break
    return grown
