"""The shape of every entry an auditor accepts: exact fields, exact formats. What has another shape does not verify."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fedseg.audit.faults import Fault, accused
from fedseg.errors import FedsegError, VerificationError
from fedseg.ledger.entries import Entry
from fedseg.privacy.budget import parse_fraction


def _fraction(text: str) -> str:
    parse_fraction(text)
    return text


def _day(text: str) -> str:
    if date.fromisoformat(text).isoformat() != text:
        raise ValueError("not a day written as YYYY-MM-DD")
    return text


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FractionText = Annotated[str, AfterValidator(_fraction)]
Day = Annotated[str, AfterValidator(_day)]
Count = Annotated[int, Field(ge=0)]
UnitName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Body = TypeVar("Body", bound=_Body)


class Payload(_Body):
    """Reference to the bytes that belong to an entry."""

    id: str
    sha256: Hash


class GenesisBody(_Body):
    """Whose ledger it is, and nothing else; that origin, key and version hold, `check_log` has found."""

    role: Literal["unit", "server"]
    unit: UnitName | Literal[""] = ""
    """Name of the unit; empty for a server."""
    origin: str
    public_key: str
    format_version: int

    @property
    def is_named(self) -> bool:
        """Whether the name of the log is that of its role and unit."""
        wanted = f"fedseg/unit/{self.unit}" if self.role == "unit" else "fedseg/server"
        return self.origin == wanted and bool(self.unit) == (self.role == "unit")


class PolicyBody(_Body):
    """A policy in force from here on."""

    policy_id: str
    policy_sha256: Hash
    rho_cap: FractionText
    delta: FractionText
    purpose_rho_caps: dict[str, FractionText]
    payload: Payload


class ApprovalBody(_Body):
    """A plan approved, its whole price reserved."""

    plan_sha256: Hash
    purpose: str
    step_rhos: list[FractionText]
    rho_reserved_after: FractionText
    policy_sha256: Hash
    source_sha256: Hash
    approved_at: Day
    max_units_attested: Count | None = None
    payload: Payload


class Charge(_Body):
    """What a release cost."""

    rho: FractionText
    delta: FractionText
    formula: str


class ReleaseBody(_Body):
    """One release: what, for whom, by which mechanism, at what price."""

    release_id: Hash
    plan_sha256: Hash
    unit: UnitName
    step: Count
    request_sha256: Hash
    cells: Count
    width: Count
    lattice: dict[str, int]
    charge: Charge
    mechanism: dict[str, int]
    rho_spent_after: FractionText
    neighbouring_relation: Literal["add-or-remove-one-customer"]
    noise_source: Literal["system", "simulated"]
    policy_sha256: Hash
    gate_commitment: Hash
    software: Annotated[str, Field(pattern=r"^fedseg [0-9A-Za-z.+-]{1,40}$")]
    payload: Payload


class PlanBody(_Body):
    """A plan the server runs."""

    plan_sha256: Hash
    payload: Payload


class ContributionBody(_Body):
    """A unit's reply, as the server received it."""

    plan_sha256: Hash
    unit: UnitName
    step: Count
    release_id: Hash
    request_sha256: Hash
    payload: Payload


class RoundBody(_Body):
    """A round closed with these units."""

    plan_sha256: Hash
    step: Count
    units: list[UnitName]


class PublicationBody(_Body):
    """A segmentation published."""

    plan_sha256: Hash
    units: list[UnitName]
    payload: Payload


def read_body(entry: Entry, kind: type[Body]) -> Body:
    """The entry's body in its type.

    Raises:
        VerificationError: If a field is missing, unknown, or of another format.
    """
    try:
        return kind.model_validate(dict(entry.body))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        unknown = [one for one in problems if one["type"] == "extra_forbidden"]
        fault = Fault.FORBIDDEN if unknown else Fault.FIELDS
        place = ".".join(str(part) for part in (unknown or problems)[0]["loc"])
        raise failed(fault, f"entry {entry.seq} ({entry.kind}) has another shape than its kind: {place}") from error


@contextmanager
def checking(entry: Entry, fault: Fault) -> Generator[None]:
    """Whatever goes wrong inside is that entry's failure: this fault, unless a more precise one has been named."""
    try:
        yield
    except (FedsegError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, FedsegError) and "fault" in error.data:
            raise
        raise failed(fault, f"entry {entry.seq} ({entry.kind}) does not check out: {error}") from error


def failed(fault: Fault, what: str) -> VerificationError:
    """The one error of this package: what does not check out, and as which fault."""
    return accused(VerificationError("verification failed", why=what, fix=fault.act), fault)
