"""An inspector of a timeline that is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from kit.timelines import FakeRecorder, FakeTimeline

from aksara_signals.contrib.inspector import Inspector, inspector


@pytest.fixture
def timeline() -> FakeTimeline:
    """What was sent."""
    return FakeTimeline()


@pytest.fixture
def made(timeline: FakeTimeline, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Inspector]:
    """Makes inspectors of ``timeline``."""
    monkeypatch.setattr(inspector, "Recorder", lambda *options: FakeRecorder(timeline))
    return lambda **options: Inspector(**{"debug": True, **options})


@pytest.fixture
def client_of() -> Callable[..., httpx.AsyncClient]:
    """Makes clients of applications."""

    def make(app: Any, url: str = "http://localhost", **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url, **options)

    return make


@pytest.fixture
def client(made, client_of) -> httpx.AsyncClient:
    """A client of an inspector in debug mode."""
    return client_of(made())
