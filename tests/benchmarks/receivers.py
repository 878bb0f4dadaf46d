"""Receivers as users have them: at the top level of a module, each with a name of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count as counted
from types import ModuleType
from typing import Any

Receivers = list[Callable[..., Any]]

_numbers = counted()


def receivers(count: int, *, is_async: bool = True) -> Receivers:
    """As many different functions, or coroutine functions, of a new module.

    A module of its own, and not closures: where a receiver can be patched under its name, a send
    looks there for a mock once ``unittest.mock`` has been imported.
    """
    module = ModuleType(f"benchmark_receivers_{next(_numbers)}")
    start = "async def" if is_async else "def"
    source = "\n".join(
        f"{start} receiver_{n}(sender, instance, **kwargs):\n    pass" for n in range(count)
    )
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    sys.modules[module.__name__] = module
    return [getattr(module, f"receiver_{n}") for n in range(count)]
