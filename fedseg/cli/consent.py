"""`fedseg consent`: consent comes into a unit's register, and how it stands there."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, say, show, table
from fedseg.cli.progress import progress_on_stderr
from fedseg.errors import ConsentEventError, SettingsError

if TYPE_CHECKING:
    from fedseg.node.consent.intake import Imported
    from fedseg.node.consent.status import ConsentStatus
    from fedseg.policy.purposes import Purpose

app = typer.Typer(help="Customers' consent at a unit: import it, withdraw it, count it.", no_args_is_help=True)
NodeOption = Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")]


@app.command("import")
def import_(
    export: Annotated[Path, typer.Argument(metavar="FILE", help="The export, in UTF-8.")],
    mapping: Annotated[str, typer.Option(help="Name of a mapping, or your own MAPPING.toml.")],
    node: NodeOption,
    accept_partial: Annotated[
        bool, typer.Option("--accept-partial", help="Deny customers with a line that cannot be read, take the rest.")
    ] = False,
    corrects: Annotated[
        str | None, typer.Option(help="ID of a partial import whose unread lines this file brings corrected.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, store nothing.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Import consents from an export: all of it, or nothing if a line cannot be read. Again is no harm."""
    from fedseg.node.consent.intake import import_consents, imported_facts
    from fedseg.node.home import NodeHome

    try:
        with progress_on_stderr() as progress:
            found = import_consents(
                NodeHome.open(node),
                export,
                mapping,
                now=datetime.now(UTC),
                accept_partial=accept_partial,
                corrects=corrects,
                dry_run=dry_run,
                progress=progress,
            )
    except ConsentEventError as error:
        if error.data and format_ is Format.TEXT:
            say(_describe_import({"outcome": "refused", **error.data}))
        raise
    facts = {"outcome": _outcome(found), **imported_facts(found)}
    show(format_, facts, lambda: _describe_import(facts))


