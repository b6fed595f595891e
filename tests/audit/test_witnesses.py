"""Cosignatures travel with the evidence: what they are worth is found out, and what they contradict is a fault."""

import itertools
import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.audit import bundle
from fedseg.audit.archive import Member, Role, pack, unpack
from fedseg.audit.bundle import collect
from fedseg.audit.facts import LedgerFacts
from fedseg.audit.faults import Fault
from fedseg.audit.log import read_log
from fedseg.audit.proof import EquivocationProof
from fedseg.audit.review import Review, review
from fedseg.audit.verify import verify_raw
from fedseg.audit.witnesses import (
    NOTE_LIMIT_BYTES,
    WitnessLine,
    WitnessState,
    beside,
    server_witnesses,
    witness_state,
)
from fedseg.cli.main import run_command
from fedseg.errors import RolledBackError
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign, ed25519_message
from fedseg.ledger.export import export_ledger
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.ledger.notes import Note, SignatureLine, SignatureType, parse_note
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.node.approvals import deny
from fedseg.node.witnessing import COSIGNED_FILE, ROLLED_BACK_FILE
from fedseg.policy.document import load_policy
from tests.cosigned_evidence import WHEN, cosigned_run, cosigned_server
from tests.forged_ledger import Forgery, policy_line
from tests.small_federation import SmallFederation, make_federation, policy_document

NAMES = ("auditor", "partner", "rival")


def verifier_key(name: str, key: SigningKey) -> VerifierKey:
    return VerifierKey(f"{name}.example/w1", SignatureType.ED25519_COSIGNATURE, key.public)


@dataclass(frozen=True)
class Case:
    """A unit's ledger of three releases, whose policy since then wants two of three witnesses."""

    raw: RawLedger
    key: SigningKey
    witnesses: Mapping[str, SigningKey]

    @property
    def size(self) -> int:
        return len(self.raw.entries)

    @property
    def facts(self) -> LedgerFacts:
        return verify_raw(self.raw)

    def note(self, size: int | None = None, root: bytes | None = None, key: SigningKey | None = None) -> str:
        """A checkpoint of it, signed by its owner; or by another, or of what it does not hold."""
        size = self.size if size is None else size
        found = self.raw.history().root(size) if root is None else root
        return sign_checkpoint(Checkpoint(self.raw.origin, size, found), key or self.key)

    def cosigned(self, note: str, *names: str, when: datetime = WHEN) -> bytes:
        for name in names:
            note = cosign(note, f"{name}.example/w1", self.witnesses[name], when)
        return note.encode()

    def state(self, *notes: bytes) -> WitnessState:
        return witness_state(self.facts, notes)

    def reviewed(self, *notes: bytes, unit: str = "north") -> Review:
        """The bundle of the ledger with these files beside it."""
        names = (COSIGNED_FILE, ROLLED_BACK_FILE)
        members = [
            Member(f"units/{unit}/{name}", Role.COSIGNED, note) for name, note in zip(names, notes, strict=False)
        ]
        ledger = Member("units/north/ledger.txt", Role.LEDGER, export_ledger(self.raw))
        return review({"north.zip": pack([ledger, *members])}, {})


def with_policy(unit: Forgery, keys: Mapping[str, VerifierKey], quorum: int = 2) -> Forgery:
    """The ledger with one more policy, which names these witnesses."""
    stated = "".join(f"    {name}: '{key.to_text()}'\n" for name, key in keys.items())
    named = f"  keys:\n{stated}" if keys else ""
    document = policy_document(approvals=f"witnesses:\n  quorum: {quorum}\n{named}")
    line = policy_line(document, place=len(unit.lines) + 1)
    rules = load_policy(document).witnesses
    assert rules is not None
    line.body["witnesses"] = {"quorum": rules.quorum, "keys": dict(rules.keys)}
    unit.lines.append(line)
    return unit


@pytest.fixture
def case(unit: Forgery, tmp_path: Path) -> Case:
    keys = {name: SigningKey.generate() for name in NAMES}
    with_policy(unit, {name: verifier_key(name, key) for name, key in keys.items()})
    return Case(read_ledger(unit.write(tmp_path / "north.db")), unit.key, keys)


def faults(seen: Review) -> list[tuple[Fault, str]]:
    return [(one.fault, one.where) for one in seen.findings]


