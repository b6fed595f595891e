"""Privacy budgets and charges: zCDP rho as exact fractions, and the (epsilon, delta) they mean. Pure; no floats.

A charge is a pair (rho, delta): rho-zCDP except with probability delta. Charges add up, so an account is a sum of
fractions which anyone replays to the last bit. Epsilon is only ever computed from the sum, and always rounded up.
"""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from typing import Self

RHO_GRID = 2**48
"""Every charge's rho is a multiple of 1 / RHO_GRID, rounded up: sums keep one denominator."""

DELTA_GRID = 2**64
"""Every charge's delta is a multiple of 1 / DELTA_GRID, rounded up; a budget's delta lies one step inside (0, 1)."""

RHO_LIMIT = 2**32
"""The largest rho that is converted to epsilon; the error bound of `epsilon_of` is proved up to here."""

EPSILON_LIMIT = 2**20
"""The largest epsilon a budget may have: far beyond any promise, and well within the reach of RHO_LIMIT."""

FRACTION_TEXT_LIMIT = 100
"""The longest text of a fraction in a ledger or plan, in characters."""

_FRACTION_TEXT = re.compile(r"(0|[1-9][0-9]*)/([1-9][0-9]*)")
_FORMULA_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")

# The proof in `epsilon_of` uses these four numbers; change one and redo the proof.
_DIGITS = 80
_ORDER_DIGITS = 40
_MARGIN = Decimal("1e-50")
_LAST_PLACE = Decimal("1e-18")
_SEARCH_TOLERANCE = Decimal("1e-25")


@dataclass(frozen=True, slots=True)
class Charge:
    """What one mechanism run costs every customer: rho-zCDP, except with probability `delta`.

    The unit of privacy and the neighbouring relation are those of `PrivacyBudget`.
    """

    rho: Fraction
    """Zero-concentrated DP parameter; at least 0, a multiple of 1 / RHO_GRID."""
    delta: Fraction
    """Probability that the rho does not hold; in [0, 1), a multiple of 1 / DELTA_GRID."""
    formula: str
    """Name of the theorem that gave the numbers, so that an auditor recomputes them (`mechanism.recompute`)."""

    def __post_init__(self) -> None:
        _refuse_inexact(rho=self.rho, delta=self.delta)
        if not (self.rho >= 0 and (self.rho * RHO_GRID).denominator == 1):
            raise ValueError(f"rho must be a multiple of 1/{RHO_GRID} and at least 0, got {self.rho}")
        if not (0 <= self.delta < 1 and (self.delta * DELTA_GRID).denominator == 1):
            raise ValueError(f"delta must be a multiple of 1/{DELTA_GRID} in [0, 1), got {self.delta}")
        if not _FORMULA_NAME.fullmatch(self.formula):
            raise ValueError("a charge names its formula in lower-case letters, digits and hyphens, at most 64")

    @classmethod
    def of(cls, rho: Fraction, delta: Fraction, formula: str) -> Self:
        """The smallest charge that is at least (`rho`, `delta`): both rounded up to their grids.

        >>> Charge.of(Fraction(1, 3), Fraction(0), "discrete-gaussian-zcdp").rho - Fraction(1, 3) < Fraction(1, 2**48)
        True
        """
        _refuse_inexact(rho=rho, delta=delta)
        return cls(
            Fraction(math.ceil(rho * RHO_GRID), RHO_GRID), Fraction(math.ceil(delta * DELTA_GRID), DELTA_GRID), formula
        )


def total(charges: Iterable[Charge]) -> tuple[Fraction, Fraction]:
    """The sums of rho and of delta, exact: what a customer counted by all of these mechanisms has spent.

    Composition of (delta-approximate) zCDP, also when each mechanism is chosen after seeing the earlier outputs:
    Bun and Steinke, "Concentrated Differential Privacy", TCC 2016, Lemma 1.7 and section 8; as a filter on a running
    account: Whitehouse et al., "Fully-Adaptive Composition in Differential Privacy", ICML 2023.
    """
    rho, delta = Fraction(0), Fraction(0)
    for charge in charges:
        rho += charge.rho
        delta += charge.delta
    return rho, delta


