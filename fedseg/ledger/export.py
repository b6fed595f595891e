"""A ledger as one text file for auditors: readable in any editor, and with exactly one spelling.

    fedseg-ledger-export/v1
    entries 2
    {"body":{...},"kind":"genesis","seq":0}
    {"body":{...},"kind":"charge","seq":1}
    notes 1
    2 <the signed note in base64>
    payloads 1
    <id> <the bytes in base64>
    end

Pure functions on bytes. Reading parses, writes again and compares, so no byte can change without being seen.
"""

from fedseg.errors import LedgerUnreadableError
from fedseg.ledger.keys import decode_base64, encode_base64
from fedseg.ledger.raw import RawLedger

EXPORT_HEADER = b"fedseg-ledger-export/v1\n"
_SECTIONS = ("entries", "notes", "payloads")


def export_ledger(raw: RawLedger) -> bytes:
    """`raw` as an export file; payloads in order of their ids.

    Raises:
        ValueError: If an entry of `raw` has no canonical form.
    """
    sections = (
        [entry.to_bytes() for entry in raw.entries],
        [f"{size} {encode_base64(note.encode('utf-8'))}".encode() for size, note in raw.notes],
        [f"{id_} {encode_base64(data)}".encode() for id_, data in sorted(raw.payloads.items())],
    )
    lines: list[bytes] = []
    for name, section in zip(_SECTIONS, sections, strict=True):
        lines += [f"{name} {len(section)}".encode(), *section]
    return EXPORT_HEADER + b"".join(line + b"\n" for line in [*lines, b"end"])


def parse_export(data: bytes) -> RawLedger:
    """The ledger whose export is exactly `data`.

    Raises:
        VerificationError: If an entry is not canonical or not in its place.
        LedgerUnreadableError: If `data` is no export of any ledger otherwise.
    """
    lines = data.removeprefix(EXPORT_HEADER).split(b"\n")
    try:
        leaves, notes, payloads = (_take_section(lines, name) for name in _SECTIONS)
        raw = RawLedger.from_parts(
            leaves,
            [(int(size), decode_base64(note).decode("utf-8")) for size, note in map(_two_words, notes)],
            {id_: decode_base64(payload) for id_, payload in map(_two_words, payloads)},
        )
        exported = export_ledger(raw)
    except ValueError as error:
        raise _not_an_export() from error
    if exported != data:
        raise _not_an_export()
    return raw


def _take_section(lines: list[bytes], name: str) -> list[bytes]:
    """Remove the section `name` from the front of `lines`."""
    title, count = _two_words(lines[0])
    # The comparison of the whole file would find a wrong name or count too; this keeps what we slice small.
    if title != name or not 0 <= int(count) < len(lines) - 1:
        raise ValueError("a section is not where it must be")
    section = lines[1 : int(count) + 1]
    del lines[: int(count) + 1]
    return section


def _two_words(line: bytes) -> tuple[str, str]:
    first, second = line.decode("ascii").split(" ")
    return first, second


def _not_an_export() -> LedgerUnreadableError:
    return LedgerUnreadableError(
        "the file is not an exported ledger that can be read",
        why="its text is not exactly what an export of its contents would be",
        fix="get the export again from the ledger's owner",
    )
