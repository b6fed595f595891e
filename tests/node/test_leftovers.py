"""What must not be there any more is found in any file, and nobody else is taken for it."""

from pathlib import Path

import pytest

from fedseg.errors import StorageError
from fedseg.node.rights import leftovers
from fedseg.node.rights.leftovers import files_below, find_leftovers

KEY = bytes(range(200, 216))


def holds(tmp_path: Path, content: bytes, *identifiers: bytes) -> bool:
    (tmp_path / "file").write_bytes(content)
    return bool(find_leftovers(files_below(tmp_path), identifiers or [b"ann@example.com"], [KEY]))


@pytest.mark.parametrize(
    "content",
    [
        b"ann@example.com",
        b"called ann@example.com.",
        b"called ann@example.com. Nobody answered.",
        b'1,"ann@example.com",2',
        b"\x00\x01ann@example.com\x00",
        b"mailto:ann@example.com?subject=x",
        b"<ann@example.com>-",
        b"ann@example.com@",
        KEY,
        b"x" + KEY + b"x",
        KEY.hex().encode(),
        b"ff" + KEY.hex().encode() + b"ff",
    ],
)
def test_what_is_left_is_found(tmp_path: Path, content: bytes) -> None:
    assert holds(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"joann@example.com",
        b"jo.ann@example.com",
        b"jo-ann@example.com",
        b"ann@example.com.au",
        b"ann@example.community",
        "\u00e9ann@example.com".encode(),
        b"ANN@EXAMPLE.COM",
        KEY[:15],
    ],
)
def test_somebody_else_is_not_taken_for_it(tmp_path: Path, content: bytes) -> None:
    assert not holds(tmp_path, content)


def test_numbers_inside_numbers_are_others(tmp_path: Path) -> None:
    assert not holds(tmp_path, b"12347.5,112347,123470,12347-1\n", b"12347")
    assert holds(tmp_path, b"1,12347,2\n", b"12347")


@pytest.mark.parametrize("place", range(40))
def test_a_file_is_searched_in_pieces_that_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(leftovers, "_CHUNK_BYTES", 7)
    assert holds(tmp_path, b"." * place + b" ann@example.com " + b"." * 9)
    assert not holds(tmp_path, b"." * place + b" joann@example.com " + b"." * 9)
    assert not holds(tmp_path, b"." * place + b" ann@example.com.au" + b"." * 9)


def test_a_file_that_cannot_be_read_may_hold_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        find_leftovers([tmp_path / "file"], [b"ann"], [])


def test_a_file_that_is_gone_meanwhile_and_links_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"bob")
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert files_below(tmp_path) == [tmp_path / "real"]
    assert find_leftovers([tmp_path / "gone"], [b"ann"], []) == []


def test_nothing_to_look_for_is_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"anything")
    assert find_leftovers(files_below(tmp_path), [], []) == []
