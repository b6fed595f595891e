"""Yes and no, categories, regions and times in the report: as they were signed, each with what the noise leaves open."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedseg.report import figures
from fedseg.report.facts import collect, to_json
from fedseg.report.model import (
    CyclicFact,
    GroupFact,
    GroupValueFact,
    ReportFacts,
    SegmentFact,
    ShareFact,
    TimeValueFact,
)
from fedseg.report.readings import GROUPS_MAX, Reading, axis_of, leading, pieces
from fedseg.report.render import render
from fedseg.segments.segmentation import parse_signed
from tests.kinds_scenario import FEATURES

PLACES = {feature["name"]: place for place, feature in enumerate(FEATURES)}


@pytest.fixture(scope="module")
def kinds(kinds_run: Path) -> ReportFacts:
    facts = collect(kinds_run)
    facts.require_verified()
    return facts


@pytest.fixture(scope="module")
def page(kinds: ReportFacts) -> str:
    return render(kinds)


def shown(facts: ReportFacts) -> tuple[SegmentFact, ...]:
    assert facts.segments is not None
    return facts.segments.shown


def with_value(facts: ReportFacts, name: str, value: GroupValueFact | TimeValueFact) -> ReportFacts:
    """The same with this value in every segment."""
    assert facts.segments is not None
    place = PLACES[name]
    changed = tuple(replace(one, values=(*one.values[:place], value, *one.values[place + 1 :])) for one in shown(facts))
    return replace(facts, segments=replace(facts.segments, shown=changed))


def test_values_of_every_kind_are_those_the_server_signed(kinds_run: Path, kinds: ReportFacts) -> None:
    signed = parse_signed((kinds_run / "segmentation.json").read_bytes()).segmentation
    told = json.loads(to_json(kinds))["segments"]["shown"]
    for segment, other in zip((one for one in signed.segments if not one.suppressed), told, strict=True):
        for value, fact in zip(segment.values, other["values"], strict=True):
            document = value.model_dump(mode="json")
            for share, found in zip(document["shares"], fact["shares"], strict=True):
                assert {"center": share.pop("share"), **share}.items() <= found.items()
            alike = {"feature", "center", "low", "high", "concentration", "concentration_low", "concentration_high"}
            assert {key: document[key] for key in alike & set(document)}.items() <= fact.items()


def test_the_plans_features_are_told_as_they_stand_in_it(kinds: ReportFacts) -> None:
    told = json.loads(to_json(kinds))["plan"]["features"]
    assert [(one["kind"], one["columns"], one["weight"]) for one in told] == [
        ("numeric", 2, "1/1"),
        ("binary", 1, "1/1"),
        ("categorical", 5, "1/1"),
        ("region", 9, "1/2"),
        ("cyclic", 2, "1/1"),
        ("cyclic", 3, "3/4"),
    ]
    assert told[PLACES["contract"]]["categories"] == ["Monthly", "Yearly", "Café & <more>", "other", "missing"]
    assert told[PLACES["weekday"]]["names"][0] == "Monday"


def test_the_marketer_finds_shares_and_times(page: str) -> None:
    cards = page.split('class="cards segments"')[1]
    for words in ("Monthly", "postal region", "hour of the day", "concentration", "without a value:", "smaller ones"):
        assert words in cards
    assert "Café &amp; &lt;more&gt;" in cards
    assert "<more>" not in page


def test_the_officer_finds_what_was_foreseen_and_what_missing_values_counted_as(page: str) -> None:
    appendix = page.split('id="appendix"')[1]
    for words in ("every 24 from 0", "first 2: 01, 02", "missing, and is flagged", "no time", "yes or no"):
        assert words in appendix


def test_figures_of_categories_say_in_words_what_they_show(kinds: ReportFacts) -> None:
    place = PLACES["contract"]
    terms = kinds.plan.features[place]
    assert isinstance(terms, GroupFact)
    svg = figures.groups(place, terms, shown(kinds))
    value = shown(kinds)[0].values[place]
    assert isinstance(value, GroupValueFact)
    assert all(
        share.category.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in svg for share in value.shares
    )
    names = [name for name, _ in figures.tones(place, terms, shown(kinds))]
    assert len(names) == GROUPS_MAX + 1
    assert names[-1] == "1 more"


def test_the_categories_that_are_shown_are_those_of_most_customers(kinds: ReportFacts) -> None:
    place = PLACES["postcode"]
    first = shown(kinds)[0]
    shares = tuple(ShareFact(str(index), index / 10, 0, 1, 1, 1) for index in range(8))
    segments = [replace(first, values=(GroupValueFact("postcode", shares),) * (place + 1))]
    assert leading(segments, place) == [4, 5, 6, 7]


def test_an_interval_that_passes_the_end_of_a_period_stands_at_both_ends(kinds: ReportFacts) -> None:
    hour = kinds.plan.features[PLACES["hour"]]
    assert isinstance(hour, CyclicFact)
    axis = axis_of(hour)
    assert pieces(Reading(23.5, 22.75, 0.25, 0, 0), axis) == [(22.75, 24), (0, 0.25)]
    assert pieces(Reading(12, 11, 13, 0, 0), axis) == [(11, 13)]
    assert [axis.text(one) for one in axis.ticks(0.1)] == ["00:00", "06:00", "12:00", "18:00"]
    days = axis_of(kinds.plan.features[PLACES["weekday"]])
    assert [days.text(one) for one in days.ticks(0.1)] == ["Monday", "Wednesday", "Friday", "Sunday"]


def test_what_the_noise_hides_is_said_to_be_hidden(kinds: ReportFacts) -> None:
    any_time = TimeValueFact("hour", 3.0, 0.0, 24.0, True, 0.2, 0.0, 1.0, ())
    card = render(with_value(kinds, "hour", any_time)).split('aria-label="Segment 1"')[1].split("</article>")[0]
    assert "hidden by the noise" in card
    assert "any time is within the noise" in card
    senior = GroupValueFact("senior", (ShareFact("yes", 0.3, 0.0, 1.0, 1, 3),))
    card = render(with_value(kinds, "senior", senior)).split('aria-label="Segment 1"')[1].split("</article>")[0]
    assert "hidden by the noise" in card


def test_shares_that_noise_has_made_nothing_still_have_a_figure(kinds: ReportFacts) -> None:
    place = PLACES["contract"]
    terms = kinds.plan.features[place]
    assert isinstance(terms, GroupFact)
    none = GroupValueFact("contract", tuple(ShareFact(name, 0.0, 0.0, 0.1, 1, 3) for name in terms.categories))
    assert "0 %" in render(with_value(kinds, "contract", none))
