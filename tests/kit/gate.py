"""A gate before a server: while it is closed, nobody can connect, and all connections are cut."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kit.ports import free_port


class Gate:
    """Passes everything on to a server while it is open.

    Args:
        host: The host of the server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.port: int = free_port()
        self._threads: list[threading.Thread] = []
        self._stop: socket.socket | None = None

    def open(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._stop, stopped = socket.socketpair()
        self._start(self._accept, listener, stopped)

    def close(self) -> None:
        """Cut all connections, and refuse new ones."""
        if self._stop is not None:
            self._stop.close()
            self._stop = None
        while self._threads:
            thread = self._threads.pop()
            thread.join(30)
            assert not thread.is_alive()

    def _start(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, stopped: socket.socket) -> None:
        passing = []
        with listener, stopped:
            while stopped not in select.select([listener, stopped], [], [])[0]:
                client = listener.accept()[0]
                thread = threading.Thread(target=self._pass_on, args=(client, stopped))
                passing.append(thread)
                thread.start()
            for thread in passing:
                thread.join()

    def _pass_on(self, client: socket.socket, stopped: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server, suppress(ConnectionError):
            others = {client: server, server: client}
            while True:
                ready = select.select([client, server, stopped], [], [])[0]
                if stopped in ready:
                    return
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    others[source].sendall(data)


@contextmanager
def gate_before(host: str, port: int) -> Iterator[Gate]:
    """An open gate before a server, closed at the end."""
    gate = Gate(host, port)
    gate.open()
    try:
        yield gate
    finally:
        gate.close()
