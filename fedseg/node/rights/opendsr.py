"""OpenDSR 2.0: requests as a privacy platform sends them, and the answers. Values alone: no network, no files.

Whoever a request is about stands in `PlatformRequest.subject_identities`, in memory, and in no answer but the one that
gives the platform its own bytes back. No error repeats a value of a request, nor a key.
"""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fedseg.errors import RightsRequestError
from fedseg.node.rights.requests import Order
from fedseg.policy.notices import Notice
from fedseg.policy.rights import Regulation, Right, Status, SubjectRequest

API_VERSION: Final = "2.0"
REQUEST_TYPES: Final = (Right.ACCESS, Right.PORTABILITY, Right.ERASURE)
"""All that OpenDSR knows; they have the same names here."""
CUSTOMER: Final = "controller_customer_id"
"""OpenDSR's name of the identity by which recipients know a customer."""
PENDING: Final = "pending"
"""What a platform knows of a request that was noted."""
ENDED: Final = frozenset({"completed", "cancelled"})
"""What stands under a ticket stays so."""
FORMAT: Final = "raw"
"""The only form of an identity that can be matched."""

RequestId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
"""The platform's own: a random UUID in lower case, as OpenDSR wants it."""
IdentityType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
_FIRST_DAY: Final = datetime(2018, 5, 25, tzinfo=UTC)
"""Before the GDPR applied nobody could ask under it; under the CCPA later still."""


class Identity(BaseModel):
    """One name by which the platform knows the person."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    identity_type: IdentityType
    identity_value: Annotated[str, Field(repr=False, pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]
    identity_format: Literal["raw", "sha256", "sha1", "md5"]


class PlatformRequest(BaseModel):
    """A request of OpenDSR 2.0. What that does not define goes into `extensions`, of which none has a meaning here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    regulation: Literal["gdpr", "ccpa"]
    subject_request_id: RequestId
    subject_request_type: Literal["access", "portability", "erasure"]
    subject_identities: Annotated[list[Identity], Field(repr=False, min_length=1, max_length=16)]
    submitted_time: Annotated[AwareDatetime, Field(ge=_FIRST_DAY)]
    api_version: Literal["2.0"] | None = None
    status_callback_urls: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=8)] = []
    """Called only if an officer has named their origin for the platform."""
    extensions: Annotated[dict[str, JsonValue], Field(repr=False, max_length=16)] = {}

    @property
    def right(self) -> Right:
        """What is asked for."""
        return Right(self.subject_request_type)


def read_request(body: bytes, identity_type: str) -> PlatformRequest:
    """A platform's request.

    Args:
        body: As it arrived.
        identity_type: The one whose values are identifiers of the unit's source.

    Raises:
        RightsRequestError: If it is none, or names a person in a form in which nobody can be found.
    """
    try:
        asked = PlatformRequest.model_validate_json(body)
    except ValidationError as error:
        raise _unfit(_place_of(error), "send what the reference of `fedseg subject serve` describes") from None
    for one in asked.subject_identities:
        if one.identity_format != FORMAT:
            raise _unfit(
                f"an identity has the format {one.identity_format}; the unit knows people by a hash of its own, "
                "with a secret key, to which no other hash leads",
                f"send identities in the format {FORMAT}",
            )
        if one.identity_type != identity_type:
            raise _unfit("an identity is of a type by which this unit knows nobody", f"send {identity_type}")
    return asked


def order_of(asked: PlatformRequest, platform: str, now: datetime) -> Order:
    """The unit's own form of a request. Its clock starts when the person asked the platform, not when we heard of it.

    Raises:
        RightsRequestError: If it was submitted in the future, or names somebody twice.
    """
    if asked.submitted_time > now:
        raise _unfit("submitted_time lies in the future", "send the time at which the person asked")
    identifiers = [one.identity_value.encode() for one in asked.subject_identities]
    if len(set(identifiers)) < len(identifiers):
        raise _unfit("an identity stands there twice", "send each once")
    received = asked.submitted_time.astimezone(UTC).date()
    ticket = ticket_of(platform, asked.subject_request_id)
    return Order(identifiers, ticket, Regulation(asked.regulation), received)


def ticket_of(platform: str, request_id: str) -> str:
    """The reference under which a platform's request stands in the unit's register: no two platforms share one."""
    return f"{platform}/{request_id}"


