"""From the last state to the published segmentation: original units, noise intervals, suppression. Pure."""

from fractions import Fraction
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import State
from fedseg.clustering.quality import Profiles, profiles
from fedseg.plan import Plan
from fedseg.privacy.budget import fraction_text
from fedseg.segments.naming import name_segments
from fedseg.segments.segmentation import Segment, Segmentation
from fedseg.server.values import read_trait, read_value, split_columns

INTERVAL = NormalDist().inv_cdf(0.975)
"""Half width of a 95 % interval in standard deviations of the noise."""


def publish(plan: Plan, state: State, units: tuple[str, ...], *, noise: str) -> Segmentation:
    """The segmentation that plan and final state determine; largest segment first, suppressed ones last."""
    found = profiles(state)
    shown = found.counts >= max(plan.min_segment_size, 1)
    order = np.lexsort((np.arange(plan.k), -found.counts, ~shown))
    visible = [int(index) for index in order if shown[index]]
    parts = split_columns(plan.encoders, state.segments[visible].astype(np.float64))
    traits = [read_trait(feature, part) for feature, part in zip(plan.encoders, parts, strict=True)]
    names = name_segments(found.counts[visible], traits)
    segments = [_segment(plan, found, state.segments[index], index, name) for index, name in zip(visible, names, strict=True)]
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
        algorithm="fedseg-cells-1",
        trust=plan.trust.value,
        epsilon=fraction_text(plan.budget.epsilon),
        delta=fraction_text(plan.budget.delta),
        rho=fraction_text(sum(plan.step_rhos, Fraction(0)) * plan.max_units_per_customer),
        rounds=plan.rounds,
        units=units,
        noise=noise,
        segments=tuple(segments),
    )


def _segment(plan: Plan, found: Profiles, center: NDArray[np.int32], index: int, name: str) -> Segment:
    half = INTERVAL * found.count_sd
    count = float(found.counts[index])
    reach = INTERVAL * found.mean_sds[index]
    parts = zip(split_columns(plan.encoders, found.means[index]), split_columns(plan.encoders, reach), strict=True)
    values = tuple(read_value(feature, *part) for feature, part in zip(plan.encoders, parts, strict=True))
    return Segment(
        name=name,
        suppressed=False,
        size=max(0, round(count)),
        size_interval=(max(0, round(count - half)), max(0, round(count + half))),
        values=values,
        encoded_center=tuple(center.tolist()),
    )
