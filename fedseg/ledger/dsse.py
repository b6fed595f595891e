"""DSSE, the signed envelope of in-toto (github.com/secure-systems-lab/dsse, 1.0): JSON with one signature. Pure."""

import json
from typing import Final

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import canonical
from fedseg.ledger.keys import PublicKey, SigningKey, decode_base64, encode_base64

LIMIT_BYTES: Final = 256 * 1024
"""Longest envelope that is read."""


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length, so that neither passes for part of the other.

    >>> pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """An envelope around `payload`, signed; canonical JSON."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return canonical(
        {
            "payload": encode_base64(payload),
            "payloadType": payload_type,
            "signatures": [{"keyid": key.public.fingerprint(), "sig": encode_base64(signature)}],
        }
    )


def unseal(envelope: bytes, payload_type: str, public_key: PublicKey) -> bytes:
    """The payload of an envelope of this type that this key has signed.

    Raises:
        VerificationError: If it is no envelope, of another type, or not signed by the key.
    """
    if len(envelope) > LIMIT_BYTES:
        raise _failed(f"it has more than {LIMIT_BYTES} bytes")
    try:
        match json.loads(envelope):
            case {"payload": str(encoded), "payloadType": str(kind), "signatures": [{"sig": str(signed), **_rest}]}:
                payload, signature = decode_base64(encoded), decode_base64(signed)
            case _:
                raise _failed("it is not a payload, its type and one signature")
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, no base64; or JSON without end
        raise _failed("it cannot be read") from error
    if kind != payload_type:
        raise _failed(f"it is not one of {payload_type}")
    if not public_key.verify(signature, pre_authentication_encoding(kind, payload)):
        raise _failed(f"it is not signed by the key {public_key.fingerprint()}")
    return payload


def _failed(why: str) -> VerificationError:
    return VerificationError(
        "the signed envelope does not check out", why=why, fix="get it again from whoever signed it"
    )
