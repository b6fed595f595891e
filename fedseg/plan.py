"""`Plan`: all that units and server agree on before round 1, parsed from TOML, canonical and hashed.

What a unit releases and what it costs follows from the plan alone: features with public bounds, number of segments,
rounds, budget, trust model. Nothing in a plan may come from anyone's customers.
"""

import enum
import functools
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from fedseg.clustering.algorithm import Settings
from fedseg.clustering.bins import BINS
from fedseg.clustering.categories import BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.features import Feature, NumericFeature, Transform
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.schedule import INTEGERS_MAX, Budget, Profile, Single, step_terms
from fedseg.errors import PlanError
from fedseg.ledger.canonical import MAX_INTEGER, canonical, sha256_hex
from fedseg.ledger.keys import PublicKey
from fedseg.names import require_plain, require_visible
from fedseg.policy.document import Policy
from fedseg.policy.purposes import Purpose
from fedseg.policy.rules import RuleOutcome, check_policy
from fedseg.privacy.budget import PrivacyBudget, parse_fraction, rho_of
from fedseg.privacy.entries import ApprovalRules, WitnessRules
from fedseg.privacy.state import NO_OFFICERS, Caps

PLAN_BYTES_MAX = 256 * 1024
PLAN_DIMENSIONS_MAX = 1024
"""Most encoded columns of all features together."""


class TrustModel(enum.StrEnum):
    """Whom the customers must trust beyond their own unit."""

    UNIT_NOISE = "unit-noise"
    """Nobody: every unit adds the full noise itself."""
    SECURE_AGGREGATION = "secure-aggregation"
    """That not too many units collude: each adds a share of the noise under a mask. Not available in this version."""


def _purpose(value: str) -> str:
    Purpose.from_text(value)
    return value


def _fraction(value: object) -> Fraction:
    if not isinstance(value, str):
        raise ValueError('write fractions as text: "2/1" or "1/1000000"')  # noqa: TRY004 (pydantic collects ValueErrors)
    return parse_fraction(value)


def exact_number(value: object) -> Decimal:
    """Whole numbers and decimals as TOML writes them; both are exact."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")  # noqa: TRY004 (pydantic collects ValueErrors)
    return Decimal(value)


def _public_key(value: str) -> str:
    PublicKey.from_text(value)
    return value


Exact = Annotated[Fraction, BeforeValidator(_fraction)]
Number = Annotated[Decimal, BeforeValidator(exact_number), Field(allow_inf_nan=False, max_digits=20)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Word = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^<>]+$"), AfterValidator(require_plain)]
Category = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(require_visible)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class BudgetTerms(_Part):
    """The most privacy loss of one customer over the whole plan and all units that may know them."""

    epsilon: Exact
    delta: Exact


class _FeatureTerms(_Part):
    """What every kind of feature has."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
    label: Word
    weight: Number = Decimal(1)
    """How much it counts in distances, beside the others."""
    missing_flag: bool = False
    """Whether one more column says that the value is missing."""


class NumericTerms(_FeatureTerms):
    """A number with public bounds."""

    kind: Literal["numeric"] = "numeric"
    lower: Number
    upper: Number
    missing: Number
    transform: Annotated[Transform, Field(strict=False)] = Transform.IDENTITY
    low_word: Word = "low"
    high_word: Word = "high"

    def feature(self) -> Feature:
        """The encoder's view of it."""
        return NumericFeature(
            name=self.name,
            lower=float(self.lower),
            upper=float(self.upper),
            missing=float(self.missing),
            transform=self.transform,
            label=self.label,
            low_word=self.low_word,
            high_word=self.high_word,
            weight=Fraction(self.weight),
            missing_flag=self.missing_flag,
        )


class BinaryTerms(_FeatureTerms):
    """Yes or no."""

    kind: Literal["binary"]
    missing: bool = False
    yes_word: Word = ""
    """The label if empty."""
    no_word: Word = ""
    """The label after "not" if empty."""

    def feature(self) -> Feature:
        """The encoder's view of it."""
        return BinaryFeature(
            name=self.name,
            missing=self.missing,
            yes_word=self.yes_word or self.label,
            no_word=self.no_word or f"not {self.label}",
            label=self.label,
            weight=Fraction(self.weight),
            missing_flag=self.missing_flag,
        )


class _CategoryTerms(_FeatureTerms):
    vocabulary: Annotated[tuple[Category, ...], Field(min_length=1, max_length=256, strict=False)]
    words: Annotated[tuple[Word, ...], Field(max_length=256, strict=False)] = ()
    """What names of segments say for each category; the categories themselves if empty."""


