"""`fedseg subject`: requests of data subjects at a unit, from their arrival to the certificate."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli import subject_api, subject_recipients
from fedseg.cli.output import Format, FormatOption, require_somebody, say, show
from fedseg.cli.subject_status import describe_requests, listed_requests, request_facts, require_answered
from fedseg.errors import StorageError
from fedseg.policy.rights import Denial, Regulation, Right
from fedseg.private_file import write_new

if TYPE_CHECKING:
    from fedseg.node.rights.requests import Order
    from fedseg.policy.rights import SubjectRequest

app = typer.Typer(help="Requests of data subjects at a unit: deadlines, vetoes, erasure.", no_args_is_help=True)

NodeOption = Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")]
IdFileOption = Annotated[
    Path, typer.Option(help="File with one identifier a line, as in the data source.", exists=True, dir_okay=False)
]
TicketOption = Annotated[str, typer.Option(metavar="REF", help="Your own reference of the request.")]
RegulationOption = Annotated[Regulation, typer.Option(help="The law it is made under.")]
ReceivedOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day it arrived; today, unless said.")
]
RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST", help="First digits of the request's id.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def init(node: NodeOption, yes: YesOption = False, format_: FormatOption = Format.TEXT) -> None:
    """Begin the register of requests of a unit that has none, such as one made by an earlier version.

    Only where nobody was ever erased: whoever was would be counted again.
    """
    from fedseg.node.home import NodeHome

    home = NodeHome.open(node)
    if not yes:
        require_somebody("say that nobody was ever erased", f"fedseg subject init --node {node} --yes")
        typer.confirm(f"Was nobody ever erased from {home.settings.unit}?", abort=True, err=True)
    home.create_rights()
    show(format_, {"outcome": "begun", "unit": home.settings.unit}, lambda: f"{home.settings.unit}: begun, and empty")


@app.command()
def receive(
    right: Annotated[Right, typer.Argument(help="What is asked for.")],
    id_file: IdFileOption,
    ticket: TicketOption,
    node: NodeOption,
    regulation: RegulationOption = Regulation.GDPR,
    received: ReceivedOption = None,
    check_identity: Annotated[
        bool, typer.Option("--check-identity", help="The person is still to prove who they are.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Note requests down, so that their deadlines are watched; the other commands take them up by their REF."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.requests import receive as note

    home, now = NodeHome.open(node), datetime.now(UTC)
    noted = note(home, _order(id_file, ticket, regulation, received), right, now)
    if check_identity:
        with home.rights() as rights:
            noted = rights.change([one.id for one in noted], lambda one: one.ask_identity(now.date()))
    _show_requests(format_, "noted", noted, now.date())


@app.command()
def erase(
    id_file: IdFileOption,
    ticket: TicketOption,
    node: NodeOption,
    regulation: RegulationOption = Regulation.GDPR,
    received: ReceivedOption = None,
    ground: Annotated[
        str | None, typer.Option(help="GDPR Article 17(1), letter; 17(1)(b), consent withdrawn, unless said.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, erase nothing.")] = False,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Erase people from the unit: their rows, their consent, every file. It cannot be undone."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.erasure import erase as remove

    home, now = NodeHome.open(node), datetime.now(UTC)
    order = _order(id_file, ticket, regulation, received)
    reason = ground or ("17(1)(b)" if regulation is Regulation.GDPR else "1798.105")
    if dry_run:
        facts = {"outcome": "checked, nothing erased", "LOCAL": {"people": len(order.identifiers)}}
        show(format_, facts, lambda: f"LOCAL: {len(order.identifiers):,} people would be erased; nothing was")
        return
    if not yes:
        require_somebody("confirm the erasure", "the same command with --yes")
        typer.confirm(
            f"LOCAL: erase {len(order.identifiers):,} people from {home.settings.unit}?", abort=True, err=True
        )
    done = remove(home, order, now, ground=reason, skip=[id_file])
    say(f"{id_file} still names them: delete it when you have answered them")
    _say_who_waits(done)
    _show_requests(format_, "erased", done, now.date())


def _veto(right: Right) -> Callable[..., None]:
    """A command that sets a right's veto; the right says under which law."""
    law = next(one for one in Regulation if right in one.rights)

    def command(
        id_file: IdFileOption,
        ticket: TicketOption,
        node: NodeOption,
        received: ReceivedOption = None,
        format_: FormatOption = Format.TEXT,
    ) -> None:
        from fedseg.node.home import NodeHome
        from fedseg.node.rights.requests import set_vetoes

        home, now = NodeHome.open(node), datetime.now(UTC)
        done = set_vetoes(home, _order(id_file, ticket, law, received), right, now)
        _say_who_waits(done)
        _show_requests(format_, "recorded", done, now.date())

    return command


