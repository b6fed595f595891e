"""What figures and cards show of a feature: its public axis, and on it a value with its noise interval. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from fedseg.report.model import (
    CyclicFact,
    FeatureFact,
    GroupValueFact,
    NumberValueFact,
    NumericFact,
    SegmentFact,
    ShareFact,
    TimeValueFact,
    ValueFact,
)
from fedseg.report.scales import Axis, number
from fedseg.segments.telling import moment, percent

GROUPS_MAX = 4
"""Most categories of a feature that have their own place in figures and cards; report.json has all."""

_NAME_CHARACTERS = 9
"""Longer names of times are shortened: there are several on an axis."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value on its feature's axis, with its 95 % noise interval."""

    center: float
    low: float
    high: float
    """Below `low` if the interval passes the end of a period."""
    rank_from: int
    """Places among the segments as in `ShareFact`; 0 where there is no order."""
    rank_to: int


def axis_of(terms: FeatureFact) -> Axis:
    """The public range of a feature; of categories that of a share."""
    match terms:
        case NumericFact():
            return Axis(terms.lower, terms.upper, number, terms.scale)
        case CyclicFact():
            return Axis(terms.start, terms.start + terms.period, partial(_moment, terms), marks=_quarters(terms))
        case _:
            return Axis(0.0, 1.0, percent)


def reading_of(value: ValueFact) -> Reading:
    """What stands on the axis: a number, a time, or the first share."""
    match value:
        case NumberValueFact():
            return Reading(value.center, value.low, value.high, value.rank_from, value.rank_to)
        case TimeValueFact():
            return Reading(value.center, value.low, value.high, 0, 0)
        case GroupValueFact():
            return share_reading(value.shares[0])


def share_reading(share: ShareFact) -> Reading:
    """A share on the axis from 0 to 1."""
    return Reading(share.center, share.low, share.high, share.rank_from, share.rank_to)


def pieces(reading: Reading, axis: Axis) -> list[tuple[float, float]]:
    """The interval as one piece of the axis, or two if it passes the end of a period."""
    if reading.low <= reading.high:
        return [(reading.low, reading.high)]
    return [(reading.low, axis.high), (axis.low, reading.high)]


def leading(segments: Sequence[SegmentFact], place: int) -> list[int]:
    """Indices of the categories with the most customers over all segments, in the plan's order; at most GROUPS_MAX."""
    sizes: dict[int, float] = {}
    for segment in segments:
        for index, share in enumerate(segment.values[place].shares):
            sizes[index] = sizes.get(index, 0.0) + share.center * max(1, segment.size)
    return sorted(sorted(sizes, key=lambda index: -sizes[index])[:GROUPS_MAX])


def _moment(terms: CyclicFact, time: float) -> str:
    text = moment(time, period=terms.period, start=terms.start, names=terms.names)
    return text if len(text) <= _NAME_CHARACTERS else f"{text[: _NAME_CHARACTERS - 1]}."


def _quarters(terms: CyclicFact) -> tuple[float, ...]:
    """Four places at equal distances, on whole steps if those have names."""
    step = math.ceil(terms.period / 4) if terms.names else terms.period / 4
    return tuple(terms.start + step * place for place in range(4) if step * place < terms.period)
