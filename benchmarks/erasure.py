"""Erasing many of a unit's customers in one batch, with a certificate each: where the time goes.

The peer is SQLite deleting as many rows, from a table of as many customers, in one transaction with `secure_delete`.
"""

import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.output import Row, parser, show
from fedseg.node.home import LOCAL, NodeHome, NodeSettings
from fedseg.node.rights.erasure import erase
from fedseg.node.rights.requests import Order
from fedseg.node.source import subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.purposes import Purpose
from fedseg.simulation.shipped import shipped

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--customers", type=int, default=100_000)
    options.add_argument("--erasures", type=int, default=1_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show([_measured(Path(folder), chosen.customers, chosen.erasures)], chosen.format)


def _measured(folder: Path, customers: int, erasures: int) -> Row:
    home = _unit(folder / "unit", customers)
    erased = [_identifier(number) for number in range(0, customers, customers // erasures)][:erasures]
    start = time.perf_counter()
    done = erase(home, Order(erased, "benchmark"), NOW)
    seconds = time.perf_counter() - start
    return {
        "customers": customers,
        "erasures": len(done),
        "seconds": seconds,
        "certificates_per_second": len(done) / seconds,
        "sqlite_seconds": _deleted_by_sqlite(folder / "peer.db", customers, erased),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _identifier(number: int) -> bytes:
    return b"customer-%08d@example.com" % number


def _unit(path: Path, customers: int) -> NodeHome:
    """A unit of so many customers, all of whom consent."""
    source = SourceSettings(path=f"{LOCAL}/customers.csv", format="csv", subject="customer")
    home = NodeHome.create(
        path, NodeSettings(version=1, unit="bench", source=source), policy=shipped("policies/minimal.yaml").read_bytes()
    )
    with (path / source.path).open("wb") as file:
        file.write(b"customer,recency_days,frequency,gross_monetary\n")
        file.writelines(b"%b,12,3,%d.5\n" % (_identifier(number), number) for number in range(customers))
    secret, asked = home.subject_secret, NOW - timedelta(days=1)
    with home.register() as register:
        register.append_events(
            ConsentEvent(
                subject_key(_identifier(number), secret),
                str(Purpose.SEGMENT_STATISTICS),
                "given",
                asked,
                asked,
                NOW + timedelta(days=365),
                1,
            )
            for number in range(customers)
        )
    return home


def _deleted_by_sqlite(path: Path, customers: int, erased: list[bytes]) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("CREATE TABLE customer (id BLOB PRIMARY KEY, a INT, b INT, c REAL) WITHOUT ROWID")
        connection.execute("BEGIN")
        rows = ((_identifier(number), 12, 3, number + 0.5) for number in range(customers))
        connection.executemany("INSERT INTO customer VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        start = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany("DELETE FROM customer WHERE id = ?", [(one,) for one in erased])
        connection.execute("COMMIT")
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
