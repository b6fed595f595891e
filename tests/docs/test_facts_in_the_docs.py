"""Numbers and names that the documentation states are those of the shipped data and of the program."""

import csv
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import tomli_w

from fedseg.cli.main import run_command
from fedseg.clustering.bins import BINS
from fedseg.clustering.schedule import INTEGERS_MAX, Kind
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from fedseg.node.home import NodeHome
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.requests import Order, set_vetoes
from fedseg.plan import Plan, parse_plan
from fedseg.policy.rights import Right
from fedseg.privacy.budget import epsilon_of, parse_fraction, shown_epsilon
from fedseg.simulation.data import all_customers, split_units
from fedseg.simulation.runner import RunResult
from fedseg.simulation.scenario import load_scenario
from tests.docs.transcripts import ROOT
from tests.https_endpoint import authority_and_pair
from tests.small_federation import plan_terms

pytestmark = pytest.mark.docs

TUTORIAL = ROOT / "docs/tutorials/first-segments.md"
DEMO = ROOT / "simulations/online_retail/scenario.toml"


def rows(text: str) -> list[list[str]]:
    """The rows of all tables, cell by cell."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_sizes_of_the_demos_units_are_those_of_the_shipped_data() -> None:
    loaded = load_scenario(DEMO)
    customers = all_customers(loaded)
    sizes = {f"`{name}`": f"{part.num_rows:,}" for name, part in split_units(loaded, customers).items()}
    stated = {row[0]: row[-1] for row in rows(TUTORIAL.read_text(encoding="utf-8")) if row[0] in sizes}
    assert stated == sizes
    assert f"| together | | {customers.num_rows:,} |" in TUTORIAL.read_text(encoding="utf-8")


def test_the_recipe_of_the_synthetic_consents_is_that_of_the_scenario() -> None:
    text, recipe = TUTORIAL.read_text(encoding="utf-8"), load_scenario(DEMO).scenario.consent
    assert "The consents are **synthetic**" in text
    assert f"a hash of the number {recipe.seed}" in text
    for state in ("given", "withdrawn", "expired", "never_asked"):
        assert f"| {state.replace('_', ' ')} | {100 * getattr(recipe, state)} % |" in text


def test_the_bets_that_explain_epsilon_are_right() -> None:
    text = TUTORIAL.read_text(encoding="utf-8").partition("## 4. What epsilon means")[2]
    bets = [row for row in rows(text) if re.fullmatch(r"[\d.]+", row[0])]
    assert len(bets) == 5
    for epsilon, times in bets:
        assert int(times.split()[0]) == _wins_at_most(Decimal(epsilon))


def test_the_epsilons_of_caps_are_right() -> None:
    text = (ROOT / "docs/how-to/write-a-policy.md").read_text(encoding="utf-8")
    caps = [row for row in rows(text) if row[0].startswith('`"1/')]
    assert len(caps) == 5
    for cap, epsilon, times in caps:
        found = epsilon_of(parse_fraction(cap.strip('`"')), Fraction(1, 10**6))
        assert shown_epsilon(found) == epsilon
        assert int(times.split()[0]) == _wins_at_most(found)


def _wins_at_most(epsilon: Decimal) -> int:
    """Times in 100, rounded up, that a bet at even odds is won after odds have moved by e^epsilon."""
    return math.ceil(100 / (1 + math.exp(-float(epsilon))))


def test_the_rounds_in_the_reference_are_those_of_a_plan() -> None:
    text = (ROOT / "docs/reference/plan.md").read_text(encoding="utf-8").partition("## Rounds")[2]
    text = text.partition("## Plans for bounds")[0]
    table = [row for row in rows(text) if row[0] in {kind.value for kind in Kind}]
    widths = {"columns + 2": 5, "columns × (columns + 3) / 2": 9, "2 × columns + 1": 7}  # noqa: RUF001 (of three columns)
    for profile, place in (("standard", 2), ("short", 3)):
        plan = plan_of_three_columns(profile)
        assert [(row[0], row[place], widths[row[5]]) for row in table if row[place][0].isdecimal()] == [
            (one.kind.value, f"{100 * one.share} %", terms.width)
            for one, terms in zip(plan.settings.rounds, plan.terms, strict=True)
        ]
        cells = {row[0]: {"1": 1, "k": plan.k}.get(row[4]) for row in table}
        assert all(cells[one.kind.value] in (one.cells, None) for one in plan.settings.rounds)


def test_the_round_of_a_plan_for_bounds_in_the_reference_is_that_of_one() -> None:
    text = (ROOT / "docs/reference/plan.md").read_text(encoding="utf-8").partition("## Plans for bounds")[2]
    (row,) = [row for row in rows(text) if row[0] == Kind.HISTOGRAM.value]
    assert row[2:] == ["100 %", "1", f"{BINS} × columns"]  # noqa: RUF001 (as on the page)
    assert f"At most {INTEGERS_MAX // BINS} columns" in text


def plan_of_three_columns(profile: str) -> Plan:
    """A plan for so many customers that it has all rounds."""
    unit = {"name": "north", "public_key": SigningKey.generate().public.to_text()}
    one = {"label": "a number", "lower": 0, "upper": 1, "missing": 0}
    terms = plan_terms(
        [unit],
        algorithm={"name": "cells", "seed": 1, "expected_customers": 10**6, "profile": profile},
        features=[{"name": name} | one for name in ("a", "b", "c")],
    )
    return parse_plan(tomli_w.dumps(terms).encode())


def test_the_json_of_every_command_has_the_keys_that_are_documented(
    run: RunResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.out)
    text = (ROOT / "docs/how-to/scripting.md").read_text(encoding="utf-8")
    documented = {
        command: re.findall(
            r"`([A-Za-z_0-9]+)`", re.sub(r"\([^)]*\)", "", row[1]).partition("and for")[0].partition("and those")[0]
        )
        for row in rows(text.partition("## What `data` holds")[2].partition("## Exit codes")[0])
        for command in re.findall(r"`(fedseg[^`]*)`", row[0])
    }
    policy = ["nodes/partner-a/policy.yaml"]
    ledger = "nodes/partner-a/ledger.db"
    (run.out / "columns.toml").write_text('visits = "bigint"\n', encoding="utf-8")
    shutil.copytree("nodes/partner-a", "partner-a")
    shutil.copytree("nodes/partner-b", "partner-b")
    Path("partner-b/LOCAL/rights.db").unlink()
    node = ["--node", "partner-a"]
    document = Path("plan.toml").read_text(encoding="utf-8").replace(f'"{run.plan.name}"', '"other"', 1)
    Path("other.toml").write_text(document, encoding="utf-8")
    other = parse_plan(document.encode()).digest
    controller = {**dict.fromkeys(("name", "address", "contact", "withdraw_at"), "x"), "jurisdiction": "loc:DE"}
    (run.out / "controller.toml").write_text(tomli_w.dumps(controller | {"storage_locations": ["loc:DE"]}))
    (run.out / "ids.txt").write_text("C1\n", encoding="utf-8")
    consents = "identifier,purpose,kind,event_time,valid_until\nC1,*,objection,2026-01-01T00:00:00Z,\n"
    (run.out / "consents.csv").write_text(consents, encoding="utf-8")
    (run.out / "checkpoint.txt").write_text(read_ledger(run.out / ledger).notes[-1][1], encoding="utf-8")
    asked = ["--id-file", "ids.txt", "--ticket", "T-1", *node]
    calls: dict[str, Sequence[str]] = {
        "fedseg plan init": ["columns.toml"],
        "fedseg plan check": ["plan.toml"],
        "fedseg plan show": ["plan.toml"],
        "fedseg key new": ["officer.key"],
        "fedseg key show": ["officer.key"],
        "fedseg plan sign": ["plan.toml", "--key", "officer.key"],
        "fedseg approve": ["plan.toml", "--node", "nodes/partner-a", "--dry-run"],
        "fedseg inbox add": ["other.toml", *node],
        "fedseg inbox": node,
        "fedseg inbox show": [other, *node],
        "fedseg deny": [other, *node, "--reason", "no"],
        "fedseg revoke": [run.plan.digest, *node],
        "fedseg key replace": [*node, "--yes"],
        "fedseg policy check": policy,
        "fedseg policy explain": policy,
        "fedseg policy diff": [*policy, *policy],
        "fedseg policy sign": [*policy, "--officer", "ann", "--officer-key", "officer.key"],
        "fedseg policy test": [*policy, "--plan", "plan.toml"],
        "fedseg consent import": ["consents.csv", "--mapping", "canonical-csv", *node],
        "fedseg consent mapping": [],
        "fedseg consent status": node,
        "fedseg consent withdraw": ["--id-file", "ids.txt", *node],
        "fedseg consent receipt": [
            *("--id-file", "ids.txt", "--controller", "controller.toml", "--out", "receipt.jsonld"),
            *node,
        ],
        "fedseg consent records": ["--controller", "controller.toml", "--out", "records.jsonl", *node],
        "fedseg node backup": ["--out", "unit.backup", *node],
        "fedseg node restore": ["unit.backup", *node],
        "fedseg subject init": ["--node", "partner-b", "--yes"],
        "fedseg subject receive": ["access", *asked, "--check-identity"],
        "fedseg subject verified": ["", *node],
        "fedseg subject extend": ["", "--reason", "many requests", *node],
        "fedseg subject deny": ["", "--reason", "other", "--explanation", "no", *node],
        "fedseg subject restrict": asked,
        "fedseg subject object": asked,
        "fedseg subject opt-out": asked,
        "fedseg subject limit": asked,
        "fedseg subject rectify": asked,
        "fedseg subject export": [*asked, "--out", "answer.json"],
        "fedseg subject erase": [*asked, "--yes"],
        "fedseg subject status": node,
        "fedseg subject sweep": node,
        "fedseg subject platform": ["tool", *node],
        "fedseg governance export": [*node, "--out", "paperwork"],
        "fedseg budget show": [ledger],
        "fedseg budget preview": ["other.toml", *node],
        "fedseg budget history": [ledger],
        "fedseg ledger verify": ["server/ledger.db"],
        "fedseg ledger checkpoint": [ledger],
        "fedseg ledger prove": [ledger, "1", "--out", "1.tlog-proof"],
        "fedseg ledger check-proof": ["1.tlog-proof", "--key", read_ledger(run.out / ledger).verifier_key.to_text()],
        "fedseg ledger backup": [ledger, "--out", "backup.db"],
        "fedseg ledger export": [ledger, "--out", "export.txt"],
        "fedseg witness init": ["witness", "--name", "witness.example/w1"],
        "fedseg witness enrol": ["witness", read_ledger(run.out / ledger).verifier_key.to_text()],
        "fedseg witness show": ["witness"],
        "fedseg witness cosign": ["witness", "checkpoint.txt"],
        "fedseg audit bundle": ["--from", ".", "--out", "run.zip"],
        "fedseg audit verify": ["run.zip"],
        "fedseg audit noise": ["--n", "800", "--part", "noise"],
        "fedseg segments show": ["."],
        "fedseg segments describe": ["."],
        "fedseg segments page": ["."],
        "fedseg segments diff": [".", "."],
        "fedseg report": ["."],
        "fedseg explain": ["E401"],
        "fedseg version": [],
    }
    found = {name: _data_keys([*name.split()[1:], *rest], capsys) for name, rest in calls.items()}
    found["fedseg subject certificate"] = _data_keys(
        ["subject", "certificate", _erased_until_tomorrow(Path("partner-a")), "--out", "certificate.json", *node],
        capsys,
    )
    found |= {name: _data_keys([*name.split()[1:], *rest], capsys) for name, rest in _about_recipients("partner-a")}
    # Beside what is its own, the inbox shows what `fedseg approve` does.
    found["fedseg inbox show"] = [key for key in found["fedseg inbox show"] if key == "plan"]
    # A server spends nothing: its ledger's account part is left out of the comparison.
    found["fedseg ledger verify"] = [
        key for key in found["fedseg ledger verify"] if key in documented["fedseg ledger verify"]
    ]
    found["fedseg demo"] = found["fedseg simulate"] = list(run.data())
    swept = ["simulate", str(ROOT / "simulations/blobs/scenario.toml"), "--out", "swept", "--sweep"]
    found["fedseg report --from …"] = _data_keys(["report", "--from", ".", "--out", "desk"], capsys)
    found["fedseg simulate --sweep …"] = _data_keys([*swept, "data.blobs.customers=1500"], capsys)
    assert {name: sorted(one) for name, one in documented.items()} == {name: sorted(one) for name, one in found.items()}


def _about_recipients(unit: str) -> Iterator[tuple[str, list[str]]]:
    """The commands about recipients, each when it can do something."""
    policy, node = Path(unit, "policy.yaml"), ["--node", unit]
    recipient = "recipients:\n  - {id: mailer, kind: processor, endpoint: 'https://localhost:9'}\n"
    policy.write_text(policy.read_text("utf-8") + recipient, "utf-8")
    home = NodeHome.open(Path(unit))
    with (home.path / home.settings.source.path).open(encoding="utf-8") as source:
        row = next(csv.DictReader(source))
    who = row[home.settings.source.subject]
    Path("handed.csv").write_text(f"customer\n{who}\n", "utf-8")
    yield "fedseg subject handed-over", ["--to", "mailer", "--file", "handed.csv", "--column", "customer", *node]
    (request,) = set_vetoes(home, Order([who.encode()], "T-9"), Right.RESTRICTION, datetime.now(UTC))
    ca, certificate, key = authority_and_pair(Path(), ["localhost"])
    signing = ["--domain", "localhost", "--cert", str(certificate), "--key", str(key), "--ca", str(ca)]
    yield "fedseg subject notify", [*signing, *node]
    why = ["--recipient", "mailer", "--because", "impossible", "--explanation", "it is no more"]
    yield "fedseg subject not-told", [request.id, *why, *node]


def _erased_until_tomorrow(unit: Path) -> str:
    """The request of the unit's erasure, once the day is over."""
    home = NodeHome.open(unit)
    log_days(home, datetime.now(UTC) + timedelta(days=1))
    with home.rights() as rights:
        return next(one.request.id for one in rights.requests() if one.request.right is Right.ERASURE)


def _data_keys(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run_command([*arguments, "--format", "json"]) == 0
    return list(json.loads(capsys.readouterr().out)["data"])
