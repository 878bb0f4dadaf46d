"""The demonstration: a small blog, the receivers its author would write, and what they receive.

Run it with ``python -m aksara_signals demo``. It prints a timeline: one line for each call of a
receiver. In the last chapter, a worker process is killed.
"""

from aksara_signals.demo.database import EMBEDDED
from aksara_signals.demo.story import run

__all__ = ["EMBEDDED", "run"]
