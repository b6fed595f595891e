"""`fedseg plan`: propose and check a plan; show exactly what would leave a unit, what it costs, and what to expect."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show
from fedseg.cli.segments import signed_at
from fedseg.errors import PlanError, SettingsError

if TYPE_CHECKING:
    from fedseg.plan import Plan

app = typer.Typer(help="Plans: what all units agree on before the first round.", no_args_is_help=True)
PlanArgument = Annotated[Path, typer.Argument(help="PLAN.toml", exists=True, dir_okay=False)]


@app.command()
def init(
    table_schema: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet file with customers, of which only names and types of columns are read; or a TOML or "
            'JSON file of name = "type".',
            exists=True,
            dir_okay=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write, instead of printing.")] = None,
    segments: Annotated[int, typer.Option("--k", min=1, max=512, help="Number of segments.")] = 5,
    units: Annotated[int, typer.Option(min=1, max=1000, help="Business units that take part.")] = 2,
    customers: Annotated[
        int | None, typer.Option(min=1, help="Public guess of how many customers all units have together.")
    ] = None,
    learn_bounds: Annotated[
        bool, typer.Option("--learn-bounds", help="A plan that finds bounds for the numbers, in place of segments.")
    ] = False,
    bounds: Annotated[
        Path | None,
        typer.Option(help="Result of such a plan: segmentation.json, or the directory of its run.", exists=True),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Propose a plan from the names and types of a table's columns; never reads a value."""
    from fedseg.proposal.document import propose, propose_bounds
    from fedseg.proposal.schema import read_schema

    if learn_bounds and bounds is not None:
        raise SettingsError(
            "--learn-bounds and --bounds do not go together",
            why="the one asks for bounds, the other fills in those that were found",
            fix=f"fedseg plan init {table_schema} --bounds {bounds}",
        )
    columns = read_schema(table_schema)
    if learn_bounds:
        made = propose_bounds(columns, units=units, customers=customers)
    else:
        learned = None if bounds is None else signed_at(bounds)
        made = propose(columns, k=segments, units=units, customers=customers, learned=learned)
    facts = {"plan": made.text, "features": made.features, "left_out": made.left_out, "to_decide": made.to_decide}
    if out is None:
        show(format_, facts, made.text.rstrip)
        return
    _write_new(out, made.text)
    counts = f"{len(made.features)} features proposed, {len(made.left_out)} columns left out"
    show(
        format_,
        facts,
        lambda: (
            f"{out}: {counts}, {len(made.to_decide)} things to decide\nnext   edit it, then: fedseg plan check {out}"
        ),
    )


@app.command()
def check(plan: PlanArgument, format_: FormatOption = Format.TEXT) -> None:
    """Check that a plan follows its schema, that its numbers work together, and that its budget carries it."""
    found = _read(plan)
    warned = _warning(found)
    facts = {
        "name": found.name,
        "plan_sha256": found.digest,
        "units": len(found.units),
        "rounds": found.rounds,
        "carried": warned is None,
    }
    lines = [f"{found.name} can be used", f"hash   {found.digest}"]
    if warned is not None:
        lines += ["", warned, f"What would help: fedseg plan show {plan}"]
    show(format_, facts, lambda: "\n".join(lines))


@app.command("show")
def show_(plan: PlanArgument, format_: FormatOption = Format.TEXT) -> None:
    """Show exactly what leaves a unit, round by round, what it costs, and what to expect."""
    from fedseg.cli.plan_facts import describe, plan_facts

    found = _read(plan)
    show(format_, plan_facts(found), lambda: describe(found))


@app.command()
def sign(
    plan: PlanArgument,
    key: Annotated[Path, typer.Option(help="Your key file, from: fedseg key new FILE.", exists=True, dir_okay=False)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign a plan as the one who asks for it; the signature stands beside it. Units may have limits for your key."""
    from fedseg.ledger.keys import SigningKey
    from fedseg.privacy.signatures import sign_plan, write_plan_signature

    found = _read(plan)
    signature = sign_plan(found.digest, SigningKey.load(key))
    path = write_plan_signature(plan, signature)
    facts = {"plan_sha256": found.digest, "requester": signature.requester, "file": str(path)}
    show(format_, facts, lambda: f"{found.name} is signed in {path}\nhash   {found.digest}")


def shown_plan_epsilon(plan: "Plan") -> str:
    """The plan's epsilon for people, rounded up."""
    from fedseg.privacy.budget import shown_fraction

    return shown_fraction(plan.budget.epsilon)


def _warning(plan: "Plan") -> str | None:
    """What must be said of a plan whose budget does not carry it; None if it does."""
    from fedseg.cli.bounds_forecast import bounds_forecast, bounds_warning
    from fedseg.cli.plan_forecast import forecast_of, warning

    if plan.learns_bounds:
        seen = bounds_forecast(plan)
        return None if seen.is_carried else bounds_warning(seen)
    expected = forecast_of(plan)
    return None if expected.is_carried else warning(expected)


def _read(path: Path) -> "Plan":
    from fedseg.plan import parse_plan
    from fedseg.proposal.document import undecided
    from fedseg.proposal.features import TO_DECIDE

    document = path.read_bytes()
    places = undecided(document)
    if places:
        raise PlanError(
            "the plan is not finished",
            why=f"{len(places)} things are still to be decided: {', '.join(places)}",
            fix=f'replace each "{TO_DECIDE}", then: fedseg plan check {path}',
        )
    return parse_plan(document)


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise SettingsError(
            f"{path} is there already",
            why="a plan that people have edited is not written over",
            fix="name another --out",
        ) from error
