"""A ledger as a folder of tiles: what is written is what C2SP says, and what is read back is believed in nothing."""

import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedseg.errors import LedgerUnreadableError, VerificationError
from fedseg.ledger import tiles
from fedseg.ledger.canonical import Json, sha256_hex
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.entries import Entry, Genesis, History
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import leaf_hash, root
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.ledger.tiles import export_tiles, read_tiles

ORIGIN = "unit.example/ledger"


def ledger_of(size: int, key: SigningKey) -> RawLedger:
    """A ledger of so many entries, every hundredth with a payload, under one checkpoint."""
    leaves, payloads = [Genesis(ORIGIN, key.public).entry({}).to_bytes()], dict[str, bytes]()
    for seq in range(1, size):
        body: dict[str, Json] = {}
        if seq % 100 == 0:
            payloads[f"release-{seq}"] = str(seq).encode()
            body = {"payload": {"id": f"release-{seq}", "sha256": sha256_hex(str(seq).encode())}}
        leaves.append(Entry(seq, "release", body).to_bytes())
    note = sign_checkpoint(Checkpoint(ORIGIN, size, History().extended(leaves).root()), key)
    return RawLedger.from_parts(leaves, [(size, note)], payloads)


@pytest.fixture
def raw(key: SigningKey) -> RawLedger:
    return ledger_of(300, key)


@pytest.fixture
def folder(raw: RawLedger, tmp_path: Path) -> Path:
    export_tiles(raw, tmp_path / "log")
    return tmp_path / "log"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_tiles_lie_where_the_specification_puts_them(folder: Path, raw: RawLedger) -> None:
    payloads = sorted(f"payload/{sha256_hex(data)}" for data in raw.payloads.values())
    assert names(folder) == [
        "checkpoint", *payloads, "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1",
        "tile/entries/000", "tile/entries/001.p/44",
    ]  # fmt: skip


def test_tiles_of_a_tree_of_70000_leaves_are_those_of_the_specifications_example() -> None:
    def widths(level: str, count: int) -> tuple[int, list[int]]:
        found = [width for _, width in tiles._paths(level, count)]
        return found.count(256), [width for width in found if width != 256]

    assert widths("0", 70_000) == (273, [112])
    assert widths("1", 70_000 // 256) == (1, [17])
    assert widths("2", 70_000 // 65_536) == (0, [1])
    assert [path for path, _ in tiles._paths("0", 256)] == ["tile/0/000"]
    assert list(tiles._paths("0", 0)) == []


def test_a_tiles_number_is_written_in_groups_of_three_digits() -> None:
    assert [tiles._tile_name(number) for number in (0, 999, 1000, 1_234_067)] == [
        "000", "999", "x001/000", "x001/x234/067"
    ]  # fmt: skip


def test_a_tile_holds_the_hashes_of_its_level(folder: Path, raw: RawLedger) -> None:
    hashes = [leaf_hash(entry.to_bytes()) for entry in raw.entries]
    assert (folder / "tile/0/000").read_bytes() == b"".join(hashes[:256])
    assert (folder / "tile/0/001.p/44").read_bytes() == b"".join(hashes[256:])
    assert (folder / "tile/1/000.p/1").read_bytes() == root(hashes[:256])


def test_a_bundle_holds_each_entry_after_its_length(folder: Path, raw: RawLedger) -> None:
    leaves = [entry.to_bytes() for entry in raw.entries[256:]]
    whole = b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)
    assert (folder / "tile/entries/001.p/44").read_bytes() == whole


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 513])
def test_what_was_written_is_read_back(size: int, key: SigningKey, tmp_path: Path) -> None:
    raw = ledger_of(size, key)
    export_tiles(raw, tmp_path / "log")
    assert read_tiles(tmp_path / "log") == raw
    assert check_log(read_ledger(tmp_path / "log"), key.public).size == size


def test_the_newest_checkpoint_is_the_one_that_is_kept(raw: RawLedger, key: SigningKey, tmp_path: Path) -> None:
    older = sign_checkpoint(Checkpoint(ORIGIN, 100, raw.history().root(100)), key)
    both = RawLedger(raw.origin, raw.public_key, raw.entries, ((100, older), *raw.notes), raw.payloads)
    export_tiles(both, tmp_path)
    assert read_tiles(tmp_path).notes == raw.notes


