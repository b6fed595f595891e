"""What a privacy loss means for one person, in words that need no Greek letter. Pure; every figure is rounded up.

Somebody knows everything about everybody else, tosses a coin for whether one customer was counted, sees all that was
released, and guesses. Without the release the guess is right in half of all cases. With it, at most this often:

    G = min( (1 + sqrt(rho / 2)) / 2,  (1 + sqrt(1 - e^-rho)) / 2,  (e^epsilon + delta) / (e^epsilon + 1) ).

*Why.* Let P and Q be what is released with and without the customer, and S the outputs at which the guess is "counted".
The guess is right with probability (P(S) + 1 - Q(S)) / 2, at most (1 + TV(P, Q)) / 2.

*The first two.* rho-zCDP bounds the Renyi divergence of every order alpha > 1 by rho alpha, and divergences grow with
their order, so KL(P, Q) <= rho. TV <= sqrt(KL / 2) is Pinsker's inequality, TV <= sqrt(1 - e^-KL) that of Bretagnolle
and Huber (Canonne, "A short note on an inequality between KL and TV", arXiv 2202.07198, 2022).

*The third.* Let p = P(S), q = Q(S). By (epsilon, delta)-DP p <= e^epsilon q + delta, and for the complement, the other
way round, 1 - q <= e^epsilon (1 - p) + delta. Their sum is (p + 1 - q)(1 + e^epsilon) <= 2 (e^epsilon + delta). So it
is right with probability (p + 1 - q) / 2 <= (e^epsilon + delta) / (e^epsilon + 1).
"""

import functools
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from fractions import Fraction

from fedseg.privacy.budget import epsilon_of
from fedseg.report.officer.model import Loss

COIN = Decimal("0.5")
"""What a guess is worth without any release."""
_PLACES = Decimal("0.001")
_DIGITS = 60
_MARGIN = Decimal("1e-40")
"""Each of some ten operations errs by less than 1e-55, relatively to values below e^46 in quotients at most 1."""
_EXPONENT_MAX = 40
"""Beyond, e to it is so large that the guess is certain within all digits shown."""


@functools.lru_cache(maxsize=4096)
def loss(rho: Fraction, delta: Fraction) -> Loss:
    """A loss of `rho`, as an epsilon at `delta`, and what it means."""
    epsilon = epsilon_of(rho, delta)
    return Loss(rho, epsilon, guess_at_most(rho, epsilon, delta))


def guess_at_most(rho: Fraction, epsilon: Decimal, delta: Fraction) -> Decimal:
    """How often a guess is right at most, to three places, rounded up; from 0.5 to 1.

    Args:
        rho: The loss in zCDP; at least 0.
        epsilon: One that holds at `delta` for this loss.
        delta: In (0, 1).

    >>> guess_at_most(Fraction(0), Decimal(0), Fraction(1, 10**6))
    Decimal('0.500')
    >>> guess_at_most(Fraction(1, 10), epsilon_of(Fraction(1, 10), Fraction(1, 10**6)), Fraction(1, 10**6))
    Decimal('0.612')
    """
    if rho == 0:
        return COIN.quantize(_PLACES)
    with localcontext(Context(prec=_DIGITS)):
        loss_, chance = (Decimal(one.numerator) / Decimal(one.denominator) for one in (rho, delta))
        bounds = [(1 + (loss_ / 2).sqrt()) / 2, Decimal(1)]
        if loss_ < _EXPONENT_MAX:
            bounds.append((1 + (1 - (-loss_).exp()).sqrt()) / 2)
        if epsilon < _EXPONENT_MAX:
            factor = epsilon.exp()
            bounds.append((factor + chance) / (factor + 1))
        return min(min(bounds) + _MARGIN, Decimal(1)).quantize(_PLACES, ROUND_CEILING)