@app.command()
def mapping(
    name: Annotated[str | None, typer.Argument(help="Print this one; copy it and make it your own.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List the mappings that come with fedseg, or print one."""
    from fedseg.node.consent.mapping import load_mapping, mapping_document, shipped_mappings

    if name is not None:
        document = mapping_document(name).decode("utf-8", "replace")
        facts: dict[str, Any] = {"mapping": document, "mapping_sha256": load_mapping(name).digest}
        show(format_, facts, document.rstrip)
        return
    named = [(one, load_mapping(one)) for one in shipped_mappings()]
    listed = [{"name": one, "source": found.source, "format": found.format} for one, found in named]
    rows = [["mapping", "format"], *([one["name"], one["format"]] for one in listed)]
    show(format_, {"mappings": listed}, lambda: table(rows))


@app.command()
def move(
    node: NodeOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only see whether the database can be reached.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Move the register from the home into the database that node.toml names. Stop the node before."""
    from fedseg.node.consent.place import move_register
    from fedseg.node.home import NodeHome

    settings = (home := NodeHome.open(node)).settings
    events = move_register(home.register_file, settings.register_, settings.unit, dry_run=dry_run)
    outcome = "checked, nothing moved" if dry_run else "moved"
    show(format_, {"outcome": outcome, "LOCAL": {"events": events}}, lambda: f"{outcome}\nLOCAL: {events:,} events")


@app.command()
def receipt(
    id_file: Annotated[Path, typer.Option(help="File with one identifier, as in the data source.")],
    controller: Annotated[Path, typer.Option(help="CONTROLLER.toml: name, address and what else a receipt must say.")],
    node: NodeOption,
    out: Annotated[Path, typer.Option(help="New file for the customer: JSON-LD.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write a receipt of what one customer said about consent, after ISO/IEC TS 27560."""
    from fedseg.node.consent.intake import read_identifiers
    from fedseg.node.consent.receipt import consent_receipt, read_particulars, write_receipt
    from fedseg.node.home import NodeHome

    identifiers = read_identifiers(id_file)
    if len(identifiers) > 1:
        raise SettingsError(
            "a receipt is one customer's",
            why="the file names more than one",
            fix="write one identifier into it, and ask again for the next",
        )
    made = consent_receipt(NodeHome.open(node), identifiers[0], read_particulars(controller), now=datetime.now(UTC))
    write_receipt(out, made)
    show(format_, {"out": str(out), "receipt_id": made.id}, lambda: f"receipt {made.id} in {out}")


@app.command()
def records(
    controller: Annotated[Path, typer.Option(help="CONTROLLER.toml, as for receipts.")],
    node: NodeOption,
    out: Annotated[Path, typer.Option(help="New file: a line of JSON-LD for each record.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write the consent records of all customers, after ISO/IEC TS 27560, for whoever inspects the unit."""
    from fedseg.node.consent.receipt import consent_records, read_particulars, write_records
    from fedseg.node.home import NodeHome

    found = consent_records(NodeHome.open(node), read_particulars(controller), now=datetime.now(UTC))
    written = write_records(out, found)
    show(format_, {"out": str(out), "LOCAL": {"records": written}}, lambda: f"{out}\nLOCAL: {written:,} records")


@app.command()
def status(
    node: NodeOption,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Count consents that end within so many days.")] = 30,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Count the unit's customers by consent and veto. LOCAL: exact counts never leave the unit."""
    from fedseg.node.consent.status import consent_status
    from fedseg.node.home import NodeHome

    now = datetime.now(UTC)
    found = consent_status(NodeHome.open(node), now=now, days=days)
    show(format_, _status_facts(found, now, days), lambda: _describe_status(found, days))


@app.command()
def withdraw(
    id_file: Annotated[Path, typer.Option(help="File with one identifier a line, as in the data source.")],
    node: NodeOption,
    purpose: Annotated[
        list[str] | None, typer.Option(help="Only from this purpose; may be given again. From all, unless said.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, record nothing.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Record that customers withdraw their consent. It counts from the next round on."""
    from fedseg.node.consent.intake import withdraw as record
    from fedseg.node.home import NodeHome

    purposes = _purposes(purpose)
    customers, unknown = record(NodeHome.open(node), id_file, purposes, now=datetime.now(UTC), dry_run=dry_run)
    outcome = "checked, nothing recorded" if dry_run else "withdrawn"
    facts = {
        "outcome": outcome,
        "purposes": [str(one) for one in purposes],
        "LOCAL": {"customers": customers, "unknown": unknown},
    }
    if unknown:
        say("LOCAL: the register knew nothing of some; are they written as in the data source?")
    counted = f"LOCAL: {customers:,} customers, {unknown:,} of whom the register knew nothing"
    show(format_, facts, lambda: f"{outcome}: {', '.join(facts['purposes'])}\n{counted}")


def _purposes(named: list[str] | None) -> "list[Purpose]":
    from fedseg.policy.purposes import Purpose

    try:
        return [Purpose.from_text(one) for one in dict.fromkeys(named or ())] or list(Purpose)
    except ValueError as error:
        raise SettingsError(
            "there is no such purpose", why=str(error), fix="name one of those with --purpose, or leave it out"
        ) from error


def _outcome(found: "Imported") -> str:
    if found.new is None:
        return "checked, nothing imported"
    return "imported in part" if found.note.refused else "imported"


def _describe_import(facts: dict[str, Any]) -> str:
    local = facts["LOCAL"]
    new = "" if local["new"] is None else f", {local['new']:,} of them new"
    lines = [
        f"{facts['outcome']}: import {facts['import_id']}",
        f"LOCAL: {local['lines']:,} lines, {local['events']:,} events{new}",
        *(f"LOCAL: {kind.replace('_', ' ')} {count:,}" for kind, count in local["kinds"].items()),
    ]
    if local["refused"]:
        lines += [f"LOCAL: {local['refused']:,} lines could not be read; each with its reason in {local['report']}"]
        lines += [f"LOCAL: {count:,} lines: {reason}" for reason, count in local["reasons"].items()]
    if local["unattributed"]:
        lines += [f"LOCAL: of {local['unattributed']:,} of them nobody can say whom they are about"]
    if local["refused"] and local["new"] is not None:
        lines += [
            "customers with such a line are denied until you import it corrected, with --corrects " + facts["import_id"]
        ]
    return "\n".join(lines)


def _status_facts(found: "ConsentStatus", now: datetime, days: int) -> dict[str, Any]:
    return {
        "at": now.isoformat(),
        "days": days,
        "LOCAL": {
            "customers": found.customers,
            "in_source": found.in_source,
            "purposes": {
                str(purpose): {
                    "status": {status.kind: count for status, count in one.statuses.items()},
                    "explicit": {status.kind: count for status, count in one.explicit.items()},
                    "jurisdiction": {place.text: count for place, count in one.jurisdictions.items()},
                    "veto": {str(veto.name).lower(): count for veto, count in one.vetoes.items()},
                    "expiring": one.expiring,
                }
                for purpose, one in found.purposes.items()
            },
            "imports": [
                {
                    "import_id": one.id,
                    "imported_at": one.imported_at.isoformat(),
                    "mapping": one.mapping,
                    "lines": one.lines,
                    "events": one.events,
                    "refused": one.refused,
                }
                for one in found.imports
            ],
        },
    }


def _describe_status(found: "ConsentStatus", days: int) -> str:
    from fedseg.policy.consent import Status

    purposes = list(found.purposes)
    counts = [found.purposes[purpose] for purpose in purposes]
    rows = [["LOCAL: customers", *(purpose.removeprefix("fedseg:") for purpose in purposes)]]
    for status in counts[0].statuses:
        rows += [[status.kind.replace("_", " "), *(f"{one.statuses[status]:,}" for one in counts)]]
    rows += [[f"ending within {days} days", *(f"{one.expiring:,}" for one in counts)]]
    rows += [["explicit consent given", *(f"{one.explicit[Status.GIVEN]:,}" for one in counts)]]
    for veto in counts[0].vetoes:
        rows += [[f"veto: {str(veto.name).lower().replace('_', ' ')}", *(f"{one.vetoes[veto]:,}" for one in counts)]]
    known = f"LOCAL: the register knows {found.customers:,} customers"
    where = (
        "; the data source cannot be read" if found.in_source is None else f", {found.in_source:,} in the data source"
    )
    lines = [known + where, "", table(rows, right=range(1, len(rows[0])))]
    if found.imports:
        last = found.imports[0]
        when = f"{last.imported_at:%Y-%m-%d %H:%M} UTC"
        lines += ["", f"LOCAL: last import {last.id} by {last.mapping}, {when}: {last.refused:,} lines not read"]
    return "\n".join(lines)
