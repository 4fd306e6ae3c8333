"""A PostgreSQL of a test's own: a cluster in a temporary directory, on a Unix socket, as a user that is not root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

#: Who runs it where the tests run as root, which PostgreSQL refuses to be.
_NOBODY = 65534


def programs() -> Path | None:
    """The directory of the server's programs; None: it is not installed."""
    for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (path / "initdb").exists():
            return path
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


class Cluster:
    """A server with databases. Whatever is done to it, :meth:`remove` leaves nothing."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.root = Path(tempfile.mkdtemp(prefix="cc-bridge-pg-"))
        self._data = self.root / "data"
        self._as: dict[str, Any] = {"cwd": self.root}
        if os.geteuid() == 0:
            os.chown(self.root, _NOBODY, _NOBODY)
            self._as |= {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        argv = [str(self._programs / program), *arguments]
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **self._as
        )
        assert done.returncode == 0, done.stdout

    def _control(self, *arguments: str) -> None:
        # With its output in a file: the server keeps what it inherits open.
        with (self.root / "control.log").open("a") as log:
            argv = [str(self._programs / "pg_ctl"), "-D", str(self._data), "-w", "-t", "60", *arguments]
            subprocess.run(argv, stdout=log, stderr=log, timeout=120, check=True, **self._as)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.root} -c listen_addresses='' -c fsync=off -c max_connections=60"
        self._control("-l", str(self.root / "server.log"), "-o", options, "start")

    def stop(self) -> None:
        """End it at once, as a power cut would."""
        self._control("-m", "immediate", "stop")

    @property
    def _processes(self) -> list[int]:
        master = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return [master, *map(int, children)]

    def freeze(self) -> None:
        """It takes connections, and answers nothing."""
        for pid in self._processes:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        for pid in reversed(self._processes):
            os.kill(pid, signal.SIGCONT)

    def run(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for a statement."""
        argv = [str(self._programs / "psql"), "-h", str(self.root), "-U", "tester", "-qAtX", "-c", statement, database]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60, **self._as).stdout.strip()

    def database(self, options: str = "") -> str:
        """The address of a new database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} {options}")
        return f"postgresql+asyncpg://tester@/{name}?host={self.root}"

    def lend(self, directory: Path) -> Path:
        """A directory in another one, for the server to write to."""
        directory.chmod(0o755)
        room = directory / "room"
        room.mkdir()
        if os.geteuid() == 0:
            os.chown(room, _NOBODY, _NOBODY)
        return room

    def remove(self) -> None:
        """End it, and delete all of it."""
        if (self._data / "postmaster.pid").exists():
            self.thaw()
            self.stop()
        shutil.rmtree(self.root)
