"""A small federation of three units on disk, approved; its server's run may be walked by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedseg.clustering.request import request_bytes
from fedseg.federation import wire
from fedseg.server.contribution import Contribution
from fedseg.server.rounds import RunState
from tests.small_federation import SmallFederation, ask, make_federation

SIZES = {"north": 60, "south": 50, "west": 40}

Replies = Callable[[RunState], list[Contribution]]


@pytest.fixture(scope="session")
def approved_once(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("approved") / "federation", SIZES).approve_all()


@pytest.fixture
def federation(approved_once: SmallFederation, tmp_path: Path) -> SmallFederation:
    """Three units who have approved a plan with a quorum of two; for this test alone."""
    return approved_once.copied_to(tmp_path / "federation")


@pytest.fixture
def answers(federation: SmallFederation) -> Replies:
    """All units' contributions to the open round of a run."""
    grid, plan = federation.grid(), federation.plan

    def answer(run: RunState) -> list[Contribution]:
        assert run.request is not None
        assert request_bytes(plan.digest, run.request)
        decoded = [wire.decode(reply, plan) for reply in ask(grid, plan, run.request)]
        return [one for one in decoded if isinstance(one, Contribution)]

    return answer
