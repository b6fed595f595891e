"""Every figure on the page equals what a few lines compute from the ledgers' signed entries alone, without fedseg."""

import csv
import io
import json
import math
import re
from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import minimize_scalar

from tests.report.officer_year import UNITS, Reading, ledger_lines, unzipped

FIRST, LAST = "2026-01-01", "2026-01-31"
DELTA = 1e-6


def epsilon(rho: Fraction) -> str:
    """Three digits, rounded up."""
    if not rho:
        return "0"

    def at(b: float) -> float:
        alpha = 1 + b
        return float(rho) * alpha - math.log(alpha * DELTA) / b + math.log(1 - 1 / alpha)

    best = minimize_scalar(lambda t: at(math.exp(t)), bounds=(-5, 12), method="bounded", options={"xatol": 1e-10})
    return up(float(best.fun), 3)


def guess(rho: Fraction) -> str:
    r, e = float(rho), float(epsilon_raw(rho))
    bounds = [
        (1 + math.sqrt(r / 2)) / 2,
        (1 + math.sqrt(1 - math.exp(-r))) / 2,
        (math.exp(e) + DELTA) / (math.exp(e) + 1),
    ]
    per_cent = math.ceil(1000 * min(*bounds, 1.0)) / 10
    return "practically 100 %" if per_cent >= 100 else f"{per_cent:g} %"


def epsilon_raw(rho: Fraction) -> float:
    grid = (rho_alpha(float(rho), 1 + math.exp(t / 200)) for t in range(-1000, 2400))
    return min(grid)


def rho_alpha(rho: float, alpha: float) -> float:
    return rho * alpha - math.log(alpha * DELTA) / (alpha - 1) + math.log(1 - 1 / alpha)


def up(value: float, digits: int) -> str:
    scale = 10 ** (digits - 1 - math.floor(math.log10(value)))
    shown = math.ceil(value * scale - 1e-9) / scale
    return f"{shown:.{max(0, digits - 1 - math.floor(math.log10(shown)))}f}"


def rho_text(rho: Fraction) -> str:
    """Three digits, rounded up, without zeros at the end."""
    if not rho:
        return "0"
    text = up(float(rho), 3)
    return text.rstrip("0").rstrip(".") if "." in text else text


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
def units(desk: Path) -> list[Reading]:
    return [Reading.of(unzipped(desk), name) for name in UNITS]


@pytest.fixture(scope="module")
def server(desk: Path) -> list[dict[str, Any]]:
    return ledger_lines(unzipped(desk), "server/ledger.txt")


def cap(unit: Reading) -> Fraction:
    return Fraction(unit.bodies("policy")[-1]["rho_cap"])


def left(part: Fraction, whole: Fraction) -> str:
    return f"{math.floor(100 * part / whole)} %"


def used(part: Fraction, whole: Fraction) -> str:
    return f"{math.ceil(100 * part / whole)} %"


def test_the_budgets_in_figures_are_the_sums_of_the_entries(page: Page, units: list[Reading]) -> None:
    wanted = [
        [one.name, *map(rho_text, (one.spent(), one.reserved(), cap(one))), epsilon(one.spent()), epsilon(cap(one))]
        for one in units
    ]
    spent, limit = sum((one.spent() for one in units), Fraction(0)), sum((cap(one) for one in units), Fraction(0))
    wanted.append(["all together", rho_text(spent), "\N{EN DASH}", rho_text(limit), epsilon(spent), epsilon(limit)])

    assert page.rows("Budgets in figures") == [[*row, "1 in 1,000,000"] for row in wanted]


def test_each_card_says_what_is_left_and_what_it_means(page: Page, units: list[Reading]) -> None:
    for one in units:
        spent, reserved, limit = one.spent(), one.reserved(), cap(one)
        days = [date.fromisoformat(body["released_on"]) for body in one.bodies("release")]
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


def test_the_burn_down_is_the_limit_of_each_day_less_all_charges_until_then(desk: Path, units: list[Reading]) -> None:
    document = json.loads((desk / "report.json").read_bytes())
    for one, said in zip(units, document["units"], strict=True):
        caps = [Fraction(body["rho_cap"]) for body in one.bodies("policy")]
        days = sorted({body["released_on"] for body in one.bodies("release")})
        wanted = [
            {"day": day, "rho_left": f"{rest.numerator}/{rest.denominator}", "rho_cap": f"{limit.numerator}/1"}
            for place, day in enumerate(days)
            if (limit := caps[place >= 6]) and (rest := limit - one.spent(last=day)) is not None
        ]
        assert said["burn_down"] == wanted


