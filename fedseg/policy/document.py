"""`Policy`: what a business unit allows, read from a YAML document that people can read and sign.

A closed form: no expressions, no templates, no defaults that allow anything. What the document does not allow is
denied, and a document that could mean two things is refused. Pure: bytes in, a frozen value out.
"""

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from fedseg.errors import PolicyDocumentError, PolicyError
from fedseg.ledger.canonical import canonical, sha256_hex
from fedseg.ledger.keys import PublicKey
from fedseg.names import require_plain
from fedseg.policy.consent import MAX_NOTICE_VERSION, Veto
from fedseg.policy.purposes import Purpose
from fedseg.policy.strict_yaml import Document, Path, read_document, refusal

_FRACTION: Final = re.compile(r"([1-9][0-9]{0,17})/([1-9][0-9]{0,17})")
_MISFIT: Final = "misfit"
_ITEM = TypeVar("_ITEM")


def _fraction(value: object) -> Fraction:
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a positive fraction in quotes, such as "1/8"')
    fraction = Fraction(int(match[1]), int(match[2]))
    if value != _fraction_text(fraction):
        raise ValueError(f'must be in lowest terms: "{_fraction_text(fraction)}"')
    return fraction


def _fraction_text(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _each_once(values: tuple[_ITEM, ...]) -> tuple[_ITEM, ...]:
    if len(set(values)) < len(values):
        raise ValueError("names something twice")
    return values


FractionText = Annotated[
    Fraction,
    BeforeValidator(_fraction),
    PlainSerializer(_fraction_text),
    WithJsonSchema({"type": "string", "pattern": f"^{_FRACTION.pattern}$"}),
]
"""A positive fraction in lowest terms, written `"num/den"`: YAML has no exact way to write 1/3, or 0.1."""

Days = Annotated[int, Field(ge=1, le=36_500)]
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
TrustModelName = Literal["unit-noise", "secure-aggregation"]
LawfulBasis = Literal["eu-gdpr:A6-1-a", "dpv:Consent"]
"""Consent under GDPR Article 6(1)(a), and consent under another law: the only basis this version can check."""
VetoName = Literal[
    "objection", "restriction", "suppressed", "opt_out_sale", "opt_out_share", "minor", "minor_or_unknown_age"
]

DELTA_MIN: Final = Fraction(1, 2**64)
"""Smallest delta the accounting knows."""

RHO_CAP_MAX: Final = 1024
"""Largest cap: epsilon is then above a thousand, and nothing is protected."""

_ALWAYS_VETO: Final = ("objection", "restriction", "suppressed")
_AGE_VETOES: Final = ("minor", "minor_or_unknown_age")
_VETOES: Final[Mapping[str, Veto]] = MappingProxyType(
    {
        "objection": Veto.OBJECTION,
        "restriction": Veto.RESTRICTION,
        "suppressed": Veto.SUPPRESSED,
        "opt_out_sale": Veto.OPT_OUT_SALE,
        "opt_out_share": Veto.OPT_OUT_SHARE,
        "minor": Veto.MINOR,
        "minor_or_unknown_age": Veto.MINOR | Veto.AGE_UNKNOWN,
    }
)


def _public_key(text: str) -> str:
    PublicKey.from_text(text)
    return text


PublicKeyText = Annotated[str, AfterValidator(_public_key)]
"""An Ed25519 public key in base64, as `fedseg key new` prints it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Requirement(_Part):
    """The consent a customer must have given."""

    status: Annotated[tuple[Literal["given", "renewed"], ...], Field(min_length=1), AfterValidator(_each_once)]
    """Accepted states of consent; `given` among them."""
    max_age_days: Days
    """A consent older than this no longer counts, even if it says that it runs longer."""
    notice_min_version: Annotated[int, Field(ge=0, le=MAX_NOTICE_VERSION)]
    """The oldest privacy notice whose readers knew what they agreed to."""

    @model_validator(mode="after")
    def _accepts_given(self) -> Self:
        if "given" not in self.status:
            raise ValueError("status must hold given; to ask everyone anew, raise notice_min_version")
        return self


class Columns(_Part):
    """The columns that may be read."""

    allow: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=1024), AfterValidator(_each_once)]


class PurposeRule(_Part):
    """What holds for one purpose."""

    broader: str
    """The DPV purpose this one falls under; must be the one that fedseg's vocabulary names."""
    basis: LawfulBasis
    require: Requirement
    veto: Annotated[tuple[VetoName, ...], AfterValidator(_each_once)]
    """What forbids counting a customer in spite of their consent."""
    columns: Columns
    min_cohort: Annotated[int, Field(ge=1, le=1_000_000_000)]
    """Fewer customers than this are never counted."""
    rho_cap: FractionText | None = None
    """Part of the customer's whole budget that this purpose may use; all of it if absent."""

    @model_validator(mode="after")
    def _keeps_the_vetoes_nobody_may_drop(self) -> Self:
        missing = [name for name in _ALWAYS_VETO if name not in self.veto]
        if missing:
            raise ValueError(f"veto must also hold {', '.join(missing)}: no policy may ignore these")
        if not any(name in self.veto for name in _AGE_VETOES):
            raise ValueError(f"veto must also hold {' or '.join(_AGE_VETOES)}: a known minor is never counted")
        return self

    def vetoes(self) -> Veto:
        """The vetoes that forbid counting a customer; an unreadable event always does."""
        combined = Veto.UNREADABLE
        for name in self.veto:
            combined |= _VETOES[name]
        return combined


class Budget(_Part):
    """The most privacy loss one customer may suffer from all that the unit ever releases."""

    unit: Literal["customer"]
    neighbours: Literal["add-or-remove-one"]
    rho_cap: FractionText
    """In zCDP, over all purposes together."""
    delta: FractionText
    """Below 1."""

    @model_validator(mode="after")
    def _delta_below_one(self) -> Self:
        if not DELTA_MIN <= self.delta < 1:
            raise ValueError("delta must lie between 2^-64 and 1")
        if self.rho_cap > RHO_CAP_MAX:
            raise ValueError(f"rho_cap is at most {RHO_CAP_MAX}: more is no protection")
        return self


class Retention(_Part):
    """How long the unit keeps what."""

    raw_days: Days
    """Customers' rows."""
    consent_evidence_days: Days
    """Consent events; at least as long as the rows, so that the unit can show why it held them."""

    @model_validator(mode="after")
    def _evidence_outlives_the_rows(self) -> Self:
        if self.consent_evidence_days < self.raw_days:
            raise ValueError("consent_evidence_days must be at least raw_days")
        return self


class Automatic(_Part):
    """Within what a requester's plans need no officer."""

    rho_per_plan: FractionText
    rho_per_period: FractionText
    """Over all plans approved this way within `period_days`."""
    period_days: Days


class RequesterRule(_Part):
    """What holds for plans that one requester has signed."""

    public_key: PublicKeyText
    rho_cap: FractionText | None = None
    """Part of the customer's whole budget that this requester's plans may use; all of it if absent."""
    automatic: Automatic | None = None
    """Plans that are approved by themselves, once every other check has passed; none if absent."""


Officers = Annotated[
    Mapping[Identifier, PublicKeyText],
    Field(min_length=1, max_length=64),
    AfterValidator(MappingProxyType),
    PlainSerializer(dict),
]
Requesters = Annotated[
    Mapping[Identifier, RequesterRule],
    Field(max_length=256),
    AfterValidator(MappingProxyType),
    PlainSerializer(dict),
]


class Approvals(_Part):
    """Who approves plans, and this policy itself."""

    officers: Officers
    """Public keys by name."""
    required: Annotated[int, Field(ge=1, le=64)]
    """How many different officers must sign."""
    expire_days: Days | None = None
    """An approval ends this many days after its own; never by itself if absent."""
    requesters: Requesters = Field(default_factory=lambda: MappingProxyType({}))
    """Requesters of plans by name."""

    @model_validator(mode="after")
    def _can_be_fulfilled(self) -> Self:
        if len({one.public_key for one in self.requesters.values()}) < len(self.requesters):
            raise ValueError("each requester needs a key of their own")
        if self.required > len(set(self.officers.values())):
            raise ValueError("required is more than there are officers with a key of their own")
        return self


Rules = Annotated[
    Mapping[Purpose, PurposeRule], Field(min_length=1), AfterValidator(MappingProxyType), PlainSerializer(dict)
]


class Policy(_Part):
    """A unit's policy. Its `digest` goes into the unit's ledger with every plan approved under it."""

    version: Literal[1]
    id: Identifier
    controller: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(require_plain)]
    """Who answers for the unit's data."""
    default: Literal["deny"]
    purposes: Rules
    budget: Budget
    retention: Retention
    trust_models: Annotated[tuple[TrustModelName, ...], Field(min_length=1), AfterValidator(_each_once)]
    """Trust models a plan may have; one that a version of fedseg lacks is refused by that version all the same."""
    approvals: Approvals | None = None
    """Who approves plans; if absent, whoever may write to the unit's home."""

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Self:
        for purpose, rule in self.purposes.items():
            if rule.broader != purpose.broader:
                raise _misfit(("purposes", purpose, "broader"), f"must be {purpose.broader}")
            if rule.rho_cap is not None and rule.rho_cap > self.budget.rho_cap:
                raise _misfit(("purposes", purpose, "rho_cap"), "must be at most the rho_cap of the budget")
        for key, one in () if self.approvals is None else self.approvals.requesters.items():
            if one.rho_cap is not None and one.rho_cap > self.budget.rho_cap:
                place = ("approvals", "requesters", key, "rho_cap")
                raise _misfit(place, "must be at most the rho_cap of the budget")
        return self

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the policy's RFC 8785 form: what it says, whatever its comments, order and spacing."""
        return sha256_hex(canonical(self.model_dump(mode="json", exclude_none=True)))

    def rule(self, purpose: str) -> PurposeRule:
        """The rule for a purpose.

        Raises:
            PolicyError: If there is none: then the purpose is denied.
        """
        for known, rule in self.purposes.items():
            if known == purpose:
                return rule
        raise PolicyError(
            f"the policy {self.id} does not allow the purpose {purpose}",
            why=f"it names {', '.join(self.purposes)}; everything else is denied",
            fix="use a purpose the policy names, or have the policy's owners add this one",
        )

    def rho_cap(self, purpose: str) -> Fraction:
        """The most zCDP that all releases for this purpose may cost a customer.

        Raises:
            PolicyError: If the policy does not name the purpose.
        """
        rule = self.rule(purpose)
        return self.budget.rho_cap if rule.rho_cap is None else rule.rho_cap


