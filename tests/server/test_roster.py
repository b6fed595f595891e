"""A unit belongs once as many officers as it takes have signed for it; one who can write files alone adds nobody."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedseg.errors import EnrolmentError, NotApprovedError, SettingsError, TrustError, VerificationError
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.store import Ledger
from fedseg.privacy.entries import OfficerSignature
from fedseg.privacy.signatures import Officer
from fedseg.server.roster import AdmissionBody, Candidate, RemovalBody, Roster, RulesBody, WordBody, rules_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = SigningKey.generate()
ANN, BOB, EVE = (Officer(name, SigningKey.generate()) for name in ("ann", "bob", "eve"))
OFFICERS = {one.name: one.key.public.to_text() for one in (ANN, BOB)}


def candidate(unit: str = "north", number: int = 0) -> Candidate:
    return Candidate(
        unit=unit,
        unit_key=SigningKey.generate().public.to_text(),
        node_key=f"ecdsa-sha2-nistp384 {number:040d}",
        request_sha256=f"{number:064x}",
        document=b"the request",
    )


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    """Of two officers."""
    return Roster.create(tmp_path / "roster.db", KEY, rules_of(OFFICERS, single_operator=False), now=NOW)


@pytest.fixture
def alone(tmp_path: Path) -> Roster:
    """Of one operator."""
    return Roster.create(tmp_path / "roster.db", KEY, rules_of({}, single_operator=True), now=NOW)


def test_a_unit_belongs_once_two_officers_have_signed(roster: Roster, tmp_path: Path) -> None:
    north = candidate()

    assert roster.admit(north, ANN, now=NOW) == 1
    assert not roster.state().members
    assert roster.admit(north, BOB, now=NOW) == 0

    found = Roster.open(tmp_path / "roster.db", KEY).state().members
    assert (found["north"].unit_key, found["north"].officers) == (north.unit_key, ["ann", "bob"])


def test_one_officer_who_signs_twice_is_one(roster: Roster) -> None:
    north = candidate()

    assert [roster.admit(north, ANN, now=NOW) for _ in range(3)] == [1, 1, 1]
    assert len(roster.state().words) == 1


def test_words_for_one_request_count_for_no_other(roster: Roster) -> None:
    roster.admit(candidate("north", 1), ANN, now=NOW)

    assert roster.admit(candidate("north", 2), BOB, now=NOW) == 1
    assert roster.admit(candidate("south", 3), BOB, now=NOW) == 1


def test_who_is_no_officer_or_has_another_key_decides_nothing(roster: Roster) -> None:
    with pytest.raises(NotApprovedError):
        roster.admit(candidate(), None, now=NOW)
    for who in (EVE, Officer("ann", EVE.key)):
        with pytest.raises(TrustError, match=r"its officers are ann, bob"):
            roster.admit(candidate(), who, now=NOW)
    assert not roster.state().words


def test_one_operator_decides_alone_and_the_roster_says_so(alone: Roster) -> None:
    assert alone.admit(candidate(), None, now=NOW) == 0
    assert alone.state().single_operator


def test_a_unit_is_put_out_by_two_officers_and_its_request_does_not_bring_it_back(roster: Roster) -> None:
    north = candidate()
    roster.admit(north, ANN, now=NOW)
    roster.admit(north, BOB, now=NOW)

    assert roster.remove("north", BOB, now=NOW) == 1
    assert "north" in roster.state().members
    assert roster.remove("north", ANN, now=NOW) == 0

    assert not roster.state().members
    with pytest.raises(EnrolmentError, match="used before"):
        roster.admit(north, ANN, now=NOW)
    with pytest.raises(SettingsError, match="no unit north belongs"):
        roster.remove("north", ANN, now=NOW)


def test_a_unit_that_was_put_out_comes_back_with_a_new_request_and_a_new_node_key_alone(alone: Roster) -> None:
    north = candidate(number=1)
    alone.admit(north, None, now=NOW)
    alone.remove("north", None, now=NOW)

    with pytest.raises(EnrolmentError, match="in use, or was once"):
        alone.admit(dataclasses.replace(north, request_sha256="2" * 64), None, now=NOW)
    again = dataclasses.replace(candidate(number=3), unit_key=north.unit_key)
    assert alone.admit(again, None, now=NOW) == 0


def test_a_name_stands_for_one_unit_and_a_unit_has_one_name(alone: Roster) -> None:
    north = candidate(number=1)
    alone.admit(north, None, now=NOW)

    with pytest.raises(EnrolmentError, match="another unit is called north"):
        alone.admit(candidate(number=2), None, now=NOW)
    with pytest.raises(EnrolmentError, match="of another name has this unit key"):
        alone.admit(dataclasses.replace(candidate("south", 3), unit_key=north.unit_key), None, now=NOW)


def test_a_unit_goes_on_with_another_key_of_its_node(alone: Roster) -> None:
    north = candidate(number=1)
    alone.admit(north, None, now=NOW)
    alone.admit(dataclasses.replace(candidate(number=2), unit_key=north.unit_key), None, now=NOW)

    assert alone.state().members["north"].node_key.endswith("2")


def forged(path: Path, body: AdmissionBody | RemovalBody | WordBody) -> None:
    """Append an entry with the server's own key, as an administrator could."""
    with Ledger.open(path, KEY) as ledger, ledger.transaction() as transaction:
        payload = ("request:x", b"x") if isinstance(body, AdmissionBody) else None
        transaction.append(body.kind, body.facts(), payload=payload)


