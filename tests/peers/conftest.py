"""Fixtures of the tests that hold others' dispatchers and ours to one behaviour."""

from __future__ import annotations

from typing import Any

import pytest
from dispatchers import Dispatcher, Notes


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that takes a ``peer`` runs with each of its module's ``PEERS``."""
    if "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", metafunc.module.PEERS, ids=lambda each: each.name)


@pytest.fixture
def signal(peer: Dispatcher) -> Any:
    """A signal of the peer's own."""
    return peer.signal()


@pytest.fixture
def notes() -> Notes:
    """What receivers write down in one test."""
    return Notes()
