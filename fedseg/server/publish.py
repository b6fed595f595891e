"""From the last state to the published segmentation: original units, noise intervals, suppression. Pure."""

from fractions import Fraction
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import State
from fedseg.plan import Plan
from fedseg.privacy.budget import fraction_text
from fedseg.segments.naming import Words, name_segments
from fedseg.segments.segmentation import Segment, Segmentation, Value

INTERVAL = NormalDist().inv_cdf(0.975)
"""Half width of a 95 % interval in standard deviations of the noise."""


def publish(plan: Plan, state: State, units: tuple[str, ...], *, noise: str) -> Segmentation:
    """The segmentation that plan and final state determine; largest segment first, suppressed ones last."""
    shown = state.counts >= max(plan.min_segment_size, 1)
    order = np.lexsort((np.arange(plan.k), -state.counts, ~shown))
    visible = [int(index) for index in order if shown[index]]
    words = [Words(feature.low_word, feature.high_word) for feature in plan.features]
    names = name_segments(state.centers[visible], state.counts[visible], words)
    segments = [_segment(plan, state, index, name) for index, name in zip(visible, names, strict=True)]
    segments += [
        Segment(
            name=f"Suppressed ({number})", suppressed=True, size=None, size_interval=None, values=(), encoded_center=()
        )
        for number in range(1, plan.k - len(visible) + 1)
    ]
    return Segmentation(
        version=1,
        name=plan.name,
        plan_sha256=plan.digest,
        algorithm="fedseg-lloyd-1",
        trust=plan.trust.value,
        epsilon=fraction_text(plan.budget.epsilon),
        delta=fraction_text(plan.budget.delta),
        rho=fraction_text(sum(plan.step_rhos, Fraction(0)) * plan.max_units_per_customer),
        rounds=plan.rounds,
        units=units,
        noise=noise,
        segments=tuple(segments),
    )


def _segment(plan: Plan, state: State, index: int, name: str) -> Segment:
    half = INTERVAL * state.count_sd
    count = float(state.counts[index])
    center: NDArray[np.float64] = state.centers[index]
    reach = INTERVAL * float(state.center_sds[index])
    values = tuple(
        Value(
            feature=feature.name,
            label=feature.label,
            center=_rounded(feature.decode(position)),
            low=_rounded(feature.decode(position - reach)),
            high=_rounded(feature.decode(position + reach)),
        )
        for feature, position in zip(plan.encoders, center.tolist(), strict=True)
    )
    return Segment(
        name=name,
        suppressed=False,
        size=max(0, round(count)),
        size_interval=(max(0, round(count - half)), max(0, round(count + half))),
        values=values,
        encoded_center=tuple(int(one) for one in np.rint(center)),
    )


def _rounded(value: float) -> float:
    """Six significant digits: more would only show noise."""
    return float(f"{value:.6g}")
