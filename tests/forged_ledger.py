"""Ledgers that whoever holds the key writes with fedseg's own library, every hash and signature right, one fact false.

What a verifier finds in them it finds by recomputing: nothing else gives them away.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import verify_ledger
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.store import Ledger
from fedseg.plan import Plan, caps_of
from fedseg.policy.document import load_policy
from fedseg.privacy.budget import fraction_text, parse_fraction
from fedseg.privacy.release import (
    HEADER,
    MAGIC,
    NEIGHBOURING_RELATION,
    NOISE_SOURCES,
    SIGNATURE_BYTES,
    SIGNATURE_CONTEXT,
    release_id,
)

HEADER_FIELDS = ("magic", "release_id", "plan", "request", "unit", "step", "cells", "width", "noise")
"""What stands in a release's header, in order."""


@dataclass
class Line:
    """An entry to be written."""

    kind: str
    body: dict[str, Any]
    """Without the reference to the payload, which the library adds."""
    payload: tuple[str, bytes] | None = None
    new_key: SigningKey | None = None
    """Replaces the ledger's key."""

    @property
    def data(self) -> bytes:
        """The payload's bytes."""
        assert self.payload is not None
        return self.payload[1]


@dataclass
class Forgery:
    """A ledger in the making: a copy of a true one, to be changed before it is signed as a whole."""

    origin: str
    key: SigningKey
    genesis: dict[str, Any]
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def of(cls, ledger: Ledger, key: SigningKey, **genesis: str) -> "Forgery":
        """A copy of a ledger; `genesis` is what its first entry says beside origin and key."""
        lines = [
            Line(
                entry.kind,
                {name: value for name, value in entry.body.items() if name != "payload"},
                None if entry.payload is None else (entry.payload.id, ledger.payload(entry.payload.id) or b""),
            )
            for entry in ledger.entries()[1:]
        ]
        return cls(ledger.origin, key, dict(genesis), lines)

    def fresh(self) -> "Forgery":
        """Another copy, to be changed by itself."""
        return Forgery(self.origin, self.key, dict(self.genesis), copy.deepcopy(self.lines))

    def fresh_with(self, lines: Sequence[Line]) -> "Forgery":
        """A copy with these entries."""
        return Forgery(self.origin, self.key, dict(self.genesis), list(lines))

    def line(self, kind: str, nth: int = 0, *, unit: str | None = None) -> Line:
        """The nth entry of a kind; if a unit is named, of those about it."""
        return [line for line in self.all(kind) if unit in (None, line.body.get("unit"))][nth]

    def all(self, kind: str) -> list[Line]:
        """Every entry of a kind."""
        return [line for line in self.lines if line.kind == kind]

    def drop(self, kind: str, nth: int = 0) -> Line:
        """Leave an entry out."""
        line = self.line(kind, nth)
        self.lines = [other for other in self.lines if other is not line]
        return line

    def recharge(self) -> None:
        """Make the running totals of all releases follow from the charges they state."""
        spent = Fraction(0)
        for line in self.all("release"):
            spent += parse_fraction(line.body["charge"]["rho"])
            line.body["rho_spent_after"] = fraction_text(spent)

    def write(self, path: Path) -> Path:
        """Write and sign it."""
        with Ledger.create(path, origin=self.origin, key=self.key, body=self.genesis) as ledger:
            place = 0
            for end in [*(place for place, line in enumerate(self.lines, 1) if line.new_key), len(self.lines)]:
                with ledger.transaction() as transaction:
                    for line in self.lines[place:end]:
                        if line.new_key is None:
                            transaction.append(line.kind, line.body, payload=line.payload)
                        else:
                            transaction.change_key(line.new_key, line.body)
                place = end
        return path

    def verify(self, path: Path) -> LedgerFacts:
        """Write it, and verify what was written against the key that signed it."""
        return verify_ledger(self.write(path), self.key.public)


def key_change_line(new: SigningKey, day: str = "2100-01-01") -> Line:
    """The entry by which a unit replaces its key."""
    return Line("key_change", {"version": 1, "changed_on": day}, new_key=new)


def rights_line(period: str = "2025-06-01") -> Line:
    """The entry about a day's rights requests."""
    return Line("rights_batch", {"version": 1, "period": period, "capacity": 8, "root": "ab" * 32})


