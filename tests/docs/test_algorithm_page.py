"""The numbers on the page of maths are those of the program."""

import math
import re
from collections.abc import Iterator
from fractions import Fraction

import pytest

from fedseg.clustering.bins import BINS
from fedseg.clustering.bounds import LENGTHS, forecast_bounds
from fedseg.clustering.schedule import Budget, Kind, Profile, schedule, step_terms
from fedseg.privacy.budget import PrivacyBudget, rho_of
from tests.docs.transcripts import ROOT

pytestmark = pytest.mark.docs

PAGE = (ROOT / "docs/explanation/algorithm.md").read_text(encoding="utf-8")
DELTA = Fraction(1, 10**6)
ONE_UNIT = Budget(rho_of(PrivacyBudget(Fraction(1), DELTA)), 1)
ROUNDS = {one.kind: one for one in schedule(Profile.STANDARD, 8, 10, 20_000, ONE_UNIT)}


def cells_after(head: str) -> Iterator[list[str]]:
    """The rows of the table under this head, cell by cell."""
    for line in PAGE.partition(head)[2].split("\n\n")[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("| ").split("|")]


def test_the_prices_of_epsilons_are_right() -> None:
    table = list(cells_after("| epsilon | ρ | μ |"))  # noqa: RUF001 (as on the page)
    assert len(table) == 3
    for epsilon, rho, mu in table:
        price = float(rho_of(PrivacyBudget(Fraction(epsilon), DELTA)))
        assert (float(rho), float(mu)) == (float(f"{price:.3g}"), float(f"{math.sqrt(2 * price):.3g}"))


def test_the_weights_and_sensitivities_of_rounds_are_right() -> None:
    stated = {
        Kind(name): (Fraction(a), Fraction(b), length)
        for names, a, b, length in cells_after("| Round | `a` | `b` | `Δ / U` |")
        for name in names.split(", ")
    }
    assert stated == {kind: (*one.weights, f"{one.sensitivity:.3f}") for kind, one in ROUNDS.items()}


def test_the_steps_of_a_refinement_and_the_noise_of_the_first_count_are_right() -> None:
    steps = [one.lattice.unit for one in step_terms(tuple(ROUNDS.values()), 10, ONE_UNIT.rho)]
    assert f"U is {steps[list(ROUNDS).index(Kind.REFINE)]:,} in a refinement" in PAGE
    first = ROUNDS[Kind.MOMENTS]
    noise = ONE_UNIT.noise_sd(first.share, first.sensitivity) / float(first.weights[0])
    assert f"has a standard deviation of {noise:.0f} customers" in PAGE


def test_the_numbers_of_a_plan_for_bounds_are_right() -> None:
    text = re.sub(r"\s+", " ", PAGE)
    sums = sum(BINS - length + 1 for length in LENGTHS)
    assert f"are `{sums} f` for f features" in text
    one_noise = Budget(ONE_UNIT.rho, 1)
    limits = [
        forecast_bounds(features, 1, 1, one_noise).smallest_group / one_noise.noise_sd(Fraction(1), 1)
        for features in (1, 10)
    ]
    assert f"z = {limits[0]:.1f} for one feature, {limits[1]:.1f} for ten" in text
    five_units = Budget(rho_of(PrivacyBudget(Fraction(1, 10), DELTA)), 5)
    assert f"a bin must have {forecast_bounds(3, 6, 1, five_units).smallest_group:.0f} customers" in text


def test_the_example_of_the_noise_floor_is_right() -> None:
    text = re.sub(r"\s+", " ", PAGE)
    signal = 20_000 * math.sqrt(2 * float(ONE_UNIT.rho)) / (8 * math.sqrt(10))
    refine = ROUNDS[Kind.REFINE]
    times = refine.sensitivity**2 / float(refine.share)
    floor = (3 / signal) ** 2
    assert f"the signal is {signal:.0f}; at q = 3 the floor is {floor:.4f}" in text
    assert f"≈ {times:.1f}` times the floor, {times * floor:.4f}" in text
