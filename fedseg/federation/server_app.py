"""The Flower `ServerApp` of the coordinator: asks, persists, steps, signs. The protocol is in `server/rounds.py`."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedseg.clustering.request import request_bytes
from fedseg.errors import ContributionError, RoundError
from fedseg.federation import wire
from fedseg.federation.exchange import SILENCE_SECONDS, Verdict, exchange
from fedseg.federation.witnessing import Carrier, Post
from fedseg.ledger.canonical import Json
from fedseg.ledger.store import Ledger
from fedseg.plan import Plan, parse_plan
from fedseg.segments.segmentation import SignedSegmentation
from fedseg.server.contribution import Contribution
from fedseg.server.home import ServerHome
from fedseg.server.own_log import ServerLog
from fedseg.server.rounds import (
    RunState,
    accept,
    close_round,
    finished,
    persist_contribution,
    persist_round,
    replay_run,
)

log = logging.getLogger(__name__)


WITNESSING = "its ledger is being cosigned"


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """Where a round stands."""

    step: int
    rounds: int
    """How many rounds the plan has."""
    answered: tuple[str, ...]
    """Units whose contribution to this round is logged."""
    waiting: Mapping[str, str]
    """The plan's other units, each with what is waited for, in words."""
    seconds_left: float
    """Until the round's deadline."""


Watch = Callable[[RoundProgress], None]
"""Called before a round is asked for, at every change and at least at every poll; what it raises ends the run."""


