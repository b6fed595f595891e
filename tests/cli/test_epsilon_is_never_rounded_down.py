"""Whatever epsilon a command prints, as text or in JSON, is at least the exact bound: rounding never promises more."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from fedseg.cli.main import run_command
from fedseg.errors import PlanError
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.plan import parse_plan
from fedseg.policy.document import RHO_CAP_MAX
from fedseg.privacy.budget import epsilon_of, fraction_text
from tests.forged_ledger import Forgery, approval_line, policy_line, release_line
from tests.small_federation import SmallFederation, make_federation, plan_terms, policy_document

NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
DELTA = Fraction(1, 10**6)
EXAMPLES = 20
UNIT_KEY = SigningKey.generate()
PRINTED_WIDTH = Fraction(102, 100)
"""Three digits, rounded up: no printed epsilon is more than a hundredth above the bound, or the test would prove little."""

caps = st.fractions(min_value=Fraction(1, 10**6), max_value=RHO_CAP_MAX, max_denominator=10**9)
deltas = st.sampled_from([DELTA, Fraction(1, 10**9), Fraction(3, 10**7), Fraction(1, 10**17)])
epsilons = st.fractions(min_value=Fraction(1, 10), max_value=20, max_denominator=10**12)


def capped(rho: Fraction, delta: Fraction = DELTA) -> bytes:
    document = policy_document(rho_cap=fraction_text(rho))
    return document.replace(b'delta: "1/1000000"', f'delta: "{fraction_text(delta)}"'.encode())


def text_of(*arguments: object) -> str:
    """What a command prints when all is well."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run_command([str(one) for one in arguments]) == 0
    return out.getvalue()


def json_of(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of(*arguments, "--format", "json"))["data"]
    return found


def printed(pattern: str, text: str) -> Fraction:
    found = re.search(pattern, text)
    assert found is not None, text
    return Fraction(found[1])


def require_bound(shown: str | float | Fraction, exact: Decimal | Fraction) -> None:
    """At least the bound to the last bit; and close to it."""
    # A float's own value, not the shorter text that reads back as it: scripts calculate with the former.
    assert Fraction(exact) <= Fraction(shown) <= Fraction(exact) * PRINTED_WIDTH


# A unit's budget


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledgers")


def plan_document(epsilon: Fraction, delta: Fraction, keys: Mapping[str, PublicKey], **changes: Any) -> bytes:
    """A plan for these units; examples whose budget fits no lattice are passed over."""
    units = [{"name": name, "public_key": key.to_text()} for name, key in keys.items()]
    budget = {"epsilon": fraction_text(epsilon), "delta": fraction_text(delta)}
    document = tomli_w.dumps(plan_terms(units, budget=budget, **changes)).encode()
    try:
        parse_plan(document)
    except PlanError:
        reject()
    return document


@dataclass(frozen=True)
class Account:
    """A ledger and the exact epsilons it means."""

    path: Path
    spent: Decimal
    reserved: Decimal
    cap: Decimal


def account_of(folder: Path, cap: Fraction, delta: Fraction, epsilon: Fraction, answered: int) -> Account:
    """A unit with this cap, a plan of this epsilon approved if it fits, and some of its rounds answered."""
    path = folder / "ledger.db"
    path.unlink(missing_ok=True)
    document = plan_document(epsilon, delta, {"north": UNIT_KEY.public})
    plan = parse_plan(document)
    forged = Forgery(
        "fedseg/unit/north", UNIT_KEY, {"role": "unit", "unit": "north"}, [policy_line(capped(cap, delta))]
    )
    spent = reserved = Fraction(0)
    if sum(plan.step_rhos) <= cap:
        forged.lines.append(approval_line(plan, document, capped(cap, delta)))
        reserved = sum(plan.step_rhos, Fraction(0))
        for step in range(answered):
            line = release_line(plan, "north", step, policy=capped(cap, delta), key=UNIT_KEY, spent_before=spent)
            forged.lines.append(line)
            spent += plan.step_rhos[step]
    forged.write(path)
    return Account(path, *(epsilon_of(rho, delta) for rho in (spent, reserved, cap)))


accounts = given(cap=caps, delta=deltas, epsilon=epsilons, answered=st.integers(0, 3))
quick = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.filter_too_much])
a_tenth = example(cap=Fraction(1, 10), delta=DELTA, epsilon=Fraction(2), answered=1)
a_lot = example(cap=Fraction(RHO_CAP_MAX), delta=Fraction(1, 10**17), epsilon=Fraction(20), answered=3)


@quick
@accounts
@a_tenth
@a_lot
def test_budget_show_rounds_up(ledgers: Path, cap: Fraction, delta: Fraction, epsilon: Fraction, answered: int) -> None:
    account = account_of(ledgers, cap, delta, epsilon, answered)
    text, data = text_of("budget", "show", account.path), json_of("budget", "show", account.path)
    rows = {"spent so far": account.spent, "reserved by approved plans": account.reserved}
    for name, exact in (rows | {"cap of one customer": account.cap}).items():
        require_bound(printed(rf"{name} +\S+ +{NUMBER}\n", text), exact)
    require_bound(printed(rf"guarantee is epsilon {NUMBER} ", text), account.cap)
    for name, exact in (("spent", account.spent), ("reserved", account.reserved), ("at_cap", account.cap)):
        require_bound(data[f"epsilon_{name}"], exact)
    require_bound(data["epsilon_guaranteed"], account.cap)


