"""The record of processing activities of a controller, GDPR Article 30(1)(a) to (g), as CSV and JSON. Pure."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

import fedseg
from fedseg.governance.facts import GROUNDS, UnitFacts, in_words
from fedseg.governance.measures import PROGRAM, measures
from fedseg.governance.statements import Statement, blank, blanks, fact
from fedseg.policy.purpose_rule import PurposeRule
from fedseg.policy.purposes import Purpose

COLUMNS: Final = ("article", "about", "says", "source", "blank")
_BOM: Final = "\ufeff"
_FORMULA: Final = "=+-@"


def record(facts: UnitFacts) -> tuple[Statement, ...]:
    """The record, in the order of Article 30(1)."""
    return (
        *_controller(facts),
        *(one for purpose, rule in facts.policy.purposes.items() for one in _purpose(facts, purpose, rule)),
        *_categories(facts),
        *_recipients(facts),
        blank("30(1)(e)", "Transfers to third countries", "each country, and the safeguards, or that there are none"),
        *_time_limits(facts),
        *measures(facts, "30(1)(g)"),
    )


def to_csv(statements: Sequence[Statement]) -> bytes:
    """The record for a spreadsheet: UTF-8 with a byte order mark. No cell is taken for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for one in statements:
        cells = (one.place, one.about, one.says, one.source, "yes" if one.is_blank else "no")
        writer.writerow([cell_text(cell) for cell in cells])
    return (_BOM + text.getvalue()).encode()


def to_json(facts: UnitFacts, statements: Sequence[Statement]) -> bytes:
    """The record for programs."""
    document = {
        "version": 1,
        "kind": "record",
        "law": "GDPR Article 30(1)",
        "fedseg": fedseg.__version__,
        "unit": facts.unit,
        "policy": {"id": facts.policy.id, "sha256": facts.policy.digest, "in_ledger": facts.policy_in_ledger},
        "blanks": blanks(statements),
        "statements": [
            {"article": one.place, "about": one.about, "says": one.says, "source": one.source, "blank": one.is_blank}
            for one in statements
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def cell_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like one gets an apostrophe before it.

    >>> cell_text("=1+1"), cell_text("Example Retail")
    ("'=1+1", 'Example Retail')
    """
    first = unicodedata.normalize("NFKC", text.lstrip())[:1]
    return f"'{text}" if first and first in _FORMULA else text


def _controller(facts: UnitFacts) -> Iterator[Statement]:
    place, joint = "30(1)(a)", _of_kind(facts, "joint-controller")
    yield fact(place, "Controller", facts.policy.controller, "policy: controller")
    yield blank(place, "Contact", "how to reach the controller: telephone, electronic mail")
    for name, endpoint in joint:
        yield fact(place, "Joint controller", f"{name}; about rights requests: {endpoint}", "policy: recipients")
    yield blank(
        place,
        "Joint controllers",
        "their full names and how to reach them" if joint else "names and contacts, or that there are none",
    )
    yield blank(place, "Representative", "name and contact, or that there is none (Article 27)")
    yield blank(place, "Data protection officer", "name and contact, or that there is none (Article 37)")


def _purpose(facts: UnitFacts, purpose: Purpose, rule: PurposeRule) -> Iterator[Statement]:
    place, source = "30(1)(b)", f"policy: purposes.{purpose.value}"
    says = f"{purpose.value}: {in_words(facts.words.purposes[purpose])}. Broader purpose: {purpose.broader_iri}"
    yield fact(place, f"Purpose {purpose.value}", says, source)
    for way in rule.ways():
        where = "" if way.jurisdictions is None else f"; under the law of {', '.join(way.jurisdictions)}"
        yield fact(place, f"Legal basis of {purpose.value}", f"{way.basis}: {GROUNDS[way.basis]}{where}", source)
    if rule.explicit_basis is not None:
        says = f"{rule.explicit_basis}: explicit consent (Article 9(2)(a) GDPR)"
        yield fact(place, f"Legal basis for special categories, {purpose.value}", says, source)


def _categories(facts: UnitFacts) -> Iterator[Statement]:
    place, source = "30(1)(c)", "node.toml: source"
    yield fact(place, "Data subjects", f"customers of {facts.unit}", "policy: budget.unit; node.toml: unit")
    yield fact(place, "Data source", f"{facts.source_file} ({facts.source_format})", source)
    yield fact(place, "Identifier", f"column {facts.subject_column}, replaced by a pseudonym as it is read", source)
    for purpose, rule in facts.policy.purposes.items():
        for name in rule.columns.allow:
            yield _column(facts, purpose, name, "")
        for name in rule.special_columns:
            used = "explicit consent" if rule.explicit_basis else "no plan may read it"
            yield _column(facts, purpose, name, f"; special category, {used}")
    kept = "a database on the unit's machine" if facts.register_in_database else "a file of the unit"
    says = f"in {kept}: pseudonym, purpose, kind and times of each event, version of the notice"
    yield fact(place, "Consent register", says, "node.toml: register")
    yield fact(place, "Requests of data subjects", "in a file of the unit: pseudonym, right, law, dates", PROGRAM)
    yield blank(place, "Meaning of the columns", "what each column says about a customer, and where it comes from")


def _column(facts: UnitFacts, purpose: Purpose, name: str, more: str) -> Statement:
    says = f"column {facts.source_column(name)} of the data source{more}"
    return fact(
        "30(1)(c)", f"{name}, for {purpose.value}", says, f"policy: purposes.{purpose.value}; node.toml: source.columns"
    )


def _recipients(facts: UnitFacts) -> Iterator[Statement]:
    place = "30(1)(d)"
    says = "sums over customers with noise, round by round, of plans that the unit has approved"
    yield fact(place, "The server of each plan", says, PROGRAM)
    for one in facts.policy.recipients or ():
        says = f"{one.kind.replace('-', ' ')}; about rights requests: {one.endpoint}"
        yield fact(place, f"Recipient {one.id}", says, "policy: recipients")
    if facts.policy.recipients is None:
        yield fact(place, "Recipients of segments", "the policy names none", "policy: recipients")
    yield blank(place, "The server's operator", "name and contact of whoever runs it")


def _time_limits(facts: UnitFacts) -> Iterator[Statement]:
    place, kept = "30(1)(f)", facts.policy.retention
    limits = (
        ("Customers' rows", kept.raw_days, "raw_days"),
        *([] if kept.lapsed_days is None else [("Rows after the end of consent", kept.lapsed_days, "lapsed_days")]),
        ("Evidence of consent", kept.consent_evidence_days, "consent_evidence_days"),
        ("List of customers who must not come back", kept.suppression_days, "suppression_days"),
        ("Backups", kept.backup_days, "backup_days"),
    )
    for about, days, key in limits:
        if days is None:
            yield blank(place, about, "after how many days they are erased; the policy does not say")
        else:
            yield fact(place, about, f"{days:,} days", f"policy: retention.{key}")
    yield fact(place, "Who erases", facts.words.kept.sentences[0], PROGRAM)


def _of_kind(facts: UnitFacts, kind: str) -> list[tuple[str, str]]:
    return [(one.id, one.endpoint) for one in facts.policy.recipients or () if one.kind == kind]
