"""`fedseg job`: hand a plan to the server, and follow it to its end."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, say, show, table
from fedseg.cli.plan import shown_plan_epsilon
from fedseg.cli.progress import progress_on_stderr

if TYPE_CHECKING:
    from fedseg.audit.facts import LedgerFacts
    from fedseg.deploy.settings import ServerDeployment
    from fedseg.plan import Plan
    from fedseg.server.job import Job
    from fedseg.server.jobs import JobStore

app = typer.Typer(help="Jobs: plans that the server runs, one after another.", no_args_is_help=True)
ServerOption = Annotated[Path, typer.Option(envvar="FEDSEG_SERVER", metavar="DIR", help="The server's directory.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `fedseg job list` shows it.")]


@app.command()
def submit(
    plan: Annotated[Path, typer.Argument(help="PLAN.toml", exists=True, dir_okay=False)],
    server: ServerOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, submit nothing.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Queue a plan at the server. A plan is one job: submitting it again goes on with it, or changes nothing."""
    from fedseg.deploy.proxy import write_body_limit
    from fedseg.plan import parse_plan

    document = plan.read_bytes()
    parsed = parse_plan(document)
    deployment, jobs = _open(server)
    if dry_run:
        outcome = "checked, nothing submitted"
    else:
        outcome = jobs.submit(document, now=_now()).outcome
        write_body_limit(deployment, jobs.open_plans())
    facts = {"outcome": outcome, **_preview(deployment, jobs, parsed)}
    show(format_, facts, lambda: _describe_preview(parsed, facts))
    if not facts["server_running"]:
        say(f"NOTE the server is not running, so jobs wait for: fedseg server start {server}")


@app.command("list")
def list_(server: ServerOption, format_: FormatOption = Format.TEXT) -> None:
    """List all jobs in the order they were submitted in."""
    _, jobs = _open(server)
    found, damaged = [_facts(jobs, job) for job in jobs.jobs()], jobs.damaged()
    broken = [
        {"id": name, "what": error.what, "why": error.why, "fix": error.fix} for name, error in sorted(damaged.items())
    ]
    show(format_, {"jobs": found, "damaged": broken}, lambda: _describe_list(found, broken))


@app.command()
def status(job: IdArgument, server: ServerOption, format_: FormatOption = Format.TEXT) -> None:
    """Show where a job stands: its state, its round, whom it waits for and why, and how long at most."""
    _, jobs = _open(server)
    facts = _facts(jobs, jobs.read(job))
    show(format_, facts, lambda: _describe(facts))


