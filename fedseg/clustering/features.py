"""The public feature specification: how a customer's value becomes bounded 20-bit integers, and back.

A feature reads one column and fills one or several columns of integers. Bounds, transforms, vocabularies, weights and
the treatment of missing values are stated in the plan, never learned from a table. Each value is encoded by itself,
with scalar operations and table lookups, so the result never depends on the rows around it. Here are what all kinds
share and the numeric kind; `categories.py` and `cycles.py` hold the others.
"""

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedseg.columns import Column, ColumnType

FEATURE_BITS = 20
"""Bits of an encoded column, sign included."""

FEATURE_MAX = 2 ** (FEATURE_BITS - 1) - 1
"""Largest magnitude of an encoded column: the public [lower, upper] is mapped onto [-FEATURE_MAX, FEATURE_MAX]."""

DIMENSIONS_MAX = 2**12
"""Most encoded columns there may be; keeps every exact inner product below 2**53 (see `clustering/statistics.py`)."""

WEIGHT_MIN = Fraction(1, 1000)
"""Smallest weight: below it, the steps of an encoded column would become coarse."""

WEIGHT_DENOMINATOR_MAX = 10**6
"""Finest weight: scaling by it stays far within 64 bits."""

MISSING = "missing"
"""What the indicator of a missing value says."""


class Transform(enum.Enum):
    """The public, strictly increasing map applied before scaling."""

    IDENTITY = "identity"
    LOG1P = "log1p"
    """Logarithm of the value and one: for amounts, none of them negative."""
    ASINH = "asinh"
    """Signed logarithm: nearly the value up to 1 and the logarithm of twice the value beyond, on both sides of 0."""

    def forward(self, value: float) -> float:
        """The transformed value."""
        return _FORWARD[self](value)

    def backward(self, value: float) -> float:
        """The value in original units."""
        return _BACKWARD[self](value)


_FORWARD: Mapping[Transform, Callable[[float], float]] = {
    Transform.IDENTITY: float,
    Transform.LOG1P: math.log1p,
    Transform.ASINH: math.asinh,
}

_BACKWARD: Mapping[Transform, Callable[[float], float]] = {
    Transform.IDENTITY: float,
    Transform.LOG1P: math.expm1,
    Transform.ASINH: math.sinh,
}


