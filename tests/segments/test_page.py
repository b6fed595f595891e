"""The segment page: one file, self-contained and escaped, that says what was published and what the policies allow."""

from pathlib import Path

import pytest

from fedseg.errors import DataError, StorageError, VerificationError
from fedseg.policy.document import load_policy
from fedseg.segments.page import PlanTerms, render, write_page
from fedseg.segments.segmentation import Alike, Findings, LearnedBounds, Share, SignedSegmentation
from tests.report.test_report_page import HOSTILE, Tags
from tests.segments.results import hostile, number, segment, signed

POLICY = load_policy((Path(__file__).parents[2] / "policies" / "gdpr-marketing.yaml").read_bytes())
TERMS = PlanTerms(50, {"spend": "log1p"})


def result() -> SignedSegmentation:
    return signed(
        segment("Big-spending", 400, number(900, 800, 1000)),
        segment("Small-spending", 250, number(90, 80, 100), stability=0.5, stable=False, clipped=True),
        segment("Typical", None),
        findings=Findings(choice=None, merges=(), alike=(Alike(first=1, second=2, gap=2.5),), mixed=()),
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render(result(), plan=TERMS, policies=[POLICY])


def test_the_same_result_gives_the_same_bytes() -> None:
    one = result()
    assert render(one, plan=TERMS, policies=[POLICY]) == render(one, plan=TERMS, policies=[POLICY])


def test_the_page_refers_to_nothing_outside_itself_and_forbids_it(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert "http:" not in page
    assert "https:" not in page
    assert {"script", "link", "img", "iframe", "object", "form"}.isdisjoint(tag for tag, _ in tags.found)
    (policy,) = [one for _, one in tags.found if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    ids = [value for _, attributes in tags.found if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    links = [value for _, one in tags.found if (value := one.get("href"))]
    assert {value[1:] for value in links} <= set(ids)


def test_hostile_words_stay_words(page: str) -> None:
    attacked = render(hostile(HOSTILE), plan=TERMS, policies=[POLICY])
    assert "<script" not in attacked
    assert "<img" not in attacked
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in attacked
    assert {tag for tag, _ in Tags(attacked).found} <= {tag for tag, _ in Tags(page).found}
    assert not any(name.startswith("on") for _, one in Tags(attacked).found for name in one)


def test_a_marketer_finds_size_range_what_is_special_and_how_sure_it_is(page: str) -> None:
    for words in (
        "about 400",
        "between 350 and 450 · 62 % of all shown",
        "<bdi>pounds</bdi> <b>900</b>, the highest of 2",
        "Stable: with other noise 90 % of it would be the same.",
        "Shaky: with other noise only 50 % of it would be the same.",
        "Ranges may be too narrow",
        "Segments 1 and 2 may be one group",
        "Other: 1 segment too small to show, together fewer than 50 customers. It keeps only a name: <bdi>Typical</bdi>",
    ):
        assert words in page, words


def test_it_needs_no_greek(page: str) -> None:
    assert not any("\u0370" <= letter <= "\u03ff" for letter in page)
    assert "epsilon" not in page


def test_what_is_allowed_comes_from_the_policies_alone(page: str) -> None:
    assert "You may not" in page
    assert POLICY.digest[:16] in page
    without = render(result(), plan=None, policies=[])
    assert "You may not" not in without
    assert "so it cannot say. Until you have them, take nothing as allowed" in without


def test_what_has_changed_since_an_earlier_result_is_told_with_what_that_is_worth() -> None:
    before = signed(
        segment(HOSTILE, 200, number(90, 80, 100)), segment("Old", 250, number(950, 900, 990)), name=HOSTILE
    )
    page = render(result(), plan=TERMS, policies=[POLICY], earlier=before)
    assert "<script" not in page
    assert "is most like what was called <bdi>Old</bdi>." in page
    assert "<bdi>customers</bdi>: 250 then, <b>400</b> now" in page
    assert "Each run draws the borders of its segments anew" in page


def test_a_rehearsal_says_so() -> None:
    assert "A rehearsal, not a result." in render(signed(noise="simulated"), plan=None, policies=[])


def test_a_result_with_nothing_to_show_says_so() -> None:
    page = render(signed(segment("Typical", None)), plan=None, policies=[])
    assert "No group is large enough to be shown." in page
    assert "Other: 1 segment too small to show" in page


def test_learned_bounds_are_no_segments() -> None:
    nothing = Share(category="outside", share=0.0, low=0.0, high=0.0)
    bounds = LearnedBounds(
        feature="spend",
        label="pounds",
        lower=None,
        upper=None,
        transform="identity",
        outside=nothing,
        missing=None,
        at_limit=False,
    )
    with pytest.raises(DataError, match="holds no segments"):
        render(signed(bounds=(bounds,)), plan=None, policies=[])


def test_segments_of_different_features_are_refused() -> None:
    odd = signed(segment("one", 100, number(1, 0, 2)), segment("two", 100, number(1, 0, 2, feature="visits")))
    with pytest.raises(VerificationError, match="side by side"):
        render(odd, plan=None, policies=[])


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write the page"):
        write_page(result(), tmp_path / "file" / "page.html", plan=None, policies=[])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    write_page(result(), tmp_path / "new" / "page.html", plan=None, policies=[])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
