"""Nobody who sees a unit's ledger can tell whether anybody asked about their rights, how many, or when."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.audit.verify import verify_ledger
from fedseg.ledger.merkle import leaf_hash, verify_inclusion
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.node.home import NodeHome
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.tree import CAPACITY, make_batch
from fedseg.privacy.account import PrivacyAccount
from tests.small_federation import NOW, make_federation

SALTED = [os.urandom(32) for _ in range(1000)]


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_federation(tmp_path / "f", {"north": 10}).home("north")


def periods(home: NodeHome) -> list[str]:
    with home.ledger() as ledger:
        return [str(entry.body["period"]) for entry in ledger.entries() if entry.kind == "rights_batch"]


def shape(raw: RawLedger) -> list[tuple[int, str, int]]:
    """What an onlooker sees: place, kind and length of each entry, and the sizes at which checkpoints were cut."""
    entries = [(entry.seq, entry.kind, len(entry.to_bytes())) for entry in raw.entries]
    return [*entries, *((size, "checkpoint", len(note)) for size, note in raw.notes)]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_the_public_transcript_is_the_same_with_no_request_one_and_a_thousand(
    home: NodeHome, tmp_path: Path, count: int
) -> None:
    quiet = make_federation(tmp_path / "quiet", {"north": 10}).home("north")
    for one, commitments in ((quiet, []), (home, SALTED[:count])):
        with one.ledger() as ledger:
            root = make_batch(commitments).root
            PrivacyAccount(ledger).add_rights_batch(period="2025-06-01", capacity=CAPACITY, root=root)
    assert shape(read_ledger(home.path / "ledger.db")) == shape(read_ledger(quiet.path / "ledger.db"))


def test_every_commitment_can_be_shown_to_be_in_its_batch_and_no_other_can(home: NodeHome) -> None:
    batch = make_batch(SALTED)
    for commitment, place in zip(SALTED, batch.places, strict=True):
        path = list(place.path)
        assert len(path) == 14
        assert verify_inclusion(leaf_hash(commitment), place.index, CAPACITY, path, batch.root)
        assert not verify_inclusion(leaf_hash(os.urandom(32)), place.index, CAPACITY, path, batch.root)
    assert len({place.index for place in batch.places}) == len(SALTED)


def test_two_batches_of_the_same_commitments_have_nothing_in_common() -> None:
    one, other = make_batch(SALTED[:3]), make_batch(SALTED[:3])
    assert one.root != other.root
    assert not {*one.places[0].path} & {*other.places[0].path}


def test_a_batch_takes_no_more_than_fits_and_nothing_of_another_length() -> None:
    assert len(make_batch(SALTED[:8], capacity=8).places) == 8
    for commitments in (SALTED[:9], [b"short"]):
        with pytest.raises(ValueError, match="at most 8 commitments of 32 bytes"):
            make_batch(commitments, capacity=8)


def test_each_day_that_is_over_gets_one_entry_also_after_a_pause(home: NodeHome) -> None:
    assert log_days(home, NOW) == ["2025-05-31"]
    assert log_days(home, NOW + timedelta(hours=11)) == []
    assert log_days(home, NOW + timedelta(days=1)) == ["2025-06-01"]
    assert log_days(home, datetime(2025, 6, 5, 0, 0, 1, tzinfo=UTC)) == ["2025-06-02", "2025-06-03", "2025-06-04"]
    assert periods(home) == [f"2025-0{day}" for day in ("5-31", "6-01", "6-02", "6-03", "6-04")]
    verify_ledger(home.path / "ledger.db", home.key.public)


def test_a_clock_set_back_logs_nothing_again(home: NodeHome) -> None:
    log_days(home, NOW)
    assert log_days(home, NOW - timedelta(days=3)) == []
    assert periods(home) == ["2025-05-31"]
