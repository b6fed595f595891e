"""Rows a second of an import of consents, once new and once known, beside bare reading of the same file.

`gate_seconds` is what a round spends on the register: read the events and decide on everybody.
"""

import csv
import itertools
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.output import Row, parser, show
from fedseg.node.consent.intake import import_consents
from fedseg.node.gate import decide_now
from fedseg.node.home import LOCAL, NodeHome, NodeSettings
from fedseg.policy.document import load_policy
from fedseg.policy.purposes import Purpose

POLICY = Path(__file__).parents[1] / "policies" / "minimal.yaml"


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--url", default=None, help="of an empty database for a second register, by its socket")
    options.add_argument("--folder", default=None, help="where to write; a temporary directory by default")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        export = Path(folder) / "export.csv"
        _write_export(export, chosen.events)
        urls = [None] if chosen.url is None else [None, chosen.url]
        show([_measured(Path(folder), export, chosen.events, url) for url in urls], chosen.format)


def _measured(folder: Path, export: Path, events: int, url: str | None) -> Row:
    kept = "file" if url is None else "database"
    settings = {
        "version": 1,
        "unit": "bench",
        "source": {"path": f"{LOCAL}/customers.csv", "format": "csv", "subject": "customer"},
        **({} if url is None else {"register": {"url": url}}),
    }
    home = NodeHome.create(folder / kept, NodeSettings.model_validate(settings), policy=POLICY.read_bytes())
    times, cpu = [time.perf_counter()], [time.process_time()]
    for _ in range(2):
        import_consents(home, export, "canonical-csv", now=datetime.now(UTC))
        times.append(time.perf_counter())
        cpu.append(time.process_time())
    with export.open(encoding="utf-8", newline="") as file:
        read = sum(1 for _ in csv.reader(file))
    times.append(time.perf_counter())
    with home.register() as register:
        policy = load_policy(home.policy_document())
        decided = decide_now(home, register, policy, Purpose.SEGMENT_STATISTICS, datetime.now(UTC))
    times.append(time.perf_counter())
    assert read == len(decided.codes) + 1 == events + 1
    first, again, bare, gate = (after - before for before, after in itertools.pairwise(times))
    return {
        "register": kept,
        "events": events,
        "import_seconds": first,
        "import_cpu_seconds": cpu[1] - cpu[0],  # what it takes where nobody else is at work, less a database's own
        "rows_per_second": events / first,
        "again_rows_per_second": events / again,
        "csv_reader_rows_per_second": events / bare,
        "gate_seconds": gate,
        "register_mb": home.register_file.stat().st_size / 1e6 if url is None else 0.0,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _write_export(path: Path, events: int) -> None:
    heading = (
        "identifier,purpose,kind,event_time,valid_until,notice_version,record_id,notice_uri,notice_language,method"
    )
    rest = "2028-01-01T00:00:00Z,3"
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{heading}\n")
        for number in range(events):
            moment = f"2026-01-{number % 28 + 1:02}T10:{number % 60:02}:00+01:00"
            evidence = f"{number:08x},https://retail.example/notice/3,en,web form"
            file.write(f"customer-{number},{Purpose.SEGMENT_STATISTICS},given,{moment},{rest},{evidence}\n")


if __name__ == "__main__":
    main()
