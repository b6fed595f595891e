"""An envelope is what its key has signed, of the type that was asked for, and nothing else."""

import json

import pytest

from fedseg.errors import VerificationError
from fedseg.ledger.dsse import seal, unseal
from fedseg.ledger.keys import SigningKey

KEY = SigningKey.generate()
TYPE = "application/example"
SEALED = json.loads(seal(TYPE, b"payload", KEY))


def test_what_was_sealed_comes_out() -> None:
    assert unseal(seal(TYPE, b"payload", KEY), TYPE, KEY.public) == b"payload"


def test_an_envelope_may_have_256_kibibytes() -> None:
    assert unseal(json.dumps(SEALED).encode().ljust(262_144), TYPE, KEY.public) == b"payload"


def test_it_says_which_key_has_signed() -> None:
    assert json.loads(seal(TYPE, b"", KEY))["signatures"][0]["keyid"] == KEY.public.fingerprint()


def test_envelopes_of_other_programs_are_read_too() -> None:
    spaced = json.dumps(SEALED | {"signatures": [{"sig": SEALED["signatures"][0]["sig"]}]}, indent=2)
    assert unseal(spaced.encode(), TYPE, KEY.public) == b"payload"


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (json.dumps(SEALED | {"payload": "*"}).encode(), "cannot be read"),
        (b"[]", "it is not a payload"),
        (b"{}", "it is not a payload"),
        (json.dumps(SEALED | {"signatures": []}).encode(), "it is not a payload"),
        (json.dumps(SEALED | {"signatures": SEALED["signatures"] * 2}).encode(), "it is not a payload"),
        (json.dumps(SEALED | {"payload": 1}).encode(), "it is not a payload"),
        (json.dumps(SEALED | {"payloadType": "text/plain"}).encode(), "not one of application/example"),
        (json.dumps(SEALED | {"payload": "cGF5bG9hZQ=="}).encode(), "not signed by the key"),
        (seal(TYPE, b"payload", SigningKey.generate()), "not signed by the key"),
        (b"[" * 200_000, "cannot be read"),
        (json.dumps(SEALED).encode().ljust(262_145), "more than 262144 bytes"),
    ],
)
def test_anything_else_is_refused(envelope: bytes, why: str) -> None:
    with pytest.raises(VerificationError, match=why):
        unseal(envelope, TYPE, KEY.public)
