"""The report as one HTML file that opens without network, scripts or fonts of its own. No computing: facts to text."""

import math
import os
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from fedseg.errors import StorageError
from fedseg.privacy.budget import fraction_text, shown_epsilon
from fedseg.report.facts import collect, to_json
from fedseg.report.figures import feature, groups, sizes, tones
from fedseg.report.model import FeatureFact, GroupFact, GroupValueFact, ReportFacts, SegmentFact, ShareFact
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
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(out / "report.html", page)
        _write(out / "report.json", document)
    except OSError as error:
        raise StorageError(
            f"cannot write the report to {out}",
            why=error.strerror or "the disk refused",
            fix="free space, or name another folder with --out",
        ) from error
    return facts


def render(facts: ReportFacts) -> str:
    """The whole page. The same facts give the same bytes."""
    features = facts.plan.features[:FEATURES_MAX]
    shown = facts.segments.shown if facts.segments else ()
    figures = {
        "sizes": Markup(sizes(shown)) if shown else "",  # noqa: S704 (our own figure; its texts are escaped as XML)
        "features": [_figure(place, terms, shown) for place, terms in enumerate(features) if shown],
    }
    page = _environment().get_template("report.html.j2")
    css = Markup(_template("report.css"))  # noqa: S704 (ships with fedseg)
    return page.render(
        facts=facts, plan=facts.plan, features=features, figures=figures, css=css, on_clipping=ON_CLIPPING, **_ON_BOUNDS
    )


def _figure(place: int, terms: FeatureFact, shown: tuple[SegmentFact, ...]) -> tuple[Markup, list[tuple[str, str]]]:
    """A feature's figure, and what its tones mean."""
    if terms.kind in _IN_GROUPS and isinstance(terms, GroupFact):
        return Markup(groups(place, terms, shown)), tones(place, terms, shown)  # noqa: S704 (as above)
    return Markup(feature(place, terms, shown)), []  # noqa: S704 (as above)


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _template(name: str) -> str:
    return files("fedseg.report").joinpath("templates", name).read_text(encoding="utf-8")


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader never sees half of a report, and a full disk leaves the old one."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)  # noqa: PTH105 (Path.replace says the same less plainly)
    finally:
        part.unlink(missing_ok=True)


def _probability(value: Fraction) -> str:
    """A small probability in words: "1 in 1,000,000", rounded up."""
    return f"1 in {whole(math.floor(1 / value))}"


def _decimal(value: Fraction) -> str:
    """A fraction with three significant digits, rounded up: what is shown beside an exact one."""
    above = Context(prec=40, rounding=ROUND_CEILING).divide(Decimal(value.numerator), Decimal(value.denominator))
    return format(Context(prec=3, rounding=ROUND_CEILING).plus(above).normalize(), "f")


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
    "decimal": _decimal,
    "probability": _probability,
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
