"""A large unit's round, whole and in parts, each measured in a process of its own that has nothing else in memory.

    python -m benchmarks.large_unit write FOLDER --rows N     a unit with a Parquet file, written a row group at a time
    python -m benchmarks.large_unit give FOLDER --rows N      one to three events for each customer in the register
    python -m benchmarks.large_unit pass FOLDER               a round's statistic of everybody in the file
    python -m benchmarks.large_unit consent FOLDER            the gate's decision on everybody in the register
    python -m benchmarks.large_unit round FOLDER --step 0     a round of an approved plan: all that a unit does for one

`pass` reads, hashes identifiers, encodes, keeps one row a customer, assigns, clips and sums: all that a unit does for a
round, but without the decision on who may be counted, which `consent` makes, and without ledger and noise. Each prints
seconds, those of the processor, and the most memory of the process. A step that was answered before is not a round any
more: its stored answer comes back at once.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tomli_w

from benchmarks.output import Row
from fedseg.clustering.encode import encode
from fedseg.clustering.features import FEATURE_MAX, NumericFeature
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.clustering.statistics import summarize
from fedseg.node.contribute import contribute
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome, NodeSettings
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.plan import caps_of, parse_plan
from fedseg.policy import gate
from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent
from fedseg.policy.document import load_policy
from fedseg.policy.gate import ConsentedTable, Decisions
from fedseg.privacy.account import PlanTerms, PrivacyAccount, day_of
from fedseg.privacy.noise import SystemNoise
from tests.small_federation import plan_terms, policy_document, some_request

PURPOSE = "fedseg:SegmentStatistics"
LATTICE = Lattice(Statistic.CELLS, unit=2**20, count_weight=2**19, energy_weight=2**17)
FEATURES = tuple(NumericFeature(f"x{place}", 0, 1000, 0) for place in range(10))
CELLS = 8
GROUP_ROWS = 2**20
"""Rows of a row group: what PyArrow writes unless told otherwise."""

TWICE = 100
"""One customer in so many has two rows."""
WITHDRAWN = 3
"""Numbers of customers who have withdrawn end with this digit."""


def main() -> None:
    """Do one of them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["write", "give", *MEASURED])
    options.add_argument("folder", type=Path)
    options.add_argument("--rows", type=int, default=20_000_000)
    options.add_argument("--step", type=int, default=0)
    chosen = options.parse_args()
    if chosen.what in WRITTEN:
        WRITTEN[chosen.what](chosen.folder, chosen.rows)
        return
    home, measured = NodeHome.open(chosen.folder), MEASURED[chosen.what]
    print(json.dumps(_measured(lambda: measured(home, chosen.step))))


def write(folder: Path, rows: int) -> None:
    """A unit of so many rows, some of them of the same customer."""
    document = policy_document(columns=[one.name for one in FEATURES])
    source = SourceSettings(path="LOCAL/customers.parquet", format="parquet", subject="customer")
    home = NodeHome.create(folder, NodeSettings(version=1, unit="bench", source=source), policy=document)
    _approve(home)
    coins = np.random.default_rng(3)
    schema = pa.schema([("customer", pa.string()), *((one.name, pa.float64()) for one in FEATURES)])
    with pq.ParquetWriter(home.path / source.path, schema) as file:
        for start in range(0, rows, GROUP_ROWS):
            numbers = np.arange(start, min(rows, start + GROUP_ROWS))
            numbers[numbers % TWICE == 0] -= 1  # the customer of the row before
            names = pc.binary_join_element_wise("c", pa.array(numbers).cast(pa.string()), "")
            values = [pa.array(coins.uniform(0, 1000, len(numbers))) for _ in FEATURES]
            file.write_table(pa.table([names, *values], schema=schema), row_group_size=GROUP_ROWS)