def test_what_was_released_is_what_the_releases_say(
    page: Page, units: list[Reading], server: list[dict[str, Any]]
) -> None:
    by_plan: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for unit in units:
        for body in unit.bodies("release"):
            by_plan.setdefault(body["plan_sha256"], []).append((unit.name, body))
    published = {one["body"]["plan_sha256"] for one in server if one["kind"] == "publication"}
    wanted = []
    for digest, found in by_plan.items():
        costs = [sum((Fraction(b["charge"]["rho"]) for u, b in found if u == name), Fraction(0)) for name in UNITS]
        (day,) = {body["released_on"] for _, body in found}
        numbers = sum(body["cells"] * body["width"] for _, body in found)
        row = [
            f"daily-{day} {digest[:12]}",
            day,
            str(len(UNITS)),
            str(len(found)),
            f"{numbers:,}",
            rho_text(max(costs)),
        ]
        assert digest in published
        wanted.append([*row, epsilon(max(costs)), guess(max(costs))])

    shown = page.rows("Releases by plan")

    assert [row[:-1] for row in shown] == sorted(wanted, key=lambda row: row[1], reverse=True)
    assert all(re.fullmatch(r"published, [0-3] shown", row[-1]) for row in shown)
    total = sum(len(found) for found in by_plan.values())
    assert f"Sent in the period {total} releases for {len(by_plan)} plans" in page.words


def test_refusals_and_endings_are_those_of_the_ledgers(page: Page, units: list[Reading]) -> None:
    refused = [
        (one["refused_on"], unit.name, one["plan_sha256"][:12]) for unit in units for one in unit.bodies("refusal")
    ]
    ended = [
        (one["closed_on"], unit.name, one["plan_sha256"][:12], one["ending"], rho_text(Fraction(one["rho_returned"])))
        for unit in units
        for one in unit.bodies("closing")
    ]

    assert refused
    assert [(row[0], row[1], row[2].split()[-1]) for row in page.rows("Refusals")] == sorted(refused, reverse=True)
    rows = [(row[0], row[1], row[2].split()[-1], row[3], row[4]) for row in page.rows("Approvals that ended")]
    assert rows == sorted(ended, reverse=True)
    assert f"{len(refused)} refusals in the period" in page.words


def test_the_log_is_named_by_its_sizes_and_the_change_of_policy_by_its_keys(
    page: Page, units: list[Reading], server: list[dict[str, Any]]
) -> None:
    entries = [len(server), *(len(one.entries) for one in units)]

    assert f"{1 + len(units)} signed ledgers with {sum(entries)} entries" in page.words
    for count in entries:
        assert f"{count} entries, root; no witness" in page.words
    assert ["budget.rho_cap", "8/1", "10/1"] in page.rows("What changed")
    assert "A new policy at unit-0, unit-1, unit-2" in page.words


def test_no_number_stands_in_the_figures_that_the_ledgers_do_not_give(
    desk: Path, page: Page, units: list[Reading]
) -> None:
    """Tables and cards were compared above as a whole; in sentences between them only these numbers stand."""
    top = page.words.partition("Waiting for somebody 8 ·")[0]
    numbers = Counter(re.findall(r"\d[\d,.-]*\d|\d", top.partition("The privacy budget of each unit")[0]))
    total = sum(len(one.bodies("release")) for one in units)
    allowed = {"2026-01", "2026-01-12", str(total), "4", "3", "1", "2", "50"}
    limit, reserved = cap(units[0]), max(one.reserved() for one in units)
    ledgers = [len(ledger_lines(unzipped(desk), "server/ledger.txt")), *(len(one.entries) for one in units)]
    allowed |= {left(limit - reserved, limit).split()[0], str(sum(ledgers)), "12", "0"}
    waiting = json.loads((desk / "report.json").read_bytes())["waiting"]
    assert set(numbers) - allowed - {str(len(waiting))} - set(re.findall(r"\d", " ".join(UNITS))) == set()


def test_the_spreadsheet_holds_every_entry_but_the_first_and_its_prices_add_up(
    desk: Path, units: list[Reading]
) -> None:
    rows = list(csv.DictReader(io.StringIO((desk / "ledger.csv").read_text(encoding="utf-8-sig"))))

    for one in units:
        mine = [row for row in rows if row["unit"] == one.name]
        assert [int(row["entry"]) for row in mine] == list(range(1, len(one.entries)))
        charged = sum(float(row["rho"]) for row in mine if row["what"] == "release")
        assert charged == pytest.approx(float(one.spent()), rel=1e-9)
        assert float([row for row in mine if row["what"] == "release"][-1]["rho_spent_after"]) >= float(one.spent())