def with_note(raw: RawLedger, size: int, key: SigningKey) -> RawLedger:
    """A ledger whose checkpoint of this size another key has signed."""
    note = sign_checkpoint(Checkpoint(raw.origin, size, raw.history().root(size)), key)
    return replace(raw, notes=tuple((one, note if one == size else old) for one, old in raw.notes))


def policy_line(document: bytes, *, place: int = 1) -> Line:
    """The entry by which a unit logs a policy, at this place of its ledger."""
    policy = load_policy(document)
    caps = caps_of(policy)
    body = {
        "policy_id": policy.id,
        "policy_sha256": caps.policy_sha256,
        "rho_cap": fraction_text(caps.rho_cap),
        "delta": fraction_text(caps.delta),
        "purpose_rho_caps": {name: fraction_text(rho) for name, rho in caps.purpose_rho_caps.items()},
        "approvals": caps.approvals.model_dump(mode="json", exclude_none=True),
        "signatures": [],
        "version": 1,
    }
    return Line("policy", body, (f"policy:{caps.policy_sha256}:{place}", document))


def approval_line(plan: Plan, document: bytes, policy: bytes, *, reserved_before: Fraction = Fraction(0)) -> Line:
    """The entry by which a unit approves a plan, whatever the policy says of it."""
    body = {
        "plan_sha256": plan.digest,
        "purpose": plan.purpose,
        "step_rhos": [fraction_text(rho) for rho in plan.step_rhos],
        "rho_reserved_after": fraction_text(reserved_before + sum(plan.step_rhos, Fraction(0))),
        "policy_sha256": load_policy(policy).digest,
        "source_sha256": "ab" * 32,
        "approved_at": "2025-06-01",
        "officers": [],
        "automatic": False,
        "version": 1,
    }
    return Line("approval", body, (f"plan:{plan.digest}", document))


def under_policy(forgery: Forgery, document: bytes) -> None:
    """Have every entry of a unit's ledger say that another policy was in force from the beginning."""
    forgery.lines[0] = policy_line(document)
    for line in forgery.lines[1:]:
        line.body["policy_sha256"] = forgery.lines[0].body["policy_sha256"]


def resigned(payload: bytes, key: SigningKey, values: Sequence[int] | None = None, **changes: Any) -> bytes:
    """A unit's release with other facts in its header, or other values, signed anew."""
    header = dict(zip(HEADER_FIELDS, HEADER.unpack_from(payload), strict=True)) | changes
    numbers = payload[HEADER.size : -SIGNATURE_BYTES]
    if values is not None:
        numbers = b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    body = HEADER.pack(*header.values()) + numbers
    return body + key.sign(SIGNATURE_CONTEXT + hashlib.sha256(body).digest())


def release_line(plan: Plan, unit: str, step: int, *, policy: bytes, key: SigningKey, spent_before: Fraction) -> Line:
    """The entry by which a unit logs its release of a step: zeros with a signature, at the plan's true price."""
    terms, request = plan.terms[step], "cd" * 32
    charge = terms.mechanism.charge(terms.lattice.l2_sensitivity_squared)
    wanted, index = release_id(plan.digest, unit, step, request), plan.unit_index(unit)
    digests = (bytes.fromhex(one) for one in (wanted, plan.digest, request))
    header = HEADER.pack(MAGIC, *digests, index, step, terms.cells, terms.width, NOISE_SOURCES.index("system"))
    unsigned = header + bytes(8 * terms.length)
    data = unsigned + key.sign(SIGNATURE_CONTEXT + hashlib.sha256(unsigned).digest())
    body = {
        "release_id": wanted,
        "plan_sha256": plan.digest,
        "unit": unit,
        "step": step,
        "request_sha256": request,
        "cells": terms.cells,
        "width": terms.width,
        "lattice": terms.lattice.facts,
        "charge": {"rho": fraction_text(charge.rho), "delta": fraction_text(charge.delta), "formula": charge.formula},
        "mechanism": {
            "sigma": terms.mechanism.sigma,
            "l2_sensitivity_squared": terms.lattice.l2_sensitivity_squared,
        },
        "rho_spent_after": fraction_text(spent_before + charge.rho),
        "neighbouring_relation": NEIGHBOURING_RELATION,
        "noise_source": "system",
        "policy_sha256": load_policy(policy).digest,
        "gate_commitment": "ef" * 32,
        "released_on": "2025-06-01",
        "software": "fedseg 0.1.0",
        "version": 1,
    }
    return Line("release", body, (f"release:{wanted}", data))
