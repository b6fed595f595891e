"""A feature that comes round again: time of day, day of the week, month. A point on a circle."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX, Feature, Indicator
from fedseg.columns import ColumnType

CYCLE_RADIUS = FEATURE_MAX // 2
"""Radius of the circle: opposite times are as far apart as two numbers that differ by half their range."""

WHOLE_MAX = 2.0**53
"""Most that period and start may be: beyond it, not even whole steps can be told apart."""


@final
@dataclass(frozen=True, slots=True)
class CyclicFeature(Feature):
    """A number that means the same a whole period later: two columns, (cos, sin).

    What is no finite number is missing and stands in the middle of the circle: no time, and as far from every other.
    """

    period: float
    """After how much it comes round again: 24 for hours, 7 for weekdays."""
    start: float = 0.0
    """Where people begin to count; times are shown from here to a period later."""
    names: tuple[str, ...] = ()
    """What people call the whole steps from `start` on: the weekdays. None if empty."""

    kind: ClassVar[str] = "cyclic"
    type: ClassVar[ColumnType] = ColumnType.NUMBER
    measures: ClassVar[int] = 2

    def __post_init__(self) -> None:
        Feature.__post_init__(self)
        if not (
            0 < self.period <= WHOLE_MAX and abs(self.start) <= WHOLE_MAX and self.start < self.start + self.period
        ):
            raise ValueError(
                f"feature {self.name}: the period must be positive, and neither it nor the start too large"
            )
        if self.names and len(self.names) != self.period:
            raise ValueError(f"feature {self.name}: there must be one name for each step of the period, or none")

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """The missing flag, if the plan wants one."""
        return self.flag()

    @property
    def foreseen(self) -> str:
        """The period, and where it starts."""
        return f"every {self.period:g} from {self.start:g}"

    @property
    def missing_text(self) -> str:
        """The middle of the circle."""
        return "no time"

    @property
    def radius(self) -> int:
        """Radius of the circle with the weight on it."""
        return self.scaled(CYCLE_RADIUS)

    def encode(self, cells: pa.Array) -> NDArray[np.int32]:
        """Each time as a point on the circle, rounded to integers.

        x becomes rint(radius * (cos a, sin a)) with a = 2 pi ((x - start) mod period) / period. Remainder, cosine and
        sine are the scalar ones of the C library, so that a time's integers are the same alone, in any chunk and at
        any position.

        >>> CyclicFeature("hour", 24).encode(pa.array([0.0, 6.0, 12.0, 30.0, None])).tolist()
        [[262143, 0], [0, 262143], [-262143, 0], [0, 262143], [0, 0]]
        """
        values: NDArray[np.float64] = cells.to_numpy(zero_copy_only=False)
        known = np.isfinite(values)
        points = np.zeros((len(values), 2))
        angles = _ANGLE(np.where(known, values, self.start), self.start, self.period)
        points[known, 0] = _COS(angles)[known].astype(np.float64)
        points[known, 1] = _SIN(angles)[known].astype(np.float64)
        return self.with_flag(cells, np.rint(points * self.radius).astype(np.int32))

    def time(self, angle: float) -> float:
        """The time at an angle in radians, from `start` to below `start + period`."""
        time = self.start + (angle / math.tau) % 1.0 * self.period
        return time if time < self.start + self.period else self.start

    def is_missing(self, cells: pa.Array) -> NDArray[np.bool_]:
        """No finite number."""
        missing: NDArray[np.bool_] = ~np.isfinite(cells.to_numpy(zero_copy_only=False))
        return missing

    def is_outside(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Times that nobody would write so: before `start`, or a whole period and more after it."""
        values = cells.to_numpy(zero_copy_only=False)
        before, after = values < self.start, values >= self.start + self.period
        outside: NDArray[np.bool_] = (before | after) & np.isfinite(values)
        return outside


def _angle(value: float, start: float, period: float) -> float:
    return math.tau * (math.fmod(value - start, period) / period)


# Not NumPy's own, for the reason given beside the logarithm in `features.py`.
_ANGLE: Callable[[NDArray[np.float64], float, float], NDArray[np.object_]] = np.frompyfunc(_angle, 3, 1)
_COS: Callable[[NDArray[np.object_]], NDArray[np.object_]] = np.frompyfunc(math.cos, 1, 1)
_SIN: Callable[[NDArray[np.object_]], NDArray[np.object_]] = np.frompyfunc(math.sin, 1, 1)
