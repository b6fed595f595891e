"""Values in words: short for a line, full with the interval of each number."""

import pytest

from fedseg.segments.segmentation import CyclicValue, GroupValue, NumericValue, Share, Spread, Value
from fedseg.segments.telling import SHARES_MAX, in_full, in_short

MISSING = Share(category="missing", share=0.12, low=0.1, high=0.14)
SPEND = NumericValue(
    kind="numeric",
    feature="spend",
    label="pounds",
    shares=(MISSING,),
    center=1234.5678,
    low=1000,
    high=1500.5,
    spread=Spread(sd=300, low=200, high=400, typical_low=900, typical_high=1500),
)
SENIOR = GroupValue(
    kind="binary",
    feature="senior",
    label="65 or older",
    shares=(Share(category="yes", share=0.25, low=0.2, high=0.3), MISSING),
)
CONTRACT = GroupValue(
    kind="categorical",
    feature="contract",
    label="contract",
    shares=(
        Share(category="Monthly", share=0.042, low=0, high=0.09),
        Share(category="Yearly", share=0.9, low=0.85, high=0.95),
        Share(category="other", share=0, low=0, high=0.01),
    ),
)


def time(low: float, high: float, center: float = 23.5) -> CyclicValue:
    return CyclicValue(
        kind="cyclic",
        feature="hour",
        label="hour",
        shares=(),
        center=center,
        low=low,
        high=high,
        concentration=0.5,
        concentration_low=0.25,
        concentration_high=0.75,
        period=24,
        start=0,
        names=(),
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SPEND, "pounds 1,235"),
        (SENIOR, "65 or older 25 %"),
        (CONTRACT, "contract Yearly 90 %"),
        (time(22.75, 0.25), "hour 23:30"),
        (time(0, 24), "hour any"),
    ],
)
def test_in_short(value: Value, expected: str) -> None:
    assert in_short(value) == expected


def test_in_full_every_number_has_its_interval() -> None:
    assert in_full(SPEND) == [("pounds", "1,234.57", "1,000 to 1,500.5"), ("pounds: missing", "12 %", "10 % to 14 %")]
    assert in_full(SENIOR) == [
        ("65 or older", "25 %", "20 % to 30 %"),
        ("65 or older: missing", "12 %", "10 % to 14 %"),
    ]
    assert in_full(CONTRACT) == [
        ("contract: Monthly", "4.2 %", "0 % to 9 %"),
        ("contract: Yearly", "90 %", "85 % to 95 %"),
        ("contract: other", "0 %", "0 % to 1 %"),
    ]
    assert in_full(time(22.75, 0.25)) == [
        ("hour", "23:30", "22:45 to 00:15"),
        ("hour: concentration", "0.50", "0.25 to 0.75"),
    ]
    assert in_full(time(0, 24))[0] == ("hour", "23:30", "any")


def test_of_very_many_categories_the_largest_are_listed_in_their_order_and_the_rest_counted() -> None:
    shares = tuple(Share(category=f"c{place}", share=place / 1000, low=0, high=1) for place in range(SHARES_MAX + 3))
    lines = in_full(GroupValue(kind="region", feature="r", label="region", shares=shares))
    assert [line[0] for line in lines] == [
        *(f"region: c{place}" for place in range(3, SHARES_MAX + 3)),
        "region: 3 smaller ones",
    ]
