"""`fedseg node backup`, `fedseg node restore`: copies of a unit's customers and consents that end by themselves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show

NodeOption = Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")]


def backup(
    node: NodeOption,
    out: Annotated[Path, typer.Option(help="New file, for a disk elsewhere.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Back up customers and consents, encrypted with a key that stays here and ends when the policy says."""
    from fedseg.node.backup.copies import back_up
    from fedseg.node.home import NodeHome

    month = back_up(NodeHome.open(node), out, datetime.now(UTC))
    facts = {"out": str(out), "month": month.month, "unreadable_after": month.unreadable_after.isoformat()}
    show(format_, facts, lambda: f"{out}: readable here until {month.unreadable_after}, then by nobody")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup of this unit.", exists=True, dir_okay=False)],
    node: NodeOption,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Bring back what is missing: customers, consents. Nothing that is there is replaced, and nobody who was erased."""
    from fedseg.node.backup.copies import restore as bring_back
    from fedseg.node.home import NodeHome

    found = bring_back(NodeHome.open(node), file, datetime.now(UTC))
    local = {"events": found.events, "denied": found.denied}
    facts = {"customers": found.customers, "import_id": found.import_id, "LOCAL": local}
    lines = ["customers: " + ("restored" if found.customers else "there already, left as they are")]
    lines += [f"LOCAL: {found.events:,} consent events restored"]
    if found.denied:
        lines += [
            f"LOCAL: the register was empty: {found.denied:,} customers are denied, who may have said no since,",
            f"until you import consents anew with --corrects {found.import_id}",
        ]
    show(format_, facts, lambda: "\n".join(lines))
