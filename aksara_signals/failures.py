"""Failures that reach no caller, for those who can't import the dispatcher to ask for them.

A receiver that waited for the outcome of a transaction fails when its caller is done. The pytest
plugin has to know of it in every test, also in one that is the first to import the library, and
costs nothing where nobody does. An application connects to
:data:`aksara_signals.on_delivery_error` instead.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["observers"]

observers: list[Callable[[BaseException], object]] = []
"""Called with the exception of each such failure, once it has been logged."""
