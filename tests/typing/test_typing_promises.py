"""What must not type-check does not, at exactly the marked lines, for mypy and for pyright; what is right passes.

A marker stands at the end of a line: `# E: mypy[arg-type] pyright[reportArgumentType]`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent.relative_to(ROOT)

MARKER = re.compile(r"# E: (?P<errors>.+)$")
ERROR = re.compile(r"(?P<checker>mypy|pyright)\[(?P<rule>[\w-]+)\]")

Finding = tuple[str, int, str]
"""File, line and rule."""


def files(folder: str) -> list[str]:
    return sorted(path.as_posix() for path in (HERE / folder).glob("*.py"))


def marked(checker: str) -> set[Finding]:
    """The errors that `checker` is to find, by the markers in the files."""
    return {
        (name, number, error["rule"])
        for name in files("must_fail")
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), start=1)
        if (marker := MARKER.search(line))
        for error in ERROR.finditer(marker["errors"])
        if error["checker"] == checker
    }


def run_mypy() -> set[Finding]:
    command = [sys.executable, "-m", "mypy", "--strict", "--output", "json"]
    run = subprocess.run(
        [*command, *files("must_fail"), *files("must_pass")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return {(Path(one["file"]).as_posix(), one["line"], one["code"]) for one in found if one["severity"] == "error"}


def run_pyright() -> set[Finding]:
    # The project's configuration makes it strict.
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    run = subprocess.run(
        [*command, *files("must_fail"), *files("must_pass")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    found = json.loads(run.stdout)["generalDiagnostics"]
    return {
        (Path(one["file"]).relative_to(ROOT).as_posix(), one["range"]["start"]["line"] + 1, one.get("rule", "syntax"))
        for one in found
    }


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def checked(request: pytest.FixtureRequest) -> tuple[str, set[Finding]]:
    """A checker's name and everything it found."""
    return request.param, {"mypy": run_mypy, "pyright": run_pyright}[request.param]()


def test_every_mistake_is_found_and_nothing_else(checked: tuple[str, set[Finding]]) -> None:
    checker, found = checked
    assert {one for one in found if "must_fail" in one[0]} == marked(checker)


def test_correct_use_passes(checked: tuple[str, set[Finding]]) -> None:
    assert {one for one in checked[1] if "must_pass" in one[0]} == set()


def test_no_mistake_is_left_unmarked() -> None:
    marks = [
        line for name in files("must_fail") for line in (ROOT / name).read_text("utf-8").splitlines() if "# E:" in line
    ]
    assert len(marks) == len({one[:2] for one in marked("mypy")}) > 0
