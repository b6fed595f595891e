"""The disk fills up at one moment after another: exit code 8, three lines, everything committed intact, and on it goes.

The disks are real ones: small file systems in memory, mounted where only the test's own processes see them.
"""

import functools
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedseg.simulation.prepare import Layout
from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario
from tests.chaos.conftest import FEDSEG, Point, Run, run_in_process

NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
"""For root, and for everyone else where the system lets people have namespaces of their own."""

SCRIPT = """
set -eu
disk=$1 state=$2 room=$3 evidence=$4; shift 4
mount -t tmpfs -o size=64m fedseg-test "$disk"
cp -a "$state/." "$disk"
mount -o remount,size=$(( $(df -k --output=used "$disk" | tail -n 1) + room ))k "$disk"
for attempt in full roomy; do
    code=0
    "$@" >"$evidence/$attempt.out" 2>"$evidence/$attempt.err" || code=$?
    echo $code >"$evidence/$attempt.code"
    cp -a "$disk" "$evidence/$attempt"
    mount -o remount,size=64m "$disk"
done
"""


@dataclass(frozen=True)
class Attempt:
    """How the command ended, and what was on the disk then."""

    code: int
    out: str
    err: list[str]
    disk: Path


@functools.cache
def namespace() -> tuple[str, ...]:
    """A command that runs another one where it may mount; the test fails, with the reason, where there is none."""
    reasons: list[str] = []
    for command in NAMESPACES:
        found = shutil.which(command[0])
        tried = (
            subprocess.run(
                [*command, "sh", "-c", "mount -t tmpfs -o size=64k fedseg-test /tmp"],  # seen by this process alone
                capture_output=True,
                text=True,
                check=False,
            )
            if found
            else None
        )
        if tried is not None and tried.returncode == 0:
            return tuple(command)
        reasons.append(f"{' '.join(command)}: {tried.stderr.strip() if tried else 'not installed'}")
    pytest.fail(f"no small disk can be mounted here, so nothing is known about full ones: {'; '.join(reasons)}")


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Callable[..., tuple[Attempt, Attempt]]:
    """Runs a command on a disk that holds `state` and has `room_kib` left, then once more with plenty of room."""

    def run(state: Path, room_kib: int, disk: Path, *command: object) -> tuple[Attempt, Attempt]:
        evidence = tmp_path / "evidence"
        evidence.mkdir()
        disk.mkdir(parents=True, exist_ok=True)
        arguments = ["bash", "-c", SCRIPT, "small-disk", disk, state, room_kib, evidence, *command]
        subprocess.run([*namespace(), *map(str, arguments)], check=True)
        full, roomy = (
            Attempt(
                int((evidence / f"{name}.code").read_text()),
                (evidence / f"{name}.out").read_text(),
                (evidence / f"{name}.err").read_text().splitlines(),
                evidence / name,
            )
            for name in ("full", "roomy")
        )
        return full, roomy

    return run


