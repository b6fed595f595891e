"""Cosignatures: what a witness signs is what C2SP says, and its word is bound to name, time and tree."""

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.errors import KeyFileError, VerificationError
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign, ed25519_message, ml_dsa_message
from fedseg.ledger.keys import MlDsaPublicKey, MlDsaSigningKey, SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT, leaf_hash
from fedseg.ledger.notes import SIGNATURE_LIMIT, Note, SignatureLine, SignatureType, parse_note
from fedseg.ledger.verifier_keys import VerifierKey, open_signed

ORIGIN = "unit.example/ledger"
WITNESS = "witness.example/w1"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CHECKPOINT = Checkpoint(ORIGIN, 42, leaf_hash(b""))


@pytest.fixture(params=["ed25519", "ml-dsa-44"])
def witness(request: pytest.FixtureRequest) -> SigningKey | MlDsaSigningKey:
    return SigningKey.generate() if request.param == "ed25519" else MlDsaSigningKey.generate()


def verifier(key: SigningKey | MlDsaSigningKey, name: str = WITNESS) -> VerifierKey:
    ed25519 = isinstance(key, SigningKey)
    return VerifierKey(
        name, SignatureType.ED25519_COSIGNATURE if ed25519 else SignatureType.ML_DSA_44_COSIGNATURE, key.public
    )


def test_a_cosigned_checkpoint_says_who_saw_it_and_when(key: SigningKey, witness: SigningKey | MlDsaSigningKey) -> None:
    note = cosign(sign_checkpoint(CHECKPOINT, key), WITNESS, witness, NOW)
    log = VerifierKey(ORIGIN, SignatureType.ED25519, key.public)
    opened = open_signed(note, [log, verifier(witness)])
    assert [(one.key, one.timestamp) for one in opened.signed] == [
        (log, None),
        (verifier(witness), int(NOW.timestamp())),
    ]


def test_the_words_that_an_ed25519_witness_signs_are_those_of_the_specification() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert ed25519_message(text, 1679315147) == b"cosignature/v1\ntime 1679315147\n" + text.encode()


def test_the_structure_that_an_ml_dsa_witness_signs_is_that_of_the_specification() -> None:
    message = ml_dsa_message(CHECKPOINT.to_text() + "extension\n", WITNESS, 7)
    assert message == b"".join(
        [
            b"subtree/v1\n\0",
            bytes([len(WITNESS)]) + WITNESS.encode(),
            struct.pack(">Q", 7),
            bytes([len(ORIGIN)]) + ORIGIN.encode(),
            struct.pack(">QQ", 0, 42),
            leaf_hash(b""),
        ]
    )


def test_a_cosignature_of_another_name_tree_or_time_is_refused(
    key: SigningKey, witness: SigningKey | MlDsaSigningKey
) -> None:
    note = parse_note(cosign(sign_checkpoint(CHECKPOINT, key), WITNESS, witness, NOW))
    line = note.signatures[1]
    later = struct.pack(">Q", int(NOW.timestamp()) + 1) + line.signature[8:]
    never = struct.pack(">Q", 2**63) + line.signature[8:]
    other = Checkpoint(ORIGIN, 43, CHECKPOINT.root).to_text()
    for text, signature in [
        (other, line.signature),
        (note.text, later),
        (note.text, never),
        ("no checkpoint\n", line.signature),
        (note.text, b"1234567"),
    ]:
        changed = Note(text, (SignatureLine(WITNESS, line.key_id, signature),)).to_text()
        with pytest.raises(VerificationError, match="does not match"):
            open_signed(changed, [verifier(witness)])
    with pytest.raises(VerificationError, match="none of the known"):
        open_signed(note.to_text(), [verifier(witness, "witness.example/w2")])


def test_an_ml_dsa_cosignature_under_another_name_is_no_signature(key: SigningKey) -> None:
    witness = MlDsaSigningKey.generate()
    line = parse_note(cosign(sign_checkpoint(CHECKPOINT, key), WITNESS, witness, NOW)).signatures[1]
    other = verifier(witness, "witness.example/w2")
    renamed = Note(CHECKPOINT.to_text(), (SignatureLine(other.name, other.id, line.signature),)).to_text()
    with pytest.raises(VerificationError, match="does not match"):
        open_signed(renamed, [other])


def test_what_is_no_checkpoint_or_has_no_room_is_not_cosigned(
    key: SigningKey, witness: SigningKey | MlDsaSigningKey
) -> None:
    note = sign_checkpoint(CHECKPOINT, key)
    with pytest.raises(VerificationError):
        cosign("text\n\n— a.example AAAAAAA=\n", WITNESS, witness, NOW)
    with pytest.raises(ValueError, match="time zone"):
        cosign(note, WITNESS, witness, NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="between 1970"):
        cosign(note, WITNESS, witness, datetime(1970, 1, 1, tzinfo=UTC) - timedelta(days=1))
    with pytest.raises(ValueError, match="printable"):
        cosign(note, "two words", witness, NOW)
    full = parse_note(note)
    full = Note(full.text, full.signatures * SIGNATURE_LIMIT)
    with pytest.raises(VerificationError, match="17 signatures"):
        cosign(full.to_text(), WITNESS, witness, NOW)


def test_a_name_too_long_for_the_structure_is_refused(key: SigningKey) -> None:
    long = "ø" * 200
    with pytest.raises(ValueError, match="at most 255 bytes"):
        cosign(sign_checkpoint(CHECKPOINT, key), long, MlDsaSigningKey.generate(), NOW)
    with pytest.raises(ValueError, match="at most 255 bytes"):
        ml_dsa_message(Checkpoint(long, 1, EMPTY_ROOT).to_text(), WITNESS, 1)


def test_an_ml_dsa_key_is_kept_like_any_signing_key(tmp_path: Path) -> None:
    key = MlDsaSigningKey.generate()
    key.save(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert MlDsaSigningKey.load(tmp_path / "key.pem").public == key.public
    assert key.public.verify(key.sign(b"data"), b"data")
    assert not key.public.verify(key.sign(b"data"), b"other")
    with pytest.raises(KeyFileError, match="no usable key"):
        SigningKey.load(tmp_path / "key.pem")
    SigningKey.generate().save(tmp_path / "other.pem")
    with pytest.raises(KeyFileError, match="no usable key"):
        MlDsaSigningKey.load(tmp_path / "other.pem")
    with pytest.raises(TypeError, match="cannot be pickled"):
        key.__reduce__()
    assert len(repr(key)) < 60


def test_an_ml_dsa_public_key_has_its_length() -> None:
    with pytest.raises(ValueError, match="1312 bytes"):
        MlDsaPublicKey(bytes(32))
