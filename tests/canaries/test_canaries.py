"""Planted customers are seen nowhere outside their unit: no value, no identifier, no pseudonym, no exact count."""

import base64
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedseg.clustering.request import REQUEST_MAGIC
from fedseg.federation.wire import encode_unavailable
from fedseg.node.home import LOCAL
from tests.canaries.conftest import (
    COUNT,
    IDENTIFIER,
    VALUE,
    Federation,
    Seen,
    owner_only,
    without_local,
    write_customers,
)
from tests.small_scenario import POLICY

pytestmark = pytest.mark.processes


def test_the_search_finds_what_is_inside_local(federation: Federation) -> None:
    inside = {name for path in federation.files(local=True) for name in federation.canaries.found_in(path.read_bytes())}

    assert inside >= {"identifier", "value", "pseudonym"}
    assert "count" in federation.canaries.found_in("\n".join(federation.seen.local_lines()).encode())


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_finds_each_canary_in_each_form(before: str, federation: Federation) -> None:
    canaries = federation.canaries
    for secret, name in ((IDENTIFIER.encode(), "identifier"), (canaries.pseudonym, "pseudonym")):
        whole = before.encode() + secret + b"after"
        for written in (whole, whole.hex().encode(), base64.b64encode(whole), base64.urlsafe_b64encode(whole)):
            assert any(found.startswith(name) for found in canaries.found_in(written))
    for text in (f"{before} 3917", f"{before}\t3,917.", '{"size":3917}', "(3_917)", "3917"):
        assert canaries.found_in(text.encode()) == ["count"]
        assert canaries.found_in(b"\0\xff some text: " + text.encode() + b" and more \0") == ["count"]
    for innocent in ("a3917", "13917", "3917.5", "39170", "x3917=", "0.3917"):
        assert canaries.found_in(innocent.encode()) == []


def test_no_file_outside_local_holds_a_canary(federation: Federation) -> None:
    files = federation.files(local=False)
    names = {path.name for path in files}

    assert names >= {"report.html", "report.json", "segmentation.json", "metrics.json", "plan.toml", "north.txt"}
    assert {path: found for path in files if (found := federation.canaries.found_in(path.read_bytes()))} == {}


def test_no_row_of_any_ledger_holds_a_canary(federation: Federation) -> None:
    rows = list(federation.ledger_rows())

    assert len(rows) > 50
    assert [(path, found) for path, cell in rows if (found := federation.canaries.found_in(cell))] == []


def test_no_released_integer_is_the_exact_count(federation: Federation) -> None:
    exact = [COUNT.to_bytes(8, order) for order in ("little", "big")]
    payloads = [cell for _, cell in federation.ledger_rows()] + federation.seen.messages

    assert not any(one in data for one in exact for data in payloads)


def test_no_message_between_server_and_units_holds_a_canary(federation: Federation) -> None:
    messages = federation.seen.messages

    assert len(messages) == 3 * 2 * 2
    assert [found for one in messages if (found := federation.canaries.found_in(one))] == []


def test_no_printed_line_but_those_marked_local_holds_a_canary(federation: Federation) -> None:
    canaries = federation.canaries

    assert [(command, line) for command, line in federation.seen.lines() if canaries.found_in(line.encode())] == []


def test_no_log_record_at_any_level_holds_a_canary(federation: Federation) -> None:
    logged = federation.seen.logged

    assert any("round.closed" in one for one in logged)
    assert [one for one in logged if federation.canaries.found_in(one.encode())] == []


def test_json_for_the_unit_keeps_exact_counts_under_local(federation: Federation) -> None:
    command = ["approve", "run/plan.toml", "--node", "run/nodes/north", "--dry-run", "--format", "json"]
    assert federation.fedseg(*command) == 0
    text = federation.seen.printed.pop(" ".join(command))

    assert federation.canaries.found_in(text.encode()) == ["count"]
    assert federation.canaries.found_in(without_local(text).encode()) == []


