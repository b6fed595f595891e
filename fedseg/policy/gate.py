"""The gate: which customers and columns may be counted for a purpose, and why not. Deny unless every check says yes.

`decide` turns consent into one decision per customer, `admit` turns a `Table` into the `ConsentedTable` that alone can
be encoded. Pure: no files, no clock, no randomness. What concerns single customers here never leaves the unit.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NoReturn, Self, TypeAlias, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedseg.columns import Column, names_of
from fedseg.errors import PolicyError
from fedseg.policy.consent import (
    NEVER_TOLD,
    ConsentState,
    Jurisdiction,
    PurposeState,
    Status,
    Veto,
    to_microseconds,
)
from fedseg.policy.document import Policy
from fedseg.policy.lookup import ABSENT, AT_ONCE, SubjectIndex, Words, WordsInMemory, in_byte_order, words_of
from fedseg.policy.purpose_rule import (
    ByConsent,
    ByNotice,
    JurisdictionName,
    PurposeRule,
    Requirement,
    Way,
    jurisdictions_of,
    vetoes_of,
)
from fedseg.policy.purposes import Purpose
from fedseg.policy.rules import refused_columns
from fedseg.table import SUBJECT, SUBJECT_TYPE, Table, table_schema

SALT_BYTES: Final = 32

_COMMITMENT_TAG: Final = b"fedseg/gate-commitment/v1\n"
_MICROSECONDS_PER_DAY: Final = 24 * 60 * 60 * 1_000_000


class Reason(IntEnum):
    """Why a customer may or may not be counted. Names and numbers are stable: commitments hold them."""

    ALLOWED = 0
    NO_RECORD = 1
    NOT_GIVEN = 2
    """Asked, refused, unknown, or of a status the policy does not accept."""
    WITHDRAWN = 3
    """Taken back by the customer or revoked by someone else."""
    EXPIRED = 4
    TOO_OLD = 5
    NOTICE_TOO_OLD = 6
    """Of the notice that counts: the one consented to, or the one last sent."""
    JURISDICTION_UNKNOWN = 7
    JURISDICTION_NOT_COVERED = 8
    """Known, and no way to be allowed is for it."""
    NOT_TOLD = 9
    """No notice is on record, or it came back."""
    NO_EXPLICIT_CONSENT = 10
    """Asked for and not given, refused, or never asked for."""
    EXPLICIT_CONSENT_ENDED = 11
    VETOED_OBJECTION = 16
    VETOED_RESTRICTION = 17
    VETOED_SUPPRESSED = 18
    VETOED_OPT_OUT_SALE = 19
    VETOED_OPT_OUT_SHARE = 20
    VETOED_MINOR = 21
    VETOED_UNKNOWN_AGE = 22
    VETOED_LIMIT_SENSITIVE = 23
    UNREADABLE = 255
    """An event about the customer is of a kind or scope this version does not know."""


_REASON_OF_VETO: Final = {
    Veto.UNREADABLE: Reason.UNREADABLE,
    Veto.SUPPRESSED: Reason.VETOED_SUPPRESSED,
    Veto.RESTRICTION: Reason.VETOED_RESTRICTION,
    Veto.OBJECTION: Reason.VETOED_OBJECTION,
    Veto.OPT_OUT_SALE: Reason.VETOED_OPT_OUT_SALE,
    Veto.OPT_OUT_SHARE: Reason.VETOED_OPT_OUT_SHARE,
    Veto.MINOR: Reason.VETOED_MINOR,
    Veto.AGE_UNKNOWN: Reason.VETOED_UNKNOWN_AGE,
    Veto.LIMIT_SENSITIVE: Reason.VETOED_LIMIT_SENSITIVE,
}
"""Which reason is named where several vetoes stand: the first in this order."""

_IS_REASON: Final = np.isin(np.arange(256), list(Reason))
_ELSEWHERE: Final = (Reason.JURISDICTION_UNKNOWN, Reason.JURISDICTION_NOT_COVERED)

_Mask: TypeAlias = NDArray[np.bool_]
_Failed: TypeAlias = tuple[Reason, _Mask]
"""A check that fails for some customers, and for whom."""


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """One decision per customer known to the register, for one purpose under one policy. Stays at the unit."""

    subjects: SubjectIndex = field(repr=False)
    codes: NDArray[np.uint8] = field(repr=False)
    """A `Reason` per subject, in the order of the index; 0 is allowed, everything else is not."""
    decided_at: datetime
    """The moment whose consent was decided on."""
    purpose: str
    """The purpose decided on; for no other do these decisions hold."""
    policy_digest: str
    """Digest of the policy decided under."""

    def __post_init__(self) -> None:
        if len(self.subjects) != len(self.codes) or self.codes.dtype != np.uint8:
            raise ValueError("there must be one uint8 code per subject")
        parts = (self.codes[start : start + AT_ONCE] for start in range(0, len(self.codes), AT_ONCE))
        if not all(_IS_REASON[part].all() for part in parts):
            raise ValueError("every code must be a Reason")
        to_microseconds(self.decided_at)
        self.codes.flags.writeable = False

    @classmethod
    def over(
        cls, subjects: pa.Array, codes: NDArray[np.uint8], decided_at: datetime, purpose: str, policy_digest: str
    ) -> Self:
        """Decisions about these subjects, `pa.binary(16)` in any order, each with its code.

        Raises:
            ValueError: If a subject is null or stands there twice, or not every one has a code.
        """
        order, high, low = in_byte_order(subjects)
        if len(codes) != len(order):
            raise ValueError("there must be one uint8 code per subject")
        return cls(SubjectIndex(high, low), codes[order], decided_at, purpose, policy_digest)

    def allow(self, subjects: pa.Array) -> NDArray[np.bool_]:
        """Whether each of `subjects` may be counted. A missing or unknown subject may not."""
        places = self.subjects.find(subjects)
        allowed: NDArray[np.bool_] = places != ABSENT
        allowed[allowed] = self.codes[places[allowed]] == Reason.ALLOWED
        return allowed

    def pieces(self, size: int = AT_ONCE) -> Iterator[tuple[pa.FixedSizeBinaryArray, NDArray[np.uint8]]]:
        """All subjects in byte order with their codes, at most `size` at a time."""
        start = 0
        for subjects in self.subjects.pieces(size):
            yield subjects, self.codes[start : (start := start + len(subjects))]

    def commitment(self, salt: bytes, policy_digest: str) -> str:
        """A salted commitment to every single decision: SHA-256 in hex, safe to write into a ledger.

        SHA-256(tag | salt | policy digest, purpose and time, each with its length | number of subjects |
        subjects in byte order | their codes). While the unit keeps `salt`, it can open the commitment to its auditor.
        Once the salt is erased the commitment says nothing about anyone, not even to someone who guesses the register.

        Args:
            salt: 32 random bytes drawn for one release.
            policy_digest: Digest of the policy decided under, as it stands in the ledger.

        Raises:
            ValueError: If the salt has another length, or these decisions were made under another policy.
        """
        if len(salt) != SALT_BYTES:
            raise ValueError(f"a salt is {SALT_BYTES} bytes long, this one {len(salt)}")
        if policy_digest != self.policy_digest:
            raise ValueError("these decisions were made under another policy than the one to commit to")
        digest = hashlib.sha256(_COMMITMENT_TAG + salt)
        for text in (policy_digest, self.purpose, str(to_microseconds(self.decided_at))):
            digest.update(_with_length(text.encode()))
        digest.update(len(self.subjects).to_bytes(8, "big"))
        for some in self.subjects.pieces():
            digest.update(some.buffers()[1])
        digest.update(np.ascontiguousarray(self.codes).data)
        return digest.hexdigest()


@final
class _Mint:
    """Held by this module alone; whoever lacks it cannot make a `ConsentedTable`."""


_MINT: Final = _Mint()


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ConsentedTable:
    """Rows that may be counted for one purpose; `admit` alone makes it. No copy, no pickle, silent `repr`."""

    columns: tuple[Column, ...]
    """Feature columns, as in `Table`; the policy allows every one."""
    _table: Table
    _decisions: Decisions
    mint: InitVar[_Mint]

    def __post_init__(self, mint: _Mint) -> None:
        # The types say so already; this says it to code that no type checker reads.
        if mint is not _MINT:
            raise TypeError("a ConsentedTable is made by admit() alone")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the admitted rows from the beginning: those whose subject is present and allowed.

        Whether a row is left out depends on its own subject alone, never on other rows. Order is kept, and every batch
        has `table_schema(columns)`.
        """
        for batch in self._table.batches():
            yield batch.filter(pa.array(self._decisions.allow(batch.column(SUBJECT))))

    def schema(self) -> pa.Schema:
        """The Arrow schema of every batch."""
        return table_schema(self.columns)

    @property
    def purpose(self) -> str:
        """What the rows may be counted for, and nothing else."""
        return self._decisions.purpose

    @property
    def policy_digest(self) -> str:
        """Digest of the policy that admitted them."""
        return self._decisions.policy_digest

    def __repr__(self) -> str:
        return "<ConsentedTable>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a ConsentedTable is neither copied nor pickled: ask admit() again")


