"""From the last state to what is published: original units, noise intervals, suppression. Pure."""

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import State
from fedseg.clustering.bounds import Histograms, Learned, Part, learn_bounds
from fedseg.clustering.features import MISSING, NumericFeature, Transform
from fedseg.clustering.quality import Profiles, profiles
from fedseg.clustering.stability import STABLE, stability
from fedseg.plan import Plan
from fedseg.privacy.budget import fraction_text
from fedseg.segments.naming import name_segments
from fedseg.segments.segmentation import Findings, LearnedBounds, Other, Segment, Segmentation, Share
from fedseg.server.findings import findings
from fedseg.server.values import Columns, read_trait, read_value, rounded, split_columns

INTERVAL = NormalDist().inv_cdf(0.975)
"""Half width of a 95 % interval in standard deviations of the noise."""

OUTSIDE = "outside"
"""What the share of customers beyond learned bounds says."""


NOTHING_FOUND = Findings(choice=None, merges=(), alike=(), mixed=())
"""Of a plan that asks for no segments."""


def publish(plan: Plan, state: State, units: tuple[str, ...], *, noise: str) -> Segmentation:
    """What plan and final state determine: segments, the largest first and suppressed ones last; or bounds."""
    if state.histograms is not None:
        return _published(plan, units, noise, bounds=_bounds(plan, state.histograms))
    found, again = profiles(state, long_tails=_may_have_long_tails(plan)), stability(state)
    shown = found.counts >= max(plan.min_segment_size, 1)
    order = np.lexsort((np.arange(plan.k), -found.counts, ~shown))
    visible = [int(index) for index in order if shown[index]]
    parts = split_columns(plan.encoders, state.segments[visible].astype(np.float64))
    traits = [read_trait(feature, part) for feature, part in zip(plan.encoders, parts, strict=True)]
    names = name_segments(found.counts[visible], traits)
    segments = [
        _segment(plan, found, index, name=name, center=state.segments[index], stability=round(float(again[index]), 2))
        for index, name in zip(visible, names, strict=True)
    ]
    numbers = {index: number for number, index in enumerate(visible, 1) if found.seen[index]}
    hidden = [index for index in range(plan.k) if index not in visible]
    segments += [_suppressed(number) for number in range(1, len(hidden) + 1)]
    return _published(
        plan,
        units,
        noise,
        segments=tuple(segments),
        other=_other(plan, found, hidden),
        found=findings(state, numbers, least=plan.min_segment_size),
    )


def _published(
    plan: Plan,
    units: tuple[str, ...],
    noise: str,
    *,
    segments: tuple[Segment, ...] = (),
    bounds: tuple[LearnedBounds, ...] = (),
    other: Other | None = None,
    found: Findings = NOTHING_FOUND,
) -> Segmentation:
    """With all that it takes to check it."""
    return Segmentation(
        version=1,
        name=plan.name,
        plan_sha256=plan.digest,
        algorithm=f"fedseg-{plan.algorithm.name}-1",
        trust=plan.trust.value,
        epsilon=fraction_text(plan.budget.epsilon),
        delta=fraction_text(plan.budget.delta),
        rho=fraction_text(sum(plan.step_rhos, Fraction(0)) * plan.max_units_per_customer),
        rounds=plan.rounds,
        units=units,
        noise=noise,
        segments=segments,
        bounds=bounds,
        other=other,
        findings=found,
    )


def _bounds(plan: Plan, histograms: Histograms) -> tuple[LearnedBounds, ...]:
    numbers = [one for one in plan.encoders if isinstance(one, NumericFeature)]
    return tuple(_learned(one) for one in learn_bounds(numbers, histograms))


def _learned(one: Learned) -> LearnedBounds:
    lower, upper = one.bounds or (None, None)
    return LearnedBounds(
        feature=one.feature.name,
        label=one.feature.label,
        lower=lower,
        upper=upper,
        transform=one.transform.value,
        outside=_share(OUTSIDE, one.outside),
        missing=None if one.missing is None else _share(MISSING, one.missing),
        at_limit=one.at_limit,
    )


def _share(says: str, part: Part) -> Share:
    low, high = (min(1.0, max(0.0, part.share + sign * INTERVAL * part.sd)) for sign in (-1, 1))
    return Share(category=says, share=rounded(part.share), low=rounded(low), high=rounded(high))


def _segment(
    plan: Plan, found: Profiles, index: int, *, name: str, center: NDArray[np.int32], stability: float
) -> Segment:
    size, interval = _size(float(found.counts[index]), found.count_sd)
    measured = (found.means, INTERVAL * found.mean_sds, found.variances, INTERVAL * found.variance_sds)
    columns = zip(*(split_columns(plan.encoders, one[index]) for one in measured), strict=True)
    above_noise = bool(found.seen[index])
    return Segment(
        name=name,
        suppressed=False,
        size=size,
        size_interval=interval,
        above_noise=above_noise,
        clipped=bool(found.clipped[index]),
        stability=stability,
        stable=above_noise and stability >= STABLE,
        values=tuple(read_value(feature, Columns(*part)) for feature, part in zip(plan.encoders, columns, strict=True)),
        encoded_center=tuple(center.tolist()),
    )


def _may_have_long_tails(plan: Plan) -> bool:
    """Whether any feature is a number on its own scale; after a logarithm, and among categories, nobody is far out."""
    return any(isinstance(one, NumericFeature) and one.transform is Transform.IDENTITY for one in plan.encoders)


def _suppressed(number: int) -> Segment:
    return Segment(
        name=f"Suppressed ({number})",
        suppressed=True,
        size=None,
        size_interval=None,
        above_noise=False,
        clipped=False,
        stability=None,
        stable=False,
        values=(),
        encoded_center=(),
    )


def _other(plan: Plan, found: Profiles, hidden: Sequence[int]) -> Other | None:
    """The suppressed segments as one; even that may be too small to show."""
    if not hidden:
        return None
    count = math.fsum(found.counts[list(hidden)])
    size, interval = _size(count, math.sqrt(len(hidden)) * found.count_sd)
    shown = count >= max(plan.min_segment_size, 1)
    return Other(segments=len(hidden), size=size if shown else None, size_interval=interval if shown else None)


def _size(count: float, sd: float) -> tuple[int, tuple[int, int]]:
    """A noised size and its 95 % interval; nobody counts fewer than none."""
    half = INTERVAL * sd
    return max(0, round(count)), (max(0, round(count - half)), max(0, round(count + half)))
