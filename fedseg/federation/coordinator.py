"""The coordinator process: runs one job after another, each as Flower's `ServerApp` on the link's transport.

`python -m fedseg.federation.coordinator --home HOME --jobs DIR --socket FILE`. It keeps nothing in memory that it needs
later: killed at any moment, the next one goes on from the jobs' records and the server's ledger.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp

from fedseg.errors import FedsegError, JobCancelledError, LedgerUnreadableError, RunLostError, UnreachableError
from fedseg.federation.flower.link import Link, NodeInfo
from fedseg.federation.flower.sockets import start_log
from fedseg.federation.server_app import RoundProgress, make_server_app
from fedseg.federation.stopping import Stopping
from fedseg.federation.witness_post import posts
from fedseg.federation.witnessing import Post
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.server.home import ServerHome
from fedseg.server.job import Job, JobState
from fedseg.server.jobs import CANCEL_FILE, PLAN_FILE, JobStore

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""Between two looks at an empty queue."""
RETRY_SECONDS = 2.0
"""Before a link that does not answer is tried again."""
ACQUIRE_SECONDS = 30.0
"""Longest wait for the link to hand out the run that it was asked to start."""
WRITE_SECONDS = 1.0
"""How often a job's record follows the clock alone; a change in what is waited for is written at once."""


def turn(
    home: ServerHome,
    jobs: JobStore,
    connect: Callable[[], Link],
    belongs: Callable[[NodeInfo], bool],
    look: Callable[[], None] = lambda: None,
    *,
    addressed: Mapping[str, Post] | None = None,
) -> float:
    """Work on the job whose turn it is, if there is one; returns the seconds to wait before the next turn.

    A registered node that does not belong to the roster is asked nothing. `look` is called between two looks at what
    is waited for; an exit that it raises ends the attempt. `addressed` are witnesses with an address, by name.

    A job whose link goes away stays running and is tried again, as often as `Job.begun` allows.
    """
    job = jobs.next()
    if job is None:
        return IDLE_SECONDS
    try:
        with connect() as link:
            roster = {node.unit: node.node_id for node in link.nodes() if belongs(node)}
            app = make_server_app(roster=roster, watch=(watch := _Watch(jobs, job.id, look)), posts=addressed)
            _attempt(link, home, job, watch, app)
    except (UnreachableError, RunLostError) as error:
        log.warning("job.waiting id=%s code=%s what=%s why=%s", job.id, error.code, error.what, error.why)
        _between_attempts(jobs, job.id, lost=True)
        return RETRY_SECONDS
    return 0.0


def _attempt(link: Link, home: ServerHome, job: Job, watch: "_Watch", app: ServerApp) -> None:
    """Run a job in one run of Flower's, and write down how it ended.

    Raises:
        UnreachableError: If the link is down in the middle of it.
        RunLostError: If the link has forgotten the run.
    """
    jobs = watch.jobs
    job = jobs.change(job.id, lambda job: job.begun(now=_now()))
    if job.state is not JobState.RUNNING:
        log.info("job.not_begun id=%s state=%s", job.id, job.state)
        return
    log.info("job.begun id=%s attempt=%d", job.id, job.attempts)
    try:
        _run(link, home, job, watch, app)
        jobs.finish(job.id, _published(home, job), now=_now())
        log.info("job.ended id=%s state=%s", job.id, JobState.FINISHED)
    except (UnreachableError, RunLostError):
        raise
    except JobCancelledError:
        _end(jobs, job.id, JobState.CANCELLED)
    except FedsegError as error:
        log.warning("job.failing id=%s code=%s what=%s why=%s", job.id, error.code, error.what, error.why)
        _end(jobs, job.id, JobState.FAILED, error)
    except SystemExit:
        _between_attempts(jobs, job.id, lost=False)
        raise


def _run(link: Link, home: ServerHome, job: Job, watch: "_Watch", app: ServerApp) -> None:
    """Stop what an earlier attempt has left, and run the server's app to its end."""
    jobs = watch.jobs
    watch.require_wanted()
    jobs.plan(job)
    if job.run_id is not None:
        link.stop_run(job.run_id)
    run_id = link.start_run()
    jobs.change(job.id, lambda job: job.in_run(run_id))
    config = {"home": str(home.path), "plan": str(jobs.folder(job.id) / PLAN_FILE)}
    with link.acquire(run_id, timeout=ACQUIRE_SECONDS) as task:
        try:
            app(task.grid, Context(run_id, 0, {}, RecordDict(), {**config}))
        except FedsegError:
            task.finish(completed=False)
            raise
        task.finish(completed=True)


