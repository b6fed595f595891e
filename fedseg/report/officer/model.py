"""What an officer's report may say, as frozen values. The field names are the keys of report.json.

Every number was recomputed from signed entries that may leave a unit: nothing here counts customers. What rests on a
ledger that does not check out has no value to stand in: then only `failures`, `log` and `evidence` say anything.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

from pydantic import ConfigDict

from fedseg.audit.witnesses import WitnessState
from fedseg.report.model import FailureFact


@dataclass(frozen=True, slots=True)
class PeriodFact:
    """What the report is about."""

    text: str
    """As asked for; "all" if nothing was."""
    first: str
    """First day; empty if no ledger has a day."""
    last: str
    as_of: str
    """The newest day in the ledgers that lies in or before it: everything is as it stood then."""


@dataclass(frozen=True, slots=True)
class EvidenceFact:
    """The bundle that everything was recomputed from; it lies beside the report as bundle.zip."""

    sha256: str
    bytes: int
    members: int


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A key that whoever made the report vouched for."""

    name: str
    public_key: str


@dataclass(frozen=True, slots=True)
class SeenLog:
    """Where a log stood at the last sign-off."""

    origin: str
    entries: int
    root: str


@dataclass(frozen=True, slots=True)
class SignedOff:
    """The report that was signed off last, as whoever made this one named it."""

    report_sha256: str
    as_of: str
    log: tuple[SeenLog, ...]


@dataclass(frozen=True, slots=True)
class LogFact:
    """A ledger that checks out from its first byte to its newest signed checkpoint."""

    where: str
    role: str
    name: str
    origin: str
    entries: int
    root: str
    public_key: str
    fingerprint: str
    key_given: bool
    """Whether somebody vouched for the key; if not, the bundle alone names it."""
    cosigned_by: tuple[str, ...]
    """Which of its witnesses have cosigned some of it, found to hold; empty: nobody."""
    witnesses: str
    """What the unit's policy in force asks of witnesses and what they have seen, in words."""
    witnessing: WitnessState
    """The same for programs."""
    goes_on_from: int | None
    """How many entries it had at the last sign-off, if that knew it: it is the same log, longer."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A privacy loss, and what it means for one customer."""

    rho: Fraction
    epsilon: Decimal
    """At the unit's delta; rounded up."""
    guess: Decimal
    """How often, at most, somebody is right who knows everything else and guesses; a coin is right in 0.5."""


@dataclass(frozen=True, slots=True)
class PurposeFact:
    """What one purpose has cost at a unit."""

    purpose: str
    rho_cap: Fraction | None
    """Its own limit; None if it has only the unit's."""
    rho_spent: Fraction
    rho_reserved: Fraction
    """Price of its approved plans, spent or not."""


@dataclass(frozen=True, slots=True)
class DayLeft:
    """What was left of a budget at the end of a day on which it changed."""

    day: str
    rho_left: Fraction
    rho_cap: Fraction
    """The limit in force on that day."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a budget is used up, if it goes on as it has gone lately. No promise: pace and plans change."""

    pace_days: int
    """Days over which the pace was taken."""
    rho_a_day: Fraction
    day: str
    """When the rest is reserved at this pace; empty after less than a week, if nothing was spent, or in centuries."""


@dataclass(frozen=True, slots=True)
class UnitFact:
    """A unit's budget as of the report's day."""

    name: str
    policy_sha256: str
    officers_required: int
    delta: Fraction
    limit: Loss
    """Most that one customer may ever lose here: the cap in force, or what was spent before it was lowered."""
    rho_cap: Fraction
    spent: Loss
    rho_spent_in_period: Fraction
    rho_reserved: Fraction
    rho_kept_back: Fraction
    """What the limit keeps for a rollback, where nothing is released without cosignatures: the dearest release."""
    rho_left: Fraction
    """What may still be approved."""
    releases: int
    """All until then."""
    releases_in_period: int
    integers_in_period: int
    """Noised numbers sent."""
    noise_sources: tuple[str, ...]
    software: tuple[str, ...]
    purposes: tuple[PurposeFact, ...]
    burn_down: tuple[DayLeft, ...]
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class Together:
    """Somebody who is a customer of all units whose ledgers are here: their losses add up."""

    units: int
    delta: Fraction
    """The largest of the units': at it the sum is said as an epsilon."""
    spent: Loss
    limit: Loss


@dataclass(frozen=True, slots=True)
class MonthFact:
    """What was sent in a month of the period, over all units here."""

    month: str
    plans: int
    releases: int
    integers: int
    rho_most: Fraction
    """What the dearest unit charged one customer in it."""


