"""A node joins a real server over TLS, is put out again, and goes on with new keys and certificates without a restart."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import (
    NODE_USERS,
    OTHER_PORT,
    PORT,
    SERVER_USERS,
    Node,
    Operator,
    Server,
    make_server,
    node_files,
    stop,
)
from tests.deploy.test_node_processes import shown, wait_for
from tests.deploy.test_server_processes import ask

pytestmark = pytest.mark.deployment


def newcomer(root: Operator, unit: str, *, port: int = PORT) -> Node:
    """A node that knows its server by name alone."""
    made = Node(root, root.folder / unit)
    files = node_files(root.folder, unit, NODE_USERS[3])
    ended = made("init", *files, "--server", f"localhost:{port}", *NODE_USERS)
    assert ended.code == 0, ended.err
    return made


def answered(server: Server, node: Node) -> Path:
    """The server's answer, of one operator."""
    asked = node.json("request")
    return Path(server.json("approve", asked["request"], "--fingerprint", asked["fingerprint"])["answer"])


@pytest.fixture
def joining(root: Operator, request: pytest.FixtureRequest) -> Iterator[Node]:
    made = newcomer(root, f"joining-{abs(hash(request.node.name)) % 10**6}")
    yield made
    stop(made)


def checked(node: Node, *options: object) -> dict[str, str]:
    """What `fedseg node check` says of each thing, ready or not."""
    import json

    ended = node("check", *options, "--format", "json")
    data = json.loads(ended.out)["data"]
    assert data["ready"] is (ended.code == 0)
    return {one["name"]: one["state"] for one in data["checks"]}


def test_a_node_joins_by_two_files_and_two_fingerprints(server: Server, joining: Node) -> None:
    before = joining("start")
    assert before.error[0] == f"E711: this node has not joined localhost:{PORT}"
    assert checked(joining)["joined"] == "fail"

    answer = answered(server, joining)
    told = server.json("status")["fingerprint"]
    found = checked(joining, "--answer", answer, "--fingerprint", told)

    assert {found[name] for name in ("users", "joined", "network", "tls", "clock", "ledger", "data")} == {"ok"}
    assert joining.json("start")["connected"] is True
    assert "is ONLINE" in joining("status").out
    assert joining.json("status")["server_fingerprint"] == told


def test_a_wrong_fingerprint_on_either_side_changes_nothing(server: Server, joining: Node) -> None:
    asked = joining.json("request")
    refused = server("approve", asked["request"], "--fingerprint", "0000" * 8)
    assert (refused.code, refused.error[0][:5]) == (7, "E711:")
    assert joining.path.name not in server.json("status")["units"]
    unasked = server("approve", asked["request"])
    assert (unasked.code, "--fingerprint" in unasked.error[2]) == (2, True)
    looked = server.json("approve", asked["request"], "--dry-run")
    assert (looked["fingerprint"], looked["node_id"]) == (asked["fingerprint"], None)

    answer = answered(server, joining)
    ended = joining("check", "--answer", answer, "--fingerprint", "0000" * 8)
    assert (ended.code, ended.error[0][:5]) == (7, "E711:")
    assert not (joining.path / "network" / "ca.crt").exists()


def test_an_answer_that_was_lost_is_written_again_and_a_new_request_needs_a_new_answer(
    server: Server, joining: Node
) -> None:
    old, asked = answered(server, joining), joining.json("status")
    again = server.json("approve", joining.path / "request.json", "--fingerprint", fingerprint_of(server, joining))
    assert again["outcome"] == "approved already"
    assert Path(again["answer"]) == old

    joining.json("request")
    ended = joining("check", "--answer", old, "--fingerprint", server.json("status")["fingerprint"])
    assert ended.error[0] == "E711: the answer is one to another request"
    assert asked["server_fingerprint"] is None


def fingerprint_of(server: Server, node: Node) -> str:
    found: str = server.json("approve", node.path / "request.json", "--dry-run")["fingerprint"]
    return found


def test_a_node_that_was_put_out_is_let_in_no_more(server: Server, joining: Node) -> None:
    answer = answered(server, joining)
    joining("check", "--answer", answer, "--fingerprint", server.json("status")["fingerprint"])
    assert joining.json("start")["connected"] is True
    told = fingerprint_of(server, joining)

    assert server("remove", joining.path.name).code == 2
    assert server.json("remove", joining.path.name, "--yes")["outcome"] == "removed"

    assert joining.path.name not in server.json("status")["units"]
    wait_for(lambda: joining.json("status")["connected"] is False, 90)
    joining("stop")
    assert joining("start").error[0].startswith("E709")
    replayed = server("approve", joining.path / "request.json", "--fingerprint", told)
    assert replayed.error[0] == "E711: this request was used before"


def test_a_nodes_key_is_replaced_while_it_runs(server: Server, joining: Node) -> None:
    answer = answered(server, joining)
    joining("check", "--answer", answer, "--fingerprint", server.json("status")["fingerprint"])
    before, pids = joining.json("start"), joining.pids()

    renewed = joining.json("renew")
    assert joining.json("status")["connected"] is True
    outcome = server.json("approve", renewed["request"], "--fingerprint", renewed["fingerprint"])
    assert outcome["renews"] is True
    ended = joining("check", "--answer", outcome["answer"])
    assert "joined" in ended.out

    wait_for(lambda: joining.json("status")["connected"] is True, 60)
    after = joining.json("status")
    assert after["node_key"] != before["node_key"]
    assert str(after["node_id"]) == str(outcome["node_id"]) != str(before["node_id"])
    assert joining.pids()["data"] == pids["data"]
    assert shown(server, joining)["online"] is True


