"""The page: self-contained, escaped, the same bytes for the same facts, with everything three kinds of reader need."""

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedseg.errors import StorageError
from fedseg.report import figures
from fedseg.report.facts import collect, to_json
from fedseg.report.model import Composition, NumberValueFact, NumericFact, ReportFacts
from fedseg.report.render import FEATURES_MAX, render, write_report
from fedseg.segments.advice import ON_CLIPPING
from fedseg.segments.segmentation import Alike, Candidate, Choice, Findings, Merge, Mixed, Other, Spread

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp; $x^2$ \N{RIGHT-TO-LEFT OVERRIDE}'
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Tags(HTMLParser):
    """Every tag with its attributes, and whether tags close in the order they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(facts: ReportFacts) -> str:
    return render(facts)


def renamed(facts: ReportFacts, text: str) -> ReportFacts:
    """The same facts with `text` wherever a plan's author chooses words."""
    assert facts.segments is not None
    features = tuple(replace(one, label=text) for one in facts.plan.features)
    shown = tuple(replace(one, name=text) for one in facts.segments.shown)
    segments = replace(facts.segments, shown=shown, suppressed=(text,))
    return replace(facts, plan=replace(facts.plan, name=text, features=features), segments=segments)


def numeric(facts: ReportFacts) -> list[NumericFact]:
    """The plan's features: here all are numbers."""
    return [one for one in facts.plan.features if isinstance(one, NumericFact)]


def test_the_same_facts_give_the_same_bytes(run: Path, facts: ReportFacts, page: str) -> None:
    again = collect(run)
    assert again == facts
    assert to_json(again) == to_json(facts)
    assert render(again) == page


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert forbidden.isdisjoint(tag for tag, _ in Tags(page).found)
    for _, attributes in Tags(page).found:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "action", "data"}:
                assert (value or "").startswith("#")
            if value is not None and "url(" in value:
                assert "url(#" in value


