"""Every page that people open in a browser, on a desk and on a telephone, with names from somebody who means harm.

A page joins by one line in `pages` and its name in PAGES, and in HOSTILE_PAGES if its words come from a plan or a result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from fedseg.policy.document import load_policy
from fedseg.report.facts import collect
from fedseg.report.model import ReportFacts
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.pack import Question, make
from fedseg.report.officer.render import render as render_officers_report
from fedseg.report.render import render
from fedseg.segments import page as segment_page
from fedseg.segments.segmentation import parse_signed
from tests.browser.axe import serious_violations
from tests.cosigned_evidence import cosigned_evidence
from tests.segments import results

pytestmark = pytest.mark.browser

PAGES = [
    *("report", "report that found a fault", "report of features of every kind", "report of bounds"),
    *("segment page", "segment page of features of every kind", "officer's report", "officer's report with witnesses"),
]
HOSTILE_PAGES = ["report", "segment page"]
POLICY = load_policy((Path(__file__).parents[2] / "policies" / "gdpr-marketing.yaml").read_bytes())
WIDTHS = {1280: 900, 390: 844}
HOSTILE = '"><script>alert(1)</script><img src=https://example.org/x onerror=alert(2)> {{ 7*7 }} &amp; $x^2$'

OVERFLOWING = """() => [...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll') && one.getBoundingClientRect().right > window.innerWidth + 1)
    .map(one => one.tagName + ' ' + one.textContent.trim().slice(0, 40))"""


@dataclass
class Watched:
    """An open page, and what it did: requests, complaints, dialogs."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(params=WIDTHS)
def tab(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Watched]:
    width = int(request.param)
    page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]})
    watched = Watched(page)
    page.on("request", lambda one: watched.requests.append(one.url))
    page.on("console", lambda one: watched.complaints.append(one.text))
    page.on("pageerror", lambda one: watched.complaints.append(str(one)))
    page.on("dialog", lambda one: watched.complaints.append(f"dialog: {one.message}"))
    yield watched
    page.close()


@pytest.fixture(scope="session")
def pages(reports: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every page by its name. Where its words come from a plan or a result, they are hostile."""
    texts = {
        "report": render(hostile(collect(reports["sound"].parent))),
        "segment page": segment_page.render(results.hostile(HOSTILE), plan=None, policies=[POLICY]),
        "segment page of features of every kind": segment_page.render(
            parse_signed(reports["kinds"].with_name("segmentation.json").read_bytes()), plan=None, policies=[POLICY]
        ),
        "officer's report": render_officers_report(
            make(gather([reports["sound"].parent]), Question(None, {}, None, None))[0]
        ),
        "officer's report with witnesses": render_officers_report(
            make(
                cosigned_evidence(tmp_path_factory.mktemp("witnessed") / "federation"), Question(None, {}, None, None)
            )[0]
        ),
        "report that found a fault": reports["tampered"].read_text("utf-8"),
        "report of features of every kind": reports["kinds"].read_text("utf-8"),
        "report of bounds": reports["bounds"].read_text("utf-8"),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def hostile(facts: ReportFacts) -> ReportFacts:
    """The same facts with hostile words wherever a plan's author chooses them."""
    assert facts.segments is not None
    features = tuple(replace(one, label=HOSTILE) for one in facts.plan.features)
    shown = tuple(replace(one, name=HOSTILE) for one in facts.segments.shown)
    return replace(
        facts,
        plan=replace(facts.plan, name=HOSTILE, features=features),
        segments=replace(facts.segments, shown=shown),
    )


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_serious_violation(tab: Watched, pages: dict[str, Path], name: str) -> None:
    tab.page.goto(pages[name].as_uri())
    assert serious_violations(tab.page) == []


@pytest.mark.parametrize("name", [*HOSTILE_PAGES, "officer's report", "officer's report with witnesses"])
def test_nothing_leaves_nothing_complains_and_nothing_overflows(
    tab: Watched, pages: dict[str, Path], name: str
) -> None:
    tab.page.goto(pages[name].as_uri(), wait_until="networkidle")
    assert tab.requests == [pages[name].as_uri()]
    assert tab.complaints == []
    assert tab.page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    assert tab.page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_hostile_names_show_as_text(tab: Watched, pages: dict[str, Path], name: str) -> None:
    tab.page.goto(pages[name].as_uri(), wait_until="networkidle")
    assert HOSTILE in " ".join(tab.page.inner_text("h1").split())
    assert tab.page.locator("script, img, iframe").count() == 0


def test_axe_tells_a_barrier_where_there_is_one(tab: Watched) -> None:
    words = '<p style="color: #ddd">Nobody can read this sentence.</p>'
    tab.page.set_content(f'<html lang="en"><title>x</title><main><h1>x</h1><img src="data:,">{words}</main>')
    found = serious_violations(tab.page)
    assert [one.split()[0] for one in found] == ["color-contrast", "image-alt"]
