"""Running programs and watching processes; every wait has a limit, and says what it waited for."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

ROOT: Final = Path(__file__).parents[2]
PATIENCE_SECONDS: Final = 60.0
"""Longest wait for a program that should be quick."""
PROC: Final = Path("/proc")

Command = Sequence[str | Path]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended and what it said."""

    code: int
    out: str
    err: str


def run(
    command: Command, *, timeout: float = PATIENCE_SECONDS, give: str | bytes = "", path: str | Path | None = None
) -> Answer:
    """Run a program to its end; `path` goes before all others when it looks for Python modules."""
    done = subprocess.run(
        [str(word) for word in command],
        input=give.encode() if isinstance(give, str) else give,
        capture_output=True,
        timeout=timeout,
        check=False,
        env=os.environ | ({} if path is None else {"PYTHONPATH": str(path)}),
    )
    return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def do(command: Command, *, give: str = "") -> str:
    """Run a program that must succeed, and return what it prints."""
    done = run(command, give=give)
    assert done.code == 0, f"{' '.join(map(str, command))} ended with {done.code}: {done.out}{done.err}"
    return done.out


class Running:
    """A program that runs beside the test, and ends with its block."""

    def __init__(self, command: Command) -> None:
        self.command = " ".join(str(word) for word in command)
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=PATIENCE_SECONDS)

    def answer(self, *, timeout: float) -> Answer:
        """Wait for its end."""
        out, _ = self._process.communicate(timeout=timeout)
        return Answer(self._process.returncode, out.decode(errors="replace"), "")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process, as /proc shows it."""

    pid: int
    words: tuple[str, ...]

    @property
    def uid(self) -> int:
        """Who runs it."""
        return (PROC / str(self.pid)).stat().st_uid

    @property
    def is_running(self) -> bool:
        """Whether it still runs, and does not just wait for its parent to take note of its end."""
        try:
            state = (PROC / str(self.pid) / "stat").read_text("utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z" and _words(self.pid) == self.words

    @property
    def interfaces(self) -> set[str]:
        """The network interfaces that it sees."""
        lines = (PROC / str(self.pid) / "net" / "dev").read_text("utf-8").splitlines()[2:]
        return {line.partition(":")[0].strip() for line in lines}

    @property
    def status(self) -> dict[str, str]:
        """What the kernel says of it, such as its capabilities."""
        lines = (PROC / str(self.pid) / "status").read_text("utf-8").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def kill(self) -> None:
        """Kill it without a warning."""
        os.kill(self.pid, signal.SIGKILL)


def processes(*words: str | Path) -> list[Process]:
    """The running processes that have all these words on their command lines."""
    wanted = {str(word) for word in words}
    found = [Process(int(one.name), _words(int(one.name))) for one in PROC.iterdir() if one.name.isdigit()]
    return [one for one in found if wanted <= set(one.words) and one.is_running]


def process_in(pid_file: Path) -> Process:
    """The running process that has left its number in a file."""
    wait_for(f"a number in {pid_file}", lambda: pid_file.exists() and pid_file.stat().st_size, seconds=30)
    pid = int(pid_file.read_text("ascii"))
    return Process(pid, _words(pid))


def the_process(*words: str | Path) -> Process:
    """The one process that has all these words on its command line."""
    return wait_for(f"one process of {' '.join(map(str, words))}", lambda: _only(processes(*words)), seconds=30)


def wait_for(what: str, look: Callable[[], Found | None], *, seconds: float, every: float = 0.1) -> Found:
    """Look again and again until something is found, for so many seconds at most; `False` counts as nothing."""
    began = time.monotonic()
    print(f"waiting at most {seconds:g} s for {what} ...", flush=True)  # noqa: T201 (pytest shows it when a test fails)
    while not (found := look()):
        assert time.monotonic() - began < seconds, f"waited {seconds:g} s in vain for {what}"
        time.sleep(every)
    print(f"... {what}: after {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201
    return found


def _only(found: list[Process]) -> Process | None:
    return found[0] if len(found) == 1 else None


def _words(pid: int) -> tuple[str, ...]:
    try:
        return tuple((PROC / str(pid) / "cmdline").read_text("utf-8", "replace").split("\0")[:-1])
    except (FileNotFoundError, ProcessLookupError):
        return ()
