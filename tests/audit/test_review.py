"""An audit of bundles finds everything that can be found, all of it at once, and says by whose word it knows the keys."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedseg.audit.archive import Member, Role, pack, unpack
from fedseg.audit.bundle import collect, write_bundle
from fedseg.audit.faults import Fault
from fedseg.audit.memory import Memory, read_memory, write_memory
from fedseg.audit.proof import EquivocationProof
from fedseg.audit.review import KeySource, Review, _printable, review
from fedseg.errors import SettingsError, StorageError, VerificationError
from fedseg.ledger.export import export_ledger, parse_export
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.plan import PLAN_BYTES_MAX
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from tests.forged_bundle import Evidence
from tests.forged_ledger import Forgery, policy_line, resigned
from tests.small_federation import SmallFederation, make_federation, policy_document

HASH = "ab" * 32


@pytest.fixture
def evidence(finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path) -> Evidence:
    """What a true run leaves."""
    return Evidence.of(finished, tmp_path, north=unit, server=server)


@pytest.fixture
def keys(finished: SmallFederation) -> dict[str, PublicKey]:
    """The true keys."""
    units = {home.settings.unit: home.key.public for home in finished.homes}
    return {**units, "server": finished.server.key.public}


def found(*files: bytes, **named: Any) -> Review:
    return review(
        {f"{number}.zip": data for number, data in enumerate(files)}, named.get("keys", {}), named.get("memory")
    )


def faults(seen: Review) -> list[tuple[Fault, str]]:
    return [(one.fault, one.where) for one in seen.findings]


# What checks out


def test_the_evidence_of_a_true_run_checks_out(evidence: Evidence, keys: dict[str, PublicKey]) -> None:
    seen = found(evidence.packed(), keys=keys)
    assert seen.findings == ()
    assert seen.remarks == ()
    assert [log.where for log in seen.logs] == ["server/ledger.txt", "units/north/ledger.txt", "units/south/ledger.txt"]
    assert {log.key_source for log in seen.logs} == {KeySource.GIVEN}
    assert seen.simulated


def test_whose_word_it_is_has_names_that_scripts_rely_on() -> None:
    assert [str(one) for one in KeySource] == ["given", "remembered", "bundle"]


def test_a_plan_beside_a_ledger_that_does_not_check_out_is_accused_of_nothing(evidence: Evidence) -> None:
    data = bytearray(evidence.members["server/ledger.txt"].data)
    data[-20] ^= 1
    seen = found(evidence.only("server/ledger.txt", "plan.toml").changed("server/ledger.txt", bytes(data)).packed())
    assert {where for _, where in faults(seen)} == {"server/ledger.txt"}


def test_whose_word_it_is_whose_keys_these_are_is_said(evidence: Evidence, keys: dict[str, PublicKey]) -> None:
    seen = found(evidence.packed(), keys={"fedseg/unit/north": keys["north"], "east": keys["south"]})
    assert {log.facts.origin: log.key_source for log in seen.logs} == {
        "fedseg/server": KeySource.BUNDLE,
        "fedseg/unit/north": KeySource.GIVEN,
        "fedseg/unit/south": KeySource.BUNDLE,
    }
    assert any("keys were given of east" in one for one in seen.remarks)
    assert found(evidence.packed(), memory=seen.memory).logs[0].key_source is KeySource.REMEMBERED


def test_what_is_missing_is_said_and_is_no_fault(evidence: Evidence) -> None:
    seen = found(evidence.without("units/south/ledger.txt").without("units/south/policy.yaml").packed())
    assert seen.findings == ()
    assert any("of south: whether they charged" in one for one in seen.remarks)
    seen = found(evidence.without("server/ledger.txt").packed())
    assert seen.findings == ()
    assert any("the segments were not recomputed" in one for one in seen.remarks)


def test_a_charge_that_the_server_never_counted_is_said_and_is_no_fault(
    evidence: Evidence, server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    """A server's older ledger: its third round is open, and the units have charged for it."""
    server.lines = server.lines[: server.lines.index(server.line("round", 1)) + 1]
    raw = read_ledger(server.write(tmp_path / "older.db"))
    older = evidence.without("segmentation.json").changed("server/ledger.txt", export_ledger(raw))
    seen = found(older.packed())
    assert seen.findings == ()
    assert [one.partition(" charged")[0] for one in seen.remarks] == ["north", "south"]
    assert all("round 3" in one for one in seen.remarks)


