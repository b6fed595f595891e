"""Consent records and receipts: what customers agreed to and took back, as JSON-LD after ISO/IEC TS 27560.

In the profile DPV-27560 of the W3C's Data Privacy Vocabulary (https://w3id.org/dpv/guides/consent-27560): a receipt
holds a consent record for each purpose, and a record all that was said about it, oldest first. What the unit's files do
not know, such as where the controller can be written to, comes from a file of particulars; nothing is made up.
"""

import errno
import json
import os
import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedseg.errors import DataError, SettingsError, StorageError
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.consent import FOR_ONE_PURPOSE, Jurisdiction, fold
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.purposes import Purpose
from fedseg.private_file import replacing, write_new
from fedseg.table import SUBJECT, SUBJECT_TYPE

PROFILE: Final = "https://w3id.org/dpv/schema/dpv-27560#receipt"
CONTEXT: Final = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "fedseg": "urn:fedseg:",
    "loc": "https://w3id.org/dpv/loc#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "schema": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "us-ca": "urn:fedseg:us-ca:",
}

_BY_THE_CUSTOMER: Final = frozenset({"given", "renewed", "refused", "withdrawn"})
"""The others are the controller's: asked, not known, over, or ended by somebody else."""

_UUIDS: Final = uuid.UUID("0b0f5b0e-6a3c-4c55-9a52-7f8a1c8c5a27")
"""Namespace of the ids of records: the same for a customer and purpose in every receipt."""

Text = Annotated[str, Field(min_length=1, max_length=500)]
Location = Annotated[str, Field(pattern=r"^loc:[A-Z][A-Za-z-]{1,10}$")]


class Particulars(BaseModel):
    """What a receipt has to say of the controller and no other file of a unit knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Text
    address: Text
    contact: Text
    """Where the controller can be written to."""
    jurisdiction: Location
    """Whose law holds where the customer's own events do not say, such as `loc:DE`."""
    storage_locations: Annotated[tuple[Location, ...], Field(min_length=1, strict=False)]
    withdraw_at: Text
    """Where consent is taken back."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A consent receipt."""

    id: str
    document: Mapping[str, Any] = field(repr=False)

    def to_json(self) -> bytes:
        """The receipt as JSON-LD."""
        return json.dumps(self.document, indent=2, ensure_ascii=False).encode() + b"\n"


