"""The coordinator brings every job to an end, whatever happens to the link or to itself, and asks no unit twice to pay."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tomli_w

from fedseg.errors import RunLostError
from fedseg.federation.coordinator import IDLE_SECONDS, RETRY_SECONDS, turn
from fedseg.federation.server_app import run_plan
from fedseg.server.job import ATTEMPTS_MAX, Job, JobState
from fedseg.server.jobs import JobStore
from fedseg.server.roster import Roster, rules_of
from tests.small_federation import SmallFederation, plan_terms
from tests.small_link import SmallLink

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def jobs(tmp_path: Path) -> JobStore:
    place = tmp_path / "jobs"
    place.mkdir()
    return JobStore.open(place)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies are there at once, so looking for them more often only saves time."""
    monkeypatch.setattr("fedseg.federation.exchange.POLL_SECONDS", 0.01)


@pytest.fixture
def job(jobs: JobStore, federation: SmallFederation) -> Job:
    """The federation's plan, queued."""
    return jobs.submit(federation.document, now=NOW).job


@pytest.fixture
def link(federation: SmallFederation) -> SmallLink:
    return SmallLink(federation)


def take_turn(federation: SmallFederation, jobs: JobStore, link: SmallLink) -> float:
    return turn(federation.server, jobs, link.connect, lambda _: True)


def after(replies: int, happens: Callable[[], None]) -> Callable[[], None]:
    """Something that happens once, before a run gets one more reply than this."""
    left = [replies]

    def hook() -> None:
        left[0] -= 1
        if left[0] == -1:
            happens()

    return hook


def raiser(error: BaseException) -> Callable[[], None]:
    def hook() -> None:
        raise error

    return hook


def run_lost() -> RunLostError:
    return RunLostError("Flower does not know this task any more", why="the link was restarted", fix="nothing to do")


def charges(federation: SmallFederation) -> list[int]:
    """How many releases each unit has charged."""
    found = []
    for home in federation.homes:
        with home.ledger() as ledger:
            found.append(sum(entry.kind == "release" for entry in ledger.entries()))
    return found


def shorter(federation: SmallFederation) -> bytes:
    """The federation's plan with a deadline of a second, which nobody has approved."""
    units = [{"name": unit.name, "public_key": unit.public_key} for unit in federation.plan.units]
    return tomli_w.dumps(plan_terms(units, deadline_seconds=1)).encode()


def test_an_empty_queue_is_looked_at_again_soon(federation: SmallFederation, jobs: JobStore, link: SmallLink) -> None:
    assert take_turn(federation, jobs, link) == IDLE_SECONDS
    assert link.started == []


def test_a_job_ends_in_the_same_segments_as_the_plan_run_by_itself(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink, tmp_path: Path
) -> None:
    alone = federation.copied_to(tmp_path / "alone")
    expected = run_plan(alone.grid(), alone.server, alone.document, roster=alone.roster)

    assert take_turn(federation, jobs, link) == 0

    ended = jobs.read(job.id)
    assert (ended.state, ended.step, ended.run_id, ended.error) == (JobState.FINISHED, 3, 1, None)
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.started_at <= ended.ended_at
    assert (jobs.folder(job.id) / "segmentation.json").read_bytes() == expected.to_json()
    assert link.ended == {1: True}


