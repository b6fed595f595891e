"""Files for their owner alone: whole or not there, never readable by others, never written over by mistake."""

import os
import stat
from pathlib import Path

import pytest

from fedseg.private_file import nameless, replacing, write_new


def failing_fsync(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    earlier = os.umask(0)
    try:
        write_new(tmp_path / "key", b"secret")
        with replacing(tmp_path / "list") as file:
            file.write(b"names")
    finally:
        os.umask(earlier)
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_a_new_file_takes_nobody_s_place(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"first")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "key", b"secret")
    (tmp_path / ".list.part").symlink_to(tmp_path / "elsewhere")
    with replacing(tmp_path / "list") as file:
        file.write(b"names")
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_leaves_nothing_of_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing_fsync)
    with pytest.raises(OSError, match="No space"):
        write_new(tmp_path / "key", b"secret")
    assert not list(tmp_path.iterdir())


def write_half(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"sec")
        raise ValueError("no more")


def test_what_fails_halfway_leaves_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"first")
    with pytest.raises(ValueError, match="no more"):
        write_half(tmp_path / "list")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"list": b"first"}


def test_a_draft_left_by_a_kill_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / ".list.part").write_bytes(b"cut sh")
    with replacing(tmp_path / "list") as file:
        file.write(b"whole")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"list": b"whole"}


def test_the_owner_changes_before_the_name_does(tmp_path: Path) -> None:
    seen: list[bool] = []
    with replacing(
        tmp_path / "list", lambda draft: seen.append(draft.exists() and not (tmp_path / "list").exists())
    ) as file:
        file.write(b"names")
    assert seen == [True]


@pytest.mark.parametrize(
    "flags", [os.O_TMPFILE, 0], ids=["made without a name", "made with one, where there are no others"]
)
def test_a_nameless_file_can_be_used_and_is_in_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", flags)  # without it, opening a folder for writing fails as it does elsewhere
    descriptor = nameless(tmp_path)
    try:
        assert os.write(descriptor, b"secret") == 6
        assert os.pread(descriptor, 6, 0) == b"secret"
        status = os.fstat(descriptor)
        assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0o600)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(descriptor)


def test_a_nameless_file_in_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        nameless(tmp_path / "nowhere")
