"""An equivocation proof: two checkpoints that one key signed, of one log and size, with different roots.

A log that only grows can have one root at a size. So whoever holds the key has shown two histories, and the two signed
notes alone prove it to anybody, for ever, without either history.
"""

from dataclasses import dataclass
from typing import Self

from fedseg.audit.entries import failed
from fedseg.audit.faults import Fault
from fedseg.errors import VerificationError
from fedseg.ledger.canonical import canonical, parse_canonical
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint
from fedseg.ledger.keys import PublicKey

PROOF_START = b'{"kind":"fedseg-equivocation-proof"'
"""How the file begins: its canonical JSON has this key first."""
PROOF_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class EquivocationProof:
    """Two notes that cannot both be of one history; checked when it is made."""

    origin: str
    """The log's name."""
    public_key: PublicKey
    """The key that signed both."""
    notes: tuple[str, str]
    """The signed notes, in order of their text."""

    def __post_init__(self) -> None:
        one, other = (open_checkpoint(note, self.public_key, self.origin) for note in self.notes)
        if one.size != other.size or one.root == other.root or self.notes[0] > self.notes[1]:
            raise ValueError("two notes prove equivocation if they are of one size and different roots, in order")

    @classmethod
    def of(cls, origin: str, public_key: PublicKey, one: str, other: str) -> Self:
        """The proof that two notes make, in either order.

        Raises:
            ValueError: If they prove nothing.
            VerificationError: If the key has not signed both.
        """
        return cls(origin, public_key, (min(one, other), max(one, other)))

    @property
    def checkpoints(self) -> tuple[Checkpoint, Checkpoint]:
        """What the two notes say."""
        one, other = (open_checkpoint(note, self.public_key, self.origin) for note in self.notes)
        return one, other

    @property
    def in_words(self) -> str:
        """What it proves, in a sentence."""
        one, other = self.checkpoints
        return (
            f"the key {self.public_key.fingerprint()} signed two histories of {self.origin}: after {one.size} entries "
            f"the root {one.root.hex()[:16]} and the root {other.root.hex()[:16]}"
        )

    def to_json(self) -> bytes:
        """The file's bytes: canonical JSON and a line feed."""
        return (
            canonical(
                {
                    "kind": "fedseg-equivocation-proof",
                    "version": 1,
                    "origin": self.origin,
                    "public_key": self.public_key.to_text(),
                    "notes": [*self.notes],
                }
            )
            + b"\n"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The proof in a file's bytes.

        Raises:
            VerificationError: If they prove nothing.
        """
        try:
            match parse_canonical(data[:PROOF_LIMIT_BYTES].removesuffix(b"\n")):
                case {"origin": str(origin), "public_key": str(key), "notes": [str(one), str(other)]}:
                    proof = cls(origin, PublicKey.from_text(key), (one, other))
                case _:
                    raise failed(Fault.NO_PROOF, "the file lacks the log's name, its key or the two notes")
        except ValueError as error:
            raise failed(Fault.NO_PROOF, f"the file proves nothing: {error}") from error
        except VerificationError as error:
            if "fault" in error.data:
                raise
            raise failed(Fault.NO_PROOF, f"the file proves nothing: {error.why}") from error
        if proof.to_json() != data:
            raise failed(Fault.NO_PROOF, "the file is not spelled as a proof is")
        return proof
