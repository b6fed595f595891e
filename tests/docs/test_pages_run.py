"""Every command and every Python block of the documentation does what the page says."""

from pathlib import Path

import pytest

from tests.docs.comparison import shape
from tests.docs.transcripts import PAGES, ROOT, Command, Shell, parse_block, run_page

pytestmark = pytest.mark.docs


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_page_does_what_it_says(page: Path, clone: Path) -> None:
    run_page(page, clone)


def test_pages_that_teach_have_something_to_run() -> None:
    teaching = [page for page in PAGES if page.name == "README.md" or page.parent.name in ("tutorials", "how-to")]
    assert teaching
    for page in teaching:
        assert "\n```console\n$ fedseg " in page.read_text(encoding="utf-8"), page


def test_a_wrong_line_or_exit_code_is_found(clone: Path) -> None:
    page = clone / "wrong.md"
    for block in ("$ fedseg version\nfedseg version", "$ false", "$ true  # exit 1", "$ false\n$ echo $?\n0"):
        page.write_text(f"```console\n{block}\n```\n", encoding="utf-8")
        with pytest.raises(AssertionError, match=r"wrong\.md, line 1"):
            run_page(page, clone)


def test_a_block_is_read_as_commands_with_their_output() -> None:
    assert parse_block("$ a\nb\nc\n$ d\n") == [Command("a", ("b", "c")), Command("d", ())]


def test_numbers_hashes_and_names_of_rows_may_differ_but_words_may_not() -> None:
    assert shape("Recent   1,161  1,109-1,214   2.3") == shape("Very rare · lapsed    12   9-15   1e-06")
    assert shape("took   3.5 s") == shape("took   13.0 s")
    assert shape("took   3.5 s") != shape("took   3.5 m")
    assert shape("hash  28995605dd0f21c5") == shape("hash  0000000000000000")


def test_the_status_of_a_command_is_there_for_the_next(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.run("exit 7")
    assert shell.run("echo $?") == "7\n"
