"""Each fault of the table is shown by evidence that has it, forged with the true keys; a fault that nothing shows fails."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.audit.certificate import review_certificates, verify_certificate
from fedseg.audit.entries import failed
from fedseg.audit.faults import Fault
from fedseg.audit.memory import Memory
from fedseg.audit.proof import PROOF_START
from fedseg.audit.review import review
from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.certificate import ProvenCertificate, ToldRecipient
from fedseg.errors import VerificationError
from fedseg.ledger.export import export_ledger
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.node.home import NodeHome
from fedseg.plan import parse_plan
from fedseg.privacy.budget import fraction_text, parse_fraction
from fedseg.privacy.release import release_id
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from tests.forged_bundle import Evidence
from tests.forged_certificate import closed_certificate, copied, forged_certificate, true_certificate, unit_with_rounds
from tests.forged_ledger import (
    Forgery,
    Line,
    approval_line,
    key_change_line,
    policy_line,
    resigned,
    rights_line,
    under_policy,
    with_note,
)
from tests.small_federation import SmallFederation, policy_document

HASH = "ab" * 32


@dataclass
class Case:
    """A finished run, its ledgers to be changed, and room for files."""

    finished: SmallFederation
    unit: Forgery
    server: Forgery
    path: Path

    @functools.cached_property
    def certified(self) -> NodeHome:
        """A unit that has answered a plan's rounds, the day before somebody is erased; to be changed."""
        return copied(unit_with_rounds(), self.path / "certified")

    def verify_unit(self) -> None:
        self.unit.verify(self.path / "unit.db")

    def verify_server(self) -> None:
        self.server.verify(self.path / "server.db")

    def compare(self) -> None:
        units = [self.unit.verify(self.path / "unit.db")]
        check_against_units(self.server.verify(self.path / "server.db"), units, self.finished.plan)

    def raw(self) -> RawLedger:
        """The unit's ledger as it was found."""
        return read_ledger(self.unit.write(self.path / "unit.db"))

    def verify_export(self, data: bytes) -> None:
        (self.path / "unit.txt").write_bytes(data)
        verify_ledger(self.path / "unit.txt", self.unit.key.public)

    def verify_raw(self, raw: RawLedger) -> None:
        self.verify_export(export_ledger(raw))

    def evidence(self) -> Evidence:
        """The ledgers as they stand now, as members of a bundle."""
        return Evidence.of(self.finished, self.path, north=self.unit, server=self.server)


Show = Callable[[Case], None]
SHOWN: dict[Fault, Show] = {}


def shows(fault: Fault) -> Callable[[Show], Show]:
    """Marks what shows a fault."""

    def take(show: Show) -> Show:
        assert fault not in SHOWN
        SHOWN[fault] = show
        return show

    return take


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_is_found_where_it_is(
    fault: Fault, finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path
) -> None:
    assert fault in SHOWN, "nothing in this file shows it"
    with pytest.raises(VerificationError) as found:
        SHOWN[fault](Case(finished, unit, server, tmp_path))
    assert found.value.data["fault"] == fault.code
    assert found.value.exit_code == 9


def test_true_ledgers_show_no_fault(finished: SmallFederation, unit: Forgery, server: Forgery, tmp_path: Path) -> None:
    case = Case(finished, unit, server, tmp_path)
    case.compare()
    case.verify_raw(read_ledger(tmp_path / "unit.db"))


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_has_a_code_and_whole_sentences_for_people(fault: Fault) -> None:
    assert re.fullmatch(r"[A-Z][0-9]*-[a-z-]+", fault.code)
    assert [one for one in Fault if str(one) == fault.code] == [fault]
    assert re.fullmatch(r"[A-Z].*\.", fault.says)
    assert re.fullmatch(r"[A-Z].*\.", fault.means)
    assert re.fullmatch(r"[a-z].*[^.]", fault.act)


# The log


@shows(Fault.KEY)
def signed_by_another(case: Case) -> None:
    verify_ledger(case.unit.write(case.path / "unit.db"), SigningKey.generate().public)


@shows(Fault.KEY_CHANGE)
def a_key_that_no_key_has_introduced(case: Case) -> None:
    raw = case.raw()
    case.verify_raw(with_note(raw, len(raw.entries), SigningKey.generate()))


