"""A federation with planted customers, run through everything there is, and everything that could be seen of it outside."""

import base64
import contextlib
import io
import json
import logging
import re
import sqlite3
import struct
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto

from fedseg.cli.main import run_command
from fedseg.federation.loopback import LoopbackGrid
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.source import subject_key
from fedseg.simulation import runner
from tests.small_scenario import write_scenario

IDENTIFIER = "CANARY-SUBJECT-7f3a"
VALUE = 31337.4242
COUNT = 3917
"""Customers of the unit "north", all of whom may be counted."""

LONE_COUNT = re.compile(rb"(?<![\w.,+/=%-])3[,_ ]?917(?![\w+/=]|[.,]\d)")
"""The count as a number by itself, not as four digits of a hash, a key or a longer number."""

TEXT = re.compile(rb"[\t\n\x20-\x7e]{8,}")
"""A piece of text between other bytes."""


@dataclass(frozen=True)
class Canaries:
    """What must not be seen, in every form in which it might be written."""

    pseudonym: bytes
    """The planted customer's key at the unit."""

    def forms(self) -> Mapping[str, bytes]:
        """Byte strings to look for, by name."""
        number = struct.pack("<d", VALUE)
        return {
            **_spellings("identifier", IDENTIFIER.encode()),
            "identifier in UTF-16": IDENTIFIER.encode("utf-16-le"),
            **_spellings("pseudonym", self.pseudonym),
            "value": repr(VALUE).encode(),
            "value with separators": f"{VALUE:,}".encode(),
            "value rounded": f"{VALUE:.2f}".encode(),
            **_spellings("value as float64", number),
            "value as float64, big-endian": number[::-1],
        }

    def found_in(self, data: bytes) -> list[str]:
        """Names of all that is seen in some bytes."""
        found = [name for name, form in self.forms().items() if form in data]
        return found + (["count"] if any(map(LONE_COUNT.search, _texts(data))) else [])


def _texts(data: bytes) -> list[bytes]:
    """The bytes, if they are text, else the texts among them: in random bytes any four digits turn up some day."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return TEXT.findall(data)
    return TEXT.findall(data) if b"\0" in data else [data]


def _spellings(name: str, data: bytes) -> dict[str, bytes]:
    """The bytes as they are, in hex, and in base64 wherever in a longer text they stand."""
    spelled = {name: data, f"{name} in hex": data.hex().encode(), f"{name} in HEX": data.hex().upper().encode()}
    for shift in range(3):
        # The first and last characters also depend on what stands before and after.
        text = base64.b64encode(bytes(shift) + data)[4 if shift else 0 :]
        whole = text[: (len(data) - (3 - shift) % 3) // 3 * 4] if shift else text[: len(data) // 3 * 4]
        spelled[f"{name} in base64, shifted by {shift}"] = whole
        spelled[f"{name} in base64 for addresses, shifted by {shift}"] = whole.translate(bytes.maketrans(b"+/", b"-_"))
    return spelled


@dataclass
class Seen:
    """All that could be seen outside of the units: what was printed, logged, sent and written."""

    printed: dict[str, str] = field(default_factory=dict)
    """By command: what it printed on stdout and stderr."""
    logged: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each printed line that is not marked LOCAL, with the command that printed it."""
        for command, text in self.printed.items():
            for line in text.splitlines():
                if not line.startswith(LOCAL):
                    yield command, line

    def local_lines(self) -> list[str]:
        """Each printed line that is marked LOCAL."""
        return [line for text in self.printed.values() for line in text.splitlines() if line.startswith(LOCAL)]


