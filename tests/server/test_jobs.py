"""Jobs are files: one per plan, changed in one step, by two processes at once and by two users."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomli_w

from fedseg.errors import DeploymentError, PlanError, PlanMismatchError, RoundError, SettingsError, UnreachableError
from fedseg.ledger.keys import SigningKey
from fedseg.plan import parse_plan
from fedseg.server.job import ATTEMPTS_MAX, Job, JobState
from fedseg.server.jobs import JobStore
from fedseg.server.shared_folder import SharedFolder
from tests.small_federation import plan_terms

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
KEYS = [SigningKey.generate().public.to_text() for _ in range(2)]
SERVER_USER = 4711


def document(name: str = "small", **changes: object) -> bytes:
    units = [{"name": unit, "public_key": key} for unit, key in zip(("north", "south"), KEYS, strict=True)]
    return tomli_w.dumps(plan_terms(units, name=name, **changes)).encode()


@pytest.fixture
def jobs(tmp_path: Path) -> JobStore:
    place = tmp_path / "server" / "jobs"
    place.mkdir(parents=True)
    return JobStore.open(place)


def in_state(jobs: JobStore, state: JobState) -> Job:
    """A job in this state."""
    job = jobs.submit(document(), now=NOW).job
    if state is JobState.QUEUED:
        return job
    jobs.change(job.id, lambda job: job.begun(now=NOW))
    if state is JobState.FINISHED:
        return jobs.finish(job.id, b"{}\n", now=NOW)
    return jobs.change(job.id, lambda job: job if state is JobState.RUNNING else job.ended(state, now=NOW))


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_submitted_plan_is_a_queued_job_whose_record_any_tool_can_read(jobs: JobStore) -> None:
    plan = parse_plan(document())

    job, before = jobs.submit(document(), now=NOW)

    assert (job.id, before) == (f"small-{plan.digest[:12]}", None)
    assert (jobs.path / job.id / "plan.toml").read_bytes() == document()
    assert json.loads((jobs.path / job.id / "job.json").read_bytes()) == {
        "id": job.id,
        "plan_sha256": plan.digest,
        "name": "small",
        "state": "queued",
        "submitted_at": "2025-06-01T12:00:00.000000+00:00",
        "started_at": None,
        "ended_at": None,
        "attempts": 0,
        "run_id": None,
        "step": 0,
        "rounds": 3,
        "answered": [],
        "waiting": {},
        "until": None,
        "error": None,
    }
    assert jobs.read(job.id) == job
    assert jobs.plan(job) == plan


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.FINISHED])
def test_submitting_a_plan_twice_changes_nothing_and_says_so(jobs: JobStore, state: JobState) -> None:
    job = in_state(jobs, state)
    before = files(jobs.path)

    again = jobs.submit(document() + b"# the same plan, written differently\n", now=LATER)

    assert (again.job, again.before) == (job, state)
    assert again.outcome == f"{state} already, so nothing has changed"
    assert files(jobs.path) == before


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_plan_that_failed_or_was_cancelled_is_queued_again_behind_the_others(jobs: JobStore, state: JobState) -> None:
    job = in_state(jobs, state)
    other = jobs.submit(document("other"), now=NOW).job

    again = jobs.submit(document(), now=LATER)

    assert (again.outcome, again.job.state) == ("queued again", JobState.QUEUED)
    assert (again.job.started_at, again.job.ended_at, again.job.error, again.job.attempts) == (None, None, None, 0)
    assert [one.id for one in jobs.jobs()] == [other.id, job.id]


def test_a_document_that_is_no_plan_leaves_nothing(jobs: JobStore) -> None:
    with pytest.raises(PlanError):
        jobs.submit(b"k = 3\n", now=NOW)
    assert files(jobs.path) == {}


def test_the_oldest_is_next_but_one_that_was_left_running_comes_first(jobs: JobStore) -> None:
    assert jobs.next() is None
    names = ["zebra", "ant", "bee"]
    ids = [jobs.submit(document(name), now=NOW + timedelta(seconds=n)).job.id for n, name in enumerate(names)]

    assert [job.id for job in jobs.jobs()] == ids
    assert jobs.next() == jobs.read(ids[0])
    running = jobs.change(ids[2], lambda job: job.begun(now=LATER))
    assert jobs.next() == running
    jobs.change(ids[2], lambda job: job.ended(JobState.FAILED, now=LATER))
    jobs.cancel(ids[0], now=LATER)
    assert jobs.next() == jobs.read(ids[1])


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_marked(jobs: JobStore) -> None:
    queued, running = jobs.submit(document(), now=NOW).job, jobs.submit(document("other"), now=NOW).job
    jobs.change(running.id, lambda job: job.begun(now=NOW))

    assert jobs.cancel(queued.id, now=LATER).state is JobState.CANCELLED
    assert not jobs.cancel_wanted(queued.id)
    assert jobs.cancel(running.id, now=LATER).state is JobState.RUNNING
    assert jobs.cancel_wanted(running.id)


def test_a_wish_to_cancel_does_not_outlive_the_run_it_was_meant_for(jobs: JobStore) -> None:
    job = in_state(jobs, JobState.RUNNING)
    jobs.cancel(job.id, now=NOW)

    jobs.change(job.id, lambda job: job.ended(JobState.CANCELLED, now=NOW))
    assert not jobs.cancel_wanted(job.id)

    (jobs.path / job.id / "cancel").touch()  # what a kill between the two writes would leave
    jobs.submit(document(), now=LATER)
    assert not jobs.cancel_wanted(job.id)


@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_has_ended_is_changed_by_nobody(jobs: JobStore, state: JobState) -> None:
    job = in_state(jobs, state)
    before = files(jobs.path)

    jobs.change(job.id, lambda job: job.begun(now=LATER))
    assert jobs.cancel(job.id, now=LATER) == job
    assert files(jobs.path) == before


def test_an_unknown_job_is_answered_with_the_known_ones(jobs: JobStore) -> None:
    job = jobs.submit(document(), now=NOW).job
    for name in ("nothing", "..", f"../jobs/{job.id}", ""):
        with pytest.raises(SettingsError, match=job.id):
            jobs.read(name)


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda record: b"", "the file"),
        (lambda record: record[:-20], "the file"),
        (lambda record: record.replace(b'"queued"', b'"quick"'), "state"),
        (lambda record: record.replace(b'"step": 0', b'"step": "0"'), "step"),
        (lambda record: record.replace(b'"step"', b'"steps"'), "step"),
        (lambda record: record.replace(b'"name": "small"', b'"name": "large"'), "its id"),
        (lambda record: b"\xff" + record, "the file"),
    ],
    ids=["empty", "cut", "state", "type", "key", "id", "binary"],
)
def test_a_damaged_record_is_said_plainly_and_leaves_other_jobs_alone(
    jobs: JobStore, damage: object, where: str
) -> None:
    job, other = jobs.submit(document(), now=NOW).job, jobs.submit(document("other"), now=NOW).job
    record = jobs.path / job.id / "job.json"
    assert callable(damage)
    record.write_bytes(damage(record.read_bytes()))

    with pytest.raises(DeploymentError, match=rf"job {job.id} .* {where}") as raised:
        jobs.read(job.id)
    assert jobs.jobs() == [other]
    assert jobs.next() == other
    assert list(jobs.damaged()) == [job.id]
    assert raised.value.fix == f"fedseg job submit {jobs.path / job.id / 'plan.toml'} --server {jobs.path.parent}"
    assert jobs.submit((jobs.path / job.id / "plan.toml").read_bytes(), now=LATER).outcome == "queued"
    assert jobs.damaged() == {}


def test_a_record_in_another_jobs_directory_is_not_believed(jobs: JobStore) -> None:
    job = jobs.submit(document(), now=NOW).job
    (jobs.path / job.id).rename(jobs.path / "another")
    with pytest.raises(DeploymentError, match="not the name of its directory"):
        jobs.read("another")


@pytest.mark.parametrize("what", ["fifo", "link", "directory"])
def test_a_record_that_is_no_plain_file_is_damaged_and_nobody_waits_for_it(
    jobs: JobStore, tmp_path: Path, what: str
) -> None:
    job = jobs.submit(document(), now=NOW).job
    record = jobs.path / job.id / "job.json"
    elsewhere = tmp_path / "elsewhere"
    record.rename(elsewhere)
    if what == "fifo":
        os.mkfifo(record)
    elif what == "link":
        record.symlink_to(elsewhere)
    else:
        record.mkdir()

    with pytest.raises(DeploymentError, match=f"record of job {job.id}"):
        jobs.read(job.id)
    assert jobs.next() is None


def test_the_plans_of_jobs_that_have_not_ended_are_those_that_can_be_read(jobs: JobStore) -> None:
    queued, broken = jobs.submit(document(), now=NOW).job, jobs.submit(document("broken"), now=NOW).job
    over = jobs.submit(document("over"), now=NOW).job
    jobs.cancel(over.id, now=NOW)
    (jobs.path / broken.id / "plan.toml").write_text("k = ", encoding="utf-8")

    assert jobs.open_plans() == [jobs.plan(queued)]


def test_a_plan_that_was_exchanged_is_not_run(jobs: JobStore) -> None:
    job = jobs.submit(document(), now=NOW).job
    path = jobs.path / job.id / "plan.toml"
    path.write_bytes(document(k=4))
    with pytest.raises(PlanMismatchError):
        jobs.plan(job)
    path.unlink()
    with pytest.raises(DeploymentError, match=r"plan\.toml"):
        jobs.plan(job)


def test_a_new_reply_starts_the_count_of_lost_attempts_again_and_a_repeated_one_does_not(jobs: JobStore) -> None:
    job = Job.of(parse_plan(document()), now=NOW)

    def told(job: Job, step: int, *answered: str) -> Job:
        return job.progressed(step, answered, {"south": "asked 1 s ago"}, seconds_left=7, now=NOW)

    begun = told(job.begun(now=NOW), 0)
    assert begun.attempts == 1
    assert begun.seconds_left(NOW + timedelta(seconds=3)) == 4
    answered = told(begun, 0, "north")
    assert answered.attempts == 0
    assert told(answered.paused(lost=True).begun(now=LATER), 0, "north").attempts == 1
    assert told(answered.paused(lost=True).begun(now=LATER), 1).attempts == 0


def test_after_too_many_lost_attempts_a_job_has_failed_and_stopping_is_none_of_them() -> None:
    job = Job.of(parse_plan(document()), now=NOW)
    for number in range(ATTEMPTS_MAX):
        job = job.begun(now=NOW)
        assert (job.state, job.attempts) == (JobState.RUNNING, number + 1)
        assert job.paused(lost=False).attempts == number
        job = job.paused(lost=True)

    failed = job.begun(now=LATER)

    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert type(failed.error.error()) is UnreachableError


def test_an_error_is_the_same_after_it_was_written_and_read(jobs: JobStore) -> None:
    job = in_state(jobs, JobState.RUNNING)
    error = RoundError("1 of 2 units answered", why="the quorum is 2", fix="submit the plan again")
    jobs.change(job.id, lambda job: job.ended(JobState.FAILED, now=NOW, error=error))

    failure = jobs.read(job.id).error

    assert failure is not None
    read = failure.error()
    assert (type(read), read.what, read.why, read.fix) == (RoundError, error.what, error.why, error.fix)


def test_changes_of_many_at_once_are_all_kept(jobs: JobStore) -> None:
    job = in_state(jobs, JobState.RUNNING)

    def count() -> None:
        for _ in range(20):
            jobs.change(job.id, lambda job: job.in_run((job.run_id or 0) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert jobs.read(job.id).run_id == 80


WRITER = """
import sys
from pathlib import Path
from fedseg.server.jobs import JobStore
jobs = JobStore.open(Path(sys.argv[1]))
print("writing", flush=True)
for number in range(10**6):
    jobs.change(sys.argv[2], lambda job: job.in_run(number))
