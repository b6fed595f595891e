"""Look-ups in public tables: one answer an event, of nobody else's events, from the file that the plan names."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedseg.clustering.request import request_sha256
from fedseg.columns import Column, ColumnType
from fedseg.errors import DataError, ViewError
from fedseg.node.approvals import approve
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources import public_tables
from fedseg.node.sources.cell_types import parse_cell_type
from fedseg.node.sources.event_cells import CELLS
from fedseg.node.sources.files import Files
from fedseg.node.sources.public_tables import LookupSettings, read_public_table
from fedseg.node.sources.settings import SourceSettings, ViewSettings
from fedseg.node.sources.view import FeatureView
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.noise import SimulatedNoise
from fedseg.table import SUBJECT
from tests.small_federation import CUSTOMERS_FILE, NOW, SmallFederation, some_request

UnitWith = Callable[[bytes], NodeHome]

REGIONS = b"postcode,region,weight\nN1,north,1.50\nN2,north,2\nS1,south,0.25\nS2,,3\n"
KNOWN = {b"N1": ("north", 1.5), b"N2": ("north", 2.0), b"S1": ("south", 0.25), b"S2": (None, 3.0)}
FEATURES = {
    "events": "count(*)",
    "northern": "count(*) filter (where region = 'north')",
    "regions": "count(distinct region)",
    "weight": "sum(weight)",
    "last": "max(region)",
}
COLUMNS = (
    *(Column(name, ColumnType.NUMBER) for name in ("events", "northern", "regions", "weight")),
    Column("last", ColumnType.TEXT),
)
HEADER = b"customer,code,amount\n"


def lookup(content: bytes = REGIONS, **changes: Any) -> LookupSettings:
    terms = {"table": "postcodes", "path": "regions.csv", "key": "code", "column": "region"}
    return LookupSettings(**(terms | {"sha256": hashlib.sha256(content).hexdigest()} | changes))


def view(content: bytes = REGIONS, **changes: Any) -> ViewSettings:
    lookups = {"region": lookup(content), "weight": lookup(content, column="weight", holds="decimal(9,2)")}
    terms: dict[str, Any] = {"columns": {"code": "text"}, "features": FEATURES, "lookups": lookups}
    return ViewSettings(**(terms | changes))


def with_view(home: NodeHome, view_: ViewSettings, content: bytes = REGIONS) -> NodeHome:
    (home.path / "regions.csv").write_bytes(content)
    source = home.settings.source.model_copy(update={"view": view_})
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


def rows(home: NodeHome) -> dict[bytes, tuple[Any, ...]]:
    """Every customer's features; floats as their exact bits."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for batch in open_source(home, COLUMNS).batches():
        for row in batch.to_pylist():
            subject = row.pop(SUBJECT)
            assert subject not in found
            found[subject] = tuple(repr(cell) for cell in row.values())
    return found


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([*KNOWN, b"X9", b"n1", b"", b"\xff", b" N1", b"NULL"])
    ),
    max_size=20,
)


def lines(events: list[tuple[bytes, bytes]]) -> bytes:
    return HEADER + b"".join(b"%s,%s,1\n" % event for event in events)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_each_event_has_its_own_answer_or_none_and_stays_one_event(
    unit_with: UnitWith, events: list[tuple[bytes, bytes]]
) -> None:
    home = with_view(unit_with(lines(events)), view())
    expected = {}
    for customer in {one for one, _ in events}:
        answers = [KNOWN.get(code, (None, None)) for one, code in events if one == customer]
        regions = [region for region, _ in answers if region is not None]
        weights = [weight for _, weight in answers if weight is not None]
        expected[subject_key(customer, home.subject_secret)] = tuple(
            repr(one)
            for one in (
                float(len(answers)),
                float(regions.count("north")),
                float(len(set(regions))),
                sum(weights) if weights else None,
                max(regions).encode() if regions else None,
            )
        )
    assert rows(home) == expected


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_without_one_customer_every_other_row_is_the_same_to_the_byte(
    unit_with: UnitWith, events: list[tuple[bytes, bytes]], seed: int
) -> None:
    everyone = rows(with_view(unit_with(lines(events)), view()))
    for customer in (b"a", b"b", b"c"):
        others = [event for event in events if event[0] != customer]
        random.Random(seed).shuffle(others)
        home = with_view(unit_with(lines(others)), view())
        gone = subject_key(customer, home.subject_secret)
        assert rows(home) == {key: row for key, row in everyone.items() if key != gone}


def test_a_look_up_gives_as_many_answers_as_it_gets_cells(tmp_path: Path) -> None:
    (tmp_path / "regions.csv").write_bytes(REGIONS)
    table = read_public_table(tmp_path / "regions.csv", lookup(), parse_cell_type("text"))
    cells = ["N1", None, "X", "N1", "S2", ""] * 100
    assert table.look_up(pa.array(cells, CELLS)).to_pylist() == ["north", None, None, "north", None, None] * 100


