"""The page about recovery has a line for every code that an operator meets, and the page about faults names real tests."""

import re

import pytest

from fedseg.errors import FedsegError
from tests.docs.transcripts import ROOT

pytestmark = pytest.mark.docs

PAGE = ROOT / "docs" / "how-to" / "recover.md"


def codes(kind: type[FedsegError] = FedsegError) -> set[str]:
    """The codes of a class and of all that inherit from it."""
    return {kind.code}.union(*(codes(one) for one in kind.__subclasses__()))


def test_every_code_of_rounds_trust_and_data_has_one_line_that_says_what_to_do() -> None:
    told = re.findall(r"^\| (E\d{3}) \| (.{20,}) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [code for code, _ in told] == sorted(code for code in codes() if code[1] in "678")


def test_every_test_that_the_page_about_faults_names_is_there() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reference" / "faults-in-rounds.md").read_text("utf-8"))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert len(named) > 20
    assert set(named) <= written
