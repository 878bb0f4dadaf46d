"""Ports for servers that begin to listen later, and stop and listen again."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A port of this machine that nobody listens to.

    It is none of those that the system gives to connections, of which another test might get it
    before the server listens.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
