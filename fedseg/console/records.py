"""What else the unit keeps records of: rights requests with their clocks, the ledger and who has seen it, segments."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from fedseg.audit.bundle import cosigned_notes
from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import verify_ledger
from fedseg.audit.witnesses import WitnessState, witness_state
from fedseg.console.account import plan_name
from fedseg.errors import FedsegError, RolledBackError, SettingsError, VerificationError
from fedseg.node.home import NodeHome
from fedseg.node.rights.register import OpenRequest
from fedseg.policy.notices import Notice, is_escalated
from fedseg.policy.rights import Regulation, Right
from fedseg.privacy.budget import epsilon_of, shown_epsilon
from fedseg.privacy.entries import RefusalBody, ReleaseBody, unit_body
from fedseg.segments.segmentation import SignedSegmentation, parse_signed

LINES_MAX: Final = 100
"""Most releases on the ledger's page: the latest; the ledger has all."""

_COMMANDS: Final[Mapping[Right, str]] = {
    Right.ACCESS: "export",
    Right.PORTABILITY: "export",
    Right.RECTIFICATION: "rectify",
    Right.RESTRICTION: "restrict",
    Right.OBJECTION: "object",
    Right.ERASURE: "erase",
    Right.OPT_OUT: "opt-out",
    Right.LIMIT: "limit",
}
_OF_EITHER_LAW: Final = frozenset({"export", "rectify", "erase"})
"""Commands that must be told the law."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """An open rights request. It names nobody."""

    noted: OpenRequest
    notices: Sequence[Notice]
    days_left: int | None
    """None while the clock stands still."""
    urgent: bool
    overdue: bool
    escalated: bool
    """Whether a recipient is silent while time is short."""
    command: str
    """What takes it a step further."""


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """Something that left the unit."""

    entry: int
    day: str
    plan: str
    step: int
    integers: int
    noise: str
    epsilon_after: str
    """Of everything released until then."""


@dataclass(frozen=True, slots=True)
class RefusalLine:
    """A plan that was refused."""

    entry: int
    day: str
    plan_sha256: str


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """A ledger that checks out, or does not."""

    facts: LedgerFacts | VerificationError
    checkpoint: Sequence[str]
    """Lines of the newest checkpoint's note."""
    witnesses: WitnessState | None
    """None if the ledger does not check out."""
    rolled_back: RolledBackError | None
    """That the ledger is an older copy: its own key has signed, for its witnesses, what is not in it."""
    releases: Sequence[ReleaseLine]
    """The latest first."""
    refusals: Sequence[RefusalLine]
    left_out: int
    """Earlier releases that are not listed."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published result, or why it cannot be shown."""

    place: str
    found: SignedSegmentation | FedsegError
    approved: bool
    """Whether this unit's ledger holds the plan that it names."""


def requests_of(home: NodeHome, today: date) -> list[RequestLine]:
    """The open requests, by their deadline.

    Raises:
        DataError, StorageError: If the register of requests cannot be read.
    """
    with home.rights() as rights:
        found = [one for one in rights.requests() if not one.request.status.is_final]
        notices = rights.notices.notices()
    found.sort(key=lambda one: one.request.due)
    return [_request_line(home, one, notices.get(one.request.id, ()), today) for one in found]


def ledger_of(home: NodeHome) -> LedgerPage:
    """Verify the unit's ledger from its first byte, and say what left the unit, what was refused, and who has seen it.

    Raises:
        SettingsError, StorageError: If it, or what was cosigned of it, cannot be read.
    """
    notes = cosigned_notes(home.path).values()
    try:
        facts = verify_ledger(home.path / "ledger.db", home.key.public)
    except VerificationError as error:
        return LedgerPage(error, (), None, None, (), (), 0)
    releases = _releases(facts)
    return LedgerPage(
        facts,
        facts.raw.notes[-1][1].splitlines(),
        *_witnesses(facts, notes),
        releases,
        [
            RefusalLine(entry.seq, body.refused_on, body.plan_sha256)
            for entry in reversed(facts.raw.entries[1:])
            if isinstance(body := unit_body(entry), RefusalBody)
        ],
        len(facts.releases) - len(releases),
    )


def published_in(home: NodeHome, places: Sequence[Path]) -> list[Published]:
    """The published results in these files or folders, signatures checked.

    Raises:
        VerificationError, StorageError: If the unit's ledger cannot be read.
    """
    with home.ledger() as ledger:
        return [_published(place, lambda sha256: ledger.payload(f"plan:{sha256}") is not None) for place in places]


def _witnesses(facts: LedgerFacts, notes: Iterable[bytes]) -> tuple[WitnessState, RolledBackError | None]:
    try:
        return witness_state(facts, notes), None
    except RolledBackError as error:
        return witness_state(facts, ()), error


def _request_line(home: NodeHome, one: OpenRequest, notices: Sequence[Notice], today: date) -> RequestLine:
    request = one.request
    return RequestLine(
        noted=one,
        notices=notices,
        days_left=request.days_left(today),
        urgent=request.is_urgent(today),
        overdue=request.is_overdue(today),
        escalated=is_escalated(request, notices, today),
        command=_next_command(home, one, notices),
    )


def _next_command(home: NodeHome, one: OpenRequest, notices: Sequence[Notice]) -> str:
    where = f"--node={home.path}"
    if one.request.identity_asked is not None:
        return shlex.join(["fedseg", "subject", "verified", one.request.id, where])
    if notices and not all(notice.status.is_settled for notice in notices):
        return shlex.join(["fedseg", "subject", "notify", where])
    verb = _COMMANDS[one.request.right]
    law = [f"--regulation={one.request.regulation.value}"] if verb in _OF_EITHER_LAW else []
    law = [] if one.request.regulation is Regulation.GDPR else law
    out = ["--out=FILE.json"] if verb == "export" else []
    return shlex.join(
        ["fedseg", "subject", verb, "--id-file=FILE", f"--ticket={one.ticket}", *law, *out, where],
    )


def _releases(facts: LedgerFacts) -> list[ReleaseLine]:
    """The latest releases, the latest first."""
    if facts.account.caps is None:
        return []
    delta = facts.account.caps.delta
    proven = {(one.plan_sha256, one.step): one for one in facts.releases}
    bodies = [(entry.seq, unit_body(entry)) for entry in facts.raw.entries[1:]]
    latest = [(seq, body) for seq, body in bodies if isinstance(body, ReleaseBody)][: -LINES_MAX - 1 : -1]
    payload = facts.raw.payloads.get
    names = {sha256: plan_name(sha256, payload) for sha256 in {body.plan_sha256 for _, body in latest}}
    return [
        ReleaseLine(
            entry=seq,
            day=body.released_on,
            plan=names[body.plan_sha256],
            step=body.step + 1,
            integers=proven[body.plan_sha256, body.step].integers,
            noise=body.noise_source,
            epsilon_after=shown_epsilon(epsilon_of(body.rho_spent_after, delta)),
        )
        for seq, body in latest
    ]


def _published(place: Path, is_approved: Callable[[str], bool]) -> Published:
    path = place / "segmentation.json" if place.is_dir() else place
    try:
        signed = parse_signed(path.read_bytes())
    except OSError as error:
        unread = SettingsError(
            f"{path} cannot be read",
            why=error.strerror or "unknown cause",
            fix="name a file or the folder of a run with --segments",
        )
        return Published(str(place), unread, approved=False)
    except FedsegError as error:
        return Published(str(place), error, approved=False)
    return Published(str(place), signed, is_approved(signed.segmentation.plan_sha256))
