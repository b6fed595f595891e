"""The files beside the page: ledger.csv for spreadsheets, report.json for programs. Facts to bytes."""

import csv
import io
import json
import re
from collections.abc import Iterator
from fractions import Fraction

from fedseg.report.facts import plain
from fedseg.report.officer.evidence import Evidence
from fedseg.report.officer.model import OfficerReport
from fedseg.report.officer.period import Period
from fedseg.report.officer.records import (
    Approval,
    Closing,
    Decision,
    Event,
    Policy,
    Refusal,
    SentRelease,
    UnitRecord,
)
from fedseg.report.page import decimal

SCHEMA_VERSION = 1
KIND = "fedseg-officer-report"
COLUMNS = (
    "unit", "day", "entry", "what", "plan", "plan_sha256", "purpose", "round", "numbers", "sigma",
    "sensitivity_squared", "rho", "rho_spent_after", "noise", "by", "software",
)  # fmt: skip
"""Of ledger.csv."""
_BOM = "\ufeff"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_NOT_TEXT = re.compile(
    rf"[=+\-@\t\r].*|[0-9.,:/ -]+(?:e[0-9]+)?|[0-9]*[-/ .]?{_MONTH}[-/ .]?[0-9]*", re.DOTALL | re.IGNORECASE
)
"""What a spreadsheet would take for a formula, a number or a date."""
_DIGITS = 12


def to_json(report: OfficerReport) -> bytes:
    """report.json: fractions as exact text, epsilons with all their digits and as shown, rounded up."""
    document = {"schema_version": SCHEMA_VERSION, "kind": KIND, "verified": report.verified, **plain(report)}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def to_csv(evidence: Evidence, period: Period | None) -> bytes:
    """ledger.csv: every entry of the units' ledgers in the period, by unit and entry; UTF-8 with a byte order mark."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for unit in evidence.units if not evidence.failures else ():
        for row in sorted(_rows(unit, evidence), key=lambda row: int(row["entry"])):
            if period is None or period.holds(row["day"]):
                writer.writerow([row.get(column, "") for column in COLUMNS])
    return (_BOM + text.getvalue()).encode()


def text_cell(text: str) -> str:
    """A name as a cell that stays text: what a spreadsheet would read otherwise has an apostrophe before it."""
    return f"'{text}" if _NOT_TEXT.fullmatch(text) else text


_Line = Policy | Approval | SentRelease | Refusal | Closing | Decision | Event


def _rows(unit: UnitRecord, evidence: Evidence) -> Iterator[dict[str, str]]:
    approvals: tuple[_Line, ...] = (*unit.policies, *unit.decisions, *unit.approvals, *unit.refusals, *unit.closings)
    lines: list[_Line] = [*approvals, *unit.releases, *unit.events]
    for line in lines:
        row = {"unit": text_cell(unit.log.name), "day": line.day, "entry": str(line.entry)} | _said(line)
        digest = getattr(line, "plan_sha256", "")
        if plan := evidence.plans.get(digest):
            row |= {"plan": text_cell(plan.name), "purpose": text_cell(plan.purpose)}
        yield row | ({"plan_sha256": text_cell(digest)} if digest else {})


def _said(line: _Line) -> dict[str, str]:
    match line:
        case Policy():
            return {"what": "policy", "by": _names(line.signed_by)}
        case Approval():
            return {"what": "approval", "rho": _decimal(line.rho), "by": text_cell(line.by)}
        case SentRelease():
            return {
                "what": "release",
                "round": str(line.step + 1),
                "numbers": str(line.integers),
                "sigma": str(line.sigma),
                "sensitivity_squared": str(line.l2_sensitivity_squared),
                "rho": _decimal(line.rho),
                "rho_spent_after": _decimal(line.rho_spent_after),
                "noise": text_cell(line.noise_source),
                "software": text_cell(line.software),
            }
        case Refusal() | Event():
            return {"what": line.what if isinstance(line, Event) else "refusal"}
        case Closing():
            return {"what": line.ending, "rho": f"-{_decimal(line.rho_returned)}"}
        case Decision():
            return {"what": f"decision: {line.verdict}", "by": text_cell(line.officer)}


def _names(names: tuple[str, ...]) -> str:
    return text_cell(" and ".join(names)) if names else ""


def _decimal(value: Fraction) -> str:
    """Exact ones stand in report.json and in the ledgers."""
    return decimal(value, _DIGITS)
