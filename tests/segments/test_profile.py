"""A profile says what the noise lets tell of a segment beside the others, and no more."""

import pytest

from fedseg.segments.profile import CATEGORIES_MAX, Line, profile
from fedseg.segments.segmentation import Segment, Value
from tests.segments.results import hour, number, parts, segment


def lines(*values: Value, scale: str = "identity") -> list[Line]:
    """The first line of each of several segments that have one feature."""
    shown: list[Segment] = [segment(f"number {place}", 100, value) for place, value in enumerate(values)]
    return [profile(one, shown, {"spend": scale})[0] for one in shown]


def test_ranks_go_as_far_as_intervals_do_not_overlap() -> None:
    said = lines(number(10, 9, 11), number(5, 4, 7), number(6, 5, 8), number(1, 0, 2))
    assert [(one.standing, one.notable) for one in said] == [
        ("highest of 4", True),
        ("in the middle: number 2 to 3 of 4 from the top", False),
        ("in the middle: number 2 to 3 of 4 from the top", False),
        ("lowest of 4", True),
    ]


def test_whoever_shares_the_first_or_last_place_does_not_stand_out() -> None:
    high, same, middle, low, alike = lines(
        number(10, 8, 12), number(9, 7, 11), number(5, 4, 6), number(2, 1, 3), number(1, 0, 2)
    )
    assert (high.standing, high.notable) == (same.standing, same.notable) == ("among the highest 2 of 5", False)
    assert middle.standing == "number 3 of 5 from the top"
    assert low.standing == alike.standing == "among the lowest 2 of 5"


def test_what_the_noise_hides_is_not_told_apart() -> None:
    one, other = lines(number(10, 0, 20), number(5, 4, 6))
    assert one.standing == other.standing == "not told apart from the others"


def test_a_single_segment_is_compared_with_nobody() -> None:
    (line,) = lines(number(10, 9, 11))
    assert (line.standing, line.notable, line.others) == ("", False, ())


@pytest.mark.parametrize("scale", ["identity", "log1p", "asinh"])
def test_every_mark_lies_on_the_chart_and_in_order(scale: str) -> None:
    for line in lines(number(-3, -5, -1), number(0, -1, 2), number(800, 500, 900), scale=scale):
        ((low, high),) = line.pieces
        assert 0 <= low <= line.center <= high <= 1
        assert all(0 <= one <= 1 for one in line.others)


def test_money_is_drawn_on_the_scale_of_the_plan() -> None:
    even, _ = lines(number(9, 0, 9), number(99, 9, 99))
    uneven, _ = lines(number(9, 0, 9), number(99, 9, 99), scale="log1p")
    assert even.center == pytest.approx(1 / 11)
    assert uneven.center == pytest.approx(0.5)


def test_each_of_the_largest_categories_has_a_line_in_the_plan_s_order() -> None:
    shares = [
        (name, share, share, share) for name, share in zip("abcdef", (0.05, 0.3, 0.1, 0.2, 0.3, 0.05), strict=True)
    ]
    one = segment("one", 100, parts(*shares))
    found = profile(one, [one], {})
    assert [line.category for line in found] == ["b", "c", "d", "e"]
    assert len(found) == CATEGORIES_MAX
    assert found[0].ends == ("0 %", "100 %")


def test_a_time_whose_interval_passes_midnight_is_drawn_at_both_ends() -> None:
    (line,) = lines(hour(23.5, 22, 1))
    assert line.value == "around 23:30"
    assert line.between == "22:00 to 01:00"
    assert line.pieces == ((22 / 24, 1.0), (0.0, 1 / 24))
    assert line.note == "close together; without a value 10 %"


def test_a_time_that_the_noise_hides_is_any_time_and_no_mark_for_others() -> None:
    hidden, clear = lines(hour(5, 0, 24), hour(12, 11, 13))
    assert (hidden.value, hidden.note) == ("any time", "without a value 10 %")
    assert clear.others == ()
