"""Whoever drops out, and whatever gets lost on the way: noise and price stay the plan's, and nobody pays twice."""

import random
from collections.abc import Iterable

import pytest
from flwr.app import Message

from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.errors import RoundError
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.ledger.canonical import Json
from fedseg.segments.segmentation import SignedSegmentation
from tests.small_federation import SmallFederation
from tests.wrapped_grid import WrappedGrid


class Unreliable(WrappedGrid):
    """A grid on which replies get lost, come twice, late, and out of order, as seeded coins fall."""

    def __init__(self, inner: LoopbackGrid, seed: int) -> None:
        super().__init__(inner)
        self.coins = random.Random(seed)
        self.late: list[Message] = []
        self.seen = {"lost": 0, "twice": 0, "late": 0, "once": 0}

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies, self.late = self.late, []
        for reply in self.inner.pull_messages(message_ids):
            what = self.coins.choice(list(self.seen))
            self.seen[what] += 1
            self.late += [reply] if what == "late" else []
            replies += {"once": [reply], "twice": [reply, reply]}.get(what, [])
        self.coins.shuffle(replies)
        return replies


def run(federation: SmallFederation, grid: LoopbackGrid | Unreliable) -> SignedSegmentation:
    return run_plan(
        grid, federation.server, federation.document, roster=federation.roster, clock=grid.clock, sleep=grid.sleep
    )


def terms_of_releases(federation: SmallFederation, unit: str) -> list[tuple[Json, Json, Json]]:
    """Mechanism, lattice and charge of each of a unit's releases, as its ledger has them."""
    with federation.home(unit).ledger() as ledger:
        bodies = [entry.body for entry in ledger.entries() if entry.kind == "release"]
    return [(body["mechanism"], body["lattice"], body["charge"]) for body in bodies]


def test_a_units_noise_and_price_are_the_plans_whoever_else_drops_out(federation: SmallFederation) -> None:
    federation.customers_file("south").unlink()
    alone = run(federation, federation.grid())
    assert alone.segmentation.units == ("north",)

    plan = federation.plan
    found = terms_of_releases(federation, "north")
    assert len(found) == plan.rounds
    for (mechanism, _, charge), terms, rho in zip(found, plan.terms, plan.step_rhos, strict=True):
        # The whole noise of the plan is in each release: none of it is another unit's to add.
        assert isinstance(mechanism, dict)
        assert isinstance(charge, dict)
        assert mechanism == {
            "sigma": terms.mechanism.sigma,
            "l2_sensitivity_squared": terms.lattice.l2_sensitivity_squared,
        }
        assert charge["rho"] == f"{rho.numerator}/{rho.denominator}"


def test_a_unit_that_drops_out_in_the_middle_changes_nobody_elses_noise(federation: SmallFederation) -> None:
    class Leaving(WrappedGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            replies = list(self.inner.pull_messages(message_ids))
            federation.customers_file("south").unlink(missing_ok=True)
            return replies

    grid = Leaving(federation.grid())
    signed = run_plan(
        grid, federation.server, federation.document, roster=federation.roster, clock=grid.clock, sleep=grid.sleep
    )
    assert len(terms_of_releases(federation, "south")) == 1
    assert len(terms_of_releases(federation, "north")) == federation.plan.rounds
    assert terms_of_releases(federation, "south") == terms_of_releases(federation, "north")[:1]
    assert signed.segmentation.units == ("north", "south")  # who was in any round


@pytest.mark.parametrize("seed", range(12))
def test_lost_doubled_late_and_shuffled_replies_end_in_segments_or_a_refusal_and_one_charge_a_step(
    federation: SmallFederation, seed: int
) -> None:
    plan, grid = federation.plan, Unreliable(federation.grid(), seed)
    try:
        signed: SignedSegmentation | None = run(federation, grid)
    except RoundError:
        signed = None

    server = verify_ledger(federation.server.path / "ledger.db")
    units = [verify_ledger(home.path / "ledger.db") for home in federation.homes]
    check_against_units(server, units, plan)
    for facts in units:
        steps = [one.step for one in facts.releases]
        assert steps == sorted(set(steps))
        assert facts.account.rho_spent == sum(plan.step_rhos[step] for step in steps)
    assert sum(grid.seen.values()) > 0
    if signed is not None:
        assert recompute_segmentation(server, plan) == signed
