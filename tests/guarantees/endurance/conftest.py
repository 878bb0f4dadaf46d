"""Fixtures of the tests of endurance."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from aksara_signals import on_delivery_error


@pytest.fixture
def reported() -> Iterator[list[dict[str, Any]]]:
    """What on_delivery_error sends."""
    reports: list[dict[str, Any]] = []

    def observe(**payload: Any) -> None:
        reports.append(payload)

    with on_delivery_error.connected_to(observe):
        yield reports


@pytest.fixture
def silent_log() -> Iterator[list[int]]:
    """Keeps log records away from pytest, which would keep their errors; holds their levels."""
    levels: list[int] = []
    logger = logging.getLogger("aksara_signals")

    def drop(record: logging.LogRecord) -> bool:
        levels[:] = [*levels[-9:], record.levelno]
        return False

    logger.addFilter(drop)
    yield levels
    logger.removeFilter(drop)
