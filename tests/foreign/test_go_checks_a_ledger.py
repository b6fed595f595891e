"""Go's packages for signed notes and transparency logs, which share no line with fedseg, take all that a ledger gives out,
and nothing that was changed on the way."""

import base64
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedseg.ledger.proof import prove_consistency, prove_inclusion
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.tiles import export_tiles

pytestmark = pytest.mark.extras

Go = Callable[..., str]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def inclusion(raw: RawLedger, seq: int) -> dict[str, object]:
    """What Go is asked about the proof of an entry."""
    proof = prove_inclusion(raw, seq)
    return {
        "Key": raw.verifier_key.to_text(),
        "Note": proof.note,
        "Index": seq,
        "Entry": encoded(raw.entries[seq].to_bytes()),
        "Hashes": [encoded(one) for one in proof.hashes],
    }


def consistency(raw: RawLedger, old_size: int) -> dict[str, object]:
    """What Go is asked about the proof that a ledger has grown."""
    proof = prove_consistency(raw, old_size)
    return {
        "Key": raw.verifier_key.to_text(),
        "Note": proof.note,
        "Old": raw.notes[old_size - 1][1],
        "Hashes": [encoded(one) for one in proof.hashes],
    }


def changed_lists(hashes: list[str]) -> Iterator[list[str]]:
    """Every list that differs in one hash's bit, is one hash longer or shorter, or has two in the other order."""
    for place, text in enumerate(hashes):
        whole = base64.b64decode(text)
        for byte in range(len(whole)):
            bad = bytearray(whole)
            bad[byte] ^= 1 << (byte % 8)
            yield [*hashes[:place], encoded(bytes(bad)), *hashes[place + 1 :]]
        yield [*hashes[:place], *hashes[place + 1 :]]
        yield [*hashes[:place], text, *hashes[place:]]
        if place:
            yield [*hashes[: place - 1], text, hashes[place - 1], *hashes[place + 1 :]]


def test_every_checkpoint_is_accepted(raw: RawLedger, go: Go) -> None:
    assert {go(Key=raw.verifier_key.to_text(), Note=note) for _, note in raw.notes} == {"ok"}


def test_a_checkpoint_with_any_character_changed_is_rejected(raw: RawLedger, go: Go) -> None:
    key, note = raw.verifier_key.to_text(), raw.notes[-1][1]
    signature = note.rindex(" ") + 1
    for place in range(signature):
        other = "x" if note[place] != "x" else "y"
        assert go(Key=key, Note=note[:place] + other + note[place + 1 :]) != "ok", place
    # Go reads base64 whose last bits are not zero: so bits are changed, and not characters.
    whole = base64.b64decode(note[signature:])
    for bit in range(8 * len(whole)):
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << (bit % 8)
        assert go(Key=key, Note=f"{note[:signature]}{encoded(bytes(bad))}\n") != "ok", bit


def test_a_checkpoint_under_another_key_is_rejected(raw: RawLedger, go: Go) -> None:
    name, _, _ = raw.verifier_key.to_text().split("+", 2)
    other = f"{name}+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert go(Key=other, Note=raw.notes[-1][1]) != "ok"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 255, 256, 257, 300])
def test_the_proof_of_every_entry_is_accepted(raw: RawLedger, go: Go, size: int) -> None:
    shorter = RawLedger.from_parts([entry.to_bytes() for entry in raw.entries[:size]], raw.notes[:size], {})
    assert {go(**inclusion(shorter, seq)) for seq in range(size)} == {"ok"}


def test_the_proof_of_an_entry_with_anything_changed_is_rejected(raw: RawLedger, go: Go) -> None:
    question = inclusion(raw, 41)
    assert go(**question) == "ok"
    hashes, entry = question["Hashes"], raw.entries[41].to_bytes()
    assert isinstance(hashes, list)
    for bad in changed_lists(hashes):
        assert go(**question | {"Hashes": bad}) != "ok"
    for place in range(len(entry)):
        other = entry[:place] + bytes([entry[place] ^ 1]) + entry[place + 1 :]
        assert go(**question | {"Entry": encoded(other)}) != "ok", place
    for index in {*range(-1, 302)} - {41}:
        assert go(**question | {"Index": index}) != "ok", index
    for _, note in raw.notes[:-1]:
        assert go(**question | {"Note": note}) != "ok"


def test_the_proof_of_growth_from_every_size_is_accepted(raw: RawLedger, go: Go) -> None:
    assert {go(**consistency(raw, size)) for size in range(1, 301)} == {"ok"}


def test_the_proof_of_growth_with_anything_changed_is_rejected(raw: RawLedger, go: Go) -> None:
    for size in (1, 130, 256, 299):
        question = consistency(raw, size)
        hashes = question["Hashes"]
        assert isinstance(hashes, list)
        for bad in changed_lists(hashes):
            assert go(**question | {"Hashes": bad}) != "ok"
        for old in random.Random(size).sample([one for one in range(1, 300) if one != size], 40):
            assert go(**question | {"Old": raw.notes[old - 1][1]}) != "ok"
            assert go(**question | {"Note": raw.notes[old - 1][1]}) != "ok"


@pytest.mark.parametrize("size", [1, 255, 256, 300])
def test_every_proof_can_be_made_from_the_tiles_alone(raw: RawLedger, go: Go, size: int, tmp_path: Path) -> None:
    shorter = RawLedger.from_parts([entry.to_bytes() for entry in raw.entries[:size]], raw.notes[:size], {})
    export_tiles(shorter, tmp_path / "log")
    assert go(Tiles=str(tmp_path / "log"), Key=raw.verifier_key.to_text()) == "ok"


def test_tiles_with_any_byte_changed_are_rejected(raw: RawLedger, go: Go, tmp_path: Path) -> None:
    export_tiles(raw, tmp_path)
    key, rng = raw.verifier_key.to_text(), random.Random(5)
    for path in sorted(one for one in tmp_path.rglob("*") if one.is_file() and one.name != "checkpoint"):
        whole = path.read_bytes()
        for place in rng.sample(range(len(whole)), min(30, len(whole))):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            assert go(Tiles=str(tmp_path), Key=key) != "ok", (path, place)
        path.write_bytes(whole)
    assert go(Tiles=str(tmp_path), Key=key) == "ok"


def test_the_program_on_the_page_for_auditors_does_what_it_says(
    raw: RawLedger, build: Callable[[Path], Path], tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/check-a-ledger.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```go\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "check.go").write_text(program, encoding="utf-8")
    checker, proof = build(tmp_path), tmp_path / "7.tlog-proof"
    good = prove_inclusion(raw, 7).to_text()

    def run() -> "subprocess.CompletedProcess[str]":
        command = [str(checker), str(proof), raw.verifier_key.to_text()]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    proof.write_text(good, encoding="utf-8")
    ended = run()
    assert (ended.returncode, ended.stdout.splitlines()[1]) == (0, raw.entries[7].to_bytes().decode()), ended.stderr
    for bad in (
        good.replace("index 7", "index 8"),
        good.replace("\n300\n", "\n299\n"),
        good.replace("extra eyJ", "extra eyK"),
    ):
        assert bad != good
        proof.write_text(bad, encoding="utf-8")
        assert run().returncode != 0
