"""The protocol as the server's ledger remembers it: every reply is persisted at once, any round can be resumed.

`replay_run` is pure and serves both sides: the server resumes from it, the auditor recomputes the result with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fedseg.clustering.algorithm import State, init, next_request, step
from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.errors import ContributionError, LedgerUnreadableError, RoundError
from fedseg.ledger.canonical import Json
from fedseg.ledger.entries import Entry
from fedseg.ledger.journal import Journal
from fedseg.plan import Plan
from fedseg.privacy.noise import SystemNoise
from fedseg.segments.segmentation import Segmentation
from fedseg.server.aggregate import aggregate
from fedseg.server.contribution import Contribution, parse_contribution
from fedseg.server.publish import publish


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    plan: Plan
    state: State
    received: Mapping[str, Contribution] = field(default_factory=dict)
    """Contributions to the open round, by unit."""
    units: frozenset[str] = frozenset()
    """Every unit whose release is in a closed round."""
    noise: str = SystemNoise.label
    """Where the noise of the closed rounds came from: "system", or the other source if any unit named one."""

    @property
    def request(self) -> RoundRequest | None:
        """The open round's request; None when all rounds are closed."""
        return next_request(self.state)


def start_run(plan: Plan) -> RunState:
    """The run before its first round."""
    return RunState(plan, init(plan.settings))


def accept(run: RunState, contribution: Contribution) -> RunState:
    """Take one contribution to the open round.

    Raises:
        ContributionError: If it answers another step or request, or its unit has answered differently already.
    """
    request = run.request
    if (
        request is None
        or contribution.step != request.step
        or contribution.request_sha256 != request_sha256(run.plan.digest, request)
    ):
        raise ContributionError(
            "a reply answers another request", why=f"the open step is {run.state.step}", fix="ask that unit again"
        )
    earlier = run.received.get(contribution.unit)
    if earlier is not None and earlier.payload != contribution.payload:
        raise ContributionError(
            f"unit {contribution.unit} answered one request twice, differently",
            why="a unit repeats its stored bytes",
            fix="ask the unit's operator",
        )
    return replace(run, received={**run.received, contribution.unit: contribution})


def close_round(run: RunState) -> RunState:
    """Aggregate the open round's contributions and take the algorithm's step.

    Raises:
        RoundError: If fewer units than the quorum have answered.
    """
    if len(run.received) < run.plan.quorum:
        raise RoundError(
            f"{len(run.received)} of {len(run.plan.units)} units answered step {run.state.step}",
            why=f"the plan's quorum is {run.plan.quorum} within {run.plan.deadline_seconds} s",
            fix="see the log of the missing units, then run the plan again: answered steps are not charged twice",
        )
    ordered = [run.received[unit.name] for unit in run.plan.units if unit.name in run.received]
    after = step(run.state, aggregate(ordered, run.plan.terms[run.state.step]))
    others = {run.noise, *(one.noise_source for one in ordered)} - {SystemNoise.label}
    noise = min(others, default=SystemNoise.label)
    return RunState(run.plan, after, {}, run.units | frozenset(run.received), noise)


def persist_contribution(journal: Journal, contribution: Contribution) -> None:
    """Log a contribution with its signed bytes; a repeated one is left as it is."""
    name = f"contribution:{contribution.release_id}"
    with journal.transaction() as transaction:
        if transaction.payload(name) is not None:
            return
        body: dict[str, Json] = {
            "plan_sha256": contribution.plan_sha256,
            "unit": contribution.unit,
            "step": contribution.step,
            "release_id": contribution.release_id,
            "request_sha256": contribution.request_sha256,
        }
        transaction.append("contribution", body, payload=(name, contribution.payload))


def persist_round(journal: Journal, run: RunState) -> None:
    """Log which units' contributions a closed round is made of; a round already closed stays as it was."""
    with journal.transaction() as transaction:
        body: dict[str, Json] = {
            "plan_sha256": run.plan.digest,
            "step": run.state.step,
            "units": [*sorted(run.received)],
        }
        if not any(
            entry.kind == "round"
            and entry.body["plan_sha256"] == run.plan.digest
            and entry.body["step"] == run.state.step
            for entry in transaction.entries()
        ):
            transaction.append("round", body)


def replay_run(plan: Plan, entries: Iterable[Entry], payloads: Mapping[str, bytes]) -> RunState:
    """The run of `plan` after these entries of the server's ledger; pure.

    Raises:
        LedgerUnreadableError: If an entry contradicts the plan or the protocol.
    """
    run = start_run(plan)
    for entry in entries:
        if entry.body.get("plan_sha256") != plan.digest:
            continue
        try:
            if entry.kind == "contribution":
                contribution = parse_contribution(payloads[f"contribution:{entry.body['release_id']}"], plan)
                run = accept(run, contribution)
            elif entry.kind == "round":
                run = close_as_logged(run, entry)
        except (KeyError, ContributionError, RoundError) as error:
            raise LedgerUnreadableError(
                f"entry {entry.seq} of the server's ledger does not fit the plan",
                why=str(error),
                fix="fedseg ledger verify LEDGER",
            ) from error
    return run


def close_as_logged(run: RunState, entry: Entry) -> RunState:
    """Close the open round with the units that a round entry names.

    Raises:
        KeyError: If the entry is of another step, or names a unit that has not contributed.
        RoundError: If it names fewer than the quorum.
    """
    units = entry.body["units"]
    if not isinstance(units, list) or entry.body["step"] != run.state.step:
        raise KeyError("units")
    taken = {str(unit): run.received[str(unit)] for unit in units}
    return close_round(replace(run, received=taken))


def finished(run: RunState) -> Segmentation:
    """The segmentation that a run with all rounds closed determines.

    Raises:
        ValueError: If a round is still open.
    """
    if run.request is not None:
        raise ValueError(f"step {run.state.step} is still open")
    units = tuple(unit.name for unit in run.plan.units if unit.name in run.units)
    return publish(run.plan, run.state, units, noise=run.noise)
