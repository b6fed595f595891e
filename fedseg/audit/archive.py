"""A bundle's file: named members behind a manifest, as a zip with exactly one spelling. Pure functions on bytes.

Every zip program can open it. Reading it needs none: the manifest comes first and determines every later byte, so a
member is cut out where the manifest puts it, and then the whole file must be what `pack` would write. Whatever else a
zip can hold (links, folders, encryption, compression, names twice, bytes between) is another spelling. Nothing is
unpacked to a disk or expanded, so nothing can grow.
"""

import enum
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedseg.audit.entries import failed
from fedseg.audit.faults import Fault
from fedseg.ledger.canonical import Json, canonical, parse_canonical, sha256_hex

BUNDLE_LIMIT_BYTES = 1024 * 1024 * 1024
"""Largest bundle that is read or written."""
MEMBERS_MAX = 4096
"""Most members beside the manifest."""
MANIFEST = "manifest.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99}){0,3}")
"""Lower-case ASCII alone, and no part begins with a dot: no name has a second spelling or leads out of a folder."""
_MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 10
"""APPNOTE.TXT 4.4.3: a file that is stored as it is."""
_MADE_BY = 3 << 8 | _VERSION
_DATE = 1 << 5 | 1
"""The first day of 1980, when zip begins: a bundle does not say when it was packed."""
_REGULAR_FILE = 0o100644 << 16
_SIZE_PLACE = 22
"""Where the first header says how long the manifest is."""


class Role(enum.StrEnum):
    """What a member is."""

    LEDGER = "ledger"
    """A ledger's text export."""
    PLAN = "plan"
    POLICY = "policy"
    SEGMENTATION = "segmentation"
    COSIGNED = "cosigned"
    """A checkpoint of a ledger, with what witnesses have signed of it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle."""

    name: str
    """Its place in the bundle; lower-case, with slashes."""
    role: Role
    data: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == MANIFEST:
            raise ValueError(f"a member of a bundle may not be called {self.name!r}")

    @property
    def owner(self) -> str:
        """The origin of the log whose folder it lies in: a unit's below `units/`, else the server's."""
        first, _, rest = self.name.partition("/")
        return f"fedseg/unit/{rest.partition('/')[0]}" if first == "units" else f"fedseg/{first}"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    role: Annotated[Role, Field(strict=False)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=BUNDLE_LIMIT_BYTES)]


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["fedseg-audit-bundle"]
    version: Annotated[int, Field(ge=1, le=1)]
    members: Annotated[list[_Row], Field(max_length=MEMBERS_MAX)]


def pack(members: Sequence[Member]) -> bytes:
    """The bundle of these members; in any order, the same members give the same bytes.

    Raises:
        ValueError: If two have one name, or they are more than a bundle may hold.
    """
    ordered = sorted(members, key=lambda one: one.name)
    if len({one.name for one in ordered}) != len(ordered):
        raise ValueError("each member of a bundle has a name of its own")
    rows: list[Json] = [
        {"name": one.name, "role": str(one.role), "sha256": sha256_hex(one.data), "size": len(one.data)}
        for one in ordered
    ]
    manifest = canonical({"kind": "fedseg-audit-bundle", "version": 1, "members": rows})
    data = b"".join(piece for _, piece in _pieces(manifest, ordered))
    if len(ordered) > MEMBERS_MAX or len(data) > BUNDLE_LIMIT_BYTES:
        raise ValueError(f"a bundle has at most {MEMBERS_MAX} members and {BUNDLE_LIMIT_BYTES} bytes")
    return data


def unpack(data: bytes) -> tuple[Member, ...]:
    """The members that `pack` made exactly `data` of.

    Raises:
        VerificationError: If it made them of nothing.
    """
    if len(data) > BUNDLE_LIMIT_BYTES:
        raise failed(Fault.BUNDLE_SIZE, f"the bundle is larger than {BUNDLE_LIMIT_BYTES} bytes")
    manifest = _manifest_bytes(data)
    rows = _parse_manifest(manifest)
    place, members = _LOCAL.size + len(MANIFEST) + len(manifest), list[Member]()
    for row in rows:
        start = place + _LOCAL.size + len(row.name)
        place = start + row.size
        member = Member(row.name, row.role, data[start:place])
        if sha256_hex(member.data) != row.sha256:
            raise failed(Fault.MEMBER, f"{row.name} is not the file that the manifest names")
        members.append(member)
    _require_spelling(data, manifest, members)
    return tuple(members)


def _manifest_bytes(data: bytes) -> bytes:
    """The first member, as its header gives its length, once that is known to be the header of just these bytes."""
    start = _LOCAL.size + len(MANIFEST)
    if len(data) < start or data[_LOCAL.size : start] != MANIFEST.encode():
        raise failed(Fault.ARCHIVE, f"it does not begin with {MANIFEST}; a single ledger is for fedseg ledger verify")
    size = int.from_bytes(data[_SIZE_PLACE : _SIZE_PLACE + 4], "little")
    if size > min(_MANIFEST_LIMIT_BYTES, len(data) - start):
        raise failed(Fault.BUNDLE_SIZE, "the manifest is longer than the file, or than any may be")
    manifest = data[start : start + size]
    if not data.startswith(_header(MANIFEST, manifest)):
        raise failed(Fault.ARCHIVE, "its manifest was changed, or another program has packed the file")
    return manifest


def _parse_manifest(manifest: bytes) -> list[_Row]:
    try:
        rows = _Manifest.model_validate(parse_canonical(manifest)).members
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"])
        raise failed(Fault.MANIFEST, f"the manifest is not one: {place}") from error
    except ValueError as error:
        raise failed(Fault.MANIFEST, f"the manifest is not one: {error}") from error
    names = [row.name for row in rows]
    if names != sorted(set(names)) or MANIFEST in names:
        raise failed(Fault.MANIFEST, "the manifest names its members twice or out of order")
    return rows


def _require_spelling(data: bytes, manifest: bytes, members: Sequence[Member]) -> None:
    """The file is byte for byte what `pack` writes, and ends there."""
    place = 0
    for what, piece in _pieces(manifest, members):
        if data[place : place + len(piece)] != piece:
            raise failed(Fault.ARCHIVE, f"{what} is not as a bundle has it")
        place += len(piece)
    if place != len(data):
        raise failed(Fault.ARCHIVE, "something follows the bundle's end")


def _pieces(manifest: bytes, members: Sequence[Member]) -> Iterator[tuple[str, bytes]]:
    """What the file consists of, with words for each piece: APPNOTE.TXT 4.3.7, 4.3.12 and 4.3.16, stored members."""
    directory, place = b"", 0
    for name, content in [(MANIFEST, manifest), *((one.name, one.data) for one in members)]:
        header = _header(name, content)
        entry = _CENTRAL.pack(b"PK\1\2", _MADE_BY, *_stored(name, content), 0, 0, 0, _REGULAR_FILE, place)
        directory += entry + name.encode("ascii")
        yield f"the header of {name}", header
        yield name, content
        place += len(header) + len(content)
    yield "the zip's directory", directory
    count = len(members) + 1
    yield "the zip's end", _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), place, 0)


def _header(name: str, content: bytes) -> bytes:
    return _LOCAL.pack(b"PK\3\4", *_stored(name, content)) + name.encode("ascii")


def _stored(name: str, content: bytes) -> tuple[int, ...]:
    """What both headers of a member say: no flags, no compression, no extra field."""
    return (_VERSION, 0, 0, 0, _DATE, zlib.crc32(content), len(content), len(content), len(name), 0)