@shows(Fault.REPLACED)
def the_old_key_after_its_end(case: Case) -> None:
    case.unit.lines += [key_change_line(SigningKey.generate()), rights_line()]
    raw = case.raw()
    case.verify_raw(with_note(raw, len(raw.entries), case.unit.key))


@shows(Fault.OWNER)
def a_name_that_is_not_the_logs(case: Case) -> None:
    case.unit.genesis["unit"] = "south"
    case.verify_unit()


@shows(Fault.PLAN_KEY)
def another_key_than_the_plans(case: Case) -> None:
    case.unit.key = SigningKey.generate()
    case.verify_unit()


@shows(Fault.SIGNATURE)
def a_note_of_another_size(case: Case) -> None:
    raw = case.raw()
    (size, note), *later = raw.notes
    case.verify_raw(replace(raw, notes=((size, note.replace("\n1\n", "\n2\n")), *later)))


@shows(Fault.CHECKPOINT_ORDER)
def checkpoints_out_of_order(case: Case) -> None:
    raw = case.raw()
    case.verify_raw(replace(raw, notes=raw.notes[::-1]))


@shows(Fault.UNREADABLE)
def a_letter(case: Case) -> None:
    case.verify_export(b"Dear auditor, all went well.")


@shows(Fault.FORM)
def an_entry_with_a_blank(case: Case) -> None:
    case.verify_export(export_ledger(case.raw()).replace(b'{"body":', b'{ "body":', 1))


@shows(Fault.KIND)
def an_entry_of_no_kind(case: Case) -> None:
    case.unit.lines.append(Line("certificate", {"by": "a friend"}))
    case.verify_unit()


@shows(Fault.FIELDS)
def a_field_less(case: Case) -> None:
    del case.unit.line("release").body["gate_commitment"]
    case.verify_unit()


@shows(Fault.PLACE)
def an_entry_less(case: Case) -> None:
    lines = export_ledger(case.raw()).splitlines(keepends=True)
    case.verify_export(b"".join([lines[0], b"entries 5\n", *lines[2:4], *lines[5:]]))


@shows(Fault.ROOT)
def an_entry_changed_after_it_was_signed(case: Case) -> None:
    raw = case.raw()
    *earlier, last = raw.entries
    case.verify_raw(replace(raw, entries=(*earlier, replace(last, body={**last.body, "rho_spent_after": "1/9"}))))


@shows(Fault.UNCOVERED)
def a_checkpoint_less(case: Case) -> None:
    raw = case.raw()
    case.verify_raw(replace(raw, notes=raw.notes[:-1]))


@shows(Fault.PAYLOAD)
def bytes_changed_after_they_were_logged(case: Case) -> None:
    raw = case.raw()
    case.verify_raw(replace(raw, payloads={name: data + b"!" for name, data in raw.payloads.items()}))


# The account


@shows(Fault.CHARGE)
def cheaper_releases(case: Case) -> None:
    for line in case.unit.all("release"):
        line.body["charge"]["rho"] = "1/1048576"
    case.unit.recharge()
    case.verify_unit()


@shows(Fault.MECHANISM)
def less_noise_at_a_true_price(case: Case) -> None:
    for line in case.unit.all("release"):
        line.body["mechanism"]["sigma"] //= 4
    case.unit.recharge()
    case.verify_unit()


@shows(Fault.PRICE)
def a_cheaper_reservation(case: Case) -> None:
    case.unit.line("approval").body["step_rhos"] = ["1/1048576"] * 3
    case.unit.line("approval").body["rho_reserved_after"] = "3/1048576"
    case.verify_unit()


@shows(Fault.TOTAL)
def one_release_less(case: Case) -> None:
    case.unit.drop("release", 1)
    case.verify_unit()


@shows(Fault.CAP)
def two_plans_that_only_fit_one_by_one(case: Case) -> None:
    document, rho = case.finished.document, sum(case.finished.plan.step_rhos, Fraction(0))
    policy = policy_document(rho_cap=fraction_text(rho * 3 / 2))
    another = document.replace(b'name = "small"', b'name = "another"')
    case.unit.lines = [
        policy_line(policy),
        approval_line(parse_plan(document), document, policy),
        approval_line(parse_plan(another), another, policy, reserved_before=rho),
    ]
    case.verify_unit()


@shows(Fault.UNRESERVED)
def released_without_an_approval(case: Case) -> None:
    case.unit.drop("approval")
    case.verify_unit()


