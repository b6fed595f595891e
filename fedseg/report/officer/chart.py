"""How a budget went down, as the points of one small drawing; no library draws it: same facts, same bytes."""

import itertools
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from fedseg.report.officer.model import UnitFact

WIDTH, HEIGHT = 340, 110
"""In CSS pixels."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 2, 2, 8, 20
_PLACES = 1


@dataclass(frozen=True, slots=True)
class BurnDown:
    """A drawing's parts."""

    area: str
    """Points of what is left, closed along the bottom."""
    line: str
    """Points of what is left: it stays until a day changes it."""
    ahead: str
    """Points of the forecast; empty if there is none."""
    today: str
    """Where the report's day stands."""
    first: str
    """The day at the left."""
    last: str
    """The day at the right."""


def burn_down(unit: UnitFact, as_of: str) -> BurnDown | None:
    """The drawing of a unit's budget from its first day on; None before a second day."""
    days = [one for one in unit.burn_down if one.day]
    if not days:
        return None
    start, today = date.fromisoformat(days[0].day), date.fromisoformat(as_of)
    span = (today - start).days
    if span == 0:
        return None
    runs_out = date.fromisoformat(unit.forecast.day) if unit.forecast.day else None
    end = today if runs_out is None else min(max(runs_out, today), today + timedelta(days=span))
    top = max(one.rho_cap for one in days) or Fraction(1)
    scale = _Scale(start, max(1, (end - start).days), top)
    line = [scale.at(start, days[0].rho_left)]
    for before, one in itertools.pairwise(days):
        day = date.fromisoformat(one.day)
        line += [scale.at(day, before.rho_left), scale.at(day, one.rho_left)]
    line.append(scale.at(today, days[-1].rho_left))
    ahead = ""
    if runs_out is not None:
        left = max(Fraction(0), unit.rho_left - unit.forecast.rho_a_day * (end - today).days)
        ahead = " ".join([scale.at(today, unit.rho_left), scale.at(end, left)])
    floor = [scale.at(today, Fraction(0)), scale.at(start, Fraction(0))]
    return BurnDown(
        area=" ".join([*line, *floor]),
        line=" ".join(line),
        ahead=ahead,
        today=scale.at(today, Fraction(0)).partition(",")[0],
        first=start.isoformat(),
        last=end.isoformat(),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    start: date
    days: int
    top: Fraction

    def at(self, day: date, rho: Fraction) -> str:
        """A day and a height as a point."""
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * (day - self.start).days / self.days
        y = _TOP + (HEIGHT - _TOP - _BOTTOM) * float(1 - rho / self.top)
        return f"{x:.{_PLACES}f},{y:.{_PLACES}f}"
