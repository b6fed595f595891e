"""A PostgreSQL server of the tests' own: its data and its socket in a temporary directory, nothing on the network."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = "fedseg"


@dataclass(frozen=True)
class PostgresServer:
    """A running server."""

    folder: Path
    made: list[str]

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"unit{len(self.made)}"
        self.made.append(name)
        self.run("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def run(self, database: str, statement: str) -> None:
        """Run a statement that cannot be in a transaction."""
        import psycopg

        with psycopg.connect(f"postgresql://{USER}@/{database}?host={self.folder}", autocommit=True) as connection:
            connection.execute(statement.encode())


def program(name: str) -> str:
    """A program of the server, which Debian keeps out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    where = str(found[-1]) if found else shutil.which(name)
    if where is None:
        pytest.fail(f"{name} of PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return where


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server for as long as the block lasts; as another user where the tests run as root, whom PostgreSQL refuses."""
    folder = Path(tempfile.mkdtemp(prefix="fedseg-pg-"))  # a socket's path may have 107 bytes
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    if os.geteuid() == 0:
        os.chown(folder, user, -1)
    data = folder / "data"
    initdb = [program("initdb"), "--pgdata", data, "--username", USER, "--auth", "trust", "--no-sync"]
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": "50"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    try:
        made = subprocess.run([*map(str, initdb)], user=user, capture_output=True, text=True, cwd=folder, check=False)
        assert made.returncode == 0, made.stderr
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [program("postgres"), "-D", str(data), *options], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait(folder, server)
            yield PostgresServer(folder, [])
        finally:
            server.terminate()
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _wait(folder: Path, server: "subprocess.Popen[bytes]") -> None:
    import psycopg

    for _ in range(300):
        with suppress(psycopg.OperationalError):
            psycopg.connect(f"postgresql://{USER}@/postgres?host={folder}").close()
            return
        assert server.poll() is None, (folder / "log").read_text(encoding="utf-8", errors="replace")
        time.sleep(0.1)
    pytest.fail("PostgreSQL did not start within 30 seconds")
