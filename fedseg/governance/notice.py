"""What customers are told: what is grouped, why, by which columns, under which noise, how to object, how long. Pure.

GDPR Articles 13 and 14. Sentences are plain text that begins with words of ours; Markdown and HTML are made of them
with everything escaped.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from markupsafe import escape

from fedseg.governance.facts import GROUNDS, UnitFacts
from fedseg.governance.measures import PROGRAM
from fedseg.governance.statements import Statement, blank, fact
from fedseg.policy.purposes import Purpose

TITLE: Final = "How we find groups of customers"
_DONE: Final[Mapping[Purpose, str]] = MappingProxyType(
    {
        Purpose.SEGMENT_STATISTICS: "We find groups of customers who are alike. For this we add up figures over "
        "customers.",
        Purpose.SEGMENT_ASSIGNMENT: "We determine which of these groups you are in. This is profiling.",
        Purpose.SEGMENT_ACTIVATION: "We use the group that you are in to address you.",
    }
)
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]#|~&<>])")


def notice(facts: UnitFacts) -> tuple[Statement, ...]:
    """The notice, in the order in which it is read; `place` is the heading."""
    return (
        *_who(facts),
        *_what(facts),
        *_grounds(facts),
        *_data(facts),
        *_protection(facts),
        *_recipients(facts),
        *_kept(facts),
        *_rights(facts),
    )


def to_markdown(statements: Sequence[Statement]) -> bytes:
    """The notice as Markdown, in which no name is taken for markup."""
    lines = [f"## {TITLE}"]
    for heading in dict.fromkeys(one.place for one in statements):
        lines.append(f"### {heading}")
        lines += [_markdown(one) for one in statements if one.place == heading]
    return ("\n\n".join(lines) + "\n").encode()


def to_html(statements: Sequence[Statement]) -> bytes:
    """The notice as a section to put into a page; every text in it is escaped."""
    lines = ["<section>", f"<h2>{TITLE}</h2>"]
    for heading in dict.fromkeys(one.place for one in statements):
        lines.append(f"<h3>{escape(heading)}</h3>")
        for one in (one for one in statements if one.place == heading):
            text = f"<mark>{escape(one.says)}</mark>" if one.is_blank else str(escape(one.says))
            lines.append(f"<p>{text}</p>")
    return ("\n".join([*lines, "</section>"]) + "\n").encode()


def _markdown(one: Statement) -> str:
    text = _MARKDOWN.sub(r"\\\1", one.says)
    return f"**{text}**" if one.is_blank else text


def _who(facts: UnitFacts) -> Iterator[Statement]:
    place = "Who we are"
    yield fact(place, "controller", f"Responsible for your data: {facts.policy.controller}", "policy: controller")
    yield blank(place, "contact", "how to reach us, and our data protection officer")


def _what(facts: UnitFacts) -> Iterator[Statement]:
    place = "What we do, and why"
    for purpose in facts.policy.purposes:
        yield fact(place, purpose.value, _DONE[purpose], f"policy: purposes.{purpose.value}")
    if facts.plan is not None and facts.plan.learns_bounds:
        yield fact(
            place, "plan", "For now we only learn between which values customers' figures lie.", "plan: algorithm"
        )
    elif facts.plan is not None:
        yield fact(place, "plan", f"We look for {facts.plan.k} groups, together with the units named below.", "plan: k")
    yield blank(place, "why", "what we want to learn from groups, and what we do with them")
    if set(facts.policy.purposes) == {Purpose.SEGMENT_STATISTICS}:
        says = "The groups come from sums over customers. Our program does not put single persons into a group."
        yield fact(place, "profiling", says, "policy: purposes")
    if facts.policy.forbidden_uses is not None:
        named = "; ".join(use.says for use in facts.policy.forbidden_uses)
        yield fact(place, "uses", f"We do not use the groups for: {named}.", "policy: forbidden_uses")
    yield blank(
        place, "decisions", "whether decisions about you are made by a machine alone, and what they mean for you"
    )


def _grounds(facts: UnitFacts) -> Iterator[Statement]:
    place = "What entitles us"
    for basis in dict.fromkeys(way.basis for way in facts.ways):
        yield fact(place, basis, f"Legal basis: {GROUNDS[basis]}.", "policy: purposes")
    if any(way.basis in ("eu-gdpr:A6-1-a", "dpv:Consent") for way in facts.ways):
        says = "You may withdraw your consent at any time. What was done before remains lawful."
        yield fact(place, "withdrawal", says, "GDPR Article 7(3)")
    if facts.rests_on_interests:
        yield blank(place, "interests", "which legitimate interests we pursue")


def _data(facts: UnitFacts) -> Iterator[Statement]:
    place = "Which data we use"
    rules = facts.policy.purposes.values()
    if facts.plan is not None:
        labels = "; ".join(f"{one.label} ({one.name})" for one in facts.plan.features)
        yield fact(place, "plan", f"These data about you: {labels}.", "plan: features")
    else:
        names = ", ".join(dict.fromkeys(name for rule in rules for name in rule.columns.allow))
        yield fact(place, "columns", f"At most these data about you: {names}.", "policy: purposes")
        yield blank(place, "meaning", "what these names mean, in words that customers know")
    yield from _special(facts, place)
    yield blank(place, "origin", "where we have these data from, if not from you")


def _special(facts: UnitFacts, place: str) -> Iterator[Statement]:
    rules = facts.policy.purposes.values()
    special = list(dict.fromkeys(name for rule in rules if rule.explicit_basis for name in rule.special_columns))
    among = "Besides"
    if facts.plan is not None:
        asked = {one.name for one in facts.plan.features}
        special, among = [name for name in special if name in asked], "Of these"
    if special:
        says = f"{among}, sensitive, and used only if you have agreed to it expressly: {', '.join(special)}."
        yield fact(place, "special categories", says, "policy: purposes")


def _protection(facts: UnitFacts) -> Iterator[Statement]:
    place = "What protects you"
    if facts.is_simulated:
        says = (
            "NOT PRIVATE: some results so far are a rehearsal with made-up noise. What follows does not hold for them."
        )
        yield fact(place, "rehearsal", says, "ledger: releases")
    says = "To find groups, only sums over customers leave us, with random noise added to them; not your own figures."
    yield fact(place, "noise", says, PROGRAM)
    says = (
        "The noise bounds how much more anybody can learn about you from all results together, for ever, than if your "
        f"data were not in them. The measure is called epsilon: ours is at most {facts.epsilon_guaranteed} (delta "
        f"{facts.delta}). At 0 it would be nothing more."
    )
    yield fact(place, "epsilon", says, "policy: budget; ledger: charges")


def _recipients(facts: UnitFacts) -> Iterator[Statement]:
    place = "Who receives results"
    yield fact(place, "server", "The sums with noise go to the server of those we find groups with.", PROGRAM)
    if facts.plan is not None:
        names = ", ".join(one.name for one in facts.plan.units)
        yield fact(place, "units", f"Units that take part: {names}.", "plan: units")
    for one in facts.policy.recipients or ():
        yield fact(place, one.id, f"Recipient: {one.id}, as {one.kind.replace('-', ' ')}.", "policy: recipients")
    yield blank(place, "who they are", "their names, and whether any of them is outside the European Economic Area")


def _kept(facts: UnitFacts) -> Iterator[Statement]:
    place, kept = "How long we keep data", facts.policy.retention
    yield fact(place, "rows", f"Data about you: {kept.raw_days:,} days.", "policy: retention.raw_days")
    if kept.lapsed_days is not None:
        says = f"Data about you once your consent has ended: {kept.lapsed_days:,} days."
        yield fact(place, "lapsed", says, "policy: retention.lapsed_days")
    says = f"Records of what you agreed or objected to: {kept.consent_evidence_days:,} days."
    yield fact(place, "consents", says, "policy: retention.consent_evidence_days")
    if kept.suppression_days is not None:
        says = f"A mark that you are not to be counted again, after an erasure: {kept.suppression_days:,} days."
        yield fact(place, "suppression", says, "policy: retention.suppression_days")
    if kept.backup_days is not None:
        yield fact(place, "backups", f"Backups: {kept.backup_days:,} days.", "policy: retention.backup_days")


def _rights(facts: UnitFacts) -> Iterator[Statement]:
    place = "Your rights"
    says = (
        "You may object at any time. From the next computation on you are not counted, whatever you agreed to before. "
        "You may also see your data, have them corrected, erased, restricted, or handed over to you."
    )
    yield fact(place, "objection", says, f"{PROGRAM}; GDPR Articles 15 to 21")
    if any(way.basis == "us-ca:notice-and-opt-out" for way in facts.ways):
        says = "If you live in California, you may opt out of the sale and sharing of your data."
        yield fact(place, "opt-out", says, "policy: purposes")
    yield fact(place, "published", "Results that are published stay; they do not name you.", PROGRAM)
    yield blank(place, "how", "where to object and to ask, and how")
    yield blank(place, "complaint", "the supervisory authority to which you may complain")
