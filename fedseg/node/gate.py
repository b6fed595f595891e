"""The gate at a unit: consent as of now, less everybody who was erased, decided under the policy in force."""

from datetime import datetime

import pyarrow as pa

from fedseg.node.consent.register import ConsentRegister
from fedseg.node.home import NodeHome
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, fold
from fedseg.policy.document import Policy
from fedseg.policy.gate import Decisions, decide


def decide_now(home: NodeHome, register: ConsentRegister, policy: Policy, purpose: str, now: datetime) -> Decisions:
    """Decide on everybody in the register, and on everybody who was erased: these may not be counted.

    Raises:
        PolicyError: If the policy says nothing about the purpose.
    """
    with home.rights() as rights:
        suppressed = _suppressed_now(rights.suppressed(), now)
    return decide(fold(pa.concat_tables([register.events(purpose), suppressed]), now), policy, purpose, now)


def _suppressed_now(subjects: pa.Array, now: datetime) -> pa.Table:
    """An event of this very moment for each: nothing lifts that, whatever was imported or restored."""
    alike: dict[str, object] = {
        "purpose": EVERY_PURPOSE,
        "kind": "suppressed",
        "event_time": now,
        "recorded_at": now,
        "valid_until": None,
        "notice_version": 0,
    }
    columns = [pa.repeat(pa.scalar(alike[one.name], one.type), len(subjects)) for one in list(EVENT_SCHEMA)[1:]]
    return pa.table([subjects, *columns], schema=EVENT_SCHEMA)