# What counts


def test_who_has_cosigned_how_much_and_when_is_recomputed(case: Case) -> None:
    state = case.state(case.cosigned(case.note(), "auditor", "rival"))
    assert (state.quorum, state.entries, state.covers, state.uncovered_releases) == (2, case.size, case.size, 0)
    keys = {name: verifier_key(name, key).to_text() for name, key in case.witnesses.items()}
    assert state.witnesses == (
        WitnessLine("auditor", keys["auditor"], case.size, WHEN),
        WitnessLine("partner", keys["partner"], 0, None),
        WitnessLine("rival", keys["rival"], case.size, WHEN),
    )
    assert state.is_witnessed
    assert state.in_words == (
        "its policy asks for 2 of auditor, partner, rival; cosigned by "
        "auditor (the first 7 of 7 entries, 2026-11-23 09:00 UTC), "
        "rival (the first 7 of 7 entries, 2026-11-23 09:00 UTC); every release is covered by 2 of them"
    )


def test_fewer_than_the_quorum_cover_nothing(case: Case) -> None:
    state = case.state(case.cosigned(case.note(), "partner"))
    assert (state.covers, state.uncovered_releases, state.is_witnessed) == (0, 3, False)
    assert state.in_words.endswith("; 3 releases are not covered by 2 of them")


def test_an_older_checkpoint_covers_fewer_entries_and_leaves_releases_uncovered(case: Case) -> None:
    releases = [entry.seq for entry in case.raw.entries if entry.kind == "release"]
    for size, uncovered, good in ((releases[0], 3, False), (releases[1], 2, False), (releases[2], 1, True)):
        state = case.state(case.cosigned(case.note(size), "auditor", "partner"))
        assert (state.covers, state.uncovered_releases, state.is_witnessed) == (size, uncovered, good)


def test_of_several_checkpoints_each_witness_is_believed_as_far_as_it_has_seen(case: Case) -> None:
    older, newer = case.cosigned(case.note(4), "auditor", "partner"), case.cosigned(case.note(), "partner")
    state = case.state(newer, older)
    assert [one.covers for one in state.witnesses] == [4, case.size, 0]
    assert state.covers == 4


def test_a_policy_that_names_nobody_says_so_and_nothing_counts(unit: Forgery, tmp_path: Path) -> None:
    silent = verify_raw(read_ledger(unit.write(tmp_path / "silent.db")))
    assert witness_state(silent, ()).in_words == "no witness: its policy says nothing of witnesses"
    with_policy(unit, {}, quorum=0)
    declared = verify_raw(read_ledger(unit.write(tmp_path / "declared.db")))
    assert witness_state(declared, ()).in_words == "no witness, as its policy declares"


def test_a_bundle_without_a_cosigned_checkpoint_checks_out_and_says_that_none_is_here(case: Case) -> None:
    seen = case.reviewed()
    assert (seen.findings, seen.remarks[1:]) == ((), ())
    assert "no cosignature of theirs is here" in seen.witnessed[0][1].in_words


@pytest.mark.parametrize("seconds", [0, 2**40, 2**62, 2**63 - 1])
def test_a_time_that_no_calendar_has_is_left_out(case: Case, seconds: int) -> None:
    parsed, key = parse_note(case.note()), verifier_key("auditor", case.witnesses["auditor"])
    signature = struct.pack(">Q", seconds)
    signature += case.witnesses["auditor"].sign(ed25519_message(parsed.text, seconds))
    line = SignatureLine(key.name, key.id, signature)
    state = case.state(Note(parsed.text, (*parsed.signatures, line)).to_text().encode())
    assert state.witnesses[0] == WitnessLine("auditor", key.to_text(), case.size, None)
    assert "cosigned by auditor (the first 7 of 7 entries); " in state.in_words


# What counts for nothing


def strangers(case: Case) -> bytes:
    return cosign(case.note(), "auditor.example/w2", SigningKey.generate(), WHEN).encode()


def forged(case: Case) -> bytes:
    """A cosignature under a witness's name and id, by another key."""
    true = case.cosigned(case.note(), "auditor", "partner").decode()
    ends = true.rstrip("\n")
    return f"{ends[:-6]}{'A' if ends[-6] != 'A' else 'B'}{ends[-5:]}\n".encode()


