"""How a log replaces its key, and which key signs which checkpoint. Pure.

An entry `key_change` names the new key. The old key signs the checkpoint that ends with this entry: so it says whom to
believe from here on. The new key has signed, in the entry, the history that it takes over: so nobody names a key that
they do not hold, and nobody who has got hold of the old key can put another history before the new one. Every later
checkpoint is the new key's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical
from fedseg.ledger.checkpoint import Checkpoint
from fedseg.ledger.entries import KEY_CHANGE, Entry, Genesis, History
from fedseg.ledger.keys import PublicKey, SigningKey

KEY_CHANGE_CONTEXT: Final = b"fedseg/key-change/v1\n"
"""What the signature is for stands before what is signed, so that it can be taken for no other."""
_OURS: Final = frozenset({"public_key", "signature", "payload"})


@dataclass(frozen=True, slots=True)
class KeyTerm:
    """A key, and from where on it signs."""

    public_key: PublicKey
    since: int
    """The smallest size of a checkpoint that it signs."""


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys of a log, one after the other; no key comes twice. Made by `of`."""

    terms: tuple[KeyTerm, ...]

    @classmethod
    def of(cls, history: History) -> Self:
        """The keys that a history names, each of which has signed what it takes over.

        That the one before has introduced it, the checkpoints at `handovers` show.

        Raises:
            VerificationError: If there is no genesis, or a key has not signed, or has been in force before.
        """
        genesis = Genesis.of(history)
        terms = [KeyTerm(genesis.public_key, 0)]
        for entry in history.key_changes:
            before = Checkpoint(genesis.origin, entry.seq, history.root(entry.seq))
            new = open_key_change(entry, before, terms[-1].public_key)
            if any(term.public_key == new for term in terms):
                raise _refused(entry.seq, "it names a key that was in force before")
            terms.append(KeyTerm(new, entry.seq + 2))
        return cls(tuple(terms))

    @property
    def all(self) -> tuple[PublicKey, ...]:
        """Every key that the log has had, the first one first."""
        return tuple(term.public_key for term in self.terms)

    @property
    def in_force(self) -> PublicKey:
        """The key that signs the next checkpoint."""
        return self.terms[-1].public_key

    @property
    def handovers(self) -> tuple[int, ...]:
        """Sizes of the checkpoints by which a key introduces the next one; without one of them that key is nobody's."""
        return tuple(term.since - 1 for term in self.terms[1:])

    def signer(self, size: int) -> PublicKey:
        """The key that signs the checkpoint over the first `size` entries."""
        return next(term.public_key for term in reversed(self.terms) if term.since <= size)

    def at_entry(self, seq: int) -> PublicKey:
        """The key that was in force when the entry `seq` was written: the one that must sign it."""
        return self.signer(seq + 1)


def sign_key_change(before: Checkpoint, old: PublicKey, new: SigningKey, body: Mapping[str, Json]) -> dict[str, Json]:
    """What the entry says by which `new` takes over the log of `before` from `old`: `body`, its key and its signature.

    Raises:
        ValueError: If `body` uses a key that is ours, or is not JSON without floats.
    """
    taken = sorted(_OURS & set(body))
    if taken:
        raise ValueError(f"the body of a key change may not hold {', '.join(taken)}")
    stated: dict[str, Json] = {**body, "public_key": new.public.to_text()}
    return {**stated, "signature": new.sign(_signed_bytes(before, old, stated)).hex()}


def open_key_change(entry: Entry, before: Checkpoint, old: PublicKey) -> PublicKey:
    """The key that takes over in `entry`, from `old`, the log whose state was `before`.

    Raises:
        VerificationError: If the entry is no key change, or the key that it names has not signed this.
    """
    match entry:
        case Entry(kind=kind, body={"public_key": str(text), "signature": str(signature)}) if kind == KEY_CHANGE:
            pass
        case _:
            raise _refused(entry.seq, "it lacks the new key or its signature")
    stated = {name: value for name, value in entry.body.items() if name != "signature"}
    try:
        new = PublicKey.from_text(text)
        signed = bytes.fromhex(signature)
    except ValueError as error:
        raise _refused(entry.seq, "its key or its signature is malformed") from error
    # One spelling: spaces and capitals would change the entry, and nothing that is signed.
    if signed.hex() != signature or not new.verify(signed, _signed_bytes(before, old, stated)):
        raise _refused(entry.seq, "the new key has not signed the history that it takes over")
    return new


def _signed_bytes(before: Checkpoint, old: PublicKey, stated: Mapping[str, Json]) -> bytes:
    """All that the new key answers for: the history so far, whom it follows, and everything that the entry states."""
    said: dict[str, Json] = {"before": before.to_text(), "body": dict(stated), "old_key": old.to_text()}
    return KEY_CHANGE_CONTEXT + canonical(said)


def _refused(seq: int, why: str) -> VerificationError:
    return VerificationError(
        "a change of the ledger's key does not check out",
        why=f"entry {seq}: {why}",
        fix="do not rely on it: get the ledger again from its owner, and compare fingerprints by telephone",
    )
