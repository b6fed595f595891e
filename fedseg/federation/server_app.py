"""The Flower `ServerApp` of the coordinator: asks, persists, steps, signs. The protocol is in `server/rounds.py`."""

import logging
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from fedseg.clustering.request import request_bytes
from fedseg.errors import ContributionError
from fedseg.federation import wire
from fedseg.federation.exchange import exchange
from fedseg.ledger.canonical import Json
from fedseg.ledger.store import Ledger
from fedseg.plan import Plan, parse_plan
from fedseg.segments.segmentation import SignedSegmentation
from fedseg.server.home import ServerHome
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


def make_server_app() -> ServerApp:
    """The coordinator's app; `home` and `plan` in its run configuration name directory and file."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        home = ServerHome.open(Path(str(context.run_config["home"])))
        run_plan(grid, home, Path(str(context.run_config["plan"])).read_bytes())

    return app


def run_plan(
    grid: Grid, home: ServerHome, document: bytes, *, on_round: Callable[[int], None] = lambda _: None
) -> SignedSegmentation:
    """Run a plan to its end, from wherever the server's ledger says it stands, and publish the result.

    Raises:
        RoundError: If a round ends below the plan's quorum; all replies received stay logged.
    """
    plan = parse_plan(document)
    with home.ledger() as ledger:
        _log_plan(ledger, plan, document)
        run = _resume(ledger, plan)
        while run.request is not None:
            on_round(run.state.step)
            run = _ask(grid, ledger, run)
            closed = close_round(run)
            persist_round(ledger, run)
            log.info("round.closed step=%d units=%d", run.state.step, len(run.received))
            run = closed
        return _publish(ledger, home, run)


def _ask(grid: Grid, ledger: Ledger, run: RunState) -> RunState:
    """Ask every node for the open round, unless all units have answered already; persist each reply at once."""
    request = run.request
    if request is None or len(run.received) == len(run.plan.units):
        return run

    def take(reply: Message) -> bool:
        nonlocal run
        try:
            answer = wire.decode(wire.unpack_reply(reply), run.plan)
            if isinstance(answer, wire.Unavailable):
                log.warning("reply.unavailable step=%d", run.state.step)
                return False
            accepted = accept(run, answer)
        except ContributionError as error:
            log.warning(
                "reply.refused step=%d code=%s what=%s why=%s", run.state.step, error.code, error.what, error.why
            )
            return False
        persist_contribution(ledger, answer)
        run = accepted
        return True

    exchange(
        grid,
        sorted(grid.get_node_ids()),
        request_bytes(run.plan.digest, request),
        deadline_seconds=run.plan.deadline_seconds,
        take=take,
    )
    return run


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


app = make_server_app()
