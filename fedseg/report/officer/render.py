"""The officer's report as one HTML file that opens without network, scripts or fonts of its own. Facts to text."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from fedseg.looks import style_sheet
from fedseg.privacy.budget import fraction_text, shown_epsilon
from fedseg.report.officer.budgets import PACE_DAYS_MIN
from fedseg.report.officer.chart import HEIGHT, WIDTH, burn_down
from fedseg.report.officer.model import OfficerReport
from fedseg.report.officer.noise_file import FAILED, NOT_RUN, PASSED
from fedseg.report.page import decimal, environment, left, probability, template, used
from fedseg.report.scales import whole

ROWS_MAX = 40
"""Most plans, refusals and endings with a line on the page; ledger.csv and report.json have all."""

_SHORT_HASH = 12
_CERTAIN = Decimal("0.9995")


def render(report: OfficerReport) -> str:
    """The whole page. The same facts give the same bytes."""
    css = Markup(style_sheet(template("report.css"), template("officer/officer.css")))  # noqa: S704 (ships with fedseg)
    charts = {one.name: burn_down(one, report.period.as_of) for one in report.units}
    scarcest = min(report.units, key=lambda one: one.rho_left / one.rho_cap if one.rho_cap else 0, default=None)
    verdict = NOT_RUN if report.noise_audit is None else FAILED if report.noise_audit.violated else PASSED
    return (
        environment(_FILTERS)
        .get_template("officer/report.html.j2")
        .render(
            report=report,
            scarcest=scarcest,
            too_short=PACE_DAYS_MIN,
            css=css,
            charts=charts,
            verdict=verdict,
            rows_max=ROWS_MAX,
            width=WIDTH,
            height=HEIGHT,
        )
    )


def guess(part: Decimal) -> str:
    """How often a guess is right, in words."""
    return "practically 100 %" if part >= _CERTAIN else f"{_plain(100 * part)} %"


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


_FILTERS: dict[str, Callable[..., Any]] = {
    "whole": whole,
    "epsilon": shown_epsilon,
    "decimal": decimal,
    "exact": fraction_text,
    "probability": probability,
    "guess": guess,
    "used": used,
    "left": left,
    "short": lambda text: text[:_SHORT_HASH],
    "width": lambda part, cap: f"{min(100.0, 100 * float(part / cap)) if cap else 100.0:.2f}%",
    "per_cent": lambda part: f"{100 * part:.1f} %",
}
