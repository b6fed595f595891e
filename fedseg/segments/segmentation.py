"""`Segmentation`: the published result. Segments in original units with their noise intervals, signed by the server."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedseg.errors import VerificationError
from fedseg.ledger.keys import PublicKey, SigningKey

SIGNATURE_CONTEXT = b"fedseg/segmentation/v1\n"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Share(_Part):
    """A part of the customers, of a segment where it is about one; from 0 to 1."""

    category: str
    """A category of the vocabulary or "other"; "yes" for an answer; "missing" for those without a value; "outside" for
    those beyond learned bounds."""
    share: float
    low: float
    """Lower end of the 95 % noise interval."""
    high: float
    """Upper end of the 95 % noise interval."""


class _Value(_Part):
    feature: str
    label: str
    shares: tuple[Share, ...]
    """Of the segment's customers. Of a number or a time, only the share without a value, if the plan counts it."""


class Spread(_Part):
    """How far a segment's customers lie apart in a number."""

    sd: float
    """Standard deviation on the plan's scale: in original units, or after a logarithm in that; 0 if hidden by the
    noise."""
    low: float
    """Lower end of its 95 % noise interval."""
    high: float
    """Upper end of its 95 % noise interval."""
    typical_low: float
    """One standard deviation below the mean, in original units, ..."""
    typical_high: float
    """... and one above: of bell-shaped values two thirds lie between."""


class NumericValue(_Value):
    """A number: the segment's mean in original units; on the plan's scale, so on a logarithm no arithmetic mean."""

    kind: Literal["numeric"]
    center: float
    low: float
    """Lower end of the 95 % noise interval."""
    high: float
    """Upper end of the 95 % noise interval."""
    spread: Spread


class GroupValue(_Value):
    """Which parts of the segment say yes, or are in which category: all that there is stands in `shares`."""

    kind: Literal["binary", "categorical", "region"]


class CyclicValue(_Value):
    """A time that comes round again: the direction of the mean on the circle, and how close the times are to it."""

    kind: Literal["cyclic"]
    center: float
    """The mean time, from `start` to below `start + period`."""
    low: float
    """Where the 95 % noise interval begins; above `high` if it passes the end of the period."""
    high: float
    """Where it ends; `low` and `high` are the two ends of the period if the noise leaves every time possible."""
    concentration: float
    """Length of the mean: 1 if all customers have the same time, 0 if they are spread evenly."""
    concentration_low: float
    concentration_high: float
    period: float
    start: float
    names: tuple[str, ...]
    """What people call the whole steps from `start` on; may be empty."""

    @property
    def anytime(self) -> bool:
        """Whether the noise leaves every time possible."""
        return (self.low, self.high) == (self.start, self.start + self.period)


Value = Annotated[NumericValue | GroupValue | CyclicValue, Field(discriminator="kind")]
"""One feature of a segment's center, in original units."""


class Segment(_Part):
    """One group of customers. A suppressed segment shows neither size nor center."""

    name: str
    suppressed: bool
    """True if its noised size is below the plan's minimum."""
    size: int | None
    """Customers in it, noised; over all units together."""
    size_interval: tuple[int, int] | None
    """95 % noise interval of the size."""
    above_noise: bool
    """Whether the size stands clearly above the noise; of other segments nothing is known. False if suppressed."""
    clipped: bool
    """Whether so many customers may lie too far out to be counted in full that values lean towards the middle, beyond
    their intervals."""
    stability: float | None
    """How much of the segment comes back when the noise is drawn again, from 0 to 1; None if suppressed."""
    stable: bool
    """Whether that is enough to rely on."""
    values: tuple[Value, ...]
    """Empty if suppressed."""
    encoded_center: tuple[int, ...]
    """The center in the plan's 20-bit integers: for assigning customers. Empty if suppressed."""


class Other(_Part):
    """What the suppressed segments are together."""

    segments: int
    size: int | None
    """Customers in them, noised; None if even together they are below the plan's minimum."""
    size_interval: tuple[int, int] | None
    """95 % noise interval of the size."""


class Candidate(_Part):
    """One number of segments."""

    k: int
    silhouette: float
    """How much nearer customers are to their own segment than to the next: 0 no nearer, 1 infinitely."""
    within: float
    """Part of the customers' variance that is left within the segments."""


class Choice(_Part):
    """How many segments there are, judged by merging those of this run."""

    candidates: tuple[Candidate, ...]
    """From one to as many as stand above the noise, at most 64."""
    silhouette: int
    """The number whose segments stand apart, and no longer do with one more."""
    elbow: int
    """The number after which one more stops paying; 1 if there are too few to tell."""


