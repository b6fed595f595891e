"""Signatures that stand beside a file: officers' under a policy, a requester's under a plan.

`policy.yaml.sig` and `plan.toml.sig` are JSON. They sign what the document says (its hash), so comments and spacing
may change and the signature still holds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from fedseg.errors import SettingsError, StorageError, TrustError
from fedseg.ledger.keys import SigningKey
from fedseg.privacy.entries import (
    PLAN_CONTEXT,
    POLICY_CONTEXT,
    OfficerName,
    OfficerSignature,
    Part,
    PublicKeyText,
    Signature,
)

SIGNATURES_BYTES_MAX = 64 * 1024
_READ = TypeVar("_READ")


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody whom a policy, or the rules of a roster, name as an officer, with the key to prove it."""

    name: str
    key: SigningKey


class PlanSignature(Part):
    """Who asks for a plan."""

    requester: PublicKeyText
    signature: Signature


class _OfficerSignatures(Part):
    signatures: list[OfficerSignature]


_PLAN = TypeAdapter(PlanSignature)
_OFFICERS = TypeAdapter(_OfficerSignatures)


def signature_path(document: Path) -> Path:
    """Where the signatures of a document are."""
    return document.with_name(f"{document.name}.sig")


def sign_policy(policy_sha256: str, officer: OfficerName, key: SigningKey) -> OfficerSignature:
    """An officer's signature under a policy."""
    signature = key.sign(POLICY_CONTEXT + bytes.fromhex(policy_sha256)).hex()
    return OfficerSignature(officer=officer, signature=signature)


def sign_plan(plan_sha256: str, key: SigningKey) -> PlanSignature:
    """A requester's signature under a plan."""
    signature = key.sign(PLAN_CONTEXT + bytes.fromhex(plan_sha256)).hex()
    return PlanSignature(requester=key.public.to_text(), signature=signature)


def read_policy_signatures(policy: Path) -> list[OfficerSignature]:
    """The signatures beside a policy; none if there is no such file.

    Raises:
        TrustError: If the file is not one that `fedseg policy sign` writes.
    """
    found = _read(signature_path(policy), _OFFICERS)
    return [] if found is None else found.signatures


def add_policy_signature(policy: Path, signature: OfficerSignature) -> list[OfficerSignature]:
    """Write an officer's signature beside a policy, in place of an earlier one; all that stand there now.

    Raises:
        TrustError: If what stands there is no file of signatures.
        StorageError: If it cannot be written.
    """
    others = [one for one in read_policy_signatures(policy) if one.officer != signature.officer]
    signatures = sorted([*others, signature], key=lambda one: one.officer)
    _write(signature_path(policy), _OFFICERS.dump_json(_OfficerSignatures(signatures=signatures), indent=2))
    return signatures


def read_plan_signature(plan: Path) -> PlanSignature | None:
    """The signature beside a plan, not yet checked; None if there is none.

    Raises:
        TrustError: If the file is not one that `fedseg plan sign` writes.
    """
    return _read(signature_path(plan), _PLAN)


def write_plan_signature(plan: Path, signature: PlanSignature) -> Path:
    """Write a requester's signature beside a plan, in place of an earlier one; where it stands.

    Raises:
        StorageError: If it cannot be written.
    """
    path = signature_path(plan)
    _write(path, _PLAN.dump_json(signature, indent=2))
    return path


def _read(path: Path, kind: TypeAdapter[_READ]) -> _READ | None:
    try:
        with path.open("rb") as file:
            data = file.read(SIGNATURES_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read", why=error.strerror or "unknown cause", fix="check the path and who may read it"
        ) from error
    try:
        return kind.validate_json(data)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise TrustError(
            f"{path} is no file of signatures",
            why=f"{place or 'the whole'}: {error.errors()[0]['msg']}",
            fix="sign again, or remove the file",
        ) from error


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.write_bytes(data + b"\n")
        draft.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} was not written", why=error.strerror or "unknown cause", fix="free space, or check who may write"
        ) from error
