"""What the ledger's tests share: a fixed key, small ledgers, and processes that are killed at a chosen SQL statement."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedseg.ledger.keys import SigningKey
from fedseg.ledger.store import Ledger

ROOT = Path(__file__).parents[2]

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from fedseg.ledger import store
from fedseg.ledger.keys import SigningKey

path, key_path, statement = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
connect = store.connect

def deadly_connect(path, mode):
    connection = connect(path, mode)
    connection.set_trace_callback(lambda sql: sql.startswith(statement) and os.kill(os.getpid(), signal.SIGKILL))
    return connection

ledger = store.Ledger.open(path, SigningKey.load(key_path))
store.connect = deadly_connect
with ledger.transaction() as transaction:
    transaction.append("charge", {"round": 99}, payload=("late", b"late" * 2000))
"""


@pytest.fixture
def key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))


@pytest.fixture
def other_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))


@pytest.fixture
def ledger(tmp_path: Path, key: SigningKey) -> Ledger:
    """A ledger file of a genesis and three charges, two of them with payloads, in three transactions."""
    made = Ledger.create(tmp_path / "unit.ledger", origin="unit.example/ledger", key=key, body={"unit": "unit"})
    with made.transaction() as transaction:
        transaction.append("charge", {"round": 1}, payload=("release-1", b"first release"))
        transaction.append("note", {"text": "ø", "list": [1, None, True, {"a": []}]})
    with made.transaction() as transaction:
        transaction.append("charge", {"round": 2}, payload=("release-2", bytes(range(256))))
    return made


@pytest.fixture
def run_python() -> Callable[..., "subprocess.Popen[str]"]:
    """Start a Python program as a process of its own."""

    def start(program: str, *arguments: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def kill_writer_at(
    ledger: Ledger, key: SigningKey, tmp_path: Path, run_python: Callable[..., "subprocess.Popen[str]"]
) -> Callable[[str], None]:
    """Have another process append to `ledger` and die of SIGKILL when it comes to an SQL statement."""

    def kill(statement: str) -> None:
        key.save(tmp_path / "writer.pem")
        with run_python(KILLED_WRITER, ledger.path, tmp_path / "writer.pem", statement) as process:
            assert process.wait(30) == -signal.SIGKILL

    return kill
