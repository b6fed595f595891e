"""diffprivlib runs in an environment of its own; without a package index everything else is still measured."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.diffprivlib_peer import diffprivlib_centers, prepare
from benchmarks.accuracy.reference import cost

pytestmark = pytest.mark.processes

SMALL = ("--data", "retail", "--epsilon", "4", "--trust", "secure-aggregation", "--repetitions", "1", "--jobs", "1")


def test_diffprivlib_finds_easy_clusters_with_much_budget_and_again_by_the_same_seed() -> None:
    prepare()
    coins = np.random.default_rng(1)
    middles = np.array([[-0.6, -0.5], [0.6, 0.5]])
    rows = np.clip(middles[coins.integers(2, size=2000)] + 0.05 * coins.standard_normal((2000, 2)), -1, 1)
    first, other, again = diffprivlib_centers(rows, 2, Fraction(50), [3, 4, 3])
    assert (first == again).all()
    assert (first != other).any()
    assert cost(rows, first) / cost(rows, middles) < 1.3


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine where nothing is installed yet and no package index can be reached."""
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.accuracy", *SMALL, *arguments, "--format", "json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_what_cannot_be_installed_is_left_out_and_said(offline: dict[str, str], tmp_path: Path) -> None:
    done = run(offline)
    assert done.returncode == 0
    assert "diffprivlib cannot be measured" in done.stderr
    algorithms = {row["algorithm"] for row in json.loads(done.stdout)["rows"]}
    assert {"fedseg", "dp-lloyd", "scikit-learn"} <= algorithms
    assert "diffprivlib" not in algorithms
    assert not list(tmp_path.glob("fedseg-benchmarks/*"))  # nothing half-made stays


def test_what_was_asked_for_by_name_and_cannot_be_installed_is_an_error(offline: dict[str, str]) -> None:
    done = run(offline, "--algorithms", "fedseg,diffprivlib")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "E204"