def load_policy(data: bytes) -> Policy:
    """The policy that a YAML document states.

    Raises:
        PolicyDocumentError: If the document is not strict YAML (see `strict_yaml`) or no policy: an unknown or missing
            key, a value of another type, an unknown purpose, veto or basis. Names the line and the key.
    """
    document = read_document(data)
    try:
        # As JSON, pydantic's strict mode knows lists and names without guessing at numbers or truth values.
        return Policy.model_validate_json(json.dumps(dict(document.root)))
    except ValidationError as error:
        raise _first_in_file(document, error) from error


def json_schema() -> dict[str, Any]:
    """JSON Schema of a policy document, for editors; `load_policy` checks more than a schema can say."""
    return Policy.model_json_schema()


def _misfit(path: Path, why: str) -> PydanticCustomError:
    """Two keys that do not fit together; `path` names the one to change."""
    return PydanticCustomError(_MISFIT, "{why}", {"why": why, "path": path})


def _first_in_file(document: Document, error: ValidationError) -> PolicyDocumentError:
    """The unknown key that stands first in the file; without one, the first of the other problems."""
    problems = error.errors(include_url=False, include_input=False)
    placed = [
        (problem["type"] != "extra_forbidden", document.line_of(_place(problem)), problem) for problem in problems
    ]
    _, line, problem = min(placed, key=lambda found: found[:2])
    meaning = {"extra_forbidden": "this key is unknown", "missing": "this key is missing"}
    text = meaning.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return refusal(text + more, line=line, path=_place(problem))


def _place(problem: ErrorDetails) -> Path:
    if problem["type"] == _MISFIT:
        return cast("Path", problem["ctx"]["path"]) if "ctx" in problem else ()
    return tuple(part for part in problem["loc"] if part != "[key]")
