"""Every number of an officer's report equals what plain arithmetic makes of the signed entries: all, and no other."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from benchmarks.year import make_year
from fedseg.report.officer import pack
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.exports import to_json
from fedseg.report.officer.model import OfficerReport
from fedseg.report.officer.render import render
from tests.report.noise_audit_file import audit_file
from tests.report.recomputed_bundle import Bundle
from tests.report.recomputed_report import Question, Recomputed, document_faults, page_faults, spreadsheet_faults

DIGIT = re.compile(r"&#?\w+;|(\d)")
SHOWN = re.compile(r'>([^<]+)<|(?:aria-label|points)="([^"]*)"')
"""Text and labels of a page."""


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days of daily plans at two units, over two months and years, which leave little of a budget."""
    year = make_year(10, 2, start=date(2025, 12, 27), month=4, rho_caps=("1/20", "2/25"))
    return year.write(tmp_path_factory.mktemp("officer") / "evidence.zip")


def made(evidence: Path, question: Question, folder: Path) -> tuple[OfficerReport, dict[str, bytes], Recomputed]:
    """The report that answers a question, the files of its folder, and what is recomputed without fedseg."""
    earlier = None
    if question.signed_off is not None:
        (folder / "report.json").write_bytes(question.signed_off)
        earlier = pack.signed_off(folder)
    period = None if question.period == "all" else question.period
    asked = pack.Question(period, question.keys, earlier, question.noise_audit)
    report, files = pack.make(gather([evidence]), asked)
    return report, files, Recomputed(Bundle.read(files["bundle.zip"]), question)


def faults(files: Mapping[str, bytes], recomputed: Recomputed) -> list[str]:
    """Every place in the three files that says something else than was recomputed."""
    return [
        *document_faults(json.loads(files["report.json"]), recomputed.document),
        *page_faults(files["report.html"].decode(), recomputed),
        *spreadsheet_faults(files["ledger.csv"].decode(), recomputed),
    ]


