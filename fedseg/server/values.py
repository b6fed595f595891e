"""From a segment's encoded center to what people read of it, feature by feature: numbers, shares, times. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.categories import BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.features import FEATURE_MAX, Feature, Indicator, NumericFeature
from fedseg.segments.naming import Parts, Scale, Times, Trait
from fedseg.segments.segmentation import CyclicValue, GroupValue, NumericValue, Share, Spread, Value
from fedseg.segments.telling import moment


def split_columns(features: Sequence[Feature], columns: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The last axis of `columns`, shape (..., dimensions), cut into each feature's part, shape (..., width)."""
    return np.split(columns, np.cumsum([feature.width for feature in features])[:-1], axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What was measured of a segment in some encoded columns; arrays over columns, in encoded units."""

    center: NDArray[np.float64]
    """Means."""
    reach: NDArray[np.float64]
    """How far the noise may have moved each of them; infinite where nothing is known."""
    variance: NDArray[np.float64]
    """Within the segment; may be below 0."""
    variance_reach: NDArray[np.float64]
    """How far the noise may have moved each of them."""


def read_value(feature: Feature, found: Columns) -> Value:
    """What a segment's columns say of their feature."""
    center, reach = found.center, found.reach
    shares = tuple(
        _share(indicator, float(position), float(move))
        for indicator, position, move in zip(
            feature.indicators, center[feature.measures :], reach[feature.measures :], strict=True
        )
    )
    match feature:
        case NumericFeature():
            return _number(feature, found, shares)
        case CyclicFeature():
            return _time(feature, center[:2], reach[:2], shares)
        case BinaryFeature():
            return GroupValue(kind="binary", feature=feature.name, label=feature.label, shares=shares)
        case RegionFeature():
            return GroupValue(kind="region", feature=feature.name, label=feature.label, shares=shares)
        case CategoricalFeature():
            return GroupValue(kind="categorical", feature=feature.name, label=feature.label, shares=shares)
        case _:
            raise TypeError(f"nothing is known of features of kind {feature.kind}")


def read_trait(feature: Feature, centers: NDArray[np.float64]) -> Trait:
    """What all centers say of one feature, for their names.

    Args:
        feature: The feature.
        centers: Its columns of the centers, shape (segments, width), in encoded units.
    """
    match feature:
        case NumericFeature():
            return Scale(centers[:, 0], feature.low_word, feature.high_word)
        case CyclicFeature():
            return Times(
                centers[:, :2] / feature.radius, tuple(_around(feature, *one) for one in centers[:, :2].tolist())
            )
        case BinaryFeature():
            yes = _shares(feature, centers)[:, 0]
            return Parts(np.column_stack((yes, 1 - yes)), (feature.yes_word, feature.no_word))
        case CategoricalFeature():
            unnamed = [""] * (len(feature.indicators) - len(feature.vocabulary))
            return Parts(_shares(feature, centers), (*_words(feature), *unnamed))
        case _:
            raise TypeError(f"nothing is known of features of kind {feature.kind}")


def rounded(value: float) -> float:
    """Six significant digits: more would only show noise."""
    return float(f"{value:.6g}")


def _number(feature: NumericFeature, found: Columns, shares: tuple[Share, ...]) -> NumericValue:
    position, reach = float(found.center[0]), float(found.reach[0])
    return NumericValue(
        kind="numeric",
        feature=feature.name,
        label=feature.label,
        shares=shares,
        center=rounded(feature.decode(position)),
        low=rounded(feature.decode(position - reach)),
        high=rounded(feature.decode(position + reach)),
        spread=_spread(feature, position, float(found.variance[0]), float(found.variance_reach[0])),
    )


def _spread(feature: NumericFeature, position: float, variance: float, reach: float) -> Spread:
    """Standard deviation with its interval; no number between two bounds has one above half their distance."""
    most = float(feature.scaled(FEATURE_MAX))
    sd, low, high = (min(math.sqrt(max(one, 0.0)), most) for one in (variance, variance - reach, variance + reach))
    return Spread(
        sd=rounded(feature.distance(sd)),
        low=rounded(feature.distance(low)),
        high=rounded(feature.distance(high)),
        typical_low=rounded(feature.decode(position - sd)),
        typical_high=rounded(feature.decode(position + sd)),
    )


def _share(indicator: Indicator, position: float, reach: float) -> Share:
    return Share(
        category=indicator.says,
        share=rounded(indicator.share(position)),
        low=rounded(indicator.share(position - reach)),
        high=rounded(indicator.share(position + reach)),
    )


def _around(feature: CyclicFeature, cosine: float, sine: float) -> str:
    time = feature.time(math.atan2(sine, cosine))
    return f"around {moment(time, period=feature.period, start=feature.start, names=feature.names)}"


def _words(feature: CategoricalFeature) -> tuple[str, ...]:
    """What names say of each category; a code says nothing without its label."""
    if feature.words or not isinstance(feature, RegionFeature):
        return feature.words or feature.vocabulary
    return tuple(f"{feature.label} {code}" for code in feature.vocabulary)


def _shares(feature: Feature, centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (segments, indicators)."""
    columns = centers[:, feature.measures :]
    off = np.array([indicator.off for indicator in feature.indicators])
    on = np.array([indicator.on for indicator in feature.indicators])
    shares: NDArray[np.float64] = np.clip((columns - off) / (on - off), 0.0, 1.0)
    return shares


def _time(
    feature: CyclicFeature, center: NDArray[np.float64], reach: NDArray[np.float64], shares: tuple[Share, ...]
) -> CyclicValue:
    """Direction and length of the mean point, with intervals.

    A direction u is within the interval if the mean's part across u is within the noise's reach: for the true direction
    that part is noise alone. So the angle from the mean's own direction is at most asin(reach / length), and any
    direction will do if the length is within the reach (Fieller's interval for a ratio of means).
    """
    cosine, sine = center.tolist()
    length, angle = math.hypot(cosine, sine), math.atan2(sine, cosine)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([math.sin(angle), math.cos(angle)])
    known = bool(np.isfinite(reach).all())
    sideways = float(np.linalg.norm(reach * across)) if known else math.inf
    forwards = float(np.linalg.norm(reach * along)) if known else math.inf
    half = math.asin(sideways / length) if sideways < length else None
    end = feature.start + feature.period

    def shown(turn: float) -> float:
        time = rounded(feature.time(turn))
        return time if feature.start <= time < end else feature.start

    return CyclicValue(
        kind="cyclic",
        feature=feature.name,
        label=feature.label,
        shares=shares,
        center=shown(angle),
        low=feature.start if half is None else shown(angle - half),
        high=end if half is None else shown(angle + half),
        concentration=rounded(min(1.0, length / feature.radius)),
        concentration_low=rounded(min(1.0, max(0.0, (length - forwards) / feature.radius))),
        concentration_high=rounded(min(1.0, (length + forwards) / feature.radius)),
        period=feature.period,
        start=feature.start,
        names=feature.names,
    )
