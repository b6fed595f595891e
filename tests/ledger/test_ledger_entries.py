"""Entries: what can stand in a log, and what cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical
from fedseg.ledger.entries import ENTRY_LIMIT_BYTES, Entry, Genesis, History, PayloadReference
from fedseg.ledger.keys import SigningKey

SHA256 = "0" * 64


def genesis_leaf(key: SigningKey, **changes: Json) -> bytes:
    body = dict(Genesis("unit.example/ledger", key.public).entry({}).body)
    return Entry(0, "genesis", {**body, **changes}).to_bytes()


@given(st.integers(0, 2**53 - 1), st.dictionaries(st.text(), st.none() | st.booleans() | st.text()))
def test_an_entry_is_read_back_as_it_was_stored(seq: int, body: dict[str, Json]) -> None:
    entry = Entry(seq, "charge", {**body, "payload": {"id": "release-1", "sha256": SHA256}})
    assert Entry.from_bytes(entry.to_bytes()) == entry
    assert entry.payload == PayloadReference("release-1", SHA256)


def test_the_stored_form_is_canonical_json_of_seq_kind_and_body() -> None:
    assert Entry(7, "charge", {"rho": "1/8"}).to_bytes() == b'{"body":{"rho":"1/8"},"kind":"charge","seq":7}'


@pytest.mark.parametrize(
    "stored",
    [
        {"seq": 1, "kind": "charge"},
        {"seq": 1, "kind": "charge", "body": {}, "extra": 1},
        {"seq": True, "kind": "charge", "body": {}},
        {"seq": False, "kind": "charge", "body": {}},
        {"seq": "1", "kind": "charge", "body": {}},
        {"seq": -1, "kind": "charge", "body": {}},
        {"seq": 1, "kind": "", "body": {}},
        {"seq": 1, "kind": "two words", "body": {}},
        {"seq": 1, "kind": "line\n", "body": {}},
        {"seq": 1, "kind": None, "body": {}},
        {"seq": 1, "kind": "charge", "body": []},
        {"seq": 1, "kind": "charge", "body": {"payload": "release-1"}},
        {"seq": 1, "kind": "charge", "body": {"payload": None}},
        {"seq": 1, "kind": "charge", "body": {"payload": {"id": "release-1"}}},
        {"seq": 1, "kind": "charge", "body": {"payload": {"id": "two words", "sha256": SHA256}}},
        {"seq": 1, "kind": "charge", "body": {"payload": {"id": "release-1", "sha256": "A" * 64}}},
        {"seq": 1, "kind": "charge", "body": {"payload": {"id": "release-1", "sha256": SHA256, "size": 1}}},
        {"seq": 1, "kind": "charge", "body": {"text": "x" * ENTRY_LIMIT_BYTES}},
    ],
)
def test_what_is_no_entry_is_refused(stored: dict[str, Json]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Entry.from_bytes(canonical(stored))


def test_an_entry_longer_than_the_limit_is_not_written() -> None:
    with pytest.raises(ValueError, match="use a payload"):
        Entry(1, "charge", {"text": "x" * ENTRY_LIMIT_BYTES}).to_bytes()


def test_a_history_takes_only_entries_in_their_place(key: SigningKey) -> None:
    history = History().extended([genesis_leaf(key)])
    payload: Json = {"id": "release-1", "sha256": SHA256}
    longer = history.extended([Entry(1, "charge", {"payload": payload}).to_bytes()])
    for before, leaf in [
        (History(), Entry(0, "charge", {}).to_bytes()),
        (history, genesis_leaf(key)),
        (history, Entry(1, "genesis", {}).to_bytes()),
        (history, Entry(2, "charge", {}).to_bytes()),
        (history, b"{}"),
        (history, b'{"body":{}, "kind":"charge","seq":1}'),
        (longer, Entry(2, "charge", {"payload": payload}).to_bytes()),
    ]:
        with pytest.raises(VerificationError):
            before.extended([leaf])


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": 1},
        {"origin": "two words"},
        {"public_key": "AAAA"},
        {"public_key": None},
        {"format_version": 2},
        {"format_version": True},
        {"format_version": "1"},
    ],
)
def test_a_genesis_of_another_kind_is_refused(key: SigningKey, changes: dict[str, Json]) -> None:
    with pytest.raises(VerificationError, match="check out"):
        Genesis.of(History().extended([genesis_leaf(key, **changes)]))


def test_a_log_without_entries_has_no_genesis() -> None:
    with pytest.raises(VerificationError, match="no entries"):
        Genesis.of(History())


@pytest.mark.parametrize("name", ["origin", "public_key", "format_version", "payload"])
def test_a_genesis_body_cannot_replace_what_the_log_says_of_itself(key: SigningKey, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Genesis("unit.example/ledger", key.public).entry({name: 1})
