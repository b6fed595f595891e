"""What fedseg imports is what pyproject.toml declares and the decision record gives a reason for."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RECORD = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text("utf-8")
PART_OF = {"pydantic-core": "pydantic", "matplotlib-inline": "matplotlib"}
"""Distributions that are a part of another and pinned by it."""

NOT_EVERYWHERE = {"pyspark": ["pyspark-client"]}
"""What imports come from whose distribution the environment of most tests does not have."""


DISTRIBUTIONS = packages_distributions()


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def distribution_of(module: str) -> str:
    distributions = DISTRIBUTIONS.get(module) or NOT_EVERYWHERE[module]
    (found,) = {name.lower().replace("_", "-").replace(".", "-") for name in distributions}
    return PART_OF.get(found, found)


DECLARED = {name_of(one) for one in PROJECT["dependencies"]}
DECLARED_FOR_SOME = {
    name_of(one) for extra in ("postgres", "sql", "spark") for one in PROJECT["optional-dependencies"][extra]
}
"""What only units need that keep their consent register or customers in a database, or have a view of events."""

DECLARED_FOR_TESTS = {name_of(one) for one in PROJECT["optional-dependencies"]["test"]}


def imported(modules: dict[str, ast.Module]) -> set[str]:
    """Top-level names of everything imported that is neither ours nor Python's."""
    names = {
        name.split(".")[0]
        for tree in modules.values()
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    return names - {"fedseg"} - sys.stdlib_module_names


def test_every_import_is_a_declared_dependency(modules: dict[str, ast.Module]) -> None:
    assert {distribution_of(name) for name in imported(modules)} <= DECLARED | DECLARED_FOR_SOME


def test_what_only_some_need_is_imported_by_few_modules(modules: dict[str, ast.Module]) -> None:
    needing = [
        name
        for name, tree in modules.items()
        if {distribution_of(one) for one in imported({name: tree})} & DECLARED_FOR_SOME
    ]
    assert {Path(name).stem for name in needing} == {
        "postgres",
        "duckdb_file",
        "expressions",
        "expression_parts",
        "view",
        "spark",
        "spark_sums",
        "spark_view",
    }


def test_every_declared_dependency_is_imported(modules: dict[str, ast.Module]) -> None:
    assert {distribution_of(name) for name in imported(modules)} >= DECLARED


@pytest.mark.parametrize("name", sorted(DECLARED | DECLARED_FOR_SOME | DECLARED_FOR_TESTS))
def test_every_dependency_has_its_reason_on_record(name: str) -> None:
    recorded = {name_of(cell) for cell in re.findall(r"^\| `([\w.-]+)`", RECORD, flags=re.MULTILINE)}
    assert name in recorded
