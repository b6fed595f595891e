"""From a run's folder to the facts of its report: every ledger verified, every number recomputed, nothing believed.

Reads plan.toml, segmentation.json, the ledgers and, in simulation, metrics.json. Never a unit's LOCAL folder.
"""

import functools
import json
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fedseg import __version__
from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.features import Feature, NumericFeature
from fedseg.errors import DataError, SettingsError, StorageError, VerificationError
from fedseg.ledger.canonical import Json
from fedseg.ledger.keys import PublicKey
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon
from fedseg.privacy.noise import SystemNoise
from fedseg.report.model import (
    Composition,
    CyclicFact,
    FailureFact,
    FeatureFact,
    GroupFact,
    GroupValueFact,
    KeyFact,
    LedgerFact,
    Measured,
    NumberValueFact,
    NumericFact,
    PlanFact,
    PrivacyFact,
    ReleaseStep,
    ReportFacts,
    RoundFact,
    SegmentFact,
    SegmentsFact,
    ShareFact,
    TimeValueFact,
    UnitFact,
    ValueFact,
)
from fedseg.segments.advice import on_stability
from fedseg.segments.segmentation import (
    CyclicValue,
    GroupValue,
    NumericValue,
    Segment,
    Segmentation,
    Share,
    Value,
    parse_signed,
)

SCHEMA_VERSION = 1
FALSE_ALARMS = Fraction(1, 20)
"""Share of false alarms at which `PrivacyFact.guess_success` is stated."""
MEASURED_BANNER = "computed with all data in one place; impossible in deployment"
"""Stands over every measured number, whatever metrics.json says."""
_EXACT_COMPOSITIONS = 8


def collect(run: Path) -> ReportFacts:
    """Verify everything a run has left in `run` and return what may be said about it.

    What does not check out is a fact too: it stands in `failures`, and nothing that rests on it stands anywhere.

    Raises:
        SettingsError: If `run` is not a run's folder, or its plan cannot be read (PlanError).
        DataError: If metrics.json is there and not what a simulation writes.
        StorageError: If a file cannot be read now.
    """
    plan = parse_plan(_plan_bytes(run))
    failures: list[FailureFact] = []
    server = _verified(run, "server/ledger.db", None, failures)
    if server is not None and server.role != "server":
        failures.append(_failure("server/ledger.db", "it is not a server's ledger"))
    units = _unit_ledgers(run, plan, failures)
    segmentation = None
    if server is not None and not failures:
        segmentation = _segmentation(run, plan, server, units, failures)
    sound = segmentation is not None and not failures
    unit_facts = tuple(_unit(one, plan) for one in units)
    ledgers = [("server", "server/ledger.db", server)] if server is not None else []
    return ReportFacts(
        software=f"fedseg {__version__}",
        failures=tuple(failures),
        plan=_plan(plan),
        ledgers=(*(_ledger(path, name, found) for name, path, found in ledgers), *(one.ledger for one in unit_facts)),
        absent=tuple(unit.name for unit in plan.units if not _unit_path(run, unit.name).exists()),
        units=unit_facts,
        privacy=_privacy(plan, unit_facts, segmentation) if segmentation is not None and sound else None,
        segments=_segments(segmentation) if segmentation is not None and sound else None,
        measured=_measured(run),
    )


def to_json(facts: ReportFacts) -> bytes:
    """report.json: the same facts; fractions as exact text, epsilons with all their digits and as shown, rounded up."""
    document = {"schema_version": SCHEMA_VERSION, "verified": facts.verified, **plain(facts)}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _plan_bytes(run: Path) -> bytes:
    with _reading(run / "plan.toml"):
        try:
            return (run / "plan.toml").read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SettingsError(
                f"{run} is not the folder of a run",
                why="there is no plan.toml in it",
                fix="name the folder that a run wrote to with --out",
            ) from error


def _unit_path(run: Path, name: str) -> Path:
    return run / "nodes" / name / "ledger.db"


def _verified(run: Path, path: str, key: PublicKey | None, failures: list[FailureFact]) -> LedgerFacts | None:
    try:
        return verify_ledger(run / path, key)
    except VerificationError as error:
        failures.append(FailureFact(path, error.fault, f"{error.what}: {error.why}".replace(f"{run}/", "")))
        return None