def test_what_is_local_is_its_owners_alone(federation: Federation) -> None:
    directories = [path for path in federation.run.rglob(LOCAL) if path.is_dir()]

    assert len(directories) == 2
    assert all(map(owner_only, directories))


# Each way to fail, with the planted customers in the data: nothing of them in what is said about it.


def text_in_a_numeric_column(federation: Federation) -> list[object]:
    _customers(federation, f"{IDENTIFIER},{IDENTIFIER} {VALUE},{COUNT} of us")
    return _approve()


def value_with_a_thousands_separator(federation: Federation) -> list[object]:
    _customers(federation, f'{IDENTIFIER},21.5,"{VALUE:,}"')
    return _approve()


def missing_column(federation: Federation) -> list[object]:
    file = _customers(federation)
    file.write_text(file.read_text().replace("visits", "visit", 1))
    return _approve()


def file_without_a_header(federation: Federation) -> list[object]:
    _customers(federation).write_text(f"{IDENTIFIER},21.5,{VALUE}\n{COUNT},1,2\n")
    return _approve()


def file_with_a_broken_first_line(federation: Federation) -> list[object]:
    _customers(federation).write_text(f'"{IDENTIFIER},21.5,{VALUE}\n{COUNT},1,2\n')
    return _approve()


def file_that_is_not_there(federation: Federation) -> list[object]:
    _customers(federation).unlink()
    return _approve()


def file_that_is_no_parquet(federation: Federation) -> list[object]:
    settings = federation.home / "node.toml"
    settings.write_text(settings.read_text().replace('format = "csv"', 'format = "parquet"'))
    return _approve()


def cohort_below_the_minimum(federation: Federation) -> list[object]:
    (federation.home / "policy.yaml").write_text(POLICY.replace("min_cohort: 20", f"min_cohort: {COUNT + 83}"))
    return _approve()


def budget_exceeded(federation: Federation) -> list[object]:
    (federation.home / "policy.yaml").write_text(POLICY.replace('rho_cap: "1/10"', 'rho_cap: "1/1000"'))
    return _approve()


def nobody_consented(federation: Federation) -> list[object]:
    _customers(federation).write_text(f"customer,visits,spend\n{IDENTIFIER}-2,21.5,{VALUE}\n")
    return _approve()


