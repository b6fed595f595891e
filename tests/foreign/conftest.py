"""A ledger with a full tile and more, as its reader gets it; and Go's packages as a process that answers questions."""

import json
import os
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.entries import Entry, Genesis, History
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger

HERE = Path(__file__).parent
ORIGIN = "fedseg/unit/north"
GO_PATH = "/usr/share/gocode"
"""Where Debian keeps the sources of Go packages."""


@pytest.fixture(scope="session")
def raw() -> RawLedger:
    """300 entries with a checkpoint over each."""
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
    genesis = Genesis(ORIGIN, key.public)
    history, notes = History(), list[tuple[int, str]]()
    for seq in range(300):
        entry = (
            Entry(seq, "release", {"round": seq, "text": "ø" * (seq % 7)}) if seq else genesis.entry({"unit": "north"})
        )
        history = history.with_entries([entry])
        notes.append((seq + 1, sign_checkpoint(Checkpoint(ORIGIN, seq + 1, history.root()), key)))
    return RawLedger.from_parts([entry.to_bytes() for entry in history.entries], notes, {})


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make a program of a folder with Go sources."""
    if which("go") is None or not Path(GO_PATH, "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.fail("Go or its package x/mod is missing: apt-get install golang-go golang-golang-x-mod-dev")
    cache = tmp_path_factory.mktemp("go")
    settings = {"GO111MODULE": "off", "GOPATH": GO_PATH, "GOFLAGS": "", "GOCACHE": str(cache)}

    def make(sources: Path) -> Path:
        program = tmp_path_factory.mktemp("program") / "checker"
        built = subprocess.run(
            ["go", "build", "-o", str(program), "."],
            cwd=sources,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stderr
        return program

    return make


@pytest.fixture(scope="session")
def go(build: Callable[[Path], Path]) -> Generator[Callable[..., str]]:
    """Ask Go's packages about a note, a proof or tiles: `ok`, or why not."""
    program = build(HERE / "checker")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def ask(**question: Any) -> str:
            questions.write(json.dumps(question) + "\n")
            questions.flush()
            return answers.readline().strip()

        yield ask
        questions.close()
