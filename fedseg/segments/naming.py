"""Names for segments, made from released centers and the plan's words: "recent · frequent · big-spending"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTABLE = 0.5
"""A feature is worth a word if the center lies this many standard deviations of the centers from their mean."""

STRONG = 1.25
"""... and worth a "very" from here on."""


@dataclass(frozen=True, slots=True)
class Words:
    """The plan's words for one feature."""

    low: str
    high: str


def name_segments(centers: NDArray[np.float64], weights: NDArray[np.float64], words: Sequence[Words]) -> list[str]:
    """A distinct name for each center, in plain words, from how it differs from the others.

    Args:
        centers: Released centers, shape (segments, features), in encoded units.
        weights: Released sizes, shape (segments,), at least 0.
        words: The plan's words, one pair a feature.
    """
    if len(centers) == 0:
        return []
    shares = np.maximum(weights, 1.0) / np.maximum(weights, 1.0).sum()
    mean = shares @ centers
    spread = np.sqrt(shares @ (centers - mean) ** 2)
    scores = (centers - mean) / np.where(spread > 0, spread, 1.0)
    return _distinct([_name(row, words) for row in scores])


def _name(scores: NDArray[np.float64], words: Sequence[Words]) -> str:
    said: list[str] = []
    for score, pair in zip(scores.tolist(), words, strict=True):
        if abs(score) >= NOTABLE:
            word = pair.low if score < 0 else pair.high
            said.append(f"very {word}" if abs(score) >= STRONG else word)
    name = " · ".join(said) or "typical"
    return name[0].upper() + name[1:]


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur more than once, largest segment first as the caller sorts them."""
    seen: dict[str, int] = {}
    distinct: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if names.count(name) == 1 else f"{name} ({seen[name]})")
    return distinct
