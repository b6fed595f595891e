"""What each part may reach, read and be made to do: tried from inside, as the user that would try it."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.cli.build import build_fab_from_files
from flwr.serverapp import Grid

import fedseg.node.contribute
from fedseg.clustering.request import request_bytes
from fedseg.errors import BundleError, NotApprovedError
from fedseg.federation import wire
from fedseg.federation.flower.link import Link
from fedseg.plan import parse_plan
from tests.federation.stub_source import FILES
from tests.small_federation import some_request
from tests.system.deployment import Federation, FirstRun, Node, say
from tests.system.namespaces import PORT, SERVER_ADDRESS, Machine, User
from tests.system.processes import ROOT, Command, Running, do, run, wait_for

pytestmark = pytest.mark.deployment

PROBE = ROOT / "tests/system/probe.py"
THREE_ROUNDS = {
    "deadline_seconds": 8,
    "algorithm": {"name": "cells", "seed": 7, "expected_customers": 100, "profile": "short"},
}
"""A plan that is over soon, also where units do not answer."""
FORBIDDEN = (
    "/",
    "/docs",
    "/openapi.json",
    "/v1/control/start-run",
    "/v1/control/list-nodes",
    "/v1/runtime/acquire-task",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/v1/fleet/../control/start-run",
    "/v1/fleet/%2e%2e/control/start-run",
)
VALUE, WORD = "73.731913", "zanzibar"
"""What a customer's cells hold: nobody else's do."""

ACCESS = """
import os, stat, sys
for path in sys.stdin.read().splitlines():
    kind = os.stat(path, follow_symlinks=False).st_mode if os.access(os.path.dirname(path), os.X_OK) else None
    wanted = os.W_OK if kind is not None and stat.S_ISSOCK(kind) else int(sys.argv[1])
    if kind is not None and not stat.S_ISLNK(kind) and os.access(path, wanted):
        print(path)
"""


def probe(machine: Machine, user: User, **wanted: list[Any]) -> dict[str, list[Any]]:
    """What `probe.py` finds from there."""
    found: dict[str, list[Any]] = json.loads(
        do(machine.does(user.does([sys.executable, "-I", PROBE])), give=json.dumps(wanted))
    )
    return found


def door(federation: Federation) -> list[Any]:
    """The server's proxy, as `probe.py` wants it."""
    return [SERVER_ADDRESS, PORT, str(federation.server.path / "ca.crt")]


def parts(user: User, folder: Path, kind: int) -> set[str]:
    """The top entries of a folder that hold a file which this user may read (4) or write (2), or a socket to use."""
    files = "\n".join(str(path) for path in folder.rglob("*") if not path.is_dir())
    allowed = do(user.does([sys.executable, "-I", "-c", ACCESS, str(kind)]), give=files).splitlines()
    return {Path(path).relative_to(folder).parts[0] for path in allowed}


# --------------------------------------------------------------------------------------------------------- network


def test_the_proxy_passes_what_nodes_need_and_nothing_else(federation: Federation) -> None:
    node, server = federation.nodes["north"], door(federation)
    asked = [[server, method, path, 0] for path in FORBIDDEN for method in ("GET", "POST")]
    statuses = probe(node.machine, node.network, ask=asked)["asked"]
    opened = [one[1:3] for one, status in zip(asked, statuses, strict=True) if status != 404]
    assert opened == []
    assert probe(node.machine, node.network, ask=[[server, "GET", "/health", 0]])["asked"] == [200]


def test_a_body_larger_than_plans_need_is_refused(federation: Federation) -> None:
    node, limits = federation.nodes["north"], (federation.server.path / "proxy" / "limits.conf").read_text("utf-8")
    (limit,) = map(int, re.findall(r"client_max_body_size (\d+);", limits))
    assert limit < 64 * 1024
    ask = [[door(federation), "POST", "/v1/fleet/push-object", size] for size in (limit, limit + 1, 2**26)]
    allowed, *refused = probe(node.machine, node.network, ask=ask)["asked"]
    assert allowed != 413  # the link refuses it, for it is not signed
    assert refused == [413, 413]


def test_the_server_listens_on_one_port_and_a_node_on_none(federation: Federation) -> None:
    assert federation.server.machine.listens() == {("tcp", PORT)}
    for node in federation.nodes.values():
        assert node.machine.listens() == set()


@pytest.fixture(scope="module")
def outsider(federation: Federation) -> Machine:
    """A machine at the same switch, without a firewall."""
    del federation
    return Machine.make("outsider", "10.83.0.99")


