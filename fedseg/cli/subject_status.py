"""What the commands of `fedseg subject` say of requests, and of the recipients that are told of them."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from fedseg.cli.output import Format, say, table
from fedseg.errors import RightsRequestError

if TYPE_CHECKING:
    from fedseg.node.home import NodeHome
    from fedseg.policy.notices import Notice
    from fedseg.policy.rights import SubjectRequest


def request_facts(request: "SubjectRequest", today: date) -> dict[str, Any]:
    """A request, for JSON."""
    return {
        "request": request.id,
        "right": request.right.value,
        "regulation": request.regulation.value,
        "status": request.status.value,
        "received": request.received.isoformat(),
        "confirm_by": None if request.confirm_by is None else request.confirm_by.isoformat(),
        "due": request.due.isoformat(),
        "days_left": request.days_left(today),
        "urgent": request.is_urgent(today),
        "overdue": request.is_overdue(today),
    }


def notice_facts(notice: "Notice") -> dict[str, Any]:
    """Where one recipient stands, for JSON."""
    settled = notice.settled is not None
    return {
        "recipient": notice.recipient,
        "status": notice.status.value,
        "notice": notice.id,
        "attempts": notice.attempts,
        "next_attempt": None if settled else f"{notice.next_attempt:%Y-%m-%dT%H:%M:%SZ}",
        "problem": notice.problem,
        "settled": None if notice.settled is None else notice.settled.isoformat(),
        "explanation": notice.explanation,
    }


def listed_requests(home: "NodeHome", today: date, *, everything: bool = False) -> list[dict[str, Any]]:
    """The open requests of a unit, or all, by their deadline, each with its recipients."""
    from fedseg.policy.notices import is_escalated

    with home.rights() as rights:
        found = [one for one in rights.requests() if everything or not one.request.status.is_final]
        notices = rights.notices.notices()
    found.sort(key=lambda one: (one.request.status.is_final, one.request.due))
    return [
        {
            **request_facts(one.request, today),
            "ticket": one.ticket,
            "recipients": [notice_facts(notice) for notice in notices.get(one.request.id, ())],
            "escalated": is_escalated(one.request, notices.get(one.request.id, ()), today),
        }
        for one in found
    ]


def require_answered(listed: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], format_: Format, text: str) -> None:
    """End with an error if a recipient is silent and time is short; what is printed otherwise is said beside it.

    Raises:
        RightsRequestError: If so.
    """
    urgent = [one for one in listed if one["escalated"]]
    if not urgent:
        return
    silent = next(one for one in urgent[0]["recipients"] if one["settled"] is None)
    error = RightsRequestError(
        f"recipients have not acknowledged what they were told, for {len(urgent)} requests that are due within a week",
        why=f"{silent['recipient']} is silent ({silent['problem'] or 'not tried yet'}), and the answer to "
        f"{urgent[0]['ticket']} is due on {urgent[0]['due']}",
        fix=f"reach {silent['recipient']} in another way, then: fedseg subject notify; or, if that is impossible, "
        "fedseg subject not-told",
    )
    error.data = dict(facts)
    if format_ is Format.TEXT:
        say(text)
    raise error


def describe_requests(listed: Sequence[Mapping[str, Any]]) -> str:
    """Requests as a table, and below who is still to be told."""
    if not listed:
        return "no request is open"
    rows = [["due", "left", "right", "law", "status", "ticket", "request"]]
    for one in listed:
        left = "" if one["days_left"] is None else f"{one['days_left']} d"
        mark = " OVERDUE" if one["overdue"] else " urgent" if one["urgent"] else ""
        status = one["status"].replace("_", " ") + mark
        rows.append([one["due"], left, one["right"], one["regulation"], status, one["ticket"], one["request"][:12]])
    told = [(one["request"], notice) for one in listed for notice in one["recipients"]]
    return "\n".join([table(rows, right=[1]), *(("", describe_notices(told)) if told else ())])


def describe_notices(told: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Notices as a table."""
    rows = [["request", "recipient", "told", "attempts", "next attempt", "why"]]
    for request, one in told:
        why = one["problem"] or one["explanation"] or ""
        rows.append(
            [
                request[:12],
                one["recipient"],
                one["status"],
                str(one["attempts"]),
                one["next_attempt"] or one["settled"],
                why,
            ]
        )
    return table(rows, right=[3])