def test_the_condition_may_look_up_too(unit_with: UnitWith) -> None:
    home = with_view(unit_with(lines([(b"a", b"N1"), (b"a", b"S1"), (b"b", b"S1")])), view(where="region = 'north'"))
    assert rows(home) == {subject_key(b"a", home.subject_secret): ("1.0", "1.0", "1.0", "1.5", "b'north'")}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"postcode,region,weight\nN1,north,1\nN1,south,1\n", "row 3 has no key of its own"),
        (b"postcode,region,weight\n,north,1\n", "row 2 has no key of its own"),
        (b"postcode,region,weight\nN1,north\n", "another number of fields"),
        (b"postcode,name,weight\nN1,north,1\n", "no column 'region' after its first one"),
        (b"region,weight\nN1,1\n", "no column 'region' after its first one"),
        (b"postcode,region,region\nN1,north,north\n", "no column 'region' after its first one"),
        (b"postcode,region,weight\nN1,north,heavy\n", "an answer is something else than decimal(9,2)"),
        (b"postcode,region,weight\nN1,\xff,1\n", "no CSV file in UTF-8"),
        (b"", "no CSV file in UTF-8 with a header"),
    ],
)
def test_what_is_no_table_with_unique_keys_is_refused(unit_with: UnitWith, content: bytes, why: str) -> None:
    home = with_view(unit_with(HEADER), view(content), content)
    with pytest.raises(DataError) as refused:
        open_source(home, ())
    assert why in refused.value.why


def test_another_file_than_was_agreed_is_refused(unit_with: UnitWith) -> None:
    home = with_view(unit_with(HEADER), view(), REGIONS + b"X9,nowhere,1\n")
    with pytest.raises(DataError, match="public table postcodes") as refused:
        open_source(home, ())
    assert "the sha256 of the file is" in refused.value.why
    (home.path / "regions.csv").unlink()
    with pytest.raises(DataError, match="public table postcodes"):
        open_source(home, ())


@pytest.mark.parametrize("limit", ["TABLE_BYTES_MAX", "TABLE_ROWS_MAX"])
def test_a_table_is_small(unit_with: UnitWith, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    home = with_view(unit_with(HEADER), view())
    monkeypatch.setattr(public_tables, limit, 3)
    with pytest.raises(DataError) as refused:
        open_source(home, ())
    assert "more than" in refused.value.why


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": {"code": "integer"}},
        {"columns": {"other": "text"}},
        {"columns": {"code": "text", "region": "text"}},
        {"lookups": {"region": {"table": "postcodes"}}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        view(**changes)


def test_an_answer_of_no_known_type_is_refused(unit_with: UnitWith) -> None:
    with pytest.raises(ViewError):
        open_source(with_view(unit_with(HEADER), view(lookups={"region": lookup(holds="float")})), ())


def test_a_view_that_is_not_given_its_tables_is_refused(unit_with: UnitWith) -> None:
    home = unit_with(HEADER)
    with pytest.raises(ViewError, match="look-ups"):
        FeatureView(Files(home.path / CUSTOMERS_FILE, "csv"), "customer", view())


# In rounds


@pytest.fixture
def of_events(unapproved: SmallFederation) -> NodeHome:
    """A unit whose visits are counted in a public table's words."""
    home = unapproved.home("north")
    customers = home.path / home.settings.source.path
    _, *found = customers.read_text(encoding="utf-8").splitlines()
    events = (f"{line.split(',')[0]},{code}" for line in found for code in ("N1", "S1", "X9"))
    customers.write_text("\n".join(["customer,code", *events]) + "\n", encoding="utf-8")
    made = view(features={"visits": "sum(weight)", "spend": "count(*) filter (where region = 'north')"})
    (home.path / "regions.csv").write_bytes(REGIONS)
    source = SourceSettings(path=home.settings.source.path, format="csv", subject="customer", view=made)
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


def naming(federation: SmallFederation, sha256: str = "") -> tuple[Plan, bytes]:
    """The federation's plan, naming the table."""
    named = f'tables = [{{name = "postcodes", label = "postal regions", sha256 = "{sha256 or lookup().sha256}"}}]\n'
    document = named.encode() + federation.document
    return parse_plan(document), document


def test_a_unit_counts_with_a_table_that_the_plan_names(unapproved: SmallFederation, of_events: NodeHome) -> None:
    plan, document = naming(unapproved)
    approve(of_events, plan, document, now=NOW)
    request = some_request(plan, 0)
    digest = request_sha256(plan.digest, request)
    assert contribute(of_events, plan.digest, request, digest, now=NOW, source=SimulatedNoise(1)).payload


def test_a_unit_refuses_to_count_with_a_table_that_the_plan_does_not_name(
    unapproved: SmallFederation, of_events: NodeHome
) -> None:
    with pytest.raises(ViewError) as refused:
        approve(of_events, unapproved.plan, unapproved.document, now=NOW)
    assert "names no such table" in refused.value.why
    other, document = naming(unapproved, "0" * 64)
    with pytest.raises(ViewError) as refused:
        approve(of_events, other, document, now=NOW)
    assert "another file by this name" in refused.value.why


def test_no_round_is_answered_with_a_table_that_the_plan_does_not_name(
    unapproved: SmallFederation, of_events: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, request = unapproved.plan, some_request(unapproved.plan, 0)
    with monkeypatch.context() as careless:
        careless.setattr("fedseg.node.approvals.require_named", lambda *_: None)
        approve(of_events, plan, unapproved.document, now=NOW)
    with pytest.raises(ViewError):
        contribute(
            of_events, plan.digest, request, request_sha256(plan.digest, request), now=NOW, source=SimulatedNoise(1)
        )
