"""The public feature specification: how a customer's value becomes a bounded 20-bit integer, and back.

Bounds, transform and the treatment of missing values are stated in the plan, never learned from a table. Each value
is encoded by itself with correctly rounded scalar operations, so the result never depends on the rows around it.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURE_BITS = 20
"""Bits of an encoded feature, sign included."""

FEATURE_MAX = 2 ** (FEATURE_BITS - 1) - 1
"""Largest magnitude of an encoded feature: the public [lower, upper] is mapped onto [-FEATURE_MAX, FEATURE_MAX]."""

DIMENSIONS_MAX = 2**12
"""Most features in a plan; keeps every exact inner product below 2**53 (see `clustering/statistics.py`)."""


class Transform(enum.Enum):
    """The public, strictly increasing map applied before scaling."""

    IDENTITY = "identity"
    LOG1P = "log1p"

    def forward(self, value: float) -> float:
        """The transformed value."""
        return math.log1p(value) if self is Transform.LOG1P else value

    def backward(self, value: float) -> float:
        """The value in original units."""
        return math.expm1(value) if self is Transform.LOG1P else value


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the plan, with its public bounds in original units."""

    name: str
    """Column name in every unit's table."""
    lower: float
    """Smallest value; anything below is clamped to it."""
    upper: float
    """Largest value; anything above is clamped to it."""
    missing: float
    """The value that stands for a missing one; within the bounds."""
    transform: Transform = Transform.IDENTITY
    label: str = ""
    """What people read, with its unit: "days since last purchase"."""
    low_word: str = "low"
    """One word for customers with small values: "recent"."""
    high_word: str = "high"
    """One word for customers with large values: "lapsed"."""

    def __post_init__(self) -> None:
        if not -math.inf < self.lower < self.upper < math.inf:
            raise ValueError(f"feature {self.name}: lower must be below upper, both finite")
        if not self.lower <= self.missing <= self.upper:
            raise ValueError(f"feature {self.name}: the value for missing must lie within the bounds")
        if self.transform is Transform.LOG1P and self.lower < 0:
            raise ValueError(f"feature {self.name}: log1p needs a lower bound of at least 0, got {self.lower}")
        # Otherwise a value's position in the interval would be 0/0 or infinite, and its integer outside the box.
        if not 0 < self._frame()[1] < math.inf:
            raise ValueError(f"feature {self.name}: its bounds are too close to each other, or too far apart")

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """Encode `values`, shape (rows,), as integers in [-FEATURE_MAX, FEATURE_MAX].

        x becomes rint(FEATURE_MAX * (2 (t(clamp(x)) - t(lower)) / (t(upper) - t(lower)) - 1)); NaN becomes the
        encoding of `missing`. The transform is the scalar one of the C library and the rest are single IEEE 754
        operations, so a value's integer is the same alone, in any chunk and at any position.

        >>> Feature("days", lower=0, upper=730, missing=730).encode(np.array([0.0, 365.0, 9999.0, np.nan])).tolist()
        [-524287, 0, 524287, 524287]
        """
        low, span = self._frame()
        known = np.clip(np.where(np.isnan(values), self.missing, values), self.lower, self.upper)
        if self.transform is Transform.LOG1P:
            known = _LOG1P(known).astype(np.float64)
        position = (known - low) / span
        scaled = np.rint((position * 2.0 - 1.0) * FEATURE_MAX)
        encoded: NDArray[np.int32] = np.clip(scaled, -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
        return encoded

    def decode(self, position: float) -> float:
        """The value in original units of a position in encoded units; positions outside the box are clamped to it."""
        low, span = self._frame()
        inside = min(1.0, max(-1.0, position / FEATURE_MAX))
        value = self.transform.backward(low + (inside + 1.0) / 2.0 * span)
        return min(self.upper, max(self.lower, value))

    def _frame(self) -> tuple[float, float]:
        low = self.transform.forward(self.lower)
        return low, self.transform.forward(self.upper) - low


_LOG1P: Callable[[NDArray[np.float64]], NDArray[np.object_]] = np.frompyfunc(math.log1p, 1, 1)
# Not `np.log1p`: its vector lanes and its scalar remainder may differ in the last bit, and then a customer's integer
# would depend on where in a batch the row stands.
