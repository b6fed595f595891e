"""A server as real processes: who runs them, what the proxy lets through, how they start, end and come back."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli_w

from fedseg.deploy.proxy import FLEET, IDLE_BODY_BYTES, write_body_limit
from fedseg.deploy.settings import ServerDeployment
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan, parse_plan
from tests.deploy.conftest import (
    NAMES,
    OTHER_PORT,
    PORT,
    SERVER_USERS,
    MakeServer,
    Operator,
    Server,
    free_port,
    processes_of,
    states,
)
from tests.small_federation import plan_terms

pytestmark = pytest.mark.deployment


def ask(server: Server, method: str, path: str, body: bytes = b"", port: int = PORT) -> tuple[int, bytes]:
    """Status and body of a request whose path is sent as it stands."""
    context = ssl.create_default_context(cafile=server.path / "ca.crt")
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Content-Type", "application/x-protobuf")
        connection.endheaders()
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError, ssl.SSLError
        ):  # it may answer before it has all
            connection.send(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_well(server: Server) -> bool:
    try:
        return ask(server, "GET", "/health")[0] == 200
    except OSError:
        return False


def is_new_and_running(server: Server, name: str, before: int) -> bool:
    (found,) = [one for one in states(server.path) if one.name == name]
    return found.is_running and found.pid != before


def wait_for(look: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.1)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def ports_of(pid: int) -> set[int]:
    """The TCP ports on which a process listens."""
    open_files = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]
    tables = [Path(f"/proc/{pid}/net", name).read_text("utf-8") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in open_files}


def supervisor_of(server: Server) -> int:
    return int((server.path / "supervisor" / "supervisord.pid").read_text("utf-8"))


def modes(path: Path) -> dict[str, str]:
    return {
        str(one.relative_to(path)): f"{stat.S_IMODE(one.stat().st_mode):04o} {one.owner()}:{one.group()}"
        for one in [path, *path.rglob("*")]
    }


def plan(width: int) -> Plan:
    one = plan_terms([])["features"][0]
    features = [{**one, "name": f"feature_{number}"} for number in range(width)]
    units = [{"name": "north", "public_key": SigningKey.generate().public.to_text()}]
    return parse_plan(tomli_w.dumps(plan_terms(units, k=512, features=features)).encode())


def test_each_piece_belongs_to_its_user_alone(root: Operator, make: MakeServer) -> None:
    made = make(root, "new", *SERVER_USERS, port=OTHER_PORT)
    link, proxy = NAMES[:2]

    assert modes(made.path) == {
        ".": "0755 root:root",
        "deployment.toml": "0644 root:root",
        "ca.crt": "0644 root:root",
        "ca": "0700 root:root",
        "ca/ca.key": "0600 root:root",
        "server": f"0700 {link}:{link}",
        "server/ledger.db": f"0600 {link}:{link}",
        "server/roster.db": f"0600 {link}:{link}",
        "server/keys": f"0700 {link}:{link}",
        "server/keys/server.key": f"0600 {link}:{link}",
        "jobs": f"0700 {link}:{link}",
        "proxy": f"0700 {proxy}:{proxy}",
        "proxy/server.pem": f"0600 {proxy}:{proxy}",
        "proxy/limits.conf": f"0600 {proxy}:{proxy}",
        "run": f"2750 {link}:{proxy}",
        "logs": "0755 root:root",
        "supervisor": "0700 root:root",
    }


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(root: Operator, server: Server) -> None:
    before = modes(server.path)
    again = server("init", "--host", "localhost", "--single-operator", *SERVER_USERS)
    failed = Server(root, root.folder / "failed")("init", "--host", "a b", "--single-operator", *SERVER_USERS)

    assert (again.code, failed.code) == (2, 2)
    assert again.error[0] == f"E204: {server.path} is there already"
    assert failed.error[0].startswith("E201: hosts")
    assert modes(server.path) == before
    assert not [path for path in root.folder.iterdir() if "failed" in path.name]


def test_every_process_runs_as_its_user_without_any_capability(server: Server) -> None:
    shown = {one["name"]: one for one in server.json("status")["processes"]}
    users = {"link": NAMES[0], "coordinator": NAMES[0], "proxy": NAMES[1]}

    assert {name: one["user"] for name, one in shown.items()} == users
    for name, one in shown.items():
        assert one["state"] == "RUNNING"
        assert Path(f"/proc/{one['pid']}").owner() == users[name]
        found = status_of(one["pid"])
        assert found["NoNewPrivs"] == "1"
        assert found["Groups"] == ""
        assert {found[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}


def test_the_link_listens_on_no_port(server: Server) -> None:
    assert {name: ports_of(pid) for name, pid in server.pids().items()} == {
        "link": set(),
        "coordinator": set(),
        "proxy": {PORT},
    }


@pytest.mark.parametrize("name", ["link", "coordinator"])
def test_only_the_proxy_has_a_network(name: str, server: Server) -> None:
    interfaces = Path(f"/proc/{server.pids()[name]}/net/dev").read_text("utf-8").splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]


def test_the_proxy_says_when_the_server_is_well(server: Server) -> None:
    assert ask(server, "GET", "/health") == (200, b"")
    assert ask(server, "HEAD", "/health") == (200, b"")


@pytest.mark.parametrize("name", FLEET)
def test_what_a_node_asks_reaches_the_link(name: str, server: Server) -> None:
    status, _ = ask(server, "POST", f"/v1/fleet/{name}")
    assert status not in {404, 405, 502}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", f"/v1/fleet/{name}") for name in ("register-node", "unregister-node", "", "activate-node/x")),
        *(("POST", f"/v1/control/{name}") for name in ("start-run", "stop-run", "register-node", "list-nodes")),
        *(("POST", f"/v1/runtime/{name}") for name in ("acquire-task", "push-messages")),
        *(("GET", path) for path in ("/", "/docs", "/openapi.json", "/redoc", "/v1/fleet/activate-node", "/health/")),
        *((method, "/health") for method in ("POST", "PUT", "OPTIONS")),
        ("PUT", "/v1/fleet/activate-node"),
        ("POST", "/V1/fleet/activate-node"),
        ("POST", "/v1/control/start-run?x=/v1/fleet/activate-node"),
        ("POST", "/v1/control/start-run%2f..%2f..%2ffleet%2factivate-nod"),
        ("POST", "/v1/fleet/activate-node/../../control/start-run"),
        ("POST", "/v1/fleet/activate-node%00"),
    ],
)
def test_what_is_not_listed_does_not_exist(method: str, path: str, server: Server) -> None:
    status, body = ask(server, method, path)
    assert status == 404 or (status == 400 and "%00" in path)
    assert body == b"" or status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/../fleet/get-run",
        "//v1//fleet/get-run",
        "/v1/%66leet/get-run",
        "/v1/control/start-run;/../../fleet/get-run",
    ],
)
def test_however_a_listed_path_is_written_the_link_gets_the_listed_one(path: str, server: Server) -> None:
    assert ask(server, "POST", path) == ask(server, "POST", "/v1/fleet/get-run")


def test_older_tls_is_not_spoken(server: Server) -> None:
    context = ssl.create_default_context(cafile=server.path / "ca.crt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("localhost", PORT), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_only_as_much_passes_as_the_plans_need(server: Server) -> None:
    before = server.pids()
    too_long = b"x" * (IDLE_BODY_BYTES + 1)
    assert ask(server, "POST", "/v1/fleet/push-object", too_long)[0] == 413

    limit = write_body_limit(ServerDeployment.open(server.path), [plan(40)])
    wait_for(lambda: ask(server, "POST", "/v1/fleet/push-object", too_long)[0] != 413, 10)
    assert ask(server, "POST", "/v1/fleet/push-object", b"x" * (limit + 1))[0] == 413
    assert server.pids() == before

    write_body_limit(ServerDeployment.open(server.path), [])
    wait_for(lambda: ask(server, "POST", "/v1/fleet/push-object", too_long)[0] == 413, 10)


def test_starting_twice_changes_nothing(server: Server) -> None:
    before = server.pids()
    again = server.json("start")

    assert again["outcome"] == "runs already"
    assert server.pids() == before


@pytest.mark.parametrize("name", ["link", "coordinator", "proxy"])
def test_a_killed_process_comes_back(name: str, server: Server) -> None:
    before = server.pids()
    os.kill(before[name], signal.SIGKILL)

    wait_for(lambda: is_new_and_running(server, name, before[name]), 30)
    wait_for(lambda: is_well(server), 20)
    after = server.pids()
    assert {one: pid for one, pid in after.items() if one != name} == {
        one: pid for one, pid in before.items() if one != name
    }


def test_no_process_outlives_its_supervisor(server: Server) -> None:
    os.kill(supervisor_of(server), signal.SIGKILL)

    wait_for(lambda: not processes_of(server.path), 20)
    assert server.json("status")["running"] is False
    assert server.json("start")["outcome"] == "started"
    assert ask(server, "GET", "/health")[0] == 200


def test_what_several_kills_have_left_stands_in_no_ones_way(server: Server) -> None:
    proxy, supervisor = server.pids()["proxy"], supervisor_of(server)
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(proxy, signal.SIGKILL)  # its worker goes on listening, and nobody is left to start a successor
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not processes_of(server.path), 20)
    assert ask(server, "GET", "/health")[0] == 502

    assert server.json("start")["outcome"] == "started"
    assert ask(server, "GET", "/health")[0] == 200


def test_a_port_that_is_taken_is_named_and_nothing_stays(root: Operator, server: Server, make: MakeServer) -> None:
    other = make(root, "second", *SERVER_USERS, port=PORT)
    ended = other("start")

    assert ended.code == 2
    assert ended.error[0] == f"E204: the proxy cannot listen on 127.0.0.1:{PORT}"
    assert "Address already in use" in ended.error[1]
    assert not processes_of(other.path)


def test_what_does_not_become_well_is_stopped_again(root: Operator, make: MakeServer) -> None:
    other = make(root, "broken", *SERVER_USERS, port=OTHER_PORT)
    (other.path / "server" / "ledger.db").unlink()
    ended = other("start")

    assert ended.code == 6
    assert ended.error[0] == "E604: the server did not start, and has been stopped again"
    assert "coordinator, which has ended 3 times, with exit code 2" in ended.error[1]
    assert "coordinator.log says E201" in ended.error[1]
    assert not processes_of(other.path)


def test_one_user_may_run_it_all_in_the_foreground(alone: Operator, make: MakeServer) -> None:
    made = make(alone, "server", "--single-user", port=OTHER_PORT)
    command = made.operator.words("server", "start", made.path, "--foreground", "--format", "json")
    with subprocess.Popen(command, cwd=alone.folder, stdout=subprocess.PIPE, text=True) as running:
        try:
            said = "".join(iter(running.stdout.readline, "}\n")) if running.stdout else ""
            assert json.loads(said + "}")["data"]["outcome"] == "started"
            assert ask(made, "GET", "/health", port=OTHER_PORT)[0] == 200
        finally:
            running.terminate()
            code = running.wait(90)
    assert code == 0
    assert not processes_of(made.path)


def test_a_single_user_is_told_what_that_gives_up(alone: Operator) -> None:
    ended = alone("server", "init", alone.folder / "told", "--host", "localhost", "--single-user", "--single-operator")
    assert "NOTE one user runs everything here: a break-in at the proxy" in ended.err


def test_a_low_port_takes_root(alone: Operator) -> None:
    ended = Server(alone, alone.folder / "low")(
        "init", "--host", "localhost", "--listen", "127.0.0.1:443", "--single-user", "--single-operator"
    )

    assert ended.code == 2
    assert "cannot listen on port 443" in ended.error[0]
    assert not (alone.folder / "low").exists()


def test_root_hands_the_proxy_user_the_right_to_a_low_port_and_nothing_else(root: Operator, make: MakeServer) -> None:
    port = free_port(range(600, 1024))
    made = make(root, "low", *SERVER_USERS, port=port)
    assert made.json("start")["outcome"] == "started"
    assert ask(made, "GET", "/health", port=port)[0] == 200
    found = status_of(made.pids()["proxy"])
    assert {found[kind] for kind in ("CapPrm", "CapEff", "CapBnd")} == {f"{1 << 10:016x}"}


def test_of_two_starts_at_once_one_starts(root: Operator, make: MakeServer) -> None:
    made = make(root, "twice", *SERVER_USERS, port=OTHER_PORT)
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: made("start"), range(2)))

    assert min(one.code for one in both) == 0, both
    assert set(made.pids()) == {"link", "coordinator", "proxy"}
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(made.path)]
    assert len([one for one in commands if b"supervisor.supervisord" in one]) == 1
