"""What the command line's tests share: the real `fedseg` as a process, and a workspace with units and a finished run."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fedseg.cli.main import run_command
from tests.small_federation import SmallFederation, make_federation
from tests.small_scenario import write_scenario

FEDSEG = Path(sys.executable).with_name("fedseg")


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> list[str]:
        """The last three lines on stderr."""
        return self.err.splitlines()[-3:]

    @property
    def envelope(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass(frozen=True)
class Cli:
    """Runs `fedseg` in a folder, with no settings from outside."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object, **environment: str) -> Ended:
        """Run a command; keywords are environment variables."""
        done = subprocess.run(
            [FEDSEG, *map(str, arguments)],
            cwd=self.folder,
            env=self.clean(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def here(self, *arguments: object, **environment: str) -> Ended:
        """Run a command in this process, which is quicker; the same otherwise."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(os, "environ", self.clean(environment))
            patch.setattr(sys, "stdin", io.StringIO())
            code = run_command([str(one) for one in arguments])
        return Ended(code, out.getvalue(), err.getvalue())

    def clean(self, changes: Mapping[str, str]) -> dict[str, str]:
        """This process's environment without what speaks to fedseg or about its terminal."""
        strip = ("FEDSEG_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strip)}
        return {**kept, **self.environment, **changes}


@dataclass(frozen=True)
class Workspace:
    """A folder of its own for each test: a federation that has approved nothing, and a finished run."""

    folder: Path
    federation: SmallFederation
    run: Path
    """What `fedseg simulate` left."""
    cli: Cli

    @property
    def plan(self) -> Path:
        """The federation's plan file."""
        return self.folder / "plan.toml"

    def home(self, unit: str = "north") -> Path:
        """A unit's home in the federation."""
        return self.federation.path / unit

    def approve(self, *more: object) -> list[object]:
        """The command by which a unit approves the plan."""
        return ["approve", self.plan, "--node", self.home(), "--yes", *more]

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def files(self) -> dict[str, bytes]:
        """Every file here but directories of runs that the command itself made."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "new-run" not in path.parts and os.access(path, os.R_OK)
        }


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every workspace is copied from."""
    folder = tmp_path_factory.mktemp("cli") / "workspace"
    federation = make_federation(folder / "federation", {"north": 60, "south": 40})
    (folder / "plan.toml").write_bytes(federation.document)
    write_scenario(folder)
    ended = Cli(folder)("simulate", "scenario.toml", "--out", "run", "--format", "json")
    assert ended.code == 0, ended.err
    (folder / "result.json").write_text(ended.out, encoding="utf-8")
    return folder


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Workspace:
    folder = tmp_path / "workspace"
    shutil.copytree(original, folder)
    federation = SmallFederation(folder / "federation", (folder / "plan.toml").read_bytes())
    return Workspace(folder, federation, folder / "run", Cli(folder))