@pytest.fixture(scope="module")
def everything(
    evidence: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[OfficerReport, dict[str, bytes], Recomputed]:
    """The report about all of it, with an audit's file."""
    return made(evidence, Question(noise_audit=audit_file()), tmp_path_factory.mktemp("officer"))


@pytest.mark.parametrize("period", ["all", "2025", "2026-Q1", "2026-01"])
def test_every_number_is_what_the_signed_entries_give(evidence: Path, tmp_path: Path, period: str) -> None:
    _, files, recomputed = made(evidence, Question(period), tmp_path)

    assert faults(files, recomputed) == []


def test_so_is_every_number_of_keys_an_audit_and_an_earlier_report(evidence: Path, tmp_path: Path) -> None:
    _, earlier, first = made(evidence, Question("2025"), tmp_path)
    keys = {"unit-0": first.bundle.units[0].genesis["public_key"]}
    question = Question(keys=keys, signed_off=earlier["report.json"], noise_audit=audit_file())

    _, files, recomputed = made(evidence, question, tmp_path)

    assert faults(files, recomputed) == []


def test_so_is_every_number_of_a_fortnight_that_leaves_nearly_all(desk: Path) -> None:
    files = {path.name: path.read_bytes() for path in desk.iterdir()}

    assert faults(files, Recomputed(Bundle.read(files["bundle.zip"]), Question("2026-01"))) == []


def test_it_is_a_year_with_much_to_tell(everything: tuple[OfficerReport, dict[str, bytes], Recomputed]) -> None:
    """What has no number cannot be wrong: here everything that a report can hold of such ledgers has some."""
    report, _, _ = everything

    assert len(report.months) == 2
    assert report.refusals
    assert report.endings
    assert len(report.policy_changes) == 2
    assert all(one.forecast.day and one.rho_left * 5 < one.rho_cap for one in report.units)
    assert any("% of the privacy budget is left" in one.what for one in report.waiting)


# What is changed is found


def changed(digit: str) -> str:
    return str((int(digit) + 5) % 10)


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every value of a document: its place, what holds it, and under which name."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, one in items:
        if isinstance(one, dict | list):
            yield from leaves(one, f"{place}/{name}")
        else:
            yield f"{place}/{name}", value, name


@pytest.mark.parametrize("which", [0, -1])
def test_a_digit_changed_anywhere_in_the_document_is_found_there(
    everything: tuple[OfficerReport, dict[str, bytes], Recomputed], which: int
) -> None:
    _, files, recomputed = everything
    document, tried = json.loads(files["report.json"]), 0
    for place, holder, name in leaves(document):
        value = holder[name]
        text = json.dumps(value)
        if isinstance(value, bool) or not (digits := [*re.finditer(r"\d", text)]):
            continue
        at = digits[which].start()
        holder[name] = type(value)(json.loads(re.sub(r"^0(?=\d)", "", text[:at] + changed(text[at]) + text[at + 1 :])))
        (found,) = document_faults(document, recomputed.document)
        assert place.startswith(found)
        holder[name] = value
        tried += 1
    assert tried > 300


def test_a_digit_changed_anywhere_on_the_page_is_found(
    everything: tuple[OfficerReport, dict[str, bytes], Recomputed],
) -> None:
    _, files, recomputed = everything
    page = files["report.html"].decode()
    shown = [found.span(found.lastindex or 0) for found in SHOWN.finditer(page, page.index("<main>"))]
    digits = [at.start() for start, end in shown for at in DIGIT.finditer(page, start, end) if at[1]]
    assert len(digits) > 1000
    for at in digits[::7]:
        assert [*page_faults(page[:at] + changed(page[at]) + page[at + 1 :], recomputed)], page[at - 60 : at + 20]


def test_a_digit_changed_anywhere_in_the_spreadsheet_is_found(
    everything: tuple[OfficerReport, dict[str, bytes], Recomputed],
) -> None:
    _, files, recomputed = everything
    text = files["ledger.csv"].decode()
    for at in [found.start() for found in re.finditer(r"\d", text)][::37]:
        assert [*spreadsheet_faults(text[:at] + changed(text[at]) + text[at + 1 :], recomputed)]


def first_unit(report: OfficerReport, **figures: Any) -> OfficerReport:
    return replace(report, units=(replace(report.units[0], **figures), *report.units[1:]))


@pytest.mark.parametrize(
    ("change", "places"),
    [
        (lambda one: first_unit(one, rho_left=one.units[0].rho_left / 2), {"/units/0/rho_left", "top", "budget"}),
        (lambda one: first_unit(one, rho_reserved=Fraction(1, 1000)), {"/units/0/rho_reserved", "budget", "drawings"}),
        (lambda one: first_unit(one, burn_down=one.units[0].burn_down[1:]), {"/units/0/burn_down", "drawings"}),
        (lambda one: first_unit(one, spent=one.units[0].limit), {"/units/0/spent/rho", "/units/0/spent/guess", "budget"}),
        (lambda one: replace(one, plans=one.plans[1:]), {"/plans", "top", "released"}),
        (lambda one: replace(one, months=(one.months[0],) * 2), {"/months/1/month", "released"}),
        (lambda one: replace(one, log=(replace(one.log[0], entries=7), *one.log[1:])), {"/log/0/entries", "top", "log"}),
        (lambda one: replace(one, endings=()), {"/endings", "refused"}),
    ],
)  # fmt: skip
def test_a_figure_changed_in_the_report_shows_in_the_document_and_on_the_page(
    everything: tuple[OfficerReport, dict[str, bytes], Recomputed],
    change: Callable[[OfficerReport], OfficerReport],
    places: set[str],
) -> None:
    report, files, recomputed = everything
    other = change(report)

    found = faults({**files, "report.json": to_json(other), "report.html": render(other).encode()}, recomputed)

    assert places <= set(found)


def test_a_number_that_nobody_has_recomputed_is_found(
    everything: tuple[OfficerReport, dict[str, bytes], Recomputed],
) -> None:
    _, files, recomputed = everything
    document = json.loads(files["report.json"])
    document["units"][0]["customers"] = 300
    page = files["report.html"].decode().replace("</h1>", "</h1><p>300 customers</p>")

    assert [*document_faults(document, recomputed.document)] == ["/units/0/customers"]
    assert [*page_faults(page, recomputed)] == ["top"]
