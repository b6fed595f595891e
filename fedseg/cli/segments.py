"""`fedseg segments`: look at published segments, signature checked."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, show, table
from fedseg.errors import SettingsError, VerificationError

if TYPE_CHECKING:
    from fedseg.segments.compare import Comparison
    from fedseg.segments.page import PlanTerms
    from fedseg.segments.segmentation import Segment, Segmentation, SignedSegmentation

app = typer.Typer(help="Published segments.", no_args_is_help=True)

POLICIES = "nodes/*/policy.yaml"
"""Where the directory of a simulated run keeps its units' policies."""


@app.command("show")
def show_(
    place: Annotated[Path, typer.Argument(help="segmentation.json, or the directory of a run.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the segments: name, size and center in plain units, with their noise intervals; or learned bounds."""
    signed = signed_at(place)
    show(format_, _data(signed), lambda: _show(signed.segmentation, signed.public_key.fingerprint(), place))


@app.command()
def describe(
    place: Annotated[Path, typer.Argument(help="segmentation.json, or the directory of a run.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say what the segments are worth: how many there are, which are stable, and which alike."""
    signed = signed_at(place)
    show(format_, _data(signed), lambda: _describe(signed.segmentation, place))


@app.command()
def diff(
    earlier: Annotated[Path, typer.Argument(help="An earlier segmentation.json, or its run.", exists=True)],
    later: Annotated[Path, typer.Argument(help="A later one with the same features.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Pair the segments of two results by what they are like, and list the numbers whose ranges part."""
    from dataclasses import asdict

    from fedseg.segments.compare import compare

    before, now = signed_at(earlier).segmentation, signed_at(later).segmentation
    found = compare(before, now)
    data = {"before": before.name, "now": now.name} | asdict(found)
    show(format_, data, lambda: "\n".join([*_warning(before), *_warning(now), *_differences(found)]))


def _differences(found: "Comparison") -> list[str]:
    from fedseg.segments.advice import ON_COMPARISON

    lines: list[str] = []
    for one in found.pairs:
        shaky = "" if one.stable else " (shaky)"
        lines.append(f"{one.number}  {one.name}: most like {one.number_before}  {one.name_before}{shaky}")
        lines += [f"   {change.what}: {change.before} before, {change.now} now" for change in one.changes]
        lines += [] if one.changes else ["   all ranges meet"]
    lines += [f"{number}  {name}: new, or too much changed to be known again" for number, name in found.new]
    lines += [f"gone: {number}  {name}" for number, name in found.gone]
    return [*lines, "", *_wrapped(ON_COMPARISON)]


@app.command()
def page(
    place: Annotated[Path, typer.Argument(help="segmentation.json, or the directory of a run.", exists=True)],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False)] = Path("segments.html"),
    plan: Annotated[
        Path | None, typer.Option(help="The plan behind it; that of the run by default.", exists=True, dir_okay=False)
    ] = None,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="A unit's policy; those of the run by default. Repeatable.", exists=True, dir_okay=False),
    ] = None,
    earlier: Annotated[
        Path | None, typer.Option(help="An earlier result, or its run: the page says what has changed.", exists=True)
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write the page for marketers: each segment's profile, how sure it is, what may be done with it. For a browser."""
    policies = write_page_of(place, out, plan=plan, policies=policy or (), earlier=earlier)
    show(format_, {"html": str(out), "policies": policies}, lambda: _page(out, policies))


def write_page_of(
    place: Path, out: Path, *, plan: Path | None = None, policies: Sequence[Path] = (), earlier: Path | None = None
) -> int:
    """Write the page about the result in a file or in a run's directory; returns how many policies it rests on."""
    from fedseg.policy.document import load_policy
    from fedseg.segments.page import write_page

    signed = signed_at(place)
    plans, found = ([plan] if plan else sorted(place.glob("plan.toml"))), policies or sorted(place.glob(POLICIES))
    write_page(
        signed,
        out,
        plan=_terms(plans[0], signed.segmentation.plan_sha256) if plans else None,
        policies=[load_policy(one.read_bytes()) for one in found],
        earlier=None if earlier is None else signed_at(earlier),
    )
    return len(found)


def _page(out: Path, policies: int) -> str:
    missing = (
        "WARNING   no policy was given, so the page cannot say what may be done with the segments: add --policy FILE"
    )
    return str(out) if policies else f"{out}\n{missing}"


def _terms(path: Path, digest: str) -> "PlanTerms":
    """What a page takes from the plan, if it is the one behind the result."""
    from fedseg.plan import NumericTerms, parse_plan
    from fedseg.segments.page import PlanTerms

    plan = parse_plan(path.read_bytes())
    if plan.digest != digest:
        raise VerificationError(
            f"{path} is not the plan behind these segments",
            why=f"its sha256 is {plan.digest}, and the signed result names {digest}",
            fix="name the plan that was run, with --plan",
        )
    scales = {one.name: one.transform.value for one in plan.features if isinstance(one, NumericTerms)}
    return PlanTerms(plan.min_segment_size, scales)


def signed_at(place: Path) -> "SignedSegmentation":
    """The published result in a file or in the directory of a run, signature checked."""
    from fedseg.segments.segmentation import parse_signed

    path = place / "segmentation.json" if place.is_dir() else place
    if not path.exists():
        raise SettingsError(
            f"{place} holds no published segments",
            why="there is no segmentation.json in it: no run has ended there",
            fix="name the directory of a finished run, or go on with: fedseg simulate SCENARIO.toml --out DIR --resume",
        )
    return parse_signed(path.read_bytes())


def _data(signed: "SignedSegmentation") -> dict[str, Any]:
    return signed.segmentation.model_dump(mode="json") | {"server_public_key": signed.public_key.to_text()}


def _show(segmentation: "Segmentation", fingerprint: str, place: Path) -> str:
    from fedseg.segments.advice import on_other
    from fedseg.segments.telling import in_full

    asked, bounds = f"{len(segmentation.segments)} segments", segmentation.bounds
    if bounds:
        asked = f"bounds of {len(bounds)} features"
    blocks = [
        f"{segmentation.name}: {asked}, epsilon {segmentation.epsilon} at delta {segmentation.delta}",
        f"signed by {fingerprint}",
        *_warning(segmentation),
    ]
    if bounds:
        return "\n".join([*blocks, "", bounds_table(segmentation), "", next_step(place)])
    for one in segmentation.segments:
        if one.size_interval is None:
            blocks.append(f"\n{one.name}: too few customers to show")
            continue
        rows = [
            ["", "center", "95 % noise"],
            *(list(line) for value in one.values for line in in_full(value)),
        ]
        blocks.append(
            f"\n{one.name}: {one.size:,} customers "
            f"(95 % noise {one.size_interval[0]:,} to {one.size_interval[1]:,})\n{table(rows, right=[1, 2])}"
        )
    blocks += [f"\n{on_other(segmentation.other)}"] if segmentation.other else []
    return "\n".join(blocks)


def bounds_table(segmentation: "Segmentation") -> str:
    """The learned bounds of a result, and what to know of them."""
    from fedseg.segments.telling import AT_LIMIT, BOUNDS_HEAD, bounds_line

    rows = [list(BOUNDS_HEAD), *(list(bounds_line(one)) for one in segmentation.bounds)]
    notes = [AT_LIMIT] if any(one.at_limit for one in segmentation.bounds) else []
    return "\n".join([table(rows, right=[1, 2]), *notes])


def next_step(place: Path) -> str:
    """What to do with learned bounds."""
    path = place / "segmentation.json" if place.is_dir() else place
    return f"next   fedseg plan init TABLE_SCHEMA --bounds {path} --out plan.toml"


def _describe(segmentation: "Segmentation", place: Path) -> str:
    from fedseg.segments.advice import ON_BOUNDS, ON_CLIPPING, fewer, on_number, on_other, suggestions

    if segmentation.bounds:
        table_ = bounds_table(segmentation)
        said = [segmentation.name, *_warning(segmentation), "", table_, "", *_wrapped(ON_BOUNDS), "", next_step(place)]
        return "\n".join(said)
    findings = segmentation.findings
    shown = [one for one in segmentation.segments if not one.suppressed]
    blocks = [segmentation.name, *_warning(segmentation), *_wrapped(on_number(findings.choice))]
    blocks += [line for number, one in enumerate(shown, 1) for line in ("", *_portrait(number, one))]
    blocks += ["", on_other(segmentation.other)] if segmentation.other else []
    notes = [ON_CLIPPING] if any(one.clipped for one in shown) else []
    for note in [*suggestions(findings), *notes]:
        blocks += ["", *_wrapped(note)]
    if steps := fewer(findings.merges):
        blocks += ["", "With fewer segments, the most alike become one:"]
        blocks += [f"  {k:>3}:  {groups}" for k, groups in steps]
    if findings.choice and len(findings.choice.candidates) > 1:
        rows = [["segments", "apart", "variance left"]]
        rows += [[str(one.k), f"{one.silhouette:.2f}", f"{one.within:.0%}"] for one in findings.choice.candidates]
        blocks += ["", table(rows, right=[0, 1, 2])]
    return "\n".join(blocks)


def _portrait(number: int, segment: "Segment") -> list[str]:
    """A segment in words."""
    from fedseg.segments.advice import CLIPPED, on_spread, on_stability
    from fedseg.segments.segmentation import NumericValue
    from fedseg.segments.telling import in_short

    low, high = segment.size_interval or (0, 0)
    lines = [f"{number}  {segment.name}: {segment.size:,} customers ({low:,} to {high:,})"]
    lines.append(f"   {on_stability(segment)}{f'; {CLIPPED}' if segment.clipped else ''}")
    for value in segment.values:
        spread = on_spread(value.spread) if isinstance(value, NumericValue) else ""
        lines.append(f"   {in_short(value)}{f', {spread}' if spread else ''}")
    return lines


def _warning(segmentation: "Segmentation") -> list[str]:
    simulated = "WARNING: the noise was simulated: this is not a differentially private release"
    return [simulated] if segmentation.simulated else []


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100)
