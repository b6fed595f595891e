"""A period is a year, a quarter or a month, and nothing else."""

from datetime import date

import pytest

from fedseg.errors import SettingsError
from fedseg.report.officer.period import Period


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026", "2026-01-01", "2026-12-31"),
        ("2026-Q1", "2026-01-01", "2026-03-31"),
        ("2026-Q4", "2026-10-01", "2026-12-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2026-12", "2026-12-01", "2026-12-31"),
    ],
)
def test_a_period_is_its_first_to_its_last_day(text: str, first: str, last: str) -> None:
    period = Period.parse(text)

    assert (period.first, period.last) == (date.fromisoformat(first), date.fromisoformat(last))
    assert period.holds(first)
    assert period.holds(last)
    assert not period.holds("1999-01-01")


@pytest.mark.parametrize("text", ["", "26", "2026-13", "2026-Q5", "2026-Q0", "2026-1", "0000", "2026-11-01", "٢٠٢٦"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no period"):
        Period.parse(text)
