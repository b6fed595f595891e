"""sigstore's Python client, which reads the checkpoints of Rekor, reads a ledger's as well."""

import base64
import importlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedseg.ledger.raw import RawLedger

pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def checkpoints() -> Any:
    return importlib.import_module("sigstore._internal.rekor.checkpoint")  # fails where the extra is not installed


@pytest.fixture(scope="module")
def keyring(raw: RawLedger) -> Any:
    messages = importlib.import_module("sigstore_models.common.v1")
    public = Ed25519PublicKey.from_public_bytes(raw.public_key.raw)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = messages.PublicKey(raw_bytes=base64.b64encode(der), key_details=messages.PublicKeyDetails.PKIX_ED25519)
    return importlib.import_module("sigstore._internal.trust").Keyring([key])


def test_sigstore_reads_a_checkpoint_and_accepts_its_signature(raw: RawLedger, checkpoints: Any, keyring: Any) -> None:
    size, note = raw.notes[-1]
    signed = checkpoints.SignedCheckpoint.from_text(note)
    signed.signed_note.verify(keyring, raw.verifier_key.id)
    assert (signed.checkpoint.origin, signed.checkpoint.log_size) == (raw.origin, size)
    assert signed.checkpoint.log_hash == raw.history().root().hex()


def test_sigstore_rejects_a_checkpoint_with_any_character_of_its_text_changed(
    raw: RawLedger, checkpoints: Any, keyring: Any
) -> None:
    failure = importlib.import_module("sigstore.errors").VerificationError
    note = raw.notes[-1][1]
    for place in range(note.index("\n\n")):
        other = "7" if note[place] != "7" else "8"
        with pytest.raises(failure):
            checkpoints.SignedNote.from_text(note[:place] + other + note[place + 1 :]).verify(
                keyring, raw.verifier_key.id
            )
