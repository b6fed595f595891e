"""A small federation on disk, approved, and its replies to requests of every step."""

from pathlib import Path

import pytest

from tests.small_federation import FEATURES, SmallFederation, ask, make_federation, some_request

SIZES = {"north": 60, "south": 50}


@pytest.fixture(scope="session")
def approved_once(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("approved") / "federation", SIZES).approve_all()


@pytest.fixture(scope="session")
def bounds_approved_once(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """The same units with a plan for bounds, whose features flag missing values."""
    wide = {"lower": -1000, "upper": 1000, "transform": "asinh", "missing": 0, "missing_flag": True}
    features = [{"name": name, "label": name, **wide} for name in FEATURES]
    algorithm = {"name": "bounds", "seed": 7, "expected_customers": 110}
    path = tmp_path_factory.mktemp("bounds") / "federation"
    return make_federation(path, SIZES, k=1, algorithm=algorithm, features=features).approve_all()


@pytest.fixture
def federation(approved_once: SmallFederation, tmp_path: Path) -> SmallFederation:
    """Two units of 60 and 50 customers who have approved a plan; for this test alone."""
    return approved_once.copied_to(tmp_path / "federation")


@pytest.fixture(scope="session")
def replies(approved_once: SmallFederation, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Valid replies of both units to a request of each of the plan's three steps."""
    federation = approved_once.copied_to(tmp_path_factory.mktemp("replies") / "federation")
    plan, grid = federation.plan, federation.grid()
    return [reply for step in range(plan.rounds) for reply in ask(grid, plan, some_request(plan, step))]
