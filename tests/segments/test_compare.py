"""Two results are paired by what their segments are like, and a change is called one only where ranges part."""

import pytest

from fedseg.errors import DataError
from fedseg.segments.compare import Change, compare
from fedseg.segments.segmentation import Segment, Segmentation
from tests.segments.results import hour, number, parts, segment, signed


def result(*segments: Segment) -> Segmentation:
    return signed(*segments).segmentation


SMALL, LARGE = segment("Small", 300, number(90, 80, 100)), segment("Large", 300, number(900, 800, 1000))


def test_a_result_has_not_changed_since_itself() -> None:
    found = compare(result(SMALL, LARGE), result(SMALL, LARGE))
    assert [(one.number, one.number_before, one.changes) for one in found.pairs] == [(1, 1, ()), (2, 2, ())]
    assert (found.new, found.gone) == ((), ())


def test_segments_are_paired_by_what_they_are_like_not_by_name_or_place() -> None:
    renamed = segment("Small", 300, number(850, 760, 940))
    found = compare(result(SMALL, LARGE), result(renamed, segment("Other", 310, number(95, 85, 105))))
    assert [(one.number, one.number_before) for one in found.pairs] == [(1, 2), (2, 1)]
    assert not any(one.changes for one in found.pairs)


def test_only_ranges_that_part_are_called_a_change() -> None:
    grown = segment("Large", 500, number(1200, 1100, 1300))
    (small, large) = compare(result(SMALL, LARGE), result(SMALL, grown)).pairs
    assert small.changes == ()
    assert large.changes == (Change("customers", "300", "500"), Change("pounds", "900", "1,200"))


def test_a_pair_is_as_stable_as_the_shakier_of_the_two() -> None:
    shaky = segment("Small", 300, number(90, 80, 100), stable=False, stability=0.5)
    assert [one.stable for one in compare(result(SMALL, LARGE), result(shaky, LARGE)).pairs] == [False, True]


def test_a_segment_without_its_like_is_new_or_gone() -> None:
    middle = segment("Middle", 300, number(500, 400, 600))
    found = compare(result(SMALL, LARGE), result(SMALL, middle, LARGE))
    assert (found.new, found.gone) == (((2, "Middle"),), ())
    found = compare(result(SMALL, middle, LARGE), result(SMALL, LARGE))
    assert (found.new, found.gone) == ((), ((2, "Middle"),))


def test_the_shorter_way_round_midnight_counts() -> None:
    late, early, noon = (segment(name, 300, hour(time, (time - 1) % 24, (time + 1) % 24)) for name, time in _TIMES)
    (found, _) = compare(result(late, noon), result(early, noon)).pairs
    assert (found.number, found.number_before, found.changes) == (1, 1, ())
    moved = segment("late", 300, hour(20, 19, 21))
    (found, _) = compare(result(late, noon), result(moved, noon)).pairs
    assert found.changes == (Change("hour of the day", "23:30", "20:00"),)


_TIMES = (("late", 23.5), ("early", 0.5), ("noon", 12.0))


def test_shares_are_compared_one_by_one() -> None:
    before = segment("one", 300, parts(("Monthly", 0.8, 0.7, 0.9), ("Yearly", 0.2, 0.1, 0.3)))
    now = segment("one", 300, parts(("Monthly", 0.5, 0.45, 0.55), ("Yearly", 0.25, 0.2, 0.3)))
    ((pair),) = compare(result(before), result(now)).pairs
    assert pair.changes == (Change("contract: Monthly", "80 %", "50 %"),)


def test_nothing_shown_is_nothing_paired() -> None:
    hidden = result(segment("Typical", None))
    assert compare(hidden, result(SMALL)).new == ((1, "Small"),)
    assert compare(result(SMALL), hidden).gone == ((1, "Small"),)
    assert compare(hidden, hidden).pairs == ()


def test_results_of_other_features_are_not_compared() -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        compare(result(SMALL), result(segment("Small", 300, number(1, 0, 2, feature="visits"))))