@final
@dataclass(frozen=True, slots=True)
class Indicator:
    """An encoded column that is `on` for the customers it speaks of and `off` for all others."""

    says: str
    """A category, "yes", or `MISSING`."""
    off: int
    on: int

    def column(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The encoded column, shape (rows,), of customers of whom `mask` says whether it speaks of them."""
        return np.where(mask, np.int32(self.on), np.int32(self.off))

    def share(self, position: float) -> float:
        """The part of the customers it speaks of, given the column's mean; clipped to [0, 1]."""
        return min(1.0, max(0.0, (position - self.off) / (self.on - self.off)))


@dataclass(frozen=True, slots=True)
class Feature(ABC):
    """One feature of the plan: what every kind has.

    Its encoded columns are first those its kind measures, then its indicators; a missing flag's is the last one.
    """

    name: str
    """Column name in every unit's table."""
    label: str = field(default="", kw_only=True)
    """What people read, with its unit: "days since last purchase"."""
    weight: Fraction = field(default=Fraction(1), kw_only=True)
    """Scales all its columns, and so how much it counts in distances; from WEIGHT_MIN to 1."""
    missing_flag: bool = field(default=False, kw_only=True)
    """Whether one more column says that the value is missing."""

    kind: ClassVar[str]
    """Name of the kind, as the plan writes it."""
    type: ClassVar[ColumnType]
    """What its cells are."""
    measures: ClassVar[int] = 0
    """Encoded columns before its indicators."""

    def __post_init__(self) -> None:
        if not WEIGHT_MIN <= self.weight <= 1 or self.weight.denominator > WEIGHT_DENOMINATOR_MAX:
            raise ValueError(f"feature {self.name}: the weight must lie between 0.001 and 1, with at most six decimals")

    @property
    def column(self) -> Column:
        """The column it reads."""
        return Column(self.name, self.type)

    @property
    def width(self) -> int:
        """Number of its encoded columns."""
        return self.measures + len(self.indicators)

    @property
    @abstractmethod
    def indicators(self) -> tuple[Indicator, ...]:
        """Its columns that speak of shares of the customers."""

    @property
    @abstractmethod
    def foreseen(self) -> str:
        """What the plan foresees, for people."""

    @property
    @abstractmethod
    def missing_text(self) -> str:
        """What a missing value counts as, for people."""

    @abstractmethod
    def encode(self, cells: pa.Array) -> NDArray[np.int32]:
        """Encode cells of its column type as integers in [-FEATURE_MAX, FEATURE_MAX], shape (rows, width).

        A row's integers are the same alone, in any chunk and at any position.
        """

    @abstractmethod
    def is_missing(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Which cells hold nothing that the feature could read, shape (rows,)."""

    @abstractmethod
    def is_outside(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Which cells hold something that the plan does not foresee, shape (rows,); missing ones do not."""

    def scaled(self, magnitude: int) -> int:
        """A magnitude times the weight, rounded half up, in exact integers."""
        return (2 * magnitude * self.weight.numerator + self.weight.denominator) // (2 * self.weight.denominator)

    def flag(self) -> tuple[Indicator, ...]:
        """The indicator of a missing value, if the plan wants one; as far apart as yes and no."""
        half = self.scaled(TRUTH_LEVEL)
        return (Indicator(MISSING, -half, half),) if self.missing_flag else ()

    def with_flag(self, cells: pa.Array, *columns: NDArray[np.int32]) -> NDArray[np.int32]:
        """The columns side by side, shape (rows, width), the missing flag's after them if the plan wants one."""
        flags = [one.column(self.is_missing(cells)) for one in self.flag()]
        return np.column_stack((*columns, *flags))


TRUTH_LEVEL = FEATURE_MAX // 2
"""Yes and no stand at plus and minus this: as far apart as two numbers that differ by half their range."""


@final
@dataclass(frozen=True, slots=True)
class NumericFeature(Feature):
    """A number with public bounds: one column."""

    lower: float
    """Smallest value; anything below is clamped to it."""
    upper: float
    """Largest value; anything above is clamped to it."""
    missing: float
    """The value that stands for a missing one; within the bounds."""
    transform: Transform = Transform.IDENTITY
    low_word: str = "low"
    """One word for customers with small values: "recent"."""
    high_word: str = "high"
    """One word for customers with large values: "lapsed"."""

    kind: ClassVar[str] = "numeric"
    type: ClassVar[ColumnType] = ColumnType.NUMBER
    measures: ClassVar[int] = 1

    def __post_init__(self) -> None:
        Feature.__post_init__(self)
        if not -math.inf < self.lower < self.upper < math.inf:
            raise ValueError(f"feature {self.name}: lower must be below upper, both finite")
        if not self.lower <= self.missing <= self.upper:
            raise ValueError(f"feature {self.name}: the value for missing must lie within the bounds")
        if self.transform is Transform.LOG1P and self.lower < 0:
            raise ValueError(f"feature {self.name}: log1p needs a lower bound of at least 0, got {self.lower}")
        # Otherwise a value's position in the interval would be 0/0 or infinite, and its integer outside the box.
        if not 0 < self._frame()[1] < math.inf:
            raise ValueError(f"feature {self.name}: its bounds are too close to each other, or too far apart")

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """The missing flag, if the plan wants one."""
        return self.flag()

    @property
    def foreseen(self) -> str:
        """The bounds, and the transform if there is one."""
        scale = "" if self.transform is Transform.IDENTITY else f", {self.transform.value}"
        return f"{self.lower:g} to {self.upper:g}{scale}"

    @property
    def missing_text(self) -> str:
        """The number."""
        return f"{self.missing:g}"

    def encode(self, cells: pa.Array) -> NDArray[np.int32]:
        """The numbers' positions, and the missing flag's column if the plan wants one."""
        return self.with_flag(cells, self.positions(cells.to_numpy(zero_copy_only=False)))

    def positions(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """Encode `values`, shape (rows,), as integers in [-FEATURE_MAX, FEATURE_MAX].

        x becomes rint(FEATURE_MAX * (2 (t(clamp(x)) - t(lower)) / (t(upper) - t(lower)) - 1)), times the weight; NaN
        becomes the encoding of `missing`. The transform is the scalar one of the C library and the rest are single
        IEEE 754 and integer operations, so a value's integer is the same alone, in any chunk and at any position.

        >>> days = NumericFeature("days", lower=0, upper=730, missing=730)
        >>> days.positions(np.array([0.0, 365.0, 9999.0, np.nan])).tolist()
        [-524287, 0, 524287, 524287]
        """
        low, span = self._frame()
        known = np.clip(np.where(np.isnan(values), self.missing, values), self.lower, self.upper)
        if self.transform is not Transform.IDENTITY:
            known = _SCALAR[self.transform](known).astype(np.float64)
        position = (known - low) / span
        whole = np.clip(np.rint((position * 2.0 - 1.0) * FEATURE_MAX), -FEATURE_MAX, FEATURE_MAX).astype(np.int64)
        numerator, denominator = self.weight.numerator, self.weight.denominator
        magnitude = (2 * np.abs(whole) * numerator + denominator) // (2 * denominator)
        encoded: NDArray[np.int32] = (np.sign(whole) * magnitude).astype(np.int32)
        return encoded

    def decode(self, position: float) -> float:
        """The value in original units of a position in encoded units; positions outside the box are clamped to it."""
        low, span = self._frame()
        inside = min(1.0, max(-1.0, position / self.scaled(FEATURE_MAX)))
        # Rounding must not lead past the upper bound: what is back from there may be larger than any float.
        value = self.transform.backward(min(low + (inside + 1.0) / 2.0 * span, self.transform.forward(self.upper)))
        return min(self.upper, max(self.lower, value))

    def distance(self, positions: float) -> float:
        """A distance in encoded units on the plan's scale: in original units, or after a logarithm in that."""
        return positions / (2 * self.scaled(FEATURE_MAX)) * self._frame()[1]

    def is_missing(self, cells: pa.Array) -> NDArray[np.bool_]:
        """NaN is no number, so it counts as missing."""
        missing: NDArray[np.bool_] = np.isnan(cells.to_numpy(zero_copy_only=False))
        return missing

    def is_outside(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Numbers beyond the bounds: they are clamped."""
        values = cells.to_numpy(zero_copy_only=False)
        outside: NDArray[np.bool_] = (values < self.lower) | (values > self.upper)
        return outside

    def _frame(self) -> tuple[float, float]:
        low = self.transform.forward(self.lower)
        return low, self.transform.forward(self.upper) - low


_SCALAR: Mapping[Transform, Callable[[NDArray[np.float64]], NDArray[np.object_]]] = {
    Transform.LOG1P: np.frompyfunc(math.log1p, 1, 1),
    Transform.ASINH: np.frompyfunc(math.asinh, 1, 1),
}
# Not `np.log1p`: its vector lanes and its scalar remainder may differ in the last bit, and then a customer's integer
# would depend on where in a batch the row stands.
