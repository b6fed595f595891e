"""A test that belongs to a suite of its own carries the suite's marker, or the quick suite would run it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SUITES = {"browser": "browser", "docs": "docs", "extras": "extras", "foreign": "extras", "system": "deployment"}
"""Folders all of whose tests belong to one suite, and that suite's marker."""

MODULES = [(path, SUITES[path.parent.name]) for path in sorted(TESTS.rglob("test_*.py")) if path.parent.name in SUITES]


@pytest.mark.parametrize(("path", "marker"), MODULES, ids=[path.name for path, _ in MODULES])
def test_every_module_of_a_suite_says_so(path: Path, marker: str) -> None:
    marks = [
        ast.unparse(node.value)
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    # The long versions are run by `make soak` alone.
    assert any(f"pytest.mark.{one}" in mark for mark in marks for one in (marker, "soak"))