class _Watch:
    """Writes a run's progress into its job, and ends the run when someone has cancelled it."""

    def __init__(self, jobs: JobStore, name: str, look: Callable[[], None]) -> None:
        self.jobs, self._name, self._look = jobs, name, look
        self._written: tuple[object, ...] = ()
        self._write_again_at = 0.0

    def __call__(self, progress: RoundProgress) -> None:
        self._look()
        self.require_wanted()
        shown = (progress.step, progress.answered, tuple(progress.waiting))
        if shown == self._written and time.monotonic() < self._write_again_at:
            return
        self.jobs.change(
            self._name,
            lambda job: job.progressed(
                progress.step, progress.answered, progress.waiting, seconds_left=progress.seconds_left, now=_now()
            ),
        )
        self._written, self._write_again_at = shown, time.monotonic() + WRITE_SECONDS

    def require_wanted(self) -> None:
        """Raises JobCancelledError if someone wants the job to stop."""
        if self.jobs.cancel_wanted(self._name):
            raise JobCancelledError(
                f"job {self._name} was cancelled",
                why=f"there is a file {CANCEL_FILE} beside its plan",
                fix="submit the plan again to go on: answered steps are not charged twice",
            )


def _between_attempts(jobs: JobStore, name: str, *, lost: bool) -> None:
    """Note that the job waits for another attempt, unless someone has cancelled it."""
    if jobs.cancel_wanted(name):
        _end(jobs, name, JobState.CANCELLED)
    else:
        jobs.change(name, lambda job: job.paused(lost=lost))


def _end(jobs: JobStore, name: str, state: JobState, error: FedsegError | None = None) -> None:
    jobs.change(name, lambda job: job.ended(state, now=_now(), error=error))
    log.info("job.ended id=%s state=%s", name, state)


def on_the_roster(home: ServerHome) -> Callable[[NodeInfo], bool]:
    """Says of a registered node whether the roster has let it in, with this key; looked up anew each time."""

    def belongs(node: NodeInfo) -> bool:
        member = home.roster().state().members.get(node.unit)
        if member is not None and node.has_key(member.node_key.encode("ascii")):
            return True
        log.warning("node.ignored unit=%s node=%d why=the roster has not let it in", node.unit, node.node_id)
        return False

    return belongs


def _published(home: ServerHome, job: Job) -> bytes:
    """The signed segments of a plan that has been run, as the server's ledger holds them."""
    with home.ledger() as ledger:
        signed = ledger.payload(f"segmentation:{job.plan_sha256}")
    if signed is None:
        raise LedgerUnreadableError(
            f"the server's ledger holds no segments of job {job.id}",
            why="it was replaced while the job ran",
            fix=f"fedseg ledger verify {home.path / 'ledger.db'}",
        )
    return signed


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> int:
    """Work until told to stop; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="The server's home: ledger.db and keys/.")
    parser.add_argument("--jobs", type=Path, required=True, help="Where the jobs are.")
    parser.add_argument("--socket", type=Path, required=True, help="Where the link listens.")
    parser.add_argument("--witnesses", type=Path, help="Where the proxy listens for requests to witnesses.")
    parser.add_argument("--witness", action="append", default=[], metavar="NAME", help="One of them; repeat for more.")
    options = parser.parse_args()
    start_log()
    stopping = Stopping()
    try:
        home, jobs = ServerHome.open(options.home), JobStore.open(options.jobs)
        addressed = None if options.witnesses is None else posts(options.witnesses, options.witness)
        # What was changed, or a bad key, is said now, and not when the segments are to be signed.
        check_log(read_ledger(home.path / "ledger.db"), home.key.public)
        home.roster()
        with jobs.attend():
            for name, error in jobs.damaged().items():
                log.error("job.unreadable id=%s why=%s fix=%s", name, error.why, error.fix)
            log.info("coordinator.started jobs=%d", len(jobs.ids()))
            while True:
                stopping.look()
                belongs = on_the_roster(home)
                time.sleep(turn(home, jobs, lambda: Link(options.socket), belongs, stopping.look, addressed=addressed))
    except FedsegError as error:
        log.error("coordinator.stopped code=%s what=%s why=%s fix=%s", error.code, error.what, error.why, error.fix)  # noqa: TRY400
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
