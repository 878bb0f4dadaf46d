"""Fixtures of the tests that send signals by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aksara_signals import Signal


@pytest.fixture
def signal() -> Signal:
    """A signal without receivers."""
    return Signal("happened")


@pytest.fixture(params=["send", "send_robust", "send_sync", "send_robust_sync"])
def send(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Each of the four ways to send, awaited where it has to be."""

    async def sending(signal: Signal, /, *args: Any, **payload: Any) -> Any:
        result = getattr(signal, request.param)(*args, **payload)
        return await result if asyncio.iscoroutine(result) else result

    return sending
