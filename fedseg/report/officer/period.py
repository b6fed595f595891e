"""`Period`: the year, quarter or month that a report is about. Pure."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from typing import Self

from fedseg.errors import SettingsError

_FORM = re.compile(r"([0-9]{4})(?:-Q([1-4])|-(0[1-9]|1[0-2]))?")
_MONTHS_A_QUARTER = 3


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days, the first and the last included; UTC, as ledgers count them."""

    text: str
    """As people write it: 2026, 2026-Q4 or 2026-11."""
    first: date
    last: date

    @classmethod
    def parse(cls, text: str) -> Self:
        """The period of this name.

        Raises:
            SettingsError: If it is none.

        >>> Period.parse("2026-Q4").last, Period.parse("2026-02").last
        (datetime.date(2026, 12, 31), datetime.date(2026, 2, 28))
        """
        found = _FORM.fullmatch(text)
        if found is None or int(found[1]) == 0:
            raise SettingsError(
                f"{text!r} is no period",
                why="a report is about a year, a quarter or a month",
                fix="write --period 2026, --period 2026-Q4 or --period 2026-11",
            )
        year, quarter, month = int(found[1]), found[2], found[3]
        first, last = 1, 12
        if quarter is not None:
            last = int(quarter) * _MONTHS_A_QUARTER
            first = last - _MONTHS_A_QUARTER + 1
        elif month is not None:
            first = last = int(month)
        return cls(text, date(year, first, 1), date(year, last, monthrange(year, last)[1]))

    def holds(self, day: str) -> bool:
        """Whether this day, as YYYY-MM-DD, lies in it."""
        return self.first.isoformat() <= day <= self.last.isoformat()