def admission(officers: list[str]) -> AdmissionBody:
    one = candidate(number=7)
    return AdmissionBody(
        unit=one.unit,
        unit_key=one.unit_key,
        node_key=one.node_key,
        request_sha256=one.request_sha256,
        officers=officers,
        made_on="2026-11-22",
    )


@pytest.mark.parametrize("officers", [[], ["ann"], ["ann", "bob"]])
def test_what_an_administrator_writes_for_the_officers_does_not_verify(
    officers: list[str], roster: Roster, tmp_path: Path
) -> None:
    forged(tmp_path / "roster.db", admission(officers))

    with pytest.raises(VerificationError, match="too few officers have signed it"):
        roster.state()


def test_a_word_that_an_administrator_makes_up_counts_for_nothing(roster: Roster, tmp_path: Path) -> None:
    change = roster.state().change("admit", "north", f"{7:064x}")
    for name in ("ann", "bob"):
        said = OfficerSignature(officer=name, signature=KEY.sign(change.signed_bytes).hex())
        forged(tmp_path / "roster.db", WordBody(change=change, word=said, made_on="2026-11-22"))

    assert roster.state().missing(change) == 2


def test_a_removal_that_nobody_signed_or_of_nobody_does_not_verify(roster: Roster, tmp_path: Path) -> None:
    north = candidate()
    roster.admit(north, ANN, now=NOW)
    roster.admit(north, BOB, now=NOW)
    gone = RemovalBody(unit="north", request_sha256=north.request_sha256, officers=[], made_on="2026-11-22")
    forged(tmp_path / "roster.db", gone)

    with pytest.raises(VerificationError):
        roster.state()


@pytest.mark.parametrize(
    ("unit", "request_sha256"), [("south", "0" * 64), ("north", "1" * 64)], ids=["nobody", "another request"]
)
def test_a_removal_fits_an_admission(unit: str, request_sha256: str, alone: Roster, tmp_path: Path) -> None:
    alone.admit(candidate(), None, now=NOW)
    gone = RemovalBody(unit=unit, request_sha256=request_sha256, officers=[], made_on="2026-11-22")
    forged(tmp_path / "roster.db", gone)

    with pytest.raises(VerificationError, match="the roster does not check out"):
        alone.state()


def test_a_request_lets_in_once_also_in_the_log(alone: Roster, tmp_path: Path) -> None:
    for _ in range(2):
        body = admission([])
        with Ledger.open(tmp_path / "roster.db", KEY) as ledger, ledger.transaction() as transaction:
            transaction.append(body.kind, body.facts(), payload=(f"request:{len(ledger.entries())}", b"x"))

    with pytest.raises(VerificationError, match="used twice"):
        alone.state()


def test_a_roster_without_rules_is_none(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "roster.db", origin="fedseg/roster", key=KEY, body={"role": "roster"}).close()

    with pytest.raises(VerificationError, match="no rules"):
        Roster.open(tmp_path / "roster.db", KEY)


def test_two_officers_put_others_in_their_place(roster: Roster) -> None:
    following = rules_of({"bob": OFFICERS["bob"], "eve": EVE.key.public.to_text()}, single_operator=False)
    roster.admit(candidate(number=1), ANN, now=NOW)

    assert roster.change_rules(following, ANN, now=NOW) == 1
    assert roster.change_rules(following, BOB, now=NOW) == 0

    assert roster.change_rules(following, None, now=NOW) == 0, "they are in force already"
    assert roster.admit(candidate(number=1), EVE, now=NOW) == 1, "what was said under other rules counts no longer"
    with pytest.raises(TrustError):
        roster.admit(candidate(number=1), ANN, now=NOW)
    assert roster.admit(candidate(number=1), BOB, now=NOW) == 0


def test_nobody_makes_themselves_an_officer(roster: Roster, tmp_path: Path) -> None:
    mine = rules_of({"ann": OFFICERS["ann"], "eve": EVE.key.public.to_text()}, single_operator=False)
    with pytest.raises(TrustError):
        roster.change_rules(mine, EVE, now=NOW)
    with pytest.raises(NotApprovedError):
        roster.change_rules(mine, None, now=NOW)
    body = RulesBody(rules=mine, officers=["ann", "bob"])
    with Ledger.open(tmp_path / "roster.db", KEY) as ledger, ledger.transaction() as transaction:
        transaction.append(body.kind, body.facts())

    with pytest.raises(VerificationError, match="too few officers"):
        roster.state()


def test_one_operator_can_name_officers_and_two_officers_one_operator(alone: Roster) -> None:
    assert alone.change_rules(rules_of(OFFICERS, single_operator=False), None, now=NOW) == 0
    assert not alone.state().single_operator
    back = rules_of({}, single_operator=True)
    assert [alone.change_rules(back, who, now=NOW) for who in (ANN, BOB)] == [1, 0]
    assert alone.state().single_operator


@pytest.mark.parametrize(
    ("officers", "single_operator", "said"),
    [
        ({}, False, "does not say who decides"),
        (OFFICERS, True, "does not say who decides"),
        ({"ann": OFFICERS["ann"]}, False, "too few officers"),
        ({"ann": OFFICERS["ann"], "bob": OFFICERS["ann"]}, False, "too few officers"),
        ({"ann": OFFICERS["ann"], "bob": "no key"}, False, "officers.bob"),
    ],
)
def test_who_decides_is_said_once_and_by_two_keys(
    officers: dict[str, str], said: str, *, single_operator: bool
) -> None:
    with pytest.raises(SettingsError, match=said):
        rules_of(officers, single_operator=single_operator)
