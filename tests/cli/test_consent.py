"""The commands about consent: counts under LOCAL, one envelope, and identifiers from files alone."""

from pathlib import Path

import pytest

from fedseg.node.home import NodeHome
from fedseg.policy.purposes import Purpose
from tests.cli.conftest import Cli
from tests.small_federation import make_unit, policy_document

EXPORT = """identifier,purpose,kind,event_time,valid_until
anna@example.com,fedseg:SegmentStatistics,given,2026-01-01T00:00:00Z,2036-01-01T00:00:00Z
ben@example.com,*,objection,2026-01-01T00:00:00Z,
"""
BAD = "eve@example.com,fedseg:SegmentStatistics,given,2026-01-01T00:00:00Z,\n"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    customers = b"customer\nanna@example.com\n"
    make_unit(tmp_path / "unit", "unit", consenting=(), customers=customers, policy=policy_document())
    (tmp_path / "export.csv").write_text(EXPORT, encoding="utf-8")
    (tmp_path / "bad.csv").write_text(EXPORT + BAD, encoding="utf-8")
    (tmp_path / "ids.txt").write_text("anna@example.com\n", encoding="utf-8")
    return Cli(tmp_path, {"FEDSEG_NODE": "unit"})


def kinds(cli: Cli) -> list[str]:
    with NodeHome.open(cli.folder / "unit").register() as register:
        return sorted(register.events(Purpose.SEGMENT_STATISTICS)["kind"].to_pylist())


def test_an_import_says_what_it_did(cli: Cli) -> None:
    ended = cli.here("consent", "import", "export.csv", "--mapping", "canonical-csv", "--format", "json")
    assert ended.code == 0, ended.err
    data = ended.envelope["data"]
    assert data["outcome"] == "imported"
    assert (data["LOCAL"]["new"], data["LOCAL"]["kinds"]) == (2, {"given": 1, "objection": 1})
    assert kinds(cli) == ["given", "objection"]
    again = cli.here("consent", "import", "export.csv", "--mapping", "canonical-csv")
    assert "2 events, 0 of them new" in again.out


def test_a_refused_export_ends_in_8_with_counts_and_without_identifiers(cli: Cli) -> None:
    command = ["consent", "import", "bad.csv", "--mapping", "canonical-csv"]
    spoken, written = cli.here(*command), cli.here(*command, "--format", "json")
    assert (spoken.code, written.code) == (8, 8)
    assert "LOCAL: 1 lines could not be read" in spoken.err
    assert [line.split(":")[0] for line in spoken.error] == ["E807", "why", "fix"]
    assert written.envelope["error"]["code"] == "E807"
    assert written.envelope["data"]["LOCAL"]["refused"] == 1
    assert "example.com" not in spoken.out + spoken.err + written.out + written.err
    assert kinds(cli) == []


def test_the_fix_that_a_refusal_names_works_and_so_does_the_correction_it_asks_for(cli: Cli) -> None:
    refused = cli.here("consent", "import", "bad.csv", "--mapping", "canonical-csv")
    fix = refused.error[-1].partition("fedseg ")[2].split()
    partial = cli.here(*fix)
    assert partial.code == 0, partial.err
    assert "customers with such a line are denied" in partial.out
    import_id = partial.out.split()[-1]
    corrected = cli.here("consent", "import", "export.csv", "--mapping", "canonical-csv", "--corrects", import_id)
    assert corrected.code == 0, corrected.err
    assert kinds(cli) == ["given", "objection"]


def test_a_trial_changes_no_register(cli: Cli) -> None:
    assert "checked" in cli.here("consent", "import", "export.csv", "--mapping", "canonical-csv", "--dry-run").out
    assert "checked" in cli.here("consent", "withdraw", "--id-file", "ids.txt", "--dry-run").out
    assert kinds(cli) == []


def test_a_withdrawal_says_how_many_the_register_knew_nothing_of(cli: Cli) -> None:
    first = cli.here("consent", "withdraw", "--id-file", "ids.txt", "--format", "json")
    assert first.envelope["data"]["LOCAL"] == {"customers": 1, "unknown": 1}
    assert first.envelope["data"]["purposes"] == [str(purpose) for purpose in Purpose]
    assert "knew nothing of some" in first.err
    second = cli.here("consent", "withdraw", "--id-file", "ids.txt", "--purpose", "fedseg:SegmentStatistics")
    assert "0 of whom the register knew nothing" in second.out
    assert kinds(cli) == ["withdrawn", "withdrawn"]
    assert cli.here("consent", "withdraw", "--id-file", "ids.txt", "--purpose", "x").code == 2


def test_the_status_counts_by_consent_and_veto(cli: Cli) -> None:
    cli.here("consent", "import", "export.csv", "--mapping", "canonical-csv")
    local = cli.here("consent", "status", "--format", "json").envelope["data"]["LOCAL"]
    assert (local["customers"], local["in_source"], len(local["imports"])) == (2, 1, 1)
    statistics = local["purposes"]["fedseg:SegmentStatistics"]
    assert (statistics["status"]["given"], statistics["veto"]["objection"], statistics["expiring"]) == (1, 1, 0)
    assert statistics["jurisdiction"]["loc:EEA"] == 0
    spoken = cli.here("consent", "status", "--days", "3650").out
    assert "ending within 3650 days" in spoken
    assert "last import" in spoken
    (cli.folder / "unit/LOCAL/customers.csv").unlink()
    assert "the data source cannot be read" in cli.here("consent", "status").out


def test_mappings_are_listed_and_printed_to_be_copied(cli: Cli) -> None:
    assert "canonical-csv" in cli.here("consent", "mapping").out
    (cli.folder / "ours.toml").write_text(cli.here("consent", "mapping", "canonical-csv").out, encoding="utf-8")
    assert cli.here("consent", "import", "export.csv", "--mapping", "ours.toml", "--dry-run").code == 0
    assert cli.here("consent", "mapping", "nonesuch").code == 2


def test_identifiers_are_no_arguments(cli: Cli) -> None:
    assert cli.here("consent", "withdraw", "anna@example.com").code == 2
    assert cli.here("consent", "withdraw").code == 2
