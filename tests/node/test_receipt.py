"""Receipts: what one customer said, in the vocabulary's terms, valid against the schema that comes with the project."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fedseg.errors import DataError, SettingsError, StorageError
from fedseg.node.consent.receipt import (
    Particulars,
    consent_receipt,
    consent_records,
    read_particulars,
    write_receipt,
    write_records,
)
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.consent import EVENT_KINDS, EVERY_PURPOSE, FOR_ONE_PURPOSE, GRANTS, ConsentEvent
from fedseg.policy.purposes import Purpose
from tests.cli.conftest import Cli
from tests.node.test_register_contract import delivery
from tests.small_federation import make_unit, policy_document

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/consent-receipt.schema.json").read_text("utf-8"))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS, ACTIVATION = Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION

CONTROLLER = """
name = "Small Retail"
address = "1 High Street, Example City"
contact = "privacy@retail.example"
jurisdiction = "loc:DE"
storage_locations = ["loc:DE"]
withdraw_at = "https://retail.example/consent"
"""


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_unit(tmp_path / "unit", "unit", consenting=(), customers=b"customer\n", policy=policy_document())


@pytest.fixture
def particulars(tmp_path: Path) -> Particulars:
    (tmp_path / "controller.toml").write_text(CONTROLLER)
    return read_particulars(tmp_path / "controller.toml")


def event(home: NodeHome, kind: str, day: int, purpose: str = STATISTICS, name: bytes = b"anna") -> ConsentEvent:
    when = NOW - timedelta(days=100 - day)
    until = NOW + timedelta(days=700) if kind in GRANTS else None
    return ConsentEvent(subject_key(name, home.subject_secret), purpose, kind, when, when, until, notice_version=3)


def receipt_of(home: NodeHome, particulars: Particulars, name: bytes = b"anna") -> dict[str, Any]:
    made = consent_receipt(home, name, particulars, now=NOW)
    document: dict[str, Any] = json.loads(made.to_json())
    jsonschema.validate(document, SCHEMA, format_checker=jsonschema.FormatChecker())
    return document


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_receipt_holds_a_record_for_each_purpose_with_all_that_was_said(
    home: NodeHome, particulars: Particulars
) -> None:
    with home.register() as register:
        register.take_in(delivery(event(home, "given", 1), event(home, "withdrawn", 5)))
        register.append_events([event(home, "refused", 3, ACTIVATION), event(home, "given", 2, name=b"ben")])
    found = receipt_of(home, particulars)

    first, second = found["dpv:hasRecordOfActivity"]
    assert [one["@type"] for one in first["dpv:hasConsentStatus"]] == [["dpv:ConsentGiven"], ["dpv:ConsentWithdrawn"]]
    assert first["dpv:hasConsentStatus"][0]["dct:source"] == "some source some record_id"
    assert first["dpv:hasProcess"]["dpv:hasPurpose"] == {
        "@id": "fedseg:SegmentStatistics",
        "skos:broader": "dpv:ServiceUsageAnalytics",
    }
    assert first["dpv:hasProcess"]["dpv:hasPersonalData"] == ["visits", "spend"]
    assert first["dpv:hasProcess"]["dpv:hasLegalBasis"] == ["dpv:Consent"]
    assert [one["schema:version"] for one in first["dpv:hasNotice"]] == ["3"]
    assert second["dpv:hasConsentStatus"][0]["@type"] == ["dpv:ConsentRefused"]
    assert second["dpv:hasProcess"]["dpv:hasLegalBasis"] == [], "the policy says nothing about this purpose"


@pytest.mark.parametrize("kind", sorted(FOR_ONE_PURPOSE))
def test_every_kind_about_consent_has_its_term(kind: str, home: NodeHome, particulars: Particulars) -> None:
    with home.register() as register:
        register.append_events([event(home, kind, 1)])
    (record,) = receipt_of(home, particulars)["dpv:hasRecordOfActivity"]
    (said,) = record["dpv:hasConsentStatus"]
    assert ("dpv:ExplicitlyExpressedConsent" in said["@type"]) is kind.startswith("explicit_")
    assert kind in EVENT_KINDS


def test_the_same_record_keeps_its_id_and_each_receipt_has_its_own(home: NodeHome, particulars: Particulars) -> None:
    with home.register() as register:
        register.append_events([event(home, "given", 1)])
    one, other = receipt_of(home, particulars), receipt_of(home, particulars)
    assert one["dct:identifier"] != other["dct:identifier"]
    assert one["dpv:hasRecordOfActivity"] == other["dpv:hasRecordOfActivity"]


def test_a_customers_own_jurisdiction_comes_before_the_controllers(home: NodeHome, particulars: Particulars) -> None:
    with home.register() as register:
        register.append_events([event(home, "given", 1), event(home, "jurisdiction_us_ca", 1, EVERY_PURPOSE)])
        register.append_events([event(home, "given", 1, name=b"ben")])
    assert receipt_of(home, particulars)["dpv:hasRecordOfActivity"][0]["dpv:hasJurisdiction"] == "loc:US-CA"
    assert receipt_of(home, particulars, b"ben")["dpv:hasRecordOfActivity"][0]["dpv:hasJurisdiction"] == "loc:DE"


def test_there_is_no_receipt_of_nothing_and_none_is_written_over(
    home: NodeHome, particulars: Particulars, tmp_path: Path
) -> None:
    with home.register() as register:
        register.append_events([event(home, "objection", 1, EVERY_PURPOSE)])
    with pytest.raises(DataError, match="nothing"):
        consent_receipt(home, b"anna", particulars, now=NOW)
    with home.register() as register:
        register.append_events([event(home, "given", 1)])
    made = consent_receipt(home, b"anna", particulars, now=NOW)
    write_receipt(tmp_path / "receipt.jsonld", made)
    assert stat.S_IMODE((tmp_path / "receipt.jsonld").stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="File exists"):
        write_receipt(tmp_path / "receipt.jsonld", made)
    assert "anna" not in made.to_json().decode()


@pytest.mark.parametrize(
    "change", [("loc:DE", "Germany"), ("name", "nom"), ('["loc:DE"]', "[]"), ("\nname", "\nname = 1\nn"), ("=", "")]
)
def test_particulars_that_lack_something_are_refused(change: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "controller.toml").write_text(CONTROLLER.replace(*change))
    with pytest.raises(SettingsError, match="particulars"):
        read_particulars(tmp_path / "controller.toml")
    with pytest.raises(SettingsError, match="No such file"):
        read_particulars(tmp_path / "nowhere.toml")


def test_the_command_writes_one_customers_receipt(home: NodeHome, tmp_path: Path, particulars: Particulars) -> None:
    del particulars
    with home.register() as register:
        register.append_events([event(home, "given", 1)])
    (tmp_path / "id.txt").write_text("anna\n")
    (tmp_path / "ids.txt").write_text("anna\nben\n")
    cli = Cli(tmp_path, {"FEDSEG_NODE": "unit"})
    command = ["consent", "receipt", "--controller", "controller.toml", "--out", "receipt.jsonld", "--id-file"]
    made = cli.here(*command, "id.txt", "--format", "json")
    assert made.code == 0, made.err
    document = json.loads((tmp_path / "receipt.jsonld").read_text("utf-8"))
    jsonschema.validate(document, SCHEMA)
    assert document["dct:identifier"] == made.envelope["data"]["receipt_id"]
    assert cli.here(*command, "ids.txt").code == 2
    assert cli.here(*command, "id.txt").code == 8


RECORD = {
    "$ref": "#/$defs/line",
    "$defs": SCHEMA["$defs"]
    | {
        "line": SCHEMA["$defs"]["record"]
        | {"properties": SCHEMA["$defs"]["record"]["properties"] | {"@context": SCHEMA["properties"]["@context"]}}
    },
}


def test_records_are_those_of_everybodys_receipts(home: NodeHome, particulars: Particulars, tmp_path: Path) -> None:
    with home.register() as register:
        register.append_events([event(home, "given", 1), event(home, "refused", 2, ACTIVATION)])
        register.append_events([event(home, "given", 1, name=b"ben"), event(home, "withdrawn", 4, name=b"ben")])
        register.append_events([event(home, "jurisdiction_us_ca", 1, EVERY_PURPOSE, b"ben")])
        register.append_events([event(home, "objection", 1, EVERY_PURPOSE, b"eve")])
    path = tmp_path / "records.jsonl"
    assert write_records(path, consent_records(home, particulars, now=NOW)) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        jsonschema.validate(line, RECORD, format_checker=jsonschema.FormatChecker())
        del line["@context"]
    expected = [
        record
        for name in sorted((b"anna", b"ben"), key=lambda one: subject_key(one, home.subject_secret))
        for record in receipt_of(home, particulars, name)["dpv:hasRecordOfActivity"]
    ]
    assert lines == expected
    assert {one["dpv:hasJurisdiction"] for one in lines} == {"loc:US-CA", "loc:DE"}


def test_records_are_never_written_over_nor_half_written(
    home: NodeHome, particulars: Particulars, tmp_path: Path
) -> None:
    with home.register() as register:
        register.append_events([event(home, "given", 1)])
    path = tmp_path / "records.jsonl"
    path.write_text("mine")
    with pytest.raises(StorageError, match="File exists"):
        write_records(path, consent_records(home, particulars, now=NOW))
    assert path.read_text() == "mine"
    with pytest.raises(StorageError, match="No such file"):
        write_records(tmp_path / "nowhere/records.jsonl", consent_records(home, particulars, now=NOW))
