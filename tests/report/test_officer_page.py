"""The officer's page and its files: self-contained, hostile words stay text, the keys are those of the reference."""

import csv
import io
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from fedseg.audit.witnesses import WitnessLine, WitnessState
from fedseg.report.model import FailureFact
from fedseg.report.officer.checklist import POINTS
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.exports import COLUMNS, text_cell, to_json
from fedseg.report.officer.model import KeyFact, NoiseAudit, NoiseGame, OfficerReport, PolicyChange, Waiting
from fedseg.report.officer.pack import Question, make
from fedseg.report.officer.registry import Entry
from fedseg.report.officer.render import ROWS_MAX, render
from tests.report.test_report_page import HOSTILE, Tags

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "officers-report.md"


@pytest.fixture(scope="module")
def report(fortnight: Path) -> OfficerReport:
    return make(gather([fortnight]), Question(None, {}, None, None))[0]


def hostile(report: OfficerReport) -> OfficerReport:
    """The same report with a hostile text wherever a text can come from elsewhere."""
    game = NoiseGame(HOSTILE, HOSTILE, 10, 0.7, 0.6, 1.0, 0.5)
    line = WitnessLine(HOSTILE, HOSTILE, 2, None)
    seen = WitnessState("unit", 1, (line,), entries=3, covers=2, uncovered_releases=0)
    change = PolicyChange((HOSTILE,), (HOSTILE,), "0" * 64, "1" * 64, (KeyFact(HOSTILE, HOSTILE, HOSTILE),), (HOSTILE,))
    return replace(
        report,
        remarks=(HOSTILE,),
        absent=(HOSTILE,),
        units=tuple(replace(one, name=HOSTILE, software=(HOSTILE,), noise_sources=(HOSTILE,)) for one in report.units),
        plans=tuple(replace(one, name=HOSTILE, purpose=HOSTILE) for one in report.plans),
        refusals=tuple(replace(one, name=HOSTILE) for one in report.refusals),
        endings=tuple(replace(one, name=HOSTILE, ending=HOSTILE) for one in report.endings),
        policy_changes=(change,),
        waiting=(Waiting(HOSTILE, HOSTILE, HOSTILE),),
        noise_audit=NoiseAudit("0" * 64, HOSTILE, violated=False, false_alarm=0.0, games=(game,)),
        log=tuple(replace(one, name=HOSTILE, cosigned_by=(HOSTILE,), witnessing=seen) for one in report.log),
        checklist=tuple(replace(one, answers=(HOSTILE,), blank=HOSTILE) for one in report.checklist),
    )


def test_hostile_words_stay_text_everywhere(report: OfficerReport) -> None:
    plain, page = Tags(render(report)), Tags(render(hostile(report)))
    failed = Tags(render(replace(hostile(report), failures=(FailureFact(HOSTILE, HOSTILE, HOSTILE),))))

    for tags in (plain, page, failed):
        assert tags.open == []
        names = {name for name, _ in tags.found}
        assert not names & {"script", "img", "iframe", "form", "input", "link", "object"}
        assert not [key for _, attrs in tags.found for key in attrs if key.startswith("on")]
    assert {name for name, _ in page.found} == {name for name, _ in plain.found}


def test_the_page_asks_for_nothing_from_elsewhere(report: OfficerReport) -> None:
    page = render(report)

    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href|action)=\"(?!#)|url\(|@import|https?://", page)


def test_long_lists_are_cut_and_say_so(report: OfficerReport) -> None:
    many = replace(report, plans=report.plans * 9, refusals=report.refusals * 30, endings=report.endings * 30)

    page = render(many)

    assert f"the newest {ROWS_MAX} of {len(many.plans)}" in page
    assert f"the newest {ROWS_MAX} of {len(many.refusals)}" in page
    assert page.count("daily-2026-01-12") <= ROWS_MAX


def test_all_points_of_the_checklist_are_answered_from_facts_or_blank(report: OfficerReport) -> None:
    assert [one.number for one in report.checklist] == list(range(1, POINTS + 1))
    assert all(one.answers or one.blank for one in report.checklist)
    assert {one.number for one in report.checklist if one.blank} == {1, 2, 14, 15, 17, 18, 19, 20}
    assert "To be filled: " in render(report)


def test_the_reference_names_the_keys_of_the_document(report: OfficerReport) -> None:
    text = REFERENCE.read_text(encoding="utf-8").partition("## report.json")[2].partition("## ledger.csv")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE)
    documented = [key for cells, _ in rows for key in re.findall(r"`([a-z0-9_]+)`", cells)]
    document = json.loads(to_json(report))

    assert sorted(documented) == sorted(document)
    unit = next(said for key, said in rows if key == "`units`")
    assert set(re.findall(r"`([a-z0-9_]+)`", unit)) == set(document["units"][0])
    assert {field.name for field in fields(OfficerReport)} < set(document)


def test_the_reference_names_the_columns_of_the_spreadsheet(desk: Path) -> None:
    text = REFERENCE.read_text(encoding="utf-8").partition("## ledger.csv")[2].partition("## dp-registry")[0]

    assert tuple(re.findall(r"`([a-z0-9_]+)`", text)) == COLUMNS
    assert next(csv.reader(io.StringIO((desk / "ledger.csv").read_text(encoding="utf-8-sig")))) == list(COLUMNS)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "2026-11", "1-2", "1/2", "7", "1e5", "mar-1", "2026 Dec", "0001"]
)
def test_what_a_spreadsheet_would_read_otherwise_stays_text(text: str) -> None:
    assert text_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["north", "daily-2026-01-01", "fedseg:SegmentStatistics", "fedseg 0.1.0", "a=b"])
def test_other_names_stay_as_they_are(text: str) -> None:
    assert text_cell(text) == text


def test_the_registrys_entry_has_its_form_and_the_largest_limit(desk: Path, report: OfficerReport) -> None:
    entry = YAML(typ="safe").load((desk / "dp-registry.yaml").read_text(encoding="utf-8"))

    found = Entry.model_validate(entry)

    limit = found.deployment.privacy_loss.privacy_parameters
    assert limit.rho == max(float(one.limit.rho) for one in report.units)
    assert limit.epsilon >= max(one.limit.epsilon for one in report.units)
    assert found.deployment.basic.data_curators[0].data_curator_name == "Daily Retail, Example City"
    assert found.deployment.administrative.status == "Draft"
    with pytest.raises(ValidationError):
        Entry.model_validate(entry | {"approved": True})