@app.command()
def wait(
    job: IdArgument,
    server: ServerOption,
    timeout: Annotated[float | None, typer.Option(min=0, help="Most seconds to wait; without, until it ends.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Wait until a job has ended. If it failed, this ends with the job's own error and exit code."""
    from fedseg.server.job import Job

    _, jobs = _open(server)
    with progress_on_stderr() as progress:

        def see(seen: Job, attended: bool) -> None:
            progress(_stage(seen, attended=attended), *_done(jobs, seen))

        ended = jobs.wait(job, timeout=timeout, see=see)
    facts = _facts(jobs, ended)
    if (error := ended.failure()) is not None:
        error.data = facts
        raise error
    show(format_, facts, lambda: f"{_describe(facts)}\nsegments   fedseg segments show {jobs.folder(ended.id)}")


@app.command()
def inspect(job: IdArgument, server: ServerOption, format_: FormatOption = Format.TEXT) -> None:
    """Show which releases of which units a job's rounds are made of, and recompute its segments from them."""
    from fedseg.audit.verify import verify_ledger

    deployment, jobs = _open(server)
    found = jobs.read(job)
    ledger = verify_ledger(deployment.home / "ledger.db")
    facts = {
        **_facts(jobs, found),
        "steps": _steps(ledger, found),
        "recomputed": _recomputed(ledger, jobs, found),
        "ledger": {"size": ledger.size, "root": ledger.root.hex(), "public_key": ledger.public_key.to_text()},
    }
    show(format_, facts, lambda: _describe_inspection(facts))


@app.command()
def cancel(job: IdArgument, server: ServerOption, format_: FormatOption = Format.TEXT) -> None:
    """Stop a job. What units have answered stays logged; submitting the plan again goes on from there."""
    from fedseg.server.job import JobState

    _, jobs = _open(server)
    before = jobs.read(job)
    after = jobs.cancel(job, now=_now())
    asked = "asked to stop; it ends at the coordinator's next look"
    over = f"{after.state} already, so nothing has changed"
    outcome = asked if after.state is JobState.RUNNING else over if before.state.is_end else "cancelled"
    show(format_, {"outcome": outcome, **_facts(jobs, after)}, lambda: f"{after.id}: {outcome}")


def _open(server: Path) -> "tuple[ServerDeployment, JobStore]":
    from fedseg.deploy.settings import ServerDeployment
    from fedseg.server.jobs import JobStore

    deployment = ServerDeployment.open(server)
    return deployment, JobStore.open(deployment.jobs)


def _now() -> datetime:
    return datetime.now(UTC)


# Facts


def _facts(jobs: "JobStore", job: "Job") -> dict[str, Any]:
    """A job's record, and what follows from it now."""
    left = job.seconds_left(_now())
    return {
        **job.facts(),
        "seconds_left": None if left is None else round(left, 1),
        "in_words": job.in_words(),
        "cancelling": jobs.cancel_wanted(job.id),
        "server_running": jobs.attended(),
    }


def _preview(deployment: "ServerDeployment", jobs: "JobStore", plan: "Plan") -> dict[str, Any]:
    """What running the plan means, and who would be there now."""
    from fedseg.errors import UnreachableError
    from fedseg.federation.flower.link import Link
    from fedseg.federation.flower.messages import largest_body_bytes
    from fedseg.privacy.budget import upper_float
    from fedseg.server.job import Job

    try:
        with Link(deployment.socket) as link:
            online = {node.unit: node.online for node in link.nodes()}
    except UnreachableError:
        online = None
    return {
        "id": Job.of(plan, now=_now()).id,
        "plan_sha256": plan.digest,
        "name": plan.name,
        "rounds": plan.rounds,
        "epsilon": upper_float(plan.budget.epsilon),
        "delta": float(plan.budget.delta),
        "quorum": plan.quorum,
        "units": [
            {
                "unit": unit.name,
                "registered": None if online is None else unit.name in online,
                "online": None if online is None else online.get(unit.name, False),
            }
            for unit in plan.units
        ],
        "largest_body_bytes": largest_body_bytes(plan),
        "server_running": jobs.attended(),
    }


def _steps(ledger: "LedgerFacts", job: "Job") -> list[dict[str, Any]]:
    """What the server's ledger holds of each round that has begun to be answered."""
    steps: dict[int, dict[str, Any]] = {}
    for entry in ledger.raw.entries:
        body = entry.body
        if body.get("plan_sha256") != job.plan_sha256 or entry.kind not in {"contribution", "round"}:
            continue
        step = steps.setdefault(int(str(body["step"])), {"step": body["step"], "counted": None, "replies": []})
        if entry.kind == "round":
            step["counted"] = body["units"]
        else:
            step["replies"].append({name: body[name] for name in ("unit", "release_id", "request_sha256")})
    return [steps[number] for number in sorted(steps)]


def _recomputed(ledger: "LedgerFacts", jobs: "JobStore", job: "Job") -> bool | None:
    """Whether the segments beside the plan are those that the logged releases give; None before there are any.

    Raises:
        VerificationError: If they are not.
    """
    from fedseg.audit.verify import recompute_segmentation
    from fedseg.errors import VerificationError
    from fedseg.server.job import JobState

    if job.state is not JobState.FINISHED:
        return None
    path = jobs.folder(job.id) / "segmentation.json"
    if recompute_segmentation(ledger, jobs.plan(job)).to_json() != path.read_bytes():
        raise VerificationError(
            f"the segments of job {job.id} are not those of the server's ledger",
            why=f"{path} differs from what the logged releases give",
            fix="use none of them, and ask who else may write there: the ledger itself has verified",
        )
    return True


def _stage(job: "Job", *, attended: bool) -> str:
    """One line of progress; the same as long as the same is waited for."""
    if not attended:
        return f"{job.state}; the server is not running"
    if not job.waiting:
        return "queued behind other jobs" if job.started_at is None else f"round {job.round} of {job.rounds}"
    return f"round {job.round} of {job.rounds}: waiting for {', '.join(job.waiting)}"


def _done(jobs: "JobStore", job: "Job") -> tuple[int, int]:
    """How many replies are there, of how many."""
    units = len(jobs.plan(job).units)
    return job.step * units + len(job.answered), job.rounds * units


# Text


def _describe(facts: dict[str, Any]) -> str:
    lines = [facts["id"], f"hash       {facts['plan_sha256']}", f"submitted  {_time(facts['submitted_at'])}"]
    state = facts["state"]
    if state == "running":
        left = "" if facts["seconds_left"] is None else f", {facts['seconds_left']:.0f} s left"
        state += f": round {min(facts['step'] + 1, facts['rounds'])} of {facts['rounds']}{left}"
        state += "; about to be cancelled" if facts["cancelling"] else ""
    lines.append(f"state      {state}")
    lines += [f"ended      {_time(facts['ended_at'])}"] if facts["ended_at"] else []
    lines += [f"answered   {', '.join(facts['answered'])}"] if facts["answered"] else []
    lines += [f"waits for  {unit}: {words}" for unit, words in facts["waiting"].items()]
    if facts["error"] is not None:
        error = facts["error"]
        lines += [f"{error['code']}       {error['what']}", f"why        {error['why']}", f"fix        {error['fix']}"]
    if state in {"queued", "running"} and not facts["server_running"]:
        lines.append("NOTE       the server is not running")
    return "\n".join(lines)


def _describe_list(jobs: list[dict[str, Any]], damaged: list[dict[str, str]]) -> str:
    rows = [
        [
            one["id"],
            one["state"],
            f"{one['step']} of {one['rounds']}",
            _time(one["submitted_at"]),
            ", ".join(one["waiting"]) or "-",
        ]
        for one in jobs
    ]
    rows += [[one["id"], "DAMAGED", "-", "-", f"repair: {one['fix']}"] for one in damaged]
    return table([["job", "state", "rounds done", "submitted", "waits for"], *rows]) if rows else "no jobs yet"


def _describe_preview(plan: "Plan", facts: dict[str, Any]) -> str:
    words = {None: "unknown", True: "yes", False: "NO"}
    rows = [[one["unit"], words[one["registered"]], words[one["online"]]] for one in facts["units"]]
    lines = [
        f"{facts['outcome']}: {facts['id']}",
        f"hash       {facts['plan_sha256']}",
        f"costs      epsilon {shown_plan_epsilon(plan)} at delta {facts['delta']:g} per customer over all units",
        f"rounds     {facts['rounds']}, with {facts['quorum']} of {len(rows)} units at least",
        f"largest    {facts['largest_body_bytes']:,} bytes in one message of a unit",
        "",
        table([["unit", "registered", "online"], *rows]),
    ]
    return "\n".join(lines)


def _describe_inspection(facts: dict[str, Any]) -> str:
    rows = [["round", "unit", "counted", "release", "request"]]
    for step in facts["steps"]:
        for reply in step["replies"]:
            counted = "not yet" if step["counted"] is None else "yes" if reply["unit"] in step["counted"] else "NO"
            cut = [str(reply[name])[:16] for name in ("release_id", "request_sha256")]
            rows.append([str(step["step"] + 1), reply["unit"], counted, *cut])
    segments = {None: "not published yet", True: "recomputed from these releases: the same"}[facts["recomputed"]]
    return "\n".join(
        [_describe(facts), "", table(rows), "", f"segments   {segments}", f"ledger     {facts['ledger']['root']}"]
    )


def _time(iso: str) -> str:
    return f"{iso[:19]}Z".replace("T", " ")