def _unit_ledgers(run: Path, plan: Plan, failures: list[FailureFact]) -> list[LedgerFacts]:
    """Each unit's ledger in the folder of its name, signed with the key that the plan names."""
    found: list[LedgerFacts] = []
    for path in sorted(run.glob("nodes/*/ledger.db")):
        shown, index = path.relative_to(run).as_posix(), plan.unit_index(path.parent.name)
        if index is None:
            failures.append(_failure(shown, "the plan names no unit of this name"))
            continue
        ledger = _verified(run, shown, PublicKey.from_text(plan.units[index].public_key), failures)
        if ledger is not None and (ledger.role, ledger.unit) != ("unit", path.parent.name):
            failures.append(_failure(shown, "it is the ledger of somebody else"))
        elif ledger is not None:
            found.append(ledger)
    return sorted(found, key=lambda one: plan.unit_index(one.unit) or 0)


def _segmentation(
    run: Path, plan: Plan, server: LedgerFacts, units: list[LedgerFacts], failures: list[FailureFact]
) -> Segmentation | None:
    """The segments that the server's ledger gives, if they are those of segmentation.json and of the units' ledgers."""
    place = "the server's ledger against the units' ledgers"
    try:
        check_against_units(server, units, plan)
        place = "segments recomputed from the server's ledger"
        recomputed = recompute_segmentation(server, plan)
        place = "segmentation.json"
        with _reading(run / place):
            document = (run / place).read_bytes() if (run / place).exists() else None
        if document is None:
            failures.append(_failure(place, "it is missing"))
        elif parse_signed(document) != recomputed:
            failures.append(_failure(place, "it is not what the server's ledger gives"))
        else:
            return recomputed.segmentation
    except VerificationError as error:
        failures.append(FailureFact(place, error.fault, f"{error.what}: {error.why}"))
    return None


def _plan(plan: Plan) -> PlanFact:
    return PlanFact(
        name=plan.name,
        sha256=plan.digest,
        purpose=plan.purpose,
        trust=plan.trust.value,
        algorithm=plan.algorithm.name,
        seed=plan.algorithm.seed,
        k=plan.k,
        quorum=plan.quorum,
        max_units_per_customer=plan.max_units_per_customer,
        min_segment_size=plan.min_segment_size,
        epsilon=plan.budget.epsilon,
        delta=plan.budget.delta,
        rho=sum(plan.step_rhos, Fraction(0)) * plan.max_units_per_customer,
        profile=plan.algorithm.rounds.value,
        expected_customers=plan.algorithm.expected_customers,
        deadline_seconds=plan.deadline_seconds,
        reply_slot_seconds=plan.reply_slot_seconds,
        rounds=tuple(
            RoundFact(
                step=terms.step,
                kind=plan.settings.rounds[terms.step].kind.value,
                share=plan.settings.rounds[terms.step].share,
                cells=terms.cells,
                integers=terms.length,
                sigma=terms.mechanism.sigma,
                l2_sensitivity_squared=terms.lattice.l2_sensitivity_squared,
                rho=plan.step_rhos[terms.step],
            )
            for terms in plan.terms
        ),
        features=tuple(_feature(one) for one in plan.encoders),
        units=tuple(
            KeyFact(unit.name, unit.public_key, PublicKey.from_text(unit.public_key).fingerprint())
            for unit in plan.units
        ),
    )


def _feature(feature: Feature) -> FeatureFact:
    common = (
        feature.kind,
        feature.name,
        feature.label,
        feature.weight,
        feature.width,
        feature.foreseen,
        feature.missing_text,
        feature.missing_flag,
    )
    match feature:
        case NumericFeature():
            return NumericFact(*common, feature.transform.value, feature.lower, feature.upper, feature.missing)
        case CyclicFeature():
            return CyclicFact(*common, feature.period, feature.start, feature.names)
        case _:
            return GroupFact(*common, tuple(indicator.says for indicator in feature.indicators))


def _ledger(path: str, name: str, found: LedgerFacts) -> LedgerFact:
    key = found.public_key
    return LedgerFact(path, found.role, name, found.size, found.root.hex(), key.to_text(), key.fingerprint())


