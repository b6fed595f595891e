"""A node as real processes: what each of them can reach, and what stops a start."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fedseg.deploy.certificates import new_authority
from fedseg.deploy.users import account, confined, readable
from fedseg.node.home import NodeHome
from tests.deploy.conftest import (
    NAMES,
    NODE_USERS,
    PORT,
    Node,
    Operator,
    Server,
    approve,
    node_files,
    processes_of,
    stop,
)

pytestmark = pytest.mark.deployment

NETWORK, DATA = NAMES[2:]


def wait_for(look: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.2)


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text("utf-8").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def shown(server: Server, node: Node) -> dict[str, object]:
    """What the server's status says of a node."""
    (found,) = [one for one in server.json("status")["nodes"] if one["unit"] == node.path.name]
    return dict(found)


def change_server(node: Node, address: str) -> None:
    terms = node.path / "deployment.toml"
    terms.write_text(terms.read_text("utf-8").replace(f"localhost:{PORT}", address), "utf-8")


def test_a_node_runs_with_its_two_users_apart(connected: Node, server: Server) -> None:
    pids, status = connected.pids(), connected.json("status")

    assert status["connected"] is True
    assert shown(server, connected)["online"] is True
    assert shown(server, connected)["node_id"] == status["node_id"]
    assert {name: Path(f"/proc/{pid}").owner() for name, pid in pids.items()} == {"network": NETWORK, "data": DATA}
    for pid in pids.values():
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        found = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert (found["NoNewPrivs"], found["Groups"]) == ("1", "")
        assert {found[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert {*environment_of(pid)} - {"PWD"} == {
            *("PATH", "LANG", "HOME", "FLWR_HOME", "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK"),
            *("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "PYTHONDONTWRITEBYTECODE"),
            *("SUPERVISOR_ENABLED", "SUPERVISOR_PROCESS_NAME", "SUPERVISOR_GROUP_NAME", "SUPERVISOR_SERVER_URL"),
            "FEDSEG_LOG_FORMAT",
        }


def test_the_data_process_has_no_network(connected: Node) -> None:
    pid = connected.pids()["data"]

    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    interfaces = Path(f"/proc/{pid}/net/dev").read_text("utf-8").splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"]
    assert subprocess.run(inside, capture_output=True, check=False).returncode != 0


def test_neither_user_can_read_what_is_the_others(connected: Node) -> None:
    network, data = account(NETWORK), account(DATA)
    customers = Path(NodeHome.open(connected.path / "unit").settings.source.path)
    of_data = [connected.path / "unit", connected.path / "unit" / "ledger.db", customers]
    of_network = [connected.path / "network", connected.path / "network" / "node.key"]
    of_root = [connected.path / "supervisor", connected.path / "logs" / "data.log"]

    assert readable(data, of_data) == of_data
    assert readable(network, of_network) == of_network
    assert not readable(network, of_data + of_root)
    assert not readable(data, of_network + of_root)


def test_nobody_else_may_open_the_socket_between_them(connected: Node) -> None:
    attempt = f"import socket; socket.socket(socket.AF_UNIX).connect({str(connected.path / 'run' / 'runtime.sock')!r})"
    outcome = {
        name: subprocess.run(
            [*confined(account(name)), connected.operator.python, "-c", attempt], capture_output=True, check=False
        ).returncode
        for name in (DATA, NAMES[0], "nobody")
    }
    assert outcome == {DATA: 0, NAMES[0]: 1, "nobody": 1}


def test_the_logs_can_be_read_and_followed(connected: Node) -> None:
    both = connected.json("logs", "--lines", "2")["logs"]
    assert [len(both[name]) for name in ("network", "data")] == [2, 2]
    assert set(connected.json("logs", "--process", "data")["logs"]) == {"data"}
    assert connected("logs", "--follow", "--format", "json").code == 2

    command = connected.operator.words("node", "logs", connected.path, "--process", "data", "--follow", "--lines", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline().strip() == both["data"][-1]
            with (connected.path / "logs" / "data.log").open("a", encoding="utf-8") as log:
                log.write("one more\n")
            assert following.stdout.readline() == "one more\n"
        finally:
            os.killpg(following.pid, signal.SIGINT)
        assert following.wait(10) == 0


def test_it_signs_off_and_comes_back_under_the_same_id(connected: Node, server: Server) -> None:
    before = connected.json("status")["node_id"]
    assert connected.json("stop")["outcome"] == "stopped"
    assert shown(server, connected)["online"] is False
    assert connected.json("status")["connected"] is False
    assert connected.json("stop")["outcome"] == "did not run"

    again = connected.json("start")
    assert (again["outcome"], again["node_id"]) == ("started", before)
    assert connected.json("start")["outcome"] == "runs already"


def test_what_a_killed_supervisor_has_left_is_ended_before_the_next_start(connected: Node) -> None:
    words = Path(f"/proc/{connected.pids()['data']}/cmdline").read_text("utf-8").split("\0")[:-1]
    connected("stop")
    with subprocess.Popen([*confined(account(DATA), network=False), *words]) as left:
        assert connected.json("start")["outcome"] == "started"
        assert left.wait(1) in (0, -signal.SIGTERM)  # whether or not it had come as far as its own handler
    assert connected.pids()["data"] != left.pid


def test_a_killed_data_process_comes_back(connected: Node) -> None:
    before = connected.pids()
    os.kill(before["data"], signal.SIGKILL)

    wait_for(lambda: connected.pids().get("data", before["data"]) != before["data"], 20)
    assert connected.pids()["network"] == before["network"]


def test_a_node_that_nobody_has_approved_is_told_whom_to_ask(node: Node) -> None:
    ended = node("start")

    assert ended.code == 7
    assert ended.error[0] == f"E709: localhost:{PORT} does not let this node in"
    assert f"fedseg node request {node.path}" in ended.error[2]
    assert not processes_of(node.path)


@pytest.mark.parametrize(
    ("address", "code", "exit_code"),
    [("localhost:9", "E603", 6), (f"127.0.0.1:{PORT}", "E707", 7)],
    ids=["nobody there", "another name"],
)
def test_a_server_that_is_not_there_or_has_another_name_stops_the_start(
    address: str, code: str, exit_code: int, node: Node
) -> None:
    change_server(node, address)
    ended = node("start")

    assert (ended.code, ended.error[0].partition(":")[0]) == (exit_code, code)
    assert not processes_of(node.path)


def test_a_server_of_another_authority_stops_the_start(node: Node) -> None:
    from datetime import UTC, datetime

    (node.path / "network" / "ca.crt").write_bytes(new_authority(datetime.now(UTC)).certificate)
    ended = node("start")

    assert ended.code == 7
    assert ended.error[0].startswith("E707")
    assert not processes_of(node.path)


@pytest.mark.parametrize(("offset", "said"), [("+20s", "(19|20|21) s ahead of"), ("-400s", "(399|400) s behind")])
def test_a_wrong_clock_stops_the_start(offset: str, said: str, node: Node) -> None:
    assert shutil.which("faketime"), "needs faketime: apt-get install faketime"
    ended = node("start", under=("faketime", "-f", offset))

    assert ended.code == 7
    assert ended.error[0].startswith("E708")
    assert re.search(said, ended.error[0])
    assert not processes_of(node.path)


def test_a_data_process_that_keeps_ending_stops_the_start(server: Server, node: Node) -> None:
    approve(server, node)
    (node.path / "unit" / "LOCAL" / "keys" / "unit.key").chmod(0o644)
    ended = node("start")

    assert ended.code == 6
    assert ended.error[0] == "E604: the node did not start, and has been stopped again"
    assert "data, which has ended 3 times, with exit code 7" in ended.error[1]
    assert "data.log says E706" in ended.error[1]
    assert not processes_of(node.path)


def test_a_replaced_unit_key_is_stated_and_belongs_to_the_data_user(node: Node) -> None:
    before = node.json("status")["unit_key"]
    home = node.path / "unit"
    new = node.operator.json("key", "replace", "--node", home, "--yes")["public_key"]

    assert node.json("status")["unit_key"] == new != before
    assert {path.owner() for path in [home, *home.rglob("*")]} == {DATA}
    (home / "LOCAL" / "keys" / "unit.key").chmod(0o644)
    assert node.json("status")["unit_key"] == before


def test_a_ledger_that_was_changed_stops_the_start(server: Server, node: Node) -> None:
    approve(server, node)
    with closing(sqlite3.connect(node.path / "unit" / "ledger.db")) as connection:
        connection.execute("UPDATE checkpoint SET size = 2")
        connection.commit()
    account_of_data = account(DATA)
    for file in (node.path / "unit").glob("ledger.db*"):
        os.chown(file, account_of_data.uid, account_of_data.gid)
    ended = node("start")

    assert ended.code == 6
    assert "data, which has ended 3 times, with exit code 9" in ended.error[1]
    assert "data.log says E901" in ended.error[1]
    assert not processes_of(node.path)


def test_data_that_the_network_user_can_read_stops_everything(node: Node) -> None:
    customers = Path(NodeHome.open(node.path / "unit").settings.source.path)
    customers.chmod(0o644)
    ended = node("start")

    assert ended.code == 2
    assert ended.error[0] == f"E204: the user {NETWORK} can read {customers}"
    assert ended.error[2] == f"fix: chown {DATA} {customers} && chmod 600 {customers}"


def test_each_piece_belongs_to_its_user_alone(node: Node) -> None:
    found = {
        str(one.relative_to(node.path)): f"{one.stat().st_mode & 0o7777:04o} {one.owner()}:{one.group()}"
        for one in [node.path, *node.path.rglob("*")]
    }
    unit = {name: value for name, value in found.items() if name.startswith("unit")}

    assert {name: value for name, value in found.items() if name not in unit} == {
        ".": "0755 root:root",
        "deployment.toml": "0644 root:root",
        "node.pub": "0644 root:root",
        "network": f"0700 {NETWORK}:{NETWORK}",
        "network/node.key": f"0600 {NETWORK}:{NETWORK}",
        "network/ca.crt": f"0644 {NETWORK}:{NETWORK}",
        "run": f"2750 {NETWORK}:{DATA}",
        "logs": "0755 root:root",
        "supervisor": "0700 root:root",
    }
    assert set(unit.values()) == {f"0700 {DATA}:{DATA}", f"0600 {DATA}:{DATA}"}
    assert (node.path / "unit" / "LOCAL" / "keys" / "unit.key").exists()


def init(root: Operator, server: Server, *options: object, unit: str = "tried") -> tuple[int, str]:
    """Exit code and first line of an init that must fail and leave nothing."""
    files = node_files(root.folder, unit, DATA)
    before = {path.name for path in root.folder.iterdir()}
    given = ["--server", f"localhost:{PORT}", "--ca", server.path / "ca.crt", *NODE_USERS]
    ended = root("node", "init", root.folder / "node-tried", *files, *given, *options)
    assert {path.name for path in root.folder.iterdir()} == before
    return ended.code, ended.error[0]


def test_a_failed_init_leaves_nothing(root: Operator, server: Server) -> None:
    (root.folder / "wrong.yaml").write_text("version: 1\nversion: 1\n", "utf-8")

    assert init(root, server, "--policy", root.folder / "wrong.yaml")[0] == 3
    assert init(root, server, "--subject", "missing")[1].startswith("E802")
    assert init(root, server, "--data", root.folder / "missing.csv")[1].startswith(f"E204: the user {DATA} cannot read")
    assert init(root, server, "--data", root.folder / "no-end")[1].startswith("E201: nobody can say how no-end is")
    assert init(root, server, "--ca", server.path / "deployment.toml")[1].startswith("E707")
    assert init(root, server, "--server", "localhost")[1].startswith("E201: server")
    assert init(root, server, "--unit", "Tried")[1].startswith("E201: unit")
    assert init(root, server, "--data-user", NETWORK)[1].startswith("E204")
    assert init(root, server, "--data-user", "no-such-user")[1].startswith("E204: this machine has no user")


def test_a_rehearsal_is_called_one_wherever_someone_looks(alone: Operator, server: Server) -> None:
    made = single(alone, server, "rehearsal", "--rehearsal-seed", "3")

    assert "REHEARSAL" in made("status").out
    assert made.json("status")["noise"] == "simulated"


def single(alone: Operator, server: Server, unit: str, *options: object) -> Node:
    """A node of one user, who is an ordinary one."""
    made = Node(alone, alone.folder / unit)
    files = node_files(alone.folder, unit, "nobody" if os.geteuid() == 0 else None)
    given = ["--server", f"localhost:{PORT}", "--ca", server.path / "ca.crt", "--single-user"]
    ended = made("init", *files, *given, *options)
    assert ended.code == 0, ended.err
    assert "NOTE one user runs everything here: a break-in at the network process" in ended.err
    return made


def test_an_ordinary_user_may_run_both_processes_and_the_data_process_still_has_no_network(
    alone: Operator, server: Server
) -> None:
    made = single(alone, server, "alone")
    approve(server, made)
    try:
        assert made.json("start")["connected"] is True
        pid = made.pids()["data"]
        interfaces = Path(f"/proc/{pid}/net/dev").read_text("utf-8").splitlines()[2:]
        assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]
        assert "CapEff:\t0000000000000000" in Path(f"/proc/{pid}/status").read_text("utf-8")
    finally:
        stop(made)


def test_where_the_kernel_gives_no_network_namespace_nothing_starts(alone: Operator, server: Server) -> None:
    made = single(alone, server, "forbidden")
    forbid = ["unshare", "--map-current-user", "--keep-caps", "sh", "-c"]
    inside = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all -- "$@"'
    before = (*alone.before, *forbid, inside, "sh")
    ended = Operator(alone.folder, alone.python, before)("node", "start", made.path)

    assert ended.code == 2
    assert ended.error[0] == "E204: the data process cannot be cut off from the network on this machine"
    assert "user.max_user_namespaces" in ended.error[2]
    assert not processes_of(made.path)


def test_root_does_not_start_what_belongs_to_another_user(alone: Operator, root: Operator, server: Server) -> None:
    made = single(alone, server, "theirs")
    ended = root("node", "start", made.path)

    assert ended.code == 2
    assert ended.error[0] == f"E204: {made.path} belongs to another user"