class CategoricalTerms(_CategoryTerms):
    """One of the categories of a public vocabulary, or "other"."""

    kind: Literal["categorical"]

    def feature(self) -> Feature:
        """The encoder's view of it."""
        return CategoricalFeature(
            name=self.name,
            vocabulary=self.vocabulary,
            words=self.words,
            label=self.label,
            weight=Fraction(self.weight),
            missing_flag=self.missing_flag,
        )


class RegionTerms(_CategoryTerms):
    """A code of which the first characters count, and a public vocabulary of these."""

    kind: Literal["region"]
    characters: Annotated[int, Field(ge=1, le=32)]

    def feature(self) -> Feature:
        """The encoder's view of it."""
        return RegionFeature(
            name=self.name,
            vocabulary=self.vocabulary,
            words=self.words,
            characters=self.characters,
            label=self.label,
            weight=Fraction(self.weight),
            missing_flag=self.missing_flag,
        )


class CyclicTerms(_FeatureTerms):
    """A number that means the same a whole period later."""

    kind: Literal["cyclic"]
    period: Number
    start: Number = Decimal(0)
    names: Annotated[tuple[Word, ...], Field(max_length=366, strict=False)] = ()
    """What people call the whole steps from `start` on."""

    def feature(self) -> Feature:
        """The encoder's view of it."""
        return CyclicFeature(
            name=self.name,
            period=float(self.period),
            start=float(self.start),
            names=self.names,
            label=self.label,
            weight=Fraction(self.weight),
            missing_flag=self.missing_flag,
        )


def _kind(terms: Any) -> str:
    """Which kind a feature is; numeric if it does not say, and none if it is no table at all."""
    return str(terms.get("kind", "numeric") if isinstance(terms, dict) else getattr(terms, "kind", ""))


FeatureTerms = Annotated[
    Annotated[NumericTerms, Tag("numeric")]
    | Annotated[BinaryTerms, Tag("binary")]
    | Annotated[CategoricalTerms, Tag("categorical")]
    | Annotated[RegionTerms, Tag("region")]
    | Annotated[CyclicTerms, Tag("cyclic")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="kind must be numeric, binary, categorical, region or cyclic",
    ),
]
"""One feature of the plan."""


class _AlgorithmTerms(_Part):
    """What every algorithm has."""

    seed: Annotated[int, Field(ge=0, le=MAX_INTEGER)]
    """Seed of the public coins; no larger than canonical JSON keeps, or the plan would have no digest."""
    expected_customers: Annotated[int, Field(ge=1, le=10**12)]
    """Public guess of how many customers all units have together."""


class CellsTerms(_AlgorithmTerms):
    """Segments; the guess of how many customers there are sizes the rounds."""

    name: Literal["cells"]
    profile: Annotated[Profile, Field(strict=False)] = Profile.STANDARD
    """How many rounds."""

    @property
    def rounds(self) -> Profile:
        """Which rounds there are."""
        return self.profile


class BoundsTerms(_AlgorithmTerms):
    """Public bounds of numbers, in one round without coins; the guess only serves to say what to expect."""

    name: Literal["bounds"]

    @property
    def rounds(self) -> Single:
        """Which rounds there are."""
        return Single.BOUNDS


def _algorithm(terms: Any) -> str:
    """Which algorithm it is."""
    return str(terms.get("name") if isinstance(terms, dict) else getattr(terms, "name", ""))


AlgorithmTerms = Annotated[
    Annotated[CellsTerms, Tag("cells")] | Annotated[BoundsTerms, Tag("bounds")],
    Discriminator(_algorithm, custom_error_type="algorithm", custom_error_message="name must be cells or bounds"),
]
"""The algorithm's public settings."""


class UnitTerms(_Part):
    """A business unit that takes part."""

    name: Name
    public_key: Annotated[str, AfterValidator(_public_key)]


class TableTerms(_Part):
    """A public table in which units may look up what their events hold. It has nothing about anybody's customers."""

    name: Name
    label: Word
    """What it is and where it is from, for people."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the file, byte for byte."""


