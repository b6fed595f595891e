"""What stands in a segment, in words: "14:30", "84 %", "contract monthly 84 %". Pure text, no computing."""

from collections.abc import Sequence

from fedseg.segments.segmentation import CyclicValue, GroupValue, LearnedBounds, NumericValue, Share, Value

SHARES_MAX = 8
"""Most categories of a feature that are listed; the file has all."""

_HOURS_OF_A_DAY = 24
_MINUTES_OF_AN_HOUR = 60
_PLAIN_PERCENT = 0.095
"""From here on a share is told in whole percent."""
_PLAIN_NUMBER = 1000
"""From here on three digits would turn to exponents."""


def moment(time: float, *, period: float, start: float, names: Sequence[str]) -> str:
    """What people call a time: the nearest name, hours and minutes if the period is 24, else the number.

    >>> moment(14.5, period=24, start=0, names=()), moment(23.999, period=24, start=0, names=())
    ('14:30', '00:00')
    >>> moment(7.6, period=7, start=1, names=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))
    'Mon'
    """
    if names:
        return names[round(time - start) % len(names)]
    if period == _HOURS_OF_A_DAY:
        hours, minutes = divmod(round(time * _MINUTES_OF_AN_HOUR), _MINUTES_OF_AN_HOUR)
        return f"{hours % _HOURS_OF_A_DAY:02d}:{minutes:02d}"
    return f"{time:.3g}"


def percent(share: float) -> str:
    """A share for people.

    >>> [percent(one) for one in (0.0001, 0.0042, 0.04, 0.42, 1.0)]
    ['0 %', '0.4 %', '4 %', '42 %', '100 %']
    """
    text = f"{100 * share:.{0 if share >= _PLAIN_PERCENT else 1}f}"
    return f"{text.removesuffix('.0')} %"


def rounded(number: float) -> str:
    """A number for people, with three digits or all before the point.

    >>> [rounded(one) for one in (0.123456, 237.626, 1470.2)]
    ['0.123', '238', '1,470']
    """
    return f"{number:,.0f}" if abs(number) >= _PLAIN_NUMBER else f"{number:.3g}"


def in_short(value: Value) -> str:
    """A value in a few words, without its interval."""
    match value:
        case NumericValue():
            return f"{value.label} {value.center:,.4g}"
        case CyclicValue():
            return f"{value.label} {'any' if value.anytime else _moment(value, value.center)}"
        case GroupValue(kind="binary"):
            return f"{value.label} {percent(value.shares[0].share)}"
        case GroupValue():
            largest = max(value.shares, key=lambda one: one.share)
            return f"{value.label} {largest.category} {percent(largest.share)}"


def in_full(value: Value) -> list[tuple[str, str, str]]:
    """A value as lines of (what, value, 95 % noise interval); of many categories the largest, in the plan's order."""
    match value:
        case NumericValue():
            line = (value.label, f"{value.center:,.6g}", f"{value.low:,.6g} to {value.high:,.6g}")
            return [line, *_share_lines(value)]
        case CyclicValue():
            ends = "any" if value.anytime else f"{_moment(value, value.low)} to {_moment(value, value.high)}"
            spread = f"{value.concentration_low:.2f} to {value.concentration_high:.2f}"
            return [
                (value.label, _moment(value, value.center), ends),
                (f"{value.label}: concentration", f"{value.concentration:.2f}", spread),
                *_share_lines(value),
            ]
        case GroupValue(kind="binary"):
            return [(value.label, *_share(value.shares[0])), *_share_lines(value)[1:]]
        case GroupValue():
            return _share_lines(value)


BOUNDS_HEAD = ("feature", "lower", "upper", "scale", "beyond them", "no value")
"""What `bounds_line` says."""

NOT_FOUND = "nothing stands above the noise"


def bounds_line(found: LearnedBounds) -> tuple[str, str, str, str, str, str]:
    """Learned bounds as a line of a table; shares with their 95 % noise intervals."""
    missing = "" if found.missing is None else _between(found.missing)
    if found.lower is None or found.upper is None:
        return found.label, "", "", NOT_FOUND, "", missing
    upper = f"{found.upper:,.15g}{'*' if found.at_limit else ''}"
    return found.label, f"{found.lower:,.15g}", upper, SCALES[found.transform], _between(found.outside), missing


SCALES = {"identity": "as it is", "log1p": "logarithm", "asinh": "logarithm with sign"}
"""What people call the scales."""

AT_LIMIT = "* Customers stand at an end of the range in which bounds were looked for: some may be beyond it."


def _between(one: Share) -> str:
    share, interval = _share(one)
    return f"{share} ({interval})"


def _share_lines(value: Value) -> list[tuple[str, str, str]]:
    listed = sorted(range(len(value.shares)), key=lambda place: -value.shares[place].share)[:SHARES_MAX]
    lines = [
        (f"{value.label}: {value.shares[place].category}", *_share(value.shares[place])) for place in sorted(listed)
    ]
    more = len(value.shares) - len(listed)
    return [*lines, (f"{value.label}: {more} smaller ones", "", "")] if more else lines


def _share(one: Share) -> tuple[str, str]:
    return percent(one.share), f"{percent(one.low)} to {percent(one.high)}"


def _moment(value: CyclicValue, time: float) -> str:
    return moment(time, period=value.period, start=value.start, names=value.names)
