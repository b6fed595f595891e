"""Vetoes, answers and deadlines at a unit; whoever asks, the answer has the same form."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fedseg.errors import RightsRequestError
from fedseg.node.consent.intake import import_consents
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.rights.erasure import erase
from fedseg.node.rights.requests import VETOES, Order, begin, fulfil, held_about, receive, set_vetoes
from fedseg.node.source import subject_key
from fedseg.policy.document import load_policy
from fedseg.policy.gate import Reason
from fedseg.policy.rights import Regulation, Right, Status, SubjectRequest
from tests.small_federation import NOW, SmallFederation, consents

SOMEBODY = Order([b"north-7"], "T-1")
NOBODY = Order([b"never heard of"], "T-1")


@pytest.fixture
def home(federation: SmallFederation) -> NodeHome:
    return federation.home("north")


def reason(home: NodeHome, identifier: bytes = b"north-7") -> Reason:
    policy = load_policy(home.policy_document())
    with home.register() as register:
        decisions = decide_now(home, register, policy, next(iter(policy.purposes)), NOW + timedelta(seconds=1))
    (place,) = decisions.subjects.find(pa.array([subject_key(identifier, home.subject_secret)], pa.binary(16)))
    return Reason(decisions.codes[place])


@pytest.mark.parametrize(
    ("right", "found"),
    [(Right.OBJECTION, Reason.VETOED_OBJECTION), (Right.RESTRICTION, Reason.VETOED_RESTRICTION)],
)
def test_a_veto_holds_from_the_next_round_on_whatever_was_agreed_to(
    home: NodeHome, right: Right, found: Reason
) -> None:
    assert reason(home) is Reason.ALLOWED
    (request,) = set_vetoes(home, SOMEBODY, right, NOW)
    assert (request.status, request.ended) == (Status.FULFILLED, NOW.date())
    assert reason(home) is found
    with home.register() as register:
        key = subject_key(b"north-7", home.subject_secret)
        register.append_events(consents(key, NOW + timedelta(milliseconds=1), NOW + timedelta(days=99)))
    assert reason(home) is found


@pytest.mark.parametrize("right", [Right.OPT_OUT, Right.LIMIT])
def test_californian_vetoes_are_events_of_their_kinds(home: NodeHome, right: Right) -> None:
    set_vetoes(home, Order([b"north-7"], "T-1", Regulation.CCPA), right, NOW)
    with home.register() as register:
        kinds = [one["kind"] for one in register.events_of(subject_key(b"north-7", home.subject_secret))]
    assert kinds == ["given", *VETOES[right]]


def test_what_takes_more_than_an_event_is_no_veto(home: NodeHome) -> None:
    with pytest.raises(RightsRequestError, match="erasure is no veto"):
        set_vetoes(home, SOMEBODY, Right.ERASURE, NOW)


def test_an_answer_holds_the_persons_rows_and_consents_and_nobody_elses(home: NodeHome) -> None:
    request, held = held_about(home, SOMEBODY, Right.ACCESS, NOW)
    assert held["request"] == request.id
    (row,) = held["rows"]
    assert row["customer"] == "north-7"
    assert set(row) == {"customer", "visits", "spend"}
    (consent,) = held["consents"]
    assert (consent["kind"], consent["event_time"]) == ("given", (NOW - timedelta(days=30)).isoformat())
    assert "subject" not in consent
    assert held["segment"] is None
    assert held["controller"] == "Small Retail, Example City"


def test_somebody_of_whom_the_unit_never_heard_gets_an_answer_of_the_same_form(home: NodeHome) -> None:
    _, held = held_about(home, SOMEBODY, Right.ACCESS, NOW)
    asked, nothing = held_about(home, NOBODY, Right.ACCESS, NOW)
    assert asked.status is Status.IN_PROGRESS
    assert (nothing["rows"], nothing["consents"]) == ([], [])
    same = held.keys() - {"request", "rows", "consents"}
    assert {name: held[name] for name in same} == {name: nothing[name] for name in same}
    (objected,) = set_vetoes(home, NOBODY, Right.OBJECTION, NOW)
    assert objected.status is Status.FULFILLED
    assert reason(home, b"never heard of") is Reason.VETOED_OBJECTION


def test_an_answer_is_about_one_person(home: NodeHome) -> None:
    with pytest.raises(RightsRequestError, match="2 are named"):
        held_about(home, Order([b"a", b"b"], "T-1"), Right.ACCESS, NOW)


def test_a_request_that_was_received_is_taken_up_by_its_ticket(home: NodeHome) -> None:
    early = Order([b"north-7"], "T-1", received=date(2025, 5, 2))
    (noted,) = receive(home, early, Right.ACCESS, NOW)
    assert (noted.status, noted.due) == (Status.OPEN, date(2025, 6, 2))
    assert receive(home, early, Right.ACCESS, NOW) == [noted]
    (other,) = receive(home, early, Right.OBJECTION, NOW)
    assert other.id != noted.id
    (begun,) = begin(home, SOMEBODY, Right.ACCESS, NOW)
    assert (begun.id, begun.due) == (noted.id, noted.due)
    answered, _ = held_about(home, SOMEBODY, Right.ACCESS, NOW)
    assert answered.id == noted.id
    (ended,) = fulfil(home, [answered], NOW)
    assert ended.status is Status.FULFILLED
    (again,) = begin(home, SOMEBODY, Right.ACCESS, NOW)
    assert again.id != noted.id


def test_nothing_is_done_before_the_person_has_proved_who_they_are(home: NodeHome) -> None:
    (noted,) = receive(home, SOMEBODY, Right.ERASURE, NOW)
    with home.rights() as rights:
        rights.change([noted.id], lambda one: one.ask_identity(NOW.date()))
    with pytest.raises(RightsRequestError, match="proof of identity"):
        erase(home, SOMEBODY, NOW)
    assert reason(home) is Reason.ALLOWED


def test_no_request_arrives_in_the_future(home: NodeHome) -> None:
    with pytest.raises(RightsRequestError, match="in the future"):
        receive(home, Order([b"north-7"], "T-1", received=date(2025, 6, 2)), Right.ACCESS, NOW)


def test_each_law_is_asked_for_its_own_rights(home: NodeHome) -> None:
    with pytest.raises(RightsRequestError, match="CCPA knows no right of objection"):
        set_vetoes(home, Order([b"north-7"], "T-1", Regulation.CCPA), Right.OBJECTION, NOW)


def test_an_import_passes_over_what_it_says_of_erased_people(home: NodeHome, tmp_path: Path) -> None:
    erase(home, SOMEBODY, NOW)
    export = tmp_path / "consents.csv"
    header = "identifier,purpose,kind,event_time,valid_until,notice_version\n"
    line = "{},fedseg:SegmentStatistics,given,2025-06-01T00:00:00Z,2027-01-01T00:00:00Z,1\n"
    export.write_text(header + line.format("north-7") + line.format("north-8"), "utf-8")
    found = import_consents(home, export, "canonical-csv", now=NOW)
    assert found.note.events == 1
    with home.register() as register:
        assert not register.events_of(subject_key(b"north-7", home.subject_secret))


def test_a_request_that_was_taken_back_meanwhile_is_not_begun_and_nobody_is_suppressed(home: NodeHome) -> None:
    noted = receive(home, SOMEBODY, Right.ERASURE, NOW)
    with home.rights() as rights:
        rights.change([one.id for one in noted], lambda one: one.revoke(NOW.date()))
        with pytest.raises(RightsRequestError, match="cannot be started"):
            rights.change([one.id for one in noted], SubjectRequest.start, suppress=SOMEBODY.subjects(home))
        assert not len(rights.suppressed())
