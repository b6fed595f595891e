"""Seeded trouble for a federation that runs: in every round something is killed, paused, lost or said twice.

What is done is drawn from a seed and printed as it is done; when it happens within a round is up to the machine.
"""

import contextlib
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedseg.audit.verify import check_against_units, recompute_segmentation
from fedseg.plan import parse_plan
from tests.system.deployment import UNITS, Federation, Job, Node, say
from tests.system.processes import PATIENCE_SECONDS, Process, wait_for

DEADLINE_SECONDS: Final = 15
TERMS: Final = {
    "algorithm": {"name": "cells", "seed": 7, "expected_customers": 100, "profile": "short"},
    "budget": {"epsilon": "1/1", "delta": "1/1000000"},
    "quorum": 2,
    "deadline_seconds": DEADLINE_SECONDS,
    "reply_slot_seconds": 5,
}
"""Three rounds for which two of the three units are enough, at a small price: many plans fit below a policy's cap."""
OF_UNIT: Final = ("network", "data")
OF_SERVER: Final = ("link", "coordinator", "proxy")
REFUSAL: Final = "E601"
"""How a plan ends whose round fell below its quorum."""


NO_ROUND = "did not take place"


@dataclass(frozen=True, slots=True)
class Ended:
    """A plan that was run in unrest."""

    job: Job
    outcome: str
    """`published`, or the code of a refusal."""
    done: tuple[str, ...]
    """What was done to it, in words, a round each."""


# ------------------------------------------------------------------------------------------------- what may happen


def killed(*processes: Process) -> str:
    """Killed without a warning, all at once."""
    for one in processes:
        one.kill()
    return f"killed {len(processes)}"


