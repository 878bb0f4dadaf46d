"""``python -m aksara_signals``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from aksara_signals import demo

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the command line by default.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m aksara_signals", description="Django-style signals for SQLAlchemy 2.x."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("demo", help="show signals firing for real writes")
    command.add_argument(
        "--url",
        default=demo.EMBEDDED,
        help="any async SQLAlchemy URL; by default SQLite in memory (%(default)s)",
    )
    options = parser.parse_args(arguments)
    asyncio.run(demo.run(options.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