def _unit(found: LedgerFacts, plan: Plan) -> UnitFact:
    account, entries = found.account, found.raw.entries
    cap, delta = (account.caps.rho_cap, account.caps.delta) if account.caps else (Fraction(0), plan.budget.delta)
    ours = [one for one in found.releases if one.plan_sha256 == plan.digest]
    approvals = [one.body for one in entries if one.kind == "approval" and one.body["plan_sha256"] == plan.digest]
    steps = [
        ReleaseStep(
            step=one.step,
            integers=one.integers,
            sigma=one.sigma,
            l2_sensitivity_squared=one.l2_sensitivity_squared,
            rho=one.rho,
            rho_spent_after=one.rho_spent_after,
            epsilon_after=_epsilon(one.rho_spent_after, delta),
            noise_source=one.noise_source,
            release_id=one.release_id,
            output_sha256=one.output_sha256,
        )
        for one in ours
    ]
    return UnitFact(
        name=found.unit,
        ledger=_ledger(f"nodes/{found.unit}/ledger.db", found.unit, found),
        approved_at=str(approvals[0]["approved_at"]) if approvals else "",
        approved_by=whose_word(approvals[0]) if approvals else "",
        policy_sha256=account.caps.policy_sha256 if account.caps else "",
        software=tuple(sorted({str(one.body["software"]) for one in entries if one.kind == "release"})),
        noise_sources=tuple(sorted(account.noise_sources)),
        releases=tuple(steps),
        other_releases=len(found.releases) - len(ours),
        integers=sum(one.integers for one in ours),
        rho=sum((one.rho for one in ours), Fraction(0)),
        rho_spent=account.rho_spent,
        rho_reserved=account.rho_reserved,
        rho_cap=cap,
        delta=delta,
        epsilon_spent=_epsilon(account.rho_spent, delta),
        epsilon_cap=_epsilon(cap, delta),
    )


def whose_word(approval: Mapping[str, Json]) -> str:
    """Whose word the approval is."""
    officers = approval["officers"]
    if isinstance(officers, list) and officers:
        return f"with the signatures of {' and '.join(str(one) for one in officers)}"
    if approval["automatic"]:
        return "by the terms of its policy for the requester, without an officer"
    return "at its own computer: its policy names no officers"


def _privacy(plan: Plan, units: tuple[UnitFact, ...], segmentation: Segmentation) -> PrivacyFact:
    """The promise, from what the plan's releases cost at each unit: no release costs more than its plan says."""
    price, delta, allowed = sum(plan.step_rhos, Fraction(0)), plan.budget.delta, plan.max_units_per_customer
    epsilon = _epsilon(price * allowed, delta)
    sources = {source for unit in units for source in unit.noise_sources}
    all_here = len(units) == len(plan.units)
    # A unit whose ledger is not here has signed where its noise is from, and the segmentation says it.
    simulated = segmentation.simulated or bool(sources - {SystemNoise.label})
    noise = "simulated" if simulated else "system" if all_here else "unknown"
    return PrivacyFact(
        epsilon=epsilon,
        delta=delta,
        rho=price * allowed,
        odds_factor=_exp_above(epsilon),
        guess_success=_guess_success(epsilon, delta),
        noise=noise,
        by_units=tuple(
            Composition(count, price * count, _epsilon(price * count, delta)) for count in _counts_to_show(allowed)
        ),
    )


def _counts_to_show(allowed: int) -> list[int]:
    if allowed <= _EXACT_COMPOSITIONS:
        return list(range(1, allowed + 1))
    return sorted({1, 2, 5, *(10**power for power in range(1, len(str(allowed)))), allowed} - {0})


@functools.lru_cache(maxsize=4096)
def _epsilon(rho: Fraction, delta: Fraction) -> Decimal:
    return epsilon_of(rho, delta)


def _exp_above(epsilon: Decimal) -> Decimal:
    """Exp of epsilon, rounded up to 6 digits; Decimal.exp is correctly rounded, so one more step up is above it."""
    with localcontext(Context(prec=40)):
        value = epsilon.exp().next_plus()
    return Context(prec=6, rounding=ROUND_CEILING).plus(value)


def _guess_success(epsilon: Decimal, delta: Fraction) -> Decimal:
    """Most hits of any test with FALSE_ALARMS false alarms: min(e^eps a + delta, 1 - e^-eps (1 - delta - a)).

    Reference: Kairouz, Oh, Viswanath, "The Composition Theorem for Differential Privacy", ICML 2015, Theorem 2.1.
    """
    factor = Fraction(_exp_above(epsilon))
    most = min(factor * FALSE_ALARMS + delta, 1 - (1 - delta - FALSE_ALARMS) / factor, Fraction(1))
    return Decimal(math.ceil(most * 1000)).scaleb(-3)


