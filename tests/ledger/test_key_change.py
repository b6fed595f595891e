"""A ledger's key is replaced: both keys sign it, everybody follows it, and the old key is good for nothing afterwards."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedseg.errors import KeyFileError, VerificationError
from fedseg.ledger.backup import back_up
from fedseg.ledger.canonical import Json
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fedseg.ledger.entries import Entry, Genesis, History
from fedseg.ledger.export import export_ledger, parse_export
from fedseg.ledger.key_change import LogKeys, open_key_change, sign_key_change
from fedseg.ledger.key_files import load_keys, next_key_path, save_next_key, settle_keys
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import leaf_hash
from fedseg.ledger.notes import SignatureType, sign_note
from fedseg.ledger.proof import InclusionProof, follow_key, prove_consistency, prove_inclusion
from fedseg.ledger.raw import RawLedger, check_log
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.store import Ledger
from fedseg.ledger.tiles import export_tiles, read_tiles
from fedseg.ledger.verifier_keys import VerifierKey, open_signed

ORIGIN = "unit.example/ledger"
HANDOVER = 5
"""The size of the checkpoint by which the first key of `changed` introduces the second."""


@pytest.fixture
def changed(ledger: Ledger, other_key: SigningKey) -> Ledger:
    """The ledger of four entries, then a change of key, then one entry more."""
    change(ledger, other_key)
    append(ledger)
    return ledger


def change(ledger: Ledger, new: SigningKey, **body: Json) -> Entry:
    with ledger.transaction() as transaction:
        return transaction.change_key(new, body)


def append(ledger: Ledger) -> None:
    with ledger.transaction() as transaction:
        transaction.append("note", {})


def with_note(raw: RawLedger, size: int, key: SigningKey | None) -> RawLedger:
    """The ledger with another key's signature under its checkpoint of this size, or without it."""
    others = [one for one in raw.notes if one[0] != size]
    if key is not None:
        others.append((size, sign_checkpoint(Checkpoint(raw.origin, size, raw.history().root(size)), key)))
    return replace(raw, notes=tuple(sorted(others)))


def forged(raw: RawLedger, body: dict[str, Any]) -> RawLedger:
    """Four entries, and a change of key that says this."""
    history = History().extended(
        [*(entry.to_bytes() for entry in raw.entries[:4]), Entry(4, "key_change", body).to_bytes()]
    )
    return RawLedger.from_history(history, raw.notes[:3], raw.payloads)


# What a change is


def test_the_old_key_signs_the_change_and_the_new_one_everything_after_it(
    changed: Ledger, key: SigningKey, other_key: SigningKey
) -> None:
    notes = dict(read_ledger(changed.path).notes)
    assert [open_checkpoint(notes[size], key.public, ORIGIN).size for size in (1, 3, 4, HANDOVER)] == [1, 3, 4, 5]
    assert open_checkpoint(notes[6], other_key.public, ORIGIN).size == 6
    assert changed.public_key == other_key.public
    assert changed.entries()[4].body["public_key"] == other_key.public.to_text()


def test_both_keys_are_keys_of_the_ledger_and_no_other_is(
    changed: Ledger, key: SigningKey, other_key: SigningKey
) -> None:
    raw = read_ledger(changed.path)
    for known in (key.public, other_key.public, None):
        assert check_log(raw, known).size == 6
    with pytest.raises(VerificationError, match="belongs to the key"):
        check_log(raw, SigningKey.generate().public)
    assert raw.keys().all == (key.public, other_key.public)
    assert [raw.keys().at_entry(seq) for seq in (0, 4, 5)] == [key.public, key.public, other_key.public]
    assert raw.public_key == key.public
    assert raw.verifier_key.public_key == other_key.public


def test_a_key_may_be_replaced_again_and_again_and_the_entry_may_say_more(ledger: Ledger, key: SigningKey) -> None:
    keys = [SigningKey.generate() for _ in range(3)]
    entries = [change(ledger, new, day="2025-06-01") for new in keys]
    assert entries[0].body.keys() == {"day", "public_key", "signature"}
    assert read_ledger(ledger.path).keys().all == (key.public, *(one.public for one in keys))
    assert check_log(read_ledger(ledger.path), keys[1].public).size == 7


def test_nothing_follows_a_change_in_its_transaction(ledger: Ledger, key: SigningKey, other_key: SigningKey) -> None:
    with pytest.raises(ValueError, match="nothing follows"), ledger.transaction() as transaction:  # noqa: PT012 - two steps
        transaction.change_key(other_key, {})
        transaction.append("note", {})
    assert len(Ledger.open(ledger.path, key).entries()) == 4


