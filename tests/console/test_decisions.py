"""What an officer decides at the console is what the command line would have written, and what they were shown."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from fedseg.audit.verify import verify_ledger
from fedseg.ledger.keys import PublicKey
from fedseg.node.inbox import Inbox
from fedseg.policy.document import load_policy
from fedseg.privacy.entries import DecisionBody, RefusalBody, UnitBody, unit_body
from tests.console.conftest import Browser
from tests.console_unit import ConsoleUnit

SitDown = Callable[[str | None], Browser]


def newest(unit: ConsoleUnit) -> UnitBody:
    with unit.home.ledger() as ledger:
        return unit_body(ledger.entries()[-1])


def test_two_officers_approve_each_at_their_own_console(browser: Browser, sit_down: SitDown) -> None:
    unit, plan = browser.unit, browser.unit.waiting[0].digest
    first = browser.decide("approve")
    assert (first.status_code, first.headers["location"]) == (303, f"{browser.desk.path}/plans/{plan}/outcome")
    assert "waits for 1 more officer" in browser.get(f"/plans/{plan}/outcome").text
    page = browser.get(f"/plans/{plan}").text
    assert "You have approved this plan." in page
    assert "/approve" not in page

    bob = sit_down("bob")
    assert bob.decide("approve").status_code == 303
    assert "Approved" in bob.get(f"/plans/{plan}/outcome").text
    assert unit.kinds()[-3:] == ["decision", "decision", "approval"]
    assert plan not in [one.plan.digest for one in Inbox(unit.home).waiting()[0]]
    verify_ledger(unit.home.path / "ledger.db", unit.home.key.public)


def test_one_officer_denies_and_the_reason_stays_in_the_unit(browser: Browser) -> None:
    unit = browser.unit
    assert browser.decide("deny", reason="  not our purpose  ").status_code == 303
    said = newest(unit)
    assert isinstance(said, RefusalBody)
    assert said.plan_sha256 == unit.waiting[0].digest
    kept = [json.loads(path.read_bytes()) for path in (unit.home.path / "LOCAL" / "refusals").iterdir()]
    assert "not our purpose" in [one["reason"] for one in kept]
    assert "Denied" in browser.get(f"/plans/{said.plan_sha256}/outcome").text


def test_what_is_signed_is_what_was_shown_to_the_byte(browser: Browser) -> None:
    unit, page = browser.unit, browser.get(f"/plans/{browser.unit.waiting[0].digest}").text
    browser.decide("approve")
    said = newest(unit)
    assert isinstance(said, DecisionBody)
    shown = said.signed_bytes.decode()
    for line in shown.splitlines():
        assert line.replace('"', "&#34;") in page
    key = load_policy(unit.home.policy_document()).approvals
    assert key is not None
    officer = PublicKey.from_text(key.officers["ann"])
    assert officer.verify(bytes.fromhex(said.signature), shown.encode())


@pytest.mark.parametrize("verdict", ["approve", "deny"])
@pytest.mark.parametrize("changed", ["policy_sha256", "source_sha256", "made_on"])
def test_nothing_is_signed_that_was_not_shown(browser: Browser, verdict: str, changed: str) -> None:
    before = browser.unit.kinds()
    answer = browser.decide(verdict, 0, **{"reason": "no", changed: "0" * 64})
    assert (answer.status_code, "E702" in answer.text) == (409, True)
    assert browser.unit.kinds() == before


def test_a_page_from_yesterday_signs_nothing(browser: Browser) -> None:
    fields, before = browser.fields(), browser.unit.kinds()
    browser.now += timedelta(days=1)
    answer = browser.post(f"/plans/{browser.unit.waiting[0].digest}/approve", fields)
    assert (answer.status_code, browser.unit.kinds()) == (409, before)


def test_a_plan_that_the_checks_refuse_can_only_be_denied(browser: Browser) -> None:
    page = browser.get(f"/plans/{browser.unit.waiting[2].digest}").text
    assert "E401" in page
    assert "/deny" in page
    assert "/approve" not in page
    before = browser.unit.kinds()
    answer = browser.decide("approve", plan=2)
    assert (answer.status_code, "E401" in answer.text, browser.unit.kinds()) == (409, True, before)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001])
def test_a_denial_has_a_reason(browser: Browser, reason: str) -> None:
    before = browser.unit.kinds()
    assert browser.decide("deny", reason=reason).status_code == 409
    assert browser.unit.kinds() == before


def test_who_shows_no_key_only_looks_where_the_policy_names_officers(browser: Browser, sit_down: SitDown) -> None:
    nobody, plan = sit_down(None), browser.unit.waiting[0].digest
    page = nobody.get(f"/plans/{plan}").text
    assert "so it only looks" in page
    assert "/approve" not in page
    assert "/deny" not in page
    fields, before = (
        browser.fields() | {"form": nobody.desk.enter(nobody.cookies["fedseg-console"])},
        browser.unit.kinds(),
    )
    for verdict in ("approve", "deny"):
        answer = nobody.post(f"/plans/{plan}/{verdict}", {**fields, "reason": "no"})
        assert (answer.status_code, "E703" in answer.text) == (409, True)
    assert browser.unit.kinds() == before


def test_a_key_that_is_gone_by_now_signs_nothing(browser: Browser) -> None:
    fields, before = browser.fields(), browser.unit.kinds()
    browser.unit.key("ann").unlink()
    answer = browser.post(f"/plans/{browser.unit.waiting[0].digest}/approve", fields)
    assert (answer.status_code, "E706" in answer.text, browser.unit.kinds()) == (409, True, before)


def test_a_plan_that_does_not_wait_cannot_be_decided(browser: Browser) -> None:
    fields = browser.fields()
    for plan in ("0" * 64, browser.unit.waiting[0].digest[:4]):
        assert browser.post(f"/plans/{plan}/approve", fields).status_code == 409
        assert browser.get(f"/plans/{plan}").status_code == 409
