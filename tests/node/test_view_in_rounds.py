"""A unit with events takes part as one with customers does: consent, vetoes, approval, erasure, and the same integers."""

import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedseg.clustering.encode import encode
from fedseg.clustering.request import request_sha256
from fedseg.clustering.statistics import summarize
from fedseg.errors import PlanMismatchError
from fedseg.node.approvals import approve
from fedseg.node.contribute import contribute
from fedseg.node.gate import decide_now
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.rights.erasure import erase
from fedseg.node.rights.requests import Order
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources.settings import SourceSettings, ViewSettings
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit
from fedseg.privacy.noise import SimulatedNoise
from tests.small_federation import NOW, SmallFederation, some_request

VIEW = ViewSettings(
    columns={"v": "decimal(9,3)", "s": "decimal(9,3)"}, features={"visits": "sum(v)", "spend": "sum(s)"}
)
PERSON = b"north-7"


@pytest.fixture
def of_customers(unapproved: SmallFederation) -> NodeHome:
    """A unit with one line a customer."""
    return unapproved.home("north")


@pytest.fixture
def of_events(of_customers: NodeHome, tmp_path: Path) -> NodeHome:
    """The same unit, with its customers' visits and spend spread over many events in two files."""
    home = NodeHome.open(Path(shutil.copytree(of_customers.path, tmp_path / "events")))
    customers = home.path / home.settings.source.path
    _, *lines = customers.read_text(encoding="utf-8").splitlines()
    customers.unlink()
    for part, share in ((0, Decimal("0.25")), (1, Decimal("0.75"))):
        events = ["customer,s,v"]
        for name, visits, spend in (line.split(",") for line in lines[:: 1 - 2 * part]):
            first = [(Decimal(one) * Decimal("0.25")).quantize(Decimal("0.001")) for one in (visits, spend)]
            v, s = first if share < Decimal("0.5") else (Decimal(visits) - first[0], Decimal(spend) - first[1])
            events.append(f"{name},{s},{v}")
        (home.path / LOCAL / "events").mkdir(exist_ok=True)
        (home.path / LOCAL / "events" / f"{part}.csv").write_text("\n".join(events) + "\n", encoding="utf-8")
    source = SourceSettings(path=f"{LOCAL}/events", format="csv", subject="customer", view=VIEW)
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


def exact(federation: SmallFederation, home: NodeHome) -> NDArray[np.int64]:
    """What the unit would release without noise, of those whom the gate lets pass now."""
    plan, policy = federation.plan, load_policy(home.policy_document())
    with home.register() as register:
        decisions = decide_now(home, register, policy, plan.purpose, NOW)
    table = admit(open_source(home, [one.column for one in plan.encoders]), decisions, policy, plan.purpose)
    return summarize(encode(table, plan.encoders), some_request(plan, 0), plan.terms[0].lattice)._values


def test_events_count_as_the_customers_whose_they_are(
    unapproved: SmallFederation, of_customers: NodeHome, of_events: NodeHome
) -> None:
    assert np.array_equal(exact(unapproved, of_events), exact(unapproved, of_customers))


def test_a_unit_with_events_approves_and_answers(unapproved: SmallFederation, of_events: NodeHome) -> None:
    plan, request = unapproved.plan, some_request(unapproved.plan, 0)
    checked = approve(of_events, plan, unapproved.document, now=NOW)
    assert checked is not None
    digest = request_sha256(plan.digest, request)
    assert contribute(of_events, plan.digest, request, digest, now=NOW, source=SimulatedNoise(1)).payload


def test_a_view_that_was_changed_after_the_approval_is_not_read(
    unapproved: SmallFederation, of_events: NodeHome
) -> None:
    plan, request = unapproved.plan, some_request(unapproved.plan, 0)
    approve(of_events, plan, unapproved.document, now=NOW)
    view = VIEW.model_copy(update={"features": {**VIEW.features, "visits": "max(v)"}})
    source = of_events.settings.source.model_copy(update={"view": view})
    changed = replace(of_events, settings=of_events.settings.model_copy(update={"source": source}))
    with pytest.raises(PlanMismatchError):
        contribute(
            changed, plan.digest, request, request_sha256(plan.digest, request), now=NOW, source=SimulatedNoise(1)
        )


def test_whoever_is_erased_is_in_no_file_and_in_no_statistic(
    unapproved: SmallFederation, of_customers: NodeHome, of_events: NodeHome
) -> None:
    before = exact(unapproved, of_events)
    for home in (of_customers, of_events):
        erase(home, Order([PERSON], "T-1"), NOW)
    assert not np.array_equal(exact(unapproved, of_events), before)
    assert np.array_equal(exact(unapproved, of_events), exact(unapproved, of_customers))
    for part in (of_events.path / LOCAL / "events").iterdir():
        assert PERSON + b"," not in part.read_bytes()
    assert subject_key(PERSON, of_events.subject_secret) not in {
        one for batch in open_source(of_events, ()).batches() for one in batch.column("subject").to_pylist()
    }