def test_bundles_of_several_parties_are_held_against_one_another(
    evidence: Evidence, unit: Forgery, tmp_path: Path
) -> None:
    """In a deployment the server has its folder and each unit its own; nobody has all."""
    server = evidence.only("server/ledger.txt", "plan.toml", "segmentation.json")
    north = evidence.only("units/north/ledger.txt", "units/north/policy.yaml")
    assert found(server.packed(), north.packed()).findings == ()
    unit.drop("release", 2)
    shorter = north.changed("units/north/ledger.txt", export_ledger(read_ledger(unit.write(tmp_path / "shorter.db"))))
    seen = found(server.packed(), shorter.packed())
    assert (Fault.UNCHARGED, "0.zip: server/ledger.txt against 1.zip: units/north/ledger.txt") in faults(seen)


def test_an_older_copy_beside_the_newest_is_no_second_history(
    evidence: Evidence, unit: Forgery, finished: SmallFederation
) -> None:
    with finished.home("north").ledger() as ledger:
        raw = read_ledger(ledger.path)
    older = replace(raw, entries=raw.entries[:4], notes=tuple(one for one in raw.notes if one[0] <= 4))
    kept = {entry.payload.id for entry in older.entries if entry.payload is not None}
    older = replace(older, payloads={id_: data for id_, data in raw.payloads.items() if id_ in kept})
    true = evidence.changed("units/north/ledger.txt", export_ledger(raw))
    copy = pack([Member("units/north/ledger.txt", Role.LEDGER, export_ledger(older))])
    for files in ((copy, true.packed()), (true.packed(), copy)):
        seen = found(*files)
        assert seen.findings == ()
        assert len(seen.logs) == 4
        # What is remembered is the newest of them, whichever was named first.
        assert {log.origin: one.checkpoint.size for log, one in seen.memory.seen.items()}["fedseg/unit/north"] == len(
            raw.entries
        )


# Everything at once


