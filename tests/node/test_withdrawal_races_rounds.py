"""A withdrawal that was recorded before a round's gate holds in that round, however the two come together."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.document import load_policy
from fedseg.policy.purposes import Purpose
from tests.small_federation import consents, make_unit, policy_document

pytestmark = pytest.mark.slow

INTERLEAVINGS = 1000
PURPOSE = str(Purpose.SEGMENT_STATISTICS)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    """A unit where as many customers consent as there are interleavings."""
    unit = make_unit(tmp_path / "unit", "unit", consenting=(), customers=b"", policy=policy_document())
    asked = datetime.now(UTC) - timedelta(days=1)
    with unit.register() as register:
        register.append_events(
            event
            for number in range(INTERLEAVINGS)
            for event in consents(key_of(unit, number), asked, asked + timedelta(days=99))
        )
    return unit


def key_of(home: NodeHome, number: int) -> bytes:
    return subject_key(b"customer-%d" % number, home.subject_secret)


def test_a_withdrawal_before_the_gate_holds_in_that_round_in_a_thousand_interleavings(home: NodeHome) -> None:
    policy, coins = load_policy(home.policy_document()), random.Random(7)
    pauses = [(coins.random() * 4e-3, coins.random() * 4e-3) for _ in range(INTERLEAVINGS)]
    orders: set[tuple[bool, bool]] = set()

    def withdraw(number: int, pause: float, start: threading.Barrier) -> float:
        start.wait()
        time.sleep(pause)
        now = datetime.now(UTC)
        with home.register() as register:
            register.append_events([ConsentEvent(key_of(home, number), PURPOSE, "withdrawn", now, now)])
        return time.monotonic()

    def pass_gate(number: int, pause: float, start: threading.Barrier) -> tuple[float, bool]:
        start.wait()
        time.sleep(pause)
        begun, now = time.monotonic(), datetime.now(UTC)
        with home.register() as register:
            decisions = decide_now(home, register, policy, PURPOSE, now)
        return begun, bool(decisions.allow(pa.array([key_of(home, number)], pa.binary(16)))[0])

    with ThreadPoolExecutor(2) as pool:
        for number, (one, other) in enumerate(pauses):
            start = threading.Barrier(2)
            withdrawal = pool.submit(withdraw, number, one, start)
            begun, counted = pool.submit(pass_gate, number, other, start).result()
            before = withdrawal.result() < begun
            assert not (before and counted), f"interleaving {number}"
            orders.add((before, counted))
    assert {(True, False), (False, True)} <= orders, "the two never came in both orders"
