"""The jobs of a server: which plans are to run, and how far each one is. Plain files; no Flower, no network.

    JOBS/ID/plan.toml          as submitted
            job.json           a `Job`, readable by any tool
            cancel             there if someone wants it to stop
            segmentation.json  there once it is finished

The command line and the coordinator change them at the same time, each change in one step under a lock. Replies and
charges stand in ledgers: a job is a note of what is to be done, and losing one loses nothing else.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

from fedseg.errors import (
    DeploymentError,
    JobUnfinishedError,
    PlanError,
    PlanMismatchError,
    SettingsError,
    UnreachableError,
)
from fedseg.plan import Plan, parse_plan
from fedseg.server.job import Job, JobState
from fedseg.server.shared_folder import SharedFolder

PLAN_FILE = "plan.toml"
RECORD_FILE = "job.json"
CANCEL_FILE = "cancel"
SEGMENTATION_FILE = "segmentation.json"
COORDINATOR_FILE = "coordinator.lock"
"""Held by the one coordinator of the directory."""

LOOK_SECONDS = 0.5
"""Between two looks of someone who waits for a job."""
ABSENCE_SECONDS = 30.0
"""How long a coordinator may be absent, as while it is restarted, before waiting for its job is given up."""


class Submission(NamedTuple):
    """What submitting a plan led to."""

    job: Job
    before: JobState | None
    """What the plan's job was; None if there was none that could be read."""

    @property
    def outcome(self) -> str:
        """It in words."""
        if self.before is None:
            return "queued"
        again = self.before.can_be_queued_again
        return "queued again" if again else f"{self.before} already, so nothing has changed"


