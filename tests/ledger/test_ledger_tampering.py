"""Any flipped byte is found, or changes no fact."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fedseg.errors import VerificationError
from fedseg.ledger.export import export_ledger
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.ledger.store import Ledger

SQLITE_HEADER_BYTES = 100


def facts(path: Path, key: SigningKey) -> RawLedger | None:
    """What an auditor learns from the file; None when it is refused."""
    try:
        raw = read_ledger(path)
        check_log(raw, key.public)
    except VerificationError:
        return None
    return raw


def flip(path: Path, places: Iterable[int], judge: Callable[[int], None]) -> None:
    """Flip bits of each byte in turn, let `judge` look, and put the byte back."""
    original, rng = path.read_bytes(), random.Random(7)
    for place in places:
        changed = bytearray(original)
        changed[place] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        judge(place)
    path.write_bytes(original)


def test_every_flipped_byte_of_an_export_is_found(ledger: Ledger, key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_bytes(export_ledger(read_ledger(ledger.path)))
    missed: list[int] = []

    def judge(place: int) -> None:
        if facts(path, key) is not None:
            missed.append(place)

    assert facts(path, key) is not None
    flip(path, range(path.stat().st_size), judge)
    assert missed == []


def test_a_flipped_byte_of_a_live_file_is_found_or_changes_no_fact(ledger: Ledger, key: SigningKey) -> None:
    original = facts(ledger.path, key)
    found: list[bool] = []

    def judge(place: int) -> None:
        seen = facts(ledger.path, key)
        assert seen is None or seen == original, place
        found.append(seen is None)

    size = ledger.path.stat().st_size
    sample = random.Random(11).sample(range(SQLITE_HEADER_BYTES, size), 1500)
    # Most of a small database is empty room: also take every third byte that is not zero.
    used = [place for place, byte in enumerate(ledger.path.read_bytes()) if byte][::3]
    flip(ledger.path, [*range(SQLITE_HEADER_BYTES), *sample, *used], judge)
    assert sum(found) > len(used) // 2


@pytest.mark.chaos
def test_a_flipped_byte_of_a_write_ahead_log_never_makes_a_ledger_shorter(
    ledger: Ledger, key: SigningKey, kill_writer_at: Callable[[str], None]
) -> None:
    kill_writer_at("PRAGMA wal_checkpoint")
    wal = ledger.path.with_name("unit.ledger-wal")
    ledger.path.with_name("unit.ledger-shm").unlink()
    original = facts(ledger.path, key)
    assert original is not None
    assert len(original.entries) == 5

    def judge(place: int) -> None:
        seen = facts(ledger.path, key)
        assert seen is None or seen == original, place

    rng = random.Random(13)
    flip(wal, [*range(SQLITE_HEADER_BYTES), *rng.sample(range(wal.stat().st_size), 400)], judge)
    flip(ledger.path, [*range(SQLITE_HEADER_BYTES), *rng.sample(range(ledger.path.stat().st_size), 200)], judge)
    assert facts(ledger.path, key) == original