"""


@pytest.mark.processes
def test_a_writer_that_is_killed_leaves_a_whole_record_and_no_lock(jobs: JobStore) -> None:
    job = in_state(jobs, JobState.RUNNING)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, jobs.path, job.id], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            for _ in range(200):
                jobs.read(job.id)
            writer.kill()
        assert jobs.change(job.id, lambda job: job.in_run(7)).run_id == 7
    left = {path.name for path in (jobs.path / job.id).iterdir()}
    assert left - {".job.json.part"} == {"job.json", "plan.toml"}  # the next write begins by removing that part


def test_one_coordinator_works_on_the_jobs_and_others_can_see_that(
    jobs: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedseg.server.shared_folder.LOCK_SECONDS", 0.05)
    assert not jobs.attended()
    with jobs.attend():
        assert jobs.attended()
        with pytest.raises(DeploymentError, match="another coordinator"), jobs.attend():
            pass
    assert not jobs.attended()


def test_a_folder_that_someone_else_holds_is_not_waited_for_without_end(
    jobs: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedseg.server.shared_folder.LOCK_SECONDS", 0.05)
    with SharedFolder(jobs.path).locked(), pytest.raises(Exception, match="cannot be changed now"):
        jobs.submit(document(), now=NOW)


def test_what_root_writes_belongs_to_the_owner_of_the_jobs(jobs: JobStore) -> None:
    assert os.geteuid() == 0, "this test gives files away, which only root can: run it as root"
    os.chown(jobs.path, SERVER_USER, SERVER_USER)

    job = in_state(jobs, JobState.RUNNING)
    jobs.cancel(job.id, now=NOW)
    jobs.finish(job.id, b"{}\n", now=NOW)

    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in jobs.path.rglob("*")}
    assert set(owners) == {job.id, "plan.toml", "job.json", "segmentation.json"}
    assert set(owners.values()) == {(SERVER_USER, SERVER_USER)}


def test_root_writes_through_no_link_of_the_owners(jobs: JobStore, tmp_path: Path) -> None:
    job = jobs.submit(document(), now=NOW).job
    elsewhere = tmp_path / "elsewhere"
    (jobs.path / job.id).rename(elsewhere)
    (jobs.path / job.id).symlink_to(elsewhere)
    before = files(elsewhere)

    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        jobs.cancel(job.id, now=NOW)
    assert files(elsewhere) == before


def test_a_link_in_place_of_a_new_directory_is_neither_followed_nor_given_away(jobs: JobStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = elsewhere.stat()
    (jobs.path / "next").symlink_to(elsewhere)
    SharedFolder(jobs.path).make("next")
    after = elsewhere.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_lock_file_that_is_no_plain_file_keeps_nobody_waiting(jobs: JobStore) -> None:
    os.mkfifo(jobs.path / "coordinator.lock")
    began = time.monotonic()
    jobs.attended()
    assert time.monotonic() - began < 5


def test_a_directory_without_jobs_is_not_a_servers(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="holds no jobs"):
        JobStore.open(tmp_path / "jobs")
