"""How much random and repeated work the tests do: a little in every run, a lot in `tox -e soak`."""

from __future__ import annotations

import os

EFFORT = int(os.environ.get("AKSARA_TEST_EFFORT", "1"))
"""1 in an ordinary run; the factor by which examples and repetitions are multiplied."""
IS_ORDINARY = EFFORT == 1
"""Whether random stories are the same in each run: a soak looks for new ones, and has the time to
make what it finds small."""
FIGURES = "figures"
"""The name of a property that a test records in order to have it shown in the summary."""


def times(count: int) -> int:
    """How often to do what an ordinary run does ``count`` times."""
    return count * EFFORT