class Plan(_Part):
    """The agreed plan. Its `digest` is what units approve."""

    version: Literal[1]
    name: Name
    purpose: Annotated[str, AfterValidator(_purpose)]
    trust: Annotated[TrustModel, Field(strict=False)]
    k: Annotated[int, Field(ge=1, le=512)]
    quorum: Annotated[int, Field(ge=1)]
    deadline_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 3600)]
    reply_slot_seconds: Annotated[int, Field(ge=0, le=3600)]
    """Replies leave on multiples of this after the request came; 0 = at once, for runs that nobody can watch."""
    max_units_per_customer: Annotated[int, Field(ge=1)]
    """In how many units one customer may be; their losses add up."""
    min_segment_size: Annotated[int, Field(ge=1)]
    """Segments whose noised size is below this are suppressed."""
    witnessed: bool = False
    """Whether units have their ledgers cosigned between the rounds; a unit whose policy names witnesses asks for it."""
    budget: BudgetTerms
    algorithm: AlgorithmTerms
    features: Annotated[tuple[FeatureTerms, ...], Field(min_length=1, max_length=1024, strict=False)]
    units: Annotated[tuple[UnitTerms, ...], Field(min_length=1, max_length=1000, strict=False)]
    tables: Annotated[tuple[TableTerms, ...], Field(max_length=64, strict=False)] = ()
    """Public tables in which units may look up what their events hold."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        PrivacyBudget(self.budget.epsilon, self.budget.delta)
        names = [unit.name for unit in self.units]
        if len(set(names)) != len(names) or len({unit.public_key for unit in self.units}) != len(names):
            raise ValueError("each unit needs its own name and its own key")
        if len({feature.name for feature in self.features}) != len(self.features):
            raise ValueError("each feature may be named once")
        if len({table.name for table in self.tables}) != len(self.tables):
            raise ValueError("each table may be named once")
        if self.dimensions > PLAN_DIMENSIONS_MAX:
            raise ValueError(f"the features have {self.dimensions} columns, at most {PLAN_DIMENSIONS_MAX} are possible")
        if self.quorum > len(names):
            raise ValueError(f"the quorum is {self.quorum}, but there are only {len(names)} units")
        if self.max_units_per_customer > len(names):
            raise ValueError(f"max_units_per_customer is at most the number of units, {len(names)}")
        if self.learns_bounds:
            self._check_bounds()
        return self

    def _check_bounds(self) -> None:
        """What a plan for bounds cannot be, beside what no plan can be."""
        if self.k != 1:
            raise ValueError('with algorithm "bounds" there are no segments: k must be 1')
        for terms in self.features:
            if not isinstance(terms, NumericTerms) or terms.weight != 1:
                raise ValueError(f'algorithm "bounds" takes numeric features of weight 1 only, not {terms.name}')
        if self.dimensions * BINS > INTEGERS_MAX:
            raise ValueError(
                f"histograms of {self.dimensions} columns, missing flags among them, do not fit into a reply; "
                f"{INTEGERS_MAX // BINS} do: make two plans of it"
            )

    @property
    def learns_bounds(self) -> bool:
        """Whether it asks for public bounds in place of segments."""
        return isinstance(self.algorithm, BoundsTerms)

    @cached_property
    def encoders(self) -> tuple[Feature, ...]:
        """The features as the encoder wants them."""
        return tuple(terms.feature() for terms in self.features)

    @cached_property
    def dimensions(self) -> int:
        """Number of encoded columns of all features together."""
        return sum(feature.width for feature in self.encoders)

    @cached_property
    def settings(self) -> Settings:
        """The algorithm's settings."""
        per_unit = Budget(self.rho / self.max_units_per_customer, len(self.units))
        return Settings(
            self.k,
            self.dimensions,
            self.algorithm.expected_customers,
            self.algorithm.seed,
            self.algorithm.rounds,
            per_unit,
        )

    @property
    def max_units_to_attest(self) -> int | None:
        """What every unit must attest: that none of its customers is in more units than this; None for all units.

        The plan's epsilon rests on that word then, for nothing here can check it.
        """
        return self.max_units_per_customer if self.max_units_per_customer < len(self.units) else None

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.settings.rounds)

    @cached_property
    def rho(self) -> Fraction:
        """Loss of one customer over plan and units, in zCDP: the largest rho with epsilon(rho, delta) <= epsilon."""
        return rho_of(PrivacyBudget(self.budget.epsilon, self.budget.delta))

    @cached_property
    def terms(self) -> tuple[StepTerms, ...]:
        """What each unit releases in each round: lattice, noise and price, from the plan alone.

        With noise at the unit, a customer known to c units loses the sum of their charges; so each unit gets rho / c,
        split over the rounds by the schedule's shares, rounded down to the grid of charges.
        """
        return step_terms(self.settings.rounds, self.dimensions, self.settings.budget.rho)

    @cached_property
    def step_rhos(self) -> tuple[Fraction, ...]:
        """The exact charge of each round at each unit."""
        return tuple(terms.mechanism.charge(terms.lattice.l2_sensitivity_squared).rho for terms in self.terms)

    @cached_property
    def digest(self) -> str:
        """sha256 in hex of the plan's canonical JSON: what is agreed, approved and logged."""
        return sha256_hex(canonical(_terms(self)))

    def unit_index(self, name: str) -> int | None:
        """Place of a unit in the plan, or None if it takes no part."""
        return next((index for index, unit in enumerate(self.units) if unit.name == name), None)


