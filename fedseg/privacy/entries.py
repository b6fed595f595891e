"""The typed form of every entry in a unit's ledger: writers make it, the account replays it, auditors accept no other.

What has another field, or a field of another format, is not an entry. `version` counts per kind: an entry is never
rewritten, so a reader must tell old from new one by one.
"""

import enum
from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.json_schema import models_json_schema

from fedseg.ledger.canonical import Json, canonical
from fedseg.ledger.entries import KEY_CHANGE, Entry
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.ledger.witness_policy import COSIGNATURES
from fedseg.privacy.budget import fraction_text, parse_fraction

DECISION_CONTEXT: Final = b"fedseg/decision/v1\n"
POLICY_CONTEXT: Final = b"fedseg/policy/v1\n"
PLAN_CONTEXT: Final = b"fedseg/plan/v1\n"
"""What a signature is for stands before what it signs, so that none can be taken for another."""

_FRACTION_PATTERN: Final = r"^(0|[1-9][0-9]*)/[1-9][0-9]*$"


def _fraction(value: object) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a fraction as text, such as "1/8"')  # noqa: TRY004 (pydantic collects ValueErrors)
    return parse_fraction(value)


def _day(text: str) -> str:
    if date.fromisoformat(text).isoformat() != text:
        raise ValueError("must be a day written as YYYY-MM-DD")
    return text


def _public_key(text: str) -> str:
    PublicKey.from_text(text)
    return text


def _witness_key(text: str) -> str:
    if VerifierKey.from_text(text).type not in COSIGNATURES:
        raise ValueError("must be a key that cosigns")
    return text


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Exact = Annotated[
    Fraction,
    BeforeValidator(_fraction),
    PlainSerializer(fraction_text),
    WithJsonSchema({"type": "string", "pattern": _FRACTION_PATTERN}),
]
Day = Annotated[str, AfterValidator(_day)]
"""UTC."""
Count = Annotated[int, Field(ge=0)]
UnitName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
OfficerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
PublicKeyText = Annotated[str, AfterValidator(_public_key)]
WitnessKeyText = Annotated[str, AfterValidator(_witness_key)]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Part(BaseModel):
    """Exact fields, exact types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class Payload(Part):
    """Reference to the bytes that belong to an entry."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    sha256: Hash


class Body(Part):
    """What all bodies of a unit's entries have."""

    kind: ClassVar[str]
    """The entry's kind."""

    version: Literal[1] = 1

    @property
    def day(self) -> Day | None:
        """The day it was written on; None if it does not say."""
        return None

    def facts(self) -> dict[str, Json]:
        """As JSON, without the reference to the payload, which the journal adds."""
        return self.model_dump(mode="json", exclude={"payload"}, exclude_none=True)


class PayloadBody(Body):
    """A body that vouches for bytes beside it."""

    payload: Payload | None = None
    """Written by the journal: None before it has."""

    @property
    def vouched(self) -> Payload:
        """The reference, in an entry that was read: `unit_body` accepts none without."""
        assert self.payload is not None
        return self.payload


class OfficerSignature(Part):
    """An officer's signature."""

    officer: OfficerName
    signature: Signature


class Automatic(Part):
    """Within what a requester's plans need no officer."""

    rho_per_plan: Exact
    rho_per_period: Exact
    """Over all plans approved this way within `period_days`."""
    period_days: Annotated[int, Field(ge=1)]


class RequesterRule(Part):
    """What a policy says about one requester of plans."""

    public_key: PublicKeyText
    rho_cap: Exact | None = None
    """Most loss of one customer over all this requester's plans; None for the cap over everything."""
    automatic: Automatic | None = None


class ApprovalRules(Part):
    """Who approves plans. Without officers, whoever may write to the unit's home does."""

    officers: dict[OfficerName, PublicKeyText] = {}
    required: Count = 0
    """How many different officers must approve a plan, and sign a policy."""
    expire_days: Annotated[int, Field(ge=1)] | None = None
    """An approval ends this many days after its own; None if it does not end by itself."""
    requesters: dict[OfficerName, RequesterRule] = {}
    """By their names."""

    def requester(self, public_key: str | None) -> tuple[str, RequesterRule] | None:
        """Name and rule of the requester with this key; None if the policy knows none."""
        return next((one for one in self.requesters.items() if one[1].public_key == public_key), None)