def decide(state: ConsentState, policy: Policy, purpose: str, now: datetime) -> Decisions:
    """Decide on every customer of `state`: may they be counted for `purpose` at `now`?

    Who is not in `state` is not allowed. For everybody else see `judge`.

    Raises:
        PolicyError: If the policy says nothing about the purpose: what is not allowed is denied.
        ValueError: If `now` lies before the moment of `state`, which may then count events that came later.
    """
    return decide_each([state], policy, purpose, now)


def decide_each(
    states: Iterable[ConsentState],
    policy: Policy,
    purpose: str,
    now: datetime,
    words: Callable[[], Words] = WordsInMemory,
) -> Decisions:
    """The same of customers who come some at a time, in byte order. Of each their key and their code are kept.

    Args:
        states: No customer is in two of them, and those of a later one come later in byte order.
        policy: The one in force.
        purpose: What they may be counted for, or not.
        now: The moment to decide for.
        words: Makes a place for words of their keys.

    Raises:
        PolicyError, ValueError: As `decide`; a ValueError also if the customers are out of order.
    """
    rule, moment = policy.rule(purpose), to_microseconds(now)
    high, low, codes = words(), words(), bytearray()
    for state in states:
        if moment < to_microseconds(state.folded_at):
            raise ValueError("the consent state was folded at a later moment than the one to decide for")
        for place, some in zip((high, low), words_of(state.subjects), strict=True):
            place.add(some)
        codes += judge(state.by_purpose[Purpose(purpose)], rule, moment).tobytes()

    def let_go() -> None:
        high.let_go()
        low.let_go()

    subjects = SubjectIndex(high.whole(), low.whole(), let_go)
    return Decisions(subjects, np.frombuffer(codes, np.uint8), now, purpose, policy.digest)


