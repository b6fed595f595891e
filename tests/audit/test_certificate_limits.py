"""How far a certificate's checks go: what is just still true is believed, and blame falls on what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedseg.audit.certificate import review_certificates, verify_certificate
from fedseg.audit.faults import Fault
from fedseg.audit.verify import verify_ledger
from fedseg.certificate import (
    FILE_START,
    PAYLOAD_TYPE,
    SALT_BYTES,
    ErasedStore,
    ProvenCertificate,
    commitment,
    open_certificate,
)
from fedseg.errors import VerificationError
from fedseg.ledger.canonical import canonical
from fedseg.ledger.dsse import seal, unseal
from fedseg.ledger.keys import SigningKey
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.erasure import erase, proven_certificate
from fedseg.node.rights.requests import Order
from fedseg.privacy.noise import SimulatedNoise
from tests.forged_certificate import AFTER, ERASED, copied, forged_certificate, true_certificate, unit_with_rounds
from tests.small_federation import NOW, make_federation, some_request


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return copied(unit_with_rounds(), tmp_path / "north")


def test_an_erasure_on_the_last_day_is_in_time(home: NodeHome) -> None:
    data = forged_certificate(home, due=ERASED.date().isoformat())
    assert verify_certificate(data, [home.key.public]).erasure.due == ERASED.date().isoformat()


def test_rounds_of_the_same_day_and_later_may_follow_an_erasure(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "federation", {"north": 60, "south": 50}).approve_all()
    home, plan = federation.home("north"), federation.plan

    def answer(step: int, *, on_the_day: bool) -> None:
        now = ERASED if on_the_day else AFTER
        request = some_request(plan, step)
        contribute(home, plan.digest, request, f"{step:064x}", now=now, source=SimulatedNoise(step))

    contribute(home, plan.digest, some_request(plan, 0), f"{0:064x}", now=NOW, source=SimulatedNoise(0))
    (request,) = erase(home, Order([b"north-7"], "T-1"), ERASED)
    answer(1, on_the_day=True)
    log_days(home, AFTER)
    answer(2, on_the_day=False)
    found = verify_certificate(
        proven_certificate(home, request.id), [], verify_ledger(home.path / "ledger.db", home.key.public)
    )
    assert [one.steps for one in found.erasure.drawn] == [[0]]


def test_a_unit_that_has_adopted_no_policy_yet_certifies_all_the_same(tmp_path: Path) -> None:
    home = make_federation(tmp_path / "federation", {"north": 60, "south": 50}).home("north")
    found = verify_certificate(true_certificate(home), [], verify_ledger(home.path / "ledger.db", home.key.public))
    assert found.erasure.drawn == []
    assert found.erasure.rho == 0


def test_its_own_unit_s_key_is_found_among_others(home: NodeHome) -> None:
    data, stranger = true_certificate(home), SigningKey.generate().public
    found, findings = review_certificates({"c": data}, {"another": stranger, "north": home.key.public}, [])
    assert (set(found), findings) == ({"c"}, [])


def test_the_fault_of_its_own_unit_is_told_and_not_that_others_keys_do_not_fit(home: NodeHome) -> None:
    data, stranger = forged_certificate(home, stores=[]), SigningKey.generate().public
    _, (finding,) = review_certificates({"c": data}, {"north": home.key.public, "south": stranger}, [])
    assert finding.fault is Fault.STORE_LEFT_OUT


def test_a_key_given_for_another_unit_is_said_to_be_that(home: NodeHome) -> None:
    _, (finding,) = review_certificates({"c": true_certificate(home)}, {"south": home.key.public}, [])
    assert finding.what == "it is north's, signed with the key of south"


def test_the_ledger_of_a_server_is_no_units(home: NodeHome) -> None:
    data = true_certificate(home)
    ledger = verify_ledger(home.path / "ledger.db", home.key.public)
    server = replace(ledger, origin="fedseg/server", role="server", unit="")
    found, findings = review_certificates({"c": data}, {}, [server, ledger])
    assert (set(found), findings) == ({"c"}, [])


def test_a_file_may_have_a_mebibyte() -> None:
    bare = ProvenCertificate(b"{}", bytes(SALT_BYTES), 0, (), "")
    assert bare.to_bytes().startswith(FILE_START)
    room = 1_048_576 + 1 - len(bare.to_bytes())
    largest = replace(bare, log_proof="x" * room)
    assert ProvenCertificate.from_bytes(largest.to_bytes()) == largest
    with pytest.raises(VerificationError):
        ProvenCertificate.from_bytes(replace(bare, log_proof="x" * (room + 1)).to_bytes())


def test_a_commitment_is_the_same_for_ever() -> None:
    assert commitment(b"envelope", bytes(SALT_BYTES)).hex() == (
        "23e22c4437ae7d34c1da6d7c880cb36b1567009939cf85b8bc43120823febb0e"
    )


def test_what_was_done_is_said_in_the_same_words_for_ever(home: NodeHome) -> None:
    said = verify_certificate(true_certificate(home), [home.key.public]).erasure.stores
    assert {one.store: one.method for one in said} == {
        "customers": "rewritten without their rows",
        "consent": "rows deleted and overwritten",
        "backups": "none are kept",
    }
    vacuumed = "rows deleted in a database that was told to vacuum"
    assert ErasedStore(store="consent", method=vacuumed).method == vacuumed


@pytest.mark.parametrize(
    "changes", [{"salt": bytes(31)}, {"salt": bytes(33)}, {"path": (bytes(31),)}], ids=["short", "long", "path"]
)
def test_a_salt_or_a_path_of_another_length_is_no_certificate(home: NodeHome, changes: dict[str, Any]) -> None:
    data = replace(ProvenCertificate.from_bytes(true_certificate(home)), **changes).to_bytes()
    with pytest.raises(VerificationError, match="of another length"):
        ProvenCertificate.from_bytes(data)
    with pytest.raises(VerificationError) as refused:
        verify_certificate(data, [home.key.public])
    assert refused.value.data["fault"] == "C1-form"


@pytest.mark.parametrize("data", [b"{", b'{"envelope":{},"leaf":0,"log_proof":"","path":[],"salt":"no hexadecimal"}'])
def test_what_cannot_be_read_is_refused_in_so_many_words(data: bytes) -> None:
    with pytest.raises(VerificationError, match="cannot be read"):
        ProvenCertificate.from_bytes(data)


def test_the_file_says_what_it_is(home: NodeHome) -> None:
    data = true_certificate(home)
    file = json.loads(data)
    assert (file["kind"], file["version"]) == ("fedseg-erasure-certificate", 1)
    found = ProvenCertificate.from_bytes(data)
    statement = json.loads(unseal(found.envelope, PAYLOAD_TYPE, home.key.public))
    assert [one["name"] for one in statement["subject"]] == ["unit:north/stores"]
    assert statement["predicate"]["delta"] == "1/1000000"
    twice = canonical({**statement, "subject": statement["subject"] * 2})
    with pytest.raises(VerificationError):
        open_certificate(seal(PAYLOAD_TYPE, twice, home.key), home.key.public)


@pytest.mark.parametrize(("length", "stands"), [(0, False), (1, True), (200, True), (201, False)])
def test_a_controller_has_a_name_that_fits_a_line(home: NodeHome, length: int, *, stands: bool) -> None:
    found = ProvenCertificate.from_bytes(true_certificate(home))
    statement = json.loads(unseal(found.envelope, PAYLOAD_TYPE, home.key.public))
    statement["predicate"]["controller"] = "x" * length
    envelope = seal(PAYLOAD_TYPE, canonical(statement), home.key)
    if stands:
        assert len(open_certificate(envelope, home.key.public).controller) == length
    else:
        with pytest.raises(VerificationError):
            open_certificate(envelope, home.key.public)
