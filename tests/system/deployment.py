"""A server and three units, set up and run by the commands that their operators use, each on a machine of its own."""

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import tomli_w

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import verify_ledger
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.plan import Plan, parse_plan
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from fedseg.server.home import ServerHome
from tests.small_federation import (
    SmallFederation,
    blobs,
    consents,
    customers_csv,
    names_of,
    plan_terms,
    policy_document,
)
from tests.system.namespaces import PORT, SERVER_ADDRESS, Machine, User, furnish
from tests.system.processes import PATIENCE_SECONDS, Answer, Command, Process, process_in, processes, run, the_process

FEDSEG: Final = Path(sys.executable).with_name("fedseg")
UNITS: Final = {"north": 60, "south": 50, "west": 40}
"""The units, and how many customers each has."""
OTHERS: Final = 30
"""How many customers any other unit has."""
SEEDS: Final = {unit: seed for seed, unit in enumerate(UNITS, 11)}
"""What each unit's simulated noise is drawn from."""
USERS: Final = ("t-server", "t-proxy", *(f"t-{unit}-{role}" for unit in UNITS for role in ("network", "data")))

One = TypeVar("One")
Other = TypeVar("Other")


# -------------------------------------------------------------------------------------------------------- commands


def say(machine: Machine, *words: object, user: User | None = None, timeout: float = PATIENCE_SECONDS) -> Answer:
    """Run a command of fedseg's on a machine, as root unless told otherwise, and return what it says."""
    command: Command = [FEDSEG, *map(str, words)]
    began = time.monotonic()
    answer = run(machine.does(command if user is None else user.does(command)), timeout=timeout)
    print(f"fedseg {' '.join(map(str, words))}: {answer.code} after {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201
    return answer


def told(machine: Machine, *words: object, user: User | None = None, timeout: float = PATIENCE_SECONDS) -> Any:
    """The `data` of what a command says, which must succeed."""
    answer = say(machine, *words, "--format", "json", user=user, timeout=timeout)
    assert answer.code == 0, f"fedseg {' '.join(map(str, words))} ended with {answer.code}:\n{answer.out}{answer.err}"
    return json.loads(answer.out)["data"]


def at_once(do: Callable[[One], Other], these: Iterable[One]) -> list[Other]:
    """Do something with each of these at the same time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(do, these))


# ---------------------------------------------------------------------------------------------------- the two sides


@dataclass(frozen=True, slots=True)
class Node:
    """A unit's machine, its two users, and its directory."""

    unit: str
    machine: Machine
    network: User
    data: User
    path: Path

    @property
    def home(self) -> Path:
        """The unit's home, which only its data user may read."""
        return self.path / "unit"

    @property
    def customers(self) -> Path:
        """The file with its customers."""
        return self.path.with_suffix(".csv")

    def fedseg(self, verb: str, *options: object) -> Any:
        """What `fedseg node VERB` says of it."""
        return told(self.machine, "node", verb, self.path, *options)

    def process(self, name: str) -> Process:
        """Its running process `network` or `data`."""
        words = {
            "network": ("fedseg.federation.network", self.path / "network" / "node.key"),
            "data": ("fedseg.federation.runner", self.home),
        }
        return the_process(*words[name])

    def log(self, name: str) -> str:
        """All that this process has logged."""
        return (self.path / "logs" / f"{name}.log").read_text("utf-8")

    def facts(self) -> LedgerFacts:
        """What its ledger proves."""
        return verify_ledger(self.home / "ledger.db", NodeHome.open(self.home).key.public)

    def releases(self, plan: Plan) -> dict[int, bytes]:
        """The bytes it has released for a plan, by step, each of which was charged once."""
        facts = self.facts()
        found = [one for one in facts.releases if one.plan_sha256 == plan.digest]
        assert len({one.step for one in found}) == len(found), f"{self.unit} was charged twice for a step"
        return {one.step: facts.raw.payloads[f"release:{one.release_id}"] for one in found}


@dataclass(frozen=True, slots=True)
class Server:
    """The server's machine and its directory."""

    machine: Machine
    path: Path

    def fedseg(self, verb: str, *options: object) -> Any:
        """What `fedseg server VERB` says of it."""
        return told(self.machine, "server", verb, self.path, *options)

    def admit(self, node: Node) -> None:
        """Register the key that a node's operator has handed over."""
        asked = node.fedseg("request")
        self.fedseg("approve", asked["request"], "--fingerprint", asked["fingerprint"])

    def process(self, name: str) -> Process:
        """Its running process `link`, `coordinator` or `proxy`."""
        if name == "proxy":
            return process_in(self.path / "proxy" / "nginx.pid")
        return the_process(f"fedseg.federation.{name}", self.path / "run" / "link.sock")

    def facts(self) -> LedgerFacts:
        """What its ledger proves."""
        return verify_ledger(self.path / "server" / "ledger.db")


@dataclass(frozen=True, slots=True)
class Job:
    """A plan that was handed to a server."""

    name: str
    plan: Plan
    server: Server

    def fedseg(self, verb: str, *options: object, timeout: float = PATIENCE_SECONDS) -> Any:
        """What `fedseg job VERB` says of it."""
        return told(
            self.server.machine, "job", verb, self.name, *options, "--server", self.server.path, timeout=timeout
        )

    def wait(self, *, seconds: int) -> Any:
        """Wait for its end with the command for it, and return what that says."""
        return self.fedseg("wait", "--timeout", seconds, timeout=seconds + PATIENCE_SECONDS)

    @property
    def published(self) -> SignedSegmentation:
        """Its segments."""
        return parse_signed((self.server.path / "jobs" / self.name / "segmentation.json").read_bytes())


@dataclass(frozen=True, slots=True)
class Federation:
    """A server, its nodes, and a directory for what they hand each other."""

    path: Path
    server: Server
    nodes: Mapping[str, Node]
    users: Mapping[str, User]
    numbers: Iterable[int] = field(default_factory=itertools.count)

    def plan(self, **changes: Any) -> Path:
        """A new plan for all units."""
        keys = {node.unit: NodeHome.open(node.home).key.public.to_text() for node in self.nodes.values()}
        units = [{"name": unit, "public_key": key} for unit, key in keys.items()]
        name = f"plan-{next(iter(self.numbers))}"
        file = self.path / f"{name}.toml"
        file.write_bytes(tomli_w.dumps(plan_terms(units, **{"name": name, "quorum": len(units), **changes})).encode())
        return file

    def approve(self, file: Path) -> None:
        """Have every unit approve a plan: south as root, the others as the user to whom their data belong."""

        def one(node: Node) -> None:
            user = None if node.unit == "south" else node.data
            told(node.machine, "approve", file, "--node", node.home, "--yes", user=user)

        at_once(one, self.nodes.values())

    def submit(self, file: Path) -> Job:
        """Hand a plan to the server."""
        name = told(self.server.machine, "job", "submit", file, "--server", self.server.path)["id"]
        return Job(name, parse_plan(file.read_bytes()), self.server)

    def begin(self, **changes: Any) -> Job:
        """Make a plan, have all units approve it, and hand it to the server."""
        file = self.plan(**changes)
        self.approve(file)
        return self.submit(file)


# ---------------------------------------------------------------------------------------------------------- set-up


def set_up(path: Path) -> Federation:
    """Machines, users and directories; the server runs, the nodes do not yet, but their keys are registered."""
    users = furnish(USERS)
    path.mkdir(mode=0o755)
    server = make_server(path / "server", Machine.make("server", SERVER_ADDRESS))
    nodes = {
        unit: Node(
            unit,
            Machine.make(unit, f"10.83.0.{number}"),
            users[f"t-{unit}-network"],
            users[f"t-{unit}-data"],
            path / unit,
        )
        for number, unit in enumerate(UNITS, 11)
    }
    for node in nodes.values():
        node.machine.lock(node.network)
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(server.fedseg, "start")
        list(pool.map(partial(make_node, server=server), nodes.values()))
        starting.result()
    for node in nodes.values():
        server.admit(node)
    return Federation(path, server, nodes, users)


def make_server(path: Path, machine: Machine) -> Server:
    """A server's directory."""
    server = Server(machine, path)
    users = ["--server-user", "t-server", "--proxy-user", "t-proxy"]
    server.fedseg("init", "--host", machine.address, "--single-operator", *users)
    return server


def make_node(node: Node, server: Server, *, ca: Path | None = None) -> None:
    """A unit's directory: its keys, its policy, and its customers, all of whom consent."""
    names = names_of(node.unit, UNITS.get(node.unit, OTHERS))
    seed = SEEDS.get(node.unit, 1)
    policy, customers = node.path.with_suffix(".yaml"), node.customers
    policy.write_bytes(policy_document())
    customers.touch(mode=0o600)
    os.chown(customers, node.data.uid, node.data.uid)
    customers.write_bytes(customers_csv(zip(names, blobs(len(names), seed), strict=True)))
    options = {
        "unit": node.unit,
        "server": f"{server.machine.address}:{PORT}",
        "ca": server.path / "ca.crt" if ca is None else ca,
        "policy": policy,
        "data": customers,
        "subject": "customer",
        "network-user": node.network.name,
        "data-user": node.data.name,
        "rehearsal-seed": seed,
    }
    node.fedseg("init", *(word for name, value in options.items() for word in (f"--{name}", value)))
    home, now = NodeHome.open(node.home), datetime.now(UTC)
    asked, until = now - timedelta(days=30), now + timedelta(days=365)
    with home.register() as register:
        register.append_events(
            event for name in names for event in consents(subject_key(name.encode(), home.subject_secret), asked, until)
        )


@dataclass(frozen=True, slots=True)
class FirstRun:
    """The nodes' first run."""

    job: Job
    ended: Any
    """What `fedseg job wait` said."""
    before: SmallFederation
    """Copies of the units' homes as they were before it: the plan is approved, nothing is released."""


def run_first_plan(federation: Federation) -> FirstRun:
    """Have a plan of three rounds approved, start the nodes, and run the plan to its end."""
    file = federation.plan()
    federation.approve(file)
    before = SmallFederation(federation.path / "before", file.read_bytes())
    for node in federation.nodes.values():
        shutil.copytree(node.home, before.path / node.unit)
    ServerHome.create(before.path / "server")
    at_once(lambda node: node.fedseg("start"), federation.nodes.values())
    job = federation.submit(file)
    return FirstRun(job, job.wait(seconds=60), before)


def stop(federation: Federation) -> None:
    """Stop everything by the commands for it, and see that nothing is left."""
    at_once(lambda node: node.fedseg("stop"), federation.nodes.values())
    federation.server.fedseg("stop")
    left = [one for one in processes() if any(str(federation.path) in word for word in one.words)]
    assert not left, f"these still run: {left}"
