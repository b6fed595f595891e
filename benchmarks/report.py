"""How long `fedseg report` takes over daily plans of ten units: a year, unless told otherwise, in a process of its own.

The year is made first, by the real code with a clock of its own: that takes minutes, and is no part of the figures.
`seconds` is what somebody waits who types the command, its start included; `cpu_seconds` what its processes compute.
`signature_us` is what one signature takes to check on the same machine at the same time: 0.1 ms and less if it is idle.
Every number of report.json, the page and ledger.csv is then recomputed from the signed entries without fedseg, as
`tests/report` does it for fewer days: `numbers` counts those of the first two, `wrong_numbers` what differs in any.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.output import Row, parser, show
from benchmarks.year import make_year
from fedseg.ledger.keys import SigningKey
from tests.report.recomputed_bundle import Bundle
from tests.report.recomputed_report import (
    Question,
    Recomputed,
    count_numbers,
    document_faults,
    page_faults,
    spreadsheet_faults,
)

PERIOD = "2026"

_SIGNATURES = 2000


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--days", type=int, default=365)
    options.add_argument("--units", type=int, default=10)
    options.add_argument("--year", default=None, help="a bundle made before, or the file to keep it in")
    options.add_argument("--repetitions", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(chosen.year or Path(folder) / "year.zip")
        if not bundle.exists():
            make_year(chosen.days, chosen.units).write(bundle)
        show([_measured(bundle, Path(folder), chosen.repetitions)], chosen.format)


def _measured(bundle: Path, folder: Path, repetitions: int) -> Row:
    waited, computed = list[float](), list[float]()
    for number in range(repetitions):
        before, started = _children(), time.perf_counter()
        command = ["report", "--from", str(bundle), "--period", PERIOD, "--out", str(folder / f"desk-{number}")]
        subprocess.run([sys.executable, "-m", "fedseg", *command], check=True, stdout=subprocess.DEVNULL)
        waited.append(time.perf_counter() - started)
        computed.append(_children() - before)
    return {
        "bundle_mb": round(bundle.stat().st_size / 1e6, 1),
        "cores": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 1),
        "seconds_best": min(waited),
        "seconds_worst": max(waited),
        "cpu_seconds_best": min(computed),
        "signature_us": _signature_seconds() * 1e6,
        "page_kb": round((folder / "desk-0" / "report.html").stat().st_size / 1e3),
        **_recomputed(folder / "desk-0"),
    }


def _recomputed(folder: Path) -> Row:
    """How many numbers a report has, and how many are not what the entries in its bundle give."""
    report = Recomputed(Bundle.read((folder / "bundle.zip").read_bytes()), Question(PERIOD))
    document, page = json.loads((folder / "report.json").read_bytes()), (folder / "report.html").read_text("utf-8")
    spreadsheet = (folder / "ledger.csv").read_text("utf-8")
    wrong = [*document_faults(document, report.document), *page_faults(page, report)]
    return {
        "numbers": count_numbers(document, page),
        "wrong_numbers": len([*wrong, *spreadsheet_faults(spreadsheet, report)]),
    }


def _signature_seconds() -> float:
    key = SigningKey.generate()
    signature, started = key.sign(b"message"), time.perf_counter()
    for _ in range(_SIGNATURES):
        assert key.public.verify(signature, b"message")
    return (time.perf_counter() - started) / _SIGNATURES


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
