"""`Job`: a plan that was submitted, how far it is, and how that changes. Pure; `jobs.py` keeps it in files."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedseg.errors import FedsegError, JobCancelledError, UnreachableError, error_class
from fedseg.plan import Plan

ATTEMPTS_MAX = 5
"""Attempts in a row that may be lost without a single new reply before a job is given up."""


class JobState(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in {JobState.FINISHED, JobState.FAILED, JobState.CANCELLED}

    @property
    def can_be_queued_again(self) -> bool:
        """Whether submitting the plan once more queues it once more."""
        return self in {JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class JobFailure:
    """The error that a job ended with, as it stands in job.json."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    code: str
    what: str
    why: str
    fix: str
    exit_code: int

    @classmethod
    def of(cls, error: FedsegError) -> Self:
        """What people need of an error."""
        return cls(error.code, error.what, error.why, error.fix, error.exit_code)

    def error(self) -> FedsegError:
        """The error once more, for the command that tells of it."""
        return (error_class(self.code) or FedsegError)(self.what, why=self.why, fix=self.fix)


@dataclass(frozen=True, slots=True)
class Job:
    """A plan that was submitted, and how far it is. Times are ISO 8601 in UTC."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    """The plan's name and the first 12 hex digits of its hash."""
    plan_sha256: str
    name: str
    """The plan's."""
    state: JobState
    submitted_at: str
    started_at: str | None
    ended_at: str | None
    attempts: int
    """Attempts begun since the last new reply."""
    run_id: int | None
    """Flower's name of the latest attempt."""
    step: int
    """The open round, counted from 0; the number of rounds once all are closed."""
    rounds: int
    """How many rounds the plan has."""
    answered: tuple[str, ...]
    """Units whose reply to the open round is there."""
    waiting: Mapping[str, str] = field(default_factory=dict)
    """What is waited for, in words, by unit."""
    until: str | None = None
    """The end of the open round; None while no round is open."""
    error: JobFailure | None = None
    """What a failed job ended with."""

    @classmethod
    def of(cls, plan: Plan, *, now: datetime) -> Self:
        """A plan's job when it is submitted first."""
        return cls(
            id=f"{plan.name}-{plan.digest[:12]}",
            plan_sha256=plan.digest,
            name=plan.name,
            state=JobState.QUEUED,
            submitted_at=_iso(now),
            started_at=None,
            ended_at=None,
            attempts=0,
            run_id=None,
            step=0,
            rounds=plan.rounds,
            answered=(),
        )

    @classmethod
    def from_json(cls, record: bytes) -> "Job":
        """Read job.json.

        Raises:
            ValueError: If it is no job's record; says where.
        """
        try:
            job = _JOB.validate_json(record)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from error
        if job.id != f"{job.name}-{job.plan_sha256[:12]}":
            raise ValueError("its id is not that of its plan")
        return job

    @property
    def round(self) -> int:
        """The open round, counted from 1; the last one if all are closed."""
        return min(self.step + 1, self.rounds)

    def to_json(self) -> bytes:
        """The content of job.json."""
        return _JOB.dump_json(self, indent=2) + b"\n"

    def facts(self) -> dict[str, Any]:
        """The same as a dictionary."""
        facts: dict[str, Any] = _JOB.dump_python(self, mode="json")
        return facts

    def seconds_left(self, now: datetime) -> float | None:
        """Seconds until the open round ends; None while no round is open."""
        return None if self.until is None else max(0.0, (datetime.fromisoformat(self.until) - now).total_seconds())

    def in_words(self) -> str:
        """Where it stands."""
        if self.state is not JobState.RUNNING:
            return f"it is {self.state}"
        place = f"round {self.round} of {self.rounds}"
        if not self.waiting:
            return f"{place} is about to be {'opened' if self.until is None else 'closed'}"
        return f"{place} waits for " + ", ".join(f"{unit} ({words})" for unit, words in self.waiting.items())

    def failure(self) -> FedsegError | None:
        """The error of a job that has ended otherwise than finished."""
        if self.state is JobState.CANCELLED:
            return JobCancelledError(
                f"job {self.id} was cancelled",
                why="someone asked for it with `fedseg job cancel`",
                fix="submit the plan again to go on: answered steps are not charged twice",
            )
        return None if self.error is None else self.error.error()

    def queued_again(self, *, now: datetime) -> "Job":
        """After it has failed or was cancelled. What was answered stays so, and its last run can still be stopped."""
        return replace(
            self,
            state=JobState.QUEUED,
            submitted_at=_iso(now),
            started_at=None,
            ended_at=None,
            attempts=0,
            error=None,
        )

    def begun(self, *, now: datetime) -> "Job":
        """With an attempt counted that is about to be made; after `ATTEMPTS_MAX` lost ones, failed instead."""
        if self.attempts >= ATTEMPTS_MAX:
            return self.ended(JobState.FAILED, now=now, error=self._given_up())
        return replace(
            self, state=JobState.RUNNING, started_at=self.started_at or _iso(now), attempts=self.attempts + 1
        )

    def in_run(self, run_id: int) -> "Job":
        """With the attempt's run, so that it can be stopped when this attempt is lost."""
        return replace(self, run_id=run_id)

    def progressed(
        self, step: int, answered: tuple[str, ...], waiting: Mapping[str, str], *, seconds_left: float, now: datetime
    ) -> "Job":
        """As far as this; a new reply proves that attempts get somewhere, so the count starts again."""
        further = (step, len(answered)) > (self.step, len(self.answered))
        return replace(
            self,
            step=step,
            answered=answered,
            waiting=dict(waiting),
            until=_iso(now + timedelta(seconds=seconds_left)),
            attempts=0 if further else self.attempts,
        )

    def paused(self, *, lost: bool) -> "Job":
        """Between two attempts. One that was not `lost`, but ended on purpose, does not count."""
        return replace(self, waiting={}, until=None, attempts=self.attempts if lost else max(0, self.attempts - 1))

    def finished(self, *, now: datetime) -> "Job":
        """With all rounds closed."""
        return replace(self.ended(JobState.FINISHED, now=now), step=self.rounds, answered=())

    def ended(self, state: JobState, *, now: datetime, error: FedsegError | None = None) -> "Job":
        """Over, and failed with `error` if there is one."""
        failure = None if error is None else JobFailure.of(error)
        return replace(self, state=state, ended_at=_iso(now), waiting={}, until=None, error=failure)

    def _given_up(self) -> UnreachableError:
        return UnreachableError(
            f"job {self.id} was given up",
            why=f"{self.attempts} attempts in a row were lost without a new reply; coordinator.log says how",
            fix="see `fedseg server status DIR`, then submit the plan again: answered steps are not charged twice",
        )


_JOB = TypeAdapter(Job)


def _iso(moment: datetime) -> str:
    """With microseconds always, so that times in order are texts in order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