class WitnessRules(Part):
    """Whose word on the unit's ledger is needed before anything leaves it."""

    quorum: Count
    """How many of them must have cosigned; with 0 the unit declares that it has no witness."""
    keys: dict[OfficerName, WitnessKeyText] = {}
    """Verifier keys (`name+id+key`, c2sp.org/signed-note) by the names that the policy gives them."""

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """The keys."""
        return tuple(VerifierKey.from_text(key) for key in self.keys.values())

    def same_as(self, other: "WitnessRules | None") -> bool:
        """Whether the others ask for as many of the same keys."""
        if other is None:
            return False
        return (self.quorum, {*self.keys.values()}) == (other.quorum, {*other.keys.values()})


class PolicyBody(PayloadBody):
    """A policy in force from here on."""

    kind: ClassVar[str] = "policy"

    policy_id: str
    policy_sha256: Hash
    rho_cap: Exact
    delta: Exact
    purpose_rho_caps: dict[str, Exact]
    approvals: ApprovalRules = ApprovalRules()
    witnesses: WitnessRules | None = None
    """None where the policy says nothing of witnesses."""
    signatures: list[OfficerSignature] = []


class Verdict(enum.StrEnum):
    """What an officer says about a plan."""

    APPROVE = "approve"
    DENY = "deny"
    CANCEL = "cancel"
    """Answer no further round."""
    REVOKE = "revoke"
    """Answer nothing any more, also not with what was sent before."""


class DecisionBody(Body):
    """An officer's signed word about a plan."""

    kind: ClassVar[str] = "decision"

    verdict: Annotated[Verdict, Field(strict=False)]
    unit: UnitName
    plan_sha256: Hash
    policy_sha256: Hash
    """The policy in force."""
    source_sha256: Hash
    """The unit's source settings."""
    made_on: Day
    officer: OfficerName
    signature: Signature

    @property
    def day(self) -> Day:
        """When it was made."""
        return self.made_on

    @property
    def signed_bytes(self) -> bytes:
        """What the officer's signature covers: everything else."""
        said = self.model_dump(mode="json", exclude={"signature"}, exclude_none=True)
        return DECISION_CONTEXT + canonical(said)


class ApprovalBody(PayloadBody):
    """A plan approved, its whole price reserved."""

    kind: ClassVar[str] = "approval"

    plan_sha256: Hash
    purpose: str
    step_rhos: list[Exact]
    rho_reserved_after: Exact
    policy_sha256: Hash
    source_sha256: Hash
    approved_at: Day
    expires_on: Day | None = None
    """The last day on which it holds."""
    officers: list[OfficerName] = []
    """Whose decisions before it approve the plan, in order of their names."""
    requester: PublicKeyText | None = None
    requester_signature: Signature | None = None
    automatic: bool = False
    """Whether the policy's terms for the requester stand in for officers."""
    max_units_attested: Count | None = None

    @property
    def day(self) -> Day:
        """When it was made."""
        return self.approved_at


class RefusalBody(Body):
    """A plan refused: what was decided for it before counts no longer."""

    kind: ClassVar[str] = "refusal"

    plan_sha256: Hash
    policy_sha256: Hash
    refused_on: Day
    reason_commitment: Hash
    """Salted SHA-256 of the reason; reason and salt stay in the unit."""

    @property
    def day(self) -> Day:
        """When it was made."""
        return self.refused_on


