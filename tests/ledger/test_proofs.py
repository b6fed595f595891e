"""Proofs as files: anyone with the log's key can check them, and nothing in them can be changed."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint
from fedseg.ledger.database import USER_VERSION
from fedseg.ledger.entries import ENTRY_LIMIT_BYTES
from fedseg.ledger.keys import SigningKey, encode_base64
from fedseg.ledger.merkle import EMPTY_ROOT
from fedseg.ledger.notes import NOTE_LIMIT
from fedseg.ledger.proof import (
    FILE_LIMIT,
    PROOF_HEADER,
    ConsistencyProof,
    InclusionProof,
    prove_consistency,
    prove_inclusion,
)
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.store import Ledger
from fedseg.ledger.witness_policy import WitnessPolicy

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def raw(ledger: Ledger) -> RawLedger:
    """Nine entries, in nine checkpoints after the first two."""
    for round_ in range(5):
        with ledger.transaction() as transaction:
            transaction.append("charge", {"round": round_})
    return read_ledger(ledger.path)


def checkpoint_of(raw: RawLedger, note: str) -> Checkpoint:
    return WitnessPolicy.of_log(raw.verifier_key).check(note, NOW).checkpoint


def verify(raw: RawLedger, text: str) -> None:
    """Check a proof as a file, with the entry in it."""
    proof = InclusionProof.from_text(text)
    proof.verify(proof.extra or b"", checkpoint_of(raw, proof.note))


def test_every_entry_is_proved_to_be_where_it_is(raw: RawLedger) -> None:
    for seq, entry in enumerate(raw.entries):
        text = prove_inclusion(raw, seq).to_text()
        assert InclusionProof.from_text(text).extra == entry.to_bytes()
        verify(raw, text)


def test_a_proof_has_the_lines_of_the_specification(raw: RawLedger) -> None:
    proof = prove_inclusion(raw, 3)
    lines = proof.to_text().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == f"extra {encode_base64(raw.entries[3].to_bytes())}"
    assert lines[2] == "index 3"
    assert lines[3:7] == [encode_base64(one) for one in proof.hashes]
    assert "\n".join(lines[8:]) == raw.notes[-1][1]
    assert lines[7] == ""


def test_a_proof_without_the_entry_is_read_as_well(raw: RawLedger) -> None:
    text = prove_inclusion(raw, 3).to_text()
    bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("extra "))
    proof = InclusionProof.from_text(bare)
    assert proof.extra is None
    assert proof.to_text() == bare
    proof.verify(raw.entries[3].to_bytes(), checkpoint_of(raw, proof.note))


def test_a_proof_of_another_entry_place_or_tree_proves_nothing(raw: RawLedger) -> None:
    proof = prove_inclusion(raw, 3)
    checkpoint = checkpoint_of(raw, proof.note)
    for index, entry, tree in [
        (3, raw.entries[4].to_bytes(), checkpoint),
        (4, raw.entries[3].to_bytes(), checkpoint),
        (3, raw.entries[3].to_bytes(), Checkpoint(raw.origin, 9, EMPTY_ROOT)),
        (3, raw.entries[3].to_bytes(), Checkpoint(raw.origin, 3, checkpoint.root)),
    ]:
        with pytest.raises(VerificationError, match="does not show"):
            InclusionProof(index, proof.hashes, proof.note).verify(entry, tree)


def test_any_changed_character_of_a_proof_is_found(raw: RawLedger) -> None:
    text = prove_inclusion(raw, 5).to_text()
    for place in range(len(text)):
        changed = text[:place] + ("7" if text[place] != "7" else "8") + text[place + 1 :]
        with pytest.raises(VerificationError):
            verify(raw, changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 3", "index 03"),
        ("index 3", "index -3"),
        ("index 3", "index +3"),
        ("index 3", "index"),
        ("index 3", "index 9999999999999999999"),
        ("index 3\n", ""),
        ("extra ", "extra"),
        ("extra ", "extra !"),
        ("\n\n", "\n"),
        ("\n\n", "\nAAAA\n\n"),
        ("\n\n", "\n" + "A" * 43 + "=\n" * 60 + "\n"),
        ("\n", "\r\n"),
        ("index 3", "index 3\n" + "\n".join(["A" * 43 + "="] * 64)),
    ],
)
def test_another_spelling_of_a_proof_is_refused(raw: RawLedger, old: str, new: str) -> None:
    text = prove_inclusion(raw, 3).to_text()
    assert old in text
    with pytest.raises(VerificationError, match="proof does not check out"):
        InclusionProof.from_text(text.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "\n", "\n\n", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\n\n", "x" * 99])
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        InclusionProof.from_text(text)
    with pytest.raises(VerificationError):
        ConsistencyProof.from_text(text)


def test_a_proof_beyond_the_limit_is_not_read(raw: RawLedger) -> None:
    with pytest.raises(VerificationError):
        InclusionProof.from_text(prove_inclusion(raw, 1).to_text() + " " * FILE_LIMIT)
    with pytest.raises(VerificationError):
        ConsistencyProof.from_text(prove_consistency(raw, 1).to_text() + " " * FILE_LIMIT)


def test_the_limit_leaves_room_for_the_longest_proof_that_there_is(raw: RawLedger) -> None:
    entry, hashes = encode_base64(bytes(ENTRY_LIMIT_BYTES)), 63 * 45
    assert len(PROOF_HEADER) + len(entry) + hashes + NOTE_LIMIT + 99 < FILE_LIMIT < 2 * NOTE_LIMIT
    for text in (prove_inclusion(raw, 1).to_text(), prove_consistency(raw, 1).to_text()):
        read = InclusionProof.from_text if text.startswith(PROOF_HEADER) else ConsistencyProof.from_text
        longest = text + " " * (FILE_LIMIT - len(text))
        assert read(longest).note.rstrip(" ") == raw.notes[-1][1]
        with pytest.raises(VerificationError):
            read(longest + " ")


def test_a_path_is_no_longer_than_that_in_the_largest_tree_with_a_checkpoint(raw: RawLedger) -> None:
    note, one = raw.notes[-1][1], encode_base64(bytes(32))
    for head, read in (("c2sp.org/tlog-proof@v1\nindex 0", InclusionProof), ("old 1", ConsistencyProof)):
        assert len(read.from_text("\n".join([head, *[one] * 63, "", note])).hashes) == 63
        with pytest.raises(VerificationError):
            read.from_text("\n".join([head, *[one] * 64, "", note]))


def test_a_proof_of_growth_without_a_checkpoint_is_refused(raw: RawLedger) -> None:
    head, _, _ = prove_consistency(raw, 3).to_text().partition("\n\n")
    for text in (head, f"{head}\n"):
        with pytest.raises(VerificationError, match="no checkpoint"):
            ConsistencyProof.from_text(text)


def test_a_ledger_is_proved_to_extend_each_of_its_checkpoints(raw: RawLedger) -> None:
    for size, note in raw.notes:
        proof = ConsistencyProof.from_text(prove_consistency(raw, size).to_text())
        proof.verify(checkpoint_of(raw, note), checkpoint_of(raw, proof.note))


def test_a_proof_of_growth_is_the_request_that_a_witness_takes(raw: RawLedger) -> None:
    proof = prove_consistency(raw, 3)
    head, note = proof.to_text().split("\n\n", 1)
    assert head.split("\n") == ["old 3", *(encode_base64(one) for one in proof.hashes)]
    assert note == raw.notes[-1][1]


def test_growth_from_another_size_root_or_log_is_not_proved(raw: RawLedger) -> None:
    proof = prove_consistency(raw, 3)
    old, new = checkpoint_of(raw, raw.notes[1][1]), checkpoint_of(raw, proof.note)
    proof.verify(old, new)
    for before, after in [
        (Checkpoint(raw.origin, 4, old.root), new),
        (Checkpoint(raw.origin, 3, EMPTY_ROOT), new),
        (Checkpoint("other.example", 3, old.root), new),
        (old, Checkpoint(raw.origin, 8, new.root)),
        (old, Checkpoint(raw.origin, 9, EMPTY_ROOT)),
        (new, old),
    ]:
        with pytest.raises(VerificationError, match="does not show"):
            proof.verify(before, after)


def test_any_changed_hash_of_a_proof_of_growth_is_found(raw: RawLedger) -> None:
    proof, rng = prove_consistency(raw, 3), random.Random(3)
    old, new = checkpoint_of(raw, raw.notes[1][1]), checkpoint_of(raw, proof.note)
    for place, whole in enumerate(proof.hashes):
        bad = bytearray(whole)
        bad[rng.randrange(32)] ^= 1 << rng.randrange(8)
        hashes = (*proof.hashes[:place], bytes(bad), *proof.hashes[place + 1 :])
        with pytest.raises(VerificationError, match="does not show"):
            ConsistencyProof(3, hashes, proof.note).verify(old, new)


@pytest.mark.parametrize("head", ["old", "old 03", "old -1", "new 3", "old 3\nAAAA", "old 3\n!", ""])
def test_another_spelling_of_a_proof_of_growth_is_refused(raw: RawLedger, head: str) -> None:
    with pytest.raises(VerificationError):
        ConsistencyProof.from_text(f"{head}\n\n{raw.notes[-1][1]}")


def test_nothing_is_proved_of_entries_that_are_not_there(raw: RawLedger) -> None:
    for seq in (-1, 9):
        with pytest.raises(ValueError, match="no leaf"):
            prove_inclusion(raw, seq)
    for size in (0, 10):
        with pytest.raises(ValueError, match="no consistency proof"):
            prove_consistency(raw, size)


@pytest.mark.parametrize("version", range(1, USER_VERSION + 1))
def test_a_ledger_of_every_version_so_far_is_read_and_goes_on(tmp_path: Path, key: SigningKey, version: int) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes((Path(__file__).parent / "vectors" / f"version-{version}.db").read_bytes())
    path.chmod(0o600)
    with Ledger.open(path, key) as ledger, ledger.transaction() as transaction:
        assert [entry.kind for entry in ledger.entries()] == ["genesis", "charge", "note", "charge"]
        assert transaction.payload("release-1") == b"first release"
        transaction.append("charge", {"round": 3})
    raw = read_ledger(path)
    assert [size for size, _ in raw.notes] == [1, 3, 4, 5]
    proof = prove_consistency(raw, 4)
    proof.verify(checkpoint_of(raw, raw.notes[2][1]), checkpoint_of(raw, proof.note))
