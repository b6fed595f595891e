"""The log files of a deployment: their ends, and the error codes in what was written since a moment."""

import contextlib
import os
import re
import subprocess
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedseg.deploy.users import program

_CODE = re.compile(r"\bcode=(E\d{3})\b")


@dataclass(frozen=True, slots=True)
class LogMark:
    """Where the logs of a folder ended at some moment."""

    sizes: Mapping[Path, int]

    @classmethod
    def now(cls, folder: Path) -> "LogMark":
        """Their ends now."""
        return cls({path: path.stat().st_size for path in folder.glob("*.log")})

    def since(self, path: Path) -> str:
        """What was written to a log since; all of it if it was rotated in between, nothing if there is none."""
        try:
            with path.open("rb") as file:
                start = self.sizes.get(path, 0)
                file.seek(start if start <= os.fstat(file.fileno()).st_size else 0)
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def codes(self, paths: Iterable[Path]) -> str:
        """The error codes that these logs have named since, in words."""
        found = {path.name: list(dict.fromkeys(_CODE.findall(self.since(path)))) for path in paths}
        said = [f"{name} says {', '.join(codes)}" for name, codes in found.items() if codes]
        return "; ".join(said) or "the logs name no error"


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log; none if there is no such file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=count)]
    except FileNotFoundError:
        return []


def follow_lines(paths: Sequence[Path], count: int) -> None:
    """Print the last lines of logs, and then every new one, rotation included, until interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run([program("tail"), "-n", str(count), "-F", *map(str, paths)], check=False)  # noqa: S603 (no shell)