def make_server_app(
    *, roster: Mapping[str, int], watch: Watch = lambda _: None, posts: Mapping[str, Post] | None = None
) -> ServerApp:
    """The coordinator's app; `home` and `plan` in its run configuration name directory and file.

    Args:
        roster: Units and their Flower nodes.
        watch: As for `run_plan`.
        posts: As for `run_plan`.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        home = ServerHome.open(Path(str(context.run_config["home"])))
        document = Path(str(context.run_config["plan"])).read_bytes()
        run_plan(grid, home, document, roster=roster, watch=watch, posts=posts)

    return app


def run_plan(
    grid: Grid,
    home: ServerHome,
    document: bytes,
    *,
    roster: Mapping[str, int],
    watch: Watch = lambda _: None,
    posts: Mapping[str, Post] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> SignedSegmentation:
    """Run a plan to its end, from wherever the server's ledger says it stands, and publish the result.

    A round is closed when every unit of the plan that is in the roster has answered, or else at the deadline.

    Args:
        grid: Flower's transport.
        home: The server's.
        document: The plan's TOML.
        roster: Units and their Flower nodes; others than the plan's are not asked.
        watch: Sees what is waited for; an error that it raises ends the run, which can go on later.
        posts: Witnesses with an address, by name: for units whose policies name them.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.

    Raises:
        RoundError: If the roster has too few units for the plan's quorum, or a round ends below it; all replies
            received stay logged.
    """
    plan = parse_plan(document)
    with home.ledger() as ledger:
        _log_plan(ledger, plan, document)
        run = _resume(ledger, plan)
        carrier = None
        if plan.witnessed:
            own = ServerLog(home, ledger)
            carrier = Carrier(grid, plan.digest, _of_plan(plan, roster), clock, sleep, posts or {}, own)
        while run.request is not None:
            _require_quorum(run, roster)
            if carrier is not None:
                _have_witnessed(carrier, run, watch, plan.deadline_seconds)
            run = _ask(grid, ledger, run, carrier, roster=roster, watch=watch, clock=clock, sleep=sleep)
            closed = close_round(run)
            persist_round(ledger, run)
            log.info("round.closed step=%d units=%d", run.state.step, len(run.received))
            run = closed
        return _publish(ledger, home, run)


def _of_plan(plan: Plan, roster: Mapping[str, int]) -> dict[str, int]:
    return {unit.name: roster[unit.name] for unit in plan.units if unit.name in roster}


def _have_witnessed(carrier: Carrier, run: RunState, watch: Watch, seconds: float) -> None:
    """Carry checkpoints and cosignatures, so that the units can answer the next round."""
    plan = run.plan
    answered = tuple(unit.name for unit in plan.units if unit.name in run.received)
    waiting = {unit.name: WITNESSING for unit in plan.units if unit.name not in run.received}

    def look() -> None:
        watch(RoundProgress(run.state.step, plan.rounds, answered, waiting, seconds))

    carrier.carry(seconds, look)


def _require_quorum(run: RunState, roster: Mapping[str, int]) -> None:
    """Refuse to begin a round that cannot reach its quorum."""
    missing = [unit.name for unit in run.plan.units if unit.name not in roster and unit.name not in run.received]
    known = len(run.plan.units) - len(missing)
    if known < run.plan.quorum:
        raise RoundError(
            f"{known} of the plan's {len(run.plan.units)} units are registered at this server",
            why=f"its quorum is {run.plan.quorum}; not registered: {', '.join(missing)}",
            fix="for each of them: fedseg server approve DIR UNIT --key node.pub",
        )


def _ask(
    grid: Grid,
    ledger: Ledger,
    run: RunState,
    carrier: Carrier | None,
    *,
    roster: Mapping[str, int],
    watch: Watch,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> RunState:
    """The run after every unit without a contribution to the open round was asked for one; each is logged at once.

    A unit of a witnessed plan that says no for lack of cosignatures, as after a restart, gets them and is asked again.

    Raises:
        ValueError: If no round is open.
    """
    plan, request = run.plan, run.request
    if request is None:
        raise ValueError("all rounds are closed")
    absent = [unit.name for unit in plan.units if unit.name not in run.received]
    unregistered = {name: "not registered" for name in absent if name not in roster}
    wanted, lacking = request_bytes(plan.digest, request), set[str]()

    def asking(unit: str) -> RecordDict:
        return wire.pack(wanted, None if carrier is None else carrier.beside(unit))

    def take(unit: str, reply: Message) -> Verdict:
        nonlocal run
        verdict, run = _judge(ledger, run, unit, reply)
        beside = None if carrier is None else wire.unpack_beside(reply)
        if carrier is not None and beside is not None and carrier.hear(unit, beside) and verdict is not Verdict.COUNTED:
            lacking.update({unit} - {name for name, said in carrier.said.items() if said.satisfied})
        return verdict

    def report(waiting: Mapping[str, str], seconds_left: float) -> None:
        answered = tuple(unit.name for unit in plan.units if unit.name in run.received)
        watch(RoundProgress(run.state.step, plan.rounds, answered, {**waiting, **unregistered}, seconds_left))
        if carrier is not None and lacking:
            lacking.clear()
            _have_witnessed(carrier, run, watch, seconds_left)

    exchange(
        grid,
        {name: roster[name] for name in absent if name in roster},
        asking,
        deadline_seconds=plan.deadline_seconds,
        take=take,
        report=report,
        silence_seconds=SILENCE_SECONDS + plan.reply_slot_seconds,
        clock=clock,
        sleep=sleep,
    )
    return run


def _judge(ledger: Ledger, run: RunState, unit: str, reply: Message) -> tuple[Verdict, RunState]:
    """What a reply of `unit` is worth, and the run with it; a contribution is logged before it counts."""
    try:
        answer = _read(unit, reply, run.plan)
        if isinstance(answer, wire.Unavailable):
            return Verdict.UNAVAILABLE, run
        accepted = accept(run, answer)
    except ContributionError as error:
        log.warning(
            "reply.refused step=%d unit=%s code=%s what=%s why=%s",
            run.state.step, unit, error.code, error.what, error.why,
        )  # fmt: skip
        return Verdict.REFUSED, run
    persist_contribution(ledger, answer)
    log.info("reply.logged step=%d unit=%s", run.state.step, unit)
    return Verdict.COUNTED, accepted


def _read(unit: str, reply: Message, plan: Plan) -> Contribution | wire.Unavailable:
    """What `unit` replied.

    Raises:
        ContributionError: If it cannot be read, or is another unit's contribution.
    """
    answer = wire.decode(wire.unpack_reply(reply), plan)
    if isinstance(answer, Contribution) and answer.unit != unit:
        raise ContributionError(
            f"a reply of unit {unit} holds a contribution of unit {answer.unit}",
            why="a unit answers for itself alone",
            fix="see which unit has which node: fedseg server status DIR",
        )
    return answer


def _resume(ledger: Ledger, plan: Plan) -> RunState:
    entries = ledger.entries()
    names = [f"contribution:{entry.body['release_id']}" for entry in entries if entry.kind == "contribution"]
    payloads = {name: data for name in names if (data := ledger.payload(name)) is not None}
    return replay_run(plan, entries, payloads)


def _log_plan(ledger: Ledger, plan: Plan, document: bytes) -> None:
    with ledger.transaction() as transaction:
        if transaction.payload(f"plan:{plan.digest}") is None:
            transaction.append("plan", {"plan_sha256": plan.digest}, payload=(f"plan:{plan.digest}", document))


def _publish(ledger: Ledger, home: ServerHome, run: RunState) -> SignedSegmentation:
    """Sign the segmentation and log it; publishing again gives the same bytes, for Ed25519 signatures do not vary."""
    signed = SignedSegmentation.sign(finished(run), home.key)
    name = f"segmentation:{run.plan.digest}"
    with ledger.transaction() as transaction:
        if transaction.payload(name) is None:
            body: dict[str, Json] = {"plan_sha256": run.plan.digest, "units": [*signed.segmentation.units]}
            transaction.append("publication", body, payload=(name, signed.to_json()))
    return signed
