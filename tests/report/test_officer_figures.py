"""What the page says of each figure, in words, tables and cards: the figures are those that `recomputed_bundle` makes of entries."""

import re
from datetime import date, timedelta
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.report.recomputed_bundle import Bundle, Ledger, left, short, shown_epsilon, shown_guess, used

LAST = "2026-01-31"
DELTA = Fraction(1, 10**6)


def epsilon(rho: Fraction) -> str:
    return shown_epsilon(rho, DELTA)


def guess(rho: Fraction) -> str:
    return shown_guess(rho, DELTA)


class Page(HTMLParser):
    """The rows of each table by its label, and all visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.text: list[str] = []
        self._rows: list[list[str]] | None = None
        self._hidden = self._cell = False
        self.feed(page)
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = self._hidden or tag in ("style", "title")
        label = dict(attrs).get("aria-label")
        if tag == "div" and label:
            self._rows = self.tables.setdefault(label, [])
        if tag == "tr" and self._rows is not None:
            self._rows.append([])
        if tag == "td" and self._rows is not None:
            self._cell = True
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = self._hidden and tag not in ("style", "title")
        self._cell = self._cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text.append(data)
            if self._cell and self._rows is not None:
                self._rows[-1][-1] = " ".join(f"{self._rows[-1][-1]} {data}".split())

    def rows(self, label: str) -> list[list[str]]:
        return [row for row in self.tables[label] if row]


@pytest.fixture(scope="module")
def page(desk: Path) -> Page:
    return Page((desk / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle(desk: Path) -> Bundle:
    return Bundle.read((desk / "bundle.zip").read_bytes())


@pytest.fixture(scope="module")
def units(bundle: Bundle) -> list[Ledger]:
    return bundle.units


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Ledger:
    return bundle.server


def cap(unit: Ledger) -> Fraction:
    return Fraction(unit.of("policy")[-1]["rho_cap"])


def test_the_budgets_in_figures_are_the_sums_of_the_entries(page: Page, units: list[Ledger]) -> None:
    wanted = [
        [one.name, *map(short, (one.spent(), one.reserved(LAST), cap(one))), epsilon(one.spent()), epsilon(cap(one))]
        for one in units
    ]
    spent, limit = sum((one.spent() for one in units), Fraction(0)), sum((cap(one) for one in units), Fraction(0))
    wanted.append(["all together", short(spent), "\N{EN DASH}", short(limit), epsilon(spent), epsilon(limit)])

    assert page.rows("Budgets in figures") == [[*row, "1 in 1,000,000"] for row in wanted]


def test_each_card_says_what_is_left_and_what_it_means(page: Page, units: list[Ledger]) -> None:
    for one in units:
        spent, reserved, limit = one.spent(), one.reserved(LAST), cap(one)
        days = [date.fromisoformat(body["released_on"]) for body in one.of("release")]
        pace = spent / ((days[-1] - days[0]).days + 1)
        gone = (days[-1] + timedelta(days=(limit - reserved) // pace)).isoformat()
        wanted = (
            f"{one.name} {left(limit - reserved, limit)} left to approve {used(spent, limit)} spent, "
            f"{used(reserved, limit)} reserved by approved plans Somebody who knows everything else about a customer can "
            f"raise the guess from 50 % to at most {guess(spent)} with all that was sent so far, and to at most "
            f"{guess(limit)} once the whole budget is spent. 2026-01-01"
        )
        forecast = (
            f"at the pace of the last 12 days, the rest is gone on {gone} . In the period: {len(days)} releases, "
            f"{used(spent, limit)} of the budget. fedseg:SegmentStatistics {used(spent, limit)} spent, "
            f"{used(reserved, limit)} reserved of the unit\N{RIGHT SINGLE QUOTATION MARK}s budget"
        )
        assert wanted in page.words
        assert forecast in page.words


def test_what_was_released_is_what_the_releases_say(page: Page, units: list[Ledger], server: Ledger) -> None:
    by_plan: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for unit in units:
        for body in unit.of("release"):
            by_plan.setdefault(body["plan_sha256"], []).append((unit.name, body))
    published = {one["plan_sha256"] for one in server.of("publication")}
    wanted = []
    for digest, found in by_plan.items():
        costs = [
            sum((Fraction(b["charge"]["rho"]) for u, b in found if u == name), Fraction(0))
            for name in (one.name for one in units)
        ]
        (day,) = {body["released_on"] for _, body in found}
        numbers = sum(body["cells"] * body["width"] for _, body in found)
        row = [
            f"daily-{day} {digest[:12]}",
            day,
            str(len(units)),
            str(len(found)),
            f"{numbers:,}",
            short(max(costs)),
        ]
        assert digest in published
        wanted.append([*row, epsilon(max(costs)), guess(max(costs))])

    shown = page.rows("Releases by plan")

    assert [row[:-1] for row in shown] == sorted(wanted, key=lambda row: row[1], reverse=True)
    assert all(re.fullmatch(r"published, [0-3] shown", row[-1]) for row in shown)
    total = sum(len(found) for found in by_plan.values())
    assert f"Sent in the period {total} releases for {len(by_plan)} plans" in page.words


def test_refusals_and_endings_are_those_of_the_ledgers(page: Page, units: list[Ledger]) -> None:
    refused = [(one["refused_on"], unit.name, one["plan_sha256"][:12]) for unit in units for one in unit.of("refusal")]
    ended = [
        (one["closed_on"], unit.name, one["plan_sha256"][:12], one["ending"], short(Fraction(one["rho_returned"])))
        for unit in units
        for one in unit.of("closing")
    ]

    assert refused
    assert [(row[0], row[1], row[2].split()[-1]) for row in page.rows("Refusals")] == sorted(refused, reverse=True)
    rows = [(row[0], row[1], row[2].split()[-1], row[3], row[4]) for row in page.rows("Approvals that ended")]
    assert rows == sorted(ended, reverse=True)
    assert f"{len(refused)} refusals in the period" in page.words


def test_the_log_is_named_by_its_sizes_and_the_change_of_policy_by_its_keys(
    page: Page, units: list[Ledger], server: Ledger
) -> None:
    entries = [len(server.entries), *(len(one.entries) for one in units)]

    assert f"{1 + len(units)} signed ledgers with {sum(entries)} entries" in page.words
    for count in entries:
        assert f"{count} entries, root; no witness" in page.words
    assert ["budget.rho_cap", "8/1", "10/1"] in page.rows("What changed")
    assert "A new policy at unit-0, unit-1, unit-2" in page.words
