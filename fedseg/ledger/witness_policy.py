"""Whose word on a log is enough, as a text file (c2sp.org/tlog-policy): logs, witnesses, groups, and a quorum. Pure.

log fedseg/unit/north+8b1c0b3f+AY...
witness auditor auditor.example/w1+94ee4ba8+BL...
witness partner partner.example/w1+7118e8f9+Bh...
group both all auditor partner
quorum both
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import OpenedNote, VerifierKey, open_signed

FILE_LIMIT_BYTES = 1024 * 1024
"""Largest policy that is read."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of ours a witness's clock may be."""
_NOBODY = b"none"
_BLANKS = re.compile(rb"[ \t]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_THRESHOLD = re.compile(rb"[1-9][0-9]{0,4}")
COSIGNATURES = (SignatureType.ED25519_COSIGNATURE, SignatureType.ML_DSA_44_COSIGNATURE)
"""What a witness's key signs."""
_LOG_TYPES = (SignatureType.ED25519, SignatureType.ML_DSA_44_COSIGNATURE)
_LOG_WORDS, _WITNESS_WORDS, _QUORUM_WORDS = (2, 3), (3, 4), (2,)
_GROUP_WORDS = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups, so many of which must have seen a checkpoint."""

    threshold: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint that satisfies a policy, and which of its witnesses have seen it."""

    checkpoint: Checkpoint
    seen_by: tuple[VerifierKey, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """Which logs are meant, and whose cosignatures a checkpoint of theirs must have. Made by `from_bytes`."""

    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[bytes, VerifierKey]
    """By the names that they have in the policy: mere octets."""
    groups: Mapping[bytes, Group]
    """Each after its members."""
    quorum: bytes
    """The witness or group that must have seen a checkpoint; `none` asks for nobody."""

    def __post_init__(self) -> None:
        keys = [*self.logs, *self.witnesses.values()]
        if len({(key.name, key.id) for key in keys}) != len(keys):
            raise ValueError("two verifier keys of the policy cannot be told apart by name and id")

    @classmethod
    def from_bytes(cls, data: bytes) -> "WitnessPolicy":
        """The policy in a file.

        Raises:
            ValueError: Naming the first line that is not what the specification allows, or what is missing.
        """
        if len(data) > FILE_LIMIT_BYTES:
            raise ValueError(f"a policy has at most {FILE_LIMIT_BYTES} bytes")
        if not data.endswith(b"\n"):
            raise ValueError("a policy is whole lines, and the last of these has no end")
        if _CONTROL.search(data):
            raise ValueError("a policy holds no control characters but tabs and line ends")
        reader = _Reader()
        for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), start=1):
            words = _BLANKS.split(line.strip(b" \t"))
            if words[0] and not words[0].startswith(b"#"):
                try:
                    reader.take(words)
                except ValueError as error:
                    raise ValueError(f"line {number} of the policy: {error}") from error
        if reader.quorum is None:
            raise ValueError("a policy has a quorum line")
        return cls(tuple(reader.logs), reader.witnesses, reader.groups, reader.quorum)

    @classmethod
    def of_log(cls, key: VerifierKey) -> "WitnessPolicy":
        """The policy that takes one log's word, and asks for no witness."""
        return cls((key,), {}, {}, _NOBODY)

    def for_log(self, key: VerifierKey) -> "WitnessPolicy":
        """This policy for one log alone.

        Raises:
            ValueError: If it names logs, and not this one; or the log would be its own witness.
        """
        if self.logs and key not in self.logs:
            raise ValueError("the policy names other logs, and not this one")
        if any(witness.public_key == key.public_key for witness in self.witnesses.values()):
            raise ValueError("the log's key is that of a witness too: its word would count twice")
        return replace(self, logs=(key,))

    def check(self, note: str, now: datetime) -> OpenedCheckpoint:
        """The checkpoint in `note`, after one of the logs was found to have signed it, and enough witnesses.

        Raises:
            VerificationError: If no log of the policy signed it, or for another origin; the quorum is not reached; a
                witness's signature is false, or from a time that `now` has not reached yet.
            ValueError: If the policy names no log, or `now` does not say its time zone.
        """
        if not self.logs:
            raise ValueError("the policy names no log: nothing can be checked by it alone")
        if now.tzinfo is None:
            raise ValueError("the time must say its time zone")
        opened = open_signed(note, [*self.logs, *self.witnesses.values()])
        checkpoint = parse_checkpoint(opened.text)
        if not any(log.name == checkpoint.origin and opened.by(log) for log in self.logs):
            raise _refused("no log of the policy has signed it under its own origin")
        latest = (now + CLOCK_SKEW).timestamp()
        for one in opened.signed:
            if one.timestamp is not None and one.timestamp > latest:
                raise _refused(f"the cosignature of {one.key.name} is from the future: {one.timestamp} s since 1970")
        if not self._is_seen(opened):
            raise _refused(f"its cosignatures do not reach the quorum {self.quorum.decode(errors='replace')}")
        seen_by = (key for key in self.witnesses.values() if opened.by(key))
        return OpenedCheckpoint(checkpoint, tuple(seen_by))

    def _is_seen(self, opened: OpenedNote) -> bool:
        seen = {name: opened.by(key) is not None for name, key in self.witnesses.items()} | {_NOBODY: True}
        for name, group in self.groups.items():
            seen[name] = sum(seen[member] for member in group.members) >= group.threshold
        return seen[self.quorum]


