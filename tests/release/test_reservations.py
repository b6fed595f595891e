"""Whether an approval still holds: the account as a value, for every way in which an approval can end."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest

from fedseg.errors import BudgetError, NotApprovedError, StepAnsweredError
from fedseg.privacy.budget import Charge
from fedseg.privacy.entries import ApprovalRules, Automatic, DecisionBody, Ending, RequesterRule, Verdict
from fedseg.privacy.state import AccountState, Caps, Reservation

PLAN, POLICY, SOURCE, ASKED = "a1" * 32, "c3" * 32, "e7" * 32, "d4" * 32
BEFORE, LAST_DAY, AFTER = "2025-05-31", "2025-06-01", "2025-06-02"
PRICE = Fraction(1, 8)
CHARGE = Charge.of(PRICE, Fraction(0), "discrete-gaussian-zcdp")
OPEN = Reservation(PLAN, "counting", (PRICE,) * 3, POLICY, SOURCE, BEFORE)
EXPIRING = replace(OPEN, expires_on=LAST_DAY)
CAPS = Caps(POLICY, Fraction(1), Fraction(1, 10**6), {})


def account(*reservations: Reservation, caps: Caps = CAPS) -> AccountState:
    found: Mapping[str, Reservation] = {one.plan_sha256: one for one in reservations}
    return AccountState(caps, found, rho_spent=sum((one.rho_spent for one in reservations), Fraction(0)))


def answered(reservation: Reservation, *steps: int) -> Reservation:
    return replace(reservation, answered=dict.fromkeys(steps, ASKED), rho_spent=len(steps) * PRICE)


def test_an_approval_holds_on_its_last_day_and_not_on_the_next() -> None:
    assert [EXPIRING.is_expired(day) for day in (BEFORE, LAST_DAY, AFTER)] == [False, False, True]
    assert not OPEN.is_expired("9999-12-31")


@pytest.mark.parametrize("ending", list(Ending))
def test_what_has_ended_does_not_expire_once_more(ending: Ending) -> None:
    assert not replace(EXPIRING, ending=ending).is_expired(AFTER)


def test_an_approval_is_open_until_it_ends_or_its_time_is_over() -> None:
    assert account(EXPIRING).require_open(PLAN, LAST_DAY) == EXPIRING
    with pytest.raises(NotApprovedError, match="its time was over"):
        account(EXPIRING).require_open(PLAN, AFTER)
    with pytest.raises(NotApprovedError, match="was cancelled"):
        account(replace(OPEN, ending=Ending.CANCELLED)).require_open(PLAN, BEFORE)


@pytest.mark.parametrize("ending", list(Ending))
def test_what_was_revoked_is_not_even_sent_again(ending: Ending) -> None:
    state = account(replace(answered(OPEN, 0), ending=ending))
    if ending is Ending.REVOKED:
        for ask in (lambda: state.require_served(PLAN), lambda: state.require_step(PLAN, 0, ASKED, CHARGE, BEFORE)):
            with pytest.raises(NotApprovedError, match="was revoked"):
                ask()
    else:
        assert state.require_served(PLAN).ending is ending
        state.require_step(PLAN, 0, ASKED, CHARGE, BEFORE)


@pytest.mark.parametrize("ended", [EXPIRING, *(replace(OPEN, ending=one) for one in Ending)])
def test_after_its_end_no_further_step_is_answered(ended: Reservation) -> None:
    with pytest.raises(NotApprovedError, match="has ended"):
        account(answered(ended, 0)).require_step(PLAN, 1, ASKED, CHARGE, AFTER)


def test_an_answered_step_is_answered_again_after_the_time_is_over_and_under_a_tighter_cap() -> None:
    state = account(answered(EXPIRING, 0), caps=replace(CAPS, rho_cap=Fraction(0)))
    state.require_step(PLAN, 0, ASKED, CHARGE, AFTER)
    with pytest.raises(StepAnsweredError):
        state.require_step(PLAN, 0, "00" * 32, CHARGE, AFTER)
    with pytest.raises(BudgetError):
        state.require_step(PLAN, 1, ASKED, CHARGE, LAST_DAY)


def test_a_purposes_limit_counts_what_that_purpose_has_spent_and_no_other() -> None:
    caps = replace(CAPS, purpose_rho_caps={"counting": 2 * PRICE})
    other = replace(answered(OPEN, 0, 1, 2), plan_sha256="b2" * 32, purpose="mailing")
    state = account(answered(OPEN, 0), other, caps=caps)
    assert (state.spent_for("counting"), state.spent_for("mailing")) == (PRICE, 3 * PRICE)
    state.require_step(PLAN, 1, ASKED, CHARGE, BEFORE)
    with pytest.raises(BudgetError, match="for counting"):
        account(answered(OPEN, 0, 1), other, caps=caps).require_step(PLAN, 2, ASKED, CHARGE, BEFORE)


def test_a_requesters_quota_counts_its_own_automatic_approvals_of_the_period_alone() -> None:
    key = "requester"
    terms = Automatic.model_construct(rho_per_plan=Fraction(1, 2), rho_per_period=Fraction(1, 2), period_days=2)
    rule = RequesterRule.model_construct(public_key=key, automatic=terms)
    caps = replace(CAPS, approvals=ApprovalRules.model_construct(requesters={"agency": rule}))
    counted = replace(OPEN, requester=key, automatic=True, approved_on=LAST_DAY)
    account(caps=caps).require_automatic(key, Fraction(1, 2), AFTER)
    with pytest.raises(NotApprovedError, match="without an officer"):
        account(caps=caps).require_automatic(key, Fraction(501, 1000), AFTER)
    with pytest.raises(NotApprovedError, match="quota for 2 days"):
        account(counted, caps=caps).require_automatic(key, Fraction(1, 2), AFTER)
    for other in (
        replace(counted, automatic=False),
        replace(counted, requester="another"),
        replace(counted, approved_on=BEFORE),
    ):
        account(other, caps=caps).require_automatic(key, Fraction(1, 2), AFTER)


def test_a_requesters_cap_counts_what_its_plans_hold_and_no_others() -> None:
    rule = RequesterRule.model_construct(public_key="requester", rho_cap=6 * PRICE, automatic=None)
    caps = replace(CAPS, approvals=ApprovalRules.model_construct(requesters={"agency": rule}))
    theirs = replace(OPEN, requester="requester")
    for others in ((), (replace(theirs, plan_sha256="b2" * 32, ending=Ending.CANCELLED),)):
        state = account(theirs, *others, caps=caps)
        assert state.require_room("counting", 3 * PRICE, "requester") == caps
        with pytest.raises(BudgetError, match="for plans of agency"):
            state.require_room("counting", 4 * PRICE, "requester")
        assert state.require_room("counting", 4 * PRICE, "another") == caps
        assert state.require_room("counting", 4 * PRICE) == caps


def test_a_plan_that_just_fits_into_every_cap_is_let_in() -> None:
    caps = replace(CAPS, purpose_rho_caps={"counting": 6 * PRICE})
    assert account(OPEN, caps=caps).require_room("counting", 3 * PRICE) == caps
    with pytest.raises(BudgetError, match="for counting"):
        account(OPEN, caps=caps).require_room("counting", 4 * PRICE)
    assert account(OPEN).require_room("mailing", 5 * PRICE) == CAPS
    with pytest.raises(BudgetError, match="over everything"):
        account(OPEN).require_room("mailing", 6 * PRICE)


def test_only_approvals_under_this_policy_of_this_source_approve() -> None:
    def said(
        officer: str, verdict: Verdict = Verdict.APPROVE, policy: str = POLICY, source: str = SOURCE
    ) -> DecisionBody:
        return DecisionBody.model_construct(
            officer=officer, verdict=verdict, policy_sha256=policy, source_sha256=source
        )

    others = (
        said("bob", Verdict.DENY),
        said("cat", Verdict.CANCEL),
        said("dan", policy=SOURCE),
        said("eve", source=POLICY),
    )
    state = replace(
        account(), decisions={PLAN: (said("zoe"), said("ann"), said("ann"), *others), ASKED: (said("fay"),)}
    )
    assert state.approving(PLAN, POLICY, SOURCE) == ("ann", "zoe")
