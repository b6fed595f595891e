"""Releases a second into a unit's ledger, beside the bare flushes of the same disk; and how fast it verifies.

With `--entries`, ledgers of these sizes instead, with a checkpoint an entry: opening, checking, and a proof.
"""

import os
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.output import Row, parser, show
from fedseg.ledger.canonical import Json, sha256_hex
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.entries import Entry, History
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.ledger.store import Ledger
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.mechanism import DiscreteGaussian
from fedseg.privacy.noise import Noise, SystemNoise
from fedseg.privacy.release import ReleaseTicket, release
from fedseg.privacy.sensitive import sum_of_rows
from fedseg.privacy.state import Caps, replay

CELLS, WIDTH = 8, 11
PROOFS = 1000


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--releases", type=int, default=200)
    options.add_argument("--folder", default=None, help="where to write; a temporary directory by default")
    options.add_argument(
        "--entries", default=None, help="sizes of ledgers to check and to prove from, such as 1000,100000"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        if chosen.entries is None:
            rows = [_releases(Path(folder), chosen.releases)]
        else:
            rows = [_size(Path(folder) / size, int(size)) for size in chosen.entries.split(",")]
    show(rows, chosen.format)


def _releases(folder: Path, count: int) -> Row:
    path, key = folder / "ledger.db", SigningKey.generate()
    flushes = _flushes(folder / "flushed")
    with Ledger.create(path, origin="fedseg/unit/bench", key=key, body={"role": "unit", "unit": "bench"}) as ledger:
        account, step_rho = PrivacyAccount(ledger), Fraction(1, 2**20)
        caps = Caps("0" * 64, Fraction(10), Fraction(1, 10**6), {})
        account.adopt_policy(caps, policy_id="bench", document=b"bench")
        terms = PlanTerms("1" * 64, b"plan", "p", [step_rho] * count, source_sha256="3" * 64)
        account.approve(terms, day="2026-01-01")
        mechanism = DiscreteGaussian.calibrated(2**20, step_rho)
        # As in a round: the noise is there before a row is read, and long before the ledger is.
        noises = [Noise.draw(mechanism, CELLS * WIDTH, SystemNoise()) for _ in range(count)]
        start, cpu = time.perf_counter(), time.process_time()
        for step, noise in enumerate(noises):
            _release(account, key, step, noise)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    raw = read_ledger(path)
    check_log(raw, key.public)
    replay(raw.entries)
    verify = time.perf_counter() - start
    return {
        "releases_per_second": count / seconds,
        "fsyncs_per_second": flushes,
        "release_cpu_ms": cpu / count * 1e3,  # two signatures, canonical JSON, SQL: what no disk shortens
        "verify_seconds": verify,
        "entries": len(raw.entries),
    }


def _size(path: Path, entries: int) -> Row:
    """Times of a ledger of so many entries: made of the same parts as any, without a flush for each."""
    key = SigningKey.generate()
    with Ledger.create(path, origin="fedseg/unit/bench", key=key, body={"role": "unit", "unit": "bench"}):
        _fill(path, key, entries)
    start = time.perf_counter()
    Ledger.open(path, key)
    opened, cpu = time.perf_counter(), time.process_time()
    raw = read_ledger(path)
    read = time.perf_counter()
    check_log(raw, key.public)
    checked, cpu = time.perf_counter(), time.process_time() - cpu
    history, rng = raw.history(), random.Random(7)
    grown = time.perf_counter()
    for _ in range(PROOFS):
        history.inclusion_proof(rng.randrange(entries))
    included = time.perf_counter()
    for _ in range(PROOFS):
        history.consistency_proof(rng.randrange(1, entries + 1))
    consistent = time.perf_counter()
    return {
        "entries": entries,
        "megabytes": path.stat().st_size / 1e6,
        "open_seconds": opened - start,
        "read_seconds": read - opened,
        "verify_seconds": checked - opened,
        "verify_cpu_seconds": cpu,  # what it takes where nobody else is at work
        "inclusion_proof_ms": (included - grown) / PROOFS * 1e3,
        "consistency_proof_ms": (consistent - included) / PROOFS * 1e3,
    }


def _fill(path: Path, key: SigningKey, entries: int) -> None:
    """Append releases until there are `entries`, with a checkpoint over each, all in one commit."""
    with closing(sqlite3.connect(path)) as connection:
        (genesis,) = connection.execute("SELECT entry FROM leaf").fetchone()
        history = History().extended([genesis])
        for seq in range(1, entries):
            history = history.with_entries([Entry(seq, "release", _body(seq))])
            note = sign_checkpoint(Checkpoint("fedseg/unit/bench", seq + 1, history.root()), key)
            connection.execute("INSERT INTO leaf (seq, entry) VALUES (?, ?)", (seq, history.last.to_bytes()))
            connection.execute("INSERT INTO checkpoint (size, note) VALUES (?, ?)", (seq + 1, note))
        connection.commit()


def _body(seq: int) -> dict[str, Json]:
    """Fields like those of a release."""
    named = sha256_hex(str(seq).encode())
    return {
        **dict.fromkeys(("release_id", "plan_sha256", "request_sha256", "policy_sha256", "gate_commitment"), named),
        **dict.fromkeys(("step", "cells", "width"), seq),
        **dict.fromkeys(("unit", "rho_spent_after", "noise_source", "neighbouring_relation", "software"), "bench"),
        "lattice": {"count_weight": 1024, "unit": 1024, "energy_weight": 1024},
        "mechanism": {"sigma": 4096, "l2_sensitivity_squared": 3145728},
        "charge": {"rho": "3/32", "delta": "0/1", "formula": "discrete-gaussian-zcdp"},
    }


def _release(account: PrivacyAccount, key: SigningKey, step: int, noise: Noise) -> None:
    rows = np.zeros((1, WIDTH), np.int64)
    statistic = sum_of_rows([(np.zeros(1, np.intp), rows)], cells=CELLS, width=WIDTH, l2_sensitivity_squared=2**20)
    ticket = ReleaseTicket(
        "1" * 64, "bench", 0, step, f"{step:064x}", CELLS, WIDTH, {}, "0" * 64, "2" * 64, "fedseg bench", "2026-01-01"
    )
    release(statistic, noise, account, ticket, key)


def _flushes(path: Path) -> float:
    """Flushes a second of a 4 kB write to the same disk."""
    with path.open("wb") as file:
        start, count = time.perf_counter(), 100
        for _ in range(count):
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