def test_a_key_that_was_replaced_does_not_come_back(changed: Ledger, key: SigningKey, other_key: SigningKey) -> None:
    for known in (key, other_key):
        with pytest.raises(ValueError, match="does not come back"):
            change(changed, known)


def test_only_change_key_writes_a_change(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="only change_key"), ledger.transaction() as transaction:
        transaction.append("key_change", {})


@pytest.mark.parametrize("taken", ["public_key", "signature", "payload"])
def test_what_a_change_says_of_its_own_it_alone_says(ledger: Ledger, other_key: SigningKey, taken: str) -> None:
    with pytest.raises(ValueError, match=taken):
        change(ledger, other_key, **{taken: "x"})
    assert len(ledger.entries()) == 4


# Who may open it


def test_after_the_change_the_old_key_opens_the_ledger_no_more(
    changed: Ledger, key: SigningKey, other_key: SigningKey
) -> None:
    with pytest.raises(VerificationError, match=f"belongs to the key {other_key.public.fingerprint()}"):
        Ledger.open(changed.path, key)
    with Ledger.open(changed.path, other_key) as ledger:
        append(ledger)
    assert check_log(read_ledger(changed.path), other_key.public).size == 7


def test_of_two_keys_the_one_in_force_is_used(ledger: Ledger, key: SigningKey, other_key: SigningKey) -> None:
    with Ledger.open(ledger.path, key, other_key) as before:
        append(before)
        assert before.public_key == key.public
    change(ledger, other_key)
    with Ledger.open(ledger.path, key, other_key) as after:
        append(after)
        assert after.public_key == other_key.public
    assert check_log(read_ledger(ledger.path), None).size == 7


def test_a_ledger_that_is_open_elsewhere_notices_that_its_key_was_replaced(
    ledger: Ledger, key: SigningKey, other_key: SigningKey
) -> None:
    elsewhere = Ledger.open(ledger.path, key)
    change(ledger, other_key)
    with pytest.raises(VerificationError, match="belongs to the key"):
        append(elsewhere)
    with pytest.raises(VerificationError, match="belongs to the key"):
        elsewhere.entries()


def test_a_change_that_is_not_committed_is_none(ledger: Ledger, key: SigningKey, other_key: SigningKey) -> None:
    with pytest.raises(RuntimeError, match="planned"), ledger.transaction() as transaction:  # noqa: PT012 - two steps
        transaction.change_key(other_key, {})
        raise RuntimeError("planned")
    append(ledger)
    assert check_log(read_ledger(ledger.path), key.public).size == 5


# What does not check out


@pytest.mark.parametrize("size", [HANDOVER, 6])
def test_another_keys_checkpoint_is_refused(changed: Ledger, size: int) -> None:
    raw = with_note(read_ledger(changed.path), size, SigningKey.generate())
    with pytest.raises(VerificationError, match="signed by another key"):
        check_log(raw, None)


def test_the_old_key_signs_nothing_after_the_change_and_the_new_one_nothing_before(
    changed: Ledger, key: SigningKey, other_key: SigningKey
) -> None:
    raw = read_ledger(changed.path)
    for size, signer in ((6, key), (HANDOVER, other_key)):
        with pytest.raises(VerificationError, match="signed by another key"):
            check_log(with_note(raw, size, signer), None)


def test_a_change_that_the_old_key_has_not_signed_is_refused(changed: Ledger, other_key: SigningKey) -> None:
    with pytest.raises(VerificationError, match="the key before has not signed that"):
        check_log(with_note(read_ledger(changed.path), HANDOVER, None), None)
    with closing(sqlite3.connect(changed.path, isolation_level=None)) as connection:
        connection.execute(f"DELETE FROM checkpoint WHERE size = {HANDOVER}")
    with pytest.raises(VerificationError, match="has not signed the change at 4"):
        Ledger.open(changed.path, other_key)


def test_whoever_has_the_old_key_cannot_put_another_history_before_the_new_one(
    changed: Ledger, tmp_path: Path, key: SigningKey, other_key: SigningKey
) -> None:
    true = read_ledger(changed.path).entries[4]
    other = Ledger.create(tmp_path / "other", origin=ORIGIN, key=key, body={"unit": "unit"})
    for _ in range(3):
        append(other)
    raw = read_ledger(other.path)
    history = raw.history().with_entries([true])
    stolen = with_note(RawLedger.from_history(history, raw.notes, {}), HANDOVER, key)
    with pytest.raises(VerificationError, match="has not signed the history that it takes over"):
        check_log(stolen, other_key.public)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda body: body | {"day": "2025-06-02"}, "has not signed"),
        (lambda body: body | {"public_key": SigningKey.generate().public.to_text()}, "has not signed"),
        (lambda body: body | {"signature": body["signature"].upper()}, "has not signed"),
        (lambda body: body | {"signature": "00" * 64}, "has not signed"),
        (lambda body: body | {"signature": "no hexadecimal digits"}, "malformed"),
        (lambda body: body | {"public_key": "AAAA"}, "malformed"),
        (lambda body: body | {"signature": 5}, "lacks"),
        (lambda body: {}, "lacks"),
    ],
)
def test_a_change_that_the_new_key_has_not_signed_as_it_stands_is_refused(
    ledger: Ledger, other_key: SigningKey, spoil: Callable[[dict[str, Any]], dict[str, Any]], why: str
) -> None:
    raw = read_ledger(ledger.path)
    before = Checkpoint(ORIGIN, 4, raw.history().root())
    body = sign_key_change(before, raw.public_key, other_key, {"day": "2025-06-01"})
    assert forged(raw, body).keys().in_force == other_key.public
    with pytest.raises(VerificationError, match=why):
        check_log(forged(raw, spoil(body)), None)