def test_a_node_gets_out_to_one_port_and_nobody_gets_in(federation: Federation, outsider: Machine) -> None:
    """The firewall that we advise, not one that we bring: the federation lives behind it."""
    node, other = federation.nodes["north"], federation.nodes["south"]
    listen = [sys.executable, "-m", "http.server", "9000"]
    server = ["tcp", SERVER_ADDRESS, PORT]
    elsewhere = [
        ["tcp", SERVER_ADDRESS, 9000],
        ["tcp", outsider.address, 9000],
        ["tcp", other.machine.address, 9000],
        ["udp", SERVER_ADDRESS, 53],
        ["udp", outsider.address, 53],
    ]
    with (
        Running(federation.server.machine.does(listen)),
        Running(outsider.does(listen)),
        Running(other.machine.does(listen)),
    ):
        everyone_listens = [["tcp", address, 9000] for address in (SERVER_ADDRESS, outsider.address)]
        wait_for(
            "listeners on port 9000",
            lambda: all(probe(outsider, node.network, reach=everyone_listens)["reached"]),
            seconds=10,
        )
        assert probe(node.machine, node.network, reach=[server, *elsewhere])["reached"] == [True, *[False] * 5]
        assert probe(node.machine, node.data, reach=[server, *elsewhere])["reached"] == [False] * 6
        inwards = [["tcp", other.machine.address, 9000]]
        assert probe(outsider, node.network, reach=inwards)["reached"] == [False]


def test_what_has_data_or_keys_has_no_network_at_all(federation: Federation) -> None:
    for name in ("link", "coordinator"):
        assert federation.server.process(name).interfaces == {"lo"}
    for node in federation.nodes.values():
        process = node.process("data")
        assert process.interfaces == {"lo"}
        inside: Command = [
            "nsenter",
            f"--net=/proc/{process.pid}/ns/net",
            *node.data.does([sys.executable, "-I", PROBE]),
        ]
        wanted = {"reach": [["tcp", SERVER_ADDRESS, PORT], ["udp", SERVER_ADDRESS, 53]]}
        assert json.loads(do(inside, give=json.dumps(wanted)))["reached"] == [False, False]


# ----------------------------------------------------------------------------------------------------------- users


def test_every_process_runs_as_its_user_and_can_become_nobody_else(federation: Federation) -> None:
    users = federation.users
    found = [
        (federation.server.process("link"), users["t-server"]),
        (federation.server.process("coordinator"), users["t-server"]),
        (federation.server.process("proxy"), users["t-proxy"]),
        *((node.process("network"), node.network) for node in federation.nodes.values()),
        *((node.process("data"), node.data) for node in federation.nodes.values()),
    ]
    for process, user in found:
        assert process.uid == user.uid
        status = process.status
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"


def test_each_user_reads_only_what_is_its_own(federation: Federation) -> None:
    public = {"deployment.toml", "node.pub", "request.json"}
    for node in federation.nodes.values():
        for user in federation.users.values():
            own = {node.network.name: {"network", "run"}, node.data.name: {"unit", "run"}}.get(user.name, set())
            assert parts(user, node.path, 4) - public == own, f"{user.name} reads in {node.path}"
            assert parts(user, node.path, 2) == own, f"{user.name} writes in {node.path}"
    for user in federation.users.values():
        own = {"t-server": {"server", "jobs", "run"}, "t-proxy": {"proxy", "run"}}.get(user.name, set())
        assert parts(user, federation.server.path, 4) - {"deployment.toml", "ca.crt", "answers"} == own, (
            f"{user.name} at the server"
        )


# ------------------------------------------------------------------------------------------------ what is asked of it


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower 1.41 uses its old name
def test_code_that_the_server_sends_does_not_run(federation: Federation, first_run: FirstRun) -> None:
    trace = federation.path / "anyone-may-write" / "it-ran"
    trace.parent.mkdir(mode=0o777)
    trace.parent.chmod(0o777)
    hostile = f"open({str(trace)!r}, 'w').close()\nfrom flwr.clientapp import ClientApp\napp = ClientApp()\n"
    bundle, _ = build_fab_from_files(FILES | {"stub/app.py": hostile.encode()})
    plan = first_run.job.plan
    asked = wire.pack(request_bytes(plan.digest, some_request(plan, 0)))
    with Link(federation.server.path / "run" / "link.sock") as link:
        nodes = [one.node_id for one in link.nodes()]
        with link.acquire(link.start_run(bundle), timeout=20) as task:
            messages = [Message(asked, node, wire.MESSAGE_TYPE, group_id=wire.GROUP) for node in nodes]
            sent = list(task.grid.push_messages(messages))
            replies = [wait_for("a refusal", partial(pull_one, task.grid, name), seconds=20) for name in sent]
            task.finish(completed=False)
    assert [wire.unpack_reply(reply) for reply in replies] == [wire.encode_unavailable()] * len(nodes)
    for node in federation.nodes.values():
        assert BundleError.code in node.log("data")
    assert not trace.exists()
    for user in federation.users.values():  # it would have, wherever it ran
        run(user.does([sys.executable, "-c", hostile]))
        assert trace.exists()
        trace.unlink()


