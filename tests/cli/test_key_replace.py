"""`fedseg key replace`, and how verifiers on the command line follow it."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedseg.node.home import NodeHome
from tests.cli.conftest import Workspace

HOME = "run/nodes/north"


def answer(workspace: Workspace, *arguments: object) -> dict[str, Any]:
    """`data` of a command that ends well."""
    ended = workspace.cli.here(*arguments, "--format", "json")
    assert ended.code == 0, ended.err
    data: dict[str, Any] = ended.envelope["data"]
    return data


def replace(workspace: Workspace) -> dict[str, Any]:
    return answer(workspace, "key", "replace", "--node", HOME, "--yes")


def test_a_dry_run_says_whether_it_could_be_and_changes_nothing(workspace: Workspace) -> None:
    before = (workspace.folder / HOME / "ledger.db").read_bytes()
    found = answer(workspace, "key", "replace", "--node", HOME, "--dry-run")
    assert found["outcome"] == "could be replaced"
    assert found["public_key"] is None
    assert (workspace.folder / HOME / "ledger.db").read_bytes() == before
    said = workspace.cli.here("key", "replace", "--node", HOME, "--dry-run")
    assert said.out == "north: the key could be replaced now; nothing was changed\n"


def test_the_new_key_is_told_and_is_the_homes(workspace: Workspace) -> None:
    old = answer(workspace, "ledger", "verify", HOME)
    found = replace(workspace)
    new = NodeHome.open(workspace.folder / HOME).key.public
    assert (found["outcome"], found["unit"], found["entry"]) == ("replaced", "north", old["size"])
    assert (found["old_key"], found["public_key"]) == (old["public_key"], new.to_text())
    assert found["fingerprint"] == new.fingerprint()
    said = workspace.cli.here("key", "replace", "--node", HOME, "--yes").out
    assert "north: key replaced, as entry 7 of its ledger says" in said
    assert NodeHome.open(workspace.folder / HOME).key.public.fingerprint() in said


def test_it_asks_a_person_and_no_script(workspace: Workspace) -> None:
    ended = workspace.cli("key", "replace", "--node", HOME)
    assert (ended.code, ended.error[0]) == (2, "E201: nobody is here to replace the key")


def test_verify_takes_either_key_and_states_the_new_one(workspace: Workspace) -> None:
    found = replace(workspace)
    for key in (found["old_key"], found["public_key"]):
        verified = answer(workspace, "ledger", "verify", HOME, "--key", key)
        assert verified["public_key"] == found["public_key"]
        said = workspace.cli.here("ledger", "verify", HOME, "--key", key).out
        words = "the key you named" if key == found["public_key"] else "which has replaced the key you named"
        assert f"key        {found['fingerprint']} ({words})" in said
    other = answer(workspace, "ledger", "verify", "run/nodes/south")["public_key"]
    assert workspace.cli.here("ledger", "verify", HOME, "--key", other).code == 9


def test_a_whole_run_is_audited_as_before(workspace: Workspace) -> None:
    replace(workspace)
    answer(workspace, "audit", "bundle", "--from", "run", "--out", "run.zip")
    found = answer(workspace, "audit", "verify", "run.zip", "--keys", "run/plan.toml")
    assert found["verified"]
    assert any("north has replaced its key" in one for one in found["remarks"])
    said = workspace.cli.here("audit", "verify", "run.zip", "--keys", "run/plan.toml").out
    assert said.count("(the key you named, or one that has replaced it)") == 1
    assert workspace.cli.here("report", "run").code == 0
    assert [one["key_from"] for one in found["ledgers"] if one["origin"] == "fedseg/unit/north"] == ["given"]


@pytest.fixture
def changes(workspace: Workspace) -> list[str]:
    """The key before each of two changes; proofs `0` and `1` of the changes; proof `3` of an entry, and `then.txt`."""
    workspace.write("then.txt", answer(workspace, "ledger", "checkpoint", HOME)["note"])
    keys: list[str] = []
    for number in range(2):
        seq = replace(workspace)["entry"]
        data = answer(workspace, "ledger", "prove", HOME, seq, "--out", str(number))
        assert (data["size"], data["index"]) == (seq + 1, seq)
        keys.append(data["verifier_key"])
    assert answer(workspace, "ledger", "checkpoint", HOME)["verifier_key"] == keys[-1]
    answer(workspace, "ledger", "prove", HOME, 3, "--out", "3")
    return keys


def check(workspace: Workspace, *arguments: object) -> int:
    return workspace.cli.here("ledger", "check-proof", *arguments).code


def test_a_proof_is_followed_from_the_old_key_by_proofs_of_the_changes(
    workspace: Workspace, changes: list[str]
) -> None:
    first, second = changes
    assert check(workspace, "3", "--key", second) == 0
    assert check(workspace, "3", "--key", first) == 9
    assert check(workspace, "3", "--key", first, "--change", "0") == 0
    assert check(workspace, "3", "--key", first, "--change", "0", "--change", "1") == 0
    assert check(workspace, "3", "--key", first, "--change", "1") == 9
    assert check(workspace, "0", "--key", first) == 0
    workspace.write("policy", f"log {first}\nquorum none\n")
    assert check(workspace, "3", "--policy", "policy", "--change", "0") == 0


def test_the_old_keys_word_counts_for_the_time_before_the_change(workspace: Workspace, changes: list[str]) -> None:
    size = json.loads(workspace.cli.here("ledger", "checkpoint", HOME, "--format", "json").out)["data"]["size"]
    answer(workspace, "ledger", "prove", HOME, "--from", size - 2, "--out", "growth")
    arguments = ("growth", "--old", "then.txt", "--key", changes[0])
    assert check(workspace, *arguments) == 9
    assert check(workspace, *arguments, "--change", "0") == 0


def test_a_proof_of_something_else_is_no_change(workspace: Workspace, changes: list[str]) -> None:
    early = Path(workspace.folder / "early")
    answer(workspace, "ledger", "prove", "run/nodes/south", 3, "--out", early)
    assert check(workspace, "3", "--key", changes[0], "--change", early) == 9
    assert check(workspace, "3", "--key", changes[1], "--change", early) == 0
