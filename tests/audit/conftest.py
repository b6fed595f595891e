"""A finished run of two units, whose true ledgers are the models of all forgeries."""

import pytest

from fedseg.federation.server_app import run_plan
from tests.forged_ledger import Forgery
from tests.small_federation import SmallFederation, make_federation

SIZES = {"north": 60, "south": 50}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """Three rounds with simulated noise, published; not to be written to."""
    federation = make_federation(tmp_path_factory.mktemp("audit") / "federation", SIZES).approve_all()
    run_plan(federation.grid(), federation.server, federation.document, roster=federation.roster)
    return federation


@pytest.fixture(scope="session")
def true_unit(finished: SmallFederation) -> Forgery:
    """What stands in the ledger of unit north."""
    home = finished.home("north")
    with home.ledger() as ledger:
        return Forgery.of(ledger, home.key, role="unit", unit="north")


@pytest.fixture(scope="session")
def true_server(finished: SmallFederation) -> Forgery:
    """What stands in the server's ledger."""
    with finished.server.ledger() as ledger:
        return Forgery.of(ledger, finished.server.key, role="server")


@pytest.fixture
def unit(true_unit: Forgery) -> Forgery:
    """A copy of the unit's ledger, to be changed."""
    return true_unit.fresh()


@pytest.fixture
def server(true_server: Forgery) -> Forgery:
    """A copy of the server's ledger, to be changed."""
    return true_server.fresh()
