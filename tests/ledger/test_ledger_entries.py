"""Entries: what can stand in a log, and what cannot."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical
from fedseg.ledger.entries import ENTRY_LIMIT_BYTES, Entry, Genesis, History, PayloadReference
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import Tree, leaf_hash

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


def test_an_entry_may_be_as_long_as_the_limit_and_no_longer() -> None:
    around = len(Entry(1, "charge", {"text": ""}).to_bytes())
    longest = Entry(1, "charge", {"text": "x" * (65_535 - around)})
    assert len(longest.to_bytes()) == ENTRY_LIMIT_BYTES == 65_535
    assert Entry.from_bytes(longest.to_bytes()) == longest
    longer = canonical({"seq": 1, "kind": "charge", "body": {"text": "x" * (65_536 - around)}})
    with pytest.raises(ValueError, match="at most 65535 bytes, got 65536"):
        Entry.from_bytes(longer)
    with pytest.raises(ValueError, match="at most 65535 bytes, got 65536"):
        Entry(1, "charge", {"text": "x" * (65_536 - around)}).to_bytes()


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


def charges(first: int, count: int, text: str = "") -> list[bytes]:
    return [Entry(seq, "charge", {"text": text}).to_bytes() for seq in range(first, first + count)]


def test_a_history_stays_as_it_was_when_it_is_extended(key: SigningKey) -> None:
    short = History().extended([genesis_leaf(key)])
    payload: Json = {"id": "release-1", "sha256": SHA256}
    longer = short.extended([Entry(1, "charge", {"payload": payload}).to_bytes()])
    assert (short.size, len(short.entries), short.root()) == (1, 1, leaf_hash(genesis_leaf(key)))
    assert (dict(short.payloads), short.payload_sha256("release-1")) == ({}, None)
    assert (dict(longer.payloads), longer.payload_sha256("release-1")) == ({"release-1": SHA256}, SHA256)
    assert (short.last, longer.first) == (longer.entries[0], longer.entries[0])


def test_two_histories_that_part_know_nothing_of_each_other(key: SigningKey) -> None:
    trunk = History().extended([genesis_leaf(key), *charges(1, 4)])
    payload: Json = {"id": "release-1", "sha256": SHA256}
    left = trunk.extended([Entry(5, "charge", {"payload": payload}).to_bytes(), *charges(6, 3)])
    right = trunk.extended([Entry(5, "note", {"payload": payload}).to_bytes(), *charges(6, 5, "other")])
    again = right.extended(charges(11, 2))
    for history, leaves in [(left, 9), (right, 11), (again, 13), (trunk, 5)]:
        rebuilt = History().extended(entry.to_bytes() for entry in history.entries)
        assert (history.size, history.root(), dict(history.payloads)) == (
            leaves,
            rebuilt.root(),
            dict(rebuilt.payloads),
        )
        assert history.inclusion_proof(3) == rebuilt.inclusion_proof(3)
    assert right.consistency_proof(5) == History().extended(e.to_bytes() for e in right.entries).consistency_proof(5)


def test_a_history_that_parts_from_another_keeps_the_payloads_of_what_they_share(key: SigningKey) -> None:
    payload: Json = {"id": "release-1", "sha256": SHA256}
    trunk = History().extended([genesis_leaf(key), Entry(1, "charge", {"payload": payload}).to_bytes()])
    trunk.extended(charges(2, 1))
    parted = trunk.extended(charges(2, 1, "other"))
    assert dict(parted.payloads) == {"release-1": SHA256}
    with pytest.raises(VerificationError, match="another entry"):
        parted.extended([Entry(3, "charge", {"payload": payload}).to_bytes()])


def test_an_extension_that_fails_leaves_the_history_as_it_was(key: SigningKey) -> None:
    history = History().extended([genesis_leaf(key)])
    with pytest.raises(VerificationError):
        history.extended([*charges(1, 2), b"{}"])
    assert (history.size, history.root()) == (1, leaf_hash(genesis_leaf(key)))
    assert history.extended(charges(1, 1, "new")).last.body == {"text": "new"}


def test_an_interrupted_extension_can_be_tried_again(key: SigningKey) -> None:
    history = History().extended([genesis_leaf(key)])
    payload: Json = {"id": "release-1", "sha256": SHA256}
    leaf = Entry(1, "charge", {"payload": payload}).to_bytes()
    append = history._record.tree.append

    class Interrupted(Tree):
        def append(self, leaf: bytes) -> None:
            append(leaf)
            raise KeyboardInterrupt

    whole, history._record.tree = history._record.tree, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        history.extended([leaf])
    history._record.tree = whole
    again = history.extended([leaf])
    assert (again.size, again.root()) == (2, History().extended([genesis_leaf(key), leaf]).root())


def test_a_lock_that_a_fork_has_copied_stops_nobody(key: SigningKey) -> None:
    history = History().extended([genesis_leaf(key)])
    history._record._growing.acquire()
    longer = history.extended(charges(1, 2))
    assert longer.size == 3
    assert longer.extended(charges(3, 1))._record is longer._record


def test_threads_that_extend_one_history_get_each_their_own(key: SigningKey) -> None:
    trunk, ended = History().extended([genesis_leaf(key)]), list[History]()

    def extend(name: str) -> None:
        history = trunk
        for seq in range(1, 60):
            history = history.extended(charges(seq, 1, name))
        ended.append(history)

    threads = [threading.Thread(target=extend, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(history.entries[1].body["text"]) for history in ended) == list("abcd")
    for history in ended:
        assert len({entry.body["text"] for entry in history.since(1)}) == 1
        assert history.root() == History().extended(entry.to_bytes() for entry in history.entries).root()


def test_a_history_says_nothing_of_sizes_it_never_had(key: SigningKey) -> None:
    short = History().extended([genesis_leaf(key)])
    longer = short.extended(charges(1, 3))
    assert longer.root(1) == short.root()
    for size in (-1, 2):
        with pytest.raises(ValueError, match="never had"):
            short.root(size)
    with pytest.raises(ValueError, match="no leaf"):
        short.inclusion_proof(1)


def test_an_entry_changed_by_replacing_a_part_is_encoded_anew() -> None:
    entry = Entry.from_bytes(charges(1, 1)[0])
    assert replace(entry, body={"text": "new"}).to_bytes() == charges(1, 1, "new")[0]


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