def test_independent_findings_are_all_reported(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    """A forged unit, a forged result, another policy and another plan: four findings, in four places."""
    unit.line("release").body["charge"]["rho"] = "1/1048576"
    evidence = Evidence.of(finished, tmp_path, north=unit, server=server)
    true = parse_signed(evidence.members["segmentation.json"].data).segmentation
    false = SignedSegmentation.sign(true.model_copy(update={"epsilon": "1/100"}), server.key)
    evidence = evidence.changed("segmentation.json", false.to_json())
    evidence = evidence.changed("units/south/policy.yaml", policy_document(min_cohort=1))
    evidence = evidence.changed("plan.toml", b"not a plan")
    seen = found(evidence.packed())
    assert set(faults(seen)) == {
        (Fault.CHARGE, "units/north/ledger.txt"),
        (Fault.SEGMENTS, "segmentation.json"),
        (Fault.UNLOGGED, "units/south/policy.yaml"),
        (Fault.STRAY, "plan.toml"),
    }
    assert {log.facts.origin for log in seen.logs} == {"fedseg/server", "fedseg/unit/south"}


def test_both_sides_of_a_disagreement_can_be_forged_and_both_are_found(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    unit.drop("release", 2)
    line = unit.line("release", 1)
    assert line.payload is not None
    zeros = [0] * (line.body["cells"] * line.body["width"])
    line.payload = (line.payload[0], resigned(line.data, unit.key, values=zeros))
    seen = found(Evidence.of(finished, tmp_path, north=unit, server=server).packed())
    where = "server/ledger.txt against units/north/ledger.txt"
    assert faults(seen) == [(Fault.UNCHARGED, where), (Fault.OTHER_BYTES, where)]


def test_ledgers_under_other_keys_than_the_plans_are_found_on_both_sides(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    unit.key, unit.lines = SigningKey.generate(), unit.lines[:1]
    seen = found(Evidence.of(finished, tmp_path, north=unit, server=server).packed())
    assert (Fault.PLAN_KEY, "server/ledger.txt against units/north/ledger.txt") in faults(seen)


def test_each_key_that_is_given_must_be_the_one(evidence: Evidence, keys: dict[str, PublicKey]) -> None:
    seen = found(evidence.packed(), keys={**keys, "north": keys["south"], "server": keys["south"]})
    assert [one for one in faults(seen) if one[0] is Fault.KEY] == [
        (Fault.KEY, "server/ledger.txt"),
        (Fault.KEY, "units/north/ledger.txt"),
        (Fault.KEY, "segmentation.json"),
    ]


def test_one_name_under_two_keys_is_found_where_nothing_else_tells(
    evidence: Evidence, unit: Forgery, tmp_path: Path
) -> None:
    north = evidence.only("units/north/ledger.txt").packed()
    unit.key, unit.lines = SigningKey.generate(), unit.lines[:1]
    other = pack([north_of(unit, tmp_path / "other.db")])
    assert faults(found(north, other)) == [
        (Fault.KEY, "0.zip: units/north/ledger.txt against 1.zip: units/north/ledger.txt")
    ]


def test_a_unit_whose_plan_names_others_only_is_left_alone(
    evidence: Evidence, finished: SmallFederation, tmp_path: Path
) -> None:
    """An auditor may look at units of several federations at once."""
    stranger = make_federation(tmp_path / "other", {"east": 20}).home("east")
    raw = read_ledger(stranger.path / "ledger.db")
    east = Member("units/east/ledger.txt", Role.LEDGER, export_ledger(raw))
    seen = found(pack([*evidence.members.values(), east]))
    assert seen.findings == ()
    assert len(seen.logs) == 4


def test_a_result_that_the_server_never_logged_is_found(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    published = server.drop("publication").data
    evidence = Evidence.of(finished, tmp_path, north=unit, server=server)
    result = Member("segmentation.json", Role.SEGMENTATION, published)
    assert faults(found(pack([*evidence.members.values(), result]))) == [(Fault.UNPUBLISHED, "segmentation.json")]


# Files beside the ledgers


FILES: list[tuple[str, bytes, Fault]] = [
    ("plan.toml", b"\0", Fault.STRAY),
    ("plan.toml", b"a = [" * 5000, Fault.STRAY),
    ("units/north/policy.yaml", b"{{{", Fault.UNLOGGED),
    ("units/north/policy.yaml", b"&a [*a, *a]", Fault.UNLOGGED),
    ("segmentation.json", b"", Fault.PUBLICATION),
    ("segmentation.json", b"[" * 100_000, Fault.PUBLICATION),
    ("segmentation.json", b'{"segmentation": NaN}', Fault.PUBLICATION),
    ("units/north/ledger.txt", b"", Fault.UNREADABLE),
    ("units/north/ledger.txt", b"SQLite format 3\0" + bytes(4096), Fault.UNREADABLE),
    ("units/north/ledger.txt", b"fedseg-ledger-export/v1\n" + b"entries 99999999999999999999\n", Fault.UNREADABLE),
    ("units/north/ledger.txt", b"fedseg-ledger-export/v1\nentries " + b"9" * 10_000 + b"\n", Fault.UNREADABLE),
    ("units/north/ledger.txt", b"fedseg-ledger-export/v1\n\n\n\n", Fault.UNREADABLE),
]


@pytest.mark.parametrize(("name", "data", "fault"), FILES)
def test_garbage_in_a_member_is_a_finding(evidence: Evidence, name: str, data: bytes, fault: Fault) -> None:
    seen = found(evidence.changed(name, data).packed())
    assert (fault, name) in faults(seen)
    assert all(one.what.isprintable() for one in seen.findings)


def test_a_members_role_decides_how_it_is_read(evidence: Evidence) -> None:
    """Every member under every other role: found, and never a crash; a unit's that is no note counts for nothing."""
    for name, member in evidence.members.items():
        for role in set(Role) - {member.role}:
            changed = Evidence({**evidence.members, name: Member(name, role, member.data)})
            seen = found(changed.packed())
            assert seen.findings or (role is Role.COSIGNED and "counts for nothing" in str(seen.remarks)), (name, role)


def test_a_policy_that_is_no_longer_in_force_is_found(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    unit.lines.append(policy_line(policy_document(min_cohort=6), place=len(unit.lines) + 1))
    evidence = Evidence.of(finished, tmp_path, north=unit, server=server)
    seen = found(evidence.packed())
    assert faults(seen) == [(Fault.UNLOGGED, "units/north/policy.yaml")]
    assert "was in force once" in seen.findings[0].what
    newer = evidence.changed("units/north/policy.yaml", policy_document(min_cohort=6))
    assert found(newer.packed()).findings == ()


def test_a_result_of_a_run_that_nobody_here_knows_is_found(evidence: Evidence, finished: SmallFederation) -> None:
    true = parse_signed(evidence.members["segmentation.json"].data).segmentation
    other = SignedSegmentation.sign(true.model_copy(update={"plan_sha256": HASH, "units": ()}), finished.server.key)
    changed = evidence.changed("segmentation.json", other.to_json())
    assert faults(found(changed.packed())) == [(Fault.STRAY, "segmentation.json")]
    units = changed.without("server/ledger.txt")
    assert faults(found(units.packed())) == [(Fault.STRAY, "segmentation.json")]


def test_what_hostile_people_wrote_is_quoted_in_letters_that_do_nothing() -> None:
    assert _printable("a\x1b[2J\x9b1m\u202eb\n" + "c" * 10_000).startswith("a?[2J?1m?b?c")
    assert len(_printable("c" * 10_000)) < 1000


def test_a_policy_without_its_ledger_proves_nothing(evidence: Evidence) -> None:
    seen = found(evidence.without("units/north/ledger.txt").packed())
    assert faults(seen) == [(Fault.STRAY, "units/north/policy.yaml")]


def test_a_unit_that_the_segments_count_must_have_charged(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    evidence = Evidence.of(finished, tmp_path, north=unit, server=server).only("segmentation.json")
    unit.lines = unit.lines[:2]
    (tmp_path / "evidence/north.db").unlink()
    bare = export_ledger(read_ledger(unit.write(tmp_path / "evidence/north.db")))
    member = Member("units/north/ledger.txt", Role.LEDGER, bare)
    seen = found(Evidence({**evidence.members, member.name: member}).packed())
    assert faults(seen) == [(Fault.UNCHARGED, "segmentation.json")]


def test_a_result_must_count_units_of_its_plan_and_a_quorum_of_them(
    evidence: Evidence, finished: SmallFederation
) -> None:
    true = parse_signed(evidence.members["segmentation.json"].data).segmentation
    for units in (("east", "north"), ()):
        false = SignedSegmentation.sign(true.model_copy(update={"units": units}), finished.server.key).to_json()
        changed = evidence.without("server/ledger.txt").changed("segmentation.json", false)
        assert faults(found(changed.packed())) == [(Fault.TERMS, "segmentation.json")]
    assert finished.plan.quorum == 1
    quorum = SignedSegmentation.sign(true.model_copy(update={"units": ("north",)}), finished.server.key).to_json()
    changed = evidence.without("server/ledger.txt").changed("segmentation.json", quorum)
    assert faults(found(changed.packed())) == []


def test_the_same_result_from_two_people_is_one_result(evidence: Evidence) -> None:
    data = evidence.without("server/ledger.txt").packed()
    assert found(data, data).findings == ()


def test_a_segmentation_of_another_server_is_found(evidence: Evidence) -> None:
    true = parse_signed(evidence.members["segmentation.json"].data).segmentation
    other = SignedSegmentation.sign(true, SigningKey.generate()).to_json()
    assert faults(found(evidence.changed("segmentation.json", other).packed())) == [
        (Fault.PUBLICATION, "segmentation.json")
    ]


# Memory


def test_what_was_seen_is_remembered_and_goes_on(
    finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    everything, unit.lines = unit.lines, unit.lines[:3]
    with finished.home("north").ledger() as ledger:
        assert ledger.entries()
    first = found(pack([north_of(unit, tmp_path / "one.db")]))
    assert first.findings == ()
    write_memory(tmp_path / "memory.json", first.memory)
    memory = read_memory(tmp_path / "memory.json")
    assert memory == first.memory
    unit.lines = everything
    second = found(pack([north_of(unit, tmp_path / "two.db")]), memory=memory)
    assert second.findings == ()
    assert [one.checkpoint.size for one in second.memory.seen.values()] == [len(everything) + 1]
    same = found(pack([north_of(unit, tmp_path / "same.db")]), memory=second.memory)
    assert (same.findings, same.memory) == ((), second.memory)
    third = found(pack([north_of(unit, tmp_path / "three.db", lines=2)]), memory=second.memory)
    assert [one.fault for one in third.findings] == [Fault.SHORTER]
    assert third.memory == second.memory


def north_of(unit: Forgery, path: Path, lines: int | None = None) -> Member:
    copy = unit.fresh()
    copy.lines = copy.lines[:lines]
    return Member("units/north/ledger.txt", Role.LEDGER, export_ledger(read_ledger(copy.write(path))))


def test_a_log_under_another_key_than_was_seen_is_found_unless_somebody_vouches_for_it(
    evidence: Evidence, unit: Forgery, tmp_path: Path
) -> None:
    memory = found(evidence.packed()).memory
    unit.key, unit.lines = SigningKey.generate(), unit.lines[:1]
    other = pack([north_of(unit, tmp_path / "other.db")])
    assert [one.fault for one in found(other, memory=memory).findings] == [Fault.KEY]
    assert found(other, memory=memory, keys={"north": unit.key.public}).findings == ()


def test_nothing_is_remembered_of_evidence_that_fails(evidence: Evidence) -> None:
    seen = found(evidence.changed("plan.toml", b"no plan").packed(), memory=Memory())
    assert seen.findings
    assert seen.memory == Memory()


MEMORIES = [b"", b"{}", b"\xff", b'{"kind":"fedseg-remembered-checkpoints","logs":[{}],"version":1}\n', b"[" * 100_000]


def test_a_memory_that_cannot_be_kept_is_a_matter_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_memory(tmp_path / "no/such/memory.json", Memory())
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        read_memory(tmp_path / "folder")
    with pytest.raises(StorageError):
        write_memory(tmp_path / "folder", Memory())
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("data", MEMORIES, ids=range(len(MEMORIES)))
def test_a_memory_that_cannot_be_read_stops_the_audit(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_bytes(data)
    with pytest.raises(SettingsError, match="remembered"):
        read_memory(tmp_path / "memory.json")


def test_a_changed_memory_is_refused_by_the_signatures_in_it(evidence: Evidence, tmp_path: Path) -> None:
    write_memory(tmp_path / "memory.json", found(evidence.packed()).memory)
    data = (tmp_path / "memory.json").read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "memory.json").write_bytes(changed)
        with pytest.raises(SettingsError):
            read_memory(tmp_path / "memory.json")


# Two histories


@pytest.fixture
def proof(evidence: Evidence, finished: SmallFederation, unit: Forgery, tmp_path: Path) -> EquivocationProof:
    """The unit shows the auditor another history than it showed the server."""
    memory = found(evidence.packed()).memory
    unit.line("approval").body["source_sha256"] = HASH
    seen = found(pack([north_of(unit, tmp_path / "second.db")]), memory=memory)
    assert [one.fault for one in seen.findings] == [Fault.FORK]
    return seen.proofs[0]


def test_two_histories_are_proved_to_anybody(proof: EquivocationProof, finished: SmallFederation) -> None:
    one, other = proof.checkpoints
    assert (one.size, one.origin) == (other.size, "fedseg/unit/north")
    assert one.root != other.root
    assert proof.public_key == finished.home("north").key.public
    seen = found(proof.to_json())
    assert [one.fault for one in seen.findings] == [Fault.FORK]
    assert seen.proofs == (proof,)


def test_no_changed_proof_proves_anything(proof: EquivocationProof) -> None:
    data = proof.to_json()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1
        assert {one.fault for one in found(bytes(changed)).findings} <= {
            Fault.NO_PROOF,
            Fault.ARCHIVE,
            Fault.BUNDLE_SIZE,
        }


def test_one_history_seen_twice_proves_nothing(proof: EquivocationProof) -> None:
    note, other = proof.notes
    with pytest.raises(ValueError, match="different roots"):
        EquivocationProof.of(proof.origin, proof.public_key, note, note)
    with pytest.raises(VerificationError):
        EquivocationProof.of(proof.origin, SigningKey.generate().public, note, other)


def test_a_log_that_has_grown_proves_nothing(proof: EquivocationProof, true_unit: Forgery, tmp_path: Path) -> None:
    raw = read_ledger(true_unit.write(tmp_path / "true.db"))
    (_, first), *_, (_, last) = raw.notes
    with pytest.raises(ValueError, match="of one size"):
        EquivocationProof.of(raw.origin, raw.public_key, first, last)


def test_two_histories_without_a_signature_at_one_size_are_found_too(
    evidence: Evidence, unit: Forgery, tmp_path: Path
) -> None:
    """The checkpoints between were taken away, so that no two contradict each other; the entries still do."""
    unit.line("approval").body["source_sha256"] = HASH
    unit.lines.pop()
    raw = read_ledger(unit.write(tmp_path / "second.db"))
    bare = Member("units/north/second.txt", Role.LEDGER, export_ledger(replace(raw, notes=raw.notes[-1:])))
    true = replace(read_ledger_of(evidence), notes=read_ledger_of(evidence).notes[-1:])
    north = evidence.only("units/north/ledger.txt").changed("units/north/ledger.txt", export_ledger(true))
    seen = found(pack([*north.members.values(), bare]))
    assert faults(seen) == [(Fault.REWRITTEN, "units/north/ledger.txt against units/north/second.txt")]
    assert seen.proofs == ()


def read_ledger_of(evidence: Evidence) -> RawLedger:
    return parse_export(evidence.members["units/north/ledger.txt"].data)


def test_a_fork_inside_one_bundle_is_proved_too(evidence: Evidence, unit: Forgery, tmp_path: Path) -> None:
    unit.line("approval").body["source_sha256"] = HASH
    second = north_of(unit, tmp_path / "second.db")
    members = [*evidence.members.values(), Member("units/north/second.txt", Role.LEDGER, second.data)]
    seen = found(pack(members))
    assert (Fault.FORK, "units/north/ledger.txt against units/north/second.txt") in faults(seen)
    assert len(seen.proofs) == 1


def test_each_of_many_copies_is_looked_at_once(evidence: Evidence, unit: Forgery, tmp_path: Path) -> None:
    """Somebody hostile can put thousands of copies in; the time grows with their number, not with its square."""
    true = evidence.members["units/north/ledger.txt"]
    unit.line("approval").body["source_sha256"] = HASH
    second = north_of(unit, tmp_path / "second.db")
    copies = [replace(true, name=f"units/north/copy-{number}.txt") for number in range(60)]
    seen = found(pack([*copies, second]))
    assert [one.fault for one in seen.findings] == [Fault.FORK]


def test_findings_without_end_are_not_listed_without_end(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedseg.audit.review.FINDINGS_MAX", 5)
    plans = [Member(f"jobs/{number}/plan.toml", Role.PLAN, b"?") for number in range(9)]
    assert len(found(pack([*evidence.members.values(), *plans])).findings) == 5


# Any changed byte


def test_a_flipped_byte_anywhere_in_a_member_is_found_even_if_the_manifest_is_made_to_fit(
    evidence: Evidence, keys: dict[str, PublicKey]
) -> None:
    """Somebody who repacks the bundle after the change; ten places of each member."""
    for name, member in evidence.members.items():
        step = max(len(member.data) // 10, 1)
        for place in range(0, len(member.data), step):
            data = bytearray(member.data)
            data[place] ^= 1
            seen = found(evidence.changed(name, bytes(data)).packed(), keys=keys)
            if not seen.findings:
                # A plan and a policy are what they say: a letter in a comment or a blank more is no other plan.
                assert member.role in {Role.PLAN, Role.POLICY}, (name, place)


# From a folder


def run_folder(finished: SmallFederation, path: Path) -> Path:
    """The homes as a run has them."""
    copy = finished.copied_to(path / "copy")
    (path / "run/nodes").mkdir(parents=True)
    for unit in ("north", "south"):
        (copy.path / unit).rename(path / "run/nodes" / unit)
    (copy.path / "server").rename(path / "run/server")
    (path / "run/plan.toml").write_bytes(finished.document)
    return path / "run"


def test_a_runs_folder_becomes_the_same_bundle_every_time(finished: SmallFederation, tmp_path: Path) -> None:
    run = run_folder(finished, tmp_path)
    one, two = write_bundle(collect(run), tmp_path / "one.zip"), write_bundle(collect(run), tmp_path / "two.zip")
    assert one == two == (tmp_path / "one.zip").read_bytes()
    assert [member.name for member in unpack(one)] == [
        "plan.toml",
        "server/ledger.txt",
        "units/north/ledger.txt",
        "units/north/policy.yaml",
        "units/south/ledger.txt",
        "units/south/policy.yaml",
    ]
    assert found(one).findings == ()
    assert {path.name for path in tmp_path.glob("*.zip*")} == {"one.zip", "two.zip"}
    # Whoever is asked to check it can read it: there is nothing secret in it.
    assert (tmp_path / "one.zip").stat().st_mode & 0o777 == 0o644


def test_no_customer_and_no_private_key_gets_into_a_bundle(finished: SmallFederation, tmp_path: Path) -> None:
    run = run_folder(finished, tmp_path)
    data = write_bundle(collect(run), tmp_path / "run.zip")
    assert b"north-1" not in data
    for key in [*run.rglob("*.key")]:
        secret = key.read_bytes().splitlines()[1] if key.read_bytes().startswith(b"---") else key.read_bytes()
        assert secret not in data


def test_each_partys_own_folder_can_be_bundled(finished: SmallFederation, tmp_path: Path) -> None:
    run = run_folder(finished, tmp_path)
    assert [one.name for one in collect(run / "server")] == ["server/ledger.txt"]
    assert [one.name for one in collect(run / "nodes/north")] == ["units/north/ledger.txt", "units/north/policy.yaml"]
    # A server's directory, with one job that it has run and one that is still in its queue.
    for name, document in (("ran", finished.document), ("queued", finished.document.replace(b'"small"', b'"later"'))):
        (run / "jobs" / name).mkdir(parents=True)
        (run / "jobs" / name / "plan.toml").write_bytes(document)
    # What is far too large to be a plan is none, and a job may have no plan yet.
    (run / "jobs/new").mkdir()
    (run / "jobs/strange").mkdir()
    (run / "jobs/strange/plan.toml").write_bytes(b"#" * (PLAN_BYTES_MAX + 1))
    (run / "plan.toml").unlink()
    (run / "nodes").rename(tmp_path / "nodes")
    assert [one.name for one in collect(run)] == ["server/ledger.txt", "jobs/ran/plan.toml"]
    assert [one.name for one in collect(run / "jobs/ran")] == ["server/ledger.txt", "plan.toml"]
    # A node's directory.
    (tmp_path / "node").mkdir()
    (tmp_path / "nodes/south").rename(tmp_path / "node/unit")
    assert [one.name for one in collect(tmp_path / "node")] == ["units/south/ledger.txt", "units/south/policy.yaml"]


def test_a_folder_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no evidence"):
        collect(tmp_path)


def test_evidence_that_does_not_check_out_is_bundled_as_it_is(
    finished: SmallFederation, unit: Forgery, tmp_path: Path
) -> None:
    run = run_folder(finished, tmp_path)
    unit.line("policy").body["rho_cap"] = "8/1"
    (run / "nodes/north/ledger.db").unlink()
    unit.write(run / "nodes/north/ledger.db")
    assert (Fault.POLICY, "units/north/ledger.txt") in faults(found(pack(collect(run))))


def test_a_bundle_is_written_as_a_whole_or_not_at_all(finished: SmallFederation, tmp_path: Path) -> None:
    members = collect(run_folder(finished, tmp_path))
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError):
        write_bundle(members, tmp_path / "taken")
    assert list(tmp_path.glob("tmp*")) == []


def test_a_home_with_a_name_that_no_bundle_can_have_is_refused(finished: SmallFederation, tmp_path: Path) -> None:
    forgery = Forgery("fedseg/unit/../north", SigningKey.generate(), {"role": "unit", "unit": "../north"})
    forgery.write(tmp_path / "ledger.db")
    with pytest.raises(VerificationError, match="can be called"):
        collect(tmp_path)


def test_a_file_that_is_far_too_large_to_be_a_policy_is_refused(
    finished: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedseg.audit.bundle._FILE_LIMIT_BYTES", 100)
    with pytest.raises(SettingsError, match="not what its name says"):
        collect(run_folder(finished, tmp_path))


def test_two_ledgers_of_one_log_are_two_bundles(finished: SmallFederation, tmp_path: Path) -> None:
    run = run_folder(finished, tmp_path)
    (run / "unit").symlink_to(run / "nodes/north")
    with pytest.raises(SettingsError, match="two ledgers"):
        collect(run)