def parse_plan(document: bytes) -> Plan:
    """Read a plan from TOML.

    Raises:
        PlanError: If it is not TOML, has an unknown key, or breaks a rule; names the first place.
    """
    return _parsed(document)


@functools.lru_cache(maxsize=512)
def _parsed(document: bytes) -> Plan:
    """An audit meets the same bytes in the ledger of each unit and in the server's."""
    if len(document) > PLAN_BYTES_MAX:
        raise _plan_error(f"a plan has at most {PLAN_BYTES_MAX} bytes")
    try:
        plan = Plan.model_validate(tomllib.loads(document.decode("utf-8"), parse_float=Decimal))
        _ = plan.terms
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(_place(first["loc"])) or "plan"
        raise _plan_error(f"{place}: {first['msg']}") from error
    except RecursionError as error:
        raise _plan_error("it is nested too deeply") from error
    except ArithmeticError as error:
        raise _plan_error("one of its numbers has an exponent beyond all use") from error
    except ValueError as error:  # not UTF-8, not TOML, or a budget no lattice fits
        raise _plan_error(str(error)) from error
    return plan


def changed_terms(agreed: Plan, other: Plan) -> list[str]:
    """Names of the terms in which two plans differ, for the error people read."""
    ours, theirs = _terms(agreed), _terms(other)
    return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


def policy_outcomes(plan: Plan, policy: Policy) -> list[RuleOutcome]:
    """What each rule of a unit's policy says about the plan; nobody's data is needed to know."""
    return check_policy(
        policy,
        purpose=plan.purpose,
        columns=[feature.name for feature in plan.features],
        trust=plan.trust.value,
        rho=sum(plan.step_rhos, Fraction(0)),
        delta=plan.budget.delta,
        witnessed=plan.witnessed,
    )


def caps_of(policy: Policy) -> Caps:
    """The part of a policy that a unit's account enforces."""
    limits = {purpose.value: rule.rho_cap for purpose, rule in policy.purposes.items() if rule.rho_cap is not None}
    rules = policy.approvals
    approvals = NO_OFFICERS if rules is None else ApprovalRules.model_validate_json(rules.model_dump_json())
    stated = policy.witnesses
    witnesses = None if stated is None else WitnessRules(quorum=stated.quorum, keys=dict(stated.keys))
    return Caps(policy.digest, policy.budget.rho_cap, policy.budget.delta, limits, approvals, witnesses)


def _plan_error(why: str) -> PlanError:
    return PlanError("the plan cannot be used", why=why, fix="fedseg plan check PLAN.toml")


def _place(location: tuple[str | int, ...]) -> list[str]:
    """Where it stands in the document; pydantic also names the kind of a feature: features, 0, numeric, upper.

    And that of the algorithm: algorithm, cells, seed.
    """
    parts = [str(part) for part in location]
    kind = {"features": 2, "algorithm": 1}.get(parts[0] if parts else "", len(parts))
    return parts[:kind] + parts[kind + 1 :]


_ADDED_LATER: Final = ("witnessed", "tables")
"""Terms that are hashed only where they are used, so that plans from before keep their hashes."""


def _terms(plan: Plan) -> dict[str, Any]:
    """The plan as it is hashed."""
    unused = {name for name in _ADDED_LATER if not getattr(plan, name)}
    plain: dict[str, Any] = _plain(plan.model_dump(mode="python", exclude=unused))
    return plain


def _plain(value: Any) -> Any:
    """JSON without floats: fractions and decimals as exact text, enums by value."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Transform | TrustModel):
        return value.value
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, Decimal):
        exact = Fraction(value)
        return f"{exact.numerator}/{exact.denominator}"
    return value
