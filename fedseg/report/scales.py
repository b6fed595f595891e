"""Public ranges as axes for people: where a value stands, which ticks to print, how to write a number. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

LOG1P = "log1p"
ASINH = "asinh"
_SMALLEST_PLAIN = 1e-4
_LARGEST_PLAIN = 1e12


@dataclass(frozen=True, slots=True)
class Axis:
    """A range from left to right, how values lie on it, and what is written at one."""

    low: float
    high: float
    text: Callable[[float], str]
    scale: str = "identity"
    """"identity", "log1p" or "asinh"."""
    marks: tuple[float, ...] = ()
    """Where its ticks are; at round values if empty."""

    def position(self, value: float) -> float:
        """Where `value` stands, from 0 (`low`) to 1 (`high`)."""
        return position(value, self.low, self.high, self.scale)

    def ticks(self, gap: float) -> list[float]:
        """Its marks, or round values of which none are closer than `gap` (a part of the axis)."""
        return list(self.marks) or ticks(self.low, self.high, self.scale, gap)

    def cut(self, low: float, high: float) -> "Axis":
        """The part between two values."""
        return Axis(low, high, self.text, self.scale)


def position(value: float, low: float, high: float, scale: str) -> float:
    """Where `value` stands between `low` (0) and `high` (1), on an axis of log(1 + x) or arsinh(x) if `scale` says so.

    >>> position(9.0, 0.0, 99.0, "log1p"), position(200.0, 0.0, 100.0, "identity")
    (0.5, 1.0)
    """
    start, end = _forward(low, scale), _forward(high, scale)
    if end <= start:
        return 0.5
    return min(1.0, max(0.0, (_forward(value, scale) - start) / (end - start)))


def ticks(low: float, high: float, scale: str, gap: float) -> list[float]:
    """Round values within [`low`, `high`], the roundest first choice, none closer than `gap` (a part of the axis).

    >>> ticks(0.0, 730.0, "log1p", 0.25)
    [0.0, 10.0, 100.0, 600.0]
    """
    chosen: list[float] = []
    for value in _candidates(low, high, scale):
        place = position(value, low, high, scale)
        if low <= value <= high and all(abs(place - position(one, low, high, scale)) >= gap for one in chosen):
            chosen.append(value)
    return sorted(chosen)


def number(value: float) -> str:
    """A number for people: three significant digits, all digits before the point only where they are few.

    >>> [number(one) for one in (0.0, 1.25001, 17.9134, 187.075, 12345.0, 2e15)]
    ['0', '1.25', '17.9', '187', '12,300', '2e+15']
    """
    rounded = float(f"{value:.3g}")
    size = abs(rounded)
    if size != 0 and not _SMALLEST_PLAIN <= size < _LARGEST_PLAIN:
        text = f"{size:.3g}"
    else:
        decimals = max(0, 2 - math.floor(math.log10(size))) if size else 0
        text = f"{size:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"\N{MINUS SIGN}{text}" if rounded < 0 else text


def whole(value: int) -> str:
    """An integer with thousands separated."""
    return f"{value:,}"


def ordinal(place: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th.

    >>> [ordinal(one) for one in (1, 2, 3, 4, 11, 12, 21, 102)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '102nd']
    """
    endings = {1: "st", 2: "nd", 3: "rd"}
    teens = range(11, 14)
    return f"{place}{'th' if place % 100 in teens else endings.get(place % 10, 'th')}"


def _forward(value: float, scale: str) -> float:
    return {LOG1P: math.log1p, ASINH: math.asinh}.get(scale, float)(value)


def _candidates(low: float, high: float, scale: str) -> Iterator[float]:
    """Round numbers, rounder ones first: for a log axis 0 and powers of ten, else multiples of 1, 2 or 5 times one."""
    if low <= 0 <= high:
        yield 0.0
    if scale in (LOG1P, ASINH):
        top = math.ceil(math.log10(max(high, -low, 1.0)))
        signs = (1, -1) if scale == ASINH else (1,)
        decades = range(min(0, math.floor(math.log10(max(low, 1e-3)))), top + 1)
        for leads in ((1,), (3,), (2, 5), (4, 6, 8), (1.5, 2.5, 7)):
            yield from (sign * lead * 10.0**decade for decade in decades for lead in leads for sign in signs)
        return
    yield from _multiples(low, high)


def _multiples(low: float, high: float) -> Iterable[float]:
    """Multiples of the step that gives about four ticks."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next((lead * power for lead in (1, 2, 5, 10) if lead * power >= rough), power)
    first = math.ceil(low / step)
    return [round(index * step, 12) for index in range(first, math.floor(high / step) + 1)]
