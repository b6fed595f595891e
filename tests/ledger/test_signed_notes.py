"""Signed notes and checkpoints: the published form, and nothing but it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT, leaf_hash
from fedseg.ledger.notes import NOTE_LIMIT, ed25519_key_id, open_note, parse_note, sign_note

ORIGIN = "unit.example/ledger"
CHECKPOINT = Checkpoint(ORIGIN, 42, leaf_hash(b""))

# The example of c2sp.org/signed-note.
EXAMPLE_NOTE = (
    "This is an example message.\n"
    "\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


def example_key() -> tuple[str, str, PublicKey]:
    name, identifier, encoded = EXAMPLE_KEY.split("+", 2)
    return name, identifier, PublicKey(base64.b64decode(encoded)[1:])


def test_the_published_note_opens() -> None:
    name, identifier, public_key = example_key()
    assert ed25519_key_id(name, public_key).hex() == identifier
    assert open_note(EXAMPLE_NOTE, public_key, name) == "This is an example message.\n"


@given(st.data())
def test_any_changed_character_of_the_published_note_is_seen(data: st.DataObject) -> None:
    name, _, public_key = example_key()
    place = data.draw(st.integers(0, len(EXAMPLE_NOTE) - 1))
    character = data.draw(st.characters().filter(lambda drawn: drawn != EXAMPLE_NOTE[place]))
    with pytest.raises(VerificationError):
        open_note(EXAMPLE_NOTE[:place] + character + EXAMPLE_NOTE[place + 1 :], public_key, name)


@given(st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_a_signed_checkpoint_opens_again(size: int, tree_root: bytes) -> None:
    key = SigningKey.generate()
    checkpoint = Checkpoint(ORIGIN, size, tree_root)
    assert open_checkpoint(sign_checkpoint(checkpoint, key), key.public, ORIGIN) == checkpoint


def test_a_checkpoint_has_the_three_lines_of_the_specification(key: SigningKey) -> None:
    lines = sign_checkpoint(CHECKPOINT, key).split("\n")
    assert lines[:4] == [ORIGIN, "42", "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=", ""]
    assert lines[4].startswith(f"— {ORIGIN} ")
    assert lines[5:] == [""]


def test_every_changed_byte_of_a_checkpoint_is_seen(key: SigningKey) -> None:
    note = sign_checkpoint(CHECKPOINT, key).encode()
    for place in range(len(note)):
        changed = bytearray(note)
        changed[place] ^= 1
        try:
            text = changed.decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises(VerificationError):
            open_checkpoint(text, key.public, ORIGIN)


def test_another_key_or_origin_is_refused(key: SigningKey, other_key: SigningKey) -> None:
    note = sign_checkpoint(CHECKPOINT, key)
    with pytest.raises(VerificationError, match="another key"):
        open_checkpoint(note, other_key.public, ORIGIN)
    with pytest.raises(VerificationError, match="expected name"):
        open_checkpoint(note, key.public, "other.example/ledger")


def test_a_signature_of_another_algorithm_under_our_key_id_is_refused(key: SigningKey) -> None:
    text = CHECKPOINT.to_text()
    wrong = base64.b64encode(ed25519_key_id(ORIGIN, key.public) + key.sign(text.encode()) + b"\0").decode()
    with pytest.raises(VerificationError, match="another key"):
        open_note(f"{text}\n— {ORIGIN} {wrong}\n", key.public, ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n042\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n+42\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n-1\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n4_2\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n٤٢\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n{'9' * 30}\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"{ORIGIN}\n42\n{base64.b64encode(EMPTY_ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n42\n{base64.b64encode(EMPTY_ROOT + b'0').decode()}\n",
        f"{ORIGIN}\n42\n{base64.b64encode(EMPTY_ROOT).decode()[:-1]}\n",
        f"{ORIGIN}\n42\nnot base64\n",
        f"{ORIGIN}\n42\n{base64.b64encode(EMPTY_ROOT).decode()}\nextension\n",
        f"{ORIGIN}\n42\n",
        f"other.example/ledger\n42\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        "\n",
    ],
)
def test_a_signed_text_that_is_no_plain_checkpoint_is_refused(key: SigningKey, text: str) -> None:
    with pytest.raises(VerificationError):
        open_checkpoint(sign_note(text, ORIGIN, key), key.public, ORIGIN)


def test_a_note_that_is_not_whole_is_refused(key: SigningKey) -> None:
    note = sign_checkpoint(CHECKPOINT, key)
    signature = note.split("\n")[4]
    for changed in (
        "",
        note[:-1],
        note + "\n",
        note + signature + "\n",
        "\n" + note,
        note.replace("\n", "\r\n"),
        note.replace("— ", "- "),
        note.replace(f"— {ORIGIN} ", f"— {ORIGIN}  "),
        note.replace("\n\n", "\n"),
        note.replace("42", "42\x00"),
        CHECKPOINT.to_text(),
        f"{CHECKPOINT.to_text()}\n— {ORIGIN} !!!!\n",
    ):
        with pytest.raises(VerificationError):
            open_checkpoint(changed, key.public, ORIGIN)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nbreak", "tab\t", "\u00a0", "x" * 256, "\ud800"])
def test_a_name_that_could_be_misread_is_refused(key: SigningKey, name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        Checkpoint(name, 1, EMPTY_ROOT)
    with pytest.raises(ValueError, match="printable"):
        sign_note("text\n", name, key)


def test_a_name_may_have_255_characters(key: SigningKey) -> None:
    assert open_note(sign_note("text\n", "x" * 255, key), key.public, "x" * 255) == "text\n"


def test_a_checkpoint_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Checkpoint(ORIGIN, -1, EMPTY_ROOT)
    with pytest.raises(ValueError, match="32 bytes"):
        Checkpoint(ORIGIN, 1, EMPTY_ROOT[:31])


@pytest.mark.parametrize(
    "text", ["", "no end", "control\x07\n", "carriage\r\n", "\ud800\n", "good\nbad\x07\n", "bad\x07\ngood\n"]
)
def test_only_whole_printable_lines_are_signed(key: SigningKey, text: str) -> None:
    with pytest.raises(ValueError, match="whole lines"):
        sign_note(text, ORIGIN, key)


@pytest.mark.parametrize("code", [0x00, 0x09, 0x0D, 0x1F, 0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_a_note_from_elsewhere_holds_no_control_character_and_nothing_without_utf_8(code: int) -> None:
    assert parse_note(EXAMPLE_NOTE.replace("an example", "an \x7f\ud7ff\ue000 example")).signatures
    with pytest.raises(VerificationError, match="not whole lines of text"):
        parse_note(EXAMPLE_NOTE.replace("an example", f"an {chr(code)} example"))


def test_a_note_from_elsewhere_may_be_as_long_as_the_limit_and_no_longer() -> None:
    longest = "x" * (NOTE_LIMIT - len(EXAMPLE_NOTE)) + EXAMPLE_NOTE
    assert NOTE_LIMIT == 1_000_000
    assert parse_note(longest).to_text() == longest
    with pytest.raises(VerificationError):
        parse_note("x" + longest)


def test_lines_after_the_third_are_read_over_unless_one_of_them_is_empty() -> None:
    three = CHECKPOINT.to_text()
    assert parse_checkpoint(f"{three}more\nand more\n") == CHECKPOINT
    for text in (f"{three}\n", f"{three}\nmore\n", f"{three}more\n\n", f"\n{three}"):
        with pytest.raises(VerificationError, match="none of them empty"):
            parse_checkpoint(text)


def test_signatures_without_a_text_are_no_note() -> None:
    _, _, signatures = EXAMPLE_NOTE.partition("\n\n")
    for note in (signatures, f"\n{signatures}"):
        with pytest.raises(VerificationError, match="not whole lines of text"):
            parse_note(note)