def test_each_reply_stands_in_the_record_before_the_next_one_comes(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    seen: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []

    def look() -> None:
        now = jobs.read(job.id)
        assert now.state is JobState.RUNNING
        assert 0 < (now.seconds_left(datetime.now(UTC)) or 0) <= federation.plan.deadline_seconds
        seen.append((now.step, now.answered, tuple(now.waiting)))

    link.on_reply = look
    take_turn(federation, jobs, link)

    first, second = ((), ("north", "south")), (("north",), ("south",))
    assert seen == [(step, *shown) for step in range(3) for shown in (first, second)]


def test_a_round_without_its_quorum_fails_the_job_with_that_error(
    federation: SmallFederation, jobs: JobStore, link: SmallLink
) -> None:
    job = jobs.submit(shorter(federation), now=NOW).job
    link.online = ()

    take_turn(federation, jobs, link)

    failed = jobs.read(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.exit_code) == ("E601", 6)
    assert failed.waiting == {}
    assert link.ended == {1: False}


def test_the_queue_goes_on_after_a_job_that_failed(
    federation: SmallFederation, jobs: JobStore, link: SmallLink
) -> None:
    bad = jobs.submit(shorter(federation), now=NOW).job
    good = jobs.submit(federation.document, now=datetime.now(UTC)).job

    take_turn(federation, jobs, link)
    take_turn(federation, jobs, link)

    assert jobs.read(bad.id).state is JobState.FAILED
    assert jobs.read(good.id).state is JobState.FINISHED
    assert jobs.next() is None


def test_a_link_that_is_down_is_waited_for_and_costs_no_attempt(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    link.down = 3 * ATTEMPTS_MAX
    for _ in range(link.down):
        assert take_turn(federation, jobs, link) == RETRY_SECONDS
        assert jobs.read(job.id) == job

    take_turn(federation, jobs, link)
    assert jobs.read(job.id).state is JobState.FINISHED


@pytest.mark.parametrize("replies", range(6))
def test_a_run_that_is_lost_after_any_reply_goes_on_in_another_and_nothing_is_charged_twice(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink, replies: int
) -> None:
    link.on_reply = after(replies, raiser(run_lost()))
    while jobs.read(job.id).state in {JobState.QUEUED, JobState.RUNNING}:
        take_turn(federation, jobs, link)

    assert jobs.read(job.id).state is JobState.FINISHED
    assert charges(federation) == [3, 3]
    assert link.stopped == link.started[:-1]


def test_a_job_whose_runs_are_lost_again_and_again_is_given_up(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    link.on_reply = raiser(run_lost())
    for number in range(ATTEMPTS_MAX):
        assert take_turn(federation, jobs, link) == RETRY_SECONDS
        now = jobs.read(job.id)
        assert (now.state, now.attempts, now.waiting, now.until) == (JobState.RUNNING, number + 1, {}, None)

    assert take_turn(federation, jobs, link) == 0

    failed = jobs.read(job.id)
    assert (failed.state, failed.error and failed.error.code) == (JobState.FAILED, "E603")
    assert len(link.started) == ATTEMPTS_MAX


def test_lost_runs_that_each_bring_a_reply_do_not_add_up(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    for _ in range(6):
        link.on_reply = after(1, raiser(run_lost()))
        take_turn(federation, jobs, link)
    link.on_reply = lambda: None
    take_turn(federation, jobs, link)

    assert jobs.read(job.id).state is JobState.FINISHED


def test_a_defect_stops_the_process_but_not_for_ever_on_the_same_job(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    link.on_reply = raiser(ZeroDivisionError())
    for _ in range(ATTEMPTS_MAX):
        with pytest.raises(ZeroDivisionError):
            take_turn(federation, jobs, link)
        assert jobs.read(job.id).state is JobState.RUNNING

    take_turn(federation, jobs, link)
    assert jobs.read(job.id).state is JobState.FAILED


def test_being_told_to_stop_leaves_the_job_running_and_is_no_lost_attempt(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    for _ in range(2 * ATTEMPTS_MAX):
        link.on_reply = raiser(SystemExit(0))
        with pytest.raises(SystemExit):
            take_turn(federation, jobs, link)
        assert jobs.read(job.id).state is JobState.RUNNING
    assert link.ended == {}

    link.on_reply = lambda: None
    take_turn(federation, jobs, link)
    assert jobs.read(job.id).state is JobState.FINISHED
    assert link.stopped == link.started[:-1]


def test_a_running_job_that_is_cancelled_ends_at_the_next_look_and_can_go_on_later(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    link.on_reply = after(3, lambda: (jobs.cancel(job.id, now=NOW), None)[1])

    take_turn(federation, jobs, link)

    assert jobs.read(job.id).state is JobState.CANCELLED
    assert link.ended == {1: False}
    assert take_turn(federation, jobs, link) == IDLE_SECONDS

    jobs.submit(federation.document, now=NOW)
    take_turn(federation, jobs, link)
    assert jobs.read(job.id).state is JobState.FINISHED
    assert charges(federation) == [3, 3]


def test_a_job_is_cancelled_although_the_link_is_down(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    link.on_reply = raiser(run_lost())
    take_turn(federation, jobs, link)
    jobs.cancel(job.id, now=NOW)
    link.down = 1

    take_turn(federation, jobs, link)

    assert jobs.read(job.id).state is JobState.CANCELLED


def test_a_damaged_record_does_not_keep_other_jobs_waiting(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    damaged = jobs.submit(shorter(federation), now=NOW).job
    (jobs.folder(damaged.id) / "job.json").write_text("{", encoding="utf-8")

    take_turn(federation, jobs, link)

    assert jobs.read(job.id).state is JobState.FINISHED
    assert take_turn(federation, jobs, link) == IDLE_SECONDS


def test_a_plan_that_was_exchanged_fails_the_job_before_anyone_is_asked(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    (jobs.folder(job.id) / "plan.toml").write_bytes(shorter(federation))

    take_turn(federation, jobs, link)

    failed = jobs.read(job.id)
    assert (failed.state, failed.error and failed.error.code) == (JobState.FAILED, "E702")
    assert link.started == []


@pytest.mark.processes
def test_the_process_waits_for_its_link_and_stops_at_once_when_told(
    federation: SmallFederation, jobs: JobStore, job: Job, tmp_path: Path
) -> None:
    home = federation.server
    Roster.create(home.roster_file, home.key, rules_of({}, single_operator=True), now=NOW)
    command = [sys.executable, "-m", "fedseg.federation.coordinator", "--home", str(home.path)]
    command += ["--jobs", str(jobs.path), "--socket", str(tmp_path / "nobody.sock")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        waiting = next(line for line in process.stderr if "job.waiting" in line)
        assert jobs.attended()
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - told < 5
    assert "code=E603" in waiting
    assert not jobs.attended()
    assert jobs.read(job.id) == job


@pytest.mark.processes
def test_the_process_refuses_a_home_that_is_none_and_says_why(tmp_path: Path, jobs: JobStore) -> None:
    command = [sys.executable, "-m", "fedseg.federation.coordinator", "--home", str(tmp_path)]
    command += ["--jobs", str(jobs.path), "--socket", str(tmp_path / "nobody.sock")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ)

    assert done.returncode == 2
    assert "coordinator.stopped code=E201" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_record_is_plain_json_at_every_moment(
    federation: SmallFederation, jobs: JobStore, job: Job, link: SmallLink
) -> None:
    states: list[str] = []
    link.on_reply = lambda: states.append(
        json.loads((jobs.folder(job.id) / "job.json").read_text(encoding="utf-8"))["state"]
    )
    take_turn(federation, jobs, link)
    assert set(states) == {"running"}
