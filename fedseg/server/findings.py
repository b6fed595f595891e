"""What the released segments say about themselves as a whole: how many there are, which are alike. Pure."""

from collections.abc import Mapping

import numpy as np

from fedseg.clustering import choose_k as choosing
from fedseg.clustering.algorithm import State
from fedseg.clustering.hierarchy import merge_tree
from fedseg.clustering.separation import alike, mixed
from fedseg.segments.segmentation import Alike, Candidate, Choice, Findings, Merge, Mixed
from fedseg.server.values import rounded


def findings(state: State, numbers: Mapping[int, int], *, least: int) -> Findings:
    """Judge the segments that are shown and stand above the noise.

    Args:
        state: After the last round.
        numbers: Of each of these segments, the number that people see; ascending.
        least: Fewest customers of a segment that may be shown.

    Raises:
        ValueError: If rounds are still open.
    """
    if state.outcome is None:
        raise ValueError("the last round is still open")
    which, shown = list(numbers), list(numbers.values())
    if not which:
        return Findings(choice=None, merges=(), alike=(), mixed=())
    estimate = state.outcome.estimate
    centers = np.rint(estimate.means[which]).astype(np.int32)
    sizes = np.maximum(estimate.customers[which], 1.0)
    merges = merge_tree(centers, sizes)
    return Findings(
        choice=_choice(choosing.choose_k(centers, sizes, estimate.variances[which])),
        merges=tuple(Merge(first=shown[one.left[0]], second=shown[one.right[0]]) for one in merges),
        alike=tuple(_alike(numbers[one.first], numbers[one.second], one.gap) for one in alike(state, which)),
        mixed=tuple(
            Mixed(segment=numbers[one.segment], gap=rounded(one.gap), share=rounded(one.share))
            for one in mixed(state, which, least=least)
        ),
    )


def _choice(found: choosing.Choice) -> Choice:
    candidates = tuple(
        Candidate(k=one.k, silhouette=rounded(one.silhouette), within=rounded(one.within)) for one in found.candidates
    )
    return Choice(candidates=candidates, silhouette=found.silhouette, elbow=found.elbow)


def _alike(one: int, other: int, gap: float) -> Alike:
    return Alike(first=min(one, other), second=max(one, other), gap=rounded(gap))
