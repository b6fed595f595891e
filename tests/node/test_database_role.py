"""The user that reads a unit's customers in a database may change none of them; who may is found out before a plan."""

from collections.abc import Iterator

import psycopg
import pytest

from fedseg.errors import DataError
from fedseg.node.sources.postgres import PostgresTable
from tests.postgres_server import PostgresServer, running_server

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as made:
        yield made


@pytest.fixture
def owner(server: PostgresServer) -> str:
    """The URL of a database with a table, as its owner."""
    url = server.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE public.customers (customer TEXT, visits INTEGER)")
        connection.execute("INSERT INTO public.customers VALUES ('a', 1)")
    return url


def role(owner: str, name: str, *granted: str) -> PostgresTable:
    """The table as it is for a new role with these privileges."""
    with psycopg.connect(owner) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        for privilege in granted:
            connection.execute(f"GRANT {privilege} ON public.customers TO {name}".encode())
    return PostgresTable(owner.replace("//fedseg@", f"//{name}@"), "public.customers")


def test_a_role_that_reads_alone_is_fine(owner: str) -> None:
    role(owner, "reader", "SELECT").require_unwritable()


@pytest.mark.parametrize("privilege", ["INSERT", "UPDATE", "DELETE", "TRUNCATE"])
def test_a_role_that_may_write_is_named_with_its_cure_and_no_row_is_touched(privilege: str, owner: str) -> None:
    table = role(owner, f"writer_{privilege.lower()}", "SELECT", privilege)

    with pytest.raises(DataError, match=r"may write to public\.customers") as raised:
        table.require_unwritable()
    assert raised.value.fix.startswith("let it read alone: REVOKE")
    with psycopg.connect(owner) as connection:
        assert connection.execute("SELECT * FROM public.customers").fetchall() == [("a", 1)]


def test_the_owner_may_write(owner: str) -> None:
    with pytest.raises(DataError, match="may write"):
        PostgresTable(owner, "public.customers").require_unwritable()


def test_a_database_that_cannot_be_asked_is_no_good_sign(owner: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        PostgresTable(owner.replace("@/", "@/no_"), "public.customers").require_unwritable()
    with pytest.raises(DataError, match="no table"):
        PostgresTable(owner, "public.missing").require_unwritable()
