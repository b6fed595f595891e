"""Keys come back from the disk as they went there, and no file of them is left."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import StorageError
from fedseg.node import keys_on_disk
from fedseg.node.keys_on_disk import WordsOnDisk

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def on_disk(folder: Path, parts: list[list[int]], in_memory: int = 0) -> WordsOnDisk:
    words = WordsOnDisk(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys_on_disk, "MEMORY_BYTES", in_memory)
        for part in parts:
            words.add(np.array(part, np.uint64))
    return words


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=5), max_size=5), st.integers(0, 50))
def test_words_come_back_as_they_were_also_after_they_were_let_go(
    folder: Path, parts: list[list[int]], in_memory: int
) -> None:
    words = on_disk(folder, parts, in_memory)
    whole = words.whole()
    for _ in range(2):
        assert whole.tolist() == [one for part in parts for one in part]
        words.let_go()
    assert list(folder.iterdir()) == []
    with pytest.raises(ValueError, match="read-only"):
        whole[:] = 0


def test_the_file_has_no_name_is_its_owners_alone_and_is_closed_when_nobody_uses_it(folder: Path) -> None:
    words = on_disk(folder, [[1, 2], [3]])
    descriptor = words._file
    assert descriptor is not None
    status = os.fstat(descriptor)
    assert (status.st_nlink, status.st_mode & 0o777, status.st_size) == (0, 0o600, 24)
    whole = words.whole()
    del words
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert whole.tolist() == [1, 2, 3]


def test_few_words_need_no_file(folder: Path) -> None:
    assert on_disk(folder, [[1, 2], [3]], in_memory=24)._file is None


def test_a_folder_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        on_disk(folder / "nowhere", [[1]])


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from fedseg.node.keys_on_disk import WordsOnDisk
words = WordsOnDisk(Path(sys.argv[1]))
words.add(np.zeros(2**22, np.uint64))
assert words._file is not None
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert run.returncode == -9
    assert list(tmp_path.iterdir()) == []
