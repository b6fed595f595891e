"""A certificate of erasure is believed for what it proves, offline, and for nothing else."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.audit.certificate import review_certificates, verify_certificate
from fedseg.audit.faults import Fault
from fedseg.audit.verify import verify_ledger
from fedseg.certificate import STORES, ErasedStore, ProvenCertificate, ToldRecipient, commitment, open_certificate
from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint
from fedseg.ledger.dsse import pre_authentication_encoding, seal, unseal
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import sign_note
from fedseg.ledger.proof import InclusionProof, prove_inclusion
from fedseg.ledger.reading import read_ledger
from fedseg.node.home import NodeHome
from tests.forged_certificate import answered, copied, forged_certificate, true_certificate
from tests.small_federation import SmallFederation, make_federation


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """Two units that have answered all rounds of a plan, the day before anybody is erased."""
    path = tmp_path_factory.mktemp("certified") / "federation"
    found = make_federation(path, {"north": 60, "south": 50}).approve_all()
    for unit in found.homes:
        answered(unit, found.plan)
    return found


@pytest.fixture
def home(federation: SmallFederation, tmp_path: Path) -> NodeHome:
    return copied(federation.home("north"), tmp_path / "north")


@pytest.fixture(scope="module")
def known(federation: SmallFederation, tmp_path_factory: pytest.TempPathFactory) -> tuple[NodeHome, bytes]:
    """A unit with a true certificate; not to be changed."""
    home = copied(federation.home("north"), tmp_path_factory.mktemp("known") / "north")
    return home, true_certificate(home)


def told(**changes: Any) -> ToldRecipient:
    return ToldRecipient(**{"recipient": "mailer", "status": "acknowledged", "day": "2025-06-02", **changes})


def fault(data: bytes, home: NodeHome, *, ledger: bool = False) -> str:
    facts = verify_ledger(home.path / "ledger.db", home.key.public) if ledger else None
    with pytest.raises(VerificationError) as found:
        verify_certificate(data, [home.key.public], facts)
    return str(found.value.data["fault"])


def test_a_true_certificate_needs_the_units_key_alone(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    found = verify_certificate(data, [SigningKey.generate().public, home.key.public])
    assert (found.public_key, found.held_against_ledger) == (home.key.public, False)
    assert [one.store for one in found.erasure.stores] == list(STORES)
    assert [one.steps for one in found.erasure.drawn] == [[0, 1, 2]]


def test_with_the_ledger_its_rounds_and_their_price_are_recomputed(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    ledger = verify_ledger(home.path / "ledger.db", home.key.public)
    found = verify_certificate(data, [], ledger)
    assert found.held_against_ledger
    assert found.erasure.rho == ledger.account.rho_spent


def test_it_names_nobody(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    said = json.dumps(
        open_certificate(ProvenCertificate.from_bytes(data).envelope, home.key.public).model_dump(mode="json")
    )
    assert "north-7" not in said
    assert b"north-7" not in data


@settings(max_examples=400, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_found(known: tuple[NodeHome, bytes], where: float, flip: int) -> None:
    home, data = known
    place = int(where * len(data))
    changed = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
    assert fault(changed, home) in {one.code for one in Fault}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"envelope":', b"\xff", b"[" * 100_000, b'{"envelope":' + b"1" * 2_000_000]
)
def test_what_is_no_certificate_is_refused(known: tuple[NodeHome, bytes], data: bytes) -> None:
    assert fault(data, known[0]) == "C1-form"


def test_another_key_signs_nothing_of_the_unit(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    found = ProvenCertificate.from_bytes(data)
    payload = unseal(found.envelope, "application/vnd.in-toto+json", home.key.public)
    stranger = SigningKey.generate()
    forged = replace(found, envelope=seal("application/vnd.in-toto+json", payload, stranger))
    assert fault(forged.to_bytes(), home) == "C1-key"
    with pytest.raises(VerificationError) as refused:
        verify_certificate(data, [])
    assert refused.value.data["fault"] == "C1-key"


def test_a_certificate_of_another_form_is_refused(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    found = ProvenCertificate.from_bytes(data)
    payload = unseal(found.envelope, "application/vnd.in-toto+json", home.key.public)
    statement = json.loads(payload)
    changes: list[dict[str, object]] = [
        {"_type": "https://in-toto.io/Statement/v2"},
        {"more": 1},
        {"predicate": {}},
        {"subject": []},
    ]
    for change in changes:
        envelope = seal("application/vnd.in-toto+json", json.dumps({**statement, **change}).encode(), home.key)
        assert fault(replace(found, envelope=envelope).to_bytes(), home) == "C1-key"
    envelope = seal("text/plain", payload, home.key)
    assert fault(replace(found, envelope=envelope).to_bytes(), home) == "C1-key"


def test_a_certificate_that_is_in_no_days_batch_is_refused(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    found = ProvenCertificate.from_bytes(data)
    for changed in (
        replace(found, salt=bytes(32)),
        replace(found, leaf=found.leaf ^ 1),
        replace(found, path=found.path[1:]),
        replace(found, log_proof=found.log_proof.replace("index ", "index 1")),
        replace(found, log_proof="c2sp.org/tlog-proof@v1\n"),
    ):
        assert fault(changed.to_bytes(), home) == "C3-unlogged"
        assert fault(changed.to_bytes(), home, ledger=True) == "C3-unlogged"


def test_an_entry_that_is_no_batch_binds_nothing(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    other = prove_inclusion(read_ledger(home.path / "ledger.db"), 1).to_text()
    assert fault(replace(ProvenCertificate.from_bytes(data), log_proof=other).to_bytes(), home) == "C3-unlogged"


def test_a_checkpoint_of_another_log_binds_nothing(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    raw = read_ledger(home.path / "ledger.db")
    last = len(raw.entries)
    checkpoint = Checkpoint("fedseg/unit/other", last, raw.history().root())
    note = sign_note(checkpoint.to_text(), raw.origin, home.key)
    found = ProvenCertificate.from_bytes(data)
    proof = replace(InclusionProof.from_text(found.log_proof), note=note)
    assert fault(replace(found, log_proof=proof.to_text()).to_bytes(), home) == "C3-unlogged"


def test_another_units_ledger_is_not_held_against_it(
    known: tuple[NodeHome, bytes], federation: SmallFederation
) -> None:
    home, data = known
    south = federation.home("south")
    ledger = verify_ledger(south.path / "ledger.db", south.key.public)
    with pytest.raises(VerificationError) as found:
        verify_certificate(data, [home.key.public], ledger)
    assert found.value.data["fault"] == "C3-unlogged"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"completed": "2025-06-03"}, "C4-days"),
        ({"received": "2025-06-03"}, "C4-days"),
        ({"due": "2025-05-31"}, "C4-late"),
        ({"stores": []}, "C7-stores"),
        ({"stores": [ErasedStore(store="consent", method="rows deleted and overwritten")] * 2}, "C7-stores"),
        ({"recipients": [told(status="pending")]}, "C8-recipients"),
        ({"recipients": [told(status="failed")]}, "C8-recipients"),
        ({"recipients": [told(), told(status="impossible")]}, "C8-recipients"),
        ({"recipients": [told(day="2025-06-03")]}, "C8-recipients"),
    ],
)
def test_not_even_the_units_key_makes_it_contradict_itself(
    home: NodeHome, changes: dict[str, object], code: str
) -> None:
    assert fault(forged_certificate(home, **changes), home) == code


def test_a_certificate_says_who_was_told_and_who_could_not_be(home: NodeHome) -> None:
    everybody = [
        told(),
        told(recipient="gone.example", status="impossible"),
        told(recipient="x", status="disproportionate"),
    ]
    data = forged_certificate(home, recipients=everybody)
    assert verify_certificate(data, [home.key.public]).erasure.recipients == everybody


def test_a_certificate_of_an_earlier_version_says_nothing_of_recipients_and_holds(
    known: tuple[NodeHome, bytes],
) -> None:
    home, data = known
    found = ProvenCertificate.from_bytes(data)
    statement = json.loads(unseal(found.envelope, "application/vnd.in-toto+json", home.key.public))
    del statement["predicate"]["recipients"]
    envelope = seal("application/vnd.in-toto+json", json.dumps(statement).encode(), home.key)
    assert open_certificate(envelope, home.key.public).recipients == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rho": Fraction(0)},
        {"drawn": []},
        {"ledger_size": 1},
        {"ledger_size": 10_000},
        {"policy_sha256": "ab" * 32},
        {"delta": Fraction(1, 2)},
    ],
)
def test_the_ledger_shows_what_the_unit_leaves_out(home: NodeHome, changes: dict[str, object]) -> None:
    data = forged_certificate(home, **changes)
    verify_certificate(data, [home.key.public])
    assert fault(data, home, ledger=True) == "C5-rounds"


def test_a_release_made_before_and_not_named_is_found(home: NodeHome) -> None:
    data = forged_certificate(home, ledger_size=3, drawn=[], rho=Fraction(0))
    assert fault(data, home, ledger=True) == "C5-rounds"


def test_two_certificates_of_one_request_say_the_same(
    home: NodeHome, federation: SmallFederation, tmp_path: Path
) -> None:
    other = copied(federation.home("north"), tmp_path / "other")
    one = forged_certificate(home, request_id="ab" * 16)
    two = forged_certificate(other, request_id="ab" * 16, ground="17(1)(a)")
    keys = {"north": home.key.public}
    found, findings = review_certificates({"one": one, "two": two}, keys, [])
    assert [(one.fault, one.where) for one in findings] == [(Fault.CONTRADICTED, "one and two")]
    assert not review_certificates({"one": one, "again": one}, keys, [])[1]
    assert set(found) == {"one", "two"}


def test_a_certificate_is_held_against_the_key_of_its_own_unit(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    stranger = SigningKey.generate().public
    for keys in ({"south": home.key.public}, {"north": stranger}, {}):
        _, (finding,) = review_certificates({"c": data}, keys, [])
        assert finding.fault is Fault.CERTIFICATE_KEY
    found, findings = review_certificates({"c": data}, {"north": home.key.public, "south": stranger}, [])
    assert (len(found), findings) == (1, [])


def test_a_units_verified_ledger_stands_in_for_its_key(known: tuple[NodeHome, bytes]) -> None:
    home, data = known
    ledger = verify_ledger(home.path / "ledger.db")
    found, findings = review_certificates({"c": data}, {}, [ledger])
    assert (found["c"].held_against_ledger, findings) == (True, [])


def test_a_salt_has_its_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(b"envelope", b"short")


def test_the_envelope_is_that_of_the_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
