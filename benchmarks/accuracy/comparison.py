"""What the table says as a whole: geometric means, cells behind a peer, cells worse than they were."""

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.families import SHAPES
from benchmarks.accuracy.measurement import NON_PRIVATE, OURS, Row
from benchmarks.accuracy.trust import Trust
from fedseg.errors import SettingsError

TOLERANCE = 1.01
"""A cost ratio counts as worse than another when it is more than one per cent above it."""

_MADE_UP = {shape.name for shape in SHAPES}


@dataclass(frozen=True, slots=True)
class GeometricMean:
    """An algorithm over the made-up shapes."""

    trust: str
    units: int
    epsilon: float | None
    delta: float | None
    algorithm: str
    cost_ratio: float
    """Geometric mean of the shapes' medians."""
    shapes: int
    """How many of the thirteen were measured."""


@dataclass(frozen=True, slots=True)
class Worse:
    """A cell whose cost ratio is above another one by more than the tolerance."""

    data: str
    trust: str
    units: int
    epsilon: float | None
    delta: float | None
    algorithm: str
    cost_ratio: float
    than: str
    """The peer that is better, or the file that says it was."""
    cost_ratio_of_that: float
    worse_by: float
    """Quotient of the two, less one."""


def geometric_means(rows: Sequence[Row]) -> list[GeometricMean]:
    """One line for each trust model, number of units, budget and algorithm that has made-up shapes."""
    medians: dict[tuple[str, int, float | None, float | None, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.data in _MADE_UP:
            medians[row.trust, row.units, row.epsilon, row.delta, row.algorithm].append(row.cost_ratio_median)
    return [GeometricMean(*key, statistics.geometric_mean(found), len(found)) for key, found in medians.items()]


def behind_peers(rows: Sequence[Row]) -> list[Worse]:
    """Our cells whose best private peer is better by more than the tolerance.

    Peers of a cell are those under its trust model and units, and the central ones, which ask for more trust and have
    less noise.

    Raises:
        SettingsError: If no cell of ours has a peer beside it.
    """
    peers = [row for row in rows if row.algorithm not in {OURS, NON_PRIVATE}]
    pairs: list[tuple[Row, Row]] = []
    for ours in (row for row in rows if row.algorithm == OURS):
        beside = [peer for peer in peers if _is_beside(ours, peer)]
        if beside:
            pairs.append((ours, min(beside, key=lambda peer: peer.cost_ratio_median)))
    if not pairs:
        raise SettingsError(
            "there is nothing to check",
            why=f"no cell of {OURS} has a private peer of the same epsilon beside it",
            fix=f"--algorithms {OURS},dp-lloyd,clipped-lloyd,eugkm",
        )
    return [_worse(ours, peer, f"{peer.algorithm} ({peer.trust})") for ours, peer in pairs if _is_worse(ours, peer)]


def worse_than_before(rows: Sequence[Row], before: Sequence[Row], name: str) -> list[Worse]:
    """Cells of any algorithm whose cost ratio has grown by more than the tolerance.

    Raises:
        SettingsError: If no cell was measured both times.
    """
    earlier = {_key(row): row for row in before}
    pairs = [(row, earlier[_key(row)]) for row in rows if _key(row) in earlier]
    if not pairs:
        raise SettingsError(
            "there is nothing to compare", why=f"{name} holds none of these cells", fix="measure the cells it holds"
        )
    return [_worse(now, then, name) for now, then in pairs if _is_worse(now, then)]


def load(path: Path) -> list[Row]:
    """The rows of an earlier `--format json`.

    Raises:
        SettingsError: If the file is no such output.
    """
    try:
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{path} is no table of this benchmark",
            why=f"{type(error).__name__}: {error}",
            fix=f"python -m benchmarks.accuracy --format json > {path}",
        ) from error


def _key(row: Row) -> tuple[str, str, int, float | None, float | None, str]:
    return row.data, row.trust, row.units, row.epsilon, row.delta, row.algorithm


def _is_beside(ours: Row, peer: Row) -> bool:
    if (ours.data, ours.epsilon) != (peer.data, peer.epsilon):
        return False
    same = (ours.trust, ours.units, ours.delta) == (peer.trust, peer.units, peer.delta)
    return same or peer.trust == Trust.CENTRAL


def _is_worse(row: Row, other: Row) -> bool:
    return row.cost_ratio_median > TOLERANCE * other.cost_ratio_median


def _worse(row: Row, other: Row, than: str) -> Worse:
    ratio, other_ratio = row.cost_ratio_median, other.cost_ratio_median
    place = (row.data, row.trust, row.units, row.epsilon, row.delta, row.algorithm)
    return Worse(*place, ratio, than, other_ratio, ratio / other_ratio - 1)
