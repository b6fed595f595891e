"""Units whose policies name each other as witnesses: a whole deployment releases as before, and goes on from no copy."""

import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import tomli_w

from fedseg.ledger.notes import parse_note
from fedseg.node.witnessing import COSIGNED_FILE, ROLLED_BACK_FILE
from fedseg.privacy.entries import ReleaseBody, WitnessRules
from fedseg.privacy.witnessed import open_own
from tests.small_federation import policy_document
from tests.system.deployment import FEDSEG, Federation, Node, say, told

pytestmark = pytest.mark.deployment

AUDITOR = "auditor.example/w1"


def make_witness(node: Node) -> str:
    """The unit's key as a witness."""
    place = node.home / "LOCAL" / "witness"
    with suppress(AssertionError):  # it has one already
        told(node.machine, "witness", "init", place, "--name", f"fedseg/witness/{node.unit}", user=node.data)
    key: str = told(node.machine, "witness", "show", place, user=node.data)["verifier_key"]
    return key


@pytest.fixture
def auditor(federation: Federation) -> Iterator[str]:
    """Somebody who witnesses the units' logs at an address that the server's operator has named; the key."""
    place, server = federation.path / "auditor", federation.server
    key: str = told(server.machine, "witness", "init", place, "--name", AUDITOR)["verifier_key"]
    told(
        server.machine, "witness", "enrol", place,
        *(node.facts().raw.verifier_key.to_text() for node in federation.nodes.values()),
    )  # fmt: skip
    file = server.path / "deployment.toml"
    before = file.read_bytes()
    file.write_bytes(
        tomli_w.dumps(tomllib.loads(before.decode()) | {"witnesses": {AUDITOR: "http://127.0.0.1:8466"}}).encode()
    )
    server.fedseg("stop")
    server.fedseg("start")
    service = subprocess.Popen(server.machine.does([FEDSEG, "witness", "start", str(place), "--port", "8466"]))
    try:
        yield key
    finally:
        service.terminate()
        service.wait(timeout=30)
        file.write_bytes(before)


@pytest.fixture
def witnessed(federation: Federation, auditor: str) -> Iterator[Federation]:
    """The units ask for the word of both others and an auditor's, until the test ends, and witness the server."""
    keys = {unit: make_witness(node) for unit, node in federation.nodes.items()} | {"auditor": auditor}
    for node in federation.nodes.values():
        answer = federation.server.path / "answers" / f"{node.unit}.json"
        fingerprint = federation.server.fedseg("status")["fingerprint"]
        node.fedseg("check", "--answer", answer, "--fingerprint", fingerprint)
    for unit, node in federation.nodes.items():
        others = "".join(f"    {name}: {key}\n" for name, key in keys.items() if name != unit)
        policy = policy_document() + f"witnesses:\n  quorum: 3\n  keys:\n{others}".encode()
        (node.home / "policy.yaml").write_bytes(policy)
    yield federation
    for node in federation.nodes.values():
        (node.home / "policy.yaml").write_bytes(policy_document())


def copy_of(place: Path, to: Path) -> Path:
    """A copy with its owners and modes, as a snapshot of a machine has them."""
    shutil.copytree(place, to, symlinks=True)
    for one in (place, *place.rglob("*")):
        owner = one.lstat()
        shutil.chown(to / one.relative_to(place), owner.st_uid, owner.st_gid)
    return to


def test_a_witnessed_plan_is_published_and_a_unit_that_was_put_back_releases_nothing_more(
    witnessed: Federation,
) -> None:
    north = witnessed.nodes["north"]
    earlier = copy_of(north.home, witnessed.path / "earlier")
    job = witnessed.begin(witnessed=True)
    assert job.wait(seconds=120)["state"] == "finished"
    for node in witnessed.nodes.values():
        assert set(node.releases(job.plan)) == {0, 1, 2}
        facts = node.facts()
        rules = facts.account.caps.witnesses if facts.account.caps else None
        assert isinstance(rules, WitnessRules)
        note = (node.home / COSIGNED_FILE).read_text("utf-8")
        checkpoint, opened = open_own(note, facts.raw.history(), rules.verifier_keys)
        # All but the last release were cosigned by all three before it left, through the server.
        assert all(opened.by(key) for key in rules.verifier_keys)
        released = [place for place, one in enumerate(facts.raw.history().entries) if one.kind == ReleaseBody.kind]
        assert checkpoint.size > released[-2]
    cosigned = parse_note((witnessed.server.path / "server" / "cosigned.note").read_text("utf-8"))
    assert {one.name for one in cosigned.signatures} >= {"fedseg/server", "fedseg/witness/north"}

    north.fedseg("stop")
    newest = witnessed.path / "newest"
    north.home.rename(newest)
    shutil.move(copy_of(earlier, witnessed.path / "again"), north.home)
    (north.home / "policy.yaml").write_bytes((newest / "policy.yaml").read_bytes())
    north.fedseg("start")  # it cannot know yet that it is a copy
    second = witnessed.begin(witnessed=True, deadline_seconds=10)
    ended = say(
        second.server.machine, "job", "wait", second.name, "--server", second.server.path, "--timeout", 120, timeout=150
    )
    assert (ended.code, ended.err.splitlines()[-3][:4]) == (6, "E601"), ended.err  # a quorum of three without north
    assert north.releases(second.plan) == {}
    assert (north.home / ROLLED_BACK_FILE).exists()
    north.fedseg("stop")
    refused = say(north.machine, "node", "start", north.path)
    assert refused.code == 6
    assert "data.log says E904" in refused.err

    shutil.rmtree(north.home)
    newest.rename(north.home)
    north.fedseg("start")
    assert witnessed.begin(witnessed=True).wait(seconds=120)["state"] == "finished"