def read_particulars(path: Path) -> Particulars:
    """The controller's particulars, from a TOML file.

    Raises:
        SettingsError: If it cannot be read or is not what the schema says.
    """
    try:
        return Particulars.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _no_particulars(path, error.strerror or "unknown cause") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _no_particulars(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise _no_particulars(path, str(error)) from error


def consent_receipt(home: NodeHome, identifier: bytes, particulars: Particulars, *, now: datetime) -> Receipt:
    """A receipt of all that a customer said about their consent, for the customer.

    Raises:
        DataError: If the register holds nothing of theirs about consent.
        PolicyError, PolicyDocumentError: If the unit has no policy, which says what is done with the data.
    """
    subject = subject_key(identifier, home.subject_secret)
    policy = load_policy(home.policy_document())
    with home.register() as register:
        events = register.events_of(subject)
        said = register.events(Purpose.SEGMENT_STATISTICS)
    theirs = said.filter(pc.equal(said[SUBJECT], pa.scalar(subject, SUBJECT_TYPE)))
    place = _places(theirs, now).get(subject)
    records = _records(policy, particulars, subject, events, place)
    if not records:
        raise DataError(
            "there is nothing to write a receipt of",
            why="the register holds nothing that this customer said about consent",
            fix="see that the identifier is written as in the data source",
        )
    receipt_id = str(uuid.uuid4())
    document = {
        "@context": CONTEXT,
        "@id": f"urn:uuid:{receipt_id}",
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": PROFILE,
        "dct:identifier": receipt_id,
        "dct:created": now.isoformat(timespec="seconds"),
        "dct:publisher": particulars.name,
        "dpv:hasRecordOfActivity": records,
    }
    return Receipt(receipt_id, document)


def consent_records(home: NodeHome, particulars: Particulars, *, now: datetime) -> Iterator[bytes]:
    """LOCAL: the consent records of every customer of whom the register holds any, each a line of JSON-LD.

    In the order of pseudonyms, then of purposes; the ids are those that the customers' receipts have.

    Raises:
        PolicyError, PolicyDocumentError: If the unit has no policy, which says what is done with the data.
    """
    policy = load_policy(home.policy_document())
    with home.register() as register:
        places = _places(register.events(Purpose.SEGMENT_STATISTICS), now)
        people = {one for purpose in Purpose for one in pc.unique(register.events(purpose)[SUBJECT]).to_pylist()}
        for subject in sorted(people):
            for record in _records(policy, particulars, subject, register.events_of(subject), places.get(subject)):
                yield json.dumps({"@context": CONTEXT, **record}, ensure_ascii=False).encode() + b"\n"


def write_records(path: Path, lines: Iterable[bytes]) -> int:
    """Write records into a new file that only its owner can read, whole or not at all; LOCAL: how many.

    Raises:
        StorageError: If there is a file already, or it cannot be written.
    """
    written = 0
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with replacing(path) as file:
            for line in lines:
                file.write(line)
                written += 1
    except OSError as error:
        raise _unwritten(path, error) from error
    return written


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt into a new file that only its owner can read.

    Raises:
        StorageError: If there is a file already, or it cannot be written.
    """
    try:
        write_new(path, receipt.to_json())
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} was not written", why=error.strerror or "unknown cause", fix="name another --out, or free space"
    )


def _records(
    policy: Policy, particulars: Particulars, subject: bytes, events: list[dict[str, str | None]], place: str | None
) -> list[dict[str, Any]]:
    """One for each purpose of which anything was said about consent."""
    common = {**_parties(subject, particulars), "dpv:hasJurisdiction": place or particulars.jurisdiction}
    return [
        {**common, **_record(purpose, subject, about), "dpv:hasProcess": _process(purpose, policy, particulars)}
        for purpose in Purpose
        if (about := [one for one in events if one["purpose"] == purpose and one["kind"] in FOR_ONE_PURPOSE])
    ]


def _parties(subject: bytes, particulars: Particulars) -> dict[str, Any]:
    return {
        "dpv:hasDataSubject": {"@type": "dpv:DataSubject", "dct:identifier": subject.hex()},
        "dpv:hasDataController": {
            "@type": "dpv:DataController",
            "dpv:hasName": particulars.name,
            "dpv:hasAddress": particulars.address,
            "dpv:hasContact": particulars.contact,
        },
        "dpv:hasConsentControl": {"@type": "dpv:WithdrawConsent", "dpv:isExercisedAt": particulars.withdraw_at},
    }


def _record(purpose: Purpose, subject: bytes, events: list[dict[str, str | None]]) -> dict[str, Any]:
    notices = {(one["notice_uri"], one["notice_version"], one["notice_language"]) for one in events}
    shown = [
        _said_only(
            {
                "@type": "dpv:ConsentNotice",
                "schema:url": url,
                "schema:version": version,
                "dct:language": language,
            }
        )
        for url, version, language in sorted(notices, key=str)
        if url or version != "0"
    ]
    return {
        "@type": "dpv:ConsentRecord",
        "dct:identifier": str(uuid.uuid5(_UUIDS, f"{subject.hex()} {purpose}")),
        "dpv:hasNotice": shown,
        "dpv:hasConsentStatus": [_status(one) for one in events],
    }


def _status(event: dict[str, str | None]) -> dict[str, Any]:
    """One thing that was said, as a state of consent."""
    kind = str(event["kind"])
    state = kind.removeprefix("explicit_")
    types = ["dpv:RenewedConsentGiven" if state == "renewed" else f"dpv:Consent{state.capitalize()}"]
    until = event["valid_until"]
    return _said_only(
        {
            "@type": types if state == kind else [*types, "dpv:ExplicitlyExpressedConsent"],
            "dpv:isIndicatedAtTime": event["event_time"],
            "dpv:isIndicatedBy": "dpv:DataSubject" if state in _BY_THE_CUSTOMER else "dpv:DataController",
            "dpv:hasIndicationMethod": event["method"],
            "dpv:hasDuration": until and {"@type": "dpv:UntilTimeDuration", "rdf:value": until},
            "dct:source": " ".join(filter(None, (event["source"], event["record_id"]))),
        }
    )


def _process(purpose: Purpose, policy: Policy, particulars: Particulars) -> dict[str, Any]:
    """What is done with the data: as the policy in force has it."""
    rule = next((rule for known, rule in policy.purposes.items() if known == purpose), None)
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {"@id": str(purpose), "skos:broader": purpose.broader},
        "dpv:hasLegalBasis": [] if rule is None else list(dict.fromkeys(way.basis for way in rule.ways())),
        "dpv:hasPersonalData": [] if rule is None else list(rule.readable),
        "dpv:hasRecipient": [one.id for one in policy.recipients or ()],
        "dpv:hasStorageCondition": [
            {"@type": "dpv:StorageLocation", "dpv:hasLocation": list(particulars.storage_locations)},
            {"@type": "dpv:StorageDuration", "dpv:hasDuration": f"P{policy.retention.raw_days}D"},
        ],
    }


def _places(events: pa.Table, now: datetime) -> dict[bytes, str]:
    """Where customers' own events put them; nobody whose events say nothing that has a place."""
    state = fold(events, now)
    codes = state.by_purpose[Purpose.SEGMENT_STATISTICS].jurisdiction.tolist()
    found = zip(state.subjects.to_pylist(), map(Jurisdiction, codes), strict=True)
    return {subject: one.text for subject, one in found if one not in {Jurisdiction.UNKNOWN, Jurisdiction.OTHER}}


def _said_only(part: dict[str, Any]) -> dict[str, Any]:
    """Without the keys of which nothing was said."""
    return {name: value for name, value in part.items() if value}


def _no_particulars(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"the controller's particulars cannot be read from {path}",
        why=why,
        fix="write it as docs/how-to/import-consent.md shows",
    )
