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

from fedseg.report.model import CyclicFact, FeatureFact, GroupFact, GroupValueFact, SegmentFact
from fedseg.report.readings import GROUPS_MAX, axis_of, leading, pieces, reading_of
from fedseg.report.scales import Axis, number, whole
from fedseg.segments.telling import percent

FIGURE_WIDTH = 340
"""In CSS pixels."""

INK, SOFT, RULE, MARK = "#1d2733", "#5b6775", "#d9dfe5", "#1f5f99"
_POINTS_PER_INCH = 72
_FONT = 11.5
_NAME_CHARACTERS = 48
_ROW, _SIZE_ROW = 22, 42
_HEAD, _FOOT = 6, 26
_LEFT, _RIGHT = 30, 16
_TONES, _REST = ("#12385c", "#1f5f99", "#7fabd1", "#bdd4e8")[:GROUPS_MAX], "#e6ebf0"
_ROOM_FOR_TEXT = 0.14
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
            _interval(axes, row + 0.2, one.size / top, [(one.size_low / top, one.size_high / top)])
            _text(axes, 0, row - 0.18, _shortened(one.name), INK)
        _axis(axes, Axis(0.0, float(top), number))
        _numbers(axes, segments)
        return _svg(figure, "sizes", "Customers per segment", description)


def feature(place: int, terms: FeatureFact, segments: Sequence[SegmentFact]) -> str:
    """One feature of all segments on one axis in original units; the axis covers what the segments' intervals cover.

    A time has the whole period as its axis, and its interval may stand at both ends of it.

    Args:
        place: Index of the feature in the plan: which of each segment's values to show.
        terms: The feature.
        segments: At least one.
    """
    values, axis = [reading_of(one.values[place]) for one in segments], axis_of(terms)
    if not isinstance(terms, CyclicFact):
        axis = axis.cut(min(value.low for value in values), max(value.high for value in values))
    description = "; ".join(
        f"segment {one.number}: {axis.text(value.center)}, between {axis.text(value.low)} and {axis.text(value.high)}"
        for one, value in zip(segments, values, strict=True)
    )
    with _style():
        figure, axes = _panel(_ROW * len(segments), len(segments), margin=0.03)
        for row, value in enumerate(values):
            ends = [(axis.position(start), axis.position(end)) for start, end in pieces(value, axis)]
            axes.axhline(row, color=RULE, linewidth=0.8, zorder=0)
            _interval(axes, row, axis.position(value.center), ends)
        _axis(axes, axis)
        _numbers(axes, segments)
        return _svg(figure, f"feature{place}", f"{terms.label}, by segment", description)


def groups(place: int, terms: FeatureFact, segments: Sequence[SegmentFact]) -> str:
    """The categories of a feature as one bar a segment, cut in the order of `tones`; above it the largest in words."""
    chosen = leading(segments, place)
    rows = [_shares(one, place) for one in segments]
    description = "; ".join(
        f"segment {one.number}: {', '.join(f'{name} {percent(share)}' for name, share in shares)}"
        for one, shares in zip(segments, rows, strict=True)
    )
    with _style():
        figure, axes = _panel(_SIZE_ROW * len(segments), len(segments))
        for row, shares in enumerate(rows):
            parts = [shares[index][1] for index in chosen]
            _bar(axes, row + 0.2, [*parts, sum(share for _, share in shares) - sum(parts)])
            name, share = max(shares, key=lambda one: one[1])
            _text(axes, 0, row - 0.18, f"{_shortened(name)} {percent(share)}", INK)
        _axis(axes, Axis(0.0, 1.0, percent))
        _numbers(axes, segments)
        return _svg(figure, f"feature{place}", f"{terms.label}, by segment", description)


def tones(place: int, terms: GroupFact, segments: Sequence[SegmentFact]) -> list[tuple[str, str]]:
    """The categories that `groups` shows, from left to right, each with its tone; the rest last."""
    chosen = leading(segments, place)
    named = [(terms.categories[index], tone) for index, tone in zip(chosen, _TONES, strict=False)]
    more = len(terms.categories) - len(chosen)
    return [*named, (f"{more} more", _REST)] if more else named


def _shares(segment: SegmentFact, place: int) -> list[tuple[str, float]]:
    value = segment.values[place]
    return [(one.category, one.center) for one in value.shares] if isinstance(value, GroupValueFact) else []


def _bar(axes: Axes, row: float, parts: Sequence[float]) -> None:
    """Parts side by side over the whole width, dark to light; what noise has made too much or too little is scaled."""
    total, left = max(sum(parts), 1e-9), 0.0
    for part, tone in zip(parts, (*_TONES[: len(parts) - 1], _REST), strict=True):
        width = part / total
        axes.barh(row, width, left=left, height=0.36, color=tone, edgecolor="white", linewidth=1)
        if width >= _ROOM_FOR_TEXT and tone != _REST:
            dark = tone in _TONES[:2]
            axes.text(left + width / 2, row, percent(part), color="white" if dark else INK, ha="center", va="center")
        left += width


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


def _interval(axes: Axes, row: float, center: float, parts: Sequence[tuple[float, float]]) -> None:
    """A dot with whiskers: a ring of white keeps the dot readable on top of a bar."""
    for ends in parts:
        axes.plot(ends, (row, row), color=INK, linewidth=1.6, solid_capstyle="butt", clip_on=False)
        for end in ends:
            axes.plot((end, end), (row - 0.11, row + 0.11), color=INK, linewidth=1.6, clip_on=False)
    axes.plot(
        (center,), (row,), "o", markersize=7.5, color=MARK, markeredgecolor="white", markeredgewidth=1, clip_on=False
    )


def _axis(axes: Axes, axis: Axis) -> None:
    """Ticks at round values of the original unit."""
    marks = axis.ticks(_TICK_GAP) or [axis.low]
    places = [axis.position(one) for one in marks]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([axis.text(one) for one in marks], color=SOFT)
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