@pytest.fixture(scope="session")
def approved(scenario: Path, prepared: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every unit has approved and nothing else has happened."""
    out = tmp_path_factory.mktemp("approved") / "run"
    shutil.copytree(prepared.out, out)

    def work() -> bytes:
        return simulate(load_scenario(scenario), out, resume=True).signed.to_json()

    point = Point("all approved", "fedseg.simulation.runner:_run", "before")
    assert run_in_process(work, point).code == -signal.SIGKILL
    return out


@pytest.fixture(scope="session")
def finished(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without its report."""
    out = tmp_path_factory.mktemp("finished") / "run"

    def work() -> bytes:
        return simulate(load_scenario(scenario), out).signed.to_json()

    assert run_in_process(work).code == 0
    return out


def says_disk_full(attempt: Attempt) -> bool:
    """Exit code 8, nothing on stdout, and three lines after the progress that say what, why and what to do."""
    assert "Traceback" not in "\n".join(attempt.err)
    what, why, fix = attempt.err[-3:]
    stages = "\n".join(attempt.err[:-3])
    assert "E8" not in stages.replace("code=E804", "")
    return (
        attempt.code == 8
        and not attempt.out
        and what.startswith("E804: ")
        and why.startswith("why: ")
        and (fix.startswith("fix: "))
    )


@pytest.mark.chaos
@pytest.mark.parametrize("room_kib", [8, 60, 200])
def test_a_disk_that_fills_while_homes_are_made_leaves_a_directory_that_says_what_it_is(
    room_kib: int, scenario: Path, tmp_path: Path, on_a_small_disk: Callable[..., tuple[Attempt, Attempt]]
) -> None:
    (tmp_path / "empty").mkdir()
    disk = tmp_path / "disk"

    full, again = on_a_small_disk(
        tmp_path / "empty", room_kib, disk, FEDSEG, "simulate", scenario, "--out", disk / "run", "--resume"
    )

    assert says_disk_full(full)
    assert not (full.disk / "run" / "plan.toml").exists()
    assert (again.code, again.out) in ((2, ""), (0, again.out))
    assert again.code == 0 or "no run to resume" in again.err[-2]


@pytest.mark.chaos
@pytest.mark.parametrize("room_kib", [0, 16, 40])
def test_a_disk_that_fills_while_units_approve_keeps_what_they_committed(
    room_kib: int,
    scenario: Path,
    prepared: Layout,
    tmp_path: Path,
    on_a_small_disk: Callable[..., tuple[Attempt, Attempt]],
) -> None:
    disk = tmp_path / "run"

    full, resumed = on_a_small_disk(
        prepared.out, room_kib, disk, FEDSEG, "simulate", scenario, "--out", disk, "--resume"
    )

    assert says_disk_full(full)
    assert not any("rounds" in line for line in full.err)
    assert Run(full.disk).released() == {}
    assert resumed.code == 0, resumed.err
    Run(resumed.disk).check_finished({})


@pytest.mark.chaos
@pytest.mark.parametrize("room_kib", [52, 68])
def test_a_disk_that_fills_during_the_rounds_keeps_every_charge_and_its_bytes(
    room_kib: int,
    scenario: Path,
    approved: Path,
    tmp_path: Path,
    on_a_small_disk: Callable[..., tuple[Attempt, Attempt]],
) -> None:
    disk = tmp_path / "run"

    full, resumed = on_a_small_disk(approved, room_kib, disk, FEDSEG, "simulate", scenario, "--out", disk, "--resume")

    assert says_disk_full(full)
    released = Run(full.disk).released()
    assert released, "the disk was full before the first round"
    assert resumed.code == 0, resumed.err
    Run(resumed.disk).check_finished(released)


@pytest.mark.chaos
def test_a_unit_whose_disk_is_full_releases_nothing_and_the_run_says_which_disk(
    scenario: Path, approved: Path, tmp_path: Path, on_a_small_disk: Callable[..., tuple[Attempt, Attempt]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(approved, run, ignore=shutil.ignore_patterns("nodes"))

    full, resumed = on_a_small_disk(
        approved / "nodes", 40, run / "nodes", FEDSEG, "simulate", scenario, "--out", run, "--resume"
    )

    assert says_disk_full(full)
    assert "nodes/" in full.err[-3]
    assert any("code=E804" in line for line in full.err[:-3])
    shutil.copytree(full.disk, tmp_path / "before" / "nodes")
    assert all(not facts.releases for facts in Run(tmp_path / "before").units())
    assert resumed.code == 0, resumed.err
    shutil.copytree(resumed.disk, run / "nodes", dirs_exist_ok=True)
    Run(run).check_finished({})


@pytest.mark.chaos
@pytest.mark.parametrize("room_kib", [0, 40])
def test_a_disk_that_fills_while_the_report_is_written_costs_nothing_but_the_report(
    room_kib: int, finished: Path, tmp_path: Path, on_a_small_disk: Callable[..., tuple[Attempt, Attempt]]
) -> None:
    disk = tmp_path / "run"
    released = Run(finished).released()

    full, again = on_a_small_disk(finished, room_kib, disk, FEDSEG, "report", disk)

    assert says_disk_full(full)
    assert not (full.disk / "report.html").exists()
    assert not (full.disk / "report.json").exists()
    Run(full.disk).check_finished(released)
    assert again.code == 0, again.err
    assert (again.disk / "report.html").stat().st_size > 0


@pytest.mark.chaos
def test_a_ledger_is_exported_whole_or_not_at_all(
    finished: Path, tmp_path: Path, on_a_small_disk: Callable[..., tuple[Attempt, Attempt]]
) -> None:
    disk = tmp_path / "run"
    export = disk / "ledger.txt"

    full, again = on_a_small_disk(
        finished, 4, disk, FEDSEG, "ledger", "export", disk / "nodes" / "north" / "ledger.db", "--out", export
    )

    assert says_disk_full(full)
    assert not (full.disk / "ledger.txt").exists()
    assert again.code == 0, again.err
