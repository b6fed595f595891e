"""Runs the pages of the documentation as a reader would: Python blocks, `$ ` lines of console blocks, files to save.

A console block shows commands after `$ ` and what they print. Each command runs in a real shell with the real `fedseg`
and must exit with 0, or with N if it ends in `# exit N` or is followed by `$ echo $?`. The lines shown must come in the
same order among those really printed, up to numbers, hashes and keys. `...` stands for whatever is left out.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.typing import Parser

from tests.docs.comparison import shape

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_SAVED_FILE = re.compile(r"<!-- file: (\S+) -->\n+```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_EXIT = re.compile(r"# exit (\d+)$")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and the lines that the page shows below it."""

    text: str
    shown: tuple[str, ...]


def plain_terminal() -> dict[str, str]:
    """The environment of a reader: our `fedseg` comes first, 80 columns, no colour, no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDSEG_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


@dataclass(slots=True)
class Shell:
    """Where the commands of one page run, one after the other."""

    folder: Path
    last_status: int = 0

    def run(self, text: str) -> str:
        """What the command prints, progress and errors included."""
        done = subprocess.run(
            ["bash", "-c", f"(exit {self.last_status})\n{text}"],
            cwd=self.folder,
            env=plain_terminal(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.last_status = done.returncode
        return done.stdout


def run_page(path: Path, folder: Path) -> int:
    """Run everything on a page in `folder`, the current directory; how many blocks there were.

    Raises:
        AssertionError: If anything is not as the page says; names the line.
    """
    shell = Shell(folder)

    def console(example: Example) -> None:
        where = f"{path.name}, line {example.line}"
        _run_block(parse_block(example.parsed), shell, where)

    parsers: list[Parser] = [PythonCodeBlockParser(), CodeBlockParser("console", console), _saved_files]
    examples = list(Sybil(parsers=parsers).parse(path).examples())
    for example in examples:
        example.evaluate()
    return len(examples)


def parse_block(source: str) -> list[Command]:
    """The commands of a console block."""
    commands: list[Command] = []
    for line in source.rstrip("\n").split("\n"):
        if line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ "), ()))
        else:
            commands[-1] = Command(commands[-1].text, (*commands[-1].shown, line))
    return commands


def _run_block(commands: list[Command], shell: Shell, where: str) -> None:
    for command, after in zip(commands, [*commands[1:], None], strict=True):
        printed = shell.run(command.text)
        wanted = _EXIT.search(command.text)
        if wanted or after is None or after.text != "echo $?":
            assert shell.last_status == int(wanted[1] if wanted else 0), f"{where}: $ {command.text}\n{printed}"
        if command.text == "echo $?":
            assert list(command.shown) == printed.split(), f"{where}: exits with {printed}"
        _compare(command, printed, where)


def _compare(command: Command, printed: str, where: str) -> None:
    rest = iter(shape(printed))
    for line in shape("\n".join(command.shown)):
        assert line == "..." or line in rest, f"{where}: $ {command.text}\nmissing: {line}\nin:\n{printed}"


def _saved_files(document: Document) -> Iterator[Region]:
    """Blocks that the reader saves as a file; `<!-- file: NAME -->` stands above them."""
    for found in _SAVED_FILE.finditer(document.text):
        yield Region(found.start(), found.start(), parsed=found, evaluator=_save)


def _save(example: Example) -> None:
    path = Path(example.parsed[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.parsed[2], encoding="utf-8")
