"""Every relative link of the documentation leads somewhere, and every page can be reached."""

import re
from pathlib import Path

import pytest

from tests.docs.transcripts import PAGES, ROOT

pytestmark = pytest.mark.docs

_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Targets of the page's links, less those to other sites."""
    found: list[str] = _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_but_the_decisions_is_on_the_map() -> None:
    index = ROOT / "docs/index.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent.name != "adr"}
    assert pages - listed == {index}


def test_every_decision_is_on_the_map_once_under_its_number_and_title() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in decisions]
    expected = [
        f"| {number} | [{title.removeprefix(f'# {number:04}. ')}](adr/{page.name}) |"
        for number, (page, title) in enumerate(zip(decisions, titles, strict=True), start=1)
    ]
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \d+ \| .*$", index, re.MULTILINE) == expected
