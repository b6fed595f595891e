"""Every number of an officer's report, recomputed from its bundle: what report.json must hold, and the page say.

Only numbers are compared; words may change. What `document_faults` and `page_faults` return is each number that is not
as recomputed here, and each that nobody has recomputed. A report of evidence that does not check out states no figures,
and is none of these; nor is one of units with witnesses, whose cosignatures are no sums.
"""

import csv
import hashlib
import io
import json
import re
import tomllib
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath

from tests.report import recomputed_bundle as own
from tests.report.recomputed_bundle import Bundle, Ledger, exact, left, one_in, short, shown_epsilon, shown_guess, used

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SOFTWARE = f"fedseg {tomllib.loads(Path('pyproject.toml').read_text(encoding='utf-8'))['project']['version']}"
SCHEMA_VERSION = 1
POINTS = 22
"""Of the checklist, after NIST SP 800-226."""
BLANKS = {1, 2, 14, 15, 17, 19, 20}
"""Points that only people can answer in full; the 18th too if no empirical audit is shown."""
CSV_DIGITS = 12
"""Significant digits of a price in ledger.csv, rounded up."""
ROWS_MAX = 40
"""Rows of a table on the page; the rest stands in report.json."""
COIN = "50"
"""In per cent, how often a guess is right of which nothing is known."""
SHA = "SHA-256"
"""Stands before the bundle's."""
HASH = 12
"""Digits of any other hash on the page."""
WIDTH, HEIGHT = 340, 110
"""Of a drawing; its plot keeps 2 from the sides, 8 from the top and 20 from the bottom."""
_NEARLY_CERTAIN, _LITTLE_LEFT, _FORGOTTEN_DAYS = Decimal("0.95"), Fraction(1, 5), 30


@dataclass(frozen=True)
class Question:
    """What a report was asked for."""

    period: str = "all"
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    signed_off: bytes | None = None
    """The report.json of an earlier report."""
    noise_audit: bytes | None = None


# What may stand in report.json: equal values, and these.


@dataclass(frozen=True)
class Said:
    """A text, or texts one after the other, with exactly the numbers of this one."""

    text: str

    def agrees(self, found: Any) -> bool:
        texts = found if isinstance(found, list) else [found]
        return all(isinstance(one, str) for one in texts) and numbers(" ".join(texts)) == numbers(self.text)


@dataclass(frozen=True)
class Above:
    """A bound in decimals: at least this number, and less than three units of the 18th place above it."""

    infimum: mpmath.mpf

    def agrees(self, found: Any) -> bool:
        with mpmath.workdps(60):
            return bool(0 <= mpmath.mpf(found) - self.infimum < mpmath.mpf("3e-18"))


def numbers(text: str) -> list[str]:
    return NUMBER.findall(text)


def document_faults(found: Any, expected: Any, place: str = "") -> Iterator[str]:
    """Where a document and what was recomputed of it differ, or only the document has a number."""
    if isinstance(expected, Said | Above):
        if not expected.agrees(found):
            yield place
    elif isinstance(found, dict):
        known = expected if isinstance(expected, dict) else {}
        for name in sorted({*found, *known}):
            yield from document_faults(found.get(name), known.get(name), f"{place}/{name}")
    elif isinstance(found, list):
        items = expected if isinstance(expected, list) else []
        if expected is not None and len(found) != len(items):
            yield place
        for number, one in enumerate(found):
            yield from document_faults(one, items[number] if number < len(items) else None, f"{place}/{number}")
    elif not _agrees(found, expected):
        yield place


def _agrees(found: Any, expected: Any) -> bool:
    """Whether a value is the one recomputed; of what nobody recomputed, whether it has no number."""
    if expected is None:
        return found is None or isinstance(found, bool) or (isinstance(found, str) and not numbers(found))
    return (type(found), found) == (type(expected), expected)


# report.json


