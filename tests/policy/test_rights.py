"""Requests of data subjects: deadlines by the calendar, and no state that does not follow from the one before."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import RightsRequestError
from fedseg.policy.rights import Denial, Regulation, Right, Status, SubjectRequest, add_business_days, add_months

DAYS = st.dates(date(2020, 1, 1), date(2090, 1, 1))


def request(
    right: Right = Right.ERASURE, regulation: Regulation = Regulation.GDPR, received: date = date(2027, 1, 31)
) -> SubjectRequest:
    return SubjectRequest("r-1", right, regulation, received)


@given(DAYS, st.integers(0, 40))
def test_months_are_counted_by_the_calendar(day: date, months: int) -> None:
    until = add_months(day, months)
    assert (until.year - day.year) * 12 + until.month - day.month == months
    is_last = (until + timedelta(days=1)).month != until.month
    assert until.day == day.day or (until.day < day.day and is_last)


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2027-01-31", "2027-02-28"),
        ("2028-01-31", "2028-02-29"),
        ("2026-12-15", "2027-01-15"),
        ("2027-02-28", "2027-03-28"),
    ],
)
def test_an_answer_under_the_gdpr_is_due_in_a_month(received: str, due: str) -> None:
    assert request(received=date.fromisoformat(received)).due == date.fromisoformat(due)


@given(DAYS, st.integers(1, 30))
def test_business_days_are_mondays_to_fridays(day: date, days: int) -> None:
    until = add_business_days(day, days)
    assert until.weekday() < 5
    between = [day + timedelta(days=one) for one in range(1, (until - day).days + 1)]
    assert sum(one.weekday() < 5 for one in between) == days


def test_californian_clocks() -> None:
    erasure = request(regulation=Regulation.CCPA, received=date(2026, 11, 20))
    assert (erasure.confirm_by, erasure.due) == (date(2026, 12, 4), date(2027, 1, 4))
    assert erasure.extend(date(2027, 1, 4), "many requests").due == date(2027, 2, 18)
    opt_out = request(Right.OPT_OUT, Regulation.CCPA, date(2026, 11, 20))
    assert (opt_out.confirm_by, opt_out.due) == (None, date(2026, 12, 11))
    with pytest.raises(RightsRequestError, match="no more time"):
        opt_out.extend(date(2026, 11, 21), "many requests")


def test_an_extension_gives_three_months_in_all_and_is_told_within_the_first() -> None:
    assert request().extend(date(2027, 2, 28), "complex").due == date(2027, 4, 30)
    with pytest.raises(RightsRequestError, match="had to be told by 2027-02-28"):
        request().extend(date(2027, 3, 1), "complex")
    with pytest.raises(RightsRequestError, match="told why"):
        request().extend(date(2027, 2, 1), " ")
    with pytest.raises(RightsRequestError, match="possible once"):
        request().extend(date(2027, 2, 1), "complex").extend(date(2027, 2, 2), "still")


def test_waiting_for_an_identity_stops_the_clock_under_the_gdpr_alone() -> None:
    european = request().ask_identity(date(2027, 2, 3))
    assert european.days_left(date(2027, 6, 1)) is None
    assert not european.is_urgent(date(2027, 6, 1))
    assert not european.is_overdue(date(2027, 6, 1))
    assert european.confirm_identity(date(2027, 2, 13)).due == date(2027, 3, 10)
    californian = request(regulation=Regulation.CCPA).ask_identity(date(2027, 2, 3))
    assert californian.is_overdue(date(2027, 6, 1))
    assert californian.confirm_identity(date(2027, 2, 13)).due == date(2027, 3, 17)


def test_a_request_is_urgent_before_it_is_overdue() -> None:
    days = [date(2027, 2, 20), date(2027, 2, 21), date(2027, 2, 28), date(2027, 3, 1)]
    assert [request().days_left(day) for day in days] == [8, 7, 0, -1]
    assert [request().is_urgent(day) for day in days] == [False, True, True, True]
    assert [request().is_overdue(day) for day in days] == [False, False, False, True]


def test_a_late_answer_stays_late() -> None:
    answered = request().start().fulfil(date(2027, 3, 1))
    assert answered.is_overdue(date(2030, 1, 1))
    assert answered.days_left(date(2030, 1, 1)) is None
    assert not answered.is_urgent(date(2030, 1, 1))
    assert not request().start().fulfil(date(2027, 2, 28)).is_overdue(date(2030, 1, 1))


@pytest.mark.parametrize("regulation", Regulation)
@pytest.mark.parametrize("right", Right)
def test_each_law_grants_its_own_rights(right: Right, regulation: Regulation) -> None:
    if right in regulation.rights:
        assert request(right, regulation).due > date(2027, 1, 31)
    else:
        with pytest.raises(RightsRequestError, match="knows no right"):
            request(right, regulation)


def test_every_right_is_somebodys() -> None:
    assert Regulation.GDPR.rights | Regulation.CCPA.rights == set(Right)
    assert Right.OBJECTION not in Regulation.CCPA.rights
    assert Right.OPT_OUT not in Regulation.GDPR.rights


TODAY = date(2027, 2, 1)
STEPS: dict[str, Callable[[SubjectRequest], SubjectRequest]] = {
    "ask": lambda one: one.ask_identity(TODAY),
    "confirm": lambda one: one.confirm_identity(TODAY),
    "extend": lambda one: one.extend(TODAY, "complex"),
    "start": lambda one: one.start(),
    "fulfil": lambda one: one.fulfil(TODAY),
    "deny": lambda one: one.deny(TODAY, Denial.NO_MATCH, "nobody of that name"),
    "revoke": lambda one: one.revoke(TODAY),
}
STATES = {
    "open": (request(), {"ask", "extend", "start", "deny", "revoke"}),
    "waiting": (request().ask_identity(TODAY), {"confirm", "extend", "deny", "revoke"}),
    "in progress": (request().start(), {"ask", "extend", "start", "fulfil", "deny"}),
    "fulfilled": (request().start().fulfil(TODAY), set[str]()),
    "denied": (request().deny(TODAY, Denial.OTHER, "no"), set[str]()),
    "revoked": (request().revoke(TODAY), set[str]()),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", STATES)
def test_from_each_state_only_what_may_follow_follows(state: str, step: str) -> None:
    given_, steps = STATES[state]
    if step in steps:
        assert STEPS[step](given_) != given_ or (state, step) == ("in progress", "start")
    else:
        with pytest.raises(RightsRequestError, match="cannot be"):
            STEPS[step](given_)


def test_a_proof_of_identity_does_not_come_before_it_was_asked_for() -> None:
    with pytest.raises(RightsRequestError, match="asked for before"):
        request().ask_identity(TODAY).confirm_identity(TODAY - timedelta(days=1))


def test_a_denial_is_told() -> None:
    with pytest.raises(RightsRequestError, match="told why"):
        request().deny(TODAY, Denial.OTHER, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status.FULFILLED},
        {"ended": TODAY},
        {"denial": Denial.OTHER},
        {"status": Status.DENIED, "ended": TODAY},
    ],
)
def test_no_request_contradicts_itself(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="request"):
        replace(request(), **changes)  # type: ignore[arg-type]
