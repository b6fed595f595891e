"""Customers and events in databases: the same bits as from files, read-only, and never said to be erased while there."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv as pc_csv
import pytest

from fedseg.certificate import DELETED, REWRITTEN, ErasedStore
from fedseg.columns import numbers
from fedseg.errors import DataError, MissingColumnError, SettingsError, StorageError
from fedseg.node.backup import copies as backups
from fedseg.node.home import NodeHome
from fedseg.node.rights import erasure, source_erasure
from fedseg.node.source import open_source, rows_of, subject_key
from fedseg.node.sources import postgres, view
from fedseg.node.sources.public_tables import LookupSettings
from tests.postgres_server import PostgresServer, running_server
from tests.shop_events import COLUMNS, VIEW, everywhere, fill_duckdb, rows, shop, with_source

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as found:
        yield found


def test_every_kind_of_source_gives_the_same_bits(
    bare_unit: NodeHome, tmp_path: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = everywhere(bare_unit, tmp_path, server, shop(10_000, 700))
    expected = rows(homes["csv"])
    assert len(expected) == 700
    for size, batch_bytes in ((65_536, 4 * 2**20), (61, 4096)):
        monkeypatch.setattr(view, "BATCH_ROWS", size)
        monkeypatch.setattr(postgres, "BATCH_BYTES", batch_bytes)
        for kind, home in homes.items():
            assert rows(home) == expected, kind


def test_without_one_customer_every_other_row_is_the_same_from_every_source(
    bare_unit: NodeHome, tmp_path: Path, server: PostgresServer
) -> None:
    table = shop(3_000, 40)
    (tmp_path / "all").mkdir()
    (tmp_path / "fewer").mkdir()
    everyone = everywhere(bare_unit, tmp_path / "all", server, table)
    kept = [one != "c7" for one in table["customer"].to_pylist()]
    fewer = everywhere(bare_unit, tmp_path / "fewer", server, table.filter(pa.array(kept)))
    gone = repr(subject_key(b"c7", bare_unit.subject_secret))
    for kind, home in everyone.items():
        expected = [row for row in rows(home) if row[0] != gone]
        assert len(expected) == 39
        assert rows(fewer[kind]) == expected, kind


def test_look_ups_in_a_public_table_are_the_same_from_every_source_and_of_nobody_else(
    bare_unit: NodeHome, tmp_path: Path, server: PostgresServer
) -> None:
    content = b"invoice,tariff,fee\n" + b"".join(b"A%d,basic,%d.25\n" % (one, one) for one in range(0, 3_000, 2))
    (tmp_path / "tariffs.csv").write_bytes(content)
    terms = {"table": "tariffs", "path": str(tmp_path / "tariffs.csv"), "sha256": hashlib.sha256(content).hexdigest()}
    fee = LookupSettings(**terms, key="invoice", column="fee", holds="decimal(9,2)")
    tariff = LookupSettings(**terms, key="invoice", column="tariff")
    looking = VIEW.model_copy(
        update={
            "lookups": {"fee": fee, "tariff": tariff},
            "features": {**VIEW.features, "prices": "sum(amount * fee)", "last": "max(tariff)"},
        }
    )
    table, found = shop(3_000, 40), {}
    for name, kept in (("all", lambda _: True), ("fewer", lambda one: one != "c7")):
        (tmp_path / name).mkdir()
        chosen = table.filter(pa.array([kept(one) for one in table["customer"].to_pylist()]))
        homes = everywhere(bare_unit, tmp_path / name, server, chosen)
        found[name] = {kind: rows(with_source(home, looking, **_place(home))) for kind, home in homes.items()}
        assert len(found[name]["csv"]) == (40 if name == "all" else 39)
        assert all(one == found[name]["csv"] for one in found[name].values())
    gone = repr(subject_key(b"c7", bare_unit.subject_secret))
    assert found["fewer"]["csv"] == [row for row in found["all"]["csv"] if row[0] != gone]
    assert {row[-1] for row in found["all"]["csv"]} == {"b'basic'"}


def _place(home: NodeHome) -> dict[str, Any]:
    """Where a unit's source is."""
    return home.settings.source.model_dump(include={"path", "format", "table"})


