"""The shape of every entry an auditor accepts: exact fields, exact formats. What has another shape does not verify."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedseg.audit.faults import Fault, accused
from fedseg.errors import FedsegError, VerificationError
from fedseg.ledger.entries import Entry
from fedseg.privacy.entries import UNIT_KINDS, Count, Hash, PublicKeyText, Signature, UnitBody, UnitName, unit_body


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


class ServerKeyChangeBody(_Body):
    """The server's key replaced."""

    public_key: PublicKeyText
    signature: Signature


def read_unit_body(entry: Entry) -> UnitBody:
    """The body of an entry of a unit's ledger, other than its genesis.

    Raises:
        VerificationError: If a field is missing, unknown, or of another format or spelling, or no unit writes it.
    """
    if entry.kind not in UNIT_KINDS:
        raise failed(Fault.KIND, f"entry {entry.seq} is of a kind no unit writes: {entry.kind!r}")
    try:
        return unit_body(entry)
    except ValidationError as error:
        raise _another_shape(entry, error) from error
    except ValueError as error:
        raise failed(
            Fault.FIELDS, f"entry {entry.seq} ({entry.kind}) has another shape than its kind: {error}"
        ) from error


def read_body(entry: Entry, kind: type[Body]) -> Body:
    """The body of an entry of a server's ledger, or of a genesis, in its type.

    Raises:
        VerificationError: If a field is missing, unknown, or of another format.
    """
    try:
        return kind.model_validate(dict(entry.body))
    except ValidationError as error:
        raise _another_shape(entry, error) from error


def _another_shape(entry: Entry, error: ValidationError) -> VerificationError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    unknown = [one for one in problems if one["type"] == "extra_forbidden"]
    fault = Fault.FORBIDDEN if unknown else Fault.FIELDS
    place = ".".join(str(part) for part in (unknown or problems)[0]["loc"])
    return failed(fault, f"entry {entry.seq} ({entry.kind}) has another shape than its kind: {place}")


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
