"""Every benchmark runs, and prints the rows it promises. What it measures is nobody's promise."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

SMALL = {
    "accuracy": ("--data", "retail", "--epsilon", "2", "--algorithms", "fedseg,dp-lloyd", "--repetitions", "2"),
    "quality": ("--families", "sep", "--epsilon", "2", "--repetitions", "1"),
    "statistics": ("--rows", "4000", "--repetitions", "1"),
    "ledger": ("--releases", "5"),
    "report": ("--days", "3", "--units", "2", "--repetitions", "1"),
    "planner": ("--data", "sep-5k-d20-k16", "--epsilon", "2", "--repetitions", "1"),
    "large_round": ("--customers", "2000", "--repetitions", "1"),
    "consent": ("--events", "2000"),
    "erasure": ("--customers", "500", "--erasures", "5"),
    "federation": ("--nodes", "2", "--profile", "short", "--turns", "1"),
}

KEYS = {
    "accuracy": {"data", "n", "d", "k", "units", "trust", "epsilon", "algorithm", "cost_ratio_median", "repetitions"},
    "quality": {"table", "family", "epsilon", "noises"},
    "statistics": {"source", "n", "d", "k", "rows_per_second", "cpu_ratio_to_sklearn", "peak_rss_mb"},
    "planner": {"data", "signal", "excess_predicted", "excess_measured", "within", "mean_half_width_measured"},
    "report": {"bundle_mb", "seconds_best", "seconds_worst", "cpu_seconds_best", "page_kb"},
    "ledger": {"releases_per_second", "fsyncs_per_second", "verify_seconds", "entries"},
    "large_round": {"customers", "what", "cpu_seconds", "peak_rss_mb", "of_it_code_mb"},
    "consent": {
        "register",
        "events",
        "rows_per_second",
        "again_rows_per_second",
        "csv_reader_rows_per_second",
        "gate_seconds",
    },
    "erasure": {"customers", "erasures", "seconds", "sqlite_seconds"},
    "federation": {"round_seconds_median", "stock_flower_round_seconds_median", "run_seconds", "nodes"},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_the_rows_it_promises(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name], "--format", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(run.stdout)["rows"]
    assert rows
    assert all(set(row) >= KEYS[name] for row in rows)


def test_the_benchmark_of_statistics_measures_a_pass_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "benchmarks.statistics", "--rows", "2000", "--from-parquet", "--format", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (passed,) = json.loads(run.stdout)["rows"]
    assert (passed["source"].removesuffix("-numba"), passed["n"]) == ("parquet-pass", 2000)
    assert passed["peak_rss_mb"] >= passed["beyond_code_mb"] > 0


def test_the_benchmark_of_ledgers_prints_a_row_for_each_size() -> None:
    command = [sys.executable, "-m", "benchmarks.ledger", "--entries", "1,300", "--format", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(run.stdout)["rows"]
    assert [row["entries"] for row in rows] == [1, 300]
    timed = {"open_seconds", "verify_seconds", "inclusion_proof_ms", "consistency_proof_ms"}
    assert all(set(row) >= timed for row in rows)
