"""The report of a plan for bounds: a table of bounds where else the segments are, and everything else as ever."""

from dataclasses import replace

import pytest

from fedseg.report.facts import collect, to_json
from fedseg.report.model import ReportFacts
from fedseg.report.render import render
from fedseg.segments.segmentation import LearnedBounds
from fedseg.segments.telling import AT_LIMIT, NOT_FOUND
from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario
from tests.small_scenario import write_bounds_scenario


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> ReportFacts:
    """Of a run of two numbers that may be negative."""
    folder = tmp_path_factory.mktemp("bounds")
    scenario = write_bounds_scenario(folder, lower=-(10**6), upper=10**6, transform="asinh", label="a & b")
    simulate(load_scenario(scenario), folder / "run")
    return collect(folder / "run")


def changed(facts: ReportFacts, **changes: object) -> str:
    """The page with other bounds of the first feature."""
    assert facts.segments is not None
    first, *others = facts.segments.bounds
    other = LearnedBounds.model_validate(first.model_dump() | changes)
    return render(replace(facts, segments=replace(facts.segments, bounds=(other, *others))))


def test_bounds_stand_where_else_segments_are(facts: ReportFacts) -> None:
    page = render(facts)
    assert facts.verified
    assert "1 · The bounds" in page
    assert "a &amp; b" in page
    for text in ("The segments", "How many segments", "k = 1", "Suppressed below", "Cost of these segments"):
        assert text not in page
    for text in ("Recomputed when this report was made", "that the bounds below are what", "2 of 2", "256 counts"):
        assert text in page


def test_what_was_not_found_is_said_and_not_shown_as_a_number(facts: ReportFacts) -> None:
    page = changed(facts, lower=None, upper=None)
    assert NOT_FOUND in page
    assert "1 of 2" in page
    assert NOT_FOUND not in render(facts)


def test_customers_at_the_limit_of_the_search_are_remarked_on(facts: ReportFacts) -> None:
    assert AT_LIMIT in changed(facts, at_limit=True)
    assert AT_LIMIT not in changed(facts, at_limit=False)


def test_the_bounds_are_in_the_json(facts: ReportFacts) -> None:
    document = to_json(facts)
    assert document == to_json(facts)
    assert b'"transform"' in document
    assert b'"outside"' in document
