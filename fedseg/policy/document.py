"""`Policy`: what a business unit allows, read from a YAML document that people can read and sign.

A closed form: no expressions, no templates, no defaults that allow anything. What the document does not allow is
denied, and a document that could mean two things is refused. Pure: bytes in, a frozen value out.
"""

import json
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, cast, get_args

from pydantic import AfterValidator, Field, PlainSerializer, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from fedseg.errors import PolicyDocumentError, PolicyError
from fedseg.ledger.canonical import canonical, sha256_hex
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.names import require_plain
from fedseg.policy.form import Days, FractionText, Identifier, Part, PublicKeyText, WitnessKeyText, each_once
from fedseg.policy.purpose_rule import ConsentBasis, NoticeBasis, PurposeRule
from fedseg.policy.purposes import Purpose
from fedseg.policy.strict_yaml import Document, Path, read_document, refusal
from fedseg.policy.uses import Use

_MISFIT: Final = "misfit"
_BASES: Final = frozenset(get_args(ConsentBasis) + get_args(NoticeBasis))

TrustModelName = Literal["unit-noise", "secure-aggregation"]

RHO_CAP_MAX: Final = 1024
"""Largest cap: epsilon is then above a thousand, and nothing is protected."""


class Budget(Part):
    """The most privacy loss one customer may suffer from all that the unit ever releases."""

    unit: Literal["customer"]
    neighbours: Literal["add-or-remove-one"]
    rho_cap: FractionText
    """In zCDP, over all purposes together."""
    delta: FractionText
    """Below 1."""

    @model_validator(mode="after")
    def _delta_below_one(self) -> Self:
        if self.delta >= 1:
            raise ValueError("delta must be below 1")
        if self.rho_cap > RHO_CAP_MAX:
            raise ValueError(f"rho_cap is at most {RHO_CAP_MAX}: more is no protection")
        return self


class Retention(Part):
    """How long the unit keeps what."""

    raw_days: Days
    """Customers' rows."""
    consent_evidence_days: Days
    """Consent events; at least as long as the rows, so that the unit can show why it held them."""

    lapsed_days: Days | None = None
    """Rows of customers whose consent has ended, counted from its end; as long as any others if absent."""
    suppression_days: Days | None = None
    """The list of customers who must not come back, for instance after an erasure."""
    backup_days: Days | None = None
    """Backups of any of these."""

    @property
    def erasure_evidence_days(self) -> int:
        """Evidence of whose erasure a certificate is: as long as the list that holds the person."""
        return self.consent_evidence_days if self.suppression_days is None else self.suppression_days

    @model_validator(mode="after")
    def _what_guards_the_rows_outlives_them(self) -> Self:
        if self.consent_evidence_days < self.raw_days:
            raise ValueError("consent_evidence_days must be at least raw_days")
        if self.lapsed_days is not None and self.lapsed_days > self.raw_days:
            raise ValueError("lapsed_days must be at most raw_days")
        kept = max(self.raw_days, self.backup_days or 0)
        if self.suppression_days is not None and self.suppression_days < kept:
            raise ValueError("suppression_days must be at least raw_days and backup_days, or the erased come back")
        return self


class Recipient(Part):
    """Who gets what units release, or the segments made of it."""

    id: Identifier
    kind: Literal["processor", "joint-controller", "controller"]
    endpoint: Annotated[str, Field(pattern=r"^https://[A-Za-z0-9.-]{1,200}(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{0,500})?$")]
    """Where it is told about rights requests."""


class Automatic(Part):
    """Within what a requester's plans need no officer."""

    rho_per_plan: FractionText
    rho_per_period: FractionText
    """Over all plans approved this way within `period_days`."""
    period_days: Days


class RequesterRule(Part):
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


class Approvals(Part):
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


WitnessKeys = Annotated[
    Mapping[Identifier, WitnessKeyText],
    Field(max_length=15),  # with the log's own signature as many as a note may have
    AfterValidator(MappingProxyType),
    PlainSerializer(dict),
]