@dataclass(frozen=True, slots=True)
class JobStore:
    """The jobs in one directory."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store in an existing directory.

        Raises:
            DeploymentError: If there is none, or this user may not use it.
        """
        if not path.is_dir():
            raise DeploymentError(
                f"{path.parent} is not the directory of a server",
                why=f"it holds no {path.name}/",
                fix=f"fedseg server init {path.parent} --host NAME",
            )
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise DeploymentError(
                f"{path} may not be used by this user",
                why=f"it belongs to user {path.stat().st_uid}, and this is user {os.geteuid()}",
                fix="run the same command as root, or as that user",
            )
        return cls(path)

    def ids(self) -> list[str]:
        """The ids of all jobs, readable or not."""
        return sorted(path.parent.name for path in self.path.glob(f"*/{RECORD_FILE}"))

    def jobs(self) -> list[Job]:
        """All jobs that can be read, in the order they were submitted in."""
        found = [job for job in map(self._find, self.ids()) if job is not None]
        return sorted(found, key=lambda job: (job.submitted_at, job.id))

    def damaged(self) -> dict[str, DeploymentError]:
        """What is wrong with the jobs that cannot be read, by id."""
        found: dict[str, DeploymentError] = {}
        for name in self.ids():
            try:
                self.read(name)
            except DeploymentError as error:
                found[name] = error
        return found

    def read(self, name: str) -> Job:
        """One job.

        Raises:
            SettingsError: If there is no job of this id.
            DeploymentError: If its record cannot be read.
        """
        known = self.ids()
        if name not in known:
            raise SettingsError(
                f"there is no job {name}",
                why=f"known jobs: {', '.join(known) or 'none'}",
                fix=f"fedseg job list --server {self.path.parent}",
            )
        try:
            job = Job.from_json(self._shared.read(f"{name}/{RECORD_FILE}"))
        except (ValueError, OSError) as error:
            raise self._unreadable(name, str(error)) from error
        if job.id != name:
            raise self._unreadable(name, "its id is not the name of its directory")
        return job

    def folder(self, name: str) -> Path:
        """Where a job's files are."""
        return self.path / name

    def plan(self, job: Job) -> Plan:
        """A job's plan.

        Raises:
            DeploymentError: If its file cannot be read.
            PlanError: If the file is no plan any more.
            PlanMismatchError: If it is another plan than was submitted.
        """
        try:
            plan = parse_plan(self._shared.read(f"{job.id}/{PLAN_FILE}"))
        except OSError as error:
            raise DeploymentError(
                f"the plan of job {job.id} cannot be read",
                why=str(error),
                fix=f"fedseg job submit PLAN.toml --server {self.path.parent}",
            ) from error
        if plan.digest != job.plan_sha256:
            raise self._other_plan(job, plan)
        return plan

    def open_plans(self) -> list[Plan]:
        """The plans of all jobs that have not ended; those that cannot be read will fail by themselves."""
        plans: list[Plan] = []
        for job in self.jobs():
            if not job.state.is_end:
                with contextlib.suppress(DeploymentError, PlanError, PlanMismatchError):
                    plans.append(self.plan(job))
        return plans

    def next(self) -> Job | None:
        """What to work on now: what a killed coordinator has left running, or else the oldest in the queue."""
        jobs = self.jobs()
        for state in (JobState.RUNNING, JobState.QUEUED):
            for job in jobs:
                if job.state is state:
                    return job
        return None

    def submit(self, document: bytes, *, now: datetime) -> Submission:
        """Queue a plan. One that is queued, running or finished already stays as it is.

        Raises:
            PlanError: If the document is no plan.
            PlanMismatchError: If another plan has the same id.
        """
        plan = parse_plan(document)
        job = Job.of(plan, now=now)
        with self._shared.locked():
            before = self._find(job.id)
            if before is not None:
                if before.plan_sha256 != plan.digest:
                    raise self._other_plan(before, plan)
                if not before.state.can_be_queued_again:
                    return Submission(before, before.state)
                job = before.queued_again(now=now)
            self._shared.make(job.id)
            self._shared.write(f"{job.id}/{PLAN_FILE}", document)
            self._write(job)
        return Submission(job, None if before is None else before.state)

    def cancel(self, name: str, *, now: datetime) -> Job:
        """Cancel a queued job at once; mark a running one, which its coordinator ends at its next look.

        Raises:
            SettingsError: If there is no job of this id.
            DeploymentError: If its record cannot be read.
        """
        with self._shared.locked():
            job = self.read(name)
            if job.state is JobState.QUEUED:
                job = job.ended(JobState.CANCELLED, now=now)
                self._write(job)
            elif job.state is JobState.RUNNING:
                self._shared.write(f"{name}/{CANCEL_FILE}", b"")
        return job

    def cancel_wanted(self, name: str) -> bool:
        """Whether someone wants this running job to stop."""
        return (self.folder(name) / CANCEL_FILE).exists()

    def change(self, name: str, change: Callable[[Job], Job]) -> Job:
        """Replace a job's record by what `change` makes of it; a job that has ended stays as it is.

        Raises:
            SettingsError: If there is no job of this id.
            DeploymentError: If its record cannot be read.
        """
        with self._shared.locked():
            before = self.read(name)
            after = before if before.state.is_end else change(before)
            if after != before:
                self._write(after)
        return after

    def finish(self, name: str, segmentation: bytes, *, now: datetime) -> Job:
        """Leave the signed segments beside the plan, and then note that the job is finished."""
        with self._shared.locked():
            self._shared.write(f"{name}/{SEGMENTATION_FILE}", segmentation)
        return self.change(name, lambda job: job.finished(now=now))

    def wait(self, name: str, *, timeout: float | None, see: Callable[[Job, bool], None]) -> Job:
        """The job once it has ended.

        Args:
            name: Its id.
            timeout: Most seconds to wait; None waits as long as a coordinator works on the jobs.
            see: Called at each look with the job, and with whether there is a coordinator.

        Raises:
            JobUnfinishedError: If it has not ended by then; it goes on.
            UnreachableError: If there has been no coordinator for `ABSENCE_SECONDS`.
            SettingsError: If there is no job of this id.
            DeploymentError: If its record cannot be read.
        """
        begun = attended_at = time.monotonic()
        while not (job := self.read(name)).state.is_end:
            attended, now = self.attended(), time.monotonic()
            attended_at = now if attended else attended_at
            see(job, attended)
            if timeout is not None and now - begun >= timeout:
                raise JobUnfinishedError(
                    f"job {name} has not ended within {timeout:g} s",
                    why=job.in_words(),
                    fix=f"fedseg job wait {name} --server {self.path.parent}",
                )
            if now - attended_at >= ABSENCE_SECONDS:
                raise UnreachableError(
                    f"nobody works on job {name}",
                    why=f"no coordinator has been there for {ABSENCE_SECONDS:g} s; the job is {job.state}",
                    fix=f"fedseg server start {self.path.parent}",
                )
            time.sleep(LOOK_SECONDS if timeout is None else min(LOOK_SECONDS, max(0.0, begun + timeout - now)))
        return job

    @contextlib.contextmanager
    def attend(self) -> Generator[None]:
        """Be the only coordinator of these jobs for the length of the block.

        Raises:
            DeploymentError: If there is another one.
        """
        with self._shared.occupied(COORDINATOR_FILE) as ours:
            if not ours:
                raise DeploymentError(
                    f"another coordinator works in {self.path}",
                    why="two of them would ask every unit twice",
                    fix=f"fedseg server stop {self.path.parent}",
                )
            yield

    def attended(self) -> bool:
        """Whether a coordinator works on these jobs now."""
        return self._shared.is_occupied(COORDINATOR_FILE)

    def _find(self, name: str) -> Job | None:
        try:
            return self.read(name)
        except (SettingsError, DeploymentError):
            return None

    def _write(self, job: Job) -> None:
        """Write a record; a wish to cancel lives no longer than the run it was meant for."""
        self._shared.write(f"{job.id}/{RECORD_FILE}", job.to_json())
        if job.state is not JobState.RUNNING:
            (self.folder(job.id) / CANCEL_FILE).unlink(missing_ok=True)

    @property
    def _shared(self) -> SharedFolder:
        return SharedFolder(self.path)

    def _unreadable(self, name: str, why: str) -> DeploymentError:
        return DeploymentError(
            f"the record of job {name} cannot be read",
            why=f"{self.folder(name) / RECORD_FILE}: {why}",
            fix=f"fedseg job submit {self.folder(name) / PLAN_FILE} --server {self.path.parent}",
        )

    def _other_plan(self, job: Job, plan: Plan) -> PlanMismatchError:
        return PlanMismatchError(
            f"the plan at hand is not the plan of job {job.id}",
            why=f"its hash begins {plan.digest[:24]}, the job's {job.plan_sha256[:24]}",
            fix=f"fedseg job submit PLAN.toml --server {self.path.parent}",
        )
