"""The coordinator dies in the middle of a run and is started again: same segments as the ledgers say, no second charge."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario
from tests.chaos.conftest import FEDSEG, Point, Run, run_in_process

RUNNER = "fedseg.simulation.runner"
SERVER = "fedseg.federation.server_app"

POINTS = [
    Point("one unit has approved", f"{RUNNER}:approve"),
    Point("all units have approved", f"{RUNNER}:approve", call=2),
    Point("plan logged", f"{SERVER}:_log_plan"),
    Point("first round about to be asked", f"{SERVER}:exchange", "before"),
    Point("first reply come", f"{SERVER}:persist_contribution", "before"),
    Point("first reply logged", f"{SERVER}:persist_contribution"),
    Point("all replies logged", f"{SERVER}:persist_contribution", call=2),
    Point("round computed", f"{SERVER}:close_round"),
    Point("round logged", f"{SERVER}:persist_round"),
    Point("second round half done", f"{SERVER}:persist_contribution", call=3),
    Point("last round logged", f"{SERVER}:persist_round", call=3),
    Point("segments about to be published", f"{SERVER}:_publish", "before"),
    Point("segments published", f"{SERVER}:_publish"),
    Point("segments verified", f"{RUNNER}:_verify"),
    Point("results about to be written", f"{RUNNER}:metrics", "before"),
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def work(scenario: Path, run: Run) -> Callable[..., bytes]:
    """Runs the scenario."""

    def simulate_it(*, resume: bool = False) -> bytes:
        return simulate(load_scenario(scenario), run.out, resume=resume).signed.to_json()

    return simulate_it


@pytest.mark.chaos
@pytest.mark.parametrize("point", POINTS, ids=[point.name.replace(" ", "-") for point in POINTS])
def test_a_killed_run_goes_on_where_the_ledgers_say_it_stopped(
    point: Point, work: Callable[..., bytes], run: Run
) -> None:
    assert run_in_process(work, point).code == -signal.SIGKILL
    released = run.released()

    resumed = run_in_process(lambda: work(resume=True))

    assert resumed.output == (run.out / "segmentation.json").read_bytes()
    run.check_finished(released)


@pytest.mark.chaos
def test_a_run_killed_at_one_point_after_another_still_ends_with_one_charge_a_round(
    work: Callable[..., bytes], run: Run
) -> None:
    assert run_in_process(work, POINTS[0]).code == -signal.SIGKILL
    for point in [POINTS[3], *POINTS[4:6], POINTS[12]]:
        assert run_in_process(lambda: work(resume=True), point).code == -signal.SIGKILL
    released = run.released()

    run_in_process(lambda: work(resume=True))

    run.check_finished(released)


@pytest.mark.chaos
def test_resuming_a_finished_run_changes_nothing(work: Callable[..., bytes], run: Run) -> None:
    first = run_in_process(work)
    roots = [facts.root for facts in (*run.units(), run.server())]

    again = run_in_process(lambda: work(resume=True))

    assert first == again
    assert [facts.root for facts in (*run.units(), run.server())] == roots


@pytest.mark.chaos
def test_the_command_itself_can_be_killed_during_the_rounds_and_resumed(scenario: Path, run: Run) -> None:
    command: list[str | Path] = [FEDSEG, "simulate", scenario, "--out", run.out]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("rounds" in line for line in process.stderr)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    released = run.released()

    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)

    assert (resumed.returncode, "yes" in resumed.stdout) == (0, True), resumed.stderr
    run.check_finished(released)
