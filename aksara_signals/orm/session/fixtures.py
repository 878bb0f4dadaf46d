"""Loading fixtures: writes of complete data, which receivers recognise by ``raw=True``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar

from aksara_signals.dispatch.blocks import block

_is_loading: ContextVar[bool] = ContextVar("aksara_signals_is_loading_fixtures", default=False)
is_loading_fixtures: Callable[[], bool] = _is_loading.get
"""Return whether the current task loads fixtures."""


@block
def loading_fixtures() -> Iterator[None]:
    """Send ``raw=True`` with everything that the current task writes inside.

    Receivers that complete or copy data (slugs, audit rows, search indices) can check ``raw`` and
    ignore fixtures. To call no receiver at all, use
    :meth:`SignalContext.disable_all <aksara_signals.SignalContext.disable_all>`.

    Source: Django's ``loaddata``, which sends ``raw=True`` with its saves.
    """
    token = _is_loading.set(True)
    try:
        yield
    finally:
        _is_loading.reset(token)
