"""The rounds follow from public numbers alone, spend the budget and no more, and ask for what fits into a reply."""

import inspect
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.clustering.algorithm import Settings
from fedseg.clustering.lattice import Statistic
from fedseg.clustering.request import CELLS_MAX as REQUEST_CELLS_MAX
from fedseg.clustering.schedule import INTEGERS_MAX, Budget, Kind, Profile, schedule, step_terms
from fedseg.privacy.budget import RHO_GRID
from fedseg.privacy.release import HEADER, SIGNATURE_BYTES
from fedseg.privacy.sensitive import WIDTH_MAX
from tests.small_run import rho_for, settings_of, terms_of

REPLY_BYTES_MAX = 200_000


@st.composite
def plans(draw: st.DrawFn, k_max: int = 512, dimensions_max: int = 1024) -> Settings:
    return settings_of(
        draw(st.integers(1, k_max)),
        draw(st.integers(1, dimensions_max)),
        draw(st.integers(0, 12).flatmap(lambda digits: st.integers(1, 10**digits))),
        rho=draw(st.sampled_from([rho_for(Fraction(epsilon)) for epsilon in ("1/4", "1", "4", "20")])),
        noises=draw(st.sampled_from([1, 2, 10, 1000])),
        profile=draw(st.sampled_from(Profile)),
    )


@settings(max_examples=200, deadline=None)
@given(plans())
def test_the_shares_of_the_rounds_add_up_to_the_budget_exactly(chosen: Settings) -> None:
    assert sum(one.share for one in chosen.rounds) == 1
    assert all(one.share > 0 for one in chosen.rounds)


@settings(max_examples=100, deadline=None)
@given(plans())
def test_what_the_rounds_charge_is_the_budget_but_for_what_rounding_leaves(chosen: Settings) -> None:
    charged = [terms.mechanism.charge(terms.lattice.l2_sensitivity_squared).rho for terms in terms_of(chosen)]
    assert all(rho <= chosen.budget.rho * one.share for rho, one in zip(charged, chosen.rounds, strict=True))
    left = chosen.budget.rho - sum(charged)
    assert 0 <= left < chosen.budget.rho / 10**4 + Fraction(2 * len(charged), RHO_GRID)


@settings(max_examples=200, deadline=None)
@given(plans())
def test_every_round_fits_a_request_and_a_statistic(chosen: Settings) -> None:
    kinds = [one.kind for one in chosen.rounds]
    assert kinds[0] is Kind.MOMENTS
    assert kinds[-1] is Kind.PROFILE
    assert Kind.SKETCH in kinds
    for one, terms in zip(chosen.rounds, terms_of(chosen), strict=True):
        assert terms.cells == one.cells
        assert 1 <= one.cells <= REQUEST_CELLS_MAX
        assert terms.width == terms.lattice.width(chosen.dimensions) <= WIDTH_MAX
        assert terms.lattice.statistic is one.statistic
        if one.kind is Kind.SKETCH:
            assert one.cells >= chosen.k
        else:
            assert one.cells == (chosen.k if one.kind in {Kind.REFINE, Kind.PROFILE} else 1)


@settings(max_examples=300, deadline=None)
@given(plans(k_max=64, dimensions_max=256))
def test_a_reply_stays_below_200_kilobytes_wherever_one_profile_of_all_segments_does(chosen: Settings) -> None:
    for terms in terms_of(chosen):
        reply = 1 + HEADER.size + 8 * terms.length + SIGNATURE_BYTES
        profile = chosen.k * (2 * chosen.dimensions + 1)
        assert reply < REPLY_BYTES_MAX or terms.length == profile > INTEGERS_MAX


def test_a_schedule_takes_nothing_but_public_numbers() -> None:
    # None of these is made from a customer: numbers of the plan and the budget. What a state knows cannot get in.
    assert set(inspect.signature(schedule).parameters) == {
        "profile",
        "k",
        "dimensions",
        "expected_customers",
        "budget",
    }
    assert set(inspect.signature(step_terms).parameters) == {"rounds", "dimensions", "rho"}


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1])
def test_the_seed_of_the_public_coins_changes_no_round(seed: int) -> None:
    chosen = settings_of(8, 10, 20_000, rho=rho_for(1))
    assert replace(chosen, seed=seed).rounds == chosen.rounds


def kinds_of(chosen: Settings) -> list[Kind]:
    return [one.kind for one in chosen.rounds]


SIX = [Kind.MOMENTS, Kind.COVARIANCE, Kind.SKETCH, Kind.SKETCH, Kind.REFINE, Kind.PROFILE]


def test_the_standard_profile_has_six_rounds_and_the_short_one_three() -> None:
    assert kinds_of(settings_of(8, 10, 20_000, rho=rho_for(1))) == SIX
    short = settings_of(8, 10, 20_000, rho=rho_for(1), profile=Profile.SHORT)
    assert kinds_of(short) == [Kind.MOMENTS, Kind.SKETCH, Kind.PROFILE]


WITHOUT = {
    "one feature": settings_of(8, 1, 10**6, rho=rho_for(4)),
    "few customers": settings_of(8, 10, 50, rho=rho_for(1)),
    "little budget": settings_of(8, 10, 20_000, rho=rho_for(Fraction(1, 200))),
    "many noises": settings_of(8, 10, 2000, rho=rho_for(1), noises=1000),
    "more features than fit into a reply": settings_of(8, 218, 10**9, rho=rho_for(4)),
}


@pytest.mark.parametrize("chosen", WITHOUT.values(), ids=list(WITHOUT))
def test_the_second_moment_is_left_out_where_it_would_be_noise_or_too_long(chosen: Settings) -> None:
    assert kinds_of(chosen) == [kind for kind in SIX if kind is not Kind.COVARIANCE]
    before, *after = chosen.rounds
    full = settings_of(8, 10, 20_000, rho=rho_for(1)).rounds
    assert before.share == full[0].share
    # What it would have cost goes to those after it, in proportion.
    grown = {one.share / other.share for one, other in zip(after, full[2:], strict=True)}
    assert grown == {1 + full[1].share / sum(one.share for one in full[2:])}


@given(plans(dimensions_max=60))
def test_more_customers_never_take_the_second_moment_away_nor_cells_from_a_sketch(chosen: Settings) -> None:
    more = replace(chosen, expected_customers=3 * chosen.expected_customers)
    assert (Kind.COVARIANCE in kinds_of(chosen)) <= (Kind.COVARIANCE in kinds_of(more))
    if kinds_of(chosen) == kinds_of(more):
        assert all(one.cells <= other.cells for one, other in zip(chosen.rounds, more.rounds, strict=True))


@given(plans())
def test_a_rounds_sensitivity_in_radii_is_the_one_of_its_lattice(chosen: Settings) -> None:
    for one, terms in zip(chosen.rounds, terms_of(chosen), strict=True):
        steps = math.sqrt(terms.lattice.l2_sensitivity_squared)
        assert steps / terms.lattice.unit == pytest.approx(one.sensitivity, rel=1e-3)
        linear = one.statistic is Statistic.SECOND_MOMENT
        noise = terms.mechanism.sigma / terms.lattice.unit
        assert noise == pytest.approx(Budget(chosen.budget.rho, 1).noise_sd(one.share, one.sensitivity), rel=1e-3)
        assert linear == (one.kind is Kind.COVARIANCE)


def test_a_budget_too_small_for_a_lattice_is_refused_before_anything_is_asked() -> None:
    chosen = settings_of(3, 2, 1000, rho=Fraction(1, 10**9))
    with pytest.raises(ValueError, match=r"lattice|weights must be"):
        terms_of(chosen)