@pytest.fixture
def shops(bare_unit: NodeHome, tmp_path: Path, server: PostgresServer) -> dict[str, NodeHome]:
    return everywhere(bare_unit, tmp_path, server, shop(300, 20))


KINDS = ["csv", "parquet", "duckdb", "postgresql"]
IN_DATABASES = ["duckdb", "postgresql"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_events_of_a_person_are_shown_from_every_source(shops: dict[str, NodeHome], kind: str) -> None:
    found = rows_of(shops[kind], subject_key(b"c3", shops[kind].subject_secret))
    assert len(found) == len(rows_of(shops["csv"], subject_key(b"c3", shops["csv"].subject_secret))) > 5
    assert {one["customer"] for one in found} == {"c3"}


@pytest.mark.parametrize("kind", IN_DATABASES)
def test_a_table_with_one_row_a_customer_needs_no_view(
    bare_unit: NodeHome, tmp_path: Path, server: PostgresServer, kind: str
) -> None:
    url = server.new_database()
    statements = (
        "CREATE TABLE public.customers (customer BIGINT, visits INTEGER, spend NUMERIC(9,2))",
        "INSERT INTO public.customers VALUES (1, 3, 0.70), (2, NULL, 1e4), (3, 5, NULL)",
    )
    if kind == "postgresql":
        with psycopg.connect(url) as connection:
            for statement in statements:
                connection.execute(statement.encode())
    else:
        url = str(tmp_path / "x.duckdb")
        with duckdb.connect(url) as database:
            for statement in ("CREATE SCHEMA public", *statements):
                database.execute(statement)
    home = with_source(bare_unit, None, path=url, format=kind, table="public.customers")
    key = {number: repr(subject_key(b"%d" % number, home.subject_secret)) for number in (1, 2, 3)}
    assert rows(home, numbers("visits", "spend")) == sorted(
        [(key[1], "3.0", "0.7"), (key[2], "None", "10000.0"), (key[3], "5.0", "None")]
    )


@pytest.mark.parametrize("kind", IN_DATABASES)
@pytest.mark.parametrize("table", ["public.nothing", "public.shown"])
def test_what_is_no_table_is_refused(shops: dict[str, NodeHome], kind: str, table: str) -> None:
    source = shops[kind].settings.source
    query = "CREATE VIEW public.shown AS SELECT * FROM public.events"
    if kind == "postgresql":
        with psycopg.connect(source.path) as connection:
            connection.execute(query.encode())
    else:
        with duckdb.connect(source.path) as database:
            database.execute(query)
    home = with_source(shops[kind], path=source.path, format=kind, table=table)
    with pytest.raises(DataError, match=f"no table {table} that can serve"):
        open_source(home, COLUMNS)


@pytest.mark.parametrize("kind", IN_DATABASES)
def test_a_column_that_a_table_lacks_is_named(shops: dict[str, NodeHome], kind: str) -> None:
    source = shops[kind].settings.source.model_copy(update={"subject": "nobody"})
    home = replace(shops[kind], settings=shops[kind].settings.model_copy(update={"source": source}))
    with pytest.raises(MissingColumnError, match="no column 'nobody'"):
        open_source(home, COLUMNS)


def test_names_are_quoted_and_no_way_to_another_statement(
    bare_unit: NodeHome, server: PostgresServer, tmp_path: Path
) -> None:
    odd = 'a"; DROP TABLE public.events; --'
    url = server.new_database()
    with psycopg.connect(url) as connection:
        connection.execute(
            psycopg.sql.SQL("CREATE TABLE public.events (customer TEXT, {} INT)").format(psycopg.sql.Identifier(odd))
        )
        connection.execute("INSERT INTO public.events VALUES ('x', 5)")
    home = with_source(bare_unit, None, path=url, format="postgresql", table="public.events", columns={"visits": odd})
    assert [row[1] for row in rows(home, numbers("visits"))] == ["5.0"]


def test_a_session_cannot_write_even_where_the_role_could(shops: dict[str, NodeHome]) -> None:
    source = shops["postgresql"].settings.source
    assert source.table is not None
    table = postgres.PostgresTable(source.path, source.table)
    with pytest.raises(DataError, match="SQLSTATE 25006"), table._cursor() as cursor:
        cursor.execute("DELETE FROM public.events")
    with psycopg.connect(source.path) as connection:
        assert connection.execute("SELECT count(*) FROM public.events").fetchone() == (300,)


@pytest.mark.parametrize("kind", IN_DATABASES)
def test_a_database_that_cannot_be_read_is_a_data_error_without_its_own_text(
    shops: dict[str, NodeHome], kind: str, tmp_path: Path
) -> None:
    source = shops[kind].settings.source
    path = f"postgresql:///verysecret?host={tmp_path}" if kind == "postgresql" else str(tmp_path / "nowhere.duckdb")
    home = with_source(shops[kind], path=path, format=kind, table=source.table)
    with pytest.raises(DataError) as refused:
        open_source(home, COLUMNS)
    assert type(refused.value) is DataError
    assert "verysecret" not in f"{refused.value} {refused.value.fix}"


@pytest.mark.parametrize("kind", IN_DATABASES)
def test_nobody_is_said_to_be_erased_while_a_database_has_a_row_of_theirs(
    shops: dict[str, NodeHome], kind: str
) -> None:
    home, source = shops[kind], shops[kind].settings.source
    people = {subject_key(name, home.subject_secret) for name in (b"c3", b"nobody")}
    with pytest.raises(StorageError) as refused:
        source_erasure.erase_rows(home, people)
    assert 'DELETE FROM public.events WHERE "customer" IN (...)' in refused.value.fix
    assert "c3" not in f"{refused.value} {refused.value.fix}"
    assert source_erasure.named_in_source(home, people) == [b"c3"]
    statement = "DELETE FROM public.events WHERE \"customer\" IN ('c3')"
    if kind == "postgresql":
        with psycopg.connect(source.path) as connection:
            connection.execute(statement.encode())
    else:
        with duckdb.connect(source.path) as database:
            database.execute(statement)
    source_erasure.erase_rows(home, people)
    assert rows_of(home, subject_key(b"c3", home.subject_secret)) == []


def test_events_of_erased_people_go_from_every_file_of_a_folder(bare_unit: NodeHome, tmp_path: Path) -> None:
    table = shop(300, 20)
    for number in range(3):
        pc_csv.write_csv(table.slice(number * 100, 100), tmp_path / f"{number}.csv")
    home = with_source(bare_unit, path=str(tmp_path), format="csv")
    before = {one: row for one, *row in rows(home)}
    gone = subject_key(b"c3", home.subject_secret)
    source_erasure.erase_rows(home, {gone})
    assert {one: row for one, *row in rows(home)} == {one: row for one, row in before.items() if one != repr(gone)}
    assert rows_of(home, gone) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0.csv", "1.csv", "2.csv"]
    assert b"c3," not in b"".join(one.read_bytes().replace(b'"', b"") for one in tmp_path.iterdir())


def test_a_certificate_says_who_deleted_rows_in_a_database(bare_unit: NodeHome, tmp_path: Path) -> None:
    fill_duckdb(tmp_path / "events.duckdb", shop(5, 2))
    in_database = with_source(bare_unit, path=str(tmp_path / "events.duckdb"), format="duckdb", table="public.events")
    for home, method in ((bare_unit, REWRITTEN), (in_database, DELETED)):
        assert erasure._stores(home)[0] == ErasedStore(store="customers", method=method)


def test_a_certificates_manifest_is_over_all_files_of_a_folder(bare_unit: NodeHome, tmp_path: Path) -> None:
    home = with_source(bare_unit, path=str(tmp_path), format="csv")
    seen = {erasure._manifest(home)}
    for number in range(2):
        (tmp_path / f"{number}.csv").write_bytes(b"customer\n")
        seen.add(erasure._manifest(home))
    assert len(seen) == 3


def test_a_backup_holds_one_file_or_says_that_it_cannot(bare_unit: NodeHome, tmp_path: Path) -> None:
    folder = with_source(bare_unit, path=str(tmp_path), format="csv")
    database = with_source(bare_unit, path=str(tmp_path / "x"), format="duckdb", table="public.events")
    for home in (folder, database):
        with pytest.raises(SettingsError, match="not in one file"):
            backups._customers_file(home)
    assert backups._customers_file(bare_unit) == bare_unit.path / bare_unit.settings.source.path
