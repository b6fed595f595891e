"""Faults planted into the shipped code, each for the length of a test or of a forked child; production has no hooks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedseg.clustering import encode, lattice, statistics
from fedseg.clustering.algorithm import Settings
from fedseg.clustering.lattice import Lattice
from fedseg.clustering.schedule import Budget
from fedseg.empirical import transcript
from fedseg.empirical.audit import audit_noise
from fedseg.empirical.parts import Part, Size
from fedseg.estimator import rounds
from fedseg.plan import Plan
from fedseg.policy.gate import Decisions
from fedseg.privacy import noise, sensitive
from fedseg.privacy.mechanism import DiscreteGaussian
from fedseg.privacy.noise import Noise, NoiseSource
from fedseg.privacy.sensitive import ENTRY_MAX, Sensitive, sum_of_rows

Patch = pytest.MonkeyPatch
Chunks = Iterable[tuple[NDArray[np.intp], NDArray[np.int64]]]

ON_NOISE = {"noise-single", "noise-alike", "noise-turned"}
ON_COUNTED = {"pipeline-plain", "pipeline-repeated", "pipeline-odd"}
ON_RUNS = {"transcript-segments", "transcript-bounds"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is planted, and which games must notice it."""

    plant: Callable[[Patch], None]
    noticed_by: set[str]

    @property
    def parts(self) -> list[Part]:
        """Those that the games belong to."""
        return [part for part in Part if any(name.startswith(part) for name in self.noticed_by)]


def noise_too_small(patch: Patch) -> None:
    drawn = noise.discrete_gaussian
    patch.setattr(noise, "discrete_gaussian", lambda sigma, count, source: drawn(round(sigma / 2**0.5), count, source))


def half_the_sensitivity(patch: Patch) -> None:
    def fitted(made: Lattice, rho: object) -> tuple[Lattice, DiscreteGaussian]:
        return made, DiscreteGaussian.calibrated(made.l2_sensitivity_squared // 4, rho)  # type: ignore[arg-type]

    patch.setattr(lattice, "_with_noise", fitted)


def no_clipping(patch: Patch) -> None:
    """Residuals are not cut to the radius, and the sum takes any vector whose entries it can hold.

    Entries are cut at what it can hold: left larger, they would make it drop the whole vector, and hide the fault.
    """
    energies = statistics.counts_and_energies

    def scaled(residuals: NDArray[np.float64], radii: NDArray[np.float64], unit: int) -> NDArray[np.float64]:
        return np.clip(residuals * unit // radii, -3 * unit, 3 * unit)

    def held(bounded: NDArray[np.float64], made: Lattice) -> NDArray[np.int64]:
        return np.clip(energies(bounded, made), -ENTRY_MAX, ENTRY_MAX)

    patch.setattr(statistics, "bounded_residuals", scaled)
    patch.setattr(statistics, "counts_and_energies", held)
    trusting(patch)


def counted_doubly(patch: Patch) -> None:
    """Every customer's vector is twice as long as is said, and the sum believes what is said."""
    once = statistics.customer_vectors

    def twice(*given: object) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        labels, vectors = once(*given)  # type: ignore[arg-type]
        return labels, 2 * vectors

    patch.setattr(statistics, "customer_vectors", twice)
    patch.setattr(rounds, "customer_vectors", twice)
    patch.setattr(transcript, "customer_vectors", twice)  # the guesser knows the code
    trusting(patch)


def trusting(patch: Patch) -> None:
    def added(chunks: Chunks, *, cells: int, width: int, l2_sensitivity_squared: int) -> Sensitive:
        summed = sum_of_rows(chunks, cells=cells, width=width, l2_sensitivity_squared=2**60)
        return replace(summed, l2_sensitivity_squared=l2_sensitivity_squared, token=sensitive._TOKEN)

    patch.setattr(statistics, "sum_of_rows", added)
    patch.setattr(rounds, "sum_of_rows", added)


def every_row_a_customer(patch: Patch) -> None:
    patch.setattr(encode, "_smallest_per_key", lambda _keys, rows: rows)


def whole_budget_at_each_unit(patch: Patch) -> None:
    def settings(plan: Plan) -> Settings:
        whole = Budget(plan.rho, len(plan.units))
        algorithm = plan.algorithm
        return Settings(plan.k, plan.dimensions, algorithm.expected_customers, algorithm.seed, algorithm.rounds, whole)

    patch.setattr(Plan, "settings", property(settings))


def sent_without_noise(patch: Patch) -> None:
    patch.setattr(Noise, "take", lambda self: np.zeros(self.count, np.int64))


def a_share_sent(patch: Patch) -> None:
    """What leaves has a unit's share of the noise of a secure sum over four, which is no release."""
    whole = Noise.draw.__func__  # type: ignore[attr-defined]

    def draw(cls: type[Noise], mechanism: DiscreteGaussian, count: int, source: NoiseSource) -> Noise:
        made: Noise = whole(cls, DiscreteGaussian(mechanism.sigma // 2), count, source)
        made.mechanism = mechanism
        return made

    patch.setattr(Noise, "draw", classmethod(draw))


def one_noise_for_all(patch: Patch) -> None:
    drawn = noise.discrete_gaussian
    patch.setattr(
        noise,
        "discrete_gaussian",
        lambda sigma, count, source: np.repeat(drawn(sigma, 1 + count // 8, source), 8)[:count],
    )


def no_gate(patch: Patch) -> None:
    patch.setattr(Decisions, "allow", lambda _self, subjects: np.ones(len(subjects), np.bool_))


FAULTS = {
    "noise too small by the root of 2": Fault(noise_too_small, ON_NOISE | ON_COUNTED),
    "noise for half the sensitivity": Fault(half_the_sensitivity, ON_NOISE | ON_COUNTED),
    "vectors twice as long as is said": Fault(counted_doubly, ON_COUNTED),
    "clipping removed": Fault(no_clipping, ON_COUNTED),
    "a customer's rows all counted": Fault(every_row_a_customer, {"pipeline-repeated"}),
    "the whole budget at each of two units": Fault(whole_budget_at_each_unit, ON_COUNTED),
    "a share sent as a release": Fault(a_share_sent, ON_NOISE | ON_COUNTED),
    "an un-noised partial sent as a release": Fault(sent_without_noise, ON_NOISE | ON_COUNTED),
    "one noise for eight numbers": Fault(one_noise_for_all, {"noise-turned"}),
    "nobody asked for consent": Fault(no_gate, {"pipeline-refusing"}),
}

ON_TRANSCRIPTS = {
    "noise for half the sensitivity": Fault(half_the_sensitivity, ON_RUNS),
    "clipping removed": Fault(no_clipping, {"transcript-segments"}),
}
"""Large ones, on whole runs, of which fewer are played."""

SIZE = Size(noise=8000, pipeline=1600, transcript=400)


def alarms(fault: Fault, seed: int, size: Size = SIZE) -> set[str]:
    """The games that raise an alarm with this fault planted."""
    with Patch.context() as patch:
        fault.plant(patch)
        return {one.game.name for one in audit_noise(size, parts=fault.parts, seed=seed).violated}