def test_cosignatures_that_witnesses_added_are_left_out(folder: Path, raw: RawLedger, other_key: SigningKey) -> None:
    path = folder / "checkpoint"
    path.write_text(cosign(path.read_text(), "w.example", other_key, datetime(2026, 11, 22, tzinfo=UTC)))
    assert read_tiles(folder) == raw


def test_partial_tiles_of_an_earlier_size_may_lie_beside(folder: Path, raw: RawLedger) -> None:
    (folder / "tile/0/001.p/9").write_bytes(b"of then")
    assert read_tiles(folder) == raw


def test_tiles_are_not_written_over_something_else(raw: RawLedger, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="not empty"):
        export_tiles(raw, tmp_path)
    assert names(tmp_path) == ["file"]


def test_a_ledger_without_a_checkpoint_is_not_written(raw: RawLedger, tmp_path: Path) -> None:
    bare = RawLedger(raw.origin, raw.public_key, raw.entries, (), raw.payloads)
    with pytest.raises(LedgerUnreadableError, match="no checkpoint"):
        export_tiles(bare, tmp_path)


def test_any_flipped_byte_is_found(folder: Path, key: SigningKey) -> None:
    rng = random.Random(11)
    for name in names(folder):
        path = folder / name
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *rng.sample(range(len(whole)), min(40, len(whole)))}:
            changed = bytearray(whole)
            changed[place] ^= rng.randrange(1, 256)
            path.write_bytes(changed)
            with pytest.raises(VerificationError):
                check_log(read_ledger(folder), key.public)
        path.write_bytes(whole)
    assert check_log(read_ledger(folder), key.public).size == 300


def test_a_missing_longer_or_shorter_file_is_found(folder: Path, key: SigningKey) -> None:
    for name in names(folder):
        path = folder / name
        whole = path.read_bytes()
        for changed in (whole + b"\0", whole[:-1], b""):
            path.write_bytes(changed)
            with pytest.raises(VerificationError):
                check_log(read_ledger(folder), key.public)
        path.unlink()
        with pytest.raises(VerificationError):
            check_log(read_ledger(folder), key.public)
        path.write_bytes(whole)


def test_links_and_pipes_in_a_files_place_are_refused_and_never_waited_for(folder: Path, tmp_path: Path) -> None:
    path = folder / "tile/0/000"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerUnreadableError, match="cannot be opened"):
        read_tiles(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(LedgerUnreadableError, match="plain file"):
        read_tiles(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(LedgerUnreadableError):
        read_tiles(folder)


def test_a_file_beyond_its_limit_is_not_read(folder: Path) -> None:
    with (folder / "tile/entries/000").open("wb") as file:
        file.truncate(tiles._BUNDLE_LIMIT_BYTES + 1)
    with pytest.raises(LedgerUnreadableError, match="at most"):
        read_tiles(folder)


def test_a_folder_beyond_its_limit_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TOTAL_LIMIT_BYTES", 10_000)
    with pytest.raises(LedgerUnreadableError, match="at most"):
        read_tiles(folder)


def test_a_checkpoint_that_claims_more_than_there_is_ends_at_the_first_missing_file(
    folder: Path, key: SigningKey
) -> None:
    (folder / "checkpoint").write_text(sign_checkpoint(Checkpoint(ORIGIN, 10**17, bytes(32)), key))
    with pytest.raises(LedgerUnreadableError, match="cannot be opened"):
        read_tiles(folder)


@pytest.mark.parametrize("size", [0, 1, 256, 299])
def test_a_checkpoint_that_claims_less_is_found(folder: Path, key: SigningKey, size: int) -> None:
    (folder / "checkpoint").write_text(sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), key))
    with pytest.raises(VerificationError):
        check_log(read_tiles(folder), key.public)


@pytest.mark.parametrize("data", [b"", b"\xff", b"text", b"text\n\n\xe2\x80\x94 a.example AAAAAAA=\n"])
def test_a_checkpoint_that_is_none_is_refused(folder: Path, data: bytes) -> None:
    (folder / "checkpoint").write_bytes(data)
    with pytest.raises(VerificationError):
        read_tiles(folder)


def test_another_keys_checkpoint_over_the_same_entries_is_refused(
    folder: Path, raw: RawLedger, other_key: SigningKey
) -> None:
    (folder / "checkpoint").write_text(sign_checkpoint(Checkpoint(ORIGIN, 300, raw.history().root()), other_key))
    with pytest.raises(VerificationError):
        check_log(read_ledger(folder), None)


def test_a_folder_that_is_no_log_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    with pytest.raises(LedgerUnreadableError, match="no such file"):
        read_ledger(tmp_path)
