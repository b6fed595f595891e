"""`make soak`: the long versions of tests and measurements, each with a dated transcript in docs/transcripts/.

Seeds are fixed in the tests and scenarios named here; noise from the system has none, so figures differ between runs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import fedseg

TRANSCRIPTS = Path("docs/transcripts")
PYTEST = (sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider")

RUNS: Mapping[str, tuple[str, ...]] = {
    "kill-matrix": (*PYTEST, "tests/chaos/test_killed_node.py", "-m", "soak"),
    "fuzz": (*PYTEST, "tests/federation/test_wire.py", "tests/fuzz"),
    "unrest": (*PYTEST, "-s", "tests/system/test_unrest.py", "-m", "soak", "-k", "not witnessed"),
    "unrest-witnessed": (*PYTEST, "-s", "tests/system/test_unrest.py", "-m", "soak", "-k", "witnessed"),
    "rollback": (*PYTEST, "-s", "tests/federation/test_rollback_trials.py", "-m", "soak"),
    "noise": (*PYTEST, "tests/privacy", "-m", "slow"),
    "transcript-audit": (*PYTEST, "tests/clustering/test_transcript_audit.py", "-m", "soak"),
    "noise-audit": (*PYTEST, "tests/empirical", "-m", "soak", "-rP", "-k", "not whole_runs"),
    "noise-audit-runs": (*PYTEST, "tests/empirical", "-m", "soak", "-rP", "-k", "whole_runs"),
    "cost-ratio": (
        sys.executable,
        "-m",
        "fedseg",
        "simulate",
        "simulations/online_retail/scenario.toml",
        "--seeds",
        "100",
    ),
    "accuracy": (sys.executable, "-m", "benchmarks.accuracy", "--repetitions", "50"),
    "statistics": (sys.executable, "-m", "benchmarks.statistics", "--rows", "1000000"),
    "large-unit": (sys.executable, "-m", "benchmarks.statistics", "--rows", "20000000", "--from-parquet"),
    "large-round": (sys.executable, "-m", "benchmarks.large_round"),
    "ledger": (sys.executable, "-m", "benchmarks.ledger", "--releases", "500"),
    "ledger-size": (sys.executable, "-m", "benchmarks.ledger", "--entries", "1000,10000,100000"),
    "consent": (sys.executable, "-m", "benchmarks.consent", "--events", "1000000"),
    "erasure": (sys.executable, "-m", "benchmarks.erasure", "--customers", "1000000", "--erasures", "10000"),
    "report": (sys.executable, "-m", "benchmarks.report"),
    "federation": (sys.executable, "-m", "benchmarks.federation", "--turns", "3"),
}


def main() -> int:
    """Run all, or those named; 1 if any failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", choices=[[], *RUNS], help="which runs; all by default")
    failed = [name for name in options.parse_args().names or RUNS if not _run(name)]
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def _run(name: str) -> bool:
    """Run one, and write what it printed."""
    now, started = datetime.now(UTC), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [*RUNS[name], *(("--out", f"{folder}/runs") if "simulate" in RUNS[name] else ())]
        done = subprocess.run(
            command, env=os.environ | {"FEDSEG_SOAK": "1"}, capture_output=True, text=True, check=False
        )
    shown = " ".join(part if part != sys.executable else "python" for part in RUNS[name])
    head = f"fedseg {fedseg.__version__}, {_commit()}, {now:%Y-%m-%d %H:%M} UTC\n$ FEDSEG_SOAK=1 {shown}\n\n"
    tail = f"\nexit {done.returncode} after {time.monotonic() - started:.0f} s\n"
    TRANSCRIPTS.mkdir(parents=True, exist_ok=True)
    path = TRANSCRIPTS / f"{now:%Y-%m-%d}-{name}.txt"
    path.write_text(head + done.stdout + tail, encoding="utf-8")
    print(f"{path}: exit {done.returncode}", flush=True)
    return done.returncode == 0


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"commit {found.stdout.strip()}" if found.returncode == 0 else "no commit"


if __name__ == "__main__":
    sys.exit(main())