class Recording(logging.Handler):
    """Keeps every log record as formatted, with its traceback and its arguments."""

    def __init__(self, records: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(f"{self.format(record)} {record.args!r}")


@contextlib.contextmanager
def everything_logged(records: list[str]) -> Generator[None]:
    """Record what any logger says at any level, also those that keep it from the root logger."""
    handler = Recording(records)
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    before = [(one, one.level, one.disabled) for one in loggers]
    for one in loggers:
        one.setLevel(logging.DEBUG)
        one.disabled = False
        if one is logging.root or not one.propagate:
            one.addHandler(handler)
    try:
        yield
    finally:
        for one, level, disabled in before:
            one.setLevel(level)
            one.disabled = disabled
            one.removeHandler(handler)


@dataclass(frozen=True)
class Federation:
    """The folder of scenario and run, and what was seen so far."""

    folder: Path
    seen: Seen

    @property
    def run(self) -> Path:
        """What `fedseg simulate` left."""
        return self.folder / "run"

    @property
    def home(self) -> Path:
        """The home of the unit with the planted customers."""
        return self.run / "nodes" / "north"

    @property
    def canaries(self) -> Canaries:
        """What must not be seen."""
        return Canaries(subject_key(IDENTIFIER.encode(), NodeHome.open(self.home).subject_secret))

    def fedseg(self, *arguments: object) -> int:
        """Run a command in this process; all that it prints and logs and sends is kept."""
        words = [str(one) for one in arguments]
        printed = io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            everything_logged(self.seen.logged),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setattr(runner, "LoopbackGrid", recording_grid(self.seen.messages))
            code = run_command([word for word in words if word != "--debug"], debug="--debug" in words)
        self.seen.printed[" ".join(words)] = printed.getvalue()
        return code

    def files(self, *, local: bool) -> list[Path]:
        """Files of the run inside, or outside, of the directories named LOCAL."""
        return [
            path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.parent != self.folder
            and (LOCAL in path.relative_to(self.folder).parts) is local
        ]  # fmt: skip

    def ledger_rows(self) -> Iterator[tuple[Path, bytes]]:
        """Every cell of every table of every ledger, as bytes."""
        for path in self.run.rglob("ledger.db"):
            with closing(sqlite3.connect(path)) as connection:
                for table in ("leaf", "checkpoint", "payload"):
                    for row in connection.execute(f"SELECT * FROM {table}"):
                        for cell in row:
                            yield path, cell if isinstance(cell, bytes) else str(cell).encode()


def recording_grid(kept: list[bytes]) -> type[LoopbackGrid]:
    """A `LoopbackGrid` that keeps every message, both ways, as it crosses."""

    class RecordingGrid(LoopbackGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            pushed = list(messages)
            kept.extend(message_to_proto(one).SerializeToString() for one in pushed)
            return super().push_messages(pushed)

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            pulled = list(super().pull_messages(message_ids))
            kept.extend(message_to_proto(one).SerializeToString() for one in pulled)
            return pulled

    return RecordingGrid


def write_customers(path: Path) -> None:
    """3,917 customers of the north, among them the planted one, and 1,083 of the south."""
    coins = np.random.default_rng(8)
    lines = ["customer,visits,spend"]
    for number in range(COUNT + 1083):
        visits, spend = (20 if number < COUNT else 80) + coins.normal(scale=4), 9000 * (1 + number % 3) + coins.normal()
        lines.append(f"customer-{number:06d},{visits:.4f},{spend:.4f}")
    lines[100] = f"{IDENTIFIER},21.5,{VALUE}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """The federation after everything that a user would do with it, with noise from a seed: the same in every run."""
    folder = tmp_path_factory.mktemp("canaries")
    write_customers(folder / "customers.csv")
    write_scenario(
        folder,
        data='file = "customers.csv"',
        consent='given = "1/1", withdrawn = "0/1", expired = "0/1", never_asked = "0/1"',
        noise='source = "simulated", seed = 17',
        upper=50_000,
    )
    made = Federation(folder, Seen())
    exports = folder / "exports"
    exports.mkdir()
    for command in [
        ["simulate", "scenario.toml", "--out", "run"],
        ["simulate", "scenario.toml", "--out", "run", "--resume", "--format", "json"],
        ["plan", "show", "run/plan.toml"],
        ["approve", "run/plan.toml", "--node", "run/nodes/north", "--dry-run"],
        ["approve", "run/plan.toml", "--node", "run/nodes/north", "--yes"],
        ["budget", "show", "run/nodes/north"],
        ["ledger", "verify", "run/nodes/north/ledger.db"],
        ["ledger", "verify", "run/server/ledger.db", "--format", "json"],
        ["ledger", "export", "run/nodes/north/ledger.db", "--out", "exports/north.txt"],
        ["ledger", "export", "run/server/ledger.db", "--out", "exports/server.txt"],
        ["segments", "show", "run"],
        ["segments", "show", "run", "--format", "json"],
        ["report", "run", "--out", "exports/report"],
    ]:
        assert made.fedseg(*command) == 0, made.seen.printed[" ".join(command)]
    return made


def without_local(text: str) -> str:
    """A JSON envelope without what is marked LOCAL in it."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(one) for name, one in value.items() if name != LOCAL}
        return [strip(one) for one in value] if isinstance(value, list) else value

    return json.dumps(strip(json.loads(text)), ensure_ascii=False)


def owner_only(path: Path) -> bool:
    """Whether no other user of the machine may open the path."""
    return path.stat().st_mode & 0o077 == 0