class Merge(_Part):
    """Two groups of segments, each called by its smallest number, become one."""

    first: int
    second: int


class Alike(_Part):
    """Two neighbouring segments that may be one group."""

    first: int
    second: int
    gap: float
    """Distance of their means in their spread along it; two halves of one group have at most 3.46."""


class Mixed(_Part):
    """A segment that may hold two groups."""

    segment: int
    gap: float
    """As in `Alike`, of its two halves."""
    share: float
    """Part of its customers in the smaller one."""


class Findings(_Part):
    """What the shown segments above the noise say about themselves; each is called by its place, from 1."""

    choice: Choice | None
    """None if there is no such segment."""
    merges: tuple[Merge, ...]
    """From all of them to one, the most alike first (Ward)."""
    alike: tuple[Alike, ...]
    """The most alike first."""
    mixed: tuple[Mixed, ...]
    """The clearest first."""


class LearnedBounds(_Part):
    """The public range of a number, as a plan for bounds has found it."""

    feature: str
    label: str
    lower: float | None
    """None if nothing stands above the noise: then nothing is known of this feature."""
    upper: float | None
    transform: Literal["identity", "log1p", "asinh"]
    """The scale that suits the numbers: a suggestion. If nothing was found, that of the plan for bounds."""
    outside: Share
    """Of the customers with a value those beyond the bounds; all, if none were found."""
    missing: Share | None
    """Of all customers those without a value; None if the plan does not count them."""
    at_limit: bool
    """Whether customers stand at an end of the plan's own range that is not 0: then some may be beyond it."""

    @property
    def found(self) -> bool:
        """Whether there are bounds."""
        return self.lower is not None


class Segmentation(_Part):
    """The segments, or the bounds of a plan that asks for those, and what it takes to check them."""

    version: int
    name: str
    plan_sha256: str
    algorithm: str
    trust: str
    epsilon: str
    """Most privacy loss of one customer over all units, with `delta`; from the plan."""
    delta: str
    rho: str
    """The same in zCDP, as an exact fraction: the sum of all charges over the units one customer may be in."""
    rounds: int
    units: tuple[str, ...]
    """Units whose releases are in it."""
    noise: str
    """"system", or "simulated" if any unit's noise was: then this is not a differentially private release."""
    segments: tuple[Segment, ...]
    """Empty if the plan asks for bounds."""
    bounds: tuple[LearnedBounds, ...]
    """In the order of the plan's features; empty if it asks for segments."""
    other: Other | None
    """None if no segment is suppressed."""
    findings: Findings

    @property
    def simulated(self) -> bool:
        """Whether any noise in it was simulated: then nothing here is private."""
        return self.noise != "system"

    def canonical(self) -> bytes:
        """RFC 8785 form: what is signed."""
        return rfc8785.dumps(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class SignedSegmentation:
    """A segmentation with the server's signature, as it stands in segmentation.json."""

    segmentation: Segmentation
    public_key: PublicKey
    signature: bytes

    @classmethod
    def sign(cls, segmentation: Segmentation, key: SigningKey) -> Self:
        """Sign with the server's key."""
        return cls(segmentation, key.public, key.sign(SIGNATURE_CONTEXT + segmentation.canonical()))

    def to_json(self) -> bytes:
        """The file's bytes: canonical JSON and a line feed."""
        document: dict[str, Any] = {
            "segmentation": self.segmentation.model_dump(mode="json"),
            "server_public_key": self.public_key.to_text(),
            "signature": self.signature.hex(),
        }
        return rfc8785.dumps(document) + b"\n"


class _File(_Part):
    segmentation: Segmentation
    server_public_key: str
    signature: str


def parse_signed(document: bytes) -> SignedSegmentation:
    """Read segmentation.json and check its form and signature.

    Raises:
        VerificationError: If it is malformed, not canonical, or not signed by the key it names.
    """
    try:
        file = _File.model_validate_json(document, strict=False)
        signed = SignedSegmentation(
            file.segmentation, PublicKey.from_text(file.server_public_key), bytes.fromhex(file.signature)
        )
        canonical = signed.to_json()
    except (ValidationError, ValueError) as error:  # also a number that has no canonical form
        raise _refused("it is not a segmentation file") from error
    if canonical != document:
        raise _refused("it is not in canonical form")
    if not signed.public_key.verify(signed.signature, SIGNATURE_CONTEXT + signed.segmentation.canonical()):
        raise _refused("its signature does not fit its content")
    return signed


def _refused(why: str) -> VerificationError:
    return VerificationError(
        "the segmentation cannot be trusted", why=why, fix="fetch it again from the server, and compare its key"
    )
