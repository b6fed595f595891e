"""Releases a second into a unit's ledger, beside the bare flushes of the same disk; and how fast it verifies."""

import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.output import parser, show
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.ledger.store import Ledger
from fedseg.privacy.account import Caps, PrivacyAccount, replay
from fedseg.privacy.mechanism import DiscreteGaussian
from fedseg.privacy.noise import Noise, SystemNoise
from fedseg.privacy.release import ReleaseTicket, release
from fedseg.privacy.sensitive import sum_of_rows

CELLS, WIDTH = 8, 11


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--releases", type=int, default=200)
    options.add_argument("--folder", default=None, help="where to write; a temporary directory by default")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        path, key = Path(folder) / "ledger.db", SigningKey.generate()
        flushes = _flushes(Path(folder) / "flushed")
        with Ledger.create(path, origin="fedseg/unit/bench", key=key, body={"role": "unit", "unit": "bench"}) as ledger:
            account, step_rho = PrivacyAccount(ledger), Fraction(1, 2**20)
            caps = Caps("0" * 64, Fraction(10), Fraction(1, 10**6), {})
            account.adopt_policy(caps, policy_id="bench", document=b"bench")
            account.approve(
                "1" * 64,
                purpose="p",
                step_rhos=[step_rho] * chosen.releases,
                document=b"plan",
                source_sha256="3" * 64,
                approved_at="2026-01-01",
            )
            start = time.perf_counter()
            for step in range(chosen.releases):
                _release(account, key, step, step_rho)
            seconds = time.perf_counter() - start
        start = time.perf_counter()
        raw = read_ledger(path)
        check_log(raw, key.public)
        replay(raw.entries)
        verify = time.perf_counter() - start
    show(
        [
            {
                "releases_per_second": chosen.releases / seconds,
                "fsyncs_per_second": flushes,
                "verify_seconds": verify,
                "entries": len(raw.entries),
            }
        ],
        chosen.format,
    )


def _release(account: PrivacyAccount, key: SigningKey, step: int, rho: Fraction) -> None:
    mechanism = DiscreteGaussian.calibrated(2**20, rho)
    rows = np.zeros((1, WIDTH), np.int64)
    statistic = sum_of_rows([(np.zeros(1, np.intp), rows)], cells=CELLS, width=WIDTH, l2_sensitivity_squared=2**20)
    ticket = ReleaseTicket("1" * 64, "bench", 0, step, f"{step:064x}", CELLS, WIDTH, {}, "0" * 64, "2" * 64, "bench")
    release(statistic, Noise.draw(mechanism, CELLS * WIDTH, SystemNoise()), account, ticket, key)


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