@contextlib.contextmanager
def paused(process: Process, seconds: float) -> Generator[None]:
    """It stands still for a while, and its work waits."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)


class _Way(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the link, but loses or repeats those that bring a reply."""

    protocol_version = "HTTP/1.1"
    server: "_Between"

    def do_GET(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def log_message(self, *_: Any) -> None:  # signature of the standard library
        """Nothing."""

    def address_string(self) -> str:
        return "unix"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        how = self.server.next_way() if self.path in {"/v1/fleet/push-messages", "/v1/fleet/push-object"} else "once"
        if how == "lost":
            self.close_connection = True
            return
        status, headers, answer = self._ask(body)
        if how == "twice":
            self._ask(body)
        if how == "unanswered":
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        link = http.client.HTTPConnection("localhost", timeout=30)
        link.sock = socket.socket(socket.AF_UNIX)
        try:
            link.sock.connect(str(self.server.real))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            link.request(self.command, self.path, body or None, headers)
            answer = link.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            link.close()


class _Between(socketserver.ThreadingUnixStreamServer):
    """Stands where the link's socket was."""

    daemon_threads = True

    def __init__(self, place: Path, real: Path, ways: Sequence[str]) -> None:
        super().__init__(str(place), _Way)
        self.real, self._ways, self._lock = real, list(ways), threading.Lock()
        self.met: list[str] = []

    def next_way(self) -> str:
        """What happens to the next part of a reply."""
        with self._lock:
            how = self._ways.pop(0) if self._ways else "once"
            self.met.append(how)
            return how

    def handle_error(self, *_: Any) -> None:
        """A connection that breaks off is what this is for."""


@contextlib.contextmanager
def mangled(federation: Federation, ways: Sequence[str]) -> Generator[list[str]]:
    """Lose or repeat what nodes send on its way from the proxy to the link; gives what has met replies so far."""
    place = federation.server.path / "run" / "link.sock"
    real, owner = place.with_name("link.real"), place.stat()
    place.rename(real)
    between = _Between(place, real, ways)
    shutil.chown(place, owner.st_uid, owner.st_gid)
    place.chmod(0o660)
    threading.Thread(target=between.serve_forever, daemon=True).start()
    proxy = federation.server.process("proxy")
    try:
        os.kill(proxy.pid, signal.SIGHUP)  # new workers have no connection to the link yet
        yield between.met
    finally:
        real.rename(place)
        os.kill(proxy.pid, signal.SIGHUP)
        between.shutdown()
        between.server_close()


# ------------------------------------------------------------------------------------------------------- the unrest


@dataclass(slots=True)
class Unrest:
    """Draws what happens, and sees to it that it does."""

    federation: Federation
    coins: random.Random
    unlucky: str = ""
    """The unit to which things happen; the others are enough for the quorum."""
    witnessed: bool = False
    """Whether the plans are."""

    def turn(self) -> None:
        """From now on things happen to another unit, which begins when the last one is back."""
        wait_for("all units", lambda: all(map(self._is_connected, self.federation.nodes.values())), seconds=150)
        self.unlucky = self.coins.choice([unit for unit in UNITS if unit != self.unlucky])

    def run(self, kinds: Sequence[str]) -> Ended:
        """Run a plan of as many rounds as there are kinds, with one of these in each."""
        # A unit that begins anew in the middle of a round is witnessed first, and asked once more.
        seconds = (2 if self.witnessed else 1) * DEADLINE_SECONDS
        file = self.federation.plan(**TERMS | {"deadline_seconds": seconds, "witnessed": self.witnessed})
        self.federation.approve(file)
        plan = parse_plan(file.read_bytes())
        assert plan.rounds == len(kinds)
        job = Job(f"{plan.name}-{plan.digest[:12]}", plan, self.federation.server)
        # On a machine with much to do the command may return after the job's first rounds.
        with ThreadPoolExecutor() as pool:
            submitting = pool.submit(self.federation.submit, file)
            wait_for("the first round", lambda: self._has_begun(job), seconds=120)
            done = tuple(self._round(job, step, kind) for step, kind in enumerate(kinds))
            assert submitting.result().name == job.name
        return Ended(job, self._end_of(job), done)

    def check(self, ended: Ended) -> None:
        """All ledgers verify and agree with the server's, nobody was charged twice, what was published is proved."""
        server, nodes = self.federation.server.facts(), self.federation.nodes.values()
        check_against_units(server, [node.facts() for node in nodes], ended.job.plan)
        for node in nodes:
            assert set(node.releases(ended.job.plan)) <= set(range(ended.job.plan.rounds))
        if ended.outcome == "published":
            assert recompute_segmentation(server, ended.job.plan) == ended.job.published

    def _round(self, job: Job, step: int, kind: str) -> str:
        """Do it in this round, which has begun, wait for the round's end, and say what was done."""
        if self._is_over(job, step + 1):  # refused
            return f"round {step + 1}: {NO_ROUND}"
        what = f"round {step + 1}: {kind} {KINDS[kind](self)}"
        print(f"{job.name} {what}", flush=True)  # noqa: T201 (the transcript)
        wait_for(f"the end of round {step + 1}", lambda: self._is_over(job, step + 1), seconds=150)
        return what

    def _is_over(self, job: Job, step: int) -> bool:
        """Whether the job has ended, or has come to the round `step`."""
        record = self._record(job)
        return bool(record["state"] in {"finished", "failed"} or record["step"] >= step)

    def _has_begun(self, job: Job) -> bool:
        """Whether a round of it is open, or it has ended."""
        with contextlib.suppress(FileNotFoundError):
            record = self._record(job)
            return bool(record["state"] in {"finished", "failed"} or record["until"] is not None)
        return False

    def _record(self, job: Job) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((job.server.path / "jobs" / job.name / "job.json").read_text("utf-8"))
        return found

    def _end_of(self, job: Job) -> str:
        words = ["job", "wait", job.name, "--server", job.server.path, "--timeout", 120, "--format", "json"]
        answer = say(job.server.machine, *words, timeout=120 + PATIENCE_SECONDS)
        if answer.code == 0:
            return "published"
        code = json.loads(answer.out)["error"]["code"]
        assert code == REFUSAL, answer.out
        return str(code)

    def _is_connected(self, node: Node) -> bool:
        state = json.loads((node.path / "network" / "state.json").read_text("utf-8"))
        return bool(state["state"] == "connected" and state["pid"] == node.process("network").pid)

    def kill_of_unit(self, *names: str) -> str:
        self._wait_a_moment()
        node = self.federation.nodes[self.unlucky]
        return f"{killed(*map(node.process, names))} of {self.unlucky}"

    def kill_of_server(self, name: str) -> str:
        self._wait_a_moment()
        return killed(self.federation.server.process(name))

    def pause(self) -> str:
        place, seconds = self.coins.choice([*OF_UNIT, *OF_SERVER]), round(self.coins.uniform(1, 5), 1)
        of_unit = place in OF_UNIT
        owner = self.federation.nodes[self.unlucky] if of_unit else self.federation.server
        with paused(owner.process(place), seconds):
            return f"{place}{f' of {self.unlucky}' if of_unit else ''} for {seconds} s"

    def mangle(self) -> str:
        drawn = self.coins.choices(["lost", "unanswered", "twice", "once"], k=self.coins.randint(4, 8))
        with mangled(self.federation, drawn) as met:
            end = time.monotonic() + DEADLINE_SECONDS
            while len(met) < len(drawn) and time.monotonic() < end:
                time.sleep(0.1)
        return " ".join(met)

    def _wait_a_moment(self) -> None:
        time.sleep(self.coins.uniform(0, 3))


KINDS: Final[dict[str, Callable[[Unrest], str]]] = {
    "node": lambda one: one.kill_of_unit("network", "data"),
    "runner": lambda one: one.kill_of_unit("data"),
    "SuperNode": lambda one: one.kill_of_unit("network"),
    "SuperLink": lambda one: one.kill_of_server("link"),
    "proxy": lambda one: one.kill_of_server("proxy"),
    "server app": lambda one: one.kill_of_server("coordinator"),
    "pause": lambda one: one.pause(),
    "parts of replies": lambda one: one.mangle(),
}
"""What may happen in a round, and what does it."""
