"""Keys: whose signature it is, and that nobody else can read the private half."""

import copy
import os
import pickle
import resource
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import KeyFileError, StorageError
from fedseg.ledger.keys import PublicKey, SigningKey

# RFC 8032, section 7.1, test 1.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)


def test_signatures_are_those_of_rfc_8032() -> None:
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(SECRET))
    assert key.public == PublicKey(PUBLIC)
    assert key.sign(b"") == SIGNATURE
    assert key.public.verify(SIGNATURE, b"")


@given(st.integers(0, 63), st.integers(1, 255))
def test_any_changed_byte_of_a_signature_is_seen(position: int, change: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[position] ^= change
    assert not PublicKey(PUBLIC).verify(bytes(changed), b"")


def test_a_signature_of_other_data_or_length_does_not_verify() -> None:
    assert not PublicKey(PUBLIC).verify(SIGNATURE, b"other")
    assert not PublicKey(PUBLIC).verify(SIGNATURE[:-1], b"")
    assert not PublicKey(PUBLIC).verify(b"", b"")


def test_two_new_keys_differ() -> None:
    assert SigningKey.generate().public != SigningKey.generate().public


@given(st.binary(min_size=32, max_size=32))
def test_a_public_key_reads_its_own_text(raw: bytes) -> None:
    assert PublicKey.from_text(PublicKey(raw).to_text()) == PublicKey(raw)
    assert len({PublicKey(raw), PublicKey.from_text(PublicKey(raw).to_text())}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 43,  # no padding
        "A" * 42 + "B=",  # padding bits that are not zero
        "A" * 43 + "=\n",
        " " + "A" * 43 + "=",
        "-" * 43 + "=",  # the URL alphabet
        "A" * 44,
        "AAAA",
        "ø" * 44,
    ],
)
def test_another_spelling_of_a_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        PublicKey.from_text(text)


def test_a_fingerprint_is_short_groups_and_differs_between_keys() -> None:
    first, second = (SigningKey.generate().public.fingerprint() for _ in range(2))
    assert first != second
    assert [len(group) for group in first.split("-")] == [4] * 8


def test_a_saved_key_is_its_owners_alone_and_loads_again(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(tmp_path / "key.pem").public == key.public


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key.pem")
    with pytest.raises(KeyFileError, match="not written"):
        SigningKey.generate().save(tmp_path / "key.pem")
    assert SigningKey.load(tmp_path / "key.pem").public == key.public


def test_a_key_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(StorageError, match="not written"):
            SigningKey.generate().save(tmp_path / "key.pem")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    SigningKey.generate().save(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(KeyFileError, match="open to other users"):
        SigningKey.load(tmp_path / "key.pem")


def write_private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def pem(key: Ed25519PrivateKey, *, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_what_is_not_one_plain_ed25519_key_is_refused(tmp_path: Path) -> None:
    ed25519 = Ed25519PrivateKey.generate()
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data in (b"", b"key", pem(ed25519)[:60], pem(ed25519, password=b"secret"), other):
        with pytest.raises(KeyFileError, match="no usable key"):
            SigningKey.load(write_private(tmp_path / "key.pem", data))


def test_a_missing_key_file_or_something_else_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be opened"):
        SigningKey.load(tmp_path / "missing.pem")
    with pytest.raises(KeyFileError, match="cannot be opened"):
        SigningKey.load(tmp_path)
    os.mkfifo(tmp_path / "fifo.pem", 0o600)
    with pytest.raises(KeyFileError, match="no usable key"):
        SigningKey.load(tmp_path / "fifo.pem")


def test_a_signing_key_shows_and_gives_away_nothing_private(tmp_path: Path) -> None:
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(SECRET))
    assert repr(key) == f"SigningKey(public={key.public.to_text()})"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            copier(key)


def test_openssl_reads_our_key_files(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key.pem")
    command = ["openssl", "pkey", "-in", str(tmp_path / "key.pem"), "-pubout", "-outform", "DER"]
    shown = subprocess.run(command, check=True, capture_output=True).stdout
    assert shown.endswith(key.public.raw)
