"""What a report may say, as frozen values. The field names are the keys of report.json.

A value here was recomputed from signed bytes, or is a term of the plan. The one exception is `Measured`: it says so.
What could not be verified has no field to stand in: then `segments` and `privacy` are None.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from fedseg.errors import VerificationError
from fedseg.privacy.noise import SystemNoise
from fedseg.segments.segmentation import Findings, LearnedBounds, Other, Spread


@dataclass(frozen=True, slots=True)
class FailureFact:
    """One thing that does not check out."""

    where: str
    """The file, relative to the run's folder; or what was compared."""
    code: str
    what: str

    def as_error(self, what: str) -> VerificationError:
        """The same for a caller that relies on what is here."""
        return VerificationError(
            what, why=f"{self.code}: {self.where}: {self.what}", fix="keep the files as evidence, and ask their owners"
        )


@dataclass(frozen=True, slots=True)
class LedgerFact:
    """One ledger that checks out from its first byte to its newest signed checkpoint."""

    path: str
    """Relative to the run's folder."""
    role: str
    name: str
    """Name of the unit; "server" for the server's."""
    entries: int
    root: str
    """Root hash of the newest checkpoint, in hex: with `entries`, what two readers compare."""
    public_key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class FeatureFact:
    """One feature as the plan states it; everything here is public and comes from nobody's customers."""

    kind: str
    name: str
    label: str
    weight: Fraction
    columns: int
    """How many encoded columns it has."""
    foreseen: str
    """What the plan foresees, in words."""
    missing_counts_as: str
    missing_flag: bool
    """Whether one more column says that the value is missing."""


@dataclass(frozen=True, slots=True)
class NumericFact(FeatureFact):
    """A number."""

    scale: str
    """"identity", "log1p" or "asinh"."""
    lower: float
    upper: float
    missing: float
    """What stands for a missing value."""


@dataclass(frozen=True, slots=True)
class GroupFact(FeatureFact):
    """A yes or no, or categories."""

    categories: tuple[str, ...]
    """What a segment's shares are of, in their order."""


@dataclass(frozen=True, slots=True)
class CyclicFact(FeatureFact):
    """A time that comes round again."""

    period: float
    start: float
    names: tuple[str, ...]
    """What people call the whole steps from `start` on; may be empty."""


@dataclass(frozen=True, slots=True)
class RoundFact:
    """What every unit sends in one round and what it costs there; follows from the plan alone."""

    step: int
    kind: str
    share: Fraction
    cells: int
    integers: int
    sigma: int
    l2_sensitivity_squared: int
    rho: Fraction


@dataclass(frozen=True, slots=True)
class KeyFact:
    """A unit and the key the plan names for it."""

    name: str
    public_key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PlanFact:
    """The plan in this folder. Whether units agreed to it is for the ledgers to say."""

    name: str
    sha256: str
    purpose: str
    trust: str
    algorithm: str
    seed: int
    k: int
    quorum: int
    max_units_per_customer: int
    min_segment_size: int
    epsilon: Fraction
    delta: Fraction
    rho: Fraction
    """Most a customer of `max_units_per_customer` units loses: the sum of all rounds' charges there."""
    profile: str
    expected_customers: int
    deadline_seconds: int
    reply_slot_seconds: int
    rounds: tuple[RoundFact, ...]
    features: tuple[FeatureFact, ...]
    units: tuple[KeyFact, ...]


@dataclass(frozen=True, slots=True)
class ReleaseStep:
    """One release of this plan by one unit."""

    step: int
    integers: int
    sigma: int
    l2_sensitivity_squared: int
    rho: Fraction
    rho_spent_after: Fraction
    """Over everything the unit had released until then, other plans included."""
    epsilon_after: Decimal
    """The same as epsilon at the unit's delta, rounded up."""
    noise_source: str
    release_id: str
    output_sha256: str


@dataclass(frozen=True, slots=True)
class UnitFact:
    """What one unit's ledger proves about its spending."""

    name: str
    ledger: LedgerFact
    approved_at: str
    """Day of the approval as the unit wrote it down; empty if it did not approve."""
    approved_by: str
    """Who approved, in words."""
    policy_sha256: str
    software: tuple[str, ...]
    noise_sources: tuple[str, ...]
    """Of everything it ever released."""
    releases: tuple[ReleaseStep, ...]
    """Of this plan."""
    other_releases: int
    """Releases of other plans in the same ledger."""
    integers: int
    """Numbers sent for this plan."""
    rho: Fraction
    """Spent on this plan."""
    rho_spent: Fraction
    """Spent on everything so far."""
    rho_reserved: Fraction
    """Price of all approved plans, spent or not."""
    rho_cap: Fraction
    """Most that one customer may ever lose at this unit."""
    delta: Fraction
    """The unit's own delta, at which its epsilons are."""
    epsilon_spent: Decimal
    epsilon_cap: Decimal


