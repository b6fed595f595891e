"""The table as a picture for the README: cost over the best non-private cost against epsilon, one line per algorithm.

    python -m benchmarks.accuracy.plot TABLE.json [TABLE.json ...] [--units 10] [--out docs/images/accuracy.svg]

Lines are told apart by marker and by their name beside them, never by color alone.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.accuracy.comparison import GeometricMean, geometric_means, load
from benchmarks.accuracy.trust import Trust

WIDTH, HEIGHT, PIXELS_PER_INCH = 700, 340, 96

INK, SOFT, RULE = "#1d2733", "#5b6775", "#d9dfe5"

LEAST, MOST = 1.001, 20.0
"""Ends of the axis of ratios; its scale is that of the logarithm of what is above 1."""

TICKS = (1.001, 1.01, 1.1, 2.0, 11.0)

NAME_GAP = 0.068
"""Least distance of two names beside their lines, as a part of the panel's height."""


@dataclass(frozen=True, slots=True)
class Look:
    """How an algorithm is drawn: a color of Okabe and Ito's palette, and a marker."""

    name: str
    color: str
    marker: str
    width: float = 1.3


LOOKS = {
    "fedseg": Look("fedseg", "#0072b2", "o", width=2.6),
    "clipped-lloyd": Look("clipped Lloyd", "#d55e00", "s"),
    "dp-lloyd": Look("DP-Lloyd", "#009e73", "^"),
    "eugkm": Look("EUGkM", "#b0619a", "D"),
    "diffprivlib": Look("diffprivlib*", "#8a6d00", "v"),
}


def main() -> None:
    """Read tables and write the picture."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "tables", type=Path, nargs="+", help="what python -m benchmarks.accuracy --format json printed"
    )
    options.add_argument("--units", type=int, default=10, help="of the panel with noise at every unit")
    options.add_argument("--out", type=Path, default=Path("docs/images/accuracy.svg"))
    chosen = options.parse_args()
    lines = geometric_means([row for table in chosen.tables for row in load(table)])
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    draw(lines, chosen.units, chosen.out)


def draw(lines: Sequence[GeometricMean], units: int, out: Path) -> None:
    """Two panels: one noise on the sum of all units, and noise at each of so many. Same table, same bytes."""
    with rc_context(
        {
            "font.family": "sans-serif",
            "font.size": 9,
            "svg.fonttype": "path",  # an image in a page has no fonts to rely on
            "svg.hashsalt": "fedseg",
            "text.color": INK,
            "axes.edgecolor": SOFT,
            "xtick.color": SOFT,
            "ytick.color": SOFT,
        }
    ):
        figure = Figure(figsize=(WIDTH / PIXELS_PER_INCH, HEIGHT / PIXELS_PER_INCH), facecolor="white")
        panels = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.062, right=0.868, top=0.8, bottom=0.19, wspace=0.36)
        _panel(panels[0], lines, Trust.SECURE_AGGREGATION, None)
        _panel(panels[1], lines, Trust.UNIT_NOISE, units)
        panels[0].set_title(
            "one noise on the sum of all units\n(secure aggregation, simulated)", fontsize=9, loc="left"
        )
        panels[1].set_title(f"noise at each of {units} units\n(nobody else is trusted)", fontsize=9, loc="left")
        title = "k-means cost over the best non-private cost: lower is better"
        figure.text(0.01, 0.985, title, fontsize=10.5, weight="bold", va="top")
        note = "epsilon per customer; geometric mean over made-up data.  * central: has all rows, adds one noise"
        figure.text(0.01, 0.02, note, color=SOFT)
        figure.savefig(out, format="svg", metadata={"Title": title, "Date": None})


def _panel(axes: Axes, lines: Sequence[GeometricMean], trust: Trust, units: int | None) -> None:
    axes.set(xscale="log", yscale="log", ylim=(LEAST - 1, MOST - 1), xlim=(0.23, 4.4))
    axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(["¼", "½", "1", "2", "4"])
    axes.yaxis.set_major_locator(FixedLocator([tick - 1 for tick in TICKS]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{tick:g}" for tick in TICKS])
    axes.tick_params(labelleft=units is None, length=0)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    ends: dict[str, float] = {}
    for algorithm, look in LOOKS.items():
        points = sorted(
            (line.epsilon, line.cost_ratio - 1)
            for line in lines
            if line.algorithm == algorithm and line.epsilon is not None and _is_in(line, trust, units)
        )
        if points:
            heights = [max(height, LEAST - 1) for _, height in points]
            axes.plot(
                [epsilon for epsilon, _ in points],
                heights,
                color=look.color,
                marker=look.marker,
                markersize=4.5,
                linewidth=look.width,
                linestyle="--" if algorithm == "diffprivlib" else "-",
                clip_on=False,
            )
            ends[algorithm] = heights[-1]
    _name(axes, ends)


def _is_in(line: GeometricMean, trust: Trust, units: int | None) -> bool:
    return line.trust == Trust.CENTRAL or (line.trust == trust and units in (None, line.units))


def _name(axes: Axes, ends: dict[str, float]) -> None:
    """Each line's name beside its right end, moved up where it would lie on another."""
    lowest = -NAME_GAP
    for algorithm in sorted(ends, key=ends.__getitem__):
        in_pixels = axes.transData.transform((4, ends[algorithm]))
        place = max(float(axes.transAxes.inverted().transform(in_pixels)[1]), lowest + NAME_GAP)
        look = LOOKS[algorithm]
        weight = "bold" if algorithm == "fedseg" else "normal"
        axes.text(1.03, place, look.name, color=look.color, weight=weight, va="center", transform=axes.transAxes)
        lowest = place


if __name__ == "__main__":
    main()