@dataclass(frozen=True, slots=True)
class PlanFact:
    """A plan for which something was sent in the period."""

    name: str
    """Empty if no document of it is here."""
    sha256: str
    purpose: str
    first: str
    last: str
    units: tuple[str, ...]
    releases: int
    integers: int
    cost: Loss
    """At the dearest unit, in the period."""
    approved_by: tuple[str, ...]
    """In words, each way once."""
    counted: bool | None
    """Whether all of it stands in the server's ledger; None if that is not here."""
    published: int | None
    """Segments or bounds published; None if there is no publication here."""


@dataclass(frozen=True, slots=True)
class RefusalFact:
    """A plan that a unit refused."""

    day: str
    unit: str
    plan_sha256: str
    name: str
    """Empty if no document of it is here."""


@dataclass(frozen=True, slots=True)
class EndingFact:
    """An approval that ended before its plan did."""

    day: str
    unit: str
    plan_sha256: str
    name: str
    ending: str
    rho_returned: Fraction


@dataclass(frozen=True, slots=True)
class KeyFact:
    """A policy's key that changed."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A policy taken up at some units: the first one has nothing before it."""

    days: tuple[str, ...]
    """Of each unit."""
    units: tuple[str, ...]
    before_sha256: str
    after_sha256: str
    changes: tuple[KeyFact, ...]
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that waits for a person."""

    unit: str
    """Empty if it concerns all."""
    what: str
    act: str


@dataclass(frozen=True, slots=True)
class NoiseGame:
    """A game of the empirical audit, as its file has it too."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    name: str
    question: str
    guesses: int
    allowed: float
    right_at_least: float
    rho: float
    rho_at_least: float


@dataclass(frozen=True, slots=True)
class NoiseAudit:
    """The empirical audit, as `fedseg audit noise` recorded it. Nobody has signed it."""

    sha256: str
    software: str
    violated: bool
    """Recomputed: whether a guesser was right more often than the promise allows, beyond chance."""
    false_alarm: float
    games: tuple[NoiseGame, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the checklist."""

    number: int
    title: str
    answers: tuple[str, ...]
    """From facts alone."""
    blank: str
    """What only people can say; empty if nothing."""


@dataclass(frozen=True, slots=True)
class OfficerReport:
    """Everything an officer's report says."""

    software: str
    period: PeriodFact
    evidence: EvidenceFact
    keys: tuple[GivenKey, ...]
    signed_off: SignedOff | None
    failures: tuple[FailureFact, ...]
    log: tuple[LogFact, ...]
    """The server's first."""
    absent: tuple[str, ...]
    """Units that plans name and whose ledgers are not here."""
    remarks: tuple[str, ...]
    """What is no fault, but must be known."""
    units: tuple[UnitFact, ...]
    together: Together | None
    months: tuple[MonthFact, ...]
    plans: tuple[PlanFact, ...]
    """The newest first."""
    refusals: tuple[RefusalFact, ...]
    endings: tuple[EndingFact, ...]
    policy_changes: tuple[PolicyChange, ...]
    """Since the last sign-off, or in the period if none is named."""
    waiting: tuple[Waiting, ...]
    noise_audit: NoiseAudit | None
    """None: not run, or not shown to whoever made the report."""
    checklist: tuple[Point, ...]

    @property
    def verified(self) -> bool:
        """Whether everything that is here checks out."""
        return not self.failures

    @property
    def witnessed(self) -> bool:
        """Whether every unit's ledger here is: a quorum has cosigned all releases, or all but the newest."""
        return bool(self.units_with_witnesses) and not any(self.units_without_witnesses)

    @property
    def units_with_witnesses(self) -> tuple[LogFact, ...]:
        """Ledgers of units that are witnessed."""
        return tuple(one for one in self.log if one.role == "unit" and one.witnessing.is_witnessed)

    @property
    def units_without_witnesses(self) -> tuple[LogFact, ...]:
        """Ledgers of units that are not, or not all of it that should be."""
        return tuple(one for one in self.log if one.role == "unit" and not one.witnessing.is_witnessed)

    @property
    def simulated(self) -> bool:
        """Whether any noise came from elsewhere than the system's randomness: then nothing here is private."""
        return any(set(unit.noise_sources) - {"system"} for unit in self.units)

    def require_verified(self) -> None:
        """Stop a caller that relies on the facts.

        Raises:
            VerificationError: If anything failed; names the first.
        """
        if self.failures:
            raise self.failures[0].as_error("the evidence does not check out")