def pull_one(grid: Grid, name: str) -> Message | None:
    """The reply to one message, if it is there; Flower hands it out once."""
    return next(iter(grid.pull_messages([name])), None)


def test_a_plan_that_was_not_approved_gets_no_answer(federation: Federation) -> None:
    file = federation.plan(**THREE_ROUNDS)
    check_refused(federation, file)


def test_an_approved_plan_altered_in_one_number_gets_no_answer(federation: Federation) -> None:
    file = federation.plan(**THREE_ROUNDS)
    federation.approve(file)
    altered = file.with_name("altered.toml")
    altered.write_bytes(file.read_bytes().replace(b"min_segment_size = 5", b"min_segment_size = 6"))
    assert parse_plan(altered.read_bytes()).digest != parse_plan(file.read_bytes()).digest
    check_refused(federation, altered)


def check_refused(federation: Federation, file: Path) -> None:
    """No unit answers this plan, each logs why, and the job fails for want of a quorum."""
    read = {unit: len(node.log("data")) for unit, node in federation.nodes.items()}
    before = {unit: node.facts().size for unit, node in federation.nodes.items()}
    job = federation.submit(file)
    ended = say(federation.server.machine, "job", "wait", job.name, "--server", federation.server.path, "--timeout", 30)
    assert ended.code == 6
    assert "E601" in ended.err
    for unit, node in federation.nodes.items():
        assert f"code={NotApprovedError.code}" in node.log("data")[read[unit] :]
        assert node.facts().size == before[unit]


# ------------------------------------------------------------------------------------------- what is never said


def test_text_in_place_of_a_number_is_shown_to_nobody_and_keeps_no_unit_from_answering(federation: Federation) -> None:
    node = federation.nodes["west"]
    file = federation.plan(deadline_seconds=60)
    federation.approve(file)
    with first_customer(node, f"west-0,{VALUE},{WORD}"):
        job = federation.submit(file)
        ended = job.wait(seconds=60)
    assert node.releases(job.plan)
    check_unsaid(federation, node, [ended, job.fedseg("inspect"), node.fedseg("logs")])


def test_the_text_of_an_error_that_quotes_a_customer_is_shown_to_nobody(federation: Federation) -> None:
    node = federation.nodes["west"]
    node.fedseg("stop")
    start_with_defect(federation, node)
    with first_customer(node, f"west-0,{VALUE},1"):
        job = federation.begin(deadline_seconds=120)
        wait_for(
            "west to say that it is unavailable",
            lambda: "unavailable" in job.fedseg("status")["waiting"].get("west", ""),
            seconds=60,
        )
    heard = [job.fedseg("status"), job.fedseg("cancel"), node.fedseg("status"), node.fedseg("logs")]
    node.fedseg("stop")
    node.fedseg("start")
    assert "release.unavailable code=E100" in node.log("data")
    assert not node.releases(job.plan)
    check_unsaid(federation, node, heard)


@contextmanager
def first_customer(node: Node, line: str) -> Iterator[None]:
    """Have a unit's first customer's line read like this, for a while."""
    before = node.customers.read_bytes()
    node.customers.write_bytes(before.replace(before.splitlines()[1], line.encode()))
    try:
        yield
    finally:
        node.customers.write_bytes(before)


def check_unsaid(federation: Federation, node: Node, heard: list[Any]) -> None:
    """The value is neither in what commands said nor in any file of the server's or of the node's but the unit's own."""
    folders = [federation.server.path, node.path / "logs", node.path / "network", node.path / "run"]
    files = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    names = {path.name for path in files}
    assert {"ledger.db", "link.db", "link.log", "coordinator.log", "data.log", "network.log", "job.json"} <= names
    assert not [path for path, content in files.items() if VALUE.encode() in content or WORD.encode() in content]
    assert VALUE not in json.dumps(heard)
    assert WORD not in json.dumps(heard)


def start_with_defect(federation: Federation, node: Node) -> None:
    """Start a node with installed code that raises an error which quotes a customer's value."""
    installed = Path(str(fedseg.node.contribute.__file__))
    defective = federation.path / "contribute.py"
    defect = f"\n\ndef encode(*_):\n    raise ValueError('cannot encode {VALUE}')\n"
    defective.write_text(installed.read_text("utf-8") + defect, "utf-8")
    defective.chmod(0o644)
    mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
    command = [sys.executable, "-m", "fedseg", "node", "start", str(node.path)]
    do(node.machine.does(["unshare", "--mount", "sh", "-c", mount, str(defective), str(installed), *command]))