def _approve(home: NodeHome) -> None:
    """Approve the plan, without the dry run that would come before."""
    document = home.policy_document()
    policy, agreed = load_policy(document), _plan_document(home)
    plan = parse_plan(agreed)
    attested = plan.max_units_to_attest
    terms = PlanTerms(
        plan.digest, agreed, plan.purpose, plan.step_rhos, home.source_sha256, max_units_attested=attested
    )
    with home.ledger() as ledger:
        account = PrivacyAccount(ledger)
        account.adopt_policy(caps_of(policy), policy_id=policy.id, document=document)
        account.approve(terms, day=day_of(datetime.now(UTC)))


def _plan_document(home: NodeHome) -> bytes:
    features = [
        {"name": one.name, "label": one.name, "lower": one.lower, "upper": one.upper, "missing": one.missing}
        for one in FEATURES
    ]
    units = [{"name": home.settings.unit, "public_key": home.key.public.to_text()}]
    return tomli_w.dumps(plan_terms(units, features=features)).encode()


def give_consent(folder: Path, customers: int) -> None:
    """For each customer one to three events of the register: a consent, a notice, a withdrawal by one in ten."""
    home, now = NodeHome.open(folder), datetime.now(UTC)
    day = timedelta(days=1)
    given_at, told_at, ended_at = now - 3 * day, now - 2 * day, now - day

    def said() -> Iterator[ConsentEvent]:
        # In the order of their keys, as the register stores them: in any other, writing them takes many times as long.
        for key, number in sorted((subject_key(b"c%d" % one, home.subject_secret), one) for one in range(customers)):
            yield ConsentEvent(key, PURPOSE, "given", given_at, given_at, now + 9 * day, 1)
            if number % 2:
                yield ConsentEvent(key, PURPOSE, "notice_given", told_at, told_at, None, 1)
            if number % 10 == WITHDRAWN:
                yield ConsentEvent(key, PURPOSE, "withdrawn", ended_at, ended_at)
            elif number % 10 < WITHDRAWN:
                yield ConsentEvent(key, EVERY_PURPOSE, "jurisdiction_eea", told_at, told_at)

    with home.register() as register:
        register.append_events(said())


class _Everybody:
    """Stands where decisions stand, and needs no memory for them: everybody may be counted who has a key."""

    purpose, policy_digest = PURPOSE, ""

    def allow(self, subjects: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whoever has a key."""
        return cast("np.ndarray[tuple[int], np.dtype[np.bool_]]", subjects.is_valid().to_numpy(zero_copy_only=False))


def _one_pass(home: NodeHome, _step: int) -> None:
    table = open_source(home, [one.column for one in FEATURES])
    everybody = ConsentedTable(table.columns, table, cast("Decisions", _Everybody()), gate._MINT)  # noqa: SLF001
    centers = np.random.default_rng(4).integers(-FEATURE_MAX, FEATURE_MAX, (CELLS, len(FEATURES)), dtype=np.int32)
    request = RoundRequest(0, centers, np.full(CELLS, FEATURE_MAX // 2, np.int32))
    summarize(encode(everybody, FEATURES, home.path), request, LATTICE)


def _decided(home: NodeHome, _step: int) -> None:
    with home.register() as register:
        decide_now(home, register, load_policy(home.policy_document()), PURPOSE, datetime.now(UTC))


def _round(home: NodeHome, step: int) -> None:
    plan = parse_plan(_plan_document(home))
    request = some_request(plan, step)
    asked = request_sha256(plan.digest, request)
    contribute(home, plan.digest, request, asked, now=datetime.now(UTC), source=SystemNoise())


WRITTEN: Final = {"write": write, "give": give_consent}
MEASURED: Final = {"pass": _one_pass, "consent": _decided, "round": _round}


def _measured(run: Callable[[], None]) -> Row:
    before, start, began = _peak_mb(), time.process_time(), time.perf_counter()
    run()
    seconds = time.process_time() - start
    return {
        "seconds": time.perf_counter() - began,
        "numba": int(find_spec("numba") is not None),
        "cpu_seconds": seconds,
        "peak_rss_mb": _peak_mb(),
        "peak_rss_mb_before": before,
    }


def _peak_mb() -> int:
    """Most resident memory of this process; `getrusage` would count what it was forked from, too."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return round(int(peak) / 1024)


if __name__ == "__main__":
    main()