@dataclass(frozen=True, slots=True)
class Composition:
    """What a customer loses who is known to `units` of the units; the dearest ones are taken."""

    units: int
    rho: Fraction
    epsilon: Decimal


@dataclass(frozen=True, slots=True)
class PrivacyFact:
    """The promise of this plan, at the plan's delta."""

    epsilon: Decimal
    """Of a customer in as many units as the plan allows; an upper bound."""
    delta: Fraction
    rho: Fraction
    odds_factor: Decimal
    """e to the epsilon, rounded up."""
    guess_success: Decimal
    """The best anyone can do who tells apart "was counted" from "was not" with 5 % false alarms; rounded up."""
    noise: str
    """"system", "simulated", or "unknown" where a unit's ledger is not here to say."""
    by_units: tuple[Composition, ...]


@dataclass(frozen=True, slots=True)
class ShareFact:
    """A part of a segment's customers, from 0 to 1, with its 95 % noise interval."""

    category: str
    center: float
    low: float
    high: float
    rank_from: int
    """Place among the shown segments, 1 is the highest, ..."""
    rank_to: int
    """... up to this one as far as the noise lets tell: segments whose intervals overlap are not told apart."""


@dataclass(frozen=True, slots=True)
class NumberValueFact:
    """A number of a segment's center, in original units, with its 95 % noise interval."""

    feature: str
    center: float
    low: float
    high: float
    rank_from: int
    """As in `ShareFact`."""
    rank_to: int
    spread: Spread
    """How far the segment's customers lie apart."""
    shares: tuple[ShareFact, ...] = ()
    """The share without a value, if the plan counts it."""


@dataclass(frozen=True, slots=True)
class GroupValueFact:
    """The shares of a segment's customers who say yes, or who are in each category."""

    feature: str
    shares: tuple[ShareFact, ...]


@dataclass(frozen=True, slots=True)
class TimeValueFact:
    """A segment's mean time, with its 95 % noise interval, and how close together the times are."""

    feature: str
    center: float
    low: float
    """Where the interval begins; above `high` if it passes the end of the period."""
    high: float
    anytime: bool
    """Whether the noise leaves every time possible."""
    concentration: float
    """1 if all customers have the same time, 0 if they are spread evenly."""
    concentration_low: float
    concentration_high: float
    shares: tuple[ShareFact, ...]
    """The share without a value, if the plan counts it."""


ValueFact = NumberValueFact | GroupValueFact | TimeValueFact
"""One feature of a segment's center."""


@dataclass(frozen=True, slots=True)
class SegmentFact:
    """A segment that is shown."""

    number: int
    name: str
    size: int
    size_low: int
    size_high: int
    share: float
    """Of the customers in all shown segments."""
    reliability: str
    """Whether it would be found again, in words."""
    stability: float
    """How much of it comes back when the noise is drawn again, from 0 to 1."""
    stable: bool
    above_noise: bool
    clipped: bool
    """Whether its values may lean towards the middle, beyond their intervals."""
    values: tuple[ValueFact, ...]


@dataclass(frozen=True, slots=True)
class SegmentsFact:
    """What was published, segments or bounds, recomputed from the contributions in the server's ledger."""

    shown: tuple[SegmentFact, ...]
    suppressed: tuple[str, ...]
    """Names of segments too small to show: a name is all there is of each."""
    other: Other | None
    """What they are together."""
    findings: Findings
    """How many segments there are, which are alike."""
    bounds: tuple[LearnedBounds, ...]
    """Empty if the plan asks for segments."""
    units: tuple[str, ...]
    """Units whose releases are in them."""
    size: int
    """Sum of the shown sizes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Simulation only, from metrics.json: signed by nobody, and known only because all data lay in one place."""

    banner: str
    cost_ratio: float | None
    ari: float | None
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """Everything a report says."""

    software: str
    """What made the report."""
    failures: tuple[FailureFact, ...]
    plan: PlanFact
    ledgers: tuple[LedgerFact, ...]
    """Those that check out; the server's first."""
    absent: tuple[str, ...]
    """Units of the plan whose ledger is not here: in deployment it never leaves the unit."""
    units: tuple[UnitFact, ...]
    privacy: PrivacyFact | None
    """None if anything failed."""
    segments: SegmentsFact | None
    """None if anything failed."""
    measured: Measured | None

    @property
    def verified(self) -> bool:
        """Whether everything that is here checks out."""
        return not self.failures

    @property
    def entries(self) -> int:
        """Number of ledger entries behind the facts."""
        return sum(ledger.entries for ledger in self.ledgers)

    @property
    def simulated(self) -> bool:
        """Whether any unit's noise came from elsewhere than the system's randomness: then nothing here is private."""
        here = any(source != SystemNoise.label for unit in self.units for source in unit.noise_sources)
        return here or (self.privacy is not None and self.privacy.noise == "simulated")

    def require_verified(self) -> None:
        """Stop a caller that relies on the facts.

        Raises:
            VerificationError: If anything failed; names the first.
        """
        if self.failures:
            raise self.failures[0].as_error("verification failed")
