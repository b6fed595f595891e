"""The path of a unit's rows to a statistic, over a real file and a real register; and vectors to compare it with."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedseg.clustering.encode import encode
from fedseg.clustering.features import Feature, NumericFeature, Transform
from fedseg.clustering.lattice import Lattice
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.policy.consent import fold
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Decisions, admit, decide
from fedseg.policy.purposes import Purpose
from tests.small_federation import CUSTOMERS_FILE, NOW, make_unit, policy_document

COLUMNS = ("visits", "spend", "days")
PURPOSE = str(Purpose.SEGMENT_STATISTICS)

Counted = Callable[[bytes, Sequence[Feature], RoundRequest, Lattice], list[int]]


@pytest.fixture(scope="session")
def features() -> tuple[Feature, ...]:
    """Three features with unlike bounds, transforms and treatments of missing values."""
    return (
        NumericFeature("visits", lower=0, upper=100, missing=50),
        NumericFeature("spend", lower=0, upper=1_000_000, missing=0, transform=Transform.LOG1P),
        NumericFeature("days", lower=-3.5, upper=730, missing=730),
    )


@pytest.fixture(scope="session")
def unit(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """A unit in whose register customers c0 to c5 consent, and nobody else."""
    path = tmp_path_factory.mktemp("clustering") / "unit"
    policy = policy_document(columns=COLUMNS)
    return make_unit(path, "unit", consenting=[f"c{number}" for number in range(6)], customers=b"", policy=policy)


@pytest.fixture(scope="session")
def policy(unit: NodeHome) -> Policy:
    return load_policy(unit.policy_document())


@pytest.fixture(scope="session")
def decisions(unit: NodeHome, policy: Policy) -> Decisions:
    with unit.register() as register:
        return decide(fold(register.events(PURPOSE), NOW), policy, PURPOSE, NOW)


@pytest.fixture(scope="session")
def counted(unit: NodeHome, policy: Policy, decisions: Decisions) -> Counted:
    """The exact statistic of a customer file, by the path a deployed unit takes; as Python integers."""

    def count(customers: bytes, features: Sequence[Feature], request: RoundRequest, lattice: Lattice) -> list[int]:
        Path(unit.path / CUSTOMERS_FILE).write_bytes(customers)
        table = admit(open_source(unit, [feature.column for feature in features]), decisions, policy, PURPOSE)
        statistic = summarize(encode(table, features), request, lattice)
        values: list[int] = statistic._values.tolist()
        assert len(values) == statistic.length
        return values

    return count
