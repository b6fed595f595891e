"""What a ledger shows to those who do not have it: checkpoints, proofs, exports, and their check on the command line."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.proof import InclusionProof
from fedseg.ledger.verifier_keys import VerifierKey
from tests.cli.conftest import Workspace

LEDGER = "run/nodes/north"
WITNESS = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
WITNESS_KEY = VerifierKey("auditor.example/w1", SignatureType.ED25519_COSIGNATURE, WITNESS.public)


def answer(workspace: Workspace, *arguments: object) -> dict[str, Any]:
    """`data` of a command that ends well."""
    ended = workspace.cli.here("ledger", *arguments, "--format", "json")
    assert ended.code == 0, ended.err
    data: dict[str, Any] = ended.envelope["data"]
    return data


def key_of(workspace: Workspace) -> str:
    return str(answer(workspace, "checkpoint", LEDGER)["verifier_key"])


@pytest.fixture
def cosigned(workspace: Workspace) -> Path:
    """A proof whose checkpoint a witness has cosigned a minute ago."""
    proof = InclusionProof.from_text(answer(workspace, "prove", LEDGER, 1)["proof"])
    note = cosign(proof.note, WITNESS_KEY.name, WITNESS, datetime.now(UTC) - timedelta(minutes=1))
    text = InclusionProof(proof.index, proof.hashes, note, proof.extra).to_text()
    path: Path = workspace.write("cosigned.tlog-proof", text)
    return path


def test_the_printed_checkpoint_is_the_newest_signed_note(workspace: Workspace) -> None:
    data = answer(workspace, "checkpoint", LEDGER)
    printed = workspace.cli("ledger", "checkpoint", LEDGER)
    assert (printed.code, printed.out) == (0, data["note"])
    assert data["note"].splitlines()[:2] == ["fedseg/unit/north", "6"]
    assert workspace.cli("ledger", "checkpoint", LEDGER, "--verifier-key").out == data["verifier_key"] + "\n"
    assert answer(workspace, "verify", LEDGER)["verifier_key"] == data["verifier_key"]


def test_a_proof_is_printed_or_written_the_same(workspace: Workspace) -> None:
    data = answer(workspace, "prove", LEDGER, 3, "--out", "3.tlog-proof")
    assert (workspace.folder / "3.tlog-proof").read_text() == data["proof"]
    assert workspace.cli("ledger", "prove", LEDGER, 3).out == data["proof"]
    assert (data["kind"], data["index"], data["size"]) == ("inclusion", 3, 6)


def test_a_proof_is_checked_with_nothing_but_the_logs_key(workspace: Workspace) -> None:
    key = key_of(workspace)
    workspace.write("3.tlog-proof", answer(workspace, "prove", LEDGER, 3)["proof"])
    data = answer(workspace, "check-proof", "3.tlog-proof", "--key", key)
    assert (data["verified"], data["kind"], data["index"], data["witnesses"]) == (True, "inclusion", 3, [])
    assert json.loads(data["entry"])["seq"] == 3
    assert "entry 3    {" in workspace.cli.here("ledger", "check-proof", "3.tlog-proof", "--key", key).out


def test_growth_since_an_earlier_checkpoint_is_proved_and_checked(workspace: Workspace) -> None:
    from fedseg.ledger.reading import read_ledger

    key, raw = key_of(workspace), read_ledger(workspace.folder / LEDGER / "ledger.db")
    workspace.write("then.txt", dict(raw.notes)[3])
    workspace.write("growth.txt", answer(workspace, "prove", LEDGER, "--from", 3)["proof"])
    data = answer(workspace, "check-proof", "growth.txt", "--old", "then.txt", "--key", key)
    assert (data["kind"], data["old_size"], data["size"]) == ("consistency", 3, 6)
    assert data["old_root"] == raw.history().root(3).hex()
    spoken = workspace.cli.here("ledger", "check-proof", "growth.txt", "--old", "then.txt", "--key", key).out
    assert "extends    the 3 entries" in spoken
    workspace.write("then.txt", dict(raw.notes)[4])
    assert workspace.cli.here("ledger", "check-proof", "growth.txt", "--old", "then.txt", "--key", key).code == 9


def test_a_policy_says_whose_word_is_enough(workspace: Workspace, cosigned: Path) -> None:
    key = key_of(workspace)
    rule = f"log {key}\nwitness auditor {WITNESS_KEY.to_text()}\nquorum auditor\n"
    workspace.write("policy.txt", rule)
    data = answer(workspace, "check-proof", cosigned, "--policy", "policy.txt")
    assert data["witnesses"] == [WITNESS_KEY.name]
    workspace.write("plain.tlog-proof", answer(workspace, "prove", LEDGER, 1)["proof"])
    ended = workspace.cli.here("ledger", "check-proof", "plain.tlog-proof", "--policy", "policy.txt")
    assert (ended.code, "quorum" in ended.err) == (9, True)
    workspace.write("witnesses.txt", rule.split("\n", 1)[1])
    assert answer(workspace, "check-proof", cosigned, "--policy", "witnesses.txt", "--key", key)["verified"]


def test_a_changed_proof_ends_in_the_exit_code_for_what_does_not_verify(workspace: Workspace) -> None:
    key, text = key_of(workspace), answer(workspace, "prove", LEDGER, 3)["proof"]
    for bad in (text.replace("index 3", "index 2"), text.replace("\n6\n", "\n5\n"), text[:-1], "", "old 3\n", "text"):
        workspace.write("bad.tlog-proof", bad)
        ended = workspace.cli.here("ledger", "check-proof", "bad.tlog-proof", "--key", key, "--old", "bad.tlog-proof")
        assert ended.code == 9, bad
    workspace.write("bad.tlog-proof", b"\xff\xfe")
    assert workspace.cli.here("ledger", "check-proof", "bad.tlog-proof", "--key", key).code == 9


def test_an_entry_that_is_not_in_the_proof_is_named(workspace: Workspace) -> None:
    key = key_of(workspace)
    proof = InclusionProof.from_text(answer(workspace, "prove", LEDGER, 3)["proof"])
    assert proof.extra is not None
    workspace.write("bare.tlog-proof", InclusionProof(3, proof.hashes, proof.note).to_text())
    workspace.write("entry.json", proof.extra)
    assert workspace.cli.here("ledger", "check-proof", "bare.tlog-proof", "--key", key).code == 2
    assert answer(workspace, "check-proof", "bare.tlog-proof", "--key", key, "--entry", "entry.json")["verified"]
    workspace.write("entry.json", proof.extra + b" ")
    ended = workspace.cli.here("ledger", "check-proof", "bare.tlog-proof", "--key", key, "--entry", "entry.json")
    assert ended.code == 9


@pytest.mark.parametrize(
    "arguments",
    [
        ["prove", LEDGER],
        ["prove", LEDGER, 1, "--from", 2],
        ["prove", LEDGER, 6],
        ["prove", LEDGER, "--from", 7],
        ["prove", LEDGER, "--from", 0],
        ["export", LEDGER],
        ["export", LEDGER, "--out", "a", "--tiles", "b"],
        ["export", LEDGER, "--tiles", "run"],
        ["check-proof", "plan.toml"],
        ["check-proof", "plan.toml", "--key", "nonsense"],
        ["check-proof", "plan.toml", "--policy", "plan.toml"],
    ],
)
def test_a_command_that_does_not_say_what_is_meant_is_usage(arguments: list[object], workspace: Workspace) -> None:
    ended = workspace.cli.here("ledger", *arguments)
    assert ended.code == 2, ended.err
    assert [line.split(":")[0] for line in ended.error[1:]] == ["why", "fix"]


def test_a_proof_of_growth_needs_the_earlier_checkpoint(workspace: Workspace) -> None:
    key = key_of(workspace)
    workspace.write("growth.txt", answer(workspace, "prove", LEDGER, "--from", 3)["proof"])
    assert workspace.cli.here("ledger", "check-proof", "growth.txt", "--key", key).code == 2


def test_a_ledger_that_was_changed_proves_nothing(workspace: Workspace) -> None:
    answer(workspace, "export", LEDGER, "--out", "ledger.txt")
    text = (workspace.folder / "ledger.txt").read_text()
    workspace.write("forged.txt", text.replace('"step":0', '"step":1', 1))
    for command in (["prove", "forged.txt", 1], ["checkpoint", "forged.txt"], ["export", "forged.txt", "--tiles", "t"]):
        assert workspace.cli.here("ledger", *command).code == 9
    assert not (workspace.folder / "t").exists()


def test_a_folder_of_tiles_is_a_ledger_to_every_command(workspace: Workspace) -> None:
    data = answer(workspace, "export", LEDGER, "--tiles", "tiles")
    assert (data["out"], data["size"]) == ("tiles", 6)
    live, tiles = (answer(workspace, "verify", path) for path in (LEDGER, "tiles"))
    assert live == tiles
    assert answer(workspace, "prove", "tiles", 2)["proof"] == answer(workspace, "prove", LEDGER, 2)["proof"]
    ended = workspace.cli.here("ledger", "export", LEDGER, "--tiles", "tiles")
    assert (ended.code, "not empty" in ended.err) == (2, True)