NOTHING: dict[str, Callable[[Case], bytes]] = {
    "empty": lambda _: b"",
    "no text": lambda _: b"\xff\xfe",
    "too long": lambda case: case.cosigned(case.note(), "auditor") + b"\n" * NOTE_LIMIT_BYTES,
    "zeros": lambda _: bytes(NOTE_LIMIT_BYTES),
    "damaged": lambda case: case.cosigned(case.note(), "auditor", "partner")[:-9],
    "forged cosignature": forged,
    "another owner": lambda case: case.cosigned(case.note(key=SigningKey.generate()), "auditor", "partner"),
    "another's history": lambda case: case.cosigned(
        case.note(99, bytes(32), SigningKey.generate()), "auditor", "partner"
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_damaged_checkpoint_or_a_strangers_counts_for_nothing_and_is_said_so(case: Case, name: str) -> None:
    note = NOTHING[name](case)
    seen = case.reviewed(note)
    ((_, state),) = seen.witnessed
    assert (seen.findings, state.covers, len(state.unusable)) == ((), 0, 1)
    assert any("units/north/ledger.txt as a cosigned checkpoint counts for nothing: " in one for one in seen.remarks)
    # Nor does it take anything from one that is right.
    state = case.state(note, case.cosigned(case.note(), "auditor", "partner"))
    assert state.covers == case.size


def test_whoever_the_policy_does_not_name_has_seen_nothing(case: Case) -> None:
    state = case.state(strangers(case))
    assert (state.covers, [one.covers for one in state.witnesses]) == (0, [0, 0, 0])
    assert state.unusable == ()


def test_a_log_is_not_its_own_witness(unit: Forgery, tmp_path: Path) -> None:
    keys = {"auditor": SigningKey.generate(), "itself": unit.key}
    with_policy(unit, {name: verifier_key(name, key) for name, key in keys.items()})
    case = Case(read_ledger(unit.write(tmp_path / "north.db")), unit.key, keys)
    state = case.state(case.cosigned(case.note(), "auditor", "itself"))
    assert ([one.covers for one in state.witnesses], state.covers) == ([case.size, 0], 0)


def lookalikes() -> tuple[VerifierKey, VerifierKey]:
    """Four bytes tell keys apart: whoever tries a hundred thousand keys has two that are told as one."""
    found: dict[bytes, VerifierKey] = {}
    for number in itertools.count():
        key = VerifierKey("w", SignatureType.ED25519_COSIGNATURE, PublicKey(number.to_bytes(32, "big")))
        if key.id in found:
            return found[key.id], key
        found[key.id] = key
    raise AssertionError


def test_witnesses_that_were_made_to_look_alike_count_for_nothing(case: Case) -> None:
    keys = tuple(WitnessLine(key.name, key.to_text(), 0, None) for key in lookalikes())
    found = beside(case.raw, [case.note().encode()])
    state = server_witnesses(case.size, found, [WitnessState("unit", 1, keys, case.size, 0, 0)])
    assert [one.covers for one in state.witnesses] == [0, 0]
    assert "same name and id" in state.unusable[0]


def test_a_checkpoint_of_no_unit_here_is_a_stray(case: Case) -> None:
    assert faults(case.reviewed(case.note().encode(), unit="south")) == [(Fault.STRAY, "units/south/cosigned.note")]


# What it contradicts


def test_a_second_history_that_was_cosigned_is_proven_to_anybody(case: Case) -> None:
    seen = case.reviewed(case.cosigned(case.note(root=bytes(32)), "auditor", "partner"))
    assert faults(seen) == [(Fault.FORK, "units/north/ledger.txt against units/north/cosigned.note")]
    (proof,) = seen.proofs
    assert EquivocationProof.from_json(proof.to_json()) == proof
    assert {one.root for one in proof.checkpoints} == {bytes(32), case.raw.history().root()}
    assert seen.witnessed[0][1].covers == 0


@pytest.mark.parametrize("cosigners", [(), ("auditor",), ("auditor", "partner", "rival")])
def test_an_older_copy_is_found_whoever_has_cosigned_what_came_after(case: Case, cosigners: tuple[str, ...]) -> None:
    later = case.note(case.size + 2, bytes(32))
    seen = case.reviewed(case.cosigned(case.note(), "auditor"), case.cosigned(later, *cosigners))
    assert faults(seen) == [(Fault.SHORTER, "units/north/ledger.txt against units/north/rolled-back.note")]
    assert "it has 7 entries; a checkpoint beside it that its own key has signed has 9" in seen.findings[0].what


def test_a_history_written_anew_is_found_where_no_checkpoint_of_its_own_is_left(case: Case) -> None:
    seen = case.reviewed(case.cosigned(case.note(3, bytes(32)), "auditor", "partner"))
    assert [fault for fault, _ in faults(seen)] == [Fault.REWRITTEN]


def test_a_false_cosignature_does_not_hide_what_the_owner_has_signed(case: Case) -> None:
    true = case.cosigned(case.note(case.size + 1, bytes(32)), "auditor").decode()
    own, false = true.splitlines()[-2:]
    assert parse_note(true).signatures[0].name in own
    hidden = true.replace(false, f"{false[:-6]}{'A' if false[-6] != 'A' else 'B'}{false[-5:]}").encode()
    assert [fault for fault, _ in faults(case.reviewed(hidden))] == [Fault.SHORTER]
    with pytest.raises(RolledBackError):
        case.state(hidden)


def test_the_newest_copy_of_a_ledger_is_held_against_what_was_cosigned(
    case: Case, unit: Forgery, tmp_path: Path
) -> None:
    """An auditor may hold last month's bundle and today's: what was cosigned today is not more than was ever there."""
    older = unit.fresh()
    older.lines.pop()
    raw = read_ledger(older.write(tmp_path / "older.db"))
    then = pack([Member("units/north/ledger.txt", Role.LEDGER, export_ledger(raw))])
    note = Member("units/north/cosigned.note", Role.COSIGNED, case.cosigned(case.note(), "auditor", "partner"))
    now = pack([Member("units/north/ledger.txt", Role.LEDGER, export_ledger(case.raw)), note])
    seen = review({"then.zip": then, "now.zip": now}, {})
    assert Fault.SHORTER not in {one.fault for one in seen.findings}
    assert [(log.where, state.covers) for log, state in seen.witnessed] == [
        ("now.zip: units/north/ledger.txt", case.size)
    ]


# Where it comes from


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """Not to be written to."""
    return cosigned_run(tmp_path_factory.mktemp("witnessed") / "federation")


def test_what_real_witnesses_have_cosigned_travels_in_the_bundle_of_a_unit(ended: SmallFederation) -> None:
    members = [one for home in ended.homes for one in collect(home.path)]
    assert [one.name for one in members if one.role is Role.COSIGNED] == [
        f"units/{home.settings.unit}/cosigned.note" for home in ended.homes
    ]
    assert unpack(pack(members)) == tuple(sorted(members, key=lambda one: one.name))
    seen = review({"all.zip": pack(members)}, {})
    assert seen.findings == ()
    now = datetime.now(UTC)
    for home, (log, state) in zip(ended.homes, seen.witnessed, strict=True):
        assert state.is_witnessed, state.in_words
        said = (home.path / COSIGNED_FILE).read_text("utf-8").splitlines()[1]
        assert (log.facts.unit, str(state.covers)) == (home.settings.unit, said)
        newest = [one for one in state.witnesses if one.covers]
        assert len(newest) >= 2
        assert all(one.at is not None and abs(one.at - now) < timedelta(minutes=10) for one in newest)


def test_the_command_says_who_has_cosigned_how_much_and_when(
    ended: SmallFederation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, home = tmp_path / "north.zip", ended.home("north")
    file.write_bytes(pack(collect(home.path)))
    assert run_command(["audit", "verify", str(file)]) == 0
    text = capsys.readouterr().out
    said = (home.path / COSIGNED_FILE).read_text("utf-8").splitlines()[1]
    assert f"north: its policy asks for 2 of south, west; cosigned by south (the first {said} of " in text
    assert "none of them had cosigned another history" in text
    assert run_command(["audit", "verify", str(file), "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["data"]["witnesses"]
    assert (one["origin"], one["where"]) == ("fedseg/unit/north", "units/north/ledger.txt")
    assert (one["role"], one["quorum"], one["covers"]) == ("unit", 2, int(said))
    assert one["witnessed"]
    assert [witness["name"] for witness in one["witnesses"]] == ["south", "west"]
    assert datetime.fromisoformat(one["witnesses"][0]["at"]).tzinfo == UTC


def test_a_contradiction_ends_the_command_with_its_code_and_leaves_the_proof(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Member("units/north/ledger.txt", Role.LEDGER, export_ledger(case.raw))
    note = case.cosigned(case.note(root=bytes(32)), "auditor", "partner")
    file = tmp_path / "north.zip"
    file.write_bytes(pack([ledger, Member("units/north/cosigned.note", Role.COSIGNED, note)]))
    assert run_command(["audit", "verify", str(file), "--format", "json"]) == 9
    data = json.loads(capsys.readouterr().out)["data"]
    assert [one["code"] for one in data["failures"]] == ["L15-fork"]
    (proof,) = data["proofs"]
    assert EquivocationProof.from_json(Path(proof).read_bytes()).origin == "fedseg/unit/north"


def test_of_the_servers_ledger_those_are_witnesses_whom_the_units_name(ended: SmallFederation, tmp_path: Path) -> None:
    server = collect(cosigned_server(ended, tmp_path, "north", "west"))
    north = collect(ended.home("north").path)
    seen = review({"server.zip": pack(server), "north.zip": pack(north)}, {})
    assert seen.findings == ()
    (log, state), _ = seen.witnessed
    assert (log.facts.origin, state.role, state.quorum) == ("fedseg/server", "server", None)
    # North names south and west: of north itself nobody here says that it is a witness.
    assert [(one.name, one.covers) for one in state.witnesses] == [
        ("fedseg/witness/south", 0),
        ("fedseg/witness/west", state.entries),
    ]
    assert state.in_words == f"cosigned by fedseg/witness/west (the first {state.entries} of {state.entries} entries, 2026-11-23 09:00 UTC)"  # fmt: skip
    alone = review({"server.zip": pack(server)}, {}).witnessed[0][1]
    assert (alone.witnesses, alone.in_words) == ((), "no witness")


def test_a_second_history_of_the_server_is_proven_too(ended: SmallFederation, tmp_path: Path) -> None:
    members = collect(cosigned_server(ended, tmp_path, "west", root=bytes(32)))
    seen = review({"server.zip": pack(members)}, {})
    assert faults(seen) == [(Fault.FORK, "server/ledger.txt against server/cosigned.note")]
    assert len(seen.proofs) == 1


def test_a_copy_that_was_found_out_carries_what_found_it_out(ended: SmallFederation, tmp_path: Path) -> None:
    home = shutil.copytree(ended.home("north").path, tmp_path / "north")
    note = (home / COSIGNED_FILE).read_bytes()
    (home / COSIGNED_FILE).unlink()
    (home / ROLLED_BACK_FILE).write_bytes(note)
    names = {one.name for one in collect(home)}
    assert {"units/north/ledger.txt", "units/north/rolled-back.note"} <= names
    assert "units/north/cosigned.note" not in names


def test_the_files_are_those_that_a_unit_keeps() -> None:
    assert bundle.COSIGNED == (COSIGNED_FILE, ROLLED_BACK_FILE)


def test_what_is_cosigned_while_a_bundle_is_made_is_never_more_than_its_ledger_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_federation(tmp_path / "federation", {"north": 8}).home("north")
    true = read_log

    def slow(path: Path) -> RawLedger:
        """The unit goes on right after its ledger was read."""
        raw = true(path)
        deny(home, "0" * 64, "no", now=WHEN)
        (home.path / COSIGNED_FILE).write_text(true(path).notes[-1][1], "utf-8")
        return raw

    monkeypatch.setattr(bundle, "read_log", slow)
    (home.path / COSIGNED_FILE).write_text(true(home.path / "ledger.db").notes[-1][1], "utf-8")
    assert review({"north.zip": pack(collect(home.path))}, {}).findings == ()


def test_two_bundles_of_one_unit_are_one_witnessed_ledger(case: Case) -> None:
    note = case.cosigned(case.note(), "auditor", "partner")
    members = [Member("units/north/ledger.txt", Role.LEDGER, export_ledger(case.raw))]
    first, second = pack(members), pack([*members, Member("units/north/cosigned.note", Role.COSIGNED, note)])
    seen = review({"first.zip": first, "second.zip": second}, {})
    assert [state.covers for _, state in seen.witnessed] == [case.size]
    assert replace(seen.witnessed[0][1], covers=0).is_witnessed is False
