"""The report in a real browser, on a desk and on a telephone: nothing overflows, nothing loads, nothing complains."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

WIDTHS = {1280: 900, 390: 844}
RUNS = ["sound", "server-only", "tampered", "kinds", "bounds"]

OVERFLOWING = """() => [...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll') && one.getBoundingClientRect().right > window.innerWidth + 1)
    .map(one => one.tagName + ' ' + one.textContent.trim().slice(0, 40))"""
SCROLLED = """() => [...document.querySelectorAll('.scroll')]
    .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.getAttribute('aria-label'))"""
SMALLEST_TEXT = """() => Math.min(...[...document.querySelectorAll('svg text')].map(
    one => one.getBoundingClientRect().height))"""
CONTRAST = """() => getComputedStyle(document.body).backgroundColor"""


@pytest.fixture(params=WIDTHS)
def tab(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A tab that writes down every request and every complaint."""
    width = int(request.param)
    page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]})
    yield page
    page.close()


@pytest.mark.parametrize("run", RUNS)
def test_nothing_overflows_sideways(tab: Page, reports: dict[str, Path], run: str) -> None:
    tab.goto(reports[run].as_uri())
    assert tab.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    assert tab.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("run", RUNS)
def test_the_page_loads_itself_and_nothing_else_and_the_console_stays_empty(
    tab: Page, reports: dict[str, Path], run: str
) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(reports[run].as_uri(), wait_until="networkidle")
    assert requests == [reports[run].as_uri()]
    assert complaints == []


@pytest.mark.parametrize("run", ["sound", "kinds", "bounds"])
def test_every_table_fits_without_scrolling(tab: Page, reports: dict[str, Path], run: str) -> None:
    tab.goto(reports[run].as_uri())
    assert tab.evaluate(SCROLLED) == []


@pytest.mark.parametrize("run", ["sound", "kinds"])
def test_the_text_in_the_figures_does_not_shrink(tab: Page, reports: dict[str, Path], run: str) -> None:
    tab.goto(reports[run].as_uri())
    assert tab.evaluate(SMALLEST_TEXT) >= 11


def test_a_reader_who_prefers_dark_pages_still_gets_readable_figures(tab: Page, reports: dict[str, Path]) -> None:
    tab.emulate_media(color_scheme="dark")
    tab.goto(reports["sound"].as_uri())
    assert tab.evaluate(CONTRAST) == "rgb(255, 255, 255)"


def test_a_failed_verification_is_seen_without_scrolling(tab: Page, reports: dict[str, Path]) -> None:
    tab.goto(reports["tampered"].as_uri())
    alert = tab.get_by_role("alert")
    assert "Verification failed" in alert.inner_text()
    box = alert.bounding_box()
    assert box is not None
    assert box["y"] < 300
    assert alert.evaluate("one => getComputedStyle(one.querySelector('strong')).color") == "rgb(163, 22, 29)"