def judge(standing: PurposeState, rule: PurposeRule, moment: int) -> NDArray[np.uint8]:
    """The `Reason` for each customer whose consent stands like this, at `moment` in microseconds since 1970 UTC.

    Allowed is whom one way of the rule allows, who has given explicit consent where the rule is about special
    categories, and against whom no veto stands that the rule names. The first of these to fail is the reason, vetoes
    before ways before explicit consent. Where several ways fail it is that of the first whose jurisdiction fits.

    The arrays of `standing` may have any shapes that fit together; the result has the shape of all.
    """
    by_vetoes = _first(_vetoed(standing, rule.vetoes()))
    by_ways = _by_any_way([_first(_failing(standing, way, moment)) for way in rule.ways()])
    by_special = _first(_not_explicit(standing, rule, moment))
    rest = np.where(by_ways == Reason.ALLOWED, by_special, by_ways)
    return np.where(by_vetoes == Reason.ALLOWED, rest, by_vetoes)


def admit(table: Table, decisions: Decisions, policy: Policy, purpose: str) -> ConsentedTable:
    """The rows of `table` whose customers may be counted for `purpose`. Reads no row.

    Rows without a subject and of customers without an allowing decision are left out.

    Raises:
        PolicyError: If the policy says nothing about the purpose or does not allow a column for it.
        ValueError: If `decisions` were made for another purpose or under another policy.
    """
    rule = policy.rule(purpose)
    if (decisions.purpose, decisions.policy_digest) != (purpose, policy.digest):
        raise ValueError("these decisions were made for another purpose or under another policy")
    refused = refused_columns(rule, names_of(table.columns))
    if refused:
        raise PolicyError(
            f"the policy {policy.id} does not allow every column for {purpose}",
            why=f"not allowed: {', '.join(refused)}; allowed: {', '.join(rule.readable)}",
            fix="leave the columns out of the plan, or have the policy's owners allow them",
        )
    return ConsentedTable(columns=table.columns, _table=table, _decisions=decisions, mint=_MINT)


