"""OpenDSR's shapes: the specification's own example is read, what cannot be honoured is refused, and nobody is named."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from fedseg.errors import RightsRequestError
from fedseg.node.rights.opendsr import order_of, read_request, state, status_of
from fedseg.policy.rights import Denial, Regulation, Right, SubjectRequest

EXAMPLE = (Path(__file__).parent / "opendsr_example.json").read_bytes()
NOW = datetime(2018, 10, 3, 9, tzinfo=UTC)
OPEN = SubjectRequest("a" * 32, Right.ERASURE, Regulation.GDPR, date(2018, 10, 2))
BEGUN = OPEN.start()
FULFILLED = BEGUN.fulfil(NOW.date())
REVOKED = OPEN.revoke(NOW.date())
DENIED = OPEN.deny(NOW.date(), Denial.NO_MATCH, "nobody of that name")


def changed(**changes: Any) -> bytes:
    """The example with other values; None leaves a key out."""
    asked = {**json.loads(EXAMPLE), **changes}
    return json.dumps({name: value for name, value in asked.items() if value is not None}).encode()


def identity(**changes: str) -> dict[str, str]:
    return {**json.loads(EXAMPLE)["subject_identities"][0], **changes}


def test_the_example_of_the_specification_is_read() -> None:
    asked = read_request(EXAMPLE, "email")
    order = order_of(asked, "tool", NOW)
    assert asked.right is Right.ERASURE
    assert order.identifiers == [b"johndoe@example.com"]
    assert order.ticket == "tool/a7551968-d5d6-44b2-9831-815ac9017798"
    assert (order.regulation, order.received) == (Regulation.GDPR, date(2018, 10, 2))
    assert "johndoe" not in f"{asked} {asked!r} {order!r}"


def test_the_day_of_a_request_is_that_of_utc() -> None:
    asked = read_request(changed(submitted_time="2018-10-02T23:30:00-02:00"), "email")
    assert order_of(asked, "tool", NOW).received == date(2018, 10, 3)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"johndoe@example.com", "the body: json invalid"),
        (b"[]", "the body: model type"),
        (changed(regulation=None), "regulation: missing"),
        (changed(regulation="lgpd"), "regulation: literal error"),
        (changed(subject_request_type="rectification"), "subject_request_type: literal error"),
        (changed(subject_request_id="A7551968-D5D6-44B2-9831-815AC9017798"), "subject_request_id: string pattern"),
        (changed(subject_request_id="johndoe@example.com"), "subject_request_id: string pattern"),
        (changed(subject_identities=[]), "subject_identities: too short"),
        (changed(subject_identities=[identity()] * 17), "subject_identities: too long"),
        (changed(subject_identities=[identity(identity_value="")]), "subject_identities.0.identity_value: string pat"),
        (changed(subject_identities=[identity(identity_value="johndoe\n")]), "identity_value: string pattern"),
        (changed(subject_identities=[identity(identity_value="johndoe" * 99)]), "identity_value: string pattern"),
        (changed(subject_identities=[identity(identity_format="johndoe")]), "identity_format: literal error"),
        (changed(submitted_time="johndoe"), "submitted_time: datetime"),
        (changed(submitted_time="2018-10-02T15:00:00"), "submitted_time: timezone aware"),
        (changed(submitted_time="0001-01-01T00:00:00+14:00"), "submitted_time: greater than equal"),
        (changed(api_version="1.0"), "api_version: literal error"),
        (changed(status_callback_urls=["https://x"] * 9), "status_callback_urls: too long"),
        (changed(**{"johndoe@example.com": 1}), "the body: extra forbidden"),
        (changed(subject_identities=[identity(johndoe="1")]), "subject_identities.0: extra forbidden"),
    ],
)
def test_what_is_no_request_is_refused_without_a_word_of_it(body: bytes, why: str) -> None:
    with pytest.raises(RightsRequestError, match=why) as refused:
        read_request(body, "email")
    error = refused.value
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert "johndoe" not in f"{error} {error.fix}"


@pytest.mark.parametrize("form", ["sha256", "sha1", "md5"])
def test_a_hash_leads_to_nobody_and_is_refused(form: str) -> None:
    with pytest.raises(RightsRequestError, match=f"format {form}") as refused:
        read_request(changed(subject_identities=[identity(), identity(identity_format=form)]), "email")
    assert refused.value.fix == "send identities in the format raw"


def test_an_identity_of_another_type_is_refused_and_not_passed_over() -> None:
    with pytest.raises(RightsRequestError, match="knows nobody") as refused:
        read_request(EXAMPLE, "controller_customer_id")
    assert refused.value.fix == "send controller_customer_id"


def test_nobody_asks_in_the_future_or_twice() -> None:
    for time in ("2018-10-03T09:00:01Z", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(RightsRequestError, match="in the future"):
            order_of(read_request(changed(submitted_time=time), "email"), "tool", NOW)
    with pytest.raises(RightsRequestError, match="twice"):
        order_of(read_request(changed(subject_identities=[identity()] * 2), "email"), "tool", NOW)


@pytest.mark.parametrize(
    ("noted", "status"),
    [
        ([OPEN], "pending"),
        ([BEGUN], "in_progress"),
        ([FULFILLED], "completed"),
        ([DENIED], "completed"),
        ([REVOKED], "cancelled"),
        ([OPEN, BEGUN], "in_progress"),
        ([OPEN, FULFILLED], "in_progress"),
        ([OPEN, REVOKED], "in_progress"),
        ([FULFILLED, DENIED], "completed"),
        ([REVOKED, DENIED], "completed"),
    ],
)
def test_a_ticket_is_as_far_as_the_least_of_its_requests(noted: list[SubjectRequest], status: str) -> None:
    assert status_of(noted) == status


def test_a_denial_is_told_aside() -> None:
    told = state("tool", "id", [DENIED], "north.example")
    assert (told["request_status"], told["results_count"]) == ("completed", 0)
    assert told["extensions"] == {"north.example": {"status": "denied", "reasons": ["no_match"]}}
    partly = state("tool", "id", [DENIED, FULFILLED], "north.example")
    assert "results_count" not in partly
    assert partly["extensions"] == told["extensions"]
    assert "extensions" not in state("tool", "id", [FULFILLED], "north.example")
    assert told["expected_completion_time"] == "2018-11-02T23:59:59Z"