def discovery(identity_type: str, certificate_url: str) -> dict[str, Any]:
    """What a unit can be asked for."""
    return {
        "api_version": API_VERSION,
        "supported_identities": [{"identity_type": identity_type, "identity_format": FORMAT}],
        "supported_subject_request_types": [one.value for one in REQUEST_TYPES],
        "processor_certificate": certificate_url,
    }


def receipt(
    platform: str, asked: PlatformRequest, body: bytes, noted: Sequence[SubjectRequest], now: datetime
) -> dict[str, Any]:
    """That a request was noted. It is the same whether the unit has heard of the person or not."""
    return {
        "controller_id": platform,
        "expected_completion_time": _completion(noted),
        "received_time": _time(now),
        "encoded_request": base64.b64encode(body).decode("ascii"),
        "subject_request_id": asked.subject_request_id,
    }


def state(platform: str, request_id: str, noted: Sequence[SubjectRequest], domain: str) -> dict[str, Any]:
    """Where a request stands. OpenDSR has no word for a denial: it is completed, without results, and a reason."""
    found: dict[str, Any] = {
        "controller_id": platform,
        "expected_completion_time": _completion(noted),
        "subject_request_id": request_id,
        "request_status": status_of(noted),
        "api_version": API_VERSION,
    }
    denials = sorted({one.denial.value for one in noted if one.denial is not None})
    if denials:
        found["extensions"] = {domain: {"status": "denied", "reasons": denials}}
    if all(one.denial is not None for one in noted):
        found["results_count"] = 0
    return found


def notice_body(notice: Notice, request: SubjectRequest, identifier: bytes, controller: str, domain: str) -> bytes:
    """What a recipient is told: a request of OpenDSR, which also has the types restriction and rectification here.

    It is the same in every attempt.

    Args:
        notice: Its id is the request's for the recipient.
        request: The person's.
        identifier: As in the unit's source, and in the lists that the recipient got.
        controller: Who answers for the unit's data.
        domain: The unit's.
    """
    identity = {
        "identity_type": CUSTOMER,
        "identity_value": identifier.decode("utf-8"),
        "identity_format": FORMAT,
    }
    told = {
        "regulation": request.regulation.value,
        "subject_request_id": notice.id,
        "subject_request_type": request.right.value,
        "submitted_time": f"{request.received}T00:00:00Z",
        "subject_identities": [identity],
        "api_version": API_VERSION,
        "status_callback_urls": [],
        "extensions": {domain: {"controller": controller}},
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def callback_body(platform: str, request_id: str, noted: Sequence[SubjectRequest], domain: str, url: str) -> bytes:
    """What a platform hears at an address of its own when the status of a request has changed."""
    told = {**state(platform, request_id, noted, domain), "status_callback_url": url}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def cancellation(platform: str, request_id: str, now: datetime) -> dict[str, Any]:
    """That a request was taken back."""
    return {
        "controller_id": platform,
        "received_time": _time(now),
        "subject_request_id": request_id,
        "api_version": API_VERSION,
    }


def status_of(noted: Sequence[SubjectRequest]) -> str:
    """OpenDSR's word for all that stands under one ticket: several, if the person is known by several identifiers."""
    statuses = {one.status for one in noted}
    if statuses == {Status.OPEN}:
        return PENDING
    if statuses == {Status.REVOKED}:
        return "cancelled"
    return "completed" if all(one.is_final for one in statuses) else "in_progress"


def failure(status: int, message: str, reason: str) -> dict[str, Any]:
    """An error as OpenDSR writes it.

    Args:
        status: Of HTTP.
        message: For people; it holds nothing of the request.
        reason: For programs.
    """
    detail = {"domain": "fedseg", "reason": reason, "message": message}
    return {"error": {"code": status, "message": message, "errors": [detail]}}


def _completion(noted: Sequence[SubjectRequest]) -> str:
    return f"{max(one.due for one in noted)}T23:59:59Z"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _place_of(error: ValidationError) -> str:
    """Where a request is wrong and how; a name that it made up itself is left out, for it may be anybody's."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    known = set(PlatformRequest.model_fields) | set(Identity.model_fields)
    place = [str(one) for one in first["loc"] if isinstance(one, int) or one in known]
    return f"{'.'.join(place) or 'the body'}: {first['type'].replace('_', ' ')}"


def _unfit(why: str, fix: str) -> RightsRequestError:
    return RightsRequestError("the request cannot be taken", why=why, fix=fix)