def tally(table: Table, decisions: Decisions) -> Mapping[Reason, int]:
    """LOCAL: how many distinct customers of `table` got each decision. Exact counts never leave the unit.

    Every `Reason` is a key. A customer the register does not know counts as `NO_RECORD`; a row without a subject is no
    customer. Reads the whole table once.
    """
    seen = np.zeros(len(decisions.subjects), dtype=np.bool_)
    unknown = pa.array([], SUBJECT_TYPE)
    for batch in table.batches():
        subjects = batch.column(SUBJECT).drop_null()
        places = decisions.subjects.find(subjects)
        seen[places[places != ABSENT]] = True
        unknown = pa.concat_arrays([unknown, subjects.filter(pa.array(places == ABSENT))]).unique()
    counts = np.bincount(decisions.codes[seen], minlength=max(Reason) + 1)
    counts[Reason.NO_RECORD] += len(unknown)
    return MappingProxyType({reason: int(counts[reason]) for reason in Reason})


def _first(failed: Iterable[_Failed]) -> NDArray[np.uint8]:
    """The reason of the first check that fails."""
    codes = np.asarray(Reason.ALLOWED, dtype=np.uint8)
    for reason, mask in reversed([*failed]):
        codes = np.where(mask, np.uint8(reason), codes)
    return codes


def _by_any_way(ways: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Allowed if one way allows; otherwise the reason of the first way that is for the customer's jurisdiction."""
    codes, *others = ways
    for other in others:
        takes_over = (codes != Reason.ALLOWED) & ((other == Reason.ALLOWED) | np.isin(codes, _ELSEWHERE))
        codes = np.where(takes_over, other, codes)
    return codes


def _vetoed(standing: PurposeState, vetoes: Veto) -> Iterator[_Failed]:
    for veto, reason in _REASON_OF_VETO.items():
        if veto in vetoes:
            yield reason, (standing.vetoes & np.uint16(veto)) != 0


def _failing(standing: PurposeState, way: Way, moment: int) -> Iterator[_Failed]:
    """What stands against being allowed in this way."""
    if way.jurisdictions is not None:
        yield from _elsewhere(standing, way.jurisdictions)
    if isinstance(way, ByConsent):
        yield from _not_consented(standing, way.consent, moment)
    else:
        yield from _not_told(standing, way, moment)


def _elsewhere(standing: PurposeState, names: tuple[JurisdictionName, ...]) -> Iterator[_Failed]:
    yield Reason.JURISDICTION_UNKNOWN, standing.jurisdiction == Jurisdiction.UNKNOWN
    yield Reason.JURISDICTION_NOT_COVERED, ~np.isin(standing.jurisdiction, jurisdictions_of(names))


def _not_consented(standing: PurposeState, required: Requirement, moment: int) -> Iterator[_Failed]:
    yield Reason.NO_RECORD, standing.status == Status.NO_RECORD
    yield from _said_no(standing, moment)
    yield Reason.NOT_GIVEN, ~np.isin(standing.status, [Status[accepted.upper()] for accepted in required.status])
    yield Reason.TOO_OLD, standing.event_time < moment - required.max_age_days * _MICROSECONDS_PER_DAY
    yield Reason.NOTICE_TOO_OLD, standing.notice_version < required.notice_min_version


def _not_told(standing: PurposeState, way: ByNotice, moment: int) -> Iterator[_Failed]:
    # Whoever was asked and has not said yes is not counted on another basis instead.
    yield from _said_no(standing, moment)
    yield Reason.NOT_TOLD, standing.told_version == NEVER_TOLD
    yield Reason.NOTICE_TOO_OLD, standing.told_version < way.notice_min_version
    yield from _vetoed(standing, vetoes_of(way.absent))


def _said_no(standing: PurposeState, moment: int) -> Iterator[_Failed]:
    """Who was asked for consent, and does not now consent."""
    status = standing.status
    yield Reason.WITHDRAWN, (status == Status.WITHDRAWN) | (status == Status.REVOKED)
    # The state may be older than the decision: a consent can have ended since.
    is_grant = (status == Status.GIVEN) | (status == Status.RENEWED)
    yield Reason.EXPIRED, (status == Status.EXPIRED) | (is_grant & (standing.valid_until <= moment))
    yield Reason.NOT_GIVEN, ~(is_grant | (status == Status.NO_RECORD))


def _not_explicit(standing: PurposeState, rule: PurposeRule, moment: int) -> Iterator[_Failed]:
    """Who has not agreed expressly to the use of special categories, in a rule that allows any."""
    if rule.explicit_basis is None:
        return
    status = standing.explicit
    over = (status == Status.EXPIRED) | (status == Status.WITHDRAWN) | (status == Status.REVOKED)
    yield Reason.EXPLICIT_CONSENT_ENDED, over
    yield Reason.NO_EXPLICIT_CONSENT, status != Status.GIVEN
    yield Reason.EXPLICIT_CONSENT_ENDED, standing.explicit_until <= moment


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data
