"""What the overview says of the budget: how long it lasts, as reports and commands say it, and what is kept back."""

from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.console.account import account_of
from fedseg.console.outlook import outlook_of
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.node.approvals import approve, forecast_in_turn
from fedseg.node.inbox import Inbox
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import epsilon_of, shown_epsilon
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.pack import Question, make
from tests.console.conftest import NOW, Browser
from tests.console.test_pages import text_of
from tests.console_unit import ConsoleUnit
from tests.small_federation import make_federation, policy_document


def test_the_forecast_is_the_one_of_the_officers_report(browser: Browser) -> None:
    home = browser.unit.home
    report, _ = make(gather([home.path]), Question(None, {}, None, None))
    (said,) = [one.forecast for one in report.units]
    browser.now = datetime.fromisoformat(f"{report.period.as_of}T12:00:00Z")
    today = browser.now.date()
    assert outlook_of(home, account_of(home, today), today).now == said
    assert said.day
    shown = text_of(browser.get("/").text)
    assert f"at the pace of the last {said.pace_days} days, the rest is gone on {said.day}." in shown


def test_it_says_what_is_left_once_the_plans_that_wait_and_fit_are_approved(browser: Browser) -> None:
    home, unit = browser.unit.home, browser.unit
    found = forecast_in_turn(home, [one.plan for one in Inbox(home).waiting()[0]])
    fitting = [one for one in found if one.refusal is None]
    left = int(100 * fitting[-1].rho_left_after / fitting[-1].rho_cap)
    shown = text_of(browser.get("/").text)
    assert "3 plans wait, of which 2 can be approved one after another." in shown
    assert f"With these approved, {left} % of the budget is left, which at the same pace is gone on 20" in shown
    for plan in (unit.waiting[0], unit.waiting[1]):
        document = Inbox(home).find(plan.digest).document
        for name in ("ann", "bob"):
            approve(home, plan, document, now=NOW, officer=unit.officer(name))
    shown = text_of(browser.get("/").text)
    assert f"{left} % of the budget is left to approve" in shown
    assert "1 plan waits, and it does not fit into what is left." in shown


def test_a_clock_behind_the_ledger_turns_no_pace_around(unit: ConsoleUnit) -> None:
    long_ago = NOW.date() - timedelta(days=400)
    assert outlook_of(unit.home, account_of(unit.home, long_ago), long_ago).now.rho_a_day > 0


def test_a_file_in_the_inbox_that_is_no_plan_is_no_part_of_the_forecast(browser: Browser) -> None:
    path = browser.unit.home.path / "inbox" / "broken.toml"
    path.write_text("no plan")
    shown = text_of(browser.get("/").text)
    assert "1 damaged" in shown
    assert "3 plans wait, of which 2 can be approved" in shown


@pytest.mark.parametrize("quorum", [1, 0])
def test_what_a_witnessed_unit_keeps_back_is_shown_with_what_it_is_for(tmp_path: Path, quorum: int) -> None:
    key = VerifierKey("w.example/w", SignatureType.ED25519_COSIGNATURE, SigningKey.generate().public).to_text()
    witnesses = f"witnesses:\n  quorum: {quorum}\n" + (f"  keys:\n    w: '{key}'\n" if quorum else "")
    policy = policy_document(rho_cap="1/1", approvals=witnesses)
    made = make_federation(tmp_path / "f", {"north": 30}, policy=policy, witnessed=bool(quorum))
    home = made.home("north")
    approve(home, made.plan, made.document, now=NOW)
    with home.ledger() as ledger:
        state = PrivacyAccount(ledger).state()
    shown = text_of(Browser(ConsoleUnit(tmp_path, home, (), tmp_path / "segmentation.json"), None).open().get("/").text)
    kept = max(made.plan.step_rhos) if quorum else Fraction(0)
    assert state.residue() == kept
    said = f"Kept back epsilon {shown_epsilon(epsilon_of(kept, Fraction(1, 10**6)))}, "
    assert (said in shown) == ("can send one release twice" in shown) == bool(quorum)
    assert f"{int(100 * (1 - sum(made.plan.step_rhos) - kept))} % of the budget is left to approve" in shown
    report, files = make(gather([home.path]), Question(None, {}, None, None))
    assert [(one.rho_kept_back, one.rho_left) for one in report.units] == [(kept, state.rho_left)]
    assert ("can send one release twice" in text_of(files["report.html"].decode())) == bool(quorum)
