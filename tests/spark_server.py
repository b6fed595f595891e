"""A Spark of the tests' own, in local mode: its Connect server on the loopback, and a socket that leads to it.

A task that fails is started again up to twice, as a cluster would.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PROXY = Path(__file__).with_name("socket_proxy.py")
TOKEN = "a-token-of-the-tests"
MASTER = "local[2,3]"
"""Two tasks at a time; a job fails when one of them fails for the third time."""


@dataclass(frozen=True)
class SparkServer:
    """A running server."""

    folder: Path
    made: list[str] = field(default_factory=list)
    session: list[int] = field(default_factory=list)
    """Of its processes, as the system numbers them."""

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "connect.sock"

    @property
    def url(self) -> str:
        """What settings call it."""
        return f"unix:{self.socket}"

    def new_table(self, table: pa.Table, *, group_rows: int = 65_536) -> str:
        """The name of a new table with these rows."""
        name = f"shop.t{len(self.made)}"
        self.made.append(name)
        place = self.folder / name
        place.mkdir()
        pq.write_table(table, place / "0.parquet", row_group_size=group_rows)
        self.run(f"CREATE DATABASE IF NOT EXISTS shop; CREATE TABLE {name} USING parquet LOCATION '{place}'")
        return name

    def run(self, statements: str) -> None:
        """Run statements as the operator of the server."""
        from fedseg.node.sources.spark import _session

        with _session(self.socket, TOKEN) as spark:
            for statement in statements.split("; "):
                spark.sql(statement)

    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_spark() -> Iterator[SparkServer]:
    """A server for as long as the block lasts."""
    home = _home()
    if shutil.which("java") is None:
        pytest.fail("Spark needs Java 17: apt-get install openjdk-17-jre-headless (`make test-extras` does so as root)")
    server = SparkServer(Path(tempfile.mkdtemp(prefix="fedseg-spark-")))  # a socket's path may have 107 bytes
    port = _free_port()
    settings = {
        "spark.ui.enabled": "false",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.io.encryption.enabled": "true",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "spark.sql.warehouse.dir": server.folder / "warehouse",
        "spark.local.dir": server.folder / "local",
    }
    command = [home / "bin" / "spark-submit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    command += ["--master", MASTER, "--driver-memory", "1g"]
    command += [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": TOKEN,
    }
    with (server.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*map(str, command), "spark-internal"],
            cwd=server.folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server.session.append(process.pid)
        proxy = subprocess.Popen([sys.executable, str(PROXY), str(server.socket), str(port)], stdout=log, stderr=log)
    try:
        _wait(server, port, process)
        yield server
    finally:
        for one in (proxy, process):
            one.terminate()
            one.wait(timeout=60)
        shutil.rmtree(server.folder)


def _home() -> Path:
    """Where Spark is: the whole of it comes as a Python package."""
    found = importlib.util.find_spec("pyspark")
    home = Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else Path()
    if not (home / "bin" / "spark-submit").exists():
        pytest.fail("Spark is not installed: `make test-extras` makes an environment that has it")
    return home


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(server: SparkServer, port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            if server.socket.exists():
                return
        assert process.poll() is None, server.log()
        time.sleep(0.1)
    pytest.fail("Spark did not start within a minute")