def test_a_key_cannot_be_made_to_come_back_in_a_ledger(changed: Ledger, key: SigningKey, other_key: SigningKey) -> None:
    raw = read_ledger(changed.path)
    before = Checkpoint(ORIGIN, 6, raw.history().root())
    entry = Entry(6, "key_change", sign_key_change(before, other_key.public, key, {}))
    with pytest.raises(VerificationError, match="was in force before"):
        LogKeys.of(raw.history().with_entries([entry]))


def test_an_entry_of_another_kind_changes_no_key(ledger: Ledger, key: SigningKey) -> None:
    before = Checkpoint(ORIGIN, 4, read_ledger(ledger.path).history().root())
    body = sign_key_change(before, key.public, SigningKey.generate(), {})
    with pytest.raises(VerificationError, match="lacks"):
        open_key_change(Entry(4, "note", body), before, key.public)


def test_a_history_knows_the_changes_among_its_own_entries_only(changed: Ledger, other_key: SigningKey) -> None:
    leaves = [entry.to_bytes() for entry in changed.entries()]
    shorter = History().extended(leaves[:4])
    whole = shorter.extended(leaves[4:])
    branch = shorter.with_entries([Entry(4, "note", {})])
    assert [len(one.key_changes) for one in (shorter, whole, branch)] == [0, 1, 0]
    assert whole.with_entries([Entry(6, "note", {})]).key_changes == whole.key_changes
    assert LogKeys.of(whole).in_force == other_key.public
    assert Genesis.of(whole).public_key != other_key.public


# Copies and proofs


def test_export_tiles_and_backup_keep_what_it_takes_to_follow_the_change(
    changed: Ledger, tmp_path: Path, key: SigningKey, other_key: SigningKey
) -> None:
    raw = read_ledger(changed.path)
    export_tiles(raw, tmp_path / "tiles")
    back_up(changed.path, tmp_path / "backup")
    tiles = read_tiles(tmp_path / "tiles")
    assert [size for size, _ in tiles.notes] == [HANDOVER, 6]
    for copy in (parse_export(export_ledger(raw)), tiles, read_ledger(tmp_path / "backup")):
        assert check_log(copy, key.public) == check_log(copy, other_key.public) == check_log(raw, None)


def test_tiles_whose_last_entry_is_the_change_hold_one_checkpoint(
    ledger: Ledger, tmp_path: Path, key: SigningKey, other_key: SigningKey
) -> None:
    change(ledger, other_key)
    export_tiles(read_ledger(ledger.path), tmp_path / "tiles")
    tiles = read_tiles(tmp_path / "tiles")
    assert [size for size, _ in tiles.notes] == [HANDOVER]
    assert check_log(tiles, other_key.public).size == HANDOVER
    assert tiles.verifier_key.public_key == key.public


def test_tiles_with_a_change_that_does_not_check_out_are_read_and_refused(changed: Ledger, tmp_path: Path) -> None:
    raw = read_ledger(changed.path)
    spoilt = forged(raw, {"public_key": "AAAA", "signature": ""})
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, spoilt.history().root()), SigningKey.generate())
    export_tiles(replace(spoilt, notes=((5, note),)), tmp_path / "tiles")
    with pytest.raises(VerificationError):
        check_log(read_tiles(tmp_path / "tiles"), None)


def test_a_proof_of_the_change_leads_from_the_old_key_to_the_new_one(changed: Ledger, other_key: SigningKey) -> None:
    third = SigningKey.generate()
    change(changed, third)
    append(changed)
    raw = read_ledger(changed.path)
    logs: tuple[VerifierKey, ...] = (raw.verifier_key_at(1),)
    for seq in (4, 6):
        logs = follow_key(InclusionProof.from_text(prove_inclusion(raw, seq).to_text()), logs)
    assert logs == (raw.verifier_key,)
    assert logs[0].public_key == third.public
    assert raw.verifier_key_at(7).public_key == other_key.public
    assert prove_inclusion(raw, 5).note == prove_consistency(raw, 4).note == raw.notes[-1][1]


