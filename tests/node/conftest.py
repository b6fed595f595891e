"""A unit with a customer file that a test writes itself, and a small federation whose plan is approved."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedseg.node.home import NodeHome
from tests.small_federation import CUSTOMERS_FILE, SmallFederation, make_federation, make_unit, policy_document

SIZES = {"north": 60, "south": 50}


@pytest.fixture(scope="session")
def bare_unit(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """A unit nobody's data is in; tests that write its customer file say what is in it."""
    path = tmp_path_factory.mktemp("node") / "unit"
    return make_unit(path, "unit", consenting=(), customers=b"", policy=policy_document())


@pytest.fixture
def unit_with(bare_unit: NodeHome) -> Callable[[bytes], NodeHome]:
    """The unit with these bytes as its customer file."""

    def write(customers: bytes) -> NodeHome:
        (bare_unit.path / CUSTOMERS_FILE).write_bytes(customers)
        return bare_unit

    return write


@pytest.fixture(scope="session")
def approved_once(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("approved") / "federation", SIZES).approve_all()


@pytest.fixture
def federation(approved_once: SmallFederation, tmp_path: Path) -> SmallFederation:
    """Two units of 60 and 50 customers who have approved a plan; for this test alone."""
    return approved_once.copied_to(tmp_path / "federation")


@pytest.fixture
def unapproved(tmp_path: Path) -> SmallFederation:
    """The same, before anyone approved."""
    return make_federation(tmp_path / "unapproved", SIZES)
