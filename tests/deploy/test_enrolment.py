"""A request proves two keys, an answer proves who gave it and to what; whatever was changed, is old or not meant is none."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.deploy.certificates import issue, new_authority, new_node_key, node_key_signed, public_node_key
from fedseg.deploy.enrolment import (
    AHEAD,
    LIFE,
    Answer,
    NodeIdentity,
    Request,
    make_answer,
    make_request,
    parse_request,
    read_answer,
    read_request,
    require_same_fingerprint,
    server_fingerprint,
)
from fedseg.errors import CertificateError, EnrolmentError, KeyFileError
from fedseg.ledger.canonical import canonical
from fedseg.ledger.keys import SigningKey

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
UNIT_KEY, SERVER_KEY, NODE_KEY = SigningKey.generate(), SigningKey.generate(), new_node_key("north").private
AUTHORITY = new_authority(NOW)
NODE = NodeIdentity("north", UNIT_KEY, NODE_KEY, "seg.example:8443")
REQUEST = make_request(NODE, now=NOW)
ANSWER = make_answer(REQUEST, SERVER_KEY, node_id=2**64 - 1, ca=AUTHORITY.certificate, now=NOW)


def test_a_request_is_read_as_it_was_made_and_both_sides_see_one_fingerprint() -> None:
    found = read_request(REQUEST.to_bytes(), now=NOW)

    assert found == REQUEST
    assert found.fingerprint == REQUEST.fingerprint
    assert len(found.fingerprint.replace("-", "")) == 32


def test_a_request_holds_no_private_key() -> None:
    text = REQUEST.to_bytes().decode()

    assert "PRIVATE" not in text
    assert set(json.loads(text)) == {
        *("format", "version", "unit", "unit_key", "node_key", "server", "fedseg", "made_at", "expires_at", "nonce"),
        *("unit_signature", "node_signature"),
    }


def test_two_requests_of_one_node_have_different_fingerprints() -> None:
    assert make_request(NODE, now=NOW).fingerprint != REQUEST.fingerprint


def changed(one: Request | Answer, **fields: Any) -> bytes:
    return canonical({**json.loads(one.to_bytes()), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"unit": "south"},
        {"server": "evil.example:8443"},
        {"expires_at": "2036-11-22T12:00:00+00:00"},
        {"nonce": "0" * 64},
        {"unit_key": SigningKey.generate().public.to_text()},
        {"node_key": public_node_key(new_node_key("north").private)},
        {"unit_signature": "0" * 128},
        {"node_signature": "0" * 204},
        {"node_signature": "0" * 203},
        {"fedseg": "9"},
    ],
)
def test_a_request_that_was_changed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match="not signed by the keys"):
        read_request(changed(REQUEST, **fields), now=NOW)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        changed(REQUEST, more=1),
        changed(REQUEST, version=2),
        changed(REQUEST, version=True),
        changed(REQUEST, unit="North"),
        changed(REQUEST, node_key="ssh-rsa AAAA"),
        changed(REQUEST, made_at="yesterday"),
        changed(REQUEST, made_at="2026-11-22T13:00:00+01:00"),
        changed(REQUEST, server="seg.example"),
        json.dumps(json.loads(REQUEST.to_bytes()), indent=2).encode(),
        ANSWER.to_bytes(),
    ],
)
def test_what_is_no_request_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(EnrolmentError, match="no enrolment request") as raised:
        parse_request(data)
    assert raised.value.fix.startswith("fedseg node request")


@given(st.binary(max_size=300) | st.integers(0, 10**4).map(lambda at: _flipped(REQUEST.to_bytes(), at)))
def test_nothing_but_the_request_is_the_request(data: bytes) -> None:
    with pytest.raises(EnrolmentError):
        read_request(data, now=NOW)


def _flipped(data: bytes, at: int) -> bytes:
    at %= len(data) - 1  # all but the line's end
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("now", "fine"),
    [
        (NOW + LIFE - timedelta(seconds=1), True),
        (NOW + LIFE + timedelta(seconds=1), False),
        (NOW - AHEAD + timedelta(seconds=1), True),
        (NOW - AHEAD - timedelta(seconds=1), False),
    ],
)
def test_a_request_holds_for_a_week(now: datetime, *, fine: bool) -> None:
    if fine:
        assert read_request(REQUEST.to_bytes(), now=now) == REQUEST
        return
    with pytest.raises(EnrolmentError, match="time has"):
        read_request(REQUEST.to_bytes(), now=now)


def test_a_request_cannot_give_itself_a_longer_life() -> None:
    long = REQUEST.model_copy(update={"expires_at": "2036-11-22T12:00:00+00:00"})
    from fedseg.deploy.certificates import sign_with_node_key

    signatures = {
        "unit_signature": UNIT_KEY.sign(long.signed_bytes).hex(),
        "node_signature": sign_with_node_key(NODE_KEY, long.signed_bytes).hex(),
    }
    with pytest.raises(EnrolmentError, match="time has"):
        read_request(long.model_copy(update=signatures).to_bytes(), now=NOW)


def test_an_answer_is_taken_by_the_node_that_asked() -> None:
    found = read_answer(ANSWER.to_bytes(), REQUEST)

    assert found == ANSWER
    assert found.node_id == str(2**64 - 1)
    assert found.fingerprint == server_fingerprint(SERVER_KEY.public.to_text(), AUTHORITY.certificate)


def test_an_answer_to_another_request_is_refused() -> None:
    with pytest.raises(EnrolmentError, match="to another request"):
        read_answer(ANSWER.to_bytes(), make_request(NODE, now=NOW))


@pytest.mark.parametrize(
    "fields",
    [
        {"ca": new_authority(NOW).certificate.decode()},
        {"node_id": "1"},
        {"server_key": SigningKey.generate().public.to_text()},
        {"signature": "0" * 128},
    ],
)
def test_an_answer_that_was_changed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match="not signed by the key"):
        read_answer(changed(ANSWER, **fields), REQUEST)


def test_an_answer_by_somebody_else_has_another_fingerprint() -> None:
    theirs = make_answer(REQUEST, SigningKey.generate(), node_id=1, ca=AUTHORITY.certificate, now=NOW)

    assert read_answer(theirs.to_bytes(), REQUEST).fingerprint != ANSWER.fingerprint


@pytest.mark.parametrize(
    "ca", [b"", b"x", issue(AUTHORITY, ["seg.example"], NOW).certificate], ids=["none", "junk", "a server's"]
)
def test_an_answer_without_an_authority_is_refused(ca: bytes) -> None:
    answer = make_answer(REQUEST, SERVER_KEY, node_id=1, ca=ca, now=NOW)
    with pytest.raises(CertificateError):
        read_answer(answer.to_bytes(), REQUEST)


@pytest.mark.parametrize("typed", [str.upper, lambda text: text.replace("-", ""), lambda text: text.replace("-", " ")])
def test_a_fingerprint_is_the_same_however_it_is_typed(typed: Callable[[str], str]) -> None:
    require_same_fingerprint(typed(REQUEST.fingerprint), REQUEST.fingerprint, whose="the request")


@pytest.mark.parametrize(
    "said", ["", "yes", REQUEST.fingerprint[:-1], ANSWER.fingerprint], ids=["nothing", "yes", "cut", "another's"]
)
def test_another_fingerprint_is_another(said: str) -> None:
    with pytest.raises(EnrolmentError, match="another one than was read out"):
        require_same_fingerprint(said, REQUEST.fingerprint, whose="the request")


def test_a_nodes_key_signs_and_nothing_else_passes_for_it() -> None:
    with pytest.raises(KeyFileError):
        public_node_key(b"no key")
    assert not node_key_signed("ssh-ed25519 AAAA", b"", b"")
    assert not node_key_signed(public_node_key(NODE_KEY), b"", b"")
