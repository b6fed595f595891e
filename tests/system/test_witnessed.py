"""Units whose policies name each other as witnesses: a whole deployment releases as before, and goes on from no copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedseg.ledger.notes import parse_note
from fedseg.node.witnessing import COSIGNED_FILE, ROLLED_BACK_FILE
from fedseg.privacy.entries import ReleaseBody, WitnessRules
from fedseg.privacy.witnessed import open_own
from tests.system.deployment import Federation, say
from tests.system.witnesses import witnessing

pytestmark = pytest.mark.deployment


@pytest.fixture
def witnessed(federation: Federation) -> Iterator[Federation]:
    """All three witnesses of each unit must agree, until the test ends."""
    with witnessing(federation, quorum=3):
        yield federation


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