@shows(Fault.TWICE)
def a_round_answered_twice(case: Case) -> None:
    first = case.unit.line("release")
    wanted = release_id(first.body["plan_sha256"], "north", 0, HASH)
    data = resigned(first.data, case.unit.key, release_id=bytes.fromhex(wanted), request=bytes.fromhex(HASH))
    body = {**first.body, "release_id": wanted, "request_sha256": HASH}
    case.unit.lines.append(Line("release", body, (f"release:{wanted}", data)))
    case.unit.recharge()
    case.verify_unit()


# Policy, plan and approval


@shows(Fault.POLICY)
def a_cap_that_the_document_does_not_have(case: Case) -> None:
    case.unit.line("policy").body["rho_cap"] = "8/1"
    case.verify_unit()


@shows(Fault.NOT_IN_FORCE)
def approved_under_a_policy_that_was_never_logged(case: Case) -> None:
    case.unit.line("approval").body["policy_sha256"] = policy_line(policy_document(min_cohort=1)).body["policy_sha256"]
    case.verify_unit()


@shows(Fault.REFUSED)
def approved_against_the_policy(case: Case) -> None:
    under_policy(case.unit, policy_document(columns=["visits"]))
    case.verify_unit()


@shows(Fault.APPROVAL)
def approved_for_another_purpose(case: Case) -> None:
    case.unit.line("approval").body["purpose"] = "fedseg:SegmentActivation"
    case.verify_unit()


@shows(Fault.ATTESTED)
def a_word_that_was_not_asked_for(case: Case) -> None:
    case.unit.line("approval").body["max_units_attested"] = 1
    case.verify_unit()


@shows(Fault.UNSIGNED)
def a_policy_without_its_officers(case: Case) -> None:
    key = SigningKey.generate().public.to_text()
    under_policy(case.unit, policy_document(approvals=f"approvals: {{officers: {{dpo: '{key}'}}, required: 1}}\n"))
    case.verify_unit()


@shows(Fault.DECIDED)
def approved_as_if_by_the_policys_own_terms(case: Case) -> None:
    case.unit.line("approval").body["automatic"] = True
    case.verify_unit()


@shows(Fault.REQUESTER)
def a_requester_who_has_not_signed(case: Case) -> None:
    approval = case.unit.line("approval").body
    approval["requester"] = SigningKey.generate().public.to_text()
    approval["requester_signature"] = "00" * 64
    case.verify_unit()


@shows(Fault.ENDED)
def released_after_the_end(case: Case) -> None:
    approval, last = case.unit.line("approval").body, case.unit.line("release", 2)
    spent = parse_fraction(case.unit.line("release", 1).body["rho_spent_after"])
    reserved = parse_fraction(approval["rho_reserved_after"])
    body = {
        "version": 1,
        "plan_sha256": approval["plan_sha256"],
        "ending": "cancelled",
        "rho_returned": fraction_text(reserved - spent),
        "rho_reserved_after": fraction_text(spent),
        "closed_on": last.body["released_on"],
    }
    case.unit.lines.insert(case.unit.lines.index(last), Line("closing", body))
    case.verify_unit()


@shows(Fault.CLOCK)
def a_clock_set_back(case: Case) -> None:
    case.unit.line("release", 2).body["released_on"] = "2025-05-31"
    case.verify_unit()


@shows(Fault.RIGHTS)
def a_day_without_its_rights_requests(case: Case) -> None:
    for period in ("2025-06-01", "2025-06-03"):
        body = {"version": 1, "period": period, "capacity": 1024, "root": HASH}
        case.unit.lines.append(Line("rights_batch", body))
    case.verify_unit()


# Bytes that were sent


@shows(Fault.RELEASE)
def bytes_signed_by_another(case: Case) -> None:
    line = case.unit.line("release")
    assert line.payload is not None
    line.payload = (line.payload[0], resigned(line.data, SigningKey.generate()))
    case.verify_unit()


@shows(Fault.SENT)
def noise_called_real(case: Case) -> None:
    case.unit.line("release").body["noise_source"] = "system"
    case.verify_unit()


# The server, and one side against the other


@shows(Fault.SERVER_PLAN)
def the_plan_under_another_hash(case: Case) -> None:
    case.server.lines.append(Line("plan", {"plan_sha256": HASH}, (f"plan:{HASH}", case.server.line("plan").data)))
    case.verify_server()


@shows(Fault.CONTRIBUTION)
def contributions_to_no_plan(case: Case) -> None:
    case.server.drop("plan")
    case.verify_server()


