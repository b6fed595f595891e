"""A unit's data process: the pinned runner. It takes messages from the node's socket and runs the installed app alone.

`python -m fedseg.federation.runner --home HOME --socket FILE`. It needs no network at all. A run whose bundle is not on
the allow-list is answered with the one word for no; the bundle is hashed, and neither written nor unpacked.
"""

import argparse
import logging
import sys
import threading
import time
import types
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.clientapp import ClientApp

from fedseg.errors import BundleError, FedsegError, RequestError, RunLostError, UnreachableError
from fedseg.federation import wire
from fedseg.federation.client_app import make_client_app, wait_for_slot
from fedseg.federation.flower.bundle import stub_sha256
from fedseg.federation.flower.sockets import TASK_POLL_SECONDS, start_log
from fedseg.federation.flower.tasks import NodeTask, NodeTasks
from fedseg.federation.stopping import Stopping
from fedseg.federation.witness_wire import WITNESS_TYPE
from fedseg.node.home import NodeHome
from fedseg.node.integrity import require_integrity
from fedseg.node.rights.batch import log_days
from fedseg.privacy.account import day_of
from fedseg.privacy.noise import SimulatedNoise

log = logging.getLogger(__name__)

LEAST_SLOT_SECONDS = 1
"""Shortest reply slot here, also for plans without slots: across a network somebody can watch the clock."""
DAY_PATIENCE_SECONDS = 60.0
"""How long to wait before a daily entry that could not be written is tried again."""
PATIENCE_SECONDS = 2.0
"""How long to wait before trying a SuperNode again that does not answer."""


def run(
    app: ClientApp, home: Path, socket: Path, allowed: frozenset[str], look: Callable[[], None] = lambda: None
) -> None:
    """Answer the unit's messages until `look` says to stop, and log what is due once a day."""
    days = _Days(home)
    with NodeTasks(socket) as tasks:
        while True:
            look()
            days.turn()
            try:
                task = tasks.acquire()
            except (UnreachableError, RunLostError) as error:
                log.warning("runner.waiting code=%s for=the network process", error.code)
                time.sleep(PATIENCE_SECONDS)
                continue
            except BundleError as error:
                log.error("runner.refused code=%s why=%s", error.code, error.why)  # noqa: TRY400 (no text of others)
                continue
            if task is None:
                time.sleep(TASK_POLL_SECONDS)
                continue
            try:
                task.reply(answer(app, home, task, allowed))
                log.info("runner.replied run=%d", task.run_id)
            except (UnreachableError, RunLostError) as error:
                log.warning("runner.undelivered run=%d code=%s", task.run_id, error.code)
            finally:
                task.close()


class _Days:
    """Logs the daily entry about rights requests, on the first look at each new day."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._done = ""
        self._again_at = 0.0

    def turn(self) -> None:
        """Log what is due; what cannot be written now is tried again."""
        now = datetime.now(UTC)
        if day_of(now) == self._done or time.monotonic() < self._again_at:
            return
        try:
            logged = log_days(NodeHome.open(self._home), now)
        except FedsegError as error:
            log.warning("runner.day_not_logged code=%s why=%s", error.code, error.why)
            self._again_at = time.monotonic() + DAY_PATIENCE_SECONDS
            return
        self._done = day_of(now)
        log.info("runner.days_logged days=%d", len(logged))


def answer(app: ClientApp, home: Path, task: NodeTask, allowed: frozenset[str]) -> Message:
    """The app's reply, or the one word for no if the run's bundle is not allowed or the message is none of ours."""
    received = time.monotonic()
    refusal: type[FedsegError] | None = None
    if task.message.metadata.message_type not in {wire.MESSAGE_TYPE, WITNESS_TYPE} or not task.message.has_content():
        refusal = RequestError
    elif task.bundle_sha256 not in allowed:
        refusal = BundleError
    if refusal is not None:
        log.error(
            "runner.refused code=%s run=%d bundle=%s why=%s",
            refusal.code,
            task.run_id,
            task.bundle_sha256,
            refusal.summary,
        )
        wait_for_slot(received, LEAST_SLOT_SECONDS)
        return Message(wire.pack(wire.encode_unavailable()), reply_to=task.message)
    # Where the customers are is this process's to know: neither server nor network process can say otherwise.
    task.context.node_config = {"home": str(home)}
    task.context.run_config = {}
    return app(task.message, task.context)


def withhold_exception_texts() -> None:
    """Let no exception that ends a thread or process print its text or values, which may be a customer's."""

    def withheld(kind: type[BaseException], trace: types.TracebackType | None) -> None:
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = "-" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        print(f"stopped by {kind.__name__} at {place}; its text is withheld", file=sys.stderr, flush=True)  # noqa: T201

    def from_thread(raised: threading.ExceptHookArgs) -> None:
        withheld(raised.exc_type, raised.exc_traceback)

    def unraisable(raised: Any) -> None:
        withheld(raised.exc_type, raised.exc_traceback)

    sys.excepthook = lambda kind, _error, trace: withheld(kind, trace)
    threading.excepthook = from_thread
    sys.unraisablehook = unraisable


def main() -> int:
    """Serve until told to stop; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="The unit's home: the directory with node.toml.")
    parser.add_argument("--socket", type=Path, required=True, help="Where the network process hands out tasks.")
    parser.add_argument(
        "--allow", action="append", metavar="SHA256", help="Hash of an allowed bundle; repeat for more."
    )
    parser.add_argument(
        "--simulated-noise-seed", type=int, help="For rehearsals: NOT PRIVATE, and every entry says so."
    )
    options = parser.parse_args()
    withhold_exception_texts()
    start_log()
    stopping = Stopping()
    try:
        require_integrity(NodeHome.open(options.home))
    except FedsegError as error:
        log.error("runner.not_started code=%s what=%s why=%s fix=%s", error.code, error.what, error.why, error.fix)  # noqa: TRY400
        return error.exit_code
    seed: int | None = options.simulated_noise_seed
    log.info("runner.starting noise=%s", "system" if seed is None else "SIMULATED")
    app = make_client_app(None if seed is None else SimulatedNoise(seed), least_slot_seconds=LEAST_SLOT_SECONDS)
    run(app, options.home, options.socket, frozenset(options.allow or [stub_sha256()]), stopping.look)
    return 0


if __name__ == "__main__":
    sys.exit(main())