def test_what_interrupted_commands_have_left_is_made_good_by_the_next(server: Server, joining: Node) -> None:
    from datetime import UTC, datetime

    from fedseg.deploy.enrolment import parse_request
    from fedseg.server.home import ServerHome
    from fedseg.server.roster import Candidate

    asked, now = joining.json("request"), datetime.now(UTC)
    document = Path(asked["request"]).read_bytes()
    made = parse_request(document)
    roster = ServerHome.open(server.path / "server").roster()
    roster.admit(Candidate(made.unit, made.unit_key, made.node_key, made.digest, document), None, now=now)
    assert made.unit not in {one["unit"] for one in server.json("status")["nodes"]}

    again = server.json("approve", asked["request"], "--fingerprint", asked["fingerprint"])
    assert (again["outcome"], again["node_id"] is None) == ("approved already", False)
    assert made.unit in {one["unit"] for one in server.json("status")["nodes"]}

    roster.remove(made.unit, None, now=now)
    assert made.unit in {one["unit"] for one in server.json("status")["nodes"]}
    assert server("remove", made.unit, "--yes").error[0] == f"E201: no unit {made.unit} belongs to this server"
    assert made.unit not in {one["unit"] for one in server.json("status")["nodes"]}


def serial(port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return ssl.get_server_certificate(("localhost", port))


def test_the_servers_certificate_is_renewed_while_it_runs(server: Server, connected: Node) -> None:
    before, pids, node_id = serial(PORT), server.pids(), connected.json("status")["node_id"]

    assert server.json("renew")["outcome"] == "renewed"

    wait_for(lambda: serial(PORT) != before, 20)
    assert server.pids() == pids
    assert ask(server, "GET", "/health")[0] == 200
    assert connected.json("status")["node_id"] == node_id
    assert checked(connected)["tls"] == "ok"


def test_without_the_authoritys_key_nothing_is_renewed(server: Server) -> None:
    key = server.path / "ca" / "ca.key"
    away = key.rename(key.with_name("away"))
    try:
        ended = server("renew")
    finally:
        away.rename(key)
    assert ended.error[0] == "E204: the authority's key is not here"


def test_two_officers_let_a_unit_in_and_put_it_out(root: Operator) -> None:
    names = ("ann", "bob")
    keys = {name: root.json("key", "new", root.folder / f"{name}.key")["public_key"] for name in names}
    officers = [word for name, key in keys.items() for word in ("--officer", f"{name}={key}")]
    server = make_server(root, "officers", *SERVER_USERS, *officers, port=OTHER_PORT)
    node = newcomer(root, "counted", port=OTHER_PORT)
    asked = node.json("request")
    told = ["approve", asked["request"], "--fingerprint", asked["fingerprint"]]
    ann, bob = (["--officer", name, "--officer-key", root.folder / f"{name}.key"] for name in names)
    try:
        assert server(*told, *ann).code == 6, "the server does not run"
        server.json("start")
        assert server(*told).code == 7
        assert server.json(*told, *ann)["outcome"] == "signed; waits for 1 more officer"
        assert server(*told, *ann[:2], "--officer-key", root.folder / "bob.key").code == 7
        assert server.json("status")["nodes"] == []
        second = server.json(*told, *bob)
        assert (second["outcome"], second["approving"]) == ("approved", ["ann", "bob"])
        assert [one["unit"] for one in server.json("status")["nodes"]] == ["counted"]
        assert "any two let units in" in server("status").out

        out = ["remove", "counted", "--yes"]
        assert server.json(*out, *bob)["waits_for"] == 1
        assert server.json(*out, *ann)["outcome"] == "removed"
        assert server.json("status")["nodes"] == []

        carol = root.json("key", "new", root.folder / "carol.key")["public_key"]
        others = ["officers", "--new", f"ann={keys['ann']}", "--new", f"carol={carol}"]
        assert server(*others).code == 7
        assert server.json(*others, *ann)["waits_for"] == 1
        assert server.json(*others, *bob)["outcome"] == "changed"
        assert server.json("status")["officers"] == ["ann", "carol"]
    finally:
        stop(server)


def test_one_operator_is_named_in_every_status(server: Server) -> None:
    assert "SINGLE OPERATOR" in server("status").out
    assert server.json("status")["single_operator"] is True


def test_a_registered_node_that_the_roster_has_not_let_in_is_asked_nothing(server: Server) -> None:
    from fedseg.deploy.certificates import new_node_key
    from fedseg.deploy.settings import ServerDeployment
    from fedseg.federation.coordinator import on_the_roster
    from fedseg.federation.flower.link import Link
    from fedseg.server.home import ServerHome

    deployment = ServerDeployment.open(server.path)
    with Link(deployment.socket) as link:
        node_id = link.register("smuggled", new_node_key("smuggled").public)
        belongs = on_the_roster(ServerHome.open(deployment.home))
        assert [one.unit for one in link.nodes() if one.unit == "smuggled" and belongs(one)] == []
        link.unregister(node_id)
        link.unregister(node_id)
        assert "smuggled" not in {one.unit for one in link.nodes()}