@shows(Fault.ROUND)
def a_round_of_a_unit_that_did_not_answer(case: Case) -> None:
    case.server.line("round").body["units"] = ["east", "north", "south"]
    case.verify_server()


@shows(Fault.PUBLICATION)
def published_before_the_end(case: Case) -> None:
    published = case.server.drop("publication")
    case.server.lines.insert(case.server.lines.index(case.server.line("round", 2)), published)
    case.verify_server()


@shows(Fault.SEGMENTS)
def a_segment_made_larger(case: Case) -> None:
    line = case.server.line("publication")
    true = parse_signed(line.data).segmentation
    first = true.segments[0].model_copy(update={"size": 10**6})
    false = true.model_copy(update={"segments": (first, *true.segments[1:])})
    assert line.payload is not None
    line.payload = (line.payload[0], SignedSegmentation.sign(false, case.server.key).to_json())
    case.verify_server()


@shows(Fault.UNPUBLISHED)
def nothing_published(case: Case) -> None:
    case.server.drop("publication")
    recompute_segmentation(case.server.verify(case.path / "server.db"), case.finished.plan)


@shows(Fault.UNCHARGED)
def counted_but_not_charged(case: Case) -> None:
    case.unit.drop("release", 2)
    case.compare()


@shows(Fault.FORBIDDEN)
def a_count_of_customers(case: Case) -> None:
    case.unit.line("release").body["customers"] = 60
    case.verify_unit()


# Bundles: each side against the other, against memory, and the file itself


def audit(files: Mapping[str, bytes], memory: Memory | None = None) -> None:
    """What the command line does with what is found first."""
    found = review(files, {}, memory)
    if found.findings:
        first = found.findings[0]
        assert found.memory == (memory or Memory())
        raise failed(first.fault, first.what)


@shows(Fault.OTHER_BYTES)
def charged_another_release_than_was_counted(case: Case) -> None:
    line = case.unit.line("release", 2)
    assert line.payload is not None
    zeros = [0] * (line.body["cells"] * line.body["width"])
    line.payload = (line.payload[0], resigned(line.data, case.unit.key, values=zeros))
    audit({"run.zip": case.evidence().packed()})


@shows(Fault.NOISE)
def simulated_noise_published_as_real(case: Case) -> None:
    evidence = case.evidence().without("server/ledger.txt")
    audit({"run.zip": evidence.changed("segmentation.json", result(case, noise="system")).packed()})


def result(case: Case, **changes: str) -> bytes:
    """The true result with something else in it, signed by the server."""
    true = parse_signed(case.server.line("publication").data).segmentation
    return SignedSegmentation.sign(true.model_copy(update=changes), case.server.key).to_json()


@shows(Fault.TERMS)
def a_better_epsilon_than_was_agreed(case: Case) -> None:
    evidence = case.evidence().without("server/ledger.txt")
    audit({"run.zip": evidence.changed("segmentation.json", result(case, epsilon="1/100")).packed()})


@shows(Fault.RESULTS)
def two_results_for_two_people(case: Case) -> None:
    evidence = case.evidence().without("server/ledger.txt")
    other = evidence.changed("segmentation.json", result(case, algorithm="fedseg-cells-2"))
    audit({"one.zip": evidence.packed(), "another.zip": other.packed()})


@shows(Fault.UNLOGGED)
def a_policy_that_is_not_the_one_in_force(case: Case) -> None:
    audit({"run.zip": case.evidence().changed("units/north/policy.yaml", policy_document(min_cohort=50)).packed()})


@shows(Fault.STRAY)
def the_plan_of_another_run(case: Case) -> None:
    another = case.finished.document.replace(b'name = "small"', b'name = "another"')
    audit({"run.zip": case.evidence().changed("plan.toml", another).packed()})


@shows(Fault.SHORTER)
def last_months_ledger(case: Case) -> None:
    memory = review({"run.zip": case.evidence().packed()}, {}).memory
    case.unit.lines.pop()
    audit({"run.zip": case.evidence().only("units/north/ledger.txt").packed()}, memory)


