"""What is public about a fit: read from an estimator's parameters, never from rows. What is missing is refused.

Bounds, the number of customers, the number of units: each could be read off the rows, and would then say something
about them. So none has a default.
"""

import enum
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fedseg.clustering.algorithm import Settings
from fedseg.clustering.features import DIMENSIONS_MAX, NumericFeature
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.schedule import Budget, step_terms
from fedseg.ledger.canonical import Json
from fedseg.plan import TrustModel
from fedseg.privacy.budget import fraction_text

CLUSTERS_MAX = 512
UNITS_MAX = 1000
CUSTOMERS_MAX = 10**12
"""Bounds of a plan: no fit has more."""

_Choice = TypeVar("_Choice", bound=enum.Enum)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How many units there are, in how many of them one customer may be, and what is seen of their sums."""

    trust: TrustModel
    units: int
    max_units_per_customer: int

    @property
    def blocks(self) -> int:
        """Sums that are released side by side, each with a noise of its own: one a unit, or one over all of them."""
        return self.units if self.trust is TrustModel.UNIT_NOISE else 1

    @property
    def charges(self) -> int:
        """What a customer in c units loses, in charges of one vector.

        With D the longest vector, such a customer moves c blocks by D each, together by sqrt(c) D in L2 norm, so c
        charges; or one sum by c D, so c^2 charges.
        """
        c = self.max_units_per_customer
        return c if self.trust is TrustModel.UNIT_NOISE else c**2

    def budget(self, rho: Fraction) -> Budget:
        """What one vector may cost so that a customer loses at most `rho`, and how many noises are added up."""
        return Budget(rho / self.charges, self.blocks)

    def l2_sensitivity_squared(self, terms: StepTerms) -> int:
        """How far one customer moves all that is released in a round, squared, in lattice steps; see `charges`."""
        return self.charges * terms.lattice.l2_sensitivity_squared


@dataclass(frozen=True, slots=True)
class FitTerms:
    """All that is public about a fit, and what follows from it."""

    settings: Settings
    features: tuple[NumericFeature, ...]
    sharing: Sharing
    rounds: tuple[StepTerms, ...]
    """What is released in each round."""

    @classmethod
    def of(cls, settings: Settings, features: tuple[NumericFeature, ...], sharing: Sharing) -> Self:
        """The terms that these settings mean.

        Raises:
            ValueError: If the budget is too small for a lattice.
        """
        rounds = step_terms(settings.rounds, settings.dimensions, settings.budget.rho)
        return cls(settings, features, sharing, rounds)

    @property
    def step_rhos(self) -> list[Fraction]:
        """What each round costs a customer."""
        return [one.mechanism.charge(self.sharing.l2_sensitivity_squared(one)).rho for one in self.rounds]

    def document(self) -> dict[str, Json]:
        """The terms as the account's ledger keeps them."""
        return {
            "n_clusters": self.settings.k,
            "expected_customers": self.settings.expected_customers,
            "seed": self.settings.seed,
            "profile": self.settings.profile.value,
            "trust": self.sharing.trust.value,
            "n_units": self.sharing.units,
            "max_units_per_customer": self.sharing.max_units_per_customer,
            "rho_at_unit": fraction_text(self.settings.budget.rho),
            "bounds": [[repr(one.lower), repr(one.upper)] for one in self.features],
        }


def features_between(lower: ArrayLike | None, upper: ArrayLike | None, count: int) -> tuple[NumericFeature, ...]:
    """So many features with these public bounds.

    Raises:
        ValueError: If bounds are missing, do not fit or are no interval.
    """
    if lower is None or upper is None:
        raise ValueError(
            "lower and upper are missing: the range of the rows is private, so it is not taken from them; "
            "give public bounds, one for each feature or one for all, rather too wide than too narrow"
        )
    if count > DIMENSIONS_MAX:
        raise ValueError(f"at most {DIMENSIONS_MAX} features keep the arithmetic exact, got {count}")
    each = zip(_one_each(lower, count), _one_each(upper, count), strict=True)
    return tuple(NumericFeature(str(number), low, high, missing=low) for number, (low, high) in enumerate(each))


def expected(customers: int | None) -> int:
    """The public guess of how many customers there are.

    Raises:
        ValueError: If it is missing or none.
    """
    if customers is None:
        raise ValueError(
            "expected_customers is missing: the number of rows is private, so it is not taken from them; "
            "give a public guess: three times too many or too few costs up to a tenth where the budget is poor"
        )
    return whole("expected_customers", customers, 1, CUSTOMERS_MAX)


def units_listed(n_units: int | None, tables: int) -> int:
    """How many units there are when each has a table of its own.

    Raises:
        ValueError: If `n_units` says another number.
    """
    if n_units not in (None, tables):
        raise ValueError(
            f"n_units is {n_units!r}, but the rows are of {tables}: give a list with a table of each unit, "
            "or one table with the unit of each row as units="
        )
    return whole("n_units", tables, 1, UNITS_MAX)


def units_labelled(n_units: int | None) -> int:
    """How many units there are when each row says its own.

    Raises:
        ValueError: If it is missing or none.
    """
    if n_units is None:
        raise ValueError(
            "n_units is missing: labels show only those units that have customers, which is private; give the number"
        )
    return whole("n_units", n_units, 1, UNITS_MAX)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A parameter that is a whole number.

    Raises:
        ValueError: If it is none, or out of range.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


def one_of(name: str, choices: type[_Choice], value: object) -> _Choice:
    """A parameter that is one of a few words.

    Raises:
        ValueError: If it is none of them.
    """
    try:
        return choices(value)
    except ValueError as error:
        known = ", ".join(repr(one.value) for one in choices)
        raise ValueError(f"{name} must be one of {known}, got {value!r}") from error


def _one_each(bounds: ArrayLike, count: int) -> list[float]:
    found = np.asarray(bounds, np.float64)
    if found.shape not in ((), (count,)):
        raise ValueError(f"lower and upper must be one number, or one for each of the {count} features")
    each: list[float] = np.broadcast_to(found, count).tolist()
    return each
