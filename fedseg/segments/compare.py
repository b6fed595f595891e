"""Two results side by side: which segments are most alike, and in which numbers their ranges part. Pure.

Customers are in neither result, so nobody can say who went where. Alike is what is alike in its features. A range holds
for a segment as its run has cut it; that another run cuts otherwise, by its noise alone, is in no range. So a change
here is a reason to look, and no proof.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedseg.errors import DataError
from fedseg.segments.segmentation import CyclicValue, GroupValue, NumericValue, Segment, Segmentation, Value
from fedseg.segments.telling import moment, percent, rounded


@dataclass(frozen=True, slots=True)
class Change:
    """A number whose 95 % noise intervals in the two results do not meet."""

    what: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A segment, and the earlier one that it is most like, and that is most like it."""

    number: int
    """Its place among those that are shown, from 1."""
    name: str
    number_before: int
    name_before: str
    size: int
    size_before: int
    stable: bool
    """Whether both were found to be stable; else noise alone may have cut one of them otherwise."""
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What has become of the segments; each is called by its place among those that are shown, from 1."""

    pairs: tuple[Pair, ...]
    new: tuple[tuple[int, str], ...]
    """Segments that no earlier one is most like: number and name."""
    gone: tuple[tuple[int, str], ...]
    """Earlier segments that none is most like."""


def compare(before: Segmentation, now: Segmentation) -> Comparison:
    """Pair the shown segments of two results.

    Two are a pair if each is the other's nearest. The distance of a segment from an earlier one is the sum over the
    features of how far apart they are, as part of the largest such difference.

    Raises:
        DataError: If their segments do not have the same features.
    """
    old, new = ([one for one in result.segments if not one.suppressed] for result in (before, now))
    if len({_form(one) for one in (*old, *new)}) > 1:
        raise DataError(
            "the two results cannot be compared",
            why="their segments do not have the same features and categories",
            fix="compare results of plans with the same features",
        )
    apart = _distances(new, old)
    nearest = [row.index(min(row)) if row else -1 for row in apart]
    back = [column.index(min(column)) for column in zip(*apart, strict=True)]
    paired = [(one, other) for one, other in enumerate(nearest) if other >= 0 and back[other] == one]
    return Comparison(
        pairs=tuple(_pair(one, new[one], other, old[other]) for one, other in paired),
        new=_rest(new, {one for one, _ in paired}),
        gone=_rest(old, {other for _, other in paired}),
    )


def _pair(number: int, now: Segment, number_before: int, before: Segment) -> Pair:
    return Pair(
        number=number + 1,
        name=now.name,
        number_before=number_before + 1,
        name_before=before.name,
        size=now.size or 0,
        size_before=before.size or 0,
        stable=before.stable and now.stable,
        changes=tuple(_changes(before, now)),
    )


def _rest(segments: Sequence[Segment], paired: set[int]) -> tuple[tuple[int, str], ...]:
    return tuple((place + 1, one.name) for place, one in enumerate(segments) if place not in paired)


def _form(segment: Segment) -> tuple[object, ...]:
    """What has to be the same in both."""
    return tuple((one.feature, one.kind, tuple(share.category for share in one.shares)) for one in segment.values)


def _distances(new: Sequence[Segment], old: Sequence[Segment]) -> list[list[float]]:
    """The distance of each new segment, by rows, from each old one."""
    each = [[[_apart(*values) for values in zip(a.values, b.values, strict=True)] for b in old] for a in new]
    widest = [max(parts) for parts in zip(*(parts for row in each for parts in row), strict=True)]
    return [
        [sum(part / most for part, most in zip(parts, widest, strict=True) if most > 0) for parts in row]
        for row in each
    ]


def _apart(one: Value, other: Value) -> float:
    """How far apart two values of a feature are, in its own unit."""
    if isinstance(one, NumericValue) and isinstance(other, NumericValue):
        return abs(one.center - other.center)
    if isinstance(one, CyclicValue) and isinstance(other, CyclicValue):
        return _around(one, other)
    return sum(abs(a.share - b.share) for a, b in zip(one.shares, other.shares, strict=True)) / 2


def _around(one: CyclicValue, other: CyclicValue) -> float:
    """The shorter way round from one time to another."""
    way = abs(one.center - other.center) % one.period
    return min(way, one.period - way)


def _changes(before: Segment, now: Segment) -> Iterator[Change]:
    """Whatever has intervals that do not overlap."""
    if before.size_interval and now.size_interval and _parted(before.size_interval, now.size_interval):
        yield Change("customers", f"{before.size:,}", f"{now.size:,}")
    for old, new in zip(before.values, now.values, strict=True):
        yield from _changed(old, new)


def _changed(old: Value, new: Value) -> Iterator[Change]:
    if (
        isinstance(old, NumericValue)
        and isinstance(new, NumericValue)
        and _parted((old.low, old.high), (new.low, new.high))
    ):
        yield Change(new.label, rounded(old.center), rounded(new.center))
    if isinstance(old, CyclicValue) and isinstance(new, CyclicValue) and _around(old, new) > _reach(old) + _reach(new):
        yield Change(new.label, _moment(old), _moment(new))
    for one, other in zip(old.shares, new.shares, strict=True):
        if _parted((one.low, one.high), (other.low, other.high)):
            plain = isinstance(new, GroupValue) and new.kind == "binary" and other.category == "yes"
            what = new.label if plain else f"{new.label}: {other.category}"
            yield Change(what, percent(one.share), percent(other.share))


def _parted(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[1] < other[0] or other[1] < one[0]


def _reach(value: CyclicValue) -> float:
    """Half of the noise interval; the whole period if every time is possible."""
    return value.period if value.anytime else ((value.high - value.low) % value.period) / 2


def _moment(value: CyclicValue) -> str:
    return moment(value.center, period=value.period, start=value.start, names=value.names)
