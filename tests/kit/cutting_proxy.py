"""A proxy before a server that cuts a connection within one statement."""

from __future__ import annotations

import dataclasses
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kit.databases import Database

BEFORE, AFTER, SILENT = "before", "after", "silent"
"""The statement never reaches the server; the server has executed it, and its answer is lost; it is
executed, and there is neither an answer nor an end of the connection."""


class CuttingProxy:
    """Passes everything on, until the statement comes at which it cuts."""

    def __init__(self, database: Database) -> None:
        url = database.sync_url
        host = url.query.get("host", url.host) or "localhost"
        self._is_postgresql = database.dialect == "postgresql"
        port = int(url.query.get("port", url.port or (5432 if self._is_postgresql else 3306)))
        self._server: Any = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop, self._stopped = socket.socketpair()
        self._threads: list[threading.Thread] = []
        self._is_silent = threading.Event()
        self._go_on = threading.Event()
        self.cut: tuple[bytes, str] | None = None
        """At which statement to cut the next connection that sends it, and how."""
        self.marker: bytes | None = None
        """If given, only a connection is cut that has sent this before."""
        here = {"host": "127.0.0.1", "port": self._listener.getsockname()[1]}
        query = [name for name in ("host", "port") if name in url.query]
        self.database = dataclasses.replace(
            database,
            async_url=database.async_url.difference_update_query(query)
            .set(**here)
            .update_query_dict({"ssl": "disable"} if self._is_postgresql else {}),
            sync_url=url.difference_update_query(query)
            .set(**here)
            .update_query_dict(
                {"sslmode": "disable", "gssencmode": "disable"} if self._is_postgresql else {}
            ),
        )

    def start(self) -> None:
        self._start(self._accept)

    def stop(self) -> None:
        self._go_on.set()
        self._stop.close()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        self._stopped.close()
        self._listener.close()

    def is_silent(self) -> bool:
        """Whether a statement was executed whose answer is kept back."""
        return self._is_silent.is_set()

    def end_silence(self) -> None:
        """End the connection that is silent."""
        self._go_on.set()

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._stopped not in select.select([self._listener, self._stopped], [], [])[0]:
            self._start(self._pass_on, self._listener.accept()[0])

    def _connect(self) -> socket.socket:
        if isinstance(self._server, tuple):
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        return server

    def _pass_on(self, client: socket.socket) -> None:
        with client, self._connect() as server:
            others = {client: server, server: client}
            is_marked = False
            while True:
                ready = select.select([client, server, self._stopped], [], [])[0]
                for source in ready:
                    if source is self._stopped:
                        return None
                    try:
                        data = source.recv(65536)
                        marker = self.marker
                        is_marked = is_marked or (marker is not None and marker in data)
                        is_meant = source is client and (marker is None or is_marked)
                        # MariaDB's drivers begin with SET AUTOCOMMIT, which is no COMMIT.
                        sent = data.replace(b"AUTOCOMMIT", b"")
                        if is_meant and self.cut and self.cut[0] in sent:
                            how, self.cut = self.cut[1], None
                            return self._cut(how, data, server)
                        if not data:
                            return None
                        others[source].sendall(data)
                    except ConnectionError:
                        return None

    def _cut(self, how: str, data: bytes, server: socket.socket) -> None:
        if how == BEFORE:
            return
        server.sendall(data)
        answer = server.recv(65536)
        # A simple query, as COMMIT is, has been executed when PostgreSQL is ready for the next one.
        # MariaDB has executed it when it answers.
        while self._is_postgresql and data.startswith(b"Q") and b"Z\x00\x00\x00\x05" not in answer:
            answer += server.recv(65536)
        if how == SILENT:
            self._is_silent.set()
            self._go_on.wait()


@contextmanager
def cutting_proxy(database: Database) -> Iterator[CuttingProxy]:
    """A proxy before the server of a database."""
    proxy = CuttingProxy(database)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
