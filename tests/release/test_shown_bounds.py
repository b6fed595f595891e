"""A privacy loss that people or scripts read is never smaller than the exact one."""

import math
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fedseg.privacy.budget import shown_fraction, upper_float

DECIMALS = st.decimals(0, 10**6, places=18)


@given(DECIMALS)
def test_a_bound_as_a_float_is_the_smallest_one_that_is_still_a_bound(value: Decimal) -> None:
    bound = upper_float(value)
    assert Decimal(bound) >= value
    assert bound == 0 or Decimal(math.nextafter(bound, 0.0)) < value


@given(st.fractions(0, 10**6))
def test_an_exact_bound_as_a_float_is_the_smallest_one_that_is_still_a_bound(value: Fraction) -> None:
    bound = upper_float(value)
    assert Fraction(bound) >= value
    assert bound == 0 or Fraction(math.nextafter(bound, 0.0)) < value


@given(st.fractions(0, 10**6))
def test_an_exact_epsilon_is_shown_rounded_up(value: Fraction) -> None:
    shown = Fraction(shown_fraction(value))
    assert value <= shown <= value * Fraction(101, 100)