@quick
@accounts
@a_tenth
@a_lot
def test_ledger_verify_rounds_up(
    ledgers: Path, cap: Fraction, delta: Fraction, epsilon: Fraction, answered: int
) -> None:
    account = account_of(ledgers, cap, delta, epsilon, answered)
    text, data = text_of("ledger", "verify", account.path), json_of("ledger", "verify", account.path)
    require_bound(printed(rf"epsilon at the cap {NUMBER} ", text), account.cap)
    for name, exact in (("spent", account.spent), ("reserved", account.reserved), ("at_cap", account.cap)):
        require_bound(data[f"epsilon_{name}"], exact)
    require_bound(data["epsilon_guaranteed"], account.cap)


@settings(max_examples=EXAMPLES // 2)
@given(share=st.fractions(min_value=Fraction(1, 1000), max_value=Fraction(999, 1000), max_denominator=1000))
def test_a_cap_lowered_below_what_was_spent_never_lowers_the_guarantee(ledgers: Path, share: Fraction) -> None:
    path = ledgers / "lowered.db"
    path.unlink(missing_ok=True)
    document = plan_document(Fraction(4), DELTA, {"north": UNIT_KEY.public})
    plan = parse_plan(document)
    before, lowered = capped(Fraction(4)), capped(sum(plan.step_rhos, Fraction(0)) * share)
    lines = [policy_line(before), approval_line(plan, document, before)]
    spent = Fraction(0)
    for step, rho in enumerate(plan.step_rhos):
        lines.append(release_line(plan, "north", step, policy=before, key=UNIT_KEY, spent_before=spent))
        spent += rho
    lines.append(policy_line(lowered, place=6))
    Forgery("fedseg/unit/north", UNIT_KEY, {"role": "unit", "unit": "north"}, lines).write(path)
    exact = epsilon_of(spent, DELTA)
    text = text_of("budget", "show", path)
    require_bound(printed(rf"guarantee is epsilon {NUMBER} ", text), exact)
    assert "what was spent before the cap was lowered" in text
    require_bound(json_of("budget", "show", path)["epsilon_guaranteed"], exact)


# Before approval


@pytest.fixture(scope="module")
def approving(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """A unit that has approved a plan; the second, which is only looked at, is the test's."""
    folder = tmp_path_factory.mktemp("approving") / "federation"
    return make_federation(folder, {"north": 20}, policy=capped(Fraction(RHO_CAP_MAX))).approve_all()


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.filter_too_much])
@given(cap=caps, epsilon=epsilons)
@example(cap=Fraction(4), epsilon=Fraction(1, 3))
def test_approve_rounds_up(approving: SmallFederation, cap: Fraction, epsilon: Fraction) -> None:
    home, first = approving.home("north"), sum(approving.plan.step_rhos, Fraction(0))
    document = plan_document(epsilon, DELTA, {"north": home.key.public}, name="second")
    price = sum(parse_plan(document).step_rhos, Fraction(0))
    cap = max(cap, first + price)
    (home.path / "policy.yaml").write_bytes(capped(cap))
    path = approving.path / "second.toml"
    path.write_bytes(document)
    command = ["approve", path, "--node", home.path, "--dry-run"]
    text, data = text_of(*command), json_of(*command)
    exact = {"before": first, "after": first + price, "at_cap": cap}
    for name, rho in exact.items():
        require_bound(data[f"epsilon_{name}"], epsilon_of(rho, DELTA))
    said = re.search(rf"epsilon at this unit {NUMBER} before, {NUMBER} after, {NUMBER} at the cap", text)
    assert said is not None
    for number, rho in zip(said.groups(), exact.values(), strict=True):
        require_bound(number, epsilon_of(rho, DELTA))


# Plans


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.filter_too_much])
@given(epsilon=epsilons, delta=deltas)
@example(epsilon=Fraction(1, 3), delta=DELTA)
@example(epsilon=Fraction(20000004999, 10000000000), delta=DELTA)
def test_plan_show_rounds_up(ledgers: Path, epsilon: Fraction, delta: Fraction) -> None:
    document = plan_document(epsilon, delta, {"north": UNIT_KEY.public, "south": SigningKey.generate().public})
    plan, path = parse_plan(document), ledgers / "plan.toml"
    path.write_bytes(document)
    text, data = text_of("plan", "show", path), json_of("plan", "show", path)
    spent = Fraction(0)
    rows = re.findall(rf"^ +[0-9]+ .* {NUMBER}$", text, re.MULTILINE)
    assert len(rows) == plan.rounds
    for step, rho, row in zip(data["steps"], plan.step_rhos, rows, strict=True):
        spent += rho
        require_bound(step["epsilon_at_unit_after"], epsilon_of(spent, delta))
        require_bound(row, epsilon_of(spent, delta))
    require_bound(data["epsilon_at_unit"], epsilon_of(spent, delta))
    require_bound(data["epsilon"], epsilon)
    require_bound(printed(rf"in one unit loses at most epsilon {NUMBER};", text), epsilon_of(spent, delta))
    require_bound(printed(rf"together at most {NUMBER},", text), epsilon)


@pytest.mark.parametrize("show", [text_of, json_of])
def test_a_unit_without_a_policy_has_no_epsilon_to_show(ledgers: Path, show: Callable[..., object]) -> None:
    path = ledgers / "empty.db"
    path.unlink(missing_ok=True)
    Forgery("fedseg/unit/north", UNIT_KEY, {"role": "unit", "unit": "north"}).write(path)
    assert "epsilon_spent" not in str(show("budget", "show", path))
