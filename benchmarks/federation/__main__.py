"""Rounds of a deployed federation on one machine, ours beside stock Flower's, both with TLS and registered node keys.

Ours is the whole of it, set up by fedseg's own commands: units read their customers, look up consents, add noise,
charge and log, and the server logs and signs, for all rounds of a plan. Stock Flower carries an 8 by 8 array there and
back as many times. They take turns, so neither waits for the other's processors; every turn sets its federation up
afresh.

One ordinary user runs everything; root becomes one first, in a user namespace.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.federation.measured import (
    Run,
    first_reply_seconds_median,
    round_seconds_median,
    run_seconds_median,
)
from benchmarks.federation.ours import REPLY_SLOT_SECONDS, our_federation
from benchmarks.federation.stock import stock_federation
from benchmarks.output import parser, show
from fedseg.clustering.schedule import Profile


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--nodes", type=int, default=3)
    options.add_argument("--profile", type=Profile, choices=list(Profile), default=Profile.STANDARD, help="of our plan")
    options.add_argument("--turns", type=int, default=2, help="runs of each, by turns")
    chosen = options.parse_args()
    _be_ordinary()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so end all that was started
    ours: list[Run] = []
    stock: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="fedseg-") as folder:
        for turn in range(chosen.turns):
            with our_federation(Path(folder) / f"ours{turn}", chosen.nodes) as federation:
                ours.append(federation.measure(chosen.profile))
            with stock_federation(Path(folder) / f"stock{turn}", chosen.nodes) as theirs:
                stock.append(theirs.measure(len(ours[-1].rounds)))
    round_seconds, stock_round_seconds = round_seconds_median(ours), round_seconds_median(stock)
    show(
        [
            {
                "nodes": chosen.nodes,
                "rounds": sum(len(run.rounds) for run in ours),
                "reply_slot_seconds": REPLY_SLOT_SECONDS,
                "round_seconds_median": round_seconds,
                "stock_flower_round_seconds_median": stock_round_seconds,
                "ratio_to_stock_flower": round_seconds / stock_round_seconds,
                "first_reply_seconds": first_reply_seconds_median(ours),
                "stock_flower_first_reply_seconds": first_reply_seconds_median(stock),
                "run_seconds": run_seconds_median(ours),
                "stock_flower_run_seconds": run_seconds_median(stock),
            }
        ],
        chosen.format,
    )


def _be_ordinary() -> None:
    """Run the benchmark once more as an ordinary user, if this is root: fedseg does not let root run everything."""
    if os.geteuid() == 0:
        ordinary = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        os.execvp(ordinary[0], [*ordinary, sys.executable, "-m", "benchmarks.federation", *sys.argv[1:]])


if __name__ == "__main__":
    main()
