"""Taking an approval back at the console: seen, understood and signed before, and then what `fedseg revoke` would do."""

import html
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from fedseg.audit.verify import verify_ledger
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.entries import ClosingBody, DecisionBody, Ending, Verdict, unit_body
from fedseg.privacy.state import AccountState
from tests.console.conftest import Browser
from tests.console.test_pages import text_of
from tests.console_unit import ConsoleUnit

SitDown = Callable[[str | None], Browser]


def state_of(unit: ConsoleUnit) -> AccountState:
    with unit.home.ledger() as ledger:
        return PrivacyAccount(ledger).state()


@pytest.fixture
def plan(browser: Browser) -> str:
    """The hash of an approved plan of which one round of three was sent."""
    return browser.unit.approved[1].digest


def fields(browser: Browser, plan: str, ending: str = "revoked") -> dict[str, str]:
    """What the form for this ending carries once its box is ticked."""
    (form,) = [
        one
        for one in re.findall(r"<form.*?</form>", browser.get(f"/plans/{plan}/revoke").text, re.DOTALL)
        if f'name="ending" value="{ending}"' in one
    ]
    assert 'type="checkbox"' in form
    assert "required" in form
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    return {**hidden, "understood": "yes"}


@pytest.mark.parametrize(("ending", "verdict"), [(Ending.REVOKED, Verdict.REVOKE), (Ending.CANCELLED, Verdict.CANCEL)])
def test_one_officer_ends_an_approval_and_what_was_not_begun_comes_free(
    browser: Browser, plan: str, ending: Ending, verdict: Verdict
) -> None:
    unit, before = browser.unit, state_of(browser.unit).reservations[plan]
    page = browser.get(f"/plans/{plan}/revoke").text
    answer = browser.post(f"/plans/{plan}/revoke", fields(browser, plan, str(ending)))
    assert (answer.status_code, answer.headers["location"]) == (303, f"{browser.desk.path}/plans/{plan}/outcome")
    with unit.home.ledger() as ledger:
        said, closed = (unit_body(entry) for entry in ledger.entries()[-2:])
    assert isinstance(said, DecisionBody)
    assert isinstance(closed, ClosingBody)
    assert (said.officer, said.verdict, closed.ending) == ("ann", verdict, ending)
    assert closed.rho_returned == before.rho - before.rho_spent
    for line in said.signed_bytes.decode().splitlines():
        assert html.escape(line).replace("&quot;", "&#34;") in page, "what was signed was shown to the byte"
    shown = text_of(browser.get(f"/plans/{plan}/outcome").text)
    assert f"Approved, then {ending.value}." in shown
    assert "Take the approval back" not in shown
    verify_ledger(unit.home.path / "ledger.db", unit.home.key.public)


def test_the_page_says_what_happens_before_anything_does(browser: Browser, plan: str) -> None:
    before, kinds = state_of(browser.unit), browser.unit.kinds()
    assert "Take the approval back…" in text_of(browser.get(f"/plans/{plan}/outcome").text)
    shown = text_of(browser.get(f"/plans/{plan}/revoke").text)
    found = before.reservations[plan]
    assert before.caps is not None
    free = int(100 * (found.rho - found.rho_spent) / before.caps.rho_cap)
    assert "1 of its 3 rounds has been sent." in shown
    assert f"{free} % of the budget comes free: the price of the 2 rounds not begun." in shown
    assert "There is no way back." in shown
    assert browser.unit.kinds() == kinds


@pytest.mark.parametrize(
    "changes", [{"understood": ""}, {"understood": "no"}, {"ending": "expired"}, {"ending": ""}, {"ending": "deny"}]
)
def test_nothing_ends_that_nobody_has_said_they_understand(
    browser: Browser, plan: str, changes: dict[str, str]
) -> None:
    before = browser.unit.kinds()
    answer = browser.post(f"/plans/{plan}/revoke", fields(browser, plan) | changes)
    assert (answer.status_code, browser.unit.kinds()) == (409, before)


def test_no_form_revokes_from_elsewhere_or_without_its_token(browser: Browser, plan: str) -> None:
    good, before = fields(browser, plan), browser.unit.kinds()
    for changed, headers in (
        ({**good, "form": "x"}, {}),
        ({name: value for name, value in good.items() if name != "form"}, {}),
        (good, {"Origin": "http://evil.example"}),
    ):
        assert browser.post(f"/plans/{plan}/revoke", changed, **headers).status_code == 403
    browser.cookies = {}
    assert browser.post(f"/plans/{plan}/revoke", good).status_code == 403
    assert browser.get(f"/plans/{plan}/revoke").status_code == 403
    assert browser.unit.kinds() == before


@pytest.mark.parametrize("changed", ["policy_sha256", "source_sha256", "made_on"])
def test_nothing_is_signed_that_was_not_shown(browser: Browser, plan: str, changed: str) -> None:
    before = browser.unit.kinds()
    answer = browser.post(f"/plans/{plan}/revoke", fields(browser, plan) | {changed: "0" * 64})
    assert (answer.status_code, "E702" in answer.text, browser.unit.kinds()) == (409, True, before)


def test_a_page_from_yesterday_revokes_nothing(browser: Browser, plan: str) -> None:
    old, before = fields(browser, plan), browser.unit.kinds()
    browser.now += timedelta(days=1)
    assert browser.post(f"/plans/{plan}/revoke", old).status_code == 409
    assert browser.unit.kinds() == before


def test_what_is_not_approved_or_has_ended_is_not_taken_back(browser: Browser, plan: str) -> None:
    good = fields(browser, plan)
    for other in ("0" * 64, browser.unit.waiting[0].digest, plan[:8]):
        assert browser.get(f"/plans/{other}/revoke").status_code == 409
    for other in ("0" * 64, browser.unit.waiting[0].digest, "x"):
        assert browser.post(f"/plans/{other}/revoke", good).status_code == 409
    assert browser.post(f"/plans/{plan}/revoke", good).status_code == 303
    again = browser.post(f"/plans/{plan}/revoke", good)
    assert (again.status_code, "E7" in again.text) == (409, True)
    assert browser.get(f"/plans/{plan}/revoke").status_code == 409


def test_a_finished_plan_can_be_revoked_and_gives_nothing_back(browser: Browser) -> None:
    done = browser.unit.approved[0].digest
    page = browser.get(f"/plans/{done}/revoke").text
    assert "Nothing comes free: every round of the plan has been sent." in text_of(page)
    assert 'value="cancelled"' not in page
    assert browser.post(f"/plans/{done}/revoke", fields(browser, done)).status_code == 303


def test_who_shows_no_key_only_looks(browser: Browser, sit_down: SitDown, plan: str) -> None:
    nobody, before = sit_down(None), browser.unit.kinds()
    page = nobody.get(f"/plans/{plan}/revoke").text
    assert "so it only looks" in page
    assert "/revoke" not in page.partition("<main")[2]
    stolen = fields(browser, plan) | {"form": nobody.desk.enter(nobody.cookies["fedseg-console"])}
    answer = nobody.post(f"/plans/{plan}/revoke", stolen)
    assert (answer.status_code, "E703" in answer.text, browser.unit.kinds()) == (409, True, before)
