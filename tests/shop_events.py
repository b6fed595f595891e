"""A made-up shop's events in each kind of source a unit can have, and what is read of them."""

import datetime as dt
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from fedseg.columns import Column, ColumnType, numbers
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.node.sources.settings import SourceSettings, ViewSettings
from fedseg.table import SUBJECT
from tests.postgres_server import PostgresServer

VIEW = ViewSettings(
    columns={"invoice": "text", "day": "date", "amount": "decimal(12,2)", "price": "decimal(9,3)", "returned": "truth"},
    features={
        "recency": "date_diff('day', max(day) filter (where not returned), date '2011-12-10')",
        "frequency": "count(distinct invoice)",
        "monetary": "sum(amount)",
        "basket": "avg(amount)",
        "prices": "sum(amount * price)",
        "last": "max(invoice)",
    },
)
COLUMNS = (*numbers("recency", "frequency", "monetary", "basket", "prices"), Column("last", ColumnType.TEXT))
DDL = """CREATE TABLE public.events (customer {text}, invoice {text}, day {moment}, amount NUMERIC(12,2), price DOUBLE PRECISION,
 returned BOOLEAN)"""


def shop(events: int, customers: int) -> pa.Table:
    """Made-up events of the types that a shop's database has, some cells missing."""
    coins = random.Random(6)
    start = dt.datetime(2011, 1, 1)  # noqa: DTZ001 (a shop's clock)
    rows = range(events)

    def some(value: Any) -> Any:
        return None if coins.random() < 0.02 else value

    return pa.table(
        {
            "customer": pa.array([some(f"c{coins.randrange(customers)}") for _ in rows]),
            "invoice": pa.array([some(f"{coins.choice(['A', 'Ä', 'C'])}{coins.randrange(events)}") for _ in rows]),
            "day": pa.array(
                [some(start + dt.timedelta(minutes=coins.randrange(500_000))) for _ in rows], pa.timestamp("us")
            ),
            "amount": pa.array(
                [some(Decimal(coins.randrange(-(10**5), 10**6)).scaleb(-2)) for _ in rows], pa.decimal128(12, 2)
            ),
            "price": pa.array([some(coins.randrange(10**6) / 1000) for _ in rows], pa.float64()),
            "returned": pa.array([some(coins.random() < 0.1) for _ in rows], pa.bool_()),
        }
    )


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    order = list(range(table.num_rows))
    random.Random(seed).shuffle(order)
    return table.take(order)


def fill_postgres(url: str, table: pa.Table) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(DDL.format(text="TEXT", moment="TIMESTAMP").encode())
        with cursor.copy("COPY public.events FROM STDIN") as copy:
            for row in table.to_pylist():
                copy.write_row(tuple(row.values()))


def fill_duckdb(path: Path, table: pa.Table) -> None:
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE SCHEMA public")
        database.execute(DDL.format(text="VARCHAR", moment="TIMESTAMP"))
        database.register("incoming", table)
        database.execute("INSERT INTO public.events SELECT * FROM incoming")


def with_source(home: NodeHome, view_: ViewSettings | None = VIEW, **source: Any) -> NodeHome:
    made = SourceSettings(subject="customer", view=view_, **source)
    return replace(home, settings=home.settings.model_copy(update={"source": made}))


def rows(home: NodeHome, columns: tuple[Column, ...] = COLUMNS) -> list[tuple[str, ...]]:
    """Everybody's features, floats as their exact bits."""
    found: list[tuple[str, ...]] = []
    for batch in open_source(home, columns).batches():
        names = [SUBJECT, *(one.name for one in columns)]
        found += zip(*([repr(one) for one in batch.column(name).to_pylist()] for name in names), strict=True)
    return sorted(found)


def everywhere(home: NodeHome, folder: Path, server: PostgresServer, table: pa.Table) -> dict[str, NodeHome]:
    """The same events in each kind of source, in another order in each."""
    pc_csv.write_csv(table, folder / "events.csv")
    pq.write_table(shuffled(table, 1), folder / "events.parquet", row_group_size=max(1, table.num_rows // 7))
    fill_duckdb(folder / "events.duckdb", shuffled(table, 2))
    url = server.new_database()
    fill_postgres(url, shuffled(table, 3))
    return {
        "csv": with_source(home, path=str(folder / "events.csv"), format="csv"),
        "parquet": with_source(home, path=str(folder / "events.parquet"), format="parquet"),
        "duckdb": with_source(home, path=str(folder / "events.duckdb"), format="duckdb", table="public.events"),
        "postgresql": with_source(home, path=url, format="postgresql", table="public.events"),
    }