@shows(Fault.REWRITTEN)
def written_anew_under_one_checkpoint(case: Case) -> None:
    """Without a signature at the size that was seen nobody can prove two histories; but there are two."""
    memory = review({"run.zip": case.evidence().packed()}, {}).memory
    case.unit.line("approval").body["source_sha256"] = HASH
    case.unit.lines.append(policy_line(policy_document(min_cohort=6), place=6))
    raw = case.raw()
    evidence = case.evidence().only("units/north/ledger.txt")
    bare = export_ledger(replace(raw, notes=raw.notes[-1:]))
    audit({"run.zip": evidence.changed("units/north/ledger.txt", bare).packed()}, memory)


@shows(Fault.FORK)
def two_histories_for_two_people(case: Case) -> None:
    shown_to_one = case.evidence().only("units/north/ledger.txt").packed()
    case.unit.line("approval").body["source_sha256"] = HASH
    shown_to_another = case.evidence().only("units/north/ledger.txt").packed()
    audit({"one.zip": shown_to_one, "another.zip": shown_to_another})


@shows(Fault.NO_PROOF)
def an_accusation_without_signatures(case: Case) -> None:
    audit({"proof.json": PROOF_START + b"}"})


@shows(Fault.ARCHIVE)
def packed_by_another_program(case: Case) -> None:
    audit({"run.zip": case.evidence().packed_by_python()})


@shows(Fault.BUNDLE_SIZE)
def a_size_that_no_file_has(case: Case) -> None:
    data = case.evidence().packed()
    audit({"run.zip": data[:22] + b"\xff\xff\xff\xff" + data[26:]})


@shows(Fault.MANIFEST)
def a_name_that_leads_out_of_the_folder(case: Case) -> None:
    audit({"run.zip": case.evidence().packed_with_manifest(b'"plan.toml"', b'"../xplan"')})


@shows(Fault.EMPTY)
def nothing_but_a_plan(case: Case) -> None:
    audit({"run.zip": case.evidence().only("plan.toml").packed()})


@shows(Fault.MEMBER)
def a_member_changed_in_its_place(case: Case) -> None:
    audit({"run.zip": case.evidence().packed().replace(b"fedseg/unit/north", b"fedseg/unit/nord!")})


# Certificates of erasure


def check_certificate(case: Case, data: bytes) -> None:
    ledger = verify_ledger(case.certified.path / "ledger.db", case.certified.key.public)
    verify_certificate(data, [], ledger)


@shows(Fault.NO_CERTIFICATE)
def bytes_that_are_no_certificate(case: Case) -> None:
    check_certificate(case, true_certificate(case.certified)[:-2])


@shows(Fault.CERTIFICATE_KEY)
def a_certificate_without_a_known_key(case: Case) -> None:
    verify_certificate(true_certificate(case.certified), [SigningKey.generate().public])


@shows(Fault.UNCERTIFIED)
def a_certificate_with_another_salt(case: Case) -> None:
    found = ProvenCertificate.from_bytes(true_certificate(case.certified))
    check_certificate(case, replace(found, salt=bytes(32)).to_bytes())


@shows(Fault.BACKDATED)
def an_erasure_of_a_later_day(case: Case) -> None:
    check_certificate(case, forged_certificate(case.certified, completed="2025-06-03"))


@shows(Fault.LATE)
def an_erasure_after_it_was_due(case: Case) -> None:
    check_certificate(case, forged_certificate(case.certified, due="2025-05-31"))


@shows(Fault.ROUNDS)
def rounds_that_are_not_named(case: Case) -> None:
    check_certificate(case, forged_certificate(case.certified, drawn=[]))


@shows(Fault.STORE_LEFT_OUT)
def a_store_that_is_not_named(case: Case) -> None:
    check_certificate(case, forged_certificate(case.certified, stores=[]))


@shows(Fault.UNTOLD)
def a_recipient_that_was_not_told(case: Case) -> None:
    silent = ToldRecipient(recipient="mailer", status="failed", day="2025-06-02")
    check_certificate(case, forged_certificate(case.certified, recipients=[silent]))


@shows(Fault.CLOSING)
def an_end_of_backups_that_the_certificate_does_not_speak_of(case: Case) -> None:
    check_certificate(case, closed_certificate(case.certified))


@shows(Fault.CONTRADICTED)
def two_certificates_of_one_request(case: Case) -> None:
    one, other = case.certified, copied(case.certified, case.path / "other")
    files = {
        "one": forged_certificate(one, request_id="ab" * 16),
        "two": forged_certificate(other, request_id="ab" * 16, ground="17(1)(a)"),
    }
    _, (finding,) = review_certificates(files, {"north": one.key.public}, [])
    raise failed(finding.fault, finding.what)