class Witnesses(Part):
    """Who must have seen the unit's ledger before anything leaves it."""

    quorum: Annotated[int, Field(ge=0, le=15)]
    """How many of them must have cosigned; 0 declares that the unit has no witness, and every report says so."""
    keys: WitnessKeys = Field(default_factory=lambda: MappingProxyType({}))
    """Their verifier keys by name."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if len({VerifierKey.from_text(key).public_key.raw for key in self.keys.values()}) < len(self.keys):
            raise ValueError("each witness needs a key of its own")
        if self.quorum > len(self.keys) or (self.keys and not self.quorum):
            raise ValueError("quorum is from 1 to the number of keys, and 0 only without keys")
        if self.keys and 2 * self.quorum <= len(self.keys):
            raise ValueError("quorum is more than half of the keys: else two histories could reach one each")
        return self


Rules = Annotated[
    Mapping[Purpose, PurposeRule], Field(min_length=1), AfterValidator(MappingProxyType), PlainSerializer(dict)
]


class Policy(Part):
    """A unit's policy. Its `digest` goes into the unit's ledger with every plan approved under it."""

    version: Literal[1]
    id: Identifier
    controller: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(require_plain)]
    """Who answers for the unit's data."""
    default: Literal["deny"]
    purposes: Rules
    budget: Budget
    retention: Retention
    trust_models: Annotated[tuple[TrustModelName, ...], Field(min_length=1), AfterValidator(each_once)]
    """Trust models a plan may have; one that a version of fedseg lacks is refused by that version all the same."""
    recipients: Annotated[tuple[Recipient, ...], Field(min_length=1, max_length=256)] | None = None
    """Stated for the record."""
    forbidden_uses: Annotated[tuple[Use, ...], Field(min_length=1), AfterValidator(each_once)] | None = None
    """What segments must not be used for. Two of these exclude purposes; the others bind people, not the program."""
    approvals: Approvals | None = None
    """Who approves plans; if absent, whoever may write to the unit's home."""
    witnesses: Witnesses | None = None
    """Who must have cosigned the unit's ledger before a release; if absent nobody, and reports say so."""

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Self:
        special = {column for rule in self.purposes.values() for column in rule.special_columns}
        for purpose, rule in self.purposes.items():
            if rule.broader != purpose.broader:
                raise _misfit(("purposes", purpose, "broader"), f"must be {purpose.broader}")
            if rule.rho_cap is not None and rule.rho_cap > self.budget.rho_cap:
                raise _misfit(("purposes", purpose, "rho_cap"), "must be at most the rho_cap of the budget")
            ordinary = [column for column in rule.columns.allow if column in special]
            if ordinary:
                why = f"{ordinary[0]} is of a special category elsewhere in this policy"
                raise _misfit(("purposes", purpose, "columns", "allow"), why)
        for key, one in () if self.approvals is None else self.approvals.requesters.items():
            if one.rho_cap is not None and one.rho_cap > self.budget.rho_cap:
                place = ("approvals", "requesters", key, "rho_cap")
                raise _misfit(place, "must be at most the rho_cap of the budget")
        return self

    @model_validator(mode="after")
    def _forbids_no_purpose_it_names(self) -> Self:
        for place, use in enumerate(self.forbidden_uses or ()):
            named = [purpose for purpose in use.excludes if purpose in self.purposes]
            if named:
                raise _misfit(("forbidden_uses", place), f"the policy names {named[0]}, which is this use")
        return self

    @model_validator(mode="after")
    def _tells_recipients_apart(self) -> Self:
        recipients = self.recipients or ()
        if len({one.id for one in recipients}) < len(recipients):
            raise _misfit(("recipients",), "each recipient needs an id of its own")
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
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | cast("dict[str, Any]", _closed(Policy.model_json_schema()))


def _closed(schema: Any) -> Any:
    """The schema without other names, and without the nothing that in Python stands for an absent key."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if {"type": "null"} in schema.get("anyOf", ()):
        (only,) = (one for one in schema["anyOf"] if one != {"type": "null"})
        schema = {key: value for key, value in schema.items() if key not in ("anyOf", "default")} | only
    if "patternProperties" in schema:
        schema = schema | {"additionalProperties": False}
    return {key: _closed(value) for key, value in schema.items()}


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
    # Of several forms a part can have, pydantic names the one it tried.
    return tuple(part for part in problem["loc"] if part != "[key]" and part not in _BASES)
