"""The error tree keeps what people's scripts rely on: a code of its own per class, and the documented exit codes."""

import importlib
import pkgutil
import re

import pytest

import fedseg
from fedseg.errors import FedsegError, every_error

for module in pkgutil.walk_packages(fedseg.__path__, "fedseg."):
    if module.name != "fedseg.__main__":
        importlib.import_module(module.name)  # an error class defined anywhere is then in the tree

EXIT_CODES = {"E1": 1, "E2": 2, "E3": 3, "E4": 4, "E5": 5, "E6": 6, "E7": 7, "E8": 8, "E9": 9}
"""unexpected, usage, policy, budget, consent, quorum or deadline, trust, data, verification"""


def test_every_error_is_defined_in_the_tree() -> None:
    assert {error.__module__ for error in every_error()} == {"fedseg.errors"}


def test_every_code_belongs_to_one_error() -> None:
    codes = [error.code for error in every_error()]
    assert len(codes) == len(set(codes))
    assert all("code" in vars(error) and "summary" in vars(error) for error in every_error())


@pytest.mark.parametrize("error", every_error())
def test_the_exit_code_follows_from_the_code(error: type[FedsegError]) -> None:
    assert re.fullmatch(r"E\d{3}", error.code)
    assert error.exit_code == EXIT_CODES[error.code[:2]]


@pytest.mark.parametrize("error", every_error())
def test_every_error_says_what_it_is(error: type[FedsegError]) -> None:
    assert error.__name__.endswith("Error")
    assert error.summary.endswith(".")
    assert error.__doc__
