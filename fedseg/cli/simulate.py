"""`fedseg demo` and `fedseg simulate`: whole federations on one machine."""

import enum
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, say, show, table
from fedseg.cli.plan import shown_plan_epsilon
from fedseg.cli.progress import progress_on_stderr
from fedseg.cli.segments import bounds_table, next_step, write_page_of
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.simulation.runner import RunResult

DEMO = "simulations/online_retail/scenario.toml"


class Engine(enum.StrEnum):
    """What carries the messages."""

    LOOPBACK = "loopback"


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Where everything goes; ./fedseg-demo, or the next free name.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run the main job on the data that ships with fedseg: five units, policy, segments, ledgers, report."""
    from fedseg.simulation import runner
    from fedseg.simulation.scenario import load_scenario
    from fedseg.simulation.shipped import shipped

    loaded = load_scenario(shipped(DEMO))
    with progress_on_stderr() as progress:
        result = runner.simulate(loaded, out if out is not None else _free("fedseg-demo"), progress=progress)
        progress("writing the report", 1, 1)
        _write_pages(result)
    show(format_, result.data(), lambda: f"{loaded.scenario.title}\n\n{_describe(result)}")


def simulate(
    scenario: Annotated[Path, typer.Argument(help="SCENARIO.toml", exists=True, dir_okay=False)],
    out: Annotated[
        Path | None, typer.Option(help="Where everything goes; named after the scenario by default.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What carries the messages.")] = Engine.LOOPBACK,
    sweep: Annotated[list[str] | None, typer.Option(help="KEY=V1,V2,…: run once per value; repeat for a grid.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Run N times, each with the next public seed.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run a scenario: the same apps, policies, ledgers and checks as a deployment, in one process."""
    from fedseg.simulation import runner
    from fedseg.simulation.scenario import load_scenario

    del engine
    loaded = load_scenario(scenario)
    place = out if out is not None else _default_out(loaded.scenario.name, resume=resume)
    overrides = _grid(sweep or [], seeds, loaded.scenario.plan)
    with progress_on_stderr() as progress:
        if overrides == [{}]:
            results = [runner.simulate(loaded, place, resume=resume, progress=progress)]
        else:
            results = runner.repeat(scenario, place, overrides, resume=resume, progress=progress)
        for result in results:
            _write_pages(result)
    if overrides == [{}]:
        show(format_, results[0].data(), lambda: f"{loaded.scenario.title}\n\n{_describe(results[0])}")
        return
    ratio = runner.median_cost_ratio(results)
    data = {
        "out": str(place),
        "runs": [changes | one.data() for changes, one in zip(overrides, results, strict=True)],
        "cost_ratio_median": ratio,
    }
    show(format_, data, lambda: _describe_many(overrides, results, ratio))


def _write_pages(result: "RunResult") -> None:
    """The report, and for those who work with the segments their page."""
    from fedseg.report.render import write_report

    write_report(result.out, result.out).require_verified()
    if result.signed.segmentation.segments:
        write_page_of(result.out, result.out / "segments.html")


def _describe(result: "RunResult") -> str:
    """The outcome of one run in about a dozen lines."""
    from fedseg.segments.telling import in_short

    segmentation = result.signed.segmentation
    shown = [one for one in segmentation.segments if not one.suppressed]
    lines = [bounds_table(segmentation), next_step(result.out)] if segmentation.bounds else []
    for one in shown:
        low, high = one.size_interval or (0, 0)
        lines.append(f"{one.name}: {one.size:,} customers ({low:,} to {high:,})")
        lines.append("    " + ", ".join(in_short(value) for value in one.values))
    hidden = len(segmentation.segments) - len(shown)
    budget, units = result.plan.budget, len(result.plan.units)
    lines += [f"{hidden} more suppressed: fewer than {result.plan.min_segment_size} customers"] if hidden else []
    lines += [
        "",
        (
            f"privacy   epsilon {shown_plan_epsilon(result.plan)}, delta {float(budget.delta):g} "
            f"per customer over all {units} units, noise at each"
        ),
    ]
    if result.simulated_noise:
        lines.append("WARNING   the noise was simulated: this is not a differentially private release")
    lines.append(
        f"ledgers   {units + 1} verified; "
        f"segments recomputed from signed releases: {'yes' if result.ledger_verified else 'NO'}"
    )
    if result.quality.cost_ratio is not None:
        lines.append(f"quality   k-means cost {result.quality.cost_ratio:.3f} times the best non-private")
        lines.append(f"          ({_banner()})")
    lines.append(f"report    {result.out / 'report.html'}")
    lines += [f"segments  {result.out / 'segments.html'}"] if segmentation.segments else []
    lines += [f"took      {result.seconds:.1f} s"]
    return "\n".join(lines)


def _describe_many(overrides: list[dict[str, str | int]], results: "list[RunResult]", ratio: float | None) -> str:
    rows = [["run", "changes", "cost ratio", "suppressed", "ledgers"]]
    for number, (changes, one) in enumerate(zip(overrides, results, strict=True)):
        cost = "-" if one.quality.cost_ratio is None else f"{one.quality.cost_ratio:.3f}"
        hidden = sum(segment.suppressed for segment in one.signed.segmentation.segments)
        said = ", ".join(f"{key}={value}" for key, value in changes.items())
        rows.append([str(number), said, cost, str(hidden), "verified" if one.ledger_verified else "FAILED"])
    median = "-" if ratio is None else f"{ratio:.3f}"
    return f"{table(rows, right=[0, 2, 3])}\n\nmedian cost ratio {median} ({_banner()})"


def _banner() -> str:
    from fedseg.simulation.metrics import BANNER

    return BANNER


def _grid(sweep: list[str], seeds: int, plan: dict[str, Any]) -> list[dict[str, str | int]]:
    """One set of overrides per run: every combination of swept values, each with every seed."""
    axes: list[list[tuple[str, str | int]]] = []
    for one in sweep:
        key, sign, values = one.partition("=")
        if not sign or not key or not all(values.split(",")):
            raise SettingsError(
                f"--sweep {one} cannot be read",
                why="it wants KEY=V1,V2,…",
                fix="fedseg simulate SCENARIO.toml --sweep plan.budget.epsilon=1/1,2/1",
            )
        axes.append([(key, int(value) if value.isdecimal() else value) for value in values.split(",")])
    if seeds > 1:
        algorithm = plan.get("algorithm")
        first = algorithm.get("seed", 0) if isinstance(algorithm, dict) else 0
        axes.append([("plan.algorithm.seed", int(first) + number) for number in range(seeds)])
    return [dict(combination) for combination in itertools.product(*axes)]


def _default_out(name: str, *, resume: bool) -> Path:
    return Path(f"fedseg-{name}") if resume else _free(f"fedseg-{name}")


def _free(name: str) -> Path:
    """The first of name, name-2, name-3, ... that is free: a run never overwrites another one's ledgers."""
    for number in itertools.count(1):
        path = Path(name if number == 1 else f"{name}-{number}")
        if not path.exists():
            if number > 1:
                say(f"{name} exists, so this run goes to {path}")
            return path
    raise AssertionError  # pragma: no cover (count never ends)
