"""The folder of an officer's report: written from a bundle, and made again from it to see whether it was changed.

The seal is the bundle. Every file is a function of bundle.zip, of the question in report.json and of noise-audit.json,
so whoever has the folder makes all of them anew and compares bytes. No signature is needed: what counts is signed in
the ledgers, and a report that says something else than they do is not made by this program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedseg import __version__
from fedseg.audit.archive import BUNDLE_LIMIT_BYTES, Member, pack, unpack
from fedseg.errors import DataError, SettingsError, StorageError, VerificationError
from fedseg.ledger.canonical import sha256_hex
from fedseg.ledger.keys import PublicKey
from fedseg.report.officer.exports import KIND, SCHEMA_VERSION, to_csv, to_json
from fedseg.report.officer.facts import ALL, Terms, officer_report
from fedseg.report.officer.model import OfficerReport, SeenLog, SignedOff
from fedseg.report.officer.noise_file import FILE as NOISE
from fedseg.report.officer.noise_file import LIMIT_BYTES, parse_noise_audit
from fedseg.report.officer.period import Period
from fedseg.report.officer.registry import FILE as REGISTRY
from fedseg.report.officer.registry import registry_entry
from fedseg.report.officer.render import render
from fedseg.report.page import write_files

PAGE, DOCUMENT, LEDGER, BUNDLE = "report.html", "report.json", "ledger.csv", "bundle.zip"
FILES = (PAGE, DOCUMENT, LEDGER, BUNDLE, REGISTRY, NOISE)
"""All that may be in a report's folder."""
_DOCUMENT_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is asked for."""

    period: str | None
    keys: Mapping[str, str]
    signed_off: SignedOff | None
    noise_audit: bytes | None
    """What `fedseg audit noise --format json` has printed."""

    def terms(self) -> Terms:
        """The same, read.

        Raises:
            SettingsError: If the period is none.
            DataError: If the audit's file is none.
        """
        period = None if self.period is None else Period.parse(self.period)
        audit = None if self.noise_audit is None else parse_noise_audit(self.noise_audit)
        return Terms(period, self.keys, self.signed_off, audit)


def make(members: Sequence[Member], question: Question) -> tuple[OfficerReport, dict[str, bytes]]:
    """The report, and the files of its folder by name; the same bundle and question give the same bytes."""
    terms, bundle = question.terms(), pack(members)
    report, evidence = officer_report(members, bundle, terms)
    files = {
        PAGE: render(report).encode(),
        DOCUMENT: to_json(report),
        LEDGER: to_csv(evidence, terms.period),
        BUNDLE: bundle,
    }
    if (entry := registry_entry(report, evidence)) is not None:
        files[REGISTRY] = entry
    if question.noise_audit is not None:
        files[NOISE] = question.noise_audit
    return report, files


def write(members: Sequence[Member], question: Question, out: Path) -> tuple[OfficerReport, list[Path]]:
    """Write the folder of a report; evidence that does not check out gets its page too, which says so.

    Raises:
        SettingsError, DataError: As `Question.terms`; or the folder holds something else than a report.
        StorageError: If a file cannot be written.
    """
    _require_free(out)
    report, files = make(members, question)
    for name in {REGISTRY, NOISE} - set(files):
        (out / name).unlink(missing_ok=True)
    write_files(out, files)
    return report, [out / name for name in files]


def check(folder: Path) -> OfficerReport:
    """Make the report in a folder again; it, if every file is what it was.

    Raises:
        VerificationError: If a file is another than its bundle gives, or the evidence itself does not check out.
        SettingsError: If another version of fedseg made it, whose pages only that version makes again.
    """
    document = _read(folder / DOCUMENT, _DOCUMENT_LIMIT_BYTES)
    _require_same_version(document, folder)
    stated = parse_document(document)
    noise = folder / NOISE
    question = Question(
        period=None if stated.period.text == ALL else stated.period.text,
        keys={one.name: one.public_key for one in stated.keys},
        signed_off=stated.signed_off.value() if stated.signed_off else None,
        noise_audit=_read(noise, LIMIT_BYTES) if noise.exists() else None,
    )
    members = unpack(_read(folder / BUNDLE, BUNDLE_LIMIT_BYTES))
    try:
        report, files = make(members, question)
    except (SettingsError, DataError) as error:
        raise _changed(DOCUMENT, error.why) from error
    for name, content in files.items():
        if _read(folder / name, max(len(content), 1)) != content:
            raise _changed(name, "it is not what bundle.zip and the question in report.json give")
    for name in {REGISTRY, NOISE} - set(files):
        if (folder / name).exists():
            raise _changed(name, "bundle.zip gives no such file")
    report.require_verified()
    return report


def signed_off(path: Path) -> SignedOff:
    """An earlier report that was signed off, from its folder or its report.json.

    Raises:
        DataError: If it is none, or one of evidence that did not check out.
        StorageError: If it cannot be read.
    """
    document = _read(path / DOCUMENT if path.is_dir() else path, _DOCUMENT_LIMIT_BYTES)
    try:
        stated = parse_document(document)
    except VerificationError as error:
        raise DataError(f"{path} cannot be compared with", why=error.why, fix="name the folder of a report") from error
    if not stated.verified:
        raise DataError(
            f"{path} cannot be compared with",
            why="its evidence did not check out, so nobody can have signed it off",
            fix="name the folder of the last report that was signed off",
        )
    seen = tuple(SeenLog(one.origin, one.entries, one.root) for one in stated.log)
    return SignedOff(sha256_hex(document), stated.period.as_of, seen)


def _require_free(out: Path) -> None:
    """A run's own page has the same name, and must not be lost."""
    document = out / DOCUMENT
    if not document.exists():
        return
    try:
        parse_document(_read(document, _DOCUMENT_LIMIT_BYTES))
    except VerificationError as error:
        raise SettingsError(
            f"{out} holds another report",
            why="its report.json is no officer's report",
            fix="name a new folder with --out",
        ) from error


