"""Which of the witnesses that a unit's policy names have cosigned its ledger, by what the unit was given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from fedseg.audit.facts import LedgerFacts
from fedseg.errors import NotWitnessedError, RolledBackError
from fedseg.ledger.verifier_keys import Signed, VerifierKey
from fedseg.node.home import NodeHome
from fedseg.node.witnessing import cosigned_now
from fedseg.privacy.witnessed import open_own


class WitnessLine(NamedTuple):
    """One of the policy's witnesses."""

    name: str
    """As the policy names it."""
    cosigned: bool
    """Whether its signature, found to hold, stands below the newest cosigned checkpoint."""
    at: datetime | None
    """When it says that it signed; None if it says no time, or did not."""


@dataclass(frozen=True, slots=True)
class WitnessFacts:
    """What witnesses have signed of a ledger, under the policy in it."""

    quorum: int | None
    """How many must have; 0 if the unit declares that it has none, None if its policy says nothing."""
    lines: Sequence[WitnessLine]
    covers: int | None
    """How many entries the newest checkpoint covers that one of them has cosigned; None if there is none."""
    failed: NotWitnessedError | RolledBackError | None
    """Why the checkpoint that the unit was given says nothing, or that the ledger is an older copy."""


def witnesses_of(home: NodeHome, facts: LedgerFacts, now: datetime) -> WitnessFacts:
    """What the unit holds of its witnesses' words about its verified ledger.

    Raises:
        StorageError: If a file is there and cannot be read.
    """
    rules = None if facts.account.caps is None else facts.account.caps.witnesses
    quorum, keys = (None, dict[str, str]()) if rules is None else (rules.quorum, rules.keys)
    known = {name: VerifierKey.from_text(text) for name, text in keys.items()}
    covers, signed, failed = None, tuple[Signed, ...](), None
    try:
        held = cosigned_now(home, facts.raw.history(), now, now)
        if held is not None:
            checkpoint, opened = open_own(held.note, facts.raw.history(), known.values())
            covers, signed = checkpoint.size, opened.signed
    except (NotWitnessedError, RolledBackError) as error:
        failed = error
    by_key = {one.key: one for one in signed}
    lines = [WitnessLine(name, key in by_key, _time(by_key.get(key))) for name, key in known.items()]
    return WitnessFacts(quorum, lines, covers if any(one.cosigned for one in lines) else None, failed)


def _time(signed: Signed | None) -> datetime | None:
    """When a cosignature says it was made; None for no time that a calendar has."""
    if signed is None or not signed.timestamp:
        return None
    try:
        return datetime.fromtimestamp(signed.timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return None
