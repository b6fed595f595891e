"""What every journal promises, whoever keeps its bytes."""

import threading
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from fedseg.ledger.canonical import Json, sha256_hex
from fedseg.ledger.checkpoint import open_checkpoint
from fedseg.ledger.entries import PAYLOAD_LIMIT_BYTES, History
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.store import Journal, Ledger, MemoryLedger

ORIGIN = "unit.example/ledger"


class PlannedError(Exception):
    """What a caller's block raises."""


class JournalContract(ABC):
    """Every journal inherits and passes these."""

    @pytest.fixture
    def journal(self, tmp_path: Path, key: SigningKey) -> Journal:
        return self.make(tmp_path, key, {"unit": "unit"})

    @abstractmethod
    def make(self, directory: Path, key: SigningKey, body: dict[str, Json]) -> Journal: ...

    @abstractmethod
    def newest_note(self, journal: Journal) -> str: ...

    def test_it_begins_with_the_genesis(self, journal: Journal, key: SigningKey) -> None:
        (genesis,) = journal.entries()
        assert (genesis.seq, genesis.kind) == (0, "genesis")
        assert genesis.body == {
            "unit": "unit",
            "origin": ORIGIN,
            "public_key": key.public.to_text(),
            "format_version": 1,
        }
        assert journal.origin == ORIGIN

    def test_what_was_appended_is_there_afterwards(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            entry = transaction.append("charge", {"rho": "1/8"}, payload=("release-1", b"bytes"))
            transaction.append("note", {})
        assert [found.kind for found in journal.entries()] == ["genesis", "charge", "note"]
        assert journal.entries()[1] == entry
        assert entry.body == {"rho": "1/8", "payload": {"id": "release-1", "sha256": sha256_hex(b"bytes")}}
        assert journal.payload("release-1") == b"bytes"

    def test_a_change_of_key_lets_the_new_key_sign_what_follows(
        self, journal: Journal, key: SigningKey, other_key: SigningKey
    ) -> None:
        with journal.transaction() as transaction:
            transaction.append("note", {})
            assert transaction.change_key(other_key, {"why": "planned"}).kind == "key_change"
        assert open_checkpoint(self.newest_note(journal), key.public, ORIGIN).size == 3
        with journal.transaction() as transaction:
            transaction.append("note", {})
        assert open_checkpoint(self.newest_note(journal), other_key.public, ORIGIN).size == 4
        assert [entry.kind for entry in journal.entries()] == ["genesis", "note", "key_change", "note"]

    def test_a_transaction_sees_what_it_appended(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            transaction.append("charge", {}, payload=("release-1", b"bytes"))
            assert [entry.seq for entry in transaction.entries()] == [0, 1]
            assert transaction.payload("release-1") == b"bytes"
        with journal.transaction() as transaction:
            assert transaction.payload("release-1") == b"bytes"

    def test_others_see_nothing_before_the_transaction_ends(self, journal: Journal) -> None:
        seen: list[int] = []
        with journal.transaction() as transaction:
            transaction.append("charge", {}, payload=("release-1", b"bytes"))
            reader = threading.Thread(target=lambda: seen.append(len(journal.entries())))
            reader.start()
            reader.join(5)
            assert journal.payload("release-1") is None
        assert seen == [1]

    def test_a_block_that_raises_leaves_nothing(self, journal: Journal) -> None:
        note = self.newest_note(journal)
        with pytest.raises(PlannedError), journal.transaction() as transaction:  # noqa: PT012 - appending comes first
            transaction.append("charge", {}, payload=("release-1", b"bytes"))
            raise PlannedError
        assert len(journal.entries()) == 1
        assert journal.payload("release-1") is None
        assert self.newest_note(journal) == note

    def test_after_a_block_that_raised_the_journal_goes_on(self, journal: Journal) -> None:
        with pytest.raises(PlannedError), journal.transaction():
            raise PlannedError
        with journal.transaction() as transaction:
            assert transaction.append("charge", {}).seq == 1
        assert len(journal.entries()) == 2

    def test_a_transaction_that_adds_nothing_writes_nothing(self, journal: Journal) -> None:
        note = self.newest_note(journal)
        with journal.transaction() as transaction:
            assert len(transaction.entries()) == 1
        assert self.newest_note(journal) == note

    def test_the_newest_checkpoint_is_signed_and_covers_everything(self, journal: Journal, key: SigningKey) -> None:
        for size in (2, 3):
            with journal.transaction() as transaction:
                transaction.append("charge", {})
            checkpoint = open_checkpoint(self.newest_note(journal), key.public, ORIGIN)
            tree = History().extended(entry.to_bytes() for entry in journal.entries())
            assert (checkpoint.size, checkpoint.root) == (size, tree.root())

    def test_an_unknown_payload_is_none(self, journal: Journal) -> None:
        assert journal.payload("unknown") is None
        with journal.transaction() as transaction:
            assert transaction.payload("unknown") is None

    def test_a_payload_id_is_used_once(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            transaction.append("charge", {}, payload=("release-1", b"bytes"))
            with pytest.raises(ValueError, match="another entry"):
                transaction.append("charge", {}, payload=("release-1", b"bytes"))
        with journal.transaction() as transaction, pytest.raises(ValueError, match="another entry"):
            transaction.append("charge", {}, payload=("release-1", b"other"))
        assert journal.payload("release-1") == b"bytes"

    def test_what_cannot_be_an_entry_is_refused(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            for kind, body, payload in [
                ("genesis", {}, None),
                ("two words", {}, None),
                ("charge", {"rho": 0.125}, None),
                ("charge", {"payload": {}}, None),
                ("charge", {"text": "x" * 70_000}, None),
                ("charge", {}, ("two words", b"bytes")),
                ("charge", {}, ("release-1", bytes(PAYLOAD_LIMIT_BYTES + 1))),
            ]:
                with pytest.raises(ValueError, match=r".+"):
                    transaction.append(kind, body, payload)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - a float on purpose
        assert len(journal.entries()) == 1

    def test_nothing_is_appended_after_the_end(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            pass
        with pytest.raises(ValueError, match="ended"):
            transaction.append("charge", {})

    def test_an_entry_shares_nothing_with_what_it_was_made_from(self, journal: Journal) -> None:
        rounds: list[Json] = [1]
        with journal.transaction() as transaction:
            transaction.append("charge", {"rounds": rounds})
        rounds.append(2)
        assert journal.entries()[1].body == {"rounds": [1]}

    def test_changing_the_list_of_entries_changes_no_journal(self, journal: Journal) -> None:
        journal.entries().clear()
        with journal.transaction() as transaction:
            transaction.entries().clear()
            assert len(transaction.entries()) == 1

    def test_a_transaction_inside_a_transaction_is_refused_at_once(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            transaction.append("charge", {})
            with pytest.raises(RuntimeError, match="inside a transaction"), journal.transaction():
                pass
        assert len(journal.entries()) == 2

    def test_threads_write_one_after_the_other(self, journal: Journal) -> None:
        def write() -> None:
            for _ in range(5):
                with journal.transaction() as transaction:
                    transaction.append("charge", {"seen": len(transaction.entries())})

        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [entry.body["seen"] for entry in journal.entries()[1:]] == list(range(1, 31))


class TestMemoryLedger(JournalContract):
    def make(self, directory: Path, key: SigningKey, body: dict[str, Json]) -> MemoryLedger:
        return MemoryLedger(origin=ORIGIN, key=key, body=body)

    def newest_note(self, journal: Journal) -> str:
        assert isinstance(journal, MemoryLedger)
        return journal.notes[-1]


class TestLedgerFile(JournalContract):
    def make(self, directory: Path, key: SigningKey, body: dict[str, Json]) -> Ledger:
        return Ledger.create(directory / "contract.ledger", origin=ORIGIN, key=key, body=body)

    def newest_note(self, journal: Journal) -> str:
        assert isinstance(journal, Ledger)
        return read_ledger(journal.path).notes[-1][1]