def damaged_register(federation: Federation) -> list[object]:
    register = federation.home / LOCAL / "register.db"
    whole = register.read_bytes()
    register.write_bytes(whole[: len(whole) // 2])
    return _approve()


def foreign_register(federation: Federation) -> list[object]:
    (federation.home / LOCAL / "register.db").write_bytes(IDENTIFIER.encode() * 1000)
    return _approve()


def tampered_ledger(federation: Federation) -> list[object]:
    ledger = federation.home / "ledger.db"
    ledger.write_bytes(ledger.read_bytes().replace(b"release", b"Release"))
    return ["ledger", "verify", "run/nodes/north/ledger.db", "--debug"]


def plan_that_is_not_the_agreed_one(_: Federation) -> list[object]:
    return [*_approve(), "--id", "0" * 64]


def customers_file_instead_of_a_plan(_: Federation) -> list[object]:
    return ["plan", "check", "run/nodes/north/LOCAL/customers.csv", "--debug"]


def customers_file_instead_of_a_policy(_: Federation) -> list[object]:
    return ["policy", "check", "run/nodes/north/LOCAL/customers.csv", "--debug"]


def customers_file_instead_of_a_ledger(_: Federation) -> list[object]:
    return ["ledger", "verify", "run/nodes/north/LOCAL/customers.csv", "--debug"]


def customers_file_instead_of_segments(_: Federation) -> list[object]:
    return ["segments", "show", "run/nodes/north/LOCAL/customers.csv", "--debug"]


def customers_file_instead_of_a_scenario(_: Federation) -> list[object]:
    return ["simulate", "run/nodes/north/LOCAL/customers.csv", "--out", "other", "--debug"]


def scenario_with_text_among_its_numbers(federation: Federation) -> list[object]:
    customers = federation.folder / "customers.csv"
    customers.write_text(customers.read_text().replace(f"{VALUE}", f"{VALUE}{IDENTIFIER}"))
    return ["simulate", "scenario.toml", "--out", "other", "--debug"]


def scenario_with_a_broken_line(federation: Federation) -> list[object]:
    customers = federation.folder / "customers.csv"
    customers.write_text(customers.read_text().replace(f"{VALUE}", f"{VALUE},{COUNT},{IDENTIFIER}"))
    return ["simulate", "scenario.toml", "--out", "other", "--debug"]


FAILURES = [
    text_in_a_numeric_column, value_with_a_thousands_separator, missing_column, file_without_a_header,
    file_with_a_broken_first_line, file_that_is_not_there, file_that_is_no_parquet, cohort_below_the_minimum,
    budget_exceeded, nobody_consented, damaged_register, foreign_register, tampered_ledger,
    plan_that_is_not_the_agreed_one, customers_file_instead_of_a_plan, customers_file_instead_of_a_policy,
    customers_file_instead_of_a_ledger, customers_file_instead_of_segments, customers_file_instead_of_a_scenario,
    scenario_with_text_among_its_numbers, scenario_with_a_broken_line,
]  # fmt: skip


def _approve() -> list[object]:
    return ["approve", "run/plan.toml", "--node", "run/nodes/north", "--yes", "--debug"]


def _customers(federation: Federation, line: str = "") -> Path:
    """The unit's customers file, with one more line."""
    file = federation.home / LOCAL / "customers.csv"
    file.write_text(file.read_text() + line + "\n")
    return file


@pytest.mark.parametrize("arrange", FAILURES, ids=lambda one: one.__name__.replace("_", "-"))
def test_no_error_says_anything_about_a_customer(
    arrange: Callable[[Federation], list[object]], again: Federation
) -> None:
    canaries = again.canaries
    command = arrange(again)

    code = again.fedseg(*command)

    shown = "\n".join(again.seen.printed.values())
    assert code > 1, shown
    assert canaries.found_in(shown.encode()) == []
    assert [one for one in again.seen.logged if canaries.found_in(one.encode())] == []


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, MemoryError])
def test_an_unexpected_error_during_a_round_is_one_word_on_the_wire_and_says_nothing_in_the_log(
    kind: type[Exception], again: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise kind(f"{IDENTIFIER} spent {VALUE}, one of {COUNT}")

    monkeypatch.setattr("fedseg.node.contribute.encode", fail)
    canaries = again.canaries

    code = again.fedseg("simulate", "scenario.toml", "--out", "other")

    shown = "\n".join(again.seen.printed.values())
    assert code == 6, shown
    assert canaries.found_in(shown.encode()) == []
    assert any("release.unavailable" in one for one in again.seen.logged)
    assert [one for one in again.seen.logged if canaries.found_in(one.encode())] == []
    replies = [one for one in again.seen.messages if REQUEST_MAGIC not in one]
    assert all(encode_unavailable() in one for one in replies)
    assert len(replies) == len(again.seen.messages) / 2 > 2  # a unit that is unavailable is asked again
    assert [one for one in again.seen.messages if canaries.found_in(one)] == []


@pytest.fixture
def again(federation: Federation, tmp_path: Path) -> Federation:
    """A copy of the federation, with nothing seen of it yet."""
    shutil.copytree(federation.folder, tmp_path / "again")
    return Federation(tmp_path / "again", Seen())


def test_the_planted_unit_has_exactly_the_planted_count(tmp_path: Path) -> None:
    write_customers(tmp_path / "customers.csv")
    rows = [line.split(",") for line in (tmp_path / "customers.csv").read_text().splitlines()[1:]]

    assert sum(float(row[1]) < 50 for row in rows) == len({row[0] for row in rows if float(row[1]) < 50}) == COUNT
