"""What the released segments say about themselves, in sentences for people who use them. Pure text, no computing."""

from collections.abc import Iterable, Sequence

from fedseg.segments.segmentation import Alike, Choice, Findings, Merge, Mixed, Other, Segment, Spread
from fedseg.segments.telling import percent, rounded

APART = 0.7
"""A silhouette from here on says that segments stand apart; a single even cloud of customers, cut up, has up to 0.6."""


def on_number(choice: Choice | None) -> str:
    """How many segments there are, and how sure that is."""
    if choice is None:
        return "No segment stands above the noise, so nothing can be said about how many there are."
    here, clear, elbow = len(choice.candidates), choice.silhouette, choice.elbow
    if here <= 2:  # noqa: PLR2004 (nothing to compare)
        return f"This run found {_count(here)} above the noise: too few to say whether there are more."
    apart = choice.candidates[clear - 1].silhouette >= APART
    if clear == elbow:
        verdict = f"Both ways to count say {clear}: segments stand apart best then, and one more gains little."
    elif clear == here and apart:
        verdict = (
            f"All {here} of this run stand apart, so there may be more: run again with a larger k to see. "
            f"Judged by where one more stops paying there are {elbow}."
        )
    else:
        verdict = (
            f"The two ways to count do not agree: judged by how far they stand apart there are {clear}, "
            f"judged by where one more stops paying {elbow}. Look at both before you choose."
        )
    taste = "They run into each other, so the number is partly a matter of taste."
    return verdict if apart else f"{verdict} {taste}"


def on_stability(segment: Segment) -> str:
    """Whether a shown segment would be found again."""
    if not segment.above_noise:
        return "lost in the noise: whether it exists cannot be told"
    again = percent(segment.stability or 0.0)
    if segment.stable:
        return f"stable: with other noise {again} of it would be the same"
    return f"shaky: with other noise only {again} of it would be the same"


CLIPPED = "ranges may be too narrow, see below"
"""Of a segment whose values may lean towards the middle."""

ON_CLIPPING = (
    "Ranges that may be too narrow: the segment is wide for its size, so customers far out do not count in full, and "
    "numbers may lean towards the middle, beyond their ranges. Do not rely on small differences there. If a few very "
    "large values make it so, use log1p for that feature in the next plan."
)
"""What that means."""


ON_BOUNDS = (
    "Bounds reach over the range where customers stand above the noise, and as far beyond it as the thin tails that "
    "the noise hides may go; they are rounded outwards. Whoever is beyond them is clamped to them, not left out. The "
    "scale is a suggestion. Where nothing stood above the noise nothing is known of a feature; it need not be empty."
)
"""What learned bounds are worth."""

ON_COMPARISON = (
    "A number is listed where its ranges then and now do not meet. Each run draws the borders of its segments anew, "
    "and with other noise they fall otherwise; the ranges do not count that in. So believe a change that is large, of "
    "a segment that was stable both times. Nobody can say which customers went where: no list of them exists."
)
"""What a comparison of two results is worth."""


def on_spread(spread: Spread) -> str:
    """Between which numbers most customers of a segment lie; empty if the noise hides it."""
    return f"mostly {rounded(spread.typical_low)} to {rounded(spread.typical_high)}" if spread.low > 0 else ""


def on_alike(alike: Sequence[Alike]) -> list[str]:
    """Which segments may be one group, neighbour by neighbour."""
    groups: list[set[int]] = []
    for one in alike:
        touched = [group for group in groups if group & {one.first, one.second}]
        groups = [group for group in groups if group not in touched]
        groups.append(set().union({one.first, one.second}, *touched))
    return [_on_group(sorted(group), alike) for group in sorted(groups, key=min)]


def _on_group(group: Sequence[int], alike: Sequence[Alike]) -> str:
    gaps = [one.gap for one in alike if one.first in group]
    named = f"{', '.join(str(one) for one in group[:-1])} and {group[-1]}"
    apart = " to ".join(dict.fromkeys(f"{gap:.1f}" for gap in (min(gaps), max(gaps))))
    return (
        f"Segments {named} may be one group: there is no valley between neighbours ({apart} spreads apart; "
        "the two halves of a single group have up to 3.5)."
    )


def on_mixed(one: Mixed) -> str:
    """Which segment may be two."""
    return (
        f"Segment {one.segment} may hold two groups, of about {percent(1 - one.share)} and {percent(one.share)} of it "
        f"({one.gap:.1f} spreads apart): a larger k would part them."
    )


def on_other(other: Other, least: int | None = None) -> str:
    """What the suppressed segments are together.

    Args:
        other: The facts.
        least: The plan's minimum, if it is known here.
    """
    too_small = f"{_count(other.segments)} too small to show"
    if other.size is None or other.size_interval is None:
        return f"Other: {too_small}{'' if least is None else f', together fewer than {least:,} customers'}"
    low, high = other.size_interval
    return f"Other: {other.size:,} customers ({low:,} to {high:,}) in {too_small}"


def suggestions(findings: Findings) -> list[str]:
    """Which segments to merge or to part."""
    return [*on_alike(findings.alike), *(on_mixed(one) for one in findings.mixed)]


def fewer(merges: Sequence[Merge]) -> list[tuple[int, str]]:
    """What becomes of the segments with fewer of them: each number, down to 2, with its groups.

    >>> fewer([Merge(first=4, second=5), Merge(first=1, second=4), Merge(first=1, second=2)])
    [(3, '1, 2, 4+5'), (2, '1+4+5, 2')]
    """
    groups = {one: {one} for merge in merges for one in (merge.first, merge.second)}
    steps: list[tuple[int, str]] = []
    for merge in merges[:-1]:
        groups[merge.first] |= groups.pop(merge.second)
        steps.append((len(groups), _joined(groups[one] for one in sorted(groups))))
    return steps


def _joined(groups: Iterable[set[int]]) -> str:
    return ", ".join("+".join(str(one) for one in sorted(group)) for group in groups)


def _count(segments: int) -> str:
    return f"{segments} segment{'' if segments == 1 else 's'}"