def sum_of_rhos(rhos: Iterable[Fraction]) -> Fraction:
    """Their sum, exact. What has one denominator is added as whole numbers, twenty times as fast as fractions are.

    >>> sum_of_rhos([Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)])
    Fraction(13, 12)
    """
    numerators: defaultdict[int, int] = defaultdict(int)
    for rho in rhos:
        numerator, denominator = rho.as_integer_ratio()
        numerators[denominator] += numerator
    common = math.lcm(*numerators)
    return Fraction(sum(some * (common // each) for each, some in numerators.items()), common)


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """The most privacy loss one customer may suffer: an (epsilon, delta) pair.

    The unit of privacy is one customer: everything a unit holds about one person, however many rows that is.
    Neighbouring tables differ by adding or removing one customer.
    """

    epsilon: Fraction
    """Upper bound on the privacy loss; in (0, EPSILON_LIMIT]."""
    delta: Fraction
    """Probability that the bound fails; at least 1 / DELTA_GRID from 0 and 1. Well below 1 / number of customers."""

    def __post_init__(self) -> None:
        _refuse_inexact(epsilon=self.epsilon, delta=self.delta)
        if not 0 < self.epsilon <= EPSILON_LIMIT:
            raise ValueError(f"epsilon must lie in (0, {EPSILON_LIMIT}], got {self.epsilon}")
        _check_delta(self.delta)


def epsilon_of(rho: Fraction, delta: Fraction) -> Decimal:
    """The epsilon for which rho-zCDP is known to imply (epsilon, delta)-DP: an upper bound, at most 2e-18 above

        inf over alpha > 1 of  F(alpha) = rho alpha + ln(1 / (alpha delta)) / (alpha - 1) + ln(1 - 1/alpha),

    or above 0 where the infimum is negative (the theorem holds for every epsilon >= 0). Nil for rho = 0.

    *Any alpha is sound.* rho-zCDP bounds the Renyi divergence of every order alpha > 1 by rho alpha, and from one
    order alone (F(alpha), delta)-DP follows. So a badly chosen alpha costs budget, never privacy.

    *The alpha we choose is the best.* F'(alpha) = g / (alpha - 1)^2 with g = rho (alpha - 1)^2 + ln(alpha delta), which
    grows from ln delta < 0 to infinity: one minimum, where g = 0. See `_best_order_less_one`.

    *The decimals err upwards.* Let b = alpha - 1. rho is rounded up and delta down, and F grows with rho and falls
    with delta. b has 40 digits, so alpha = 1 + b is exact in the 80 at hand. Every operation, logarithms included, errs
    by at most half a unit in the 80th digit: relatively by u <= 5e-80. At the minimum rho b^2 <= ln(1/delta) <= 45,
    alpha <= 1/delta <= 2^64, and b >= 2^-66 since rho b^2 + b >= ln(1/delta) >= 2^-64 and rho <= 2^32. So rho alpha is
    below 2^33 and errs by less than 2^34 u; ln(alpha delta) by less than 200u, its quotient by b by less than
    200u 2^66 + 2^20 u; ln(b / alpha) by less than 50u. Together, with the sums, less than 1e-55. Adding 1e-50 makes the
    result an upper bound; rounding up to the 18th place keeps it one and adds at most 1e-18.

    Args:
        rho: In [0, RHO_LIMIT].
        delta: In [1 / DELTA_GRID, 1 - 1 / DELTA_GRID]. Deltas of charges are subtracted by the caller.

    Reference: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020,
    arXiv 2004.00010, Proposition 12 and Corollary 13.

    >>> epsilon_of(Fraction(1, 10), Fraction(1, 10**6))
    Decimal('2.141938928385473662')
    """
    _refuse_inexact(rho=rho, delta=delta)
    _check_delta(delta)
    if not 0 <= rho <= RHO_LIMIT:
        raise ValueError(f"rho must lie in [0, {RHO_LIMIT}], got {rho}")
    if rho == 0:
        return Decimal(0)
    with localcontext(Context(prec=_DIGITS, rounding=ROUND_HALF_EVEN)):
        rho_above = _to_decimal(rho, ROUND_CEILING)
        log_delta = _to_decimal(delta, ROUND_FLOOR).ln()
        b = _best_order_less_one(rho_above, log_delta)
        alpha = 1 + b
        value = rho_above * alpha - (alpha.ln() + log_delta) / b + (b / alpha).ln() + _MARGIN
        return value.quantize(_LAST_PLACE, ROUND_CEILING) if value > 0 else Decimal(0)


@functools.lru_cache(maxsize=64)
def rho_of(budget: PrivacyBudget) -> Fraction:
    """The largest multiple of 1 / RHO_GRID whose `epsilon_of` is at most the budget's epsilon; 0 if none is.

    Bisection on integers is exact because `epsilon_of` never falls from one multiple to the next: the infimum of F
    grows by more than 2^-48 > 3e-15 (each F(alpha) grows by alpha 2^-48), the error is at most 2e-18. It ends because
    epsilon exceeds rho - 46, which passes EPSILON_LIMIT long before RHO_LIMIT.

    >>> fraction_text(rho_of(PrivacyBudget(Fraction(2), Fraction(1, 10**6))))
    '24812775908727/281474976710656'
    """

    def fits(steps: int) -> bool:
        return epsilon_of(Fraction(steps, RHO_GRID), budget.delta) <= budget.epsilon

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return Fraction(low, RHO_GRID)


def shown_epsilon(value: Decimal, digits: int = 3) -> str:
    """An epsilon for people: rounded up to `digits` significant digits, without exponent.

    >>> shown_epsilon(Decimal("2.1307200699")), shown_epsilon(Decimal("1.99999")), shown_epsilon(Decimal("1234.5"))
    ('2.14', '2.00', '1240')
    """
    if not (value.is_finite() and value >= 0):
        raise ValueError(f"an epsilon is finite and at least 0, got {value}")
    rounded = Context(prec=digits, rounding=ROUND_CEILING).plus(value)
    return format(rounded, "f") if rounded else "0"


def shown_fraction(value: Fraction, digits: int = 3) -> str:
    """An exact epsilon for people, to `digits` significant digits, rounded up."""
    return shown_epsilon(_to_decimal(value, ROUND_CEILING), digits)


def upper_float(value: Decimal | Fraction) -> float:
    """The smallest float that is at least `value`: for JSON, where a bound must stay a bound."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= Fraction(value) else math.nextafter(nearest, math.inf)


def fraction_text(value: Fraction) -> str:
    """The one text of a fraction of at least 0 in ledgers and plans: numerator, slash, denominator, in lowest terms.

    >>> fraction_text(Fraction(2)), fraction_text(Fraction(3, 12))
    ('2/1', '1/4')
    """
    _refuse_inexact(value=value)
    text = f"{value.numerator}/{value.denominator}"
    if value < 0 or len(text) > FRACTION_TEXT_LIMIT:
        raise ValueError(f"only fractions of at least 0 and at most {FRACTION_TEXT_LIMIT} characters have a text")
    return text


def parse_fraction(text: str) -> Fraction:
    """The fraction that `fraction_text` writes as exactly this text.

    Raises:
        ValueError: For any other text: a sign, a space, leading zeros, not in lowest terms, too long.
    """
    match = _FRACTION_TEXT.fullmatch(text) if len(text) <= FRACTION_TEXT_LIMIT else None
    if match is None:
        raise ValueError(f"a fraction is written as numerator/denominator, at most {FRACTION_TEXT_LIMIT} characters")
    numerator, denominator = int(match[1]), int(match[2])
    if math.gcd(numerator, denominator) != 1:
        raise ValueError("a fraction is written in lowest terms")
    return Fraction(numerator, denominator)


def _best_order_less_one(rho: Decimal, log_delta: Decimal) -> Decimal:
    """The order alpha that minimises F, less one, to a relative 1e-25, so F within 1e-24 of its infimum.

    In t = ln(alpha) the root of F' is that of g(t) = rho (e^t - 1)^2 + t + log_delta, which is increasing and convex
    for t > 0. Newton's method from the right therefore falls towards the root and never jumps over it. Both
    t = -log_delta and t = ln(1 + sqrt(-log_delta / rho)) lie to its right (there g >= 0); we start from the nearer.
    """
    t = min(-log_delta, (1 + (-log_delta / rho).sqrt()).ln())
    while True:
        b = t.exp() - 1
        step = (rho * b * b + t + log_delta) / (2 * rho * b * (b + 1) + 1)
        if step < t * _SEARCH_TOLERANCE:
            return Context(prec=_ORDER_DIGITS).plus(b)
        t -= step


def _to_decimal(value: Fraction, rounding: str) -> Decimal:
    """The nearest decimal of `_DIGITS` digits on the side that `rounding` names."""
    return Context(prec=_DIGITS, rounding=rounding).divide(Decimal(value.numerator), Decimal(value.denominator))


def _check_delta(delta: Fraction) -> None:
    if not 1 <= delta * DELTA_GRID <= DELTA_GRID - 1:
        raise ValueError(f"delta must lie in (0, 1), at least 1/{DELTA_GRID} from both ends, got {delta}")


def _refuse_inexact(**values: Fraction) -> None:
    """Types are not checked at run time, and a float here would be a rounding error in a promise."""
    for name, value in values.items():
        if type(value) is not Fraction:
            raise TypeError(f"{name} must be a Fraction, got {type(value).__name__}")
