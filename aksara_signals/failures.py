"""Observers of failures that aren't raised to a caller; for the pytest plugin.

A deferred receiver may fail after the code that sent the signal has finished. The plugin has to
notice this in every test, also in the first one that imports the library, but it must not import
the dispatcher itself, which would cost every pytest run the time. So it uses this module, which
imports nothing else. An application connects to :data:`aksara_signals.on_delivery_error` instead.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["observers"]

observers: list[Callable[[BaseException], object]] = []
"""Called with the exception of each such failure, after it has been logged."""
