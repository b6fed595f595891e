"""An audit follows a ledger from one key to the next, and lets nobody slip in between."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedseg.audit.archive import Member, Role, pack
from fedseg.audit.faults import Fault
from fedseg.audit.memory import Memory, read_memory, write_memory
from fedseg.audit.review import Review, review
from fedseg.audit.verify import check_against_units, verify_ledger, verify_raw
from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint
from fedseg.ledger.export import export_ledger
from fedseg.ledger.key_change import sign_key_change
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from tests.forged_ledger import Forgery, Line, approval_line, key_change_line, rights_line, with_note
from tests.small_federation import SmallFederation, policy_document


@pytest.fixture
def new() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def changed(unit: Forgery, new: SigningKey) -> Forgery:
    """The unit's ledger of a finished run, then another key, then a day's entry signed with it."""
    unit.lines += [key_change_line(new), rights_line()]
    return unit


def refusal(check: Callable[[], object]) -> VerificationError:
    with pytest.raises(VerificationError) as refused:
        check()
    return refused.value


def server_change(new: SigningKey, **body: str) -> Line:
    return Line("key_change", dict(body), new_key=new)


def bundle(unit: Forgery, path: Path) -> bytes:
    member = Member("units/north/ledger.txt", Role.LEDGER, export_ledger(read_ledger(unit.write(path))))
    return pack([member])


def audit(data: bytes, memory: Memory | None = None, **keys: SigningKey) -> Review:
    return review({"bundle": data}, {name: key.public for name, key in keys.items()}, memory)


# By itself


def test_a_ledger_verifies_with_each_key_it_has_had_and_states_the_one_in_force(
    changed: Forgery, new: SigningKey, tmp_path: Path
) -> None:
    path = changed.write(tmp_path / "unit.db")
    for key in (changed.key, new):
        facts = verify_ledger(path, key.public)
        assert facts.keys == (changed.key.public, new.public)
        assert facts.public_key == new.public
    stranger = SigningKey.generate().public
    assert refusal(lambda: verify_ledger(path, stranger)).fault == Fault.KEY.code


def test_plans_that_were_finished_before_the_change_still_agree_with_the_server(
    changed: Forgery, server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    unit = changed.verify(tmp_path / "unit.db")
    check_against_units(server.verify(tmp_path / "server.db"), [unit], finished.plan)


def test_the_key_is_not_replaced_while_a_plan_that_names_it_is_unfinished(
    unit: Forgery, new: SigningKey, tmp_path: Path
) -> None:
    unit.drop("release", -1)
    unit.lines.append(key_change_line(new))
    refused = refusal(lambda: unit.verify(tmp_path / "unit.db"))
    assert refused.fault == Fault.PLAN_KEY.code
    assert "is not finished" in refused.why


def test_it_may_be_once_the_plan_has_been_ended(unit: Forgery, new: SigningKey, tmp_path: Path) -> None:
    plan, last = unit.line("approval").body["plan_sha256"], unit.drop("release", -1)
    spent = unit.line("release", -1).body["rho_spent_after"]
    unit.lines.append(
        Line(
            "closing",
            {
                "version": 1,
                "plan_sha256": plan,
                "ending": "cancelled",
                "rho_returned": last.body["charge"]["rho"],
                "rho_reserved_after": spent,
                "closed_on": "2100-01-01",
            },
        )
    )
    unit.lines.append(key_change_line(new))
    assert unit.verify(tmp_path / "unit.db").public_key == new.public


@pytest.mark.parametrize("names_the_new_key", [True, False])
def test_a_plan_that_is_approved_after_the_change_names_the_new_key(
    unit: Forgery, finished: SmallFederation, new: SigningKey, tmp_path: Path, *, names_the_new_key: bool
) -> None:
    before, unit.lines = unit.line("approval"), unit.lines[:1]
    document = before.data.replace(b"seed = 7", b"seed = 8")
    if names_the_new_key:
        document = document.replace(unit.key.public.to_text().encode(), new.public.to_text().encode())
    unit.lines += [key_change_line(new, "2025-06-01"), approval(document)]
    if names_the_new_key:
        assert len(unit.verify(tmp_path / "unit.db").account.reservations) == 1
    else:
        assert refusal(lambda: unit.verify(tmp_path / "unit.db")).fault == Fault.PLAN_KEY.code


def approval(document: bytes) -> Line:
    from fedseg.plan import parse_plan

    return approval_line(parse_plan(document), document, policy_document())


def test_a_change_is_dated_no_earlier_than_what_stands_before_it(
    unit: Forgery, new: SigningKey, tmp_path: Path
) -> None:
    unit.lines.append(key_change_line(new, "2025-05-31"))
    assert refusal(lambda: unit.verify(tmp_path / "unit.db")).fault == Fault.CLOCK.code


def test_a_change_says_when_and_nothing_else(unit: Forgery, new: SigningKey, tmp_path: Path) -> None:
    unit.lines.append(key_change_line(new))
    unit.lines[-1].body["customers"] = 7
    assert refusal(lambda: unit.verify(tmp_path / "unit.db")).fault == Fault.FORBIDDEN.code


def test_a_server_may_replace_its_key_and_signs_with_the_new_one(
    server: Forgery, new: SigningKey, tmp_path: Path
) -> None:
    old_result = server.drop("publication")
    server.lines.append(server_change(new))
    signed = SignedSegmentation.sign(parse_signed(old_result.data).segmentation, new)
    assert old_result.payload is not None
    new_result = replace(old_result, payload=(old_result.payload[0], signed.to_json()))
    server.lines.append(new_result)
    facts = server.verify(tmp_path / "new.db")
    assert facts.public_key == new.public
    assert list(facts.published.values()) == [signed]
    server.lines[-1] = old_result
    assert refusal(lambda: server.verify(tmp_path / "old.db")).fault == Fault.PUBLICATION.code


def test_a_servers_change_of_key_says_nothing_else(server: Forgery, new: SigningKey, tmp_path: Path) -> None:
    server.lines.append(server_change(new, reason="lost"))
    assert refusal(lambda: server.verify(tmp_path / "server.db")).fault == Fault.FORBIDDEN.code


def test_a_result_of_before_the_change_is_still_the_servers(
    server: Forgery, finished: SmallFederation, new: SigningKey, tmp_path: Path
) -> None:
    server.lines.append(server_change(new))
    published = server.line("publication").data
    ledger = Member("server/ledger.txt", Role.LEDGER, export_ledger(read_ledger(server.write(tmp_path / "server.db"))))
    found = audit(pack([ledger, Member("segmentation.json", Role.SEGMENTATION, published)]), server=server.key)
    assert found.findings == ()


# Who signs what


def notes_fault(raw: RawLedger) -> str:
    return refusal(lambda: verify_raw(raw)).fault


def test_each_way_around_the_old_key_has_its_name(changed: Forgery, new: SigningKey, tmp_path: Path) -> None:
    raw = read_ledger(changed.write(tmp_path / "unit.db"))
    size = len(raw.entries)
    assert verify_raw(raw).size == size
    without = replace(raw, notes=tuple(one for one in raw.notes if one[0] != size - 1))
    assert notes_fault(without) == Fault.KEY_CHANGE.code
    assert notes_fault(with_note(raw, size - 1, new)) == Fault.KEY_CHANGE.code
    assert notes_fault(with_note(raw, size, changed.key)) == Fault.REPLACED.code
    assert notes_fault(with_note(raw, size, SigningKey.generate())) == Fault.KEY_CHANGE.code
    damaged = replace(raw, notes=(*raw.notes[:-1], (size, raw.notes[-1][1][:-9] + "AAAAAAAA\n")))
    assert notes_fault(damaged) == Fault.SIGNATURE.code
    assert notes_fault(replace(raw, notes=(*raw.notes[:-1], (size, "no note")))) == Fault.SIGNATURE.code


def test_a_key_that_has_not_taken_over_this_very_ledger_is_not_its_key(
    changed: Forgery, new: SigningKey, tmp_path: Path
) -> None:
    raw = read_ledger(changed.write(tmp_path / "unit.db"))
    before = Checkpoint(raw.origin, 3, raw.history().root(3))
    entries = list(raw.entries)
    stolen = sign_key_change(before, raw.public_key, new, {"version": 1, "changed_on": "2025-06-01"})
    entries[-2] = replace(entries[-2], body=stolen)
    forged = RawLedger(raw.origin, raw.public_key, tuple(entries), raw.notes, raw.payloads)
    assert notes_fault(forged) == Fault.KEY_CHANGE.code
    found = audit(pack([Member("units/north/ledger.txt", Role.LEDGER, export_ledger(forged))]))
    assert [one.fault for one in found.findings] == [Fault.KEY_CHANGE]


# From one audit to the next


def test_a_memory_goes_on_across_a_change_of_key(changed: Forgery, new: SigningKey, tmp_path: Path) -> None:
    whole, memory = changed.lines, Memory()
    for number, lines in enumerate([whole[:-2], whole[:-1], whole, [*whole, rights_line("2025-06-02")]]):
        changed.lines = lines
        found = audit(bundle(changed, tmp_path / f"{number}.db"), memory)
        assert found.findings == ()
        write_memory(tmp_path / "memory", found.memory)
        memory = read_memory(tmp_path / "memory")
        assert memory == found.memory
        assert [log.facts.public_key == new.public for log in found.logs] == [number > 0]
        assert len(memory.seen) == 1
    assert b'"signed_by"' in (tmp_path / "memory").read_bytes()
    changed.lines = whole
    assert [one.fault for one in audit(bundle(changed, tmp_path / "old.db"), memory).findings] == [Fault.SHORTER]


def test_a_memory_of_a_key_that_did_not_sign_is_none(changed: Forgery, tmp_path: Path) -> None:
    write_memory(tmp_path / "memory", audit(bundle(changed, tmp_path / "unit.db"), Memory()).memory)
    data = (tmp_path / "memory").read_bytes()
    (tmp_path / "memory").write_bytes(data.replace(b'"signed_by"', b'"signed_bi"'))
    with pytest.raises(Exception, match="does not hold remembered checkpoints"):
        read_memory(tmp_path / "memory")


def test_whoever_goes_on_with_the_old_key_is_found_by_the_new_one_and_by_memory(
    changed: Forgery, new: SigningKey, tmp_path: Path
) -> None:
    true = bundle(changed, tmp_path / "true.db")
    memory = audit(true, Memory()).memory
    thief = changed.fresh_with([*changed.lines[:-2], rights_line(), rights_line("2025-06-02")])
    forked = bundle(thief, tmp_path / "forked.db")
    assert audit(forked, north=changed.key).findings == (), "the old key alone cannot tell"
    assert [one.fault for one in audit(forked, north=new).findings] == [Fault.KEY]
    assert [one.fault for one in audit(forked, memory).findings] == [Fault.REWRITTEN]
    assert [one.partition(", and has")[0] for one in audit(true, north=new).remarks if "has replaced" in one] == [
        "north has replaced its key"
    ]
    both = review({"true": true, "forked": forked}, {"north": changed.key.public})
    assert [one.fault for one in both.findings] == [Fault.REWRITTEN]


def test_two_changes_of_key_at_one_place_prove_that_the_old_key_signed_both(changed: Forgery, tmp_path: Path) -> None:
    other = changed.fresh_with([*changed.lines[:-2], key_change_line(SigningKey.generate()), rights_line()])
    files = {"one": bundle(changed, tmp_path / "one.db"), "two": bundle(other, tmp_path / "two.db")}
    # Both are written in one transaction up to the change: the checkpoint that ends with it is the old key's.
    found = review(files, {})
    assert [one.fault for one in found.findings] == [Fault.FORK]
    assert [proof.public_key for proof in found.proofs] == [changed.key.public]
