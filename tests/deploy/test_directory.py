"""A deployment's directory is made as a whole or not at all, and what less trusted users put there misleads nobody."""

import os
import stat
from pathlib import Path

import pytest

from fedseg.deploy.directory import (
    LONGEST_SOCKET,
    SOCKET_BYTES_MAX,
    give,
    make,
    new_directory,
    read_small,
    replace,
    require_usable,
    write_new,
)
from fedseg.deploy.users import caller
from fedseg.errors import DeploymentError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_appears_when_it_is_complete(folder: Path) -> None:
    with new_directory(folder / "node") as part:
        write_new(part / "file", b"x", caller())
        assert not (folder / "node").exists()

    assert [path.name for path in folder.iterdir()] == ["node"]
    assert mode(folder / "node") == 0o755
    assert mode(folder / "node" / "file") == 0o600


def test_a_failure_leaves_nothing_behind(folder: Path) -> None:
    with pytest.raises(FileExistsError), new_directory(folder / "node") as part:
        write_new(write_new(part / "file", b"x", caller()), b"y", caller())

    assert list(folder.iterdir()) == []


def test_an_empty_directory_may_be_filled(folder: Path) -> None:
    (folder / "node").mkdir()
    with new_directory(folder / "node") as part:
        write_new(part / "file", b"x", caller())

    assert (folder / "node" / "file").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["full", "file", "link", "dangling"])
def test_nothing_is_ever_overwritten(kind: str, folder: Path) -> None:
    place, empty = folder / "node", folder / "empty"
    empty.mkdir()
    if kind == "full":
        place.mkdir()
        (place / "kept").touch()
    elif kind == "file":
        place.touch()
    else:
        place.symlink_to(empty if kind == "link" else folder / "nowhere")

    with pytest.raises(DeploymentError, match="is there already"), new_directory(place):
        pytest.fail("it was given out")


def test_the_directory_around_it_must_be_there(folder: Path) -> None:
    with pytest.raises(DeploymentError) as raised, new_directory(folder / "not" / "node"):
        pytest.fail("it was given out")

    assert raised.value.fix == f"mkdir -p {folder / 'not'}"


@pytest.mark.parametrize("name", ["a b", "a;b", "a%b", "a{b", "a$b", 'a"b', "a#b", "a\nb", "ä"])
def test_a_path_that_would_need_quoting_somewhere_is_refused(name: str) -> None:
    with pytest.raises(DeploymentError, match="alone"):
        require_usable(Path("/srv") / name)


def test_a_path_too_long_for_sockets_is_refused() -> None:
    most = SOCKET_BYTES_MAX - len(LONGEST_SOCKET) - 1
    require_usable(Path("/" + "d" * (most - 1)))
    with pytest.raises(DeploymentError, match=f"room for {most}"):
        require_usable(Path("/" + "d" * most))


def test_a_file_is_replaced_in_one_step_and_a_new_one_only_made(folder: Path) -> None:
    write_new(folder / "file", b"old", caller())
    with pytest.raises(FileExistsError):
        write_new(folder / "file", b"new", caller())
    with (folder / "file").open("rb") as reader:
        replace(folder / "file", b"new", caller())
        assert reader.read() == b"old"

    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("file", b"new")]


def test_a_link_in_the_way_is_replaced_and_not_followed(folder: Path) -> None:
    (folder / "precious").write_bytes(b"precious")
    (folder / "file").symlink_to(folder / "precious")
    replace(folder / "file", b"new", caller())

    assert (folder / "precious").read_bytes() == b"precious"
    assert (folder / "file").read_bytes() == b"new"


def test_a_link_or_a_pipe_is_not_read(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    (folder / "link").symlink_to(folder / "file")
    os.mkfifo(folder / "pipe")

    assert read_small(folder / "file") == b"x"
    for name in ("link", "pipe", "missing", "."):
        with pytest.raises(OSError, match=r".+"):
            read_small(folder / name)


def test_what_is_given_is_closed_to_everyone_else(folder: Path) -> None:
    (folder / "home" / "deep").mkdir(parents=True, mode=0o755)
    (folder / "home" / "deep" / "file").touch(0o644)
    give(folder / "home", caller())

    assert [mode(path) for path in sorted((folder / "home").rglob("*"))] == [0o700, 0o600]
    assert mode(folder / "home") == 0o700


def test_a_directory_can_hand_its_group_on(folder: Path) -> None:
    assert mode(make(folder / "run", caller(), 0o2750)) == 0o2750