def test_the_page_s_own_policy_forbids_everything_but_inline_style(page: str) -> None:
    (policy,) = [one for _, one in Tags(page).found if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def test_the_page_is_well_formed_and_every_id_is_unique_and_every_link_arrives(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    ids = [value for _, attributes in tags.found if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    wanted = [value[1:] for _, attributes in tags.found if (value := attributes.get("href"))]
    wanted += [name for _, one in tags.found for name in (one.get("aria-labelledby") or "").split()]
    wanted += re.findall(r"url\(#([^)]+)\)", page)
    assert wanted
    assert set(wanted) <= set(ids)


def test_hostile_words_in_a_plan_stay_words(facts: ReportFacts, page: str) -> None:
    hostile = render(renamed(facts, HOSTILE))
    assert "<script" not in hostile
    assert "<img" not in hostile
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile
    plain = {tag for tag, _ in Tags(page).found}
    assert {tag for tag, _ in Tags(hostile).found} <= plain
    assert not any(name.startswith("on") for _, one in Tags(hostile).found for name in one)


def test_labels_may_be_in_any_script(facts: ReportFacts) -> None:
    assert "購入回数 · покупки · مشتريات" in render(renamed(facts, "購入回数 · покупки · مشتريات"))


def test_the_marketer_finds_every_segment_with_its_interval_in_original_units(page: str, facts: ReportFacts) -> None:
    assert facts.segments is not None
    for segment in facts.segments.shown:
        card = page.split(f'aria-label="Segment {segment.number}"')[1].split("</article>", maxsplit=1)[0]
        assert f"≈ {segment.size:,}" in card
        assert f"{segment.size_low:,} to {segment.size_high:,}" in card
        assert segment.name in card
        for terms in facts.plan.features:
            assert terms.label in card
    assert "about the privacy noise only" in page


def test_the_officer_finds_what_was_protected_and_what_was_not(page: str, facts: ReportFacts) -> None:
    for words in (
        "add or remove one customer",
        "Whatever anyone already knows",
        "Which units took part",
        "What is true of a group",
        "hostile unit",
        "rolling back a whole ledger",
        facts.plan.sha256,
    ):
        assert words in page
    for unit in facts.units:
        assert unit.name in page


def test_the_auditor_finds_the_commands_keys_and_roots(page: str, run: Path, facts: ReportFacts) -> None:
    commands = re.findall(r"^fedseg ledger verify (\S+)", page, re.MULTILINE)
    assert [run / one for one in commands if (run / one).is_file()] == [run / one.path for one in facts.ledgers]
    for ledger in facts.ledgers:
        assert ledger.root in page
        assert ledger.fingerprint in page
    for unit in facts.plan.units:
        assert f"nodes/{unit.name}/ledger.db --key {unit.public_key}\n" in page


def test_measured_numbers_stand_apart_under_their_banner(page: str) -> None:
    box = page.split('<aside class="lab">')[1].split("</aside>", maxsplit=1)[0]
    assert "computed with all data in one place; impossible in deployment" in box
    assert page.count("Cost of these segments") == box.count("Cost of these segments") == 1


def test_measured_numbers_that_do_not_exist_are_left_out(facts: ReportFacts) -> None:
    assert facts.measured is not None
    page = render(replace(facts, measured=replace(facts.measured, cost_ratio=None, ari=None)))
    assert "Cost of these segments" not in page


def test_figures_say_in_words_what_they_show(facts: ReportFacts) -> None:
    assert facts.segments is not None
    svg = figures.sizes(facts.segments.shown)
    for one in facts.segments.shown:
        assert f"{one.name}: {one.size:,}, between {one.size_low:,} and {one.size_high:,}" in svg
    assert svg.startswith('<svg viewBox="0 0 340 ')
    assert "<title " in svg
    assert 'role="img"' in svg


def test_a_long_name_is_shortened_in_the_figure_and_whole_in_its_description(facts: ReportFacts) -> None:
    assert facts.segments is not None
    svg = figures.sizes([replace(facts.segments.shown[0], name="very " * 40)])
    assert f"{'very ' * 9}ver…" not in svg
    assert "…</text>" in svg
    assert "very " * 40 in svg


HIDDEN = Spread(sd=0, low=0, high=1, typical_low=0, typical_high=0)


def test_a_single_segment_without_any_spread_has_figures_too(facts: ReportFacts) -> None:
    values = tuple(NumberValueFact(one.name, one.lower, one.lower, one.lower, 1, 1, HIDDEN) for one in numeric(facts))
    assert facts.segments is not None
    alone = replace(facts.segments.shown[0], name="All", size=0, size_low=0, size_high=0, share=0.0, values=values)
    page = render(replace(facts, segments=replace(facts.segments, shown=(alone,), size=0)))
    assert "highest of" not in page.split('class="cards segments"')[1].split("</article>")[0]


def test_a_value_the_noise_hides_is_said_to_be_hidden(facts: ReportFacts) -> None:
    assert facts.segments is not None
    first = facts.segments.shown[0]
    hidden = tuple(
        NumberValueFact(one.name, one.lower, one.lower, one.upper, 1, len(facts.segments.shown), HIDDEN)
        for one in numeric(facts)
    )
    shown = (replace(first, values=hidden), *facts.segments.shown[1:])
    card = render(replace(facts, segments=replace(facts.segments, shown=shown))).split('aria-label="Segment 1"')[1]
    assert "hidden by the noise" in card
    assert "not told apart from the others" in card


def test_a_plan_with_very_many_features_shows_the_first_and_says_so(facts: ReportFacts) -> None:
    assert facts.segments is not None
    count = FEATURES_MAX + 1
    features = tuple(replace(facts.plan.features[0], name=f"f{place}") for place in range(count))
    shown = tuple(replace(one, values=(one.values[0],) * count) for one in facts.segments.shown[:1])
    many = replace(facts, plan=replace(facts.plan, features=features), segments=replace(facts.segments, shown=shown))
    page = render(many)
    assert page.count("<figure>") == 1 + FEATURES_MAX
    assert f"The first {FEATURES_MAX} of {count} features" in page


def test_other_plans_and_open_reservations_are_said_beside_the_meter(facts: ReportFacts) -> None:
    unit = replace(facts.units[0], other_releases=2, rho_reserved=facts.units[0].rho_cap, rho_cap=Fraction(1, 10))
    page = render(replace(facts, units=(unit, *facts.units[1:])))
    assert "Reserved by approved plans" in page
    assert "2 further releases of other plans" in page


def test_a_huge_epsilon_is_not_given_a_precise_factor(facts: ReportFacts) -> None:
    assert facts.privacy is not None
    loose = replace(
        facts.privacy,
        odds_factor=Decimal(10) ** 9,
        epsilon=Decimal(25),
        by_units=(Composition(1, Fraction(9), Decimal(25)),),
    )
    assert "e<sup>25</sup>, which protects nobody" in render(replace(facts, privacy=loose))


def test_a_report_is_written_whole_or_not_at_all(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    (out / "report.json").mkdir(parents=True)
    with pytest.raises(StorageError) as refused:
        write_report(run, out)
    assert refused.value.exit_code == 8
    assert not list(out.glob("*.part"))


def test_writing_again_gives_the_same_files(run: Path, copy_of: Callable[[Path], Path], tmp_path: Path) -> None:
    write_report(run, tmp_path / "one")
    copy = copy_of(run)
    write_report(copy, copy)
    for name in ("report.html", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (copy / name).read_bytes()


def test_how_many_segments_there_are_is_told_with_what_becomes_of_them(facts: ReportFacts) -> None:
    assert facts.segments is not None
    ladder = tuple(Candidate(k=k, silhouette=0.8, within=1 / k) for k in range(1, 5))
    found = Findings(
        choice=Choice(candidates=ladder, silhouette=3, elbow=3),
        merges=(Merge(first=2, second=4), Merge(first=1, second=2), Merge(first=1, second=3)),
        alike=(Alike(first=2, second=4, gap=2.1),),
        mixed=(Mixed(segment=1, gap=5.5, share=0.3),),
    )
    page = render(replace(facts, segments=replace(facts.segments, findings=found)))
    part = page.split('<h3 id="number">')[1].split("<h3>How to read the cards</h3>")[0]
    for text in (
        "Both ways to count say 3",
        "<td>4</td><td>0.80</td><td>25 %</td>",
        '<td>3</td><td class="words">1, 2+4, 3</td>',
        "Segments 2 and 4 may be one group",
        "Segment 1 may hold two groups, of about 70 % and 30 %",
    ):
        assert text in part


def test_a_card_says_whether_its_segment_would_be_found_again(facts: ReportFacts) -> None:
    assert facts.segments is not None
    first = facts.segments.shown[0]
    for stable, clipped in ((True, False), (False, True)):
        shown = (replace(first, stable=stable, clipped=clipped, reliability="<reliability>"), *facts.segments.shown[1:])
        page = render(replace(facts, segments=replace(facts.segments, shown=shown)))
        card = page.split('aria-label="Segment 1"')[1].split("</article>")[0]
        assert f'<span class="{"stable" if stable else "shaky"}">&lt;reliability&gt;</span>' in card
        assert ("ranges may be too narrow" in card) == clipped
        assert (ON_CLIPPING in page) == any(one.clipped for one in shown)


def test_the_mass_of_what_is_suppressed_is_told(facts: ReportFacts) -> None:
    assert facts.segments is not None
    for size, interval, text in (
        (1234, (1000, 1500), "Other: 1,234 customers (1,000 to 1,500) in 2 segments too small to show."),
        (
            None,
            None,
            f"Other: 2 segments too small to show, together fewer than {facts.plan.min_segment_size} customers.",
        ),
    ):
        other = Other(segments=2, size=size, size_interval=interval)
        assert text in render(replace(facts, segments=replace(facts.segments, other=other)))
