"""What a ledger says, line by line, as a report needs it: plain values that a worker process can hand back.

Whether a line follows from those before it, `audit/` has found before: here it is only read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from fedseg.audit.witnesses import Beside, WitnessState


@dataclass(frozen=True, slots=True)
class Log:
    """A ledger that checks out by itself."""

    where: str
    """Its place in the bundle."""
    origin: str
    role: str
    name: str
    """Of the unit; "server" for the server's."""
    size: int
    root: str
    public_key: str
    """The key in force."""
    keys: tuple[str, ...]
    """Every key it has had."""
    fingerprint: str
    key_given: bool
    """Whether whoever asked for the report vouched for its key."""
    witnesses: WitnessState
    """What witnesses have seen of it; of the server's: nothing, before the units' policies are known."""
    goes_on_from: int | None
    """How many entries it had at the last sign-off; None if it was not in that."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy taken up."""

    entry: int
    day: str
    """Of the entry after it, which it was taken up for; policies have no day of their own."""
    sha256: str
    rho_cap: Fraction
    delta: Fraction
    purpose_rho_caps: Mapping[str, Fraction]
    required: int
    """How many officers must approve a plan."""
    is_witnessed: bool
    """Whether nothing is released without cosignatures."""
    signed_by: tuple[str, ...]
    document: bytes


@dataclass(frozen=True, slots=True)
class Approval:
    """A plan approved."""

    entry: int
    day: str
    plan_sha256: str
    purpose: str
    rho: Fraction
    rho_dearest: Fraction
    """Of its releases."""
    steps: int
    by: str
    """Whose word it is."""
    expires_on: str


@dataclass(frozen=True, slots=True)
class SentRelease:
    """What was sent."""

    entry: int
    day: str
    plan_sha256: str
    step: int
    release_id: str
    sha256: str
    """Of the bytes."""
    integers: int
    sigma: int
    l2_sensitivity_squared: int
    rho: Fraction
    rho_spent_after: Fraction
    noise_source: str
    software: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A plan refused; why stays in the unit."""

    entry: int
    day: str
    plan_sha256: str


@dataclass(frozen=True, slots=True)
class Closing:
    """An approval ended before its plan did."""

    entry: int
    day: str
    plan_sha256: str
    ending: str
    rho_returned: Fraction


@dataclass(frozen=True, slots=True)
class Decision:
    """An officer's word."""

    entry: int
    day: str
    plan_sha256: str
    verdict: str
    officer: str


@dataclass(frozen=True, slots=True)
class Event:
    """What else a ledger logs: a process started, rights requests of a day, a key replaced."""

    entry: int
    day: str
    what: str


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A unit's ledger."""

    log: Log
    plans: Mapping[str, bytes]
    """Documents of approved plans, by hash."""
    policies: tuple[Policy, ...]
    approvals: tuple[Approval, ...]
    releases: tuple[SentRelease, ...]
    refusals: tuple[Refusal, ...]
    closings: tuple[Closing, ...]
    decisions: tuple[Decision, ...]
    events: tuple[Event, ...]
    newest_day: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A result published."""

    entry: int
    sha256: str
    """Of the bytes."""
    shown: int
    """Segments, or features with bounds, that are shown."""
    noise: str


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """The server's ledger."""

    log: Log
    plans: Mapping[str, bytes]
    counted: Mapping[tuple[str, str, int], tuple[str, str]]
    """Release id and hash of the bytes, by plan, unit and step."""
    published: Mapping[str, Publication]
    """By plan."""
    beside: Beside
    """What lies beside it as cosigned checkpoints."""
    rounds: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    """Units that each closed round counts, by plan and step."""
