"""What goes wrong in operation: it is said with its cure, or it heals by itself, and no customer is charged twice."""

import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedseg.audit.verify import check_against_units, recompute_segmentation
from tests.system.deployment import FEDSEG, UNITS, Federation, Job, Node, Server, make_node, make_server
from tests.system.namespaces import Machine
from tests.system.processes import Process, processes, run, wait_for
from tests.system.unrest import REFUSAL, Ended, Unrest

pytestmark = pytest.mark.deployment


@pytest.fixture(scope="module", autouse=True)
def killing(federation: Federation, request: pytest.FixtureRequest) -> "Iterator[Future[Killed] | None]":
    """Kill one process after the other beside the tests that have a server of their own, if a test asks for it."""
    wanted = any("killed" in item.fixturenames for item in request.session.items if isinstance(item, pytest.Function))
    with ThreadPoolExecutor() as pool:
        yield pool.submit(kill_everything, federation) if wanted else None


# ------------------------------------------------------------------------------------- a node that cannot be started


@dataclass(frozen=True, slots=True)
class Second:
    """Another server, and a machine for nodes that have never been started."""

    server: Server
    machine: Machine
    federation: Federation
    numbers: Iterator[int]

    def newcomer(self, *, ca: Path | None = None) -> Node:
        """The directory of a node whose key the server does not know."""
        unit = f"east-{next(self.numbers)}"
        users = self.federation.users
        path = self.federation.path / unit
        node = Node(unit, self.machine, users["t-north-network"], users["t-north-data"], path)
        make_node(node, self.server, ca=ca)
        return node


@pytest.fixture(scope="module")
def second(federation: Federation) -> Iterator[Second]:
    """Another server, which is not started yet."""
    machines = [Machine.make("server-2", "10.83.0.2"), Machine.make("east", "10.83.0.21")]
    server = make_server(federation.path / "server-2", machines[0])
    yield Second(server, machines[1], federation, itertools.count())
    server.fedseg("stop")


def check_refusal(node: Node, *before: str, code: str, exit_code: int) -> str:
    """The cure that `fedseg node start` names when it ends with this code, in three lines, and leaves nothing running.

    Args:
        node: What is started.
        before: Words in front of the command.
        code: Of the error.
        exit_code: Of the command.
    """
    answer = run(node.machine.does([*before, FEDSEG, "node", "start", node.path]))
    lines = answer.err.strip().splitlines()[-3:]
    assert [line.partition(":")[0] for line in lines] == [code, "why", "fix"], answer.err
    assert answer.code == exit_code
    assert "started" not in answer.out
    assert not running(node)
    return lines[2].removeprefix("fix: ")


def check_it_works_now(node: Node) -> None:
    """The node starts, and the server sees it; then it is stopped."""
    node.fedseg("start")
    assert '"connected"' in (node.path / "network" / "state.json").read_text("utf-8")
    node.fedseg("stop")
    assert not running(node)


def running(node: Node) -> list[Process]:
    """The processes of a node."""
    return [one for one in processes() if any(str(node.path) in word for word in one.words)]


def test_a_server_that_is_down_and_a_key_that_it_does_not_know_are_told_apart(second: Second) -> None:
    second.server.fedseg("stop")
    node = second.newcomer()
    check_refusal(node, code="E603", exit_code=6)
    second.server.fedseg("start")
    cure = check_refusal(node, code="E709", exit_code=7)
    assert "fedseg server approve" in cure
    second.server.admit(node)
    check_it_works_now(node)


def test_a_server_of_another_authority_is_not_spoken_to(second: Second) -> None:
    second.server.fedseg("start")
    node = second.newcomer(ca=second.federation.server.path / "ca.crt")
    second.server.admit(node)
    check_refusal(node, code="E707", exit_code=7)
    (node.path / "network" / "ca.crt").write_bytes((second.server.path / "ca.crt").read_bytes())
    check_it_works_now(node)


def test_a_clock_that_is_off_is_said_to_be_and_setting_it_helps(second: Second) -> None:
    second.server.fedseg("start")
    node = second.newcomer()
    second.server.admit(node)
    for shift in ("+10m", "-10m"):
        cure = check_refusal(node, "faketime", "-f", shift, code="E708", exit_code=7)
        assert "timedatectl" in cure
    check_it_works_now(node)


# ----------------------------------------------------------------------------------- everything is killed once, -9

SEED = 13
"""What is paused, which replies are lost or come twice, and whose node is killed, in the last three of twelve rounds."""
BACK_SECONDS = 75
"""Within this time after it was killed a node takes part again, and nobody has lifted a hand."""
SLOT = {"reply_slot_seconds": 5}
"""Replies leave some seconds after their charge: time to be killed in between."""
THREE_ROUNDS = {"name": "cells", "seed": 7, "expected_customers": 100, "profile": "short"}
SIX_ROUNDS = {"name": "cells", "seed": 7, "expected_customers": 1000}


@dataclass(frozen=True, slots=True)
class Killed:
    """Two jobs of a federation whose processes were killed one after the other, and what was seen meanwhile."""

    short: Job
    """Three rounds with a quorum of two; in the second, west's SuperNode was killed."""
    seconds_to_end: float
    """How long the short job went on after that: the rest of two rounds."""
    seconds_to_return: float
    """How long it took west to be connected again."""
    long: Job
    """Six rounds for which all units are needed; in each from the second to the fifth, another process was killed."""
    charged: dict[int, tuple[str, bytes]]
    """By step of the long job: a unit, and what it had released but the server had not got when a process was killed."""
    last: Ended
    """Three rounds more: someone is paused, replies are lost and come twice, both processes of a node are killed."""


