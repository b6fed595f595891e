"""Names for segments, made from released centers and the plan's words: "recent · mostly fibre · big-spending"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTABLE = 0.5
"""A number is worth a word if the center lies this many standard deviations of the centers from their mean."""

STRONG = 1.25
"""... and worth a "very" from here on."""

MOST = 0.5
"""A category is worth a word if at least this part of the segment is in it, ..."""

MORE_COMMON = 0.2
"""... and this much more of the segment than of all customers: "mostly fibre"."""

NEARLY_ALL = 0.9
"""... and loses its "mostly" from here on."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """A number: where each segment stands, and the plan's words for the two ends."""

    positions: NDArray[np.float64]
    """Released centers, shape (segments,), in encoded units."""
    low: str
    high: str


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Categories: which part of each segment is in which."""

    shares: NDArray[np.float64]
    """Shape (segments, categories), between 0 and 1."""
    words: tuple[str, ...]
    """One for each category; empty for one that no name speaks of."""


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Times that come round again: where each segment's lie."""

    vectors: NDArray[np.float64]
    """Mean directions, shape (segments, 2), within the unit circle."""
    words: tuple[str, ...]
    """What to call each segment's mean time: "around 14:30"."""


Trait = Scale | Parts | Times
"""What the segments are like in one feature."""


def name_segments(weights: NDArray[np.float64], traits: Sequence[Trait]) -> list[str]:
    """A distinct name for each segment, in plain words, from how it differs from the others.

    Args:
        weights: Released sizes, shape (segments,), at least 0.
        traits: One a feature, in the plan's order.
    """
    if len(weights) == 0:
        return []
    shares = np.maximum(weights, 1.0) / np.maximum(weights, 1.0).sum()
    said = [_said(trait, shares) for trait in traits]
    return _distinct([_name([words[index] for words in said]) for index in range(len(weights))])


def _said(trait: Trait, shares: NDArray[np.float64]) -> list[str]:
    """The words that a feature is worth for each segment; empty where none."""
    match trait:
        case Scale():
            return _of_scale(trait, shares)
        case Parts():
            return _of_parts(trait, shares)
        case Times():
            return _of_times(trait, shares)


def _of_scale(scale: Scale, shares: NDArray[np.float64]) -> list[str]:
    mean = shares @ scale.positions
    spread = float(np.sqrt(shares @ (scale.positions - mean) ** 2))
    scores = (scale.positions - mean) / (spread if spread > 0 else 1.0)
    words = [scale.low if score < 0 else scale.high for score in scores.tolist()]
    sizes = np.abs(scores).tolist()
    return [
        "" if size < NOTABLE else f"very {word}" if size >= STRONG else word
        for size, word in zip(sizes, words, strict=True)
    ]


def _of_parts(parts: Parts, shares: NDArray[np.float64]) -> list[str]:
    more = parts.shares - shares @ parts.shares
    said: list[str] = []
    for row, surplus in zip(parts.shares, more, strict=True):
        largest = int(np.argmax(row))
        word, part = parts.words[largest], float(row[largest])
        earned = word and part >= MOST and surplus[largest] >= MORE_COMMON
        said.append("" if not earned else word if part >= NEARLY_ALL else f"mostly {word}")
    return said


def _of_times(times: Times, shares: NDArray[np.float64]) -> list[str]:
    """A time is worth a word if the segment's are close together and lie elsewhere than those of all customers."""
    together = np.linalg.norm(times.vectors, axis=1) >= MOST
    elsewhere = np.linalg.norm(times.vectors - shares @ times.vectors, axis=1) >= MORE_COMMON
    return [word if earned else "" for word, earned in zip(times.words, (together & elsewhere).tolist(), strict=True)]


def _name(said: list[str]) -> str:
    name = " · ".join(word for word in said if word) or "typical"
    return name[0].upper() + name[1:]


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur more than once, largest segment first as the caller sorts them."""
    seen: dict[str, int] = {}
    distinct: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if names.count(name) == 1 else f"{name} ({seen[name]})")
    return distinct
