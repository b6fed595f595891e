"""What an audit finds: values only, recomputed, never remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from fedseg.ledger.keys import PublicKey
from fedseg.ledger.reading import RawLedger
from fedseg.privacy.state import AccountState
from fedseg.segments.segmentation import SignedSegmentation


@dataclass(frozen=True, slots=True)
class ReleaseFact:
    """One release, as recomputed."""

    plan_sha256: str
    step: int
    release_id: str
    integers: int
    sigma: int
    l2_sensitivity_squared: int
    rho: Fraction
    rho_spent_after: Fraction
    noise_source: str
    output_sha256: str


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What a ledger proves. For a server's ledger the account part is empty, for a unit's the published one."""

    origin: str
    role: str
    unit: str
    """Name of the unit; empty for a server."""
    keys: tuple[PublicKey, ...]
    """Every key that the ledger has had, the one in force last."""
    size: int
    root: bytes
    account: AccountState
    releases: tuple[ReleaseFact, ...]
    published: Mapping[str, SignedSegmentation]
    """Segmentations by plan hash, recomputed."""
    simulated: bool
    """Whether any noise came from elsewhere than the system's randomness: then nothing here is private."""
    raw: RawLedger

    @property
    def public_key(self) -> PublicKey:
        """The key in force."""
        return self.keys[-1]
