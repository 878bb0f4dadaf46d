"""``python -m aksara_signals``."""

from __future__ import annotations

import sys

from aksara_signals.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
