"""Writes a unit's paperwork into new files. What people have filled in is never written over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedseg.errors import StorageError
from fedseg.governance import dpia, notice, record
from fedseg.governance.facts import UnitFacts
from fedseg.governance.kinds import Kind
from fedseg.governance.statements import blanks
from fedseg.private_file import write_new


@dataclass(frozen=True, slots=True)
class Document:
    """A file of paperwork."""

    name: str
    kind: Kind
    content: bytes
    blanks: int
    """Statements that people must fill."""
    left_empty: int = 0
    """Questions and opinions beside these, of which nothing is said."""


def documents(facts: UnitFacts, kinds: Sequence[Kind], now: datetime) -> list[Document]:
    """The files of these kinds; from the same facts, at the same time, the same bytes."""
    return [one for kind in dict.fromkeys(kinds) for one in _of_kind(facts, kind, now)]


def write_documents(found: Sequence[Document], out: Path) -> list[Path]:
    """Write all of them into a folder, for their owner alone.

    Raises:
        StorageError: If one is there already, or cannot be written; then none is left.
    """
    paths = [out / one.name for one in found]
    for path in paths:
        if path.exists():
            raise StorageError(
                f"{path} is there already",
                why="people may have filled it in, so it is not written over",
                fix="name another --out, or move it away",
            )
    written: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, one in zip(paths, found, strict=True):
            write_new(path, one.content)
            written.append(path)
    except OSError as error:
        for path in written:
            path.unlink()
        raise StorageError(
            f"cannot write the paperwork to {out}",
            why=error.strerror or "the disk refused",
            fix="free space, or name another --out",
        ) from error
    return paths


def _of_kind(facts: UnitFacts, kind: Kind, now: datetime) -> list[Document]:
    if kind is Kind.RECORD:
        said = record.record(facts)
        return [
            Document("record.csv", kind, record.to_csv(said), blanks(said)),
            Document("record.json", kind, record.to_json(facts, said), blanks(said)),
        ]
    if kind is Kind.DPIA:
        said = dpia.assessment(facts)
        return [Document("dpia.json", kind, dpia.to_json(facts, said, now), blanks(said), dpia.LEFT_EMPTY)]
    said = notice.notice(facts)
    return [
        Document("notice.md", kind, notice.to_markdown(said), blanks(said)),
        Document("notice.html", kind, notice.to_html(said), blanks(said)),
    ]
