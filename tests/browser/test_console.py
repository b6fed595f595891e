"""The console in a real browser: every page on a desk and on a telephone, and decisions by keyboard alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.axe import serious_violations
from tests.console_unit import ConsoleUnit, Names, make_console_unit, running_console

pytestmark = pytest.mark.browser

WIDTHS = {1280: 900, 390: 844}
HOSTILE = '"><script>alert(1)</script><img src=https://example.org/x onerror=alert(2)>'
HOSTILE_LABEL = "\" onfocus='alert(3)' autofocus {{7*7}} &amp; &#60;script&#62;"
NAMES = Names(features=(HOSTILE_LABEL, "W" * 80), ticket=f"{HOSTILE}\u202e; rm -rf ~", segment=HOSTILE)
PAGES = [
    "/",
    "/plans",
    "/plans/{0}",
    "/plans/{1}/outcome",
    "/plans/{2}",
    "/plans/{4}/outcome",
    "/plans/{4}/revoke",
    "/consent",
    "/requests",
    "/ledger",
    "/segments",
]
SHOWN = {"/plans/{0}": HOSTILE_LABEL, "/requests": f"{HOSTILE}[U+202E]; rm -rf ~", "/segments": HOSTILE}

OVERFLOWING = """() => [...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll') && one.getBoundingClientRect().right > window.innerWidth + 1)
    .map(one => one.tagName + ' ' + one.textContent.trim().slice(0, 40))"""


@dataclass
class Desk:
    """The console of ann, in a tab that writes down what it does."""

    page: Page
    unit: ConsoleUnit
    root: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda one: self.requests.append(one.url))
        self.page.on("console", lambda one: self.complaints.append(one.text))
        self.page.on("pageerror", lambda one: self.complaints.append(str(one)))
        self.page.on("dialog", lambda one: self.complaints.append(f"dialog: {one.message}"))

    def go(self, path: str) -> Page:
        plans = [one.digest for one in (*self.unit.waiting, *self.unit.approved)]
        self.page.goto(self.root + path.format(*plans), wait_until="networkidle")
        return self.page

    def tab_to(self, selector: str) -> None:
        """Press Tab until it is there, as somebody without a mouse does."""
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
                return
        pytest.fail(f"the keyboard does not reach {selector}")

    def press_enter(self) -> None:
        """Follow the link, or send the form, that the keyboard has reached."""
        with self.page.expect_navigation(wait_until="load"):
            self.page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> ConsoleUnit:
    return make_console_unit(tmp_path_factory.mktemp("console"), datetime.now(UTC), NAMES, required=1)


@pytest.fixture(scope="module")
def entered(unit: ConsoleUnit, browser: Browser) -> Iterator[tuple[BrowserContext, str]]:
    """A browser that has opened the link, and where the pages are."""
    with running_console(unit, "ann") as link:
        context = browser.new_context()
        page = context.new_page()
        page.goto(link)
        yield context, page.url.rstrip("/")
        context.close()


@pytest.fixture(params=WIDTHS)
def desk(request: pytest.FixtureRequest, entered: tuple[BrowserContext, str], unit: ConsoleUnit) -> Iterator[Desk]:
    context, root = entered
    page = context.new_page()
    width = int(request.param)
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    yield Desk(page, unit, root)
    page.close()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_complains_of_nothing_and_asks_nobody_else(desk: Desk, path: str) -> None:
    page = desk.go(path)
    assert desk.complaints == []
    assert {urlsplit(one).netloc for one in desk.requests} == {urlsplit(desk.root).netloc}
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(OVERFLOWING) == []
    assert SHOWN.get(path, "") in " ".join(page.inner_text("main").split())
    assert page.locator("script, img, iframe, [onfocus], [autofocus]").count() == 0
    assert serious_violations(page) == []


def test_an_error_is_a_page_that_can_be_read(desk: Desk) -> None:
    page = desk.go("/nothing")
    assert "E201" in page.get_by_role("alert").inner_text()
    assert page.evaluate(OVERFLOWING) == []
    assert serious_violations(page) == []


def test_on_paper_there_is_what_can_be_read_and_nothing_to_press(desk: Desk) -> None:
    page = desk.go("/plans/{0}")
    page.emulate_media(media="print")
    assert page.get_by_role("button").count() == 0
    assert page.get_by_role("navigation").count() == 0
    assert "What leaves this unit" in page.inner_text("main")
    assert re.search(r"north officer ann, console of \d{4}-\d\d-\d\d \d\d:\d\d UTC", page.inner_text(".unit"))


def test_an_officer_without_a_mouse_denies_then_approves_then_revokes(desk: Desk) -> None:
    page, plan = desk.go("/"), desk.unit.waiting[0 if desk.page.viewport_size == {"width": 1280, "height": 900} else 1]
    desk.tab_to('a[href$="/plans"]')
    desk.press_enter()
    desk.tab_to(f'a[href$="{plan.digest}"]')
    desk.press_enter()
    desk.tab_to("#reason")
    page.keyboard.type("not without the works council")
    desk.tab_to("button.stop")
    desk.press_enter()
    assert "Denied" in page.get_by_role("status").inner_text()

    desk.go(f"/plans/{plan.digest}")
    desk.tab_to("button.go")
    desk.press_enter()
    assert "Approved" in page.get_by_role("status").inner_text()
    assert serious_violations(page) == []

    desk.tab_to(f'a[href$="{plan.digest}/revoke"]')
    desk.press_enter()
    desk.tab_to("#understood-revoke")
    page.keyboard.press("Space")
    desk.tab_to("button.stop")
    desk.press_enter()
    assert "Approved, then revoked" in page.get_by_role("status").inner_text()
    assert desk.complaints == []
    assert desk.unit.kinds()[-6:] == ["decision", "refusal", "decision", "approval", "decision", "closing"]


def test_no_approval_is_taken_back_before_the_box_is_ticked(desk: Desk) -> None:
    page, before = desk.go("/plans/{4}/revoke"), desk.unit.kinds()
    page.get_by_role("button", name="Sign and revoke").click()
    assert page.evaluate("document.querySelector('#understood-revoke').matches(':invalid')")
    assert desk.unit.kinds() == before


def test_who_was_not_given_the_link_sees_a_page_that_says_so(desk: Desk, browser: Browser) -> None:
    stranger = browser.new_context().new_page()
    stranger.goto(f"{desk.root}/")
    assert "E715" in stranger.get_by_role("alert").inner_text()
    assert serious_violations(stranger) == []
    stranger.context.close()


def test_signing_out_stops_the_console(unit: ConsoleUnit, browser: Browser, tmp_path: Path) -> None:
    with running_console(unit, "bob") as link:
        page = browser.new_context().new_page()
        page.goto(link)
        page.get_by_role("button", name="Sign out and stop").click()
        assert "Signed out" in page.inner_text("h1")
        assert serious_violations(page) == []
        page.context.close()