class Ending(enum.StrEnum):
    """How an approval ended before its plan did."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REVOKED = "revoked"


class ClosingBody(Body):
    """An approval ended: the price of rounds not begun is free again."""

    kind: ClassVar[str] = "closing"

    plan_sha256: Hash
    ending: Annotated[Ending, Field(strict=False)]
    rho_returned: Exact
    rho_reserved_after: Exact
    closed_on: Day

    @property
    def day(self) -> Day:
        """When it was made."""
        return self.closed_on


class ChargeFacts(Part):
    """What a release cost."""

    rho: Exact
    delta: Exact
    formula: str


class ReleaseBody(PayloadBody):
    """One release: what, for whom, by which mechanism, at what price."""

    kind: ClassVar[str] = "release"

    release_id: Hash
    plan_sha256: Hash
    unit: UnitName
    step: Count
    request_sha256: Hash
    cells: Count
    width: Count
    lattice: dict[str, int]
    charge: ChargeFacts
    mechanism: dict[str, int]
    rho_spent_after: Exact
    neighbouring_relation: Literal["add-or-remove-one-customer"]
    noise_source: Annotated[str, Field(pattern="^(system|simulated)$")]
    policy_sha256: Hash
    gate_commitment: Hash
    released_on: Day
    software: Annotated[str, Field(pattern=r"^fedseg [0-9A-Za-z.+-]{1,40}$")]

    @property
    def day(self) -> Day:
        """When it was made."""
        return self.released_on


class RightsBatchBody(Body):
    """All certificates of rights requests of one day, and as much filling that nobody can tell how many."""

    kind: ClassVar[str] = "rights_batch"

    period: Day
    capacity: Count
    """Leaves of the tree, certificates and filling together."""
    root: Hash
    """Merkle root (RFC 6962) over the salted commitments."""


class StartBody(Body):
    """A process of the unit's began: what witnesses have cosigned beyond this entry, they have cosigned since."""

    kind: ClassVar[str] = "start"

    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """At random, so that of two copies of a ledger that go on, no witness takes one for the other."""
    started_on: Day
    """As the clock said. No `day`, which later entries must not fall behind: a wrong clock at a start costs nothing."""


class KeyChangeBody(Body):
    """The unit's key replaced; the ledger itself writes and checks key and signature (`ledger/key_change.py`)."""

    kind: ClassVar[str] = KEY_CHANGE

    public_key: PublicKeyText
    """The new key."""
    signature: Signature
    """The new key's, over the ledger so far and the rest of this entry."""
    changed_on: Day

    @property
    def day(self) -> Day:
        """When it was made."""
        return self.changed_on


UnitBody = (
    PolicyBody
    | DecisionBody
    | ApprovalBody
    | RefusalBody
    | ClosingBody
    | ReleaseBody
    | RightsBatchBody
    | StartBody
    | KeyChangeBody
)
"""Every entry of a unit's ledger but the first."""

UNIT_KINDS: Final[Mapping[str, type[UnitBody]]] = {
    body.kind: body
    for body in (
        PolicyBody,
        DecisionBody,
        ApprovalBody,
        RefusalBody,
        ClosingBody,
        ReleaseBody,
        RightsBatchBody,
        StartBody,
        KeyChangeBody,
    )
}


def unit_body(entry: Entry) -> UnitBody:
    """The body of an entry of a unit's ledger, other than its genesis.

    Raises:
        ValueError: If no unit writes such an entry: an unknown kind, or a field that is missing, unknown or of
            another format or spelling; the error names it.
    """
    kind = UNIT_KINDS.get(entry.kind)
    if kind is None:
        raise ValueError(f"no unit writes entries of kind {entry.kind}")
    body = kind.model_validate(dict(entry.body))
    written = body.facts() | {name: entry.body[name] for name in ("payload",) if name in entry.body}
    if Entry(entry.seq, entry.kind, written).to_bytes() != entry.to_bytes():
        raise ValueError(", ".join(_spelled_otherwise(entry.body, written)))
    if isinstance(body, PayloadBody) != (entry.payload is not None):
        raise ValueError("payload")
    return body


def _spelled_otherwise(stated: Mapping[str, Json], written: Mapping[str, Json]) -> list[str]:
    """The fields that are not written as their kind is; in JSON, for to Python true is 1."""
    common = stated.keys() & written.keys()
    return sorted(
        (stated.keys() ^ written.keys())
        | {name for name in common if canonical({name: stated[name]}) != canonical({name: written[name]})}
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema of the bodies of a unit's entries; `$defs` holds one for each kind.

    `unit_body` checks more than a schema can say: that nothing is spelled another way.
    """
    _, schema = models_json_schema([(body, "validation") for body in UNIT_KINDS.values()])
    kinds = {body.kind: {"$ref": f"#/$defs/{body.__name__}"} for body in UNIT_KINDS.values()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Entries of a unit's ledger, by kind",
        "type": "object",
        "properties": kinds,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "$defs": schema["$defs"],
    }
