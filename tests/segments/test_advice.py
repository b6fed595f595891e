"""What is said about the segments is plain, and never surer than the numbers behind it."""

import itertools

import pytest

from fedseg.segments.advice import fewer, on_alike, on_number, on_other, on_spread, on_stability, suggestions
from fedseg.segments.segmentation import (
    Alike,
    Candidate,
    Choice,
    Findings,
    Merge,
    Mixed,
    Other,
    Segment,
    Spread,
)


def choice(here: int, silhouette: int, elbow: int, *, apart: float = 0.8) -> Choice:
    ladder = tuple(Candidate(k=k, silhouette=apart, within=1 / k) for k in range(1, here + 1))
    return Choice(candidates=ladder, silhouette=silhouette, elbow=elbow)


def segment(stability: float, *, stable: bool, above_noise: bool = True) -> Segment:
    return Segment(
        name="Typical",
        suppressed=False,
        size=10,
        size_interval=(5, 15),
        above_noise=above_noise,
        clipped=False,
        stability=stability,
        stable=stable,
        values=(),
        encoded_center=(0,),
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (choice(8, 5, 5), "Both ways to count say 5"),
        (choice(8, 5, 3), "do not agree: judged by how far they stand apart there are 5, judged by where one more"),
        (choice(8, 8, 3), "All 8 of this run stand apart, so there may be more: run again with a larger k"),
        (choice(2, 2, 1), "This run found 2 segments above the noise: too few"),
        (choice(1, 1, 1), "This run found 1 segment above the noise: too few"),
        (None, "nothing can be said about how many"),
    ],
)
def test_the_number_is_told_with_how_sure_it_is(found: Choice | None, says: str) -> None:
    assert says in on_number(found)


def test_two_criteria_that_disagree_are_never_told_as_one() -> None:
    for clear, elbow in itertools.product(range(2, 9), range(2, 8)):
        said = on_number(choice(8, clear, elbow))
        assert (f"Both ways to count say {clear}" in said) == (clear == elbow)
        assert str(elbow) in said


def test_segments_that_run_into_each_other_make_the_number_a_matter_of_taste() -> None:
    assert "matter of taste" in on_number(choice(8, 5, 5, apart=0.69))
    assert "matter of taste" not in on_number(choice(8, 5, 5, apart=0.71))
    assert "stand apart, so there may be more" not in on_number(choice(8, 8, 5, apart=0.5))


def test_a_segment_is_stable_shaky_or_lost() -> None:
    assert on_stability(segment(0.93, stable=True)) == "stable: with other noise 93 % of it would be the same"
    assert on_stability(segment(0.4, stable=False)).startswith("shaky: with other noise only 40 %")
    assert on_stability(segment(0.93, stable=False, above_noise=False)).startswith("lost in the noise")


def test_a_spread_that_the_noise_hides_is_not_told() -> None:
    spread = Spread(sd=3, low=1, high=5, typical_low=7, typical_high=12345.6)
    assert on_spread(spread) == "mostly 7 to 12,346"
    assert on_spread(spread.model_copy(update={"low": 0.0})) == ""


def test_suggestions_name_the_segments() -> None:
    found = Findings(
        choice=None,
        merges=(),
        alike=(Alike(first=2, second=5, gap=2.14),),
        mixed=(Mixed(segment=3, gap=6.2, share=0.25),),
    )
    merge, part = suggestions(found)
    assert merge.startswith("Segments 2 and 5 may be one group")
    assert "2.1 spreads apart" in merge
    assert part.startswith("Segment 3 may hold two groups, of about 75 % and 25 % of it")


def test_neighbours_that_are_alike_are_told_as_one_group() -> None:
    pairs = [(7, 9, 2.5), (1, 2, 2.51), (4, 5, 2.8), (8, 9, 3.3)]
    found = on_alike([Alike(first=first, second=second, gap=gap) for first, second, gap in pairs])
    assert [text.partition(":")[0] for text in found] == [
        "Segments 1 and 2 may be one group",
        "Segments 4 and 5 may be one group",
        "Segments 7, 8 and 9 may be one group",
    ]
    assert "(2.5 spreads apart" in found[0]
    assert "(2.5 to 3.3 spreads apart" in found[2]


def test_the_others_are_counted_or_said_to_be_too_few() -> None:
    assert on_other(Other(segments=1, size=60, size_interval=(50, 70))) == (
        "Other: 60 customers (50 to 70) in 1 segment too small to show"
    )
    hidden = Other(segments=2, size=None, size_interval=None)
    assert on_other(hidden, 50) == "Other: 2 segments too small to show, together fewer than 50 customers"
    assert on_other(hidden) == "Other: 2 segments too small to show"


def test_fewer_segments_are_those_of_the_run_put_together() -> None:
    merges = [Merge(first=1, second=3), Merge(first=2, second=4), Merge(first=1, second=2)]
    assert fewer(merges) == [(3, "1+3, 2, 4"), (2, "1+3, 2+4")]
    assert fewer([Merge(first=1, second=2)]) == []
    assert fewer([]) == []
