"""A round of a large unit, by its customers: time and memory of the whole, and of its two large parts.

`round` is a round of an approved plan as a node answers it, with ledger and noise. `consent` is the gate's part of it,
the decision on everybody in the register, and `pass` all that is done with the rows if everybody is counted; see
`benchmarks/large_unit.py`. Each runs in a process of its own, in turns, and each turn's `round` is another of the plan;
times are the processor's, medians, and memory is the most of any run. Customers have 1.9 events on average.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import large_unit
from benchmarks.output import Row, parser, show

PARTS = ("pass", "consent", "round")


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--customers", default="1000000,5000000")
    options.add_argument(
        "--repetitions", type=int, choices=range(1, 4), default=3, help="as many as the plan has rounds"
    )
    chosen = options.parse_args()
    sizes = map(int, chosen.customers.split(","))
    show([row for size in sizes for row in _measured(size, chosen.repetitions)], chosen.format)


def _measured(customers: int, repetitions: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "unit"
        large_unit.write(home, customers)
        large_unit.give_consent(home, customers)
        taken = [{part: apart(part, home, turn) for part in PARTS} for turn in range(repetitions)]
    for part in PARTS:
        seconds = statistics.median(one[part]["cpu_seconds"] for one in taken)
        yield {
            "customers": customers,
            "what": part,
            "cpu_seconds": seconds,
            "cpu_seconds_per_million": seconds / customers * 1e6,
            "peak_rss_mb": max(one[part]["peak_rss_mb"] for one in taken),
            "of_it_code_mb": max(one[part]["peak_rss_mb_before"] for one in taken),
        }


def apart(part: str, home: Path, step: int = 0) -> Mapping[str, float]:
    """What a part of a round, or the round of this step, takes in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.large_unit", part, str(home), "--step", str(step)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: Mapping[str, float] = json.loads(run.stdout)
    return measured


if __name__ == "__main__":
    main()