for _name, _right, _help in (
    ("restrict", Right.RESTRICTION, "Restrict processing (Article 18): their data stay, and are counted for nothing."),
    ("object", Right.OBJECTION, "Record an objection (Article 21): they are counted for nothing any more."),
    ("opt-out", Right.OPT_OUT, "Record an opt-out of sale and sharing (CCPA)."),
    ("limit", Right.LIMIT, "Limit the use of sensitive data (CCPA)."),
):
    app.command(_name, help=_help)(_veto(_right))


@app.command()
def rectify(
    id_file: IdFileOption,
    ticket: TicketOption,
    node: NodeOption,
    regulation: RegulationOption = Regulation.GDPR,
    received: ReceivedOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Record that their data have been put right in the source, and have recipients told of it."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.requests import rectify as put_right

    home, now = NodeHome.open(node), datetime.now(UTC)
    done = put_right(home, _order(id_file, ticket, regulation, received), now)
    _say_who_waits(done)
    _show_requests(format_, "recorded", done, now.date())


@app.command()
def export(
    id_file: IdFileOption,
    ticket: TicketOption,
    node: NodeOption,
    out: Annotated[Path, typer.Option(help="New file for the person: JSON.")],
    regulation: RegulationOption = Regulation.GDPR,
    received: ReceivedOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write down for one person all that the unit holds about them, and what is done with it."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.requests import fulfil, held_about

    home, now = NodeHome.open(node), datetime.now(UTC)
    order = _order(id_file, ticket, regulation, received)
    if out.exists():
        raise StorageError(f"{out} is there already", why="an answer is never written over", fix="name another --out")
    request, held = held_about(home, order, Right.ACCESS, now)
    _write_private(out, json.dumps(held, indent=2, ensure_ascii=False).encode() + b"\n")
    _show_requests(format_, "answered", fulfil(home, [request], now), now.date(), out=str(out))


@app.command()
def status(
    node: NodeOption,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List requests by their deadline, and the recipients that are told of them. For a daily job.

    Exits with 3 if an answer is overdue, or due within a week while a recipient has not acknowledged what it was told.
    """
    from fedseg.errors import RightsRequestError
    from fedseg.node.home import NodeHome

    today = datetime.now(UTC).date()
    listed = listed_requests(NodeHome.open(node), today, everything=everything)
    overdue = [one for one in listed if one["overdue"] and one["days_left"] is not None]
    escalated = sum(one["escalated"] for one in listed)
    facts = {"today": today.isoformat(), "requests": listed, "overdue": len(overdue), "escalated": escalated}
    if overdue:
        error = RightsRequestError(
            f"{len(overdue)} of the requests {'is' if len(overdue) == 1 else 'are'} overdue",
            why=f"the answer to {overdue[0]['ticket']} was due on {overdue[0]['due']}",
            fix="answer it today, and tell your data protection officer",
        )
        error.data = facts
        if format_ is Format.TEXT:
            say(describe_requests(listed))
        raise error
    require_answered(listed, facts, format_, describe_requests(listed))
    show(format_, facts, lambda: describe_requests(listed))


@app.command()
def extend(
    request: RequestArgument,
    reason: Annotated[str, typer.Option(help="Why the answer takes longer, as the person was told.")],
    node: NodeOption,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Record that a person was told, in time, that the answer takes longer."""
    _step(node, request, format_, lambda one, today: one.extend(today, reason))


@app.command()
def verified(request: RequestArgument, node: NodeOption, format_: FormatOption = Format.TEXT) -> None:
    """Record that a person has proved who they are; under the GDPR the clock goes on."""
    _step(node, request, format_, lambda one, today: one.confirm_identity(today))


@app.command()
def deny(
    request: RequestArgument,
    reason: Annotated[Denial, typer.Option(help="Why, in a word.")],
    explanation: Annotated[str, typer.Option(help="What the person is told.")],
    node: NodeOption,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Deny a request, with what the person is told."""
    _step(node, request, format_, lambda one, today: one.deny(today, reason, explanation))


@app.command()
def certificate(
    request: RequestArgument,
    node: NodeOption,
    out: Annotated[Path, typer.Option(help="New file for the person and for your auditor.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write the certificate of an erasure, with its proof; there is one when the day of the erasure is over."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.erasure import proven_certificate

    home = NodeHome.open(node)
    with home.rights() as rights:
        id_ = rights.request(request).request.id
    _write_private(out, proven_certificate(home, id_))
    facts = {"out": str(out), "request": id_, "public_key": home.key.public.to_text()}
    check = f"fedseg audit verify {out} --key {home.settings.unit}={facts['public_key']}"
    show(format_, facts, lambda: f"{out}: certificate of request {id_}\nanybody checks it with\n{check}")


@app.command()
def sweep(
    node: NodeOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, remove nothing.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Remove what came back about erased people, and what was kept as long as the policy says: for a daily job.

    What went, by rule and count, stands in a record in LOCAL/sweeps. It also logs the days that are over, as a running
    node does by itself, and exits with 3 if a recipient is silent and the answer is due within a week.
    """
    from fedseg.node.home import NodeHome
    from fedseg.node.retention import EVIDENCE
    from fedseg.node.retention import sweep as remove
    from fedseg.node.rights.batch import log_days

    home, now = NodeHome.open(node), datetime.now(UTC)
    swept = remove(home, now, dry_run=dry_run)
    ended = {one.what: one.count for one in swept.ended}
    facts = {
        "outcome": "checked, nothing removed" if dry_run else "swept",
        "days_logged": [] if dry_run else log_days(home, now),
        "record": None if swept.record is None else str(swept.record),
        "LOCAL": {
            "evidence_forgotten": 0 if dry_run else ended[EVIDENCE],
            "ended": [asdict(one) for one in swept.ended],
            "finished": list(swept.finished),
        },
    }
    require_answered(listed_requests(home, now.date()), facts, format_, _describe_sweep(facts))
    show(format_, facts, lambda: _describe_sweep(facts))


app.command()(subject_recipients.handed_over)
app.command()(subject_recipients.notify)
app.command()(subject_recipients.not_told)
app.command()(subject_api.platform)
app.command()(subject_api.serve)


def _describe_sweep(facts: dict[str, Any]) -> str:
    local = facts["LOCAL"]
    lines = [facts["outcome"]]
    lines += [f"LOCAL: finished what the sweep of {one} had begun" for one in local["finished"]]
    gone = [one for one in local["ended"] if one["count"]]
    lines += [f"LOCAL: {one['count']:,} {one['what']}, by {one['rule']}, before {one['before']}" for one in gone]
    return "\n".join([*lines, *(() if gone else ["nothing was kept longer than the policy says"])])


def _order(id_file: Path, ticket: str, regulation: Regulation, received: datetime | None) -> "Order":
    from fedseg.node.consent.intake import read_identifiers
    from fedseg.node.rights.requests import Order

    day = None if received is None else received.date()
    return Order(read_identifiers(id_file), ticket, regulation, day)


def _step(node: Path, request: str, format_: Format, step: "Callable[[SubjectRequest, date], SubjectRequest]") -> None:
    """Take one request one step further."""
    from fedseg.node.home import NodeHome

    today = datetime.now(UTC).date()
    with NodeHome.open(node).rights() as rights:
        id_ = rights.request(request).request.id
        (after,) = rights.change([id_], lambda one: step(one, today))
    _show_requests(format_, after.status.value, [after], today)


def _write_private(path: Path, data: bytes) -> None:
    try:
        write_new(path, data)
    except OSError as error:
        raise StorageError(
            f"{path} was not written",
            why=error.strerror or "unknown cause",
            fix="name another --out: nothing is written over",
        ) from error


def _say_who_waits(done: "list[SubjectRequest]") -> None:
    waiting = sum(not one.status.is_final for one in done)
    if waiting:
        say(f"recipients are still to be told, for {waiting:,} of them: fedseg subject notify")


def _show_requests(format_: Format, outcome: str, requests: "list[SubjectRequest]", today: date, **more: str) -> None:
    listed = [request_facts(one, today) for one in requests]
    facts = {"outcome": outcome, **more, "requests": listed}
    lines = [f"{one['request']}  {one['right']}: {one['status'].replace('_', ' ')}, due {one['due']}" for one in listed]
    show(format_, facts, lambda: "\n".join([outcome, *lines]))
