"""Recipients of customers' data, and what they are told: a part of `fedseg subject`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show
from fedseg.cli.subject_status import describe_notices, listed_requests, notice_facts, require_answered
from fedseg.errors import RightsRequestError
from fedseg.policy.notices import Exemption

NodeOption = Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")]


def handed_over(
    file: Annotated[
        Path, typer.Option(help="The list as it was sent: CSV with a heading.", exists=True, dir_okay=False)
    ],
    column: Annotated[str, typer.Option(help="Its column with the customers' identifiers, as in the data source.")],
    to: Annotated[str, typer.Option(metavar="RECIPIENT", help="Who got it, as the policy names them.")],
    node: NodeOption,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day it was sent; today, unless said.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Note down who stood in a list that a recipient got, so that it can be told of their requests.

    The list itself is not kept.
    """
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.handed_over import HandedOver, record_handed_over

    now = datetime.now(UTC)
    handed = HandedOver(to, file, column, None if on is None else on.date())
    people = record_handed_over(NodeHome.open(node), handed, now)
    day = (handed.day or now.date()).isoformat()
    facts = {"outcome": "recorded", "recipient": to, "day": day, "LOCAL": {"people": people}}
    show(format_, facts, lambda: f"{to}: recorded for {day}; LOCAL: {people:,} people")


def notify(
    domain: Annotated[str, typer.Option(metavar="HOST", help="The unit's host, which --cert is for.")],
    cert: Annotated[Path, typer.Option(help="Certificate for HOST, PEM, with its chain.", dir_okay=False)],
    key: Annotated[Path, typer.Option(help="Its private key, PEM: signs what is sent.", dir_okay=False)],
    node: NodeOption,
    ca: Annotated[
        Path | None, typer.Option(help="Authorities that vouch for recipients, PEM; the system's, unless said.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Tell recipients of requests, and platforms where theirs stand: all that is due now. For a job every few minutes.

    Exits with 3 if a recipient is silent and the answer is due within a week.
    """
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.notify import notify as tell
    from fedseg.node.rights.post import Sender

    home, now = NodeHome.open(node), datetime.now(UTC)
    told = tell(home, Sender.load(cert, key, domain, ca), now)
    notices = [{"request": one.request, **notice_facts(one)} for one in told.notices]
    callbacks = [{"ticket": one.ticket, "status": one.status, "problem": one.problem} for one in told.callbacks]
    facts = {
        "outcome": "sent" if notices or callbacks else "nothing is due",
        "notices": notices,
        "callbacks": callbacks,
    }
    lines = [describe_notices([(one["request"], one) for one in notices])] if notices else []
    lines += [f"{one['ticket']}: {one['problem'] or 'told that it is ' + str(one['status'])}" for one in callbacks]
    text = "\n".join(lines or ["nothing is due"])
    require_answered(listed_requests(home, now.date()), facts, format_, text)
    show(format_, facts, lambda: text)


def not_told(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="First digits of the request's id.")],
    recipient: Annotated[str, typer.Option(help="Who is not told.")],
    because: Annotated[Exemption, typer.Option(help="Which of the two reasons of Article 19.")],
    explanation: Annotated[str, typer.Option(help="Why that is so, for whoever asks; names nobody.")],
    node: NodeOption,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Record that a recipient is not told, because it is impossible or would take a disproportionate effort."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.erasure import conclude

    home, now = NodeHome.open(node), datetime.now(UTC)
    with home.rights() as rights:
        id_ = rights.request(request).request.id
        notices = [one for one in rights.notices.notices().get(id_, ()) if one.recipient == recipient]
        if not notices:
            raise RightsRequestError(
                f"{recipient} is not told of the request {id_} anyway",
                why="it got nothing about the person, or the request is of a kind of which recipients are not told",
                fix="fedseg subject status --all --node HOME",
            )
        rights.notices.settle(notices[0].id, lambda one: one.exempt(because, explanation, now))
    conclude(home, now)
    with home.rights() as rights:
        after = rights.request(id_).request
    facts = {"outcome": "recorded", "request": id_, "recipient": recipient, "status": after.status.value}
    show(format_, facts, lambda: f"{recipient}: {because.value}; the request is {after.status.value.replace('_', ' ')}")
