"""What the chaos tests share: a small federation, processes of its own, and signals at named points of the code.

Production code has no hooks. A forked child wraps one named function, or watches one SQL statement, and signals itself
there. A name that no longer exists is an error in the child, so a renamed function fails its test.
"""

import importlib
import os
import shutil
import signal
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest
from flwr.app import Message

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.clustering.request import RoundRequest, request_bytes
from fedseg.federation import wire
from fedseg.federation.client_app import make_client_app
from fedseg.federation.loopback import LoopbackGrid
from fedseg.node.approvals import approve
from fedseg.node.home import NodeHome
from fedseg.plan import Plan, parse_plan
from fedseg.segments.segmentation import parse_signed
from fedseg.server.rounds import start_run
from fedseg.simulation.prepare import Layout, prepare
from fedseg.simulation.scenario import load_scenario
from tests.small_scenario import write_scenario

FEDSEG = Path(sys.executable).with_name("fedseg")

FAILED = 70
"""Exit code of a child whose work raised."""


@dataclass(frozen=True)
class Point:
    """A place in the code: before or after the n-th call of a function, or when an SQL statement is about to run.

    `where` is "module:name" or "module:Class.name", in the module that looks the name up. With `sql` it names the
    function that makes the connections to watch.
    """

    name: str
    where: str
    when: str = "after"
    call: int = 1
    sql: str = ""

    def arm(self, sign: signal.Signals) -> None:
        """Signal this process when it comes to the point. For a child only: nothing is ever unwrapped."""
        module, _, path = self.where.partition(":")
        *owners, name = path.split(".")
        owner: Any = importlib.import_module(module)
        for one in owners:
            owner = getattr(owner, one)
        original = getattr(owner, name)
        wrapped = self._watching(original, sign) if self.sql else self._wrapped(original, sign)
        is_classmethod = isinstance(owner, type) and isinstance(vars(owner)[name], classmethod)
        setattr(owner, name, staticmethod(wrapped) if is_classmethod else wrapped)

    def _wrapped(self, original: Callable[..., Any], sign: signal.Signals) -> Callable[..., Any]:
        calls = 0

        def deadly(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            here = calls == self.call
            if here and self.when == "before":
                os.kill(os.getpid(), sign)
            result = original(*args, **kwargs)
            if here and self.when == "after":
                os.kill(os.getpid(), sign)
            return result

        return deadly

    def _watching(self, connect: Callable[..., sqlite3.Connection], sign: signal.Signals) -> Callable[..., Any]:
        seen = 0

        def statement(sql: str) -> None:
            nonlocal seen
            seen += sql.startswith(self.sql)
            if sql.startswith(self.sql) and seen == self.call:
                os.kill(os.getpid(), sign)

        def watched(*args: Any) -> sqlite3.Connection:
            connection = connect(*args)
            connection.set_trace_callback(statement)
            return connection

        return watched


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (negative for a signal), and the bytes that its work returned, if it did."""

    code: int
    output: bytes


@dataclass(frozen=True)
class Child:
    """A process forked from this one, which has imported everything already."""

    pid: int
    pipe: int

    @classmethod
    def start(
        cls, work: Callable[[], bytes], point: Point | None = None, sign: signal.Signals = signal.SIGKILL
    ) -> Self:
        """Begin `work` in a new process, which signals itself at `point`."""
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that a fork leaves behind. The child takes no lock of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            os.close(writing)
            return cls(pid, reading)
        try:
            if point is not None:
                point.arm(sign)
            os.write(writing, work())
            os._exit(0)
        except BaseException:  # noqa: BLE001 (the child must end here and never return into pytest)
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(FAILED)

    def wait(self) -> Ended:
        """Wait for its end."""
        with os.fdopen(self.pipe, "rb") as pipe:
            output = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), output)

    def wait_for_stop(self) -> None:
        """Wait until it has stopped itself at its point."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"the process ended ({status}) without coming to its point"

    def go_on(self) -> None:
        """Let a stopped process go on."""
        os.kill(self.pid, signal.SIGCONT)


def run_in_process(work: Callable[[], bytes], point: Point | None = None) -> Ended:
    """Do `work` in a process of its own and wait for its end."""
    return Child.start(work, point).wait()


@dataclass(frozen=True)
class Unit:
    """A unit's home, and a plan that its federation has agreed on."""

    home: Path
    plan: Plan
    document: bytes

    def request(self, *, other: bool = False) -> bytes:
        """The first round's request; `other`: one that a server could also have made for this step."""
        request = start_run(self.plan).request
        assert request is not None
        if other:
            request = RoundRequest(request.step, request.centers.copy(), request.radii // 2)
        return request_bytes(self.plan.digest, request)

    def approve(self) -> bytes:
        """Approve the plan at this unit."""
        approve(NodeHome.open(self.home), self.plan, self.document, now=datetime.now(UTC))
        return b"approved"

    def ask(self, request: bytes) -> bytes:
        """The bytes that the unit's real Flower app replies with, through the real codec."""
        grid = LoopbackGrid(make_client_app(), {1: {"home": str(self.home)}})
        message = Message(wire.pack(request), dst_node_id=1, message_type=wire.MESSAGE_TYPE, group_id="fedseg")
        (reply,) = grid.pull_messages(grid.push_messages([message]))
        return wire.unpack_reply(reply)

    def facts(self) -> LedgerFacts:
        """What the unit's ledger proves; fails if anything in it does not check out."""
        return verify_ledger(self.home / "ledger.db", NodeHome.open(self.home).key.public)

    def released(self, facts: LedgerFacts) -> dict[str, bytes]:
        """The released bytes in the ledger, by release id."""
        return {one.release_id: facts.raw.payloads[f"release:{one.release_id}"] for one in facts.releases}


@dataclass(frozen=True)
class Run:
    """The directory of a run. Every question fails if anything in the ledgers it is answered from does not check out."""

    out: Path

    def units(self) -> list[LedgerFacts]:
        """What every unit's ledger proves."""
        layout = Layout(self.out)
        return [verify_ledger(layout.node(name) / "ledger.db") for name in layout.units()]

    def server(self) -> LedgerFacts:
        """What the server's ledger proves, held against the units'."""
        facts = verify_ledger(Layout(self.out).server / "ledger.db")
        check_against_units(facts, self.units(), parse_plan(Layout(self.out).plan.read_bytes()))
        return facts

    def released(self) -> dict[str, bytes]:
        """The released bytes in all units' ledgers."""
        self.server()
        return {
            id_: data for one in self.units() for id_, data in one.raw.payloads.items() if id_.startswith("release:")
        }

    def check_finished(self, released_before: dict[str, bytes]) -> None:
        """Each unit paid for each round once, nothing was released anew, the segments are those of the ledgers."""
        plan = parse_plan(Layout(self.out).plan.read_bytes())
        for facts in self.units():
            assert [one.step for one in facts.releases] == list(range(plan.rounds))
            assert facts.account.rho_spent == sum(plan.step_rhos)
        assert released_before.items() <= self.released().items()
        published = parse_signed((self.out / "segmentation.json").read_bytes())
        assert recompute_segmentation(self.server(), plan) == published


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario file of two small units and three rounds, with the system's noise."""
    return write_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="session")
def prepared(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The scenario's homes and plan; nothing is approved."""
    layout = Layout(tmp_path_factory.mktemp("prepared"))
    prepare(load_scenario(scenario), layout, now=datetime.now(UTC))
    return layout


@pytest.fixture
def new_unit(prepared: Layout, tmp_path: Path) -> Callable[[], Unit]:
    """Makes fresh copies of one unit's home, before it has approved anything."""
    document = prepared.plan.read_bytes()
    made = 0

    def make() -> Unit:
        nonlocal made
        made += 1
        home = tmp_path / f"unit-{made}"
        shutil.copytree(prepared.node("north"), home)
        return Unit(home, parse_plan(document), document)

    return make


@pytest.fixture
def approved_unit(new_unit: Callable[[], Unit], tmp_path: Path) -> Callable[[], Unit]:
    """Makes fresh copies of one unit's home that has approved the plan."""
    template = new_unit()
    template.approve()
    made = 0

    def make() -> Unit:
        nonlocal made
        made += 1
        home = tmp_path / f"approved-{made}"
        shutil.copytree(template.home, home)
        return Unit(home, template.plan, template.document)

    return make
