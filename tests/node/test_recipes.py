"""The RFM recipe as it ships, on real invoices: missing values, duplicates, returns and late events."""

import csv
import gzip
import io
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedseg.columns import numbers
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.simulation.shipped import shipped
from fedseg.table import SUBJECT

UnitWith = Callable[[bytes], NodeHome]
Row = tuple[float | None, ...]

RECIPE: dict[str, Any] = tomllib.loads(shipped("simulations/online_retail/rfm.toml").read_text(encoding="utf-8"))[
    "source"
]
FEATURES = ("recency_days", "frequency", "monetary", "returned")
HEADER = "customer_id,invoice,day,amount\n"


def with_recipe(home: NodeHome) -> NodeHome:
    settings = {"path": "LOCAL/customers.csv", "format": "csv", "subject": "customer_id", **RECIPE}
    source = SourceSettings.model_validate(settings)
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


def rows(home: NodeHome) -> dict[bytes, Row]:
    found: dict[bytes, Row] = {}
    for batch in open_source(home, numbers(*FEATURES)).batches():
        found |= dict(
            zip(
                batch.column(SUBJECT).to_pylist(),
                zip(*(batch.column(name).to_pylist() for name in FEATURES), strict=True),
                strict=True,
            )
        )
    return found


def of_shop(name: str) -> list[dict[str, str]]:
    text = gzip.decompress(Path(shipped("simulations/online_retail"), name).read_bytes()).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_real_invoices_become_the_customers_that_ship_beside_them(unit_with: UnitWith) -> None:
    lines = [
        f"{one['customer_id']},{one['invoice']},{one['ts']},{one['amount']}\n" for one in of_shop("invoices.csv.gz")
    ]
    home = with_recipe(unit_with((HEADER + "".join(lines)).encode()))
    found = rows(home)
    customers = of_shop("customers.csv.gz")
    for one in customers:
        recency, frequency, monetary, returned = found[subject_key(one["customer_id"].encode(), home.subject_secret)]
        # That file counts whole days before midnight; dates count one more, but for a purchase at midnight.
        assert recency == float(one["recency_days"]) + 1
        # Invoices of nothing are no purchases to the recipe, and that file counts the few that there are.
        assert frequency in {float(one["frequency"]), float(one["frequency"]) - 1}
        assert monetary == pytest.approx(float(one["gross_monetary"]), abs=0.011)
        assert returned == pytest.approx(float(one["return_value"]), abs=0.011)
    only_returns = len(found) - len(customers)
    assert 0 < only_returns < 50
    assert sum(row[0] is None for row in found.values()) == only_returns


CASES: dict[str, tuple[str, Row]] = {
    "a purchase": ("a,1,2011-12-09,10.00", (1, 1, 10, 0)),
    "a return": ("a,1,2011-12-01,10.00 a,C1,2011-12-09,-4.00", (9, 1, 10, 4)),
    "only a return": ("a,C1,2011-12-09,-4.00", (None, 0, 0, 4)),
    "the same line in two exports": ("a,1,2011-12-09,10.00 a,1,2011-12-09,10", (1, 1, 10, 0)),
    "two lines of one invoice": ("a,1,2011-12-09,10.00 a,1,2011-12-09,2.50", (1, 1, 12.5, 0)),
    "an event after the reference date": ("a,1,2011-12-01,10.00 a,2,2011-12-10,99 a,3,2012-05-05,99", (9, 1, 10, 0)),
    "an event that came late": ("a,2,2011-12-08,1 a,1,2011-12-01,10.00", (2, 2, 11, 0)),
    "no amount": ("a,1,2011-12-01,10.00 a,2,2011-12-09,", (9, 1, 10, 0)),
    "no date": ("a,1,2011-12-01,10.00 a,2,,5", (9, 1, 10, 0)),
    "no invoice": ("a,,2011-12-01,10.00", (9, 0, 10, 0)),
    "no customer": ("a,1,2011-12-01,10.00 ,2,2011-12-01,10.00", (9, 1, 10, 0)),
    "nothing that was paid": ("a,1,2011-12-01,0", (None, 0, 0, 0)),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=list(CASES))
def test_odd_events_are_treated_as_the_guide_says(unit_with: UnitWith, events: str, expected: Row) -> None:
    home = with_recipe(unit_with((HEADER + events.replace(" ", "\n") + "\n").encode()))
    assert rows(home) == {subject_key(b"a", home.subject_secret): expected}


def test_a_customer_without_an_event_that_counts_has_no_row(unit_with: UnitWith) -> None:
    assert rows(with_recipe(unit_with((HEADER + "a,1,2012-01-01,10\n").encode()))) == {}


def test_the_guide_shows_the_recipe_as_it_ships() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/use-your-data-where-it-is.md"
    assert f"```toml\n{shipped('simulations/online_retail/rfm.toml').read_text(encoding='utf-8')}```" in page.read_text(
        encoding="utf-8"
    )