def test_other_logs_keys_stay_what_they_are(changed: Ledger) -> None:
    raw = read_ledger(changed.path)
    other = replace(raw.verifier_key, name="another.example/ledger")
    followed = follow_key(prove_inclusion(raw, 4), [other, raw.verifier_key_at(1)])
    assert followed == (other, raw.verifier_key)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda raw, proof: replace(proof, extra=None), "lacks the entry"),
        (lambda raw, proof: prove_inclusion(raw, 3), "does not end with it"),
        (lambda raw, proof: replace(proof, extra=raw.entries[3].to_bytes()), "does not show that the entry"),
        (lambda raw, proof: replace(proof, hashes=proof.hashes[:-1]), "does not show that the entry"),
    ],
)
def test_a_proof_of_something_else_leads_nowhere(
    changed: Ledger,
    key: SigningKey,
    spoil: Callable[[RawLedger, InclusionProof], InclusionProof],
    why: str,
) -> None:
    raw = read_ledger(changed.path)
    proof = spoil(raw, prove_inclusion(raw, 4))
    with pytest.raises(VerificationError, match=why):
        follow_key(proof, [raw.verifier_key_at(1), raw.verifier_key])


def test_a_proof_of_a_last_entry_that_changes_no_key_leads_nowhere(ledger: Ledger) -> None:
    raw = read_ledger(ledger.path)
    with pytest.raises(VerificationError, match="change of the ledger's key"):
        follow_key(prove_inclusion(raw, 3), [raw.verifier_key])


def test_a_proof_that_no_known_key_has_signed_leads_nowhere(changed: Ledger, key: SigningKey) -> None:
    raw = read_ledger(changed.path)
    stranger = replace(raw.verifier_key, public_key=SigningKey.generate().public)
    with pytest.raises(VerificationError, match="none of the known keys"):
        follow_key(prove_inclusion(raw, 4), [stranger])


def test_a_leaf_that_is_no_entry_leads_nowhere(key: SigningKey) -> None:
    leaf = b"not an entry"
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(leaf)), key)
    log = VerifierKey(ORIGIN, SignatureType.ED25519, key.public)
    with pytest.raises(VerificationError, match="not one of a ledger of ours"):
        follow_key(InclusionProof(0, (), note, leaf), [log])


def test_a_log_speaks_for_no_other_log(changed: Ledger, key: SigningKey) -> None:
    raw = read_ledger(changed.path)
    proof, other = prove_inclusion(raw, 4), replace(raw.verifier_key_at(1), name="another.example/ledger")
    text = open_signed(proof.note, [raw.verifier_key_at(1)]).text
    with pytest.raises(VerificationError, match="no key of the log it is of"):
        follow_key(replace(proof, note=sign_note(text, other.name, key)), [other])


# The files


def test_the_new_key_waits_beside_the_old_one_until_it_is_in_force(
    tmp_path: Path, key: SigningKey, other_key: SigningKey
) -> None:
    path = tmp_path / "unit.key"
    key.save(path)
    assert [one.public for one in load_keys(path)] == [key.public]
    given: list[Path] = []
    save_next_key(path, other_key, given.append)
    assert [one.public for one in load_keys(path)] == [key.public, other_key.public]
    assert next_key_path(path).stat().st_mode & 0o777 == 0o600
    assert len(given) == 1
    settle_keys(path, other_key.public)
    assert [one.public for one in load_keys(path)] == [other_key.public]
    assert [one.name for one in tmp_path.iterdir()] == ["unit.key"]


def test_a_key_that_never_came_into_force_is_thrown_away(
    tmp_path: Path, key: SigningKey, other_key: SigningKey
) -> None:
    path = tmp_path / "unit.key"
    key.save(path)
    save_next_key(path, other_key, lambda _: None)
    (tmp_path / "unit.next.key.part").write_bytes(b"cut short")
    with pytest.raises(FileExistsError):
        save_next_key(path, SigningKey.generate(), lambda _: None)
    settle_keys(path, key.public)
    settle_keys(path, key.public)
    assert [one.public for one in load_keys(path)] == [key.public]
    assert [one.name for one in tmp_path.iterdir()] == ["unit.key"]


def test_a_next_key_that_others_may_read_is_refused(tmp_path: Path, key: SigningKey, other_key: SigningKey) -> None:
    path = tmp_path / "unit.key"
    key.save(path)
    save_next_key(path, other_key, lambda _: None)
    next_key_path(path).chmod(0o644)
    with pytest.raises(KeyFileError):
        load_keys(path)