@pytest.fixture(scope="module")
def killed(killing: "Future[Killed]") -> Killed:
    """What was seen; it takes a while."""
    return killing.result(timeout=360)


def kill_everything(federation: Federation) -> Killed:
    """In twelve rounds kill SuperNode, runner, coordinator, SuperLink, proxy and node; pause someone; lose and repeat replies."""
    west = federation.nodes["west"]
    short = federation.begin(algorithm=THREE_ROUNDS, quorum=2, deadline_seconds=12, **SLOT)
    wait_for("west's release", lambda: west.releases(short.plan).get(1), seconds=30)
    lost = west.process("network")
    lost.kill()
    began = time.monotonic()
    short.wait(seconds=60)
    seconds_to_end = time.monotonic() - began

    long = federation.begin(algorithm=SIX_ROUNDS, quorum=3, deadline_seconds=150, **SLOT)
    wait_for("west's SuperNode", lambda: connected(west, lost), seconds=120 - (time.monotonic() - began))
    seconds_to_return = time.monotonic() - began
    charged = {
        1: kill_in_round(federation, long, 1, "north", federation.nodes["north"].process("data")),
        2: kill_in_round(federation, long, 2, "south", federation.server.process("coordinator")),
        3: kill_in_round(federation, long, 3, "south", federation.server.process("link")),
        4: kill_in_round(federation, long, 4, "north", federation.server.process("proxy")),
    }
    long.wait(seconds=120)
    last = Unrest(federation, random.Random(SEED), "south").run(["pause", "node", "parts of replies"])
    return Killed(short, seconds_to_end, seconds_to_return, long, charged, last)


def kill_in_round(federation: Federation, job: Job, step: int, unit: str, process: Process) -> tuple[str, bytes]:
    """Kill a process once a unit has charged this step and before the server has got it; the unit and its bytes."""
    node = federation.nodes[unit]
    released = wait_for(f"{unit}'s release {step}", lambda: node.releases(job.plan).get(step), seconds=120)
    process.kill()
    assert released not in federation.server.facts().raw.payloads.values(), "killed too late: the reply had left"
    return unit, released


def connected(node: Node, before: Process) -> bool:
    """Whether a network process other than this one is let in by the server."""
    state = json.loads((node.path / "network" / "state.json").read_text("utf-8"))
    return bool(state["state"] == "connected" and state["pid"] != before.pid)


def check_paid_once(federation: Federation, job: Job, units: Iterable[str]) -> None:
    """The job's segments are those that all ledgers prove, and each of these units was charged once for each step."""
    server = federation.server.facts()
    check_against_units(server, [node.facts() for node in federation.nodes.values()], job.plan)
    assert recompute_segmentation(server, job.plan) == job.published
    for unit in units:
        assert unit in job.published.segmentation.units
        assert sorted(federation.nodes[unit].releases(job.plan)) == list(range(job.plan.rounds))


def counted(federation: Federation, job: Job, step: int) -> list[str]:
    """The units whose releases are in this round of the job."""
    (entry,) = (
        one
        for one in federation.server.facts().raw.entries
        if one.kind == "round" and (one.body["plan_sha256"], one.body["step"]) == (job.plan.digest, step)
    )
    units = entry.body["units"]
    assert isinstance(units, list)
    return [str(unit) for unit in units]


def test_a_run_ends_by_quorum_when_a_supernode_is_killed(federation: Federation, killed: Killed) -> None:
    job = killed.short
    assert killed.seconds_to_end < 2 * job.plan.deadline_seconds + 5
    assert 1 in federation.nodes["west"].releases(job.plan)
    assert counted(federation, job, 1) == ["north", "south"]
    check_paid_once(federation, job, ["north", "south"])


def test_a_killed_supernode_takes_part_again_by_itself(killed: Killed) -> None:
    assert killed.seconds_to_return < BACK_SECONDS
    assert "west" in killed.long.published.segmentation.units


def test_a_job_survives_the_death_of_every_process_and_charges_each_step_once(
    federation: Federation, killed: Killed
) -> None:
    check_paid_once(federation, killed.long, UNITS)


@pytest.mark.parametrize(("step", "name"), [(1, "runner"), (2, "coordinator"), (3, "SuperLink"), (4, "proxy")])
def test_what_was_charged_before_a_kill_is_what_is_sent_after_it(
    federation: Federation, killed: Killed, step: int, name: str
) -> None:
    unit, released = killed.charged[step]
    assert federation.nodes[unit].releases(killed.long.plan)[step] == released, name
    assert released in federation.server.facts().raw.payloads.values(), name


def test_pauses_lost_and_repeated_replies_and_a_killed_node_end_in_one_charge_a_step(
    federation: Federation, killed: Killed
) -> None:
    paused, node, replies = killed.last.done
    assert "pause" in paused
    assert {"lost", "twice"} <= set(replies.split())
    assert "node killed 2" in node
    assert killed.last.outcome in {"published", REFUSAL}  # two units are left, and both may have lost too much
    Unrest(federation, random.Random(SEED)).check(killed.last)
