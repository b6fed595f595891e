"""A unit's account in memory, an approved plan of three steps, and small statistics to release."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedseg.ledger.journal import MemoryLedger
from fedseg.ledger.keys import SigningKey
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.mechanism import DiscreteGaussian
from fedseg.privacy.noise import Noise, SimulatedNoise
from fedseg.privacy.release import Release, ReleaseTicket, release
from fedseg.privacy.sensitive import Sensitive, sum_of_rows
from fedseg.privacy.state import Caps

PLAN, OTHER_PLAN = "a1" * 32, "b2" * 32
PURPOSE = "fedseg:SegmentStatistics"
SOURCE = "e7" * 32
DAY = "2025-06-01"
SIGMA, SQUARED = 2**12, 2 * 1000**2
CELLS, WIDTH = 2, 3
STEP_RHO = DiscreteGaussian(SIGMA).charge(SQUARED).rho


class Unit:
    """A unit with an account in memory: what a test of the one door needs to name, and nothing else."""

    plan, other_plan, purpose, source, step_rho = PLAN, OTHER_PLAN, PURPOSE, SOURCE, STEP_RHO
    cells, width, squared, sigma = CELLS, WIDTH, SQUARED, SIGMA

    def __init__(self, journal: MemoryLedger | None = None) -> None:
        self.key = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x05" * 32))
        self.journal = MemoryLedger(origin="fedseg/unit/north", key=self.key, body={}) if journal is None else journal
        self.account = PrivacyAccount(self.journal)

    def caps(
        self,
        cap: Fraction = 10 * STEP_RHO,
        purposes: Mapping[str, Fraction] | None = None,
        *,
        digest: str = "c3" * 32,
    ) -> Caps:
        return Caps(digest, cap, Fraction(1, 10**6), {} if purposes is None else purposes)

    def adopt(self, caps: Caps) -> None:
        self.account.adopt_policy(caps, policy_id="small", document=b"policy " + caps.policy_sha256.encode())

    def approve(
        self,
        plan: str = PLAN,
        rhos: Sequence[Fraction] = (STEP_RHO,) * 3,
        purpose: str = PURPOSE,
        source: str = SOURCE,
    ) -> bool:
        terms = PlanTerms(plan, b"plan " + plan.encode(), purpose, tuple(rhos), source)
        return self.account.approve(terms, day=DAY)

    def ticket(self, step: int = 0, *, request: str = "d4" * 32, plan: str = PLAN) -> ReleaseTicket:
        return ReleaseTicket(
            plan_sha256=plan,
            unit="north",
            unit_index=0,
            step=step,
            request_sha256=request,
            cells=CELLS,
            width=WIDTH,
            lattice={"count_weight": 1000, "unit": 1000},
            policy_sha256="c3" * 32,
            gate_commitment="e5" * 32,
            software="fedseg test",
            day=DAY,
        )

    def statistic(self, values: Sequence[int] = (1000, 600, -800, 0, 0, 0)) -> Sensitive:
        rows = np.array(values, np.int64).reshape(CELLS, WIDTH)
        return sum_of_rows([(np.arange(CELLS), rows)], cells=CELLS, width=WIDTH, l2_sensitivity_squared=SQUARED)

    def noise(self, seed: int = 1, count: int = CELLS * WIDTH, sigma: int = SIGMA) -> Noise:
        return Noise.draw(DiscreteGaussian(sigma), count, SimulatedNoise(seed))

    def release(self, step: int = 0, *, seed: int = 1, request: str = "d4" * 32, plan: str = PLAN) -> Release:
        ticket = self.ticket(step, request=request, plan=plan)
        return release(self.statistic(), self.noise(seed), self.account, ticket, self.key)


@pytest.fixture(scope="session")
def new_unit() -> type[Unit]:
    """Makes units that nothing is known of yet."""
    return Unit


@pytest.fixture
def bare() -> Unit:
    """A unit whose ledger holds its genesis alone."""
    return Unit()


@pytest.fixture
def unit(bare: Unit) -> Unit:
    """A unit with a policy whose cap holds ten steps, and an approved plan of three."""
    bare.adopt(bare.caps())
    bare.approve()
    return bare
