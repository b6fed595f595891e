"""`fedseg governance`: a unit's paperwork, filled in as far as its policy, settings and ledger go."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show, table
from fedseg.errors import SettingsError
from fedseg.governance.kinds import Kind

app = typer.Typer(help="Paperwork of a unit: record of processing, impact assessment, notice.", no_args_is_help=True)


@app.command()
def export(
    node: Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")],
    out: Annotated[Path, typer.Option(help="Folder for the new files.")],
    kind: Annotated[list[Kind] | None, typer.Option(help="Which, once for each; all of them, unless said.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="An approved PLAN.toml that the notice is about.", exists=True, dir_okay=False)
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write record, impact assessment and notice from what the unit's files say; the rest are counted blanks."""
    from fedseg.governance.export import documents, write_documents
    from fedseg.governance.unit import facts_of
    from fedseg.node.home import NodeHome
    from fedseg.plan import parse_plan

    kinds, now = kind or list(Kind), datetime.now(UTC)
    if plan is not None and Kind.NOTICE not in kinds:
        raise SettingsError("--plan says nothing here", why="only the notice is about a plan", fix="leave out --plan")
    facts = facts_of(NodeHome.open(node), None if plan is None else parse_plan(plan.read_bytes()), now=now)
    found = documents(facts, kinds, now)
    paths = write_documents(found, out)
    files = [
        {"file": str(path), "kind": one.kind.value, "blanks": one.blanks, "left_empty": one.left_empty}
        for path, one in zip(paths, found, strict=True)
    ]
    data = {
        "unit": facts.unit,
        "policy_sha256": facts.policy.digest,
        "policy_in_ledger": facts.policy_in_ledger,
        "files": files,
    }
    rows = [[str(one["file"]), str(one["blanks"]), str(one["left_empty"] or "-")] for one in files]
    text = table([["file", "blanks", "left empty"], *rows], right=(1, 2))
    known = "" if facts.policy_in_ledger else "\nthis policy is not in the ledger yet: no plan was approved under it"
    show(format_, data, lambda: f"{text}\n\nblanks begin with TO BE FILLED; nothing in them is known here{known}")