class _Reader:
    """What the lines of a policy have said so far."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[bytes, VerifierKey] = {}
        self.groups: dict[bytes, Group] = {}
        self.quorum: bytes | None = None
        self._keys: set[bytes] = set()
        self._members: set[bytes] = set()

    def take(self, words: list[bytes]) -> None:
        takers = {b"log": self._log, b"witness": self._witness, b"group": self._group, b"quorum": self._quorum}
        if words[0] not in takers:
            raise ValueError("it begins with none of log, witness, group, quorum")
        takers[words[0]](words)

    def _log(self, words: list[bytes]) -> None:
        _check_words(words, _LOG_WORDS)
        self.logs.append(self._key(words[1], _LOG_TYPES))

    def _witness(self, words: list[bytes]) -> None:
        _check_words(words, _WITNESS_WORDS)
        self._check_new(words[1])
        self.witnesses[words[1]] = self._key(words[2], COSIGNATURES)

    def _group(self, words: list[bytes]) -> None:
        if len(words) < _GROUP_WORDS:
            raise ValueError("a group has a name, a threshold and members")
        _, name, threshold, *members = words
        self._check_new(name)
        for member in members:
            if member not in self.witnesses and member not in self.groups:
                raise ValueError("a member of the group is not defined above")
            # Once in all: so each witness counts in only one way.
            if member in self._members:
                raise ValueError("a member of the group is a member already")
            self._members.add(member)
        self.groups[name] = Group(_threshold(threshold, len(members)), tuple(members))

    def _quorum(self, words: list[bytes]) -> None:
        _check_words(words, _QUORUM_WORDS)
        if self.quorum is not None:
            raise ValueError("there is a quorum already")
        if words[1] not in {_NOBODY, *self.witnesses, *self.groups}:
            raise ValueError("the quorum is not defined above")
        self.quorum = words[1]

    def _key(self, text: bytes, types: tuple[SignatureType, ...]) -> VerifierKey:
        key = VerifierKey.from_text(text.decode("utf-8"))
        if key.type not in types:
            raise ValueError(f"signatures of type {key.type:#04x} are not for this")
        # The specification forbids one key for two logs or for two witnesses. We also refuse a log that is its own
        # witness: its word would count twice.
        if key.public_key.raw in self._keys:
            raise ValueError("this public key stands in the policy already")
        self._keys.add(key.public_key.raw)
        return key

    def _check_new(self, name: bytes) -> None:
        if name == _NOBODY or name in self.witnesses or name in self.groups:
            raise ValueError("this name is taken")


def _threshold(word: bytes, members: int) -> int:
    if word in {b"any", b"all"}:
        return 1 if word == b"any" else members
    if not _THRESHOLD.fullmatch(word) or int(word) > members:
        raise ValueError(f"a threshold is any, all, or a number from 1 to {members}")
    return int(word)


def _check_words(words: list[bytes], counts: tuple[int, ...]) -> None:
    if len(words) not in counts:
        raise ValueError(f"a {words[0].decode()} line has {' or '.join(map(str, counts))} words")


def _refused(why: str) -> VerificationError:
    return VerificationError(
        "the checkpoint does not satisfy the policy",
        why=why,
        fix="ask for the checkpoint again with the cosignatures that the policy wants, or correct the policy",
    )
