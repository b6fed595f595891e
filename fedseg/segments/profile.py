"""A segment's profile: every feature beside those of the other segments, as far as the noise lets tell. Pure.

From the published result alone: where a plan is at hand it only says on which scale a number is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedseg.segments.advice import on_spread
from fedseg.segments.segmentation import CyclicValue, GroupValue, NumericValue, Segment, Share, Value
from fedseg.segments.telling import moment, percent, rounded

CATEGORIES_MAX = 4
"""Most categories of a feature that have a line; the result has all."""

_CLOSE = 0.5
"""Times whose concentration is above this lie close together."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a profile chart: a feature, or one category of it."""

    label: str
    """The feature's."""
    category: str
    """Empty if the line is about the feature as a whole."""
    value: str
    between: str
    """The 95 % noise interval in words."""
    standing: str
    """How the segment compares with the others; empty if there is no order."""
    notable: bool
    """Whether it stands out from all others by more than the noise."""
    note: str
    """What else is known; may be empty."""
    ends: tuple[str, str]
    """What the two ends of the drawn range are."""
    center: float
    """Where the value stands on it, from 0 to 1."""
    pieces: tuple[tuple[float, float], ...]
    """Where the interval lies; two pieces if it passes the end of a period."""
    others: tuple[float, ...]
    """Where the other segments stand."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A number with its 95 % noise interval."""

    center: float
    low: float
    high: float


def profile(segment: Segment, shown: Sequence[Segment], scales: Mapping[str, str]) -> list[Line]:
    """The lines of a segment's profile chart, in the plan's order.

    Args:
        segment: One of `shown`.
        shown: All segments that are not suppressed, with the same features.
        scales: "log1p" or "asinh" by feature; of all others the scale is even.
    """
    lines: list[Line] = []
    for place, value in enumerate(segment.values):
        beside = [one.values[place] for one in shown if one is not segment]
        lines += _lines(value, beside, scales.get(value.feature, "identity"))
    return lines


def _lines(value: Value, beside: Sequence[Value], scale: str) -> list[Line]:
    match value:
        case NumericValue():
            return [_number(value, [one for one in beside if isinstance(one, NumericValue)], scale)]
        case CyclicValue():
            return [_time(value, [one for one in beside if isinstance(one, CyclicValue)])]
        case GroupValue(kind="binary"):
            return [_share(value, 0, beside)]
        case GroupValue():
            largest = sorted(range(len(value.shares)), key=lambda place: -value.shares[place].share)[:CATEGORIES_MAX]
            return [_share(value, place, beside) for place in sorted(largest)]


def _number(value: NumericValue, beside: Sequence[NumericValue], scale: str) -> Line:
    low, high = min(one.low for one in (value, *beside)), max(one.high for one in (value, *beside))
    standing, notable = _standing(
        _Reading(value.center, value.low, value.high), [_Reading(one.center, one.low, one.high) for one in beside]
    )
    mostly = on_spread(value.spread)
    return Line(
        label=value.label,
        category="",
        value=rounded(value.center),
        between=f"{rounded(value.low)} to {rounded(value.high)}",
        standing=standing,
        notable=notable,
        note="; ".join([*([f"its customers {mostly}"] if mostly else []), *_without(value.shares)]),
        ends=(rounded(low), rounded(high)),
        center=_position(value.center, low, high, scale),
        pieces=((_position(value.low, low, high, scale), _position(value.high, low, high, scale)),),
        others=tuple(_position(one.center, low, high, scale) for one in beside),
    )


def _share(value: GroupValue, place: int, beside: Sequence[Value]) -> Line:
    share, others = value.shares[place], [one.shares[place] for one in beside]
    standing, notable = _standing(
        _Reading(share.share, share.low, share.high), [_Reading(one.share, one.low, one.high) for one in others]
    )
    yes = value.kind == "binary"
    return Line(
        label=value.label,
        category="" if yes else share.category,
        value=percent(share.share),
        between=f"{percent(share.low)} to {percent(share.high)}",
        standing=standing,
        notable=notable,
        note="; ".join(_without(value.shares[1:])) if yes else "",
        ends=("0 %", "100 %"),
        center=_position(share.share, 0.0, 1.0),
        pieces=((_position(share.low, 0.0, 1.0), _position(share.high, 0.0, 1.0)),),
        others=tuple(_position(one.share, 0.0, 1.0) for one in others),
    )


def _time(value: CyclicValue, beside: Sequence[CyclicValue]) -> Line:
    low, high = value.start, value.start + value.period
    first, last = _position(value.low, low, high), _position(value.high, low, high)
    said = "" if value.anytime else _close(value)
    return Line(
        label=value.label,
        category="",
        value="any time" if value.anytime else f"around {_moment(value, value.center)}",
        between="any time" if value.anytime else f"{_moment(value, value.low)} to {_moment(value, value.high)}",
        standing="",
        notable=False,
        note="; ".join([*([said] if said else []), *_without(value.shares)]),
        ends=(_moment(value, low), _moment(value, high)),
        center=_position(value.center, low, high),
        pieces=((first, last),) if first <= last else ((first, 1.0), (0.0, last)),
        others=tuple(_position(one.center, low, high) for one in beside if not one.anytime),
    )


def _standing(own: _Reading, beside: Sequence[_Reading]) -> tuple[str, bool]:
    """How a value compares with the others', and whether it stands out: intervals that overlap are not told apart."""
    if not beside:
        return "", False
    segments = len(beside) + 1
    first = 1 + sum(one.low > own.high for one in beside)
    last = segments - sum(one.high < own.low for one in beside)
    if first == last:
        place = {1: "highest", segments: "lowest"}.get(first)
        return (f"{place} of {segments}", True) if place else (f"number {first} of {segments} from the top", False)
    if (first, last) == (1, segments):
        return "not told apart from the others", False
    if first == 1:
        return f"among the highest {last} of {segments}", False
    if last == segments:
        return f"among the lowest {segments - first + 1} of {segments}", False
    return f"in the middle: number {first} to {last} of {segments} from the top", False


def _position(value: float, low: float, high: float, scale: str = "identity") -> float:
    """Where a value stands between two others on its scale, from 0 to 1.

    >>> _position(9.0, 0.0, 99.0, "log1p"), _position(200.0, 0.0, 100.0)
    (0.5, 1.0)
    """
    start, here, end = (_scaled(one, scale) for one in (low, value, high))
    return min(1.0, max(0.0, (here - start) / (end - start))) if end > start else 0.5


def _scaled(value: float, scale: str) -> float:
    if scale == "log1p":
        return math.log1p(max(value, 0.0))
    return math.asinh(value) if scale == "asinh" else value


def _without(shares: Sequence[Share]) -> list[str]:
    return [f"without a value {percent(one.share)}" for one in shares if one.category == "missing"]


def _close(value: CyclicValue) -> str:
    if value.concentration_low >= _CLOSE:
        return "close together"
    return "spread widely" if value.concentration_high < _CLOSE else ""


def _moment(value: CyclicValue, time: float) -> str:
    return moment(time, period=value.period, start=value.start, names=value.names)
