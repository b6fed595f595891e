"""What the architecture tests share: the package's modules as syntax trees."""

import ast
from pathlib import Path

import pytest

import fedseg

PACKAGE = Path(fedseg.__file__).parent


@pytest.fixture(scope="session")
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its path in it, such as `privacy/release.py`."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}