@dataclass
class Recomputed:
    """A report in the making: from a bundle and a question alone."""

    bundle: Bundle
    question: Question

    def __post_init__(self) -> None:
        self.first, self.last = _days_of(self.question.period)
        days = [day for unit in self.bundle.units for day in unit.days]
        self.as_of = max(day for day in days if day <= self.last)
        if self.question.period == "all":
            self.first, self.last = min(days), self.as_of
        self.earlier = json.loads(self.question.signed_off) if self.question.signed_off else None
        self.audit = json.loads(self.question.noise_audit)["data"] if self.question.noise_audit else None
        self.seen = {one["origin"]: one for one in self.earlier["log"]} if self.earlier else {}
        self.units = [self._unit(one) for one in self.bundle.units]
        self.plans = self._plans()
        self.document = self._document()
        self.page = dict(_sections(self))
        self.drawings = list(_drawings(self))

    def _document(self) -> dict[str, Any]:
        document = {
            "schema_version": SCHEMA_VERSION,
            "software": SOFTWARE,
            "period": {"text": self.question.period, "first": self.first, "last": self.last, "as_of": self.as_of},
            "evidence": {
                "sha256": hashlib.sha256(self.bundle.data).hexdigest(),
                "bytes": len(self.bundle.data),
                "members": self.bundle.members,
            },
            "keys": [{"name": name, "public_key": key} for name, key in sorted(self.question.keys.items())],
            "signed_off": self._signed_off(),
            "failures": [],
            "log": [self._log(one) for one in (self.bundle.server, *self.bundle.units)],
            "absent": [Said(name) for name in self.absent],
            "remarks": [Said(one) for one in self.remarks()],
            "units": self.units,
            "together": self._together(),
            "months": self._months(),
            "plans": self.plans,
            "refusals": self._refusals(),
            "endings": self._endings(),
            "policy_changes": self._policy_changes(),
            "noise_audit": self._noise_audit(),
        }
        document["waiting"] = [
            {"unit": unit, "what": Said(what), "act": Said(act)} for unit, what, act in self.waiting()
        ]
        document["checklist"] = [
            {"number": number, "answers": Said(self.answers.get(number, ""))} for number in range(1, POINTS + 1)
        ]
        return document

    # Of each log

    def _log(self, one: Ledger) -> dict[str, Any]:
        origin = one.genesis["origin"]
        witnessing: dict[str, Any] = {
            "quorum": None,
            "witnesses": [],
            "entries": len(one.entries),
            "covers": 0,
            "uncovered_releases": len(one.of("release")),
            "unusable": [],
        }
        return {
            "where": one.where,
            "name": one.name,
            "origin": origin,
            "entries": len(one.entries),
            "root": one.root,
            "public_key": one.genesis["public_key"],
            "fingerprint": one.fingerprint,
            "cosigned_by": [],
            "witnesses": Said(""),
            "witnessing": witnessing,
            "goes_on_from": self.seen[origin]["entries"] if origin in self.seen else None,
        }

    def _signed_off(self) -> dict[str, Any] | None:
        if self.earlier is None or self.question.signed_off is None:
            return None
        log = [{name: one[name] for name in ("origin", "entries", "root")} for one in self.earlier["log"]]
        sha256 = hashlib.sha256(self.question.signed_off).hexdigest()
        return {"report_sha256": sha256, "as_of": self.earlier["period"]["as_of"], "log": log}

    @property
    def absent(self) -> list[str]:
        named = {unit["name"] for plan in self.bundle.plans.values() for unit in plan["units"]}
        return sorted(named - {one.name for one in self.bundle.units})

    def remarks(self) -> Iterator[str]:
        releases = {
            (one["plan_sha256"], unit.name, one["step"]) for unit in self.bundle.units for one in unit.of("release")
        }
        ran = {one["plan_sha256"] for one in self.bundle.server.of("plan")}
        if lost := [one for one in releases - self.counted if one[0] in ran]:
            yield f"{len(lost):,}"
        undated = ran - {plan for plan, _, _ in releases}
        if self.question.period != "all" and undated:
            yield f"{len(undated):,}"

    @cached_property
    def counted(self) -> set[tuple[str, str, int]]:
        return {(one["plan_sha256"], one["unit"], one["step"]) for one in self.bundle.server.of("contribution")}

    # Of each unit

    def _unit(self, unit: Ledger) -> dict[str, Any]:
        policy = unit.of("policy", last=self.as_of)[-1]
        cap, delta = Fraction(policy["rho_cap"]), Fraction(policy["delta"])
        spent, reserved = unit.spent(last=self.as_of), unit.reserved(self.as_of)
        dearest = max(
            (Fraction(rho) for one in unit.of("approval", last=self.as_of) for rho in one["step_rhos"]), default=0
        )
        kept_back = Fraction(dearest) if policy.get("witnesses", {}).get("quorum") else Fraction(0)
        unreserved = max(Fraction(0), cap - reserved - kept_back)
        lately = unit.of("release", self.first, min(self.last, self.as_of))
        days, pace, gone = own.forecast(unit, unreserved, self.as_of)
        return {
            "name": unit.name,
            "policy_sha256": policy["policy_sha256"],
            "officers_required": policy.get("approvals", {}).get("required", 0),
            "delta": exact(delta),
            "limit": _loss(max(cap, spent), delta),
            "rho_cap": exact(cap),
            "spent": _loss(spent, delta),
            "rho_spent_in_period": exact(own.total(one["charge"]["rho"] for one in lately)),
            "rho_reserved": exact(reserved),
            "rho_kept_back": exact(kept_back),
            "rho_left": exact(unreserved),
            "releases": len(unit.of("release", last=self.as_of)),
            "releases_in_period": len(lately),
            "integers_in_period": sum(one["cells"] * one["width"] for one in lately),
            "noise_sources": sorted({one["noise_source"] for one in unit.of("release", last=self.as_of)}),
            "software": sorted({one["software"] for one in unit.of("release", last=self.as_of)}),
            "purposes": list(self._purposes(unit, policy)),
            "burn_down": list(self._burn_down(unit)),
            "forecast": {"pace_days": days, "rho_a_day": exact(pace), "day": gone},
        }

    def _purposes(self, unit: Ledger, policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
        limits, approved = policy.get("purpose_rho_caps", {}), unit.of("approval")
        for purpose in sorted({*limits, *(one["purpose"] for one in approved)}):
            plans = {one["plan_sha256"] for one in approved if one["purpose"] == purpose}
            sent = [one for one in unit.of("release", last=self.as_of) if one["plan_sha256"] in plans]
            yield {
                "purpose": Said(purpose),
                "rho_cap": limits.get(purpose),
                "rho_spent": exact(own.total(one["charge"]["rho"] for one in sent)),
                "rho_reserved": exact(unit.reserved(self.as_of, purpose)),
            }

    def _burn_down(self, unit: Ledger) -> Iterator[dict[str, str]]:
        caps = {one["day"]: Fraction(one["rho_cap"]) for one in unit.of("policy", last=self.as_of)}
        charged = defaultdict[str, Fraction](Fraction)
        for one in unit.of("release", last=self.as_of):
            charged[one["day"]] += Fraction(one["charge"]["rho"])
        cap = spent = Fraction(0)
        for day in sorted({*caps, *charged}):
            cap, spent = caps.get(day, cap), spent + charged[day]
            yield {"day": day, "rho_left": exact(max(Fraction(0), cap - spent)), "rho_cap": exact(cap)}

    def _together(self) -> dict[str, Any] | None:
        if len(self.units) < 2:
            return None
        delta = max(Fraction(one["delta"]) for one in self.units)
        spent, limit = (
            sum((Fraction(one[name]["rho"]) for one in self.units), Fraction(0)) for name in ("spent", "limit")
        )
        return {
            "units": len(self.units),
            "delta": exact(delta),
            "spent": _loss(spent, delta),
            "limit": _loss(limit, delta),
        }

    # Of what was released, and what was not

    def _releases(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for unit in self.bundle.units:
            for one in unit.of("release", self.first, self.last):
                yield unit.name, one

    def _months(self) -> list[dict[str, Any]]:
        found = defaultdict[str, list[tuple[str, dict[str, Any]]]](list)
        for name, one in self._releases():
            found[one["day"][:7]].append((name, one))
        return [
            {
                "month": month,
                "plans": len({one["plan_sha256"] for _, one in some}),
                "releases": len(some),
                "integers": sum(one["cells"] * one["width"] for _, one in some),
                "rho_most": exact(max(_by_unit(some).values())),
            }
            for month, some in sorted(found.items())
        ]

    def _plans(self) -> list[dict[str, Any]]:
        found = defaultdict[str, list[tuple[str, dict[str, Any]]]](list)
        for name, one in self._releases():
            found[one["plan_sha256"]].append((name, one))
        deltas = {one["name"]: Fraction(one["delta"]) for one in self.units}
        published = {
            one["plan_sha256"]: _shown(self.bundle.server, one) for one in self.bundle.server.of("publication")
        }
        counted, plans = self.counted, list[dict[str, Any]]()
        for digest, some in found.items():
            rhos = _by_unit(some)
            dearest = max(rhos, key=lambda name: rhos[name])
            plans.append(
                {
                    "name": self.bundle.plans[digest]["name"],
                    "sha256": digest,
                    "purpose": Said(self.bundle.plans[digest]["purpose"]),
                    "first": min(one["day"] for _, one in some),
                    "last": max(one["day"] for _, one in some),
                    "units": sorted(rhos),
                    "releases": len(some),
                    "integers": sum(one["cells"] * one["width"] for _, one in some),
                    "cost": _loss(rhos[dearest], deltas[dearest]),
                    "counted": all((digest, name, one["step"]) in counted for name, one in some),
                    "published": published.get(digest),
                }
            )
        return sorted(plans, key=lambda one: (one["last"], one["name"], one["sha256"]), reverse=True)

    def _refusals(self) -> list[dict[str, Any]]:
        found = [
            (one["day"], unit.name, one)
            for unit in self.bundle.units
            for one in unit.of("refusal", self.first, self.last)
        ]
        return [
            {"day": day, "unit": unit, "plan_sha256": one["plan_sha256"], "name": self._called(one)}
            for day, unit, one in sorted(found, key=lambda one: one[:2], reverse=True)
        ]

    def _endings(self) -> list[dict[str, Any]]:
        found = [
            (one["day"], unit.name, one)
            for unit in self.bundle.units
            for one in unit.of("closing", self.first, self.last)
        ]
        return [
            {
                "day": day,
                "unit": unit,
                "plan_sha256": one["plan_sha256"],
                "name": self._called(one),
                "ending": one["ending"],
                "rho_returned": one["rho_returned"],
            }
            for day, unit, one in sorted(found, key=lambda one: one[:2], reverse=True)
        ]

    def _called(self, one: dict[str, Any]) -> str:
        return self.bundle.plans[one["plan_sha256"]]["name"] if one["plan_sha256"] in self.bundle.plans else ""

    # Of rules

    def _policy_changes(self) -> list[dict[str, Any]]:
        steps = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
        documents = dict[str, dict[str, Any]]()
        for unit in self.bundle.units:
            since = self.seen.get(unit.genesis["origin"], {"entries": 0})["entries"] if self.earlier else None
            before = ""
            for one in unit.of("policy"):
                after = one["policy_sha256"]
                documents[after] = own.policy_document(unit, one)
                recent = one["seq"] >= since if since is not None else self.first <= one["day"] <= self.last
                if recent and one["day"] <= self.as_of:
                    steps[before, after].append((unit.name, one["day"]))
                before = after
        return [
            {
                "days": [day for _, day in some],
                "units": [name for name, _ in some],
                "before_sha256": before,
                "after_sha256": after,
                "changes": list(_changes(documents[before], documents[after])) if before else [],
            }
            for (before, after), some in steps.items()
        ]

    def _noise_audit(self) -> dict[str, Any] | None:
        if self.audit is None or self.question.noise_audit is None:
            return None
        games = [dict(one) for one in self.audit["games"]]
        sha256 = hashlib.sha256(self.question.noise_audit).hexdigest()
        return {
            "sha256": sha256,
            "false_alarm": self.audit["false_alarm"],
            "software": self.audit["software"],
            "games": games,
        }

    # Of what waits for somebody

    def waiting(self) -> Iterator[tuple[str, str, str]]:
        if self.audit is not None and any(one["right_at_least"] > one["allowed"] for one in self.audit["games"]):
            yield "", "", ""
        for one in self.units:
            yield from self._of_budget(one)
        for unit in self.bundle.units:
            yield from self._of_plans(unit)
        logs = [self.bundle.server, *self.bundle.units]
        if unknown := [one.name for one in logs if not {one.name, one.genesis["origin"]} & set(self.question.keys)]:
            yield "", ", ".join(unknown), ""
        yield "", ", ".join(one.name for one in self.bundle.units), ""  # no witness has seen them
        if self.absent:
            yield "", ", ".join(self.absent), ""
        if self.audit is None:
            yield "", "", ""

    def _of_budget(self, one: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        cap, spent, unreserved = (Fraction(text) for text in (one["rho_cap"], one["spent"]["rho"], one["rho_left"]))
        if Decimal(one["limit"]["guess"]) >= _NEARLY_CERTAIN:
            yield one["name"], "", ""
        if set(one["noise_sources"]) - {"system"}:
            yield one["name"], "", ""
        if spent > cap:
            yield one["name"], "", ""
        elif unreserved < cap * _LITTLE_LEFT:
            yield one["name"], f"{left(unreserved, cap)} {one['forecast']['day']}", ""

    def _of_plans(self, unit: Ledger) -> Iterator[tuple[str, str, str]]:
        """Plans that were approved a month ago and are not finished; other plans that wait are not foreseen here."""
        ended = {one["plan_sha256"] for one in unit.of("closing", last=self.as_of)}
        answered = [one["plan_sha256"] for one in unit.of("release", last=self.as_of)]
        long_ago = (date.fromisoformat(self.as_of) - timedelta(days=_FORGOTTEN_DAYS)).isoformat()
        for one in unit.of("approval", last=long_ago):
            digest = one["plan_sha256"]
            if digest not in ended and answered.count(digest) < len(one["step_rhos"]):
                yield unit.name, f"{self._called(one)} ({digest[:HASH]}) {one['day']}", ""

    # Of the checklist: what stands in each point that has numbers

    @cached_property
    def answers(self) -> dict[int, str]:
        plans = [self.bundle.plans[one["sha256"]] for one in self.plans]
        taken_up = [own.policy_document(unit, unit.of("policy")[-1]) for unit in self.bundle.units]
        people, delta = (
            max(one["algorithm"]["expected_customers"] for one in plans),
            max(Fraction(one["delta"]) for one in self.units),
        )
        cohorts = [rule["min_cohort"] for one in taken_up for rule in one["purposes"].values()]
        required = min(one["officers_required"] for one in self.units)
        parameters = " ".join(
            f"{one['name']} {_rho(one['spent']['rho'])} {_rho(one['rho_cap'])} {one['spent']['epsilon_shown']} "
            f"{one['limit']['epsilon_shown']} {_rho(one['delta'])}"
            for one in self.units
        )
        formula = "1 1 1 1 1"  # alpha > 1, 1/(alpha delta), alpha-1, 1-1/alpha
        return {
            1: f"{len(self.plans):,}",
            2: f"{self.first} {self.last} {self.as_of}",
            4: f"{max(one['max_units_per_customer'] for one in plans):,}",
            5: f"{parameters} {formula} {people:,} {short(delta * people)} 1",  # far below 1 is right
            6: str(max(len(one["features"]) for one in plans)),
            7: f"{max(len(one['units']) for one in plans):,}",
            9: f"{sum(one['releases_in_period'] for one in self.units):,}",
            12: self._of_all_units(),
            15: f"2 {' '.join(sorted({name for one in self.units for name in one['software']}))}",  # 2 sigma squared
            18: self._of_audit(),
            19: f"{min(one['min_segment_size'] for one in plans):,} {min(cohorts):,}",
            20: str(required) if required else "",
            21: " ".join(
                f"{one['name']} {left(Fraction(one['rho_left']), Fraction(one['rho_cap']))} "
                + (f"{one['forecast']['pace_days']} {one['forecast']['day']}" if one["forecast"]["day"] else "")
                for one in self.units
            ),
        }

    def _of_all_units(self) -> str:
        both = self._together()
        if both is None:
            return ""
        spent, limit = both["spent"]["epsilon_shown"], both["limit"]["epsilon_shown"]
        return f"{both['units']} {spent} {limit} {_rho(both['delta'])}"

    def _of_audit(self) -> str:
        if self.audit is None:
            return ""
        games = " ".join(
            f"{one['name']} {one['guesses']:,} {100 * one['allowed']:.1f} {100 * one['right_at_least']:.1f}"
            for one in self.audit["games"]
        )
        return f"{len(self.audit['games'])} {self.audit['software']} {self.audit['false_alarm']:g} {games}"


def _days_of(period: str) -> tuple[str, str]:
    if period == "all":
        return "", "9999"
    year, _, part = period.partition("-")
    first, last = (
        (1, 12) if not part else (int(part), int(part)) if part[0] != "Q" else (3 * int(part[1]) - 2, 3 * int(part[1]))
    )
    return f"{year}-{first:02}-01", f"{year}-{last:02}-{monthrange(int(year), last)[1]}"


def _loss(rho: Fraction, delta: Fraction) -> dict[str, Any]:
    return {
        "rho": exact(rho),
        "epsilon": Above(own.epsilon(rho, delta)),
        "epsilon_shown": shown_epsilon(rho, delta),
        "guess": f"{own.guess(rho, delta):.3f}",
    }


def _rho(text: str) -> str:
    return short(Fraction(text))


def _by_unit(found: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Fraction]:
    rhos = defaultdict[str, Fraction](Fraction)
    for name, one in found:
        rhos[name] += Fraction(one["charge"]["rho"])
    return rhos


def _shown(server: Ledger, body: dict[str, Any]) -> int:
    said = json.loads(server.payloads[body["payload"]["id"]])["segmentation"]
    return len(
        [one for one in said["segments"] if not one["suppressed"]] + [one for one in said["bounds"] if one["found"]]
    )


def _changes(before: Any, after: Any) -> Iterator[dict[str, Any]]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for key in [*old, *(one for one in new if one not in old)]:
        if old.get(key) != new.get(key):
            yield {"key": Said(key), "before": Said(str(old.get(key, ""))), "after": Said(str(new.get(key, "")))}


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _flat(one, f"{place}.{name}")
    else:
        yield place, value


# ledger.csv


def spreadsheet_faults(text: str, report: Recomputed) -> Iterator[str]:
    """Entries that have no line, or one with other numbers than were recomputed; and lines that are of no entry."""
    found = {(row["unit"], row["entry"]): row for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))}
    expected = {(row["unit"], row["entry"]): row for unit in report.bundle.units for row in _rows(unit, report)}
    for key in sorted({*found, *expected}):
        row, wanted = found.get(key, {}), expected.get(key, {})
        if {name: value.removeprefix("'") for name, value in row.items() if numbers(value)} != wanted:
            yield " ".join(key)


def _rows(unit: Ledger, report: Recomputed) -> Iterator[dict[str, str]]:
    spent = Fraction(0)
    for entry, day in zip(unit.entries[1:], unit.days[1:], strict=True):
        body = entry["body"]
        digest = body.get("plan_sha256", "")
        row = {"unit": unit.name, "day": day, "entry": str(entry["seq"]), "plan_sha256": digest}
        row["plan"] = report.bundle.plans[digest]["name"] if digest in report.bundle.plans else ""
        if entry["kind"] == "approval":
            row["rho"] = short(own.total(body["step_rhos"]), CSV_DIGITS)
        if entry["kind"] == "closing":
            row["rho"] = f"-{short(Fraction(body['rho_returned']), CSV_DIGITS)}"
        if entry["kind"] == "release":
            spent += Fraction(body["charge"]["rho"])
            row |= {
                "round": str(body["step"] + 1),
                "numbers": str(body["cells"] * body["width"]),
                "sigma": str(body["mechanism"]["sigma"]),
                "sensitivity_squared": str(body["mechanism"]["l2_sensitivity_squared"]),
                "rho": short(Fraction(body["charge"]["rho"]), CSV_DIGITS),
                "rho_spent_after": short(spent, CSV_DIGITS),
                "software": body["software"],
            }
        if report.first <= day <= report.last:
            yield {name: value for name, value in row.items() if numbers(value)}


# The page


class _Read(HTMLParser):
    """What a reader is told, by section: text, what drawings say to those who do not see them, and their measures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said = defaultdict[str, list[str]](list)
        self.drawn = list[str]()
        self._place, self._on = "top", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._on = self._on or tag == "main"
        if tag in ("section", "footer"):
            self._place = known.get("id") or tag
        if label := known.get("aria-label"):
            self.said[self._place].append(label)
        if tag == "rect" and known["width"] != "100%":
            self.drawn.append(known["width"] or "")
        if tag in ("polygon", "polyline"):
            self.drawn.append(known["points"] or "")
        if tag == "line" and known["x1"] == known["x2"]:
            self.drawn.append(known["x1"] or "")

    def handle_data(self, data: str) -> None:
        if self._on:
            self.said[self._place].append(data)


def count_numbers(document: Any, page: str) -> int:
    """How many numbers stand in report.json and on the page."""
    return len(numbers(json.dumps(document))) + sum(len(numbers(" ".join(said))) for said in _Read(page).said.values())


def page_faults(page: str, report: Recomputed) -> Iterator[str]:
    """Sections of the page whose numbers, in the order in which they are read, are not those recomputed."""
    read = _Read(page)
    for place in sorted({*read.said, *report.page}):
        if numbers(" ".join(read.said[place])) != numbers(" ".join(report.page.get(place, []))):
            yield place
    if read.drawn != report.drawings:
        yield "drawings"


def _sections(report: Recomputed) -> Iterator[tuple[str, list[str]]]:
    yield "top", [*_top(report)]
    yield "waiting", ["1", *(f"{unit} {what} {act}" for unit, what, act in report.waiting())]
    yield "budget", ["2", COIN, *_cards(report), *_figures(report)]
    yield "released", ["3", *_released(report)]
    yield "refused", ["4", *_refused(report)]
    yield "rules", ["5", *_rules(report)]
    yield "audit", ["6", *_audit(report)]
    yield "log", ["7", *_log(report)]
    yield "checklist", ["8", *_checklist(report)]
    yield "section", [SHA, report.document["evidence"]["sha256"]]  # the sign-off
    yield "footer", [report.document["software"]]


def _top(report: Recomputed) -> Iterator[str]:
    document, logs = report.document, report.document["log"]
    yield "" if report.question.period == "all" else report.question.period
    yield report.as_of
    yield f"{len(logs)} {sum(one['entries'] for one in logs):,}"
    yield document["signed_off"]["as_of"] if document["signed_off"] else ""
    yield from report.remarks()
    yield ", ".join(one.name for one in report.bundle.units)  # what their policies say of witnesses
    scarcest = min(report.units, key=lambda one: Fraction(one["rho_left"]) / Fraction(one["rho_cap"]))
    yield f"{len(report.units)} {len(report.absent) or ''}"
    yield f"{sum(one['releases_in_period'] for one in report.units):,} {len(report.plans):,}"
    yield f"{left(Fraction(scarcest['rho_left']), Fraction(scarcest['rho_cap']))} {scarcest['name']}"
    yield f"{len(list(report.waiting()))} {len(document['refusals']):,}"


def _cards(report: Recomputed) -> Iterator[str]:
    for one in report.units:
        cap, delta, spent, reserved = (
            Fraction(text) for text in (one["rho_cap"], one["delta"], one["spent"]["rho"], one["rho_reserved"])
        )
        yield f"{one['name']} {left(Fraction(one['rho_left']), cap)} {used(spent, cap)} {used(reserved, cap)}"
        yield f"{used(spent, cap)} {used(reserved, cap)}"  # the meter's label
        yield f"{COIN} {shown_guess(spent, delta)} {shown_guess(Fraction(one['limit']['rho']), delta)}"
        if (axis := _Axis.of(one, report.as_of)) is not None:
            yield f"{axis.start} {axis.end} {left(cap - spent, cap)} {one['forecast']['day']}"
            yield f"{axis.start} {axis.end}"
        yield (
            f"{one['forecast']['pace_days'] or ''} {one['forecast']['day']}"
            if one["forecast"]["pace_days"] >= own.PACE_DAYS_MIN
            else ""
        )
        yield f"{one['releases_in_period']:,} {used(Fraction(one['rho_spent_in_period']), cap)}"
        for purpose in one["purposes"]:
            limit = Fraction(purpose["rho_cap"] or cap)
            some = (Fraction(purpose[name]) for name in ("rho_spent", "rho_reserved"))
            yield f"{purpose['purpose'].text} {' '.join(used(part, limit) for part in some)}"
        yield str(one["officers_required"] or "")


def _figures(report: Recomputed) -> Iterator[str]:
    both = report.document["together"]
    if both is not None:
        delta = Fraction(both["delta"])
        yield f"{both['units']} {' '.join(shown_guess(Fraction(both[name]['rho']), delta) for name in ('spent', 'limit'))}"
    for one in [*report.units, *([both] if both else [])]:
        reserved = _rho(one["rho_reserved"]) if "rho_reserved" in one else ""
        cap = one.get("rho_cap") or one["limit"]["rho"]
        yield f"{one.get('name', '')} {_rho(one['spent']['rho'])} {reserved} {_rho(cap)}"
        yield f"{one['spent']['epsilon_shown']} {one['limit']['epsilon_shown']} {one_in(Fraction(one['delta']))}"


def _released(report: Recomputed) -> Iterator[str]:
    months, deltas = report.document["months"], {one["name"]: Fraction(one["delta"]) for one in report.units}
    if len(months) > 1:
        for one in months:
            yield f"{one['month']} {one['plans']:,} {one['releases']:,} {one['integers']:,} {_rho(one['rho_most'])}"
    yield _caption(report.plans)
    for one in report.plans[:ROWS_MAX]:
        yield f"{one['name']} {one['sha256'][:HASH]} {one['first']} {one['last'] if one['last'] != one['first'] else ''}"
        yield f"{len(one['units'])} {one['releases']:,} {one['integers']:,} {_rho(one['cost']['rho'])}"
        yield f"{one['cost']['epsilon_shown']} {shown_guess(Fraction(one['cost']['rho']), deltas[one['units'][0]])}"
        yield "" if one["published"] is None else str(one["published"])
    yield f"{len(report.plans):,}" if len(report.plans) > ROWS_MAX else ""
    yield COIN


def _refused(report: Recomputed) -> Iterator[str]:
    refusals, endings = report.document["refusals"], report.document["endings"]
    yield _caption(refusals)
    for one in refusals[:ROWS_MAX]:
        yield f"{one['day']} {one['unit']} {one['name']} {one['plan_sha256'][:HASH]}"
    yield _caption(endings)
    for one in endings[:ROWS_MAX]:
        yield f"{one['day']} {one['unit']} {one['name']} {one['plan_sha256'][:HASH]} {_rho(one['rho_returned'])}"


def _caption(rows: list[Any]) -> str:
    return f"{ROWS_MAX} {len(rows)}" if len(rows) > ROWS_MAX else ""


def _rules(report: Recomputed) -> Iterator[str]:
    yield report.document["signed_off"]["as_of"] if report.document["signed_off"] else ""
    for one in report.document["policy_changes"]:
        yield f"{', '.join(one['units'])} {', '.join(dict.fromkeys(one['days']))}"
        yield f"{one['before_sha256'][:HASH]} {one['after_sha256'][:HASH]}"
        for change in one["changes"]:
            yield f"{change['key'].text} {change['before'].text} {change['after'].text}"


def _audit(report: Recomputed) -> Iterator[str]:
    if report.audit is not None:
        yield f"{report.audit['software']} {round(1 / report.audit['false_alarm']):,}"
        for one in report.audit["games"]:
            yield f"{one['name']} {one['question']} {one['guesses']:,} {100 * one['allowed']:.1f} {100 * one['right_at_least']:.1f}"


def _log(report: Recomputed) -> Iterator[str]:
    for one in report.document["log"]:
        before = "" if one["goes_on_from"] is None else f"{one['goes_on_from']:,}"
        yield f"{one['name']} {one['fingerprint']} {one['entries']:,} {before} {one['root']}"
    yield " ".join(report.absent)
    evidence = report.document["evidence"]
    yield f"{evidence['members']:,} {evidence['bytes']:,} {SHA} {evidence['sha256']}"


def _checklist(report: Recomputed) -> Iterator[str]:
    yield f"{POINTS} 800-226 {len(BLANKS) + (report.audit is None)}"
    for number in range(1, POINTS + 1):
        yield f"{number} {report.answers.get(number, '')}"


@dataclass(frozen=True)
class _Axis:
    """The days that a drawing of a budget spans."""

    start: date
    end: date
    top: Fraction

    @classmethod
    def of(cls, unit: dict[str, Any], as_of: str) -> "_Axis | None":
        start, today = date.fromisoformat(unit["burn_down"][0]["day"]), date.fromisoformat(as_of)
        if start == today:
            return None
        gone = date.fromisoformat(unit["forecast"]["day"]) if unit["forecast"]["day"] else today
        end = min(max(gone, today), today + (today - start))
        return cls(start, end, max(Fraction(one["rho_cap"]) for one in unit["burn_down"]))

    def at(self, day: date | str, rho: Fraction | str) -> str:
        passed = (date.fromisoformat(str(day)) - self.start).days / (self.end - self.start).days
        x, y = 2 + (WIDTH - 4) * passed, 8 + (HEIGHT - 28) * float(1 - Fraction(rho) / self.top)
        return f"{x:.1f},{y:.1f}"


def _drawings(report: Recomputed) -> Iterator[str]:
    for one in report.units:
        cap = Fraction(one["rho_cap"])
        for part in (one["rho_reserved"], one["spent"]["rho"]):
            yield f"{min(100.0, float(100 * Fraction(part) / cap)):.2f}%"
        if (axis := _Axis.of(one, report.as_of)) is not None:
            yield from _burned(axis, one, report.as_of)


def _burned(axis: _Axis, one: dict[str, Any], as_of: str) -> Iterator[str]:
    days = one["burn_down"]
    line = [axis.at(days[0]["day"], days[0]["rho_left"])]
    for before, after in pairwise(days):
        line += [axis.at(after["day"], before["rho_left"]), axis.at(after["day"], after["rho_left"])]
    line.append(axis.at(as_of, days[-1]["rho_left"]))
    today, zero = axis.at(as_of, Fraction(0)), axis.at(axis.start, Fraction(0))
    yield " ".join([*line, today, zero])
    yield " ".join(line)
    if one["forecast"]["day"]:
        pace, ahead = Fraction(one["forecast"]["rho_a_day"]), (axis.end - date.fromisoformat(as_of)).days
        rest = max(Fraction(0), Fraction(one["rho_left"]) - pace * ahead)
        yield f"{axis.at(as_of, one['rho_left'])} {axis.at(axis.end, rest)}"
    yield today.partition(",")[0]
