"""Facts of a made-up unit under the shipped policies, and under names that somebody hostile has chosen."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from fedseg.governance.facts import UnitFacts
from fedseg.policy.document import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = sorted(path.stem for path in POLICIES.glob("*.yaml"))
CONTROLLER = '=HYPERLINK("http://e.example","x")<script>alert(\'1\')</script> **b** [y](javascript:z) `c` &amp; | #'
"""As a policy can hold it: characters that are seen, and no line break."""

FactsOf = Callable[..., UnitFacts]


def facts_under(name: str, *changes: tuple[str, str], **more: Any) -> UnitFacts:
    """Facts under a shipped policy, in whose text each `old` of `changes` is replaced by its `new`."""
    text = (POLICIES / f"{name}.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    terms: dict[str, Any] = {
        "unit": "north",
        "policy": load_policy(text.encode()),
        "source_file": "LOCAL/customers.csv",
        "source_format": "csv",
        "subject_column": "customer",
        "source_columns": {},
        "register_in_database": False,
        "rho_spent": Fraction(0),
        "noise": frozenset({"system"}),
        "policy_in_ledger": True,
    }
    return UnitFacts(**terms | more)


def hostile_facts() -> UnitFacts:
    """Facts in which every name that is free text is an attack on whoever opens the file."""
    quoted = CONTROLLER.replace("'", "''")
    lines = (POLICIES / "minimal.yaml").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("controller:"))
    return facts_under(
        "minimal",
        (line, f"controller: '{quoted}'"),
        source_file="@SUM(A1)\n=1+1\r\n\u202e</p><img src=x onerror=alert(1)>",
        subject_column="+cmd|'/C calc'!A0",
        source_columns={"recency_days": "-1</td><b>x", "frequency": "\uff1d2+5\u200b"},
    )


@pytest.fixture
def hostile() -> UnitFacts:
    return hostile_facts()


@pytest.fixture
def facts_of() -> FactsOf:
    return facts_under