# Reading report.json


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Period(_Part):
    text: str
    as_of: str


class _Log(_Part):
    origin: str
    entries: Annotated[int, Field(ge=1)]
    root: _Hash


class _Key(_Part):
    name: str
    public_key: str


class _SignedOff(_Part):
    report_sha256: _Hash
    as_of: str
    log: list[_Log]

    def value(self) -> SignedOff:
        """As a fact."""
        seen = tuple(SeenLog(one.origin, one.entries, one.root) for one in self.log)
        return SignedOff(self.report_sha256, self.as_of, seen)


class Document(_Part):
    """What of report.json it takes to make the report again."""

    kind: Literal["fedseg-officer-report"]
    verified: bool
    period: _Period
    keys: list[_Key]
    signed_off: _SignedOff | None
    log: list[_Log]


def parse_document(document: bytes) -> Document:
    """What a report.json asks for and saw.

    Raises:
        VerificationError: If it is no officer's report.
    """
    try:
        found = Document.model_validate_json(document)
        for one in found.keys:
            PublicKey.from_text(one.public_key)
    except (ValidationError, ValueError) as error:
        raise _changed(DOCUMENT, f"it is no {KIND}") from error
    return found


class _Heading(_Part):
    """What a report.json of any version says first."""

    schema_version: int
    kind: Literal["fedseg-officer-report"]
    software: Annotated[str, Field(pattern=r"^fedseg [0-9][0-9A-Za-z.+]{0,39}$")]


def _require_same_version(document: bytes, folder: Path) -> None:
    try:
        found = _Heading.model_validate_json(document)
    except ValidationError as error:
        raise _changed(DOCUMENT, f"it is no {KIND}") from error
    version = found.software.removeprefix("fedseg ")
    if version != __version__:
        raise SettingsError(
            f"the report is of fedseg {version}, and this is fedseg {__version__}",
            why="another version may word a page otherwise, so nothing was compared, and nothing was found to be wrong",
            fix=f"pip install fedseg=={version} in an environment of its own, and check again with that; this version "
            f"checks the evidence alone: fedseg audit verify {folder / BUNDLE}",
        )
    if found.schema_version != SCHEMA_VERSION:
        raise _changed(DOCUMENT, "this version of fedseg writes another form of it")


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read",
            why=error.strerror or "the disk refused",
            fix="name the folder of a report, with all its files",
        ) from error


def _changed(name: str, why: str) -> VerificationError:
    return VerificationError(
        "the report is not the one that its evidence gives",
        why=f"{name}: {why}",
        fix="rely on nothing in it, and make it again from the bundle: fedseg report --from bundle.zip --out NEW",
    )
