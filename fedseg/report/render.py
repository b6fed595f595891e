"""The report as one HTML file that opens without network, scripts or fonts of its own. No computing: facts to text."""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedseg.looks import style_sheet
from fedseg.privacy.budget import fraction_text, shown_epsilon
from fedseg.report.facts import collect, to_json
from fedseg.report.figures import feature, groups, sizes, tones
from fedseg.report.model import FeatureFact, GroupFact, GroupValueFact, ReportFacts, SegmentFact, ShareFact
from fedseg.report.page import decimal, environment, probability, template, write_files
from fedseg.report.readings import GROUPS_MAX, Reading, axis_of, pieces, reading_of, share_reading
from fedseg.report.scales import Axis, number, ordinal, whole
from fedseg.segments.advice import ON_BOUNDS, ON_CLIPPING, fewer, on_number, on_other, on_spread, suggestions
from fedseg.segments.telling import AT_LIMIT, NOT_FOUND, SCALES, percent

FEATURES_MAX = 24
"""Most features with a figure and a line on the cards; report.json has all."""

_IN_GROUPS = {"categorical", "region"}
"""Kinds of features whose customers are in one category each."""
_ON_BOUNDS: Mapping[str, Any] = {
    "on_bounds": ON_BOUNDS,
    "at_limit": AT_LIMIT,
    "not_found": NOT_FOUND,
    "scales": SCALES,
}
"""What is said of learned bounds."""
_STRIP_TICK_GAP = 0.2
_SHORT_HASH = 16


def write_report(run: Path, out: Path) -> ReportFacts:
    """Write report.html and report.json about `run` into the folder `out`, and return what they say.

    A run that does not check out gets its report too: it says so, and shows nothing that rests on what failed. Call
    `require_verified` on the result to stop on it.

    Raises:
        SettingsError, DataError: As `collect`.
        StorageError: If a file cannot be read, or the report cannot be written; no half-written report is left.
    """
    facts = collect(run)
    page, document = render(facts).encode(), to_json(facts)
    write_files(out, {"report.html": page, "report.json": document})
    return facts


def render(facts: ReportFacts) -> str:
    """The whole page. The same facts give the same bytes."""
    features = facts.plan.features[:FEATURES_MAX]
    shown = facts.segments.shown if facts.segments else ()
    figures = {
        "sizes": Markup(sizes(shown)) if shown else "",  # noqa: S704 (our own figure; its texts are escaped as XML)
        "features": [_figure(place, terms, shown) for place, terms in enumerate(features) if shown],
    }
    page = environment(_FILTERS).get_template("report.html.j2")
    css = Markup(style_sheet(template("report.css")))  # noqa: S704 (ships with fedseg)
    return page.render(
        facts=facts, plan=facts.plan, features=features, figures=figures, css=css, on_clipping=ON_CLIPPING, **_ON_BOUNDS
    )


def _figure(place: int, terms: FeatureFact, shown: tuple[SegmentFact, ...]) -> tuple[Markup, list[tuple[str, str]]]:
    """A feature's figure, and what its tones mean."""
    if terms.kind in _IN_GROUPS and isinstance(terms, GroupFact):
        return Markup(groups(place, terms, shown)), tones(place, terms, shown)  # noqa: S704 (as above)
    return Markup(feature(place, terms, shown)), []  # noqa: S704 (as above)


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _in_hundred(part: Decimal) -> str:
    return f"{math.ceil(part * 100)} in 100"


def _place(value: float, axis: Axis) -> str:
    """Where a value stands on its axis, as a percentage for SVG."""
    return f"{100 * axis.position(value):.2f}%"


def _strip_ticks(axis: Axis) -> list[tuple[str, str]]:
    """Ticks of the public range as (place, text); its two ends are always among them."""
    inner = [
        value for value in axis.ticks(_STRIP_TICK_GAP) if _STRIP_TICK_GAP <= axis.position(value) <= 1 - _STRIP_TICK_GAP
    ]
    return [(_place(value, axis), axis.text(value)) for value in (axis.low, *inner, axis.high)]


def _largest(value: GroupValueFact) -> list[ShareFact]:
    """The categories with most of the segment's customers, the largest first."""
    return sorted(value.shares, key=lambda share: -share.center)[:GROUPS_MAX]


def _rank(value: Reading, segments: int) -> str:
    """How a segment compares with the others in this feature, as far as the noise lets tell."""
    if segments == 1:
        return ""
    if value.rank_from == value.rank_to:
        names = {1: "highest", segments: "lowest"}
        return f"{names.get(value.rank_from, f'{ordinal(value.rank_from)} highest')} of {segments}"
    if (value.rank_from, value.rank_to) == (1, segments):
        return "not told apart from the others"
    return f"{ordinal(value.rank_from)} to {ordinal(value.rank_to)} highest of {segments}"


def _hidden(value: Reading, axis: Axis) -> bool:
    """Whether the noise leaves every value of the public range possible."""
    return value.low <= axis.low and value.high >= axis.high


_FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "whole": whole,
    "ordinal": ordinal,
    "epsilon": shown_epsilon,
    "fraction": fraction_text,
    "decimal": decimal,
    "probability": probability,
    "percent": _percent,
    "share": percent,
    "in_hundred": _in_hundred,
    "place": _place,
    "axis": axis_of,
    "reading": reading_of,
    "share_reading": share_reading,
    "pieces": pieces,
    "largest": _largest,
    "strip_ticks": _strip_ticks,
    "rank": _rank,
    "on_spread": on_spread,
    "on_number": on_number,
    "on_other": on_other,
    "suggestions": suggestions,
    "fewer": fewer,
    "hidden_in": _hidden,
    "root_of": lambda squared: whole(math.isqrt(squared - 1) + 1),
    "ratio_width": lambda part, cap: f"{min(100.0, 100 * float(part / cap)) if cap else 100.0:.2f}%",
    "share_of_cap": lambda part: f"{math.ceil(100 * part)} %",
    "short": lambda text: text[:_SHORT_HASH],
}
