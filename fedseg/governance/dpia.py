"""A data protection impact assessment begun from facts, as a file for the PIA software of the French authority. Pure.

The form is that of LINCnil/pia, which its "import" reads: `{pia, answers, measures, evaluations, comments}`. An
answer's `reference_to` is the number of a question; its text is HTML. Questions about risks, evaluations and opinions
are matters of judgement: they are left as the software leaves them in a new assessment.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import escape

from fedseg.governance.facts import GROUNDS, UnitFacts, in_words, together
from fedseg.governance.measures import PROGRAM, measures
from fedseg.governance.statements import Statement, blank, fact
from fedseg.policy.purpose_rule import ByConsent, ByNotice

QUESTIONS: Final = tuple(map(str, (*range(111, 114), *range(121, 124), *range(211, 216), *range(221, 228))))
"""Of context and principles: what the processing is. All are answered, or are blanks."""
JUDGEMENTS: Final = tuple(str(10 * risk + question) for risk in (32, 33, 34) for question in range(1, 7))
"""About access, change and loss: impacts, threats, sources, measures that help, severity, likelihood."""
OPINIONS: Final = ("dpo_opinion", "concerned_people_opinion")
"""Of the data protection officer, and of the people concerned."""
LEFT_EMPTY: Final = len(JUDGEMENTS) + len(OPINIONS)
"""How many answers are left for people beside the blanks."""
_DATABASE_VERSION: Final = 201_910_230_914
"""Older versions of the software refuse a file without the version of its database."""
_ID: Final = 1
_PEOPLE: Final = ("author_name", "evaluator_name", "validator_name")


def assessment(facts: UnitFacts) -> tuple[Statement, ...]:
    """Every answer, measure and name in the assessment; `place` is a question, "measure" or "pia"."""
    return (
        *_context(facts),
        *_data(facts),
        *_proportionality(facts),
        *_rights(facts),
        *_others(facts),
        *measures(facts, "measure"),
        *(blank("pia", name, f"{name.removesuffix('_name')} of this assessment") for name in _PEOPLE),
    )


def to_json(facts: UnitFacts, statements: Sequence[Statement], now: datetime) -> bytes:
    """The assessment as the software's import takes it."""
    moment = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stamp = {"created_at": moment, "updated_at": moment}
    answers = [
        {"id": number, "pia_id": _ID, "reference_to": int(question), "data": _answer(statements, question), **stamp}
        for number, question in enumerate(QUESTIONS, 1)
    ]
    taken = [
        {
            "id": number,
            "pia_id": _ID,
            "title": one.about,
            "content": _paragraph(one),
            "placeholder": "measures.default_placeholder",
            **stamp,
        }
        for number, one in enumerate((one for one in statements if one.place == "measure"), 1)
    ]
    document = {
        "pia": _head(facts, statements) | stamp,
        "answers": answers,
        "measures": taken,
        "evaluations": [],
        "comments": [],
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _head(facts: UnitFacts, statements: Sequence[Statement]) -> dict[str, Any]:
    """The assessment itself: in progress, and nobody's opinion in it."""
    names = {one.about: one.says for one in statements if one.place == "pia"}
    return {
        "id": _ID,
        "dbVersion": _DATABASE_VERSION,
        "status": 0,
        "is_example": 0,
        "is_archive": 0,
        "progress": 0,
        "name": f"Segments of customers, {facts.unit} ({facts.policy.id})",
        "category": "",
        **names,
        "structure_id": "",
        "dpos_names": None,
        "dpo_status": None,
        "dpo_opinion": None,
        "people_names": None,
        "concerned_people_searched_opinion": None,
        "concerned_people_searched_content": None,
        "concerned_people_status": None,
        "concerned_people_opinion": None,
        "rejected_reason": None,
        "applied_adjustements": None,
    }


def _answer(statements: Sequence[Statement], question: str) -> dict[str, Any]:
    text = "".join(_paragraph(one, one.about) for one in statements if one.place == question)
    return {"text": text, "gauge": None, "list": []}


def _paragraph(one: Statement, title: str = "") -> str:
    """A statement as HTML, its text escaped."""
    text = f"<strong>{escape(one.says)}</strong>" if one.is_blank else str(escape(one.says))
    return f"<p>{escape(title)}: {text}</p>" if title else f"<p>{text}</p>"


def _context(facts: UnitFacts) -> Iterator[Statement]:
    policy, named = facts.policy, "policy: purposes"
    done = "; ".join(in_words(section) for section in facts.words.purposes.values())
    yield fact(
        "111", "Processing", f"Segments of customers of {facts.unit}, under the policy {policy.id}: {done}.", named
    )
    yield blank("111", "Stakes", "what is expected from it, and in which context it is done")
    yield fact("112", "Controller", policy.controller, "policy: controller")
    for one in policy.recipients or ():
        yield fact("112", one.id, one.kind.replace("-", " "), "policy: recipients")
    yield blank("112", "Others", "whoever runs the server, and further processors or joint controllers")
    yield blank("113", "Standards", "codes of conduct and certifications that apply, or that there are none")


def _data(facts: UnitFacts) -> Iterator[Statement]:
    for purpose, rule in facts.policy.purposes.items():
        source = f"policy: purposes.{purpose.value}"
        columns = ", ".join(_mapped(facts, name) for name in rule.columns.allow)
        yield fact("121", f"Columns for {purpose.value}", columns, f"{source}; node.toml: source.columns")
        if rule.special_columns:
            used = "read, with explicit consent" if rule.explicit_basis else "not read: no basis is declared"
            named = ", ".join(_mapped(facts, name) for name in rule.special_columns)
            yield fact("121", f"Special categories for {purpose.value}", f"{named} ({used})", source)
    yield fact("121", "Recipients", together(facts.words.recipients.sentences), "policy: recipients")
    yield fact("121", "Kept", together(facts.words.kept.sentences), "policy: retention")
    yield blank("121", "People with access", "who at the unit can open customers' data")
    yield fact(
        "122",
        "What fedseg does",
        "Customers are read from the data source when a plan is checked, and again in each round. The gate takes out "
        "whoever may not be counted. What is left is bounded by public limits and added up, noise is added to the "
        "sums, their price is charged in the ledger, and only then the sums leave. The server makes segments of the "
        "sums of all units.",
        PROGRAM,
    )
    yield blank("122", "Before and after", "how data get into the data source, and what is done with the segments")
    kept = "a database on the same machine" if facts.register_in_database else "a file"
    said = f"data source {facts.source_file} ({facts.source_format}); consent register in {kept}; ledger in a file"
    yield fact("123", "Files", said, "node.toml: source, register")
    yield blank("123", "Machines and people", "where these are, on which systems, and who runs them")


def _mapped(facts: UnitFacts, name: str) -> str:
    column = facts.source_column(name)
    return name if column == name else f"{name} (column {column} of the source)"


def _proportionality(facts: UnitFacts) -> Iterator[Statement]:
    for purpose, rule in facts.policy.purposes.items():
        source, section = f"policy: purposes.{purpose.value}", facts.words.purposes[purpose]
        yield fact("211", purpose.value, f"{in_words(section)}; broader purpose {purpose.broader_iri}", source)
        grounds = "; ".join(GROUNDS[way.basis] for way in rule.ways())
        yield fact("212", purpose.value, f"{grounds}. {together(section.sentences)}", source)
        yield fact(
            "213",
            purpose.value,
            f"Only {', '.join(rule.readable)} may be read. fedseg lets only sums with noise leave the unit. With "
            f"fewer than {rule.min_cohort:,} customers the unit approves no plan.",
            source,
        )
    yield fact("211", "Ruled out", together(facts.words.uses.sentences), "policy: forbidden_uses")
    yield blank("211", "Legitimacy", "why these purposes are legitimate")
    if facts.rests_on_interests:
        yield blank("212", "Balancing test", "which interests are pursued, and why they are not overridden")
    yield blank("213", "Necessity", "why each column is needed")
    yield fact("214", "Reading", "Values are taken as they stand in the data source at each round.", PROGRAM)
    yield blank("214", "Accuracy", "how the data source is kept accurate and up to date")
    yield fact("215", "Kept", together(facts.words.kept.sentences), "policy: retention")
    yield blank("215", "Necessity", "why each term is needed, and who erases when it ends")


def _rights(facts: UnitFacts) -> Iterator[Statement]:
    told = [
        way.notice_min_version if isinstance(way, ByNotice) else way.consent.notice_min_version for way in facts.ways
    ]
    versions = " or ".join(f"version {one}" for one in sorted(set(told)))
    says = f"Counted is only who was given {versions} of the privacy notice, or a later one, as the basis asks."
    yield fact("221", "Notice", says, "policy: purposes")
    yield blank("221", "How and when", "where customers find the notice, and how its versions differ")
    yield from _consent(facts)
    says = "On request the unit writes down all that it holds about a person, as JSON. Deadlines are watched."
    yield fact("223", "Access and portability", says, PROGRAM)
    yield blank("223", "Contact", "where customers turn to, and how they prove who they are")
    yield fact(
        "224",
        "Erasure",
        "Rows, consents and what else the unit's files hold are erased on request, and a signed certificate says so. "
        "Who was erased is not counted again. What was published stays; epsilon bounds what it tells.",
        PROGRAM,
    )
    yield blank("224", "Rectification", "how data are corrected in the system that the data source comes from")
    says = "Both are recorded on request and hold for every purpose from the next round on, whatever consent follows."
    yield fact("225", "Restriction and objection", says, PROGRAM)
    yield blank("225", "Contact", "where customers turn to")


def _consent(facts: UnitFacts) -> Iterator[Statement]:
    found = False
    for purpose, rule in facts.policy.purposes.items():
        for way in (way for way in rule.ways() if isinstance(way, ByConsent)):
            found = True
            says = f"At most {way.consent.max_age_days:,} days old, to this purpose by itself; withdrawn at any time."
            yield fact("222", purpose.value, says, f"policy: purposes.{purpose.value}")
    if not found:
        yield fact("222", "Consent", "No purpose rests on consent.", "policy: purposes")
        return
    yield blank("222", "How it is asked for", "the wording, the form, and how it is withdrawn as easily as it is given")


def _others(facts: UnitFacts) -> Iterator[Statement]:
    processors = [one for one in facts.policy.recipients or () if one.kind == "processor"]
    for one in processors:
        yield fact("226", one.id, f"processor; about rights requests: {one.endpoint}", "policy: recipients")
    if not processors:
        yield fact("226", "Processors", "The policy names none.", "policy: recipients")
    yield blank("226", "Contracts", "the contract with each processor, whoever runs the server among them")
    yield blank("227", "Transfers", "each country outside the Union, and the safeguards, or that there are none")
