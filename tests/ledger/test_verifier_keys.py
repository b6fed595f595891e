"""Verifier keys, and notes with many signatures: as C2SP writes them, and as public logs and witnesses use them."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from fedseg.ledger.keys import MlDsaSigningKey, PublicKey, SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT
from fedseg.ledger.notes import NOTE_LIMIT, Note, SignatureLine, SignatureType, parse_note, sign_note
from fedseg.ledger.verifier_keys import OpenedNote, VerifierKey, open_signed

VECTORS = Path(__file__).parent / "vectors"
KEYS = [VerifierKey.from_text(line) for line in (VECTORS / "keys.txt").read_text().splitlines()]
NOTES = {path.stem: path.read_text() for path in VECTORS.glob("*.note")}
LOG = KEYS[0]

EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
"""Of c2sp.org/signed-note."""
ORIGIN = "unit.example/ledger"
CHECKPOINT = Checkpoint(ORIGIN, 42, EMPTY_ROOT)


def signer(seed: int) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def plain_key(seed: int, name: str = ORIGIN) -> VerifierKey:
    return VerifierKey(name, SignatureType.ED25519, signer(seed).public)


def note_by(*seeds: int, name: str = ORIGIN) -> str:
    """A checkpoint with one signature by each key, all under one name."""
    lines = [parse_note(sign_note(CHECKPOINT.to_text(), name, signer(seed))).signatures[0] for seed in seeds]
    return Note(CHECKPOINT.to_text(), tuple(lines)).to_text()


def test_the_key_of_the_specification_is_read_and_written() -> None:
    key = VerifierKey.from_text(EXAMPLE_KEY)
    assert (key.name, key.type, key.id.hex()) == ("example.com/foo", SignatureType.ED25519, "530d903a")
    assert key.to_text() == EXAMPLE_KEY


@given(st.binary(min_size=32, max_size=32), st.sampled_from([SignatureType.ED25519, SignatureType.ED25519_COSIGNATURE]))
def test_a_key_reads_its_own_text(raw: bytes, type_: SignatureType) -> None:
    key = VerifierKey("a.example/log", type_, PublicKey(raw))
    assert VerifierKey.from_text(key.to_text()) == key


def test_a_key_of_ml_dsa_reads_its_own_text() -> None:
    key = VerifierKey("a.example", SignatureType.ML_DSA_44_COSIGNATURE, MlDsaSigningKey.generate().public)
    assert VerifierKey.from_text(key.to_text()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        EXAMPLE_KEY.replace("530d903a", "530d903b"),
        EXAMPLE_KEY.replace("530d903a", "530D903A"),
        EXAMPLE_KEY.replace("530d903a", "530d903"),
        EXAMPLE_KEY.replace("foo", "bar"),
        EXAMPLE_KEY.replace("foo", "a b"),
        EXAMPLE_KEY + "=",
        EXAMPLE_KEY + "\n",
        EXAMPLE_KEY[:-4],
        "example.com/foo+530d903a+",
        "example.com/foo+530d903a+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        "example.com/foo+530d903a+" + base64.b64encode(b"\x06" + bytes(32)).decode(),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        VerifierKey.from_text(text)


def test_a_key_has_the_type_that_its_algorithm_signs() -> None:
    with pytest.raises(TypeError, match="takes a MlDsaPublicKey"):
        VerifierKey(ORIGIN, SignatureType.ML_DSA_44_COSIGNATURE, signer(1).public)


def test_checkpoints_of_public_logs_open_with_the_keys_of_public_witnesses() -> None:
    first, second = (open_signed(NOTES[name], KEYS) for name in ("arche2025h1", "coachandhorses2026h1"))
    assert [(one.key, one.timestamp) for one in first.signed] == [
        (LOG, None), *((key, 1_779_573_024) for key in KEYS[1:5])
    ]  # fmt: skip
    assert [(one.key, one.timestamp) for one in second.signed] == [(key, 1_785_704_691) for key in KEYS[5:]]
    assert parse_checkpoint(first.text).size == 1_432_088_532
    assert parse_checkpoint(second.text).size == 185_550_722


@pytest.mark.parametrize("name", NOTES)
def test_any_changed_line_of_the_text_refuses_the_note(name: str) -> None:
    text = parse_note(NOTES[name]).text
    for line in text.splitlines():
        changed = NOTES[name].replace(line, line.replace(line[-2], "1" if line[-2] != "1" else "2"), 1)
        with pytest.raises(VerificationError):
            open_signed(changed, KEYS)


@pytest.mark.parametrize("key", KEYS, ids=[f"{key.name}-{key.type}" for key in KEYS])
def test_any_changed_bit_of_a_known_keys_signature_refuses_the_whole_note(key: VerifierKey) -> None:
    (note,) = (parse_note(text) for text in NOTES.values() if open_or_none(text, key))
    (place,) = (at for at, line in enumerate(note.signatures) if (line.name, line.key_id) == (key.name, key.id))
    line = note.signatures[place]
    for byte in range(0, len(line.signature), max(1, len(line.signature) // 40)):
        changed = bytearray(line.signature)
        changed[byte] ^= 1 << (byte % 8)
        bad = SignatureLine(line.name, line.key_id, bytes(changed))
        lines = (*note.signatures[:place], bad, *note.signatures[place + 1 :])
        with pytest.raises(VerificationError, match="does not match"):
            open_signed(Note(note.text, lines).to_text(), KEYS)
    cut = SignatureLine(line.name, line.key_id, line.signature[:5])
    with pytest.raises(VerificationError, match="does not match"):
        open_signed(Note(note.text, (cut,)).to_text(), [key])


def open_or_none(note: str, key: VerifierKey) -> OpenedNote | None:
    try:
        return open_signed(note, [key])
    except VerificationError:
        return None


def test_signatures_of_unknown_keys_are_ignored() -> None:
    opened = open_signed(note_by(2, 1, 3), [plain_key(1)])
    assert [one.key for one in opened.signed] == [plain_key(1)]
    assert opened.by(plain_key(1)) is opened.signed[0]
    assert opened.by(plain_key(2)) is None


def test_a_note_that_no_known_key_signed_is_refused() -> None:
    for keys in ([], [plain_key(2)], [plain_key(1, "other.example/ledger")]):
        with pytest.raises(VerificationError, match="none of the known keys"):
            open_signed(note_by(1), keys)


def test_who_signs_twice_is_counted_once_and_both_signatures_must_hold() -> None:
    assert len(open_signed(note_by(1, 1), [plain_key(1)]).signed) == 1
    good = parse_note(note_by(1))
    bad = SignatureLine(ORIGIN, plain_key(1).id, bytes(64))
    with pytest.raises(VerificationError, match="does not match"):
        open_signed(Note(good.text, (*good.signatures, bad)).to_text(), [plain_key(1)])


def test_keys_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VerifierKey, "id", bytes(4))
    with pytest.raises(ValueError, match="same name and id"):
        open_signed(note_by(1), [plain_key(1), plain_key(2)])


def test_a_note_may_have_sixteen_signatures_and_no_more() -> None:
    assert open_signed(note_by(*range(1, 17)), [plain_key(16)]).text == CHECKPOINT.to_text()
    with pytest.raises(VerificationError, match="17 signatures"):
        open_signed(note_by(*range(1, 18)), [plain_key(1)])


def test_a_ledgers_own_note_has_exactly_one_signature() -> None:
    note = sign_checkpoint(CHECKPOINT, signer(1))
    assert open_checkpoint(note, signer(1).public, ORIGIN) == CHECKPOINT
    with pytest.raises(VerificationError, match="expected name"):
        open_checkpoint(note_by(1, 2), signer(1).public, "other.example")
    with pytest.raises(VerificationError):
        open_checkpoint(note_by(1, 2), signer(1).public, ORIGIN)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— a.example AAAAAAA=",
        "text\n\n— a.example\n",
        "text\n\n- a.example AAAAAAA=\n",
        "text\n\n— a.example AAAAAAA= \n",
        "text\n\n—  AAAAAAA=\n",
        "text\n\n— a+b AAAAAAA=\n",
        "text\n\n— a\u2003b AAAAAAA=\n",
        "text\n\n— a.example AAAAAA==\n",
        "text\n\n— a.example !!!!\n",
        "text\n\n— a.example AAAAAAB=\n",
        "te\x07xt\n\n— a.example AAAAAAA=\n",
        "text\r\n\n— a.example AAAAAAA=\n",
        "te\ud800xt\n\n— a.example AAAAAAA=\n",
        "x" * NOTE_LIMIT + "\n\n— a.example AAAAAAA=\n",
    ],
)
def test_what_is_no_note_is_refused(bad: str) -> None:
    with pytest.raises(VerificationError, match="signed note"):
        parse_note(bad)


def test_a_notes_text_may_hold_empty_lines_and_any_letter() -> None:
    note = "\n\nø\u00a0\u200b\n\n\n— a.example AAAAAAA=\n"
    assert parse_note(note).text == "\n\nø\u00a0\u200b\n\n"
    assert parse_note(note).to_text() == note


@pytest.mark.parametrize(
    "text",
    [
        "a.example\n1\n",
        "a.example\n1\n\nx\n",
        f"a b\n1\n{'A' * 43}=\n",
        f"a.example\n01\n{'A' * 43}=\n",
        "a.example\n1\nAAAA\n",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        parse_checkpoint(text)


def test_extension_lines_of_others_are_read_over() -> None:
    assert parse_checkpoint(CHECKPOINT.to_text() + "extension\nlines\n") == CHECKPOINT