def _segments(found: Segmentation) -> SegmentsFact:
    shown = [one for one in found.segments if not one.suppressed]
    sizes = [one.size or 0 for one in shown]
    total = sum(sizes)
    return SegmentsFact(
        shown=tuple(
            _segment(index + 1, one, shown, size / total if total else 0.0)
            for index, (one, size) in enumerate(zip(shown, sizes, strict=True))
        ),
        suppressed=tuple(one.name for one in found.segments if one.suppressed),
        other=found.other,
        findings=found.findings,
        bounds=found.bounds,
        units=found.units,
        size=total,
    )


def _segment(number: int, segment: Segment, shown: list[Segment], share: float) -> SegmentFact:
    low, high = segment.size_interval or (0, 0)
    values = tuple(_value(value, [one.values[place] for one in shown]) for place, value in enumerate(segment.values))
    return SegmentFact(
        number=number,
        name=segment.name,
        size=segment.size or 0,
        size_low=low,
        size_high=high,
        share=share,
        reliability=on_stability(segment),
        stability=segment.stability or 0.0,
        stable=segment.stable,
        above_noise=segment.above_noise,
        clipped=segment.clipped,
        values=values,
    )


def _value(value: Value, everyone: list[Value]) -> ValueFact:
    shares = tuple(_share(one, [other.shares[place] for other in everyone]) for place, one in enumerate(value.shares))
    match value:
        case NumericValue():
            ranks = _ranks(value, [one for one in everyone if isinstance(one, NumericValue)])
            return NumberValueFact(value.feature, value.center, value.low, value.high, *ranks, value.spread, shares)
        case CyclicValue():
            return TimeValueFact(
                value.feature,
                value.center,
                value.low,
                value.high,
                value.anytime,
                value.concentration,
                value.concentration_low,
                value.concentration_high,
                shares,
            )
        case GroupValue():
            return GroupValueFact(value.feature, shares)


def _share(one: Share, everyone: list[Share]) -> ShareFact:
    return ShareFact(one.category, one.share, one.low, one.high, *_ranks(one, everyone))


def _ranks(one: NumericValue | Share, everyone: Sequence[NumericValue | Share]) -> tuple[int, int]:
    """First and last place that a value may have among all, 1 is the highest, as far as the noise lets tell."""
    above = sum(1 for other in everyone if other.low > one.high)
    below = sum(1 for other in everyone if other.high < one.low)
    return 1 + above, len(everyone) - below


class _Metrics(BaseModel):
    """What of metrics.json is shown."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    cost_ratio: float | None
    ari: float | None
    seconds: float
    bytes: int


def _measured(run: Path) -> Measured | None:
    path = run / "metrics.json"
    with _reading(path):
        document = path.read_bytes() if path.exists() else None
    if document is None:
        return None
    try:
        found = _Metrics.model_validate_json(document)
    except ValidationError as error:
        raise DataError(
            f"{path} cannot be shown", why="it is not what a simulation writes", fix="remove it, or run again"
        ) from error
    return Measured(MEASURED_BANNER, found.cost_ratio, found.ari, found.seconds, found.bytes)


def _failure(where: str, what: str) -> FailureFact:
    return FailureFact(where, VerificationError.code, what)


@contextmanager
def _reading(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read", why=error.strerror or "the disk refused", fix="check the file's permissions"
        ) from error


def plain(value: Any) -> Any:
    """JSON: objects by field name, fractions as exact text, times in UTC, beside each epsilon the text people see."""
    if is_dataclass(value) and not isinstance(value, type):
        found: dict[str, Any] = {}
        for field in fields(value):
            one = getattr(value, field.name)
            found[field.name] = plain(one)
            if isinstance(one, Decimal) and field.name.startswith("epsilon"):
                found[f"{field.name}_shown"] = shown_epsilon(one)
        return found
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        items: Iterable[Any] = value
        return [plain(one) for one in items]
    if isinstance(value, Fraction):
        return fraction_text(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return str(value) if isinstance(value, Decimal) else value
