"""What can be said of a unit's witnesses, recomputed from its ledger and the cosigned checkpoint beside it. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from fedseg.audit.facts import LedgerFacts
from fedseg.errors import NotWitnessedError
from fedseg.privacy.witnessed import open_own


@dataclass(frozen=True, slots=True)
class WitnessState:
    """Whether a unit's log is witnessed: by whom, up to which size, or declared by none."""

    quorum: int | None
    """How many witnesses the policy in force asks for; 0 if it declares that there is none, None if it says nothing."""
    names: tuple[str, ...]
    """The witnesses that the policy names."""
    seen_by: tuple[tuple[str, datetime], ...] = ()
    """Of these, who has cosigned the newest cosigned checkpoint, and when (UTC); in the policy's order."""
    seen_size: int = 0
    """How many entries that checkpoint covers; 0 if none was cosigned."""
    size: int = 0
    """How many entries the ledger has."""

    @property
    def is_witnessed(self) -> bool:
        """Whether as many witnesses as the policy asks for have seen some of the ledger."""
        return self.quorum is not None and 0 < self.quorum <= len(self.seen_by)

    @property
    def in_words(self) -> str:
        """A sentence for a report."""
        if self.quorum is None:
            return "no witness: the policy says nothing of witnesses, so nobody would notice a ledger that was put back"
        if not self.quorum:
            return "no witness, as the policy declares: nobody would notice a ledger that was put back"
        if not self.seen_by:
            return f"not witnessed yet: the policy asks for {self.quorum} of {', '.join(self.names)}"
        who = ", ".join(f"{name} ({when:%Y-%m-%d %H:%M} UTC)" for name, when in self.seen_by)
        reached = "" if self.is_witnessed else f"; the policy asks for {self.quorum}, so nothing is released"
        return f"{self.seen_size} of {self.size} entries witnessed by {who}{reached}"


def witness_state(ledger: LedgerFacts, cosigned: str | None) -> WitnessState:
    """What the witnesses of a unit's policy in force have seen of its verified ledger.

    Args:
        ledger: A unit's.
        cosigned: The note in the unit's `cosigned.note`; None if there is none. Nothing of it is believed unchecked.

    Raises:
        RolledBackError: If the ledger's own key has signed it and the ledger does not begin with what it says.
    """
    caps = ledger.account.caps
    rules = None if caps is None else caps.witnesses
    if rules is None:
        return WitnessState(None, (), size=ledger.size)
    named = {key: name for name, key in zip(rules.keys, rules.verifier_keys, strict=True)}
    stated = WitnessState(rules.quorum, tuple(rules.keys), size=ledger.size)
    if cosigned is None:
        return stated
    try:
        checkpoint, opened = open_own(cosigned, ledger.raw.history(), rules.verifier_keys)
    except NotWitnessedError:
        return stated
    said = ((key, opened.by(key)) for key in named)
    seen = tuple((named[key], _time(one.timestamp or 0)) for key, one in said if one is not None)
    return WitnessState(stated.quorum, stated.names, seen, checkpoint.size if seen else 0, stated.size)


def _time(seconds: int) -> datetime:
    """The time of a cosignature; what no calendar holds, as the last that one does."""
    return datetime.fromtimestamp(min(seconds, 253_402_300_799), UTC)
