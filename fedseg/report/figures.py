"""The report's figures as SVG text: sizes of the segments, and one small panel a feature. Facts in, text out.

Segments are told apart by place and number, never by color alone, so the figures work for color-blind readers and in
grey. Every figure is FIGURE_WIDTH wide: that fits a telephone, and nothing ever has to shrink. Same facts, same bytes.
"""

import io
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from xml.etree import ElementTree as ET

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from fedseg.report.model import FeatureFact, SegmentFact
from fedseg.report.scales import number, position, ticks, whole

FIGURE_WIDTH = 340
"""In CSS pixels."""

INK, SOFT, RULE, MARK = "#1d2733", "#5b6775", "#d9dfe5", "#1f5f99"
_POINTS_PER_INCH = 72
_FONT = 11.5
_NAME_CHARACTERS = 48
_ROW, _SIZE_ROW = 22, 42
_HEAD, _FOOT = 6, 26
_LEFT, _RIGHT = 30, 16
_TICK_GAP = 54 / (FIGURE_WIDTH - _LEFT - _RIGHT)


def sizes(segments: Sequence[SegmentFact]) -> str:
    """All sizes from zero, with their 95 % noise intervals."""
    top = max([one.size_high for one in segments] + [1])
    description = "; ".join(
        f"segment {one.number}, {one.name}: {whole(one.size)}, between {whole(one.size_low)} and {whole(one.size_high)}"
        for one in segments
    )
    with _style():
        figure, axes = _panel(_SIZE_ROW * len(segments), len(segments))
        for row, one in enumerate(segments):
            axes.barh(row + 0.2, one.size / top, height=0.3, color=MARK, alpha=0.38, linewidth=0)
            _interval(axes, row + 0.2, one.size / top, (one.size_low / top, one.size_high / top))
            _text(axes, 0, row - 0.18, _shortened(one.name), INK)
        _axis(axes, 0.0, float(top), "identity")
        _numbers(axes, segments)
        return _svg(figure, "sizes", "Customers per segment", description)


def feature(place: int, terms: FeatureFact, segments: Sequence[SegmentFact]) -> str:
    """One feature of all segments on one axis in original units; the axis covers what the segments' intervals cover.

    Args:
        place: Index of the feature in the plan: which of each segment's values to show.
        terms: The feature.
        segments: At least one.
    """
    values = [one.values[place] for one in segments]
    low, high = min(value.low for value in values), max(value.high for value in values)
    description = "; ".join(
        f"segment {one.number}: {number(value.center)}, between {number(value.low)} and {number(value.high)}"
        for one, value in zip(segments, values, strict=True)
    )
    with _style():
        figure, axes = _panel(_ROW * len(segments), len(segments), margin=0.03)
        for row, value in enumerate(values):
            ends = tuple(position(one, low, high, terms.scale) for one in (value.center, value.low, value.high))
            axes.axhline(row, color=RULE, linewidth=0.8, zorder=0)
            _interval(axes, row, ends[0], (ends[1], ends[2]))
        _axis(axes, low, high, terms.scale)
        _numbers(axes, segments)
        return _svg(figure, f"feature{place}", f"{terms.label}, by segment", description)


def _style() -> AbstractContextManager[None]:
    # With "none" the browser draws the text in its own font; the salt makes the ids the same in every run.
    return rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "fedseg-report",
            "text.parse_math": False,
            "font.size": _FONT,
            "axes.linewidth": 0.8,
            "path.simplify": False,
        }
    )


def _panel(inner_height: int, rows: int, margin: float = 0.0) -> tuple[Figure, Axes]:
    """A figure whose points are CSS pixels, with one row a segment, the first on top, and the axis below."""
    height = inner_height + _HEAD + _FOOT
    figure = Figure(figsize=(FIGURE_WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
    inner_width = FIGURE_WIDTH - _LEFT - _RIGHT
    axes = figure.add_axes((_LEFT / FIGURE_WIDTH, _FOOT / height, inner_width / FIGURE_WIDTH, inner_height / height))
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.set_xlim(-margin, 1 + margin)
    axes.set_ylim(rows - 0.5, -0.5)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    return figure, axes


def _interval(axes: Axes, row: float, center: float, ends: tuple[float, float]) -> None:
    """A dot with whiskers: a ring of white keeps the dot readable on top of a bar."""
    axes.plot(ends, (row, row), color=INK, linewidth=1.6, solid_capstyle="butt", clip_on=False)
    for end in ends:
        axes.plot((end, end), (row - 0.11, row + 0.11), color=INK, linewidth=1.6, clip_on=False)
    axes.plot(
        (center,), (row,), "o", markersize=7.5, color=MARK, markeredgecolor="white", markeredgewidth=1, clip_on=False
    )


def _axis(axes: Axes, low: float, high: float, scale: str) -> None:
    """Ticks at round values of the original unit."""
    marks = ticks(low, high, scale, _TICK_GAP) or [low]
    places = [position(one, low, high, scale) for one in marks]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([number(one) for one in marks], color=SOFT)
    axes.tick_params(axis="x", color=SOFT, length=4, pad=3)
    for place in places:
        axes.axvline(place, color=RULE, linewidth=0.8, zorder=0)


def _numbers(axes: Axes, segments: Sequence[SegmentFact]) -> None:
    """Each segment's number, left of its row; the same number stands on its card."""
    axes.yaxis.set_major_locator(FixedLocator(range(len(segments))))
    axes.set_yticklabels([str(one.number) for one in segments], color=INK, fontweight="bold")
    axes.tick_params(axis="y", length=0, pad=8)


def _text(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    # Left-aligned: the browser's font decides how wide the words are.
    axes.text(x, y, text, color=color, ha="left", va="center", clip_on=False)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1].rstrip()}…"


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an inline SVG element: no prolog, no namespaces, no date, ids that are unique in the page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Labels may be in any script; the browser has the fonts, and nothing here depends on how wide a text is.
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 (made a line above, by us)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _own(value, key, name) for key, value in element.attrib.items()}
    for definitions in root.findall("defs"):
        for style in definitions.findall("style"):
            definitions.remove(style)  # it would hold for the whole page
    height = root.attrib["viewBox"].split()[3]
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": str(FIGURE_WIDTH),
        "height": height,
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
    }
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _own(value: str, key: str, name: str) -> str:
    """Attribute values with every id, and every reference to one, made the figure's own."""
    if key == "id":
        return f"{name}-{value}"
    return (
        f"#{name}-{value[1:]}"
        if value.startswith("#") and key.endswith("href")
        else value.replace("url(#", f"url(#{name}-")
    )
