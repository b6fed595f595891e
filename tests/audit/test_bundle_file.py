"""A bundle's file has one spelling: what is hostile, damaged or packed by others is refused with a reason, and unpacked never."""

import io
import random
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedseg.audit.archive import (
    _MANIFEST_LIMIT_BYTES,
    BUNDLE_LIMIT_BYTES,
    MANIFEST,
    MEMBERS_MAX,
    Member,
    Role,
    _pieces,
    pack,
    unpack,
)
from fedseg.audit.faults import Fault, fault_of
from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical, sha256_hex

MEMBERS = [
    Member("units/north/ledger.txt", Role.LEDGER, b"a ledger\n"),
    Member("plan.toml", Role.PLAN, b"version = 1\n"),
    Member("segmentation.json", Role.SEGMENTATION, b""),
]
ARCHIVE_FAULTS = {Fault.ARCHIVE, Fault.BUNDLE_SIZE, Fault.MANIFEST, Fault.MEMBER}


def refused(data: bytes) -> Fault:
    with pytest.raises(VerificationError) as found:
        unpack(data)
    assert found.value.why
    return fault_of(found.value)


def with_manifest(document: Json, members: list[Member] = MEMBERS) -> bytes:
    """A zip in which everything follows from this manifest, as far as it can."""
    assert isinstance(document, dict)
    ordered = sorted(members, key=lambda one: one.name)
    return b"".join(piece for _, piece in _pieces(canonical(document), ordered))


def row(name: str, data: bytes = b"", **changes: Json) -> Json:
    return {"name": name, "role": "plan", "sha256": sha256_hex(data), "size": len(data), **changes}


def manifest(*rows: Json, **changes: Json) -> Json:
    return {"kind": "fedseg-audit-bundle", "version": 1, "members": list(rows), **changes}


# What is right


def test_a_bundle_is_read_as_it_was_packed() -> None:
    assert list(unpack(pack(MEMBERS))) == sorted(MEMBERS, key=lambda one: one.name)
    assert unpack(pack([])) == ()


def test_the_same_evidence_gives_the_same_bytes_in_any_order() -> None:
    assert pack(MEMBERS) == pack(MEMBERS[::-1])
    # Pinned: a bundle of today must be the same bytes under every later version.
    assert sha256_hex(pack(MEMBERS)) == PINNED


PINNED = "bccd64a6e12e94387a929c1367619402ef33f3e2aaeed5985817d94897bccd7f"


def test_any_zip_program_can_open_it(tmp_path: Path) -> None:
    (tmp_path / "run.zip").write_bytes(pack(MEMBERS))
    with zipfile.ZipFile(tmp_path / "run.zip") as found:
        assert found.testzip() is None
        assert found.namelist() == [MANIFEST, "plan.toml", "segmentation.json", "units/north/ledger.txt"]
        assert found.read("plan.toml") == b"version = 1\n"
        for info in found.infolist():
            assert stat.S_ISREG(info.external_attr >> 16)
            assert info.compress_type == zipfile.ZIP_STORED


def test_two_members_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        pack([MEMBERS[0], MEMBERS[0]])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../plan.toml",
        "units/../plan.toml",
        "units//ledger.txt",
        "units/./ledger.txt",
        "units/ledger.txt/",
        "units\\ledger.txt",
        "C:plan.toml",
        "Plan.toml",
        "plan .toml",
        "plan.toml\n",
        "plan.toml\0",
        "plän.toml",
        "pla\u0301n.toml",
        "\uff50lan.toml",
        "\u202eplan.toml",
        ".hidden",
        "units/.hidden",
        "manifest.json",
        "a/b/c/d/e",
        "a" * 101,
    ],
)
def test_no_member_has_a_name_that_means_something_else_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="may not be called"):
        Member(name, Role.PLAN, b"")
    assert refused(with_manifest(manifest(row(name)))) in ARCHIVE_FAULTS


# What is changed


def test_any_changed_byte_is_found_with_a_reason() -> None:
    data = pack(MEMBERS)
    for place in range(len(data)):
        for bits in (1, 0x20, 0x80, 0xFF):
            changed = bytearray(data)
            changed[place] ^= bits
            assert refused(bytes(changed)) in ARCHIVE_FAULTS, place


def test_any_missing_or_added_byte_is_found() -> None:
    data = pack(MEMBERS)
    for place in range(len(data)):
        assert refused(data[:place]) in ARCHIVE_FAULTS, place
        assert refused(data[:place] + data[place + 1 :]) in ARCHIVE_FAULTS, place
        assert refused(data[:place] + b"\0" + data[place:]) in ARCHIVE_FAULTS, place
    assert refused(data + b"\0") is Fault.ARCHIVE
    assert refused(data + data) is Fault.ARCHIVE


def test_noise_is_no_bundle() -> None:
    coins = random.Random(5)
    for length in (0, 1, 21, 22, 30, 42, 43, 44, 100, 5000):
        for start in (b"", b"PK\3\4", pack(MEMBERS)[:43], b"PK\5\6" + bytes(18)):
            assert refused((start + coins.randbytes(length))[: max(length, 43)]) in ARCHIVE_FAULTS


# Zips that other programs would accept


def zipped(build: Callable[[zipfile.ZipFile], None]) -> bytes:
    """A zip by Python's module that begins with the true manifest and members, then whatever `build` adds."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pack(MEMBERS))) as true, zipfile.ZipFile(file, "w") as other:
        for info in true.infolist():
            other.writestr(info, true.read(info))
        build(other)
    return file.getvalue()


def a_link(other: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("units/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    other.writestr(info, "/etc/passwd")


def a_folder(other: zipfile.ZipFile) -> None:
    other.mkdir("units")


def a_name_twice(other: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        other.writestr("plan.toml", "another plan")


def a_name_in_capitals(other: zipfile.ZipFile) -> None:
    other.writestr("PLAN.TOML", "another plan")


def a_name_in_another_normal_form(other: zipfile.ZipFile) -> None:
    other.writestr("pla\u0301n.toml", "another plan")


def a_path_out_of_the_folder(other: zipfile.ZipFile) -> None:
    other.writestr("../../.bashrc", "evil")


def an_absolute_path(other: zipfile.ZipFile) -> None:
    other.writestr("/etc/passwd", "evil")


def a_bomb(other: zipfile.ZipFile) -> None:
    other.writestr("bomb", bytes(50_000_000), zipfile.ZIP_DEFLATED, 9)


def a_comment(other: zipfile.ZipFile) -> None:
    other.comment = b"all went well"


def nothing(other: zipfile.ZipFile) -> None:
    """A zip that holds the same, written by another program: even that is another file."""


BUILDS = [
    a_link,
    a_folder,
    a_name_twice,
    a_name_in_capitals,
    a_name_in_another_normal_form,
    a_path_out_of_the_folder,
    an_absolute_path,
    a_bomb,
    a_comment,
]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_nothing_else_that_a_zip_can_hold_is_accepted(build: Callable[[zipfile.ZipFile], None]) -> None:
    assert refused(zipped(build)) is Fault.ARCHIVE


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_bundle_is_refused_before_anything_is_expanded(method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as other:
        other.writestr(MANIFEST, canonical({"members": []}) + bytes(10_000_000))
    assert refused(file.getvalue()) in {Fault.ARCHIVE, Fault.BUNDLE_SIZE}


def test_an_encrypted_bundle_is_refused() -> None:
    data = bytearray(pack(MEMBERS))
    data[6] |= 1
    assert refused(bytes(data)) is Fault.ARCHIVE


def quoted_bomb() -> Iterator[bytes]:
    """Directory entries that all point at one member, as in overlapping zip bombs; and sizes that no file has."""
    data = pack(MEMBERS)
    at = data.rindex(b"PK\1\2")
    yield data[:at] + data[at:-22] * 1000 + data[-22:]
    for place in (18, 22):
        for size in (0xFFFFFFFF, 0x7FFFFFFF, len(data)):
            yield data[:place] + struct.pack("<I", size) + data[place + 4 :]


def test_overlapping_members_and_huge_sizes_are_refused() -> None:
    for data in quoted_bomb():
        assert refused(data) in ARCHIVE_FAULTS


def test_a_manifest_that_says_it_is_longer_than_the_file_is_not_sought() -> None:
    data = pack(MEMBERS)
    longest = len(data) - 30 - len(MANIFEST)
    for size, fault in ((longest, Fault.ARCHIVE), (longest + 1, Fault.BUNDLE_SIZE), (0xFFFFFFFF, Fault.BUNDLE_SIZE)):
        assert refused(data[:22] + struct.pack("<I", size) + data[26:]) is fault


def test_a_manifest_beyond_its_limit_is_not_read_even_if_it_is_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(MEMBERS)
    size = int.from_bytes(data[22:26], "little")
    monkeypatch.setattr("fedseg.audit.archive._MANIFEST_LIMIT_BYTES", size)
    assert len(unpack(data)) == len(MEMBERS)
    monkeypatch.setattr("fedseg.audit.archive._MANIFEST_LIMIT_BYTES", size - 1)
    assert refused(data) is Fault.BUNDLE_SIZE


def test_a_file_that_begins_as_no_bundle_does_is_sent_to_the_right_command() -> None:
    for data in (b"fedseg-ledger-export 1\n" * 40, b"\xff" * 1000):
        with pytest.raises(VerificationError) as found:
            unpack(data)
        assert fault_of(found.value) is Fault.ARCHIVE
        assert "fedseg ledger verify" in found.value.why


def test_a_manifest_that_is_refused_is_not_quoted() -> None:
    with pytest.raises(VerificationError) as found:
        unpack(with_manifest(manifest(row("plan.toml", role="call 555-0100"))))
    assert found.value.why.endswith(": members.0.role")


def test_a_file_beyond_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedseg.audit.archive.BUNDLE_LIMIT_BYTES", 100)
    assert refused(pack_with_limit(monkeypatch)) is Fault.BUNDLE_SIZE
    with pytest.raises(ValueError, match="at most"):
        pack(MEMBERS)


def test_the_limits_are_those_that_the_reference_names() -> None:
    assert (MEMBERS_MAX, BUNDLE_LIMIT_BYTES) == (4096, 1024**3)
    # As long as a manifest of so many members with the longest names can be, and not longer.
    longest = row("a" * 100 + ("/" + "a" * 100) * 3, role="segmentation", size=BUNDLE_LIMIT_BYTES)
    assert isinstance(longest, dict)
    needed = len(canonical(longest)) * MEMBERS_MAX
    assert needed < _MANIFEST_LIMIT_BYTES == 4 * 1024**2
    many = [Member(f"plan-{number:05}.toml", Role.PLAN, b"") for number in range(MEMBERS_MAX)]
    assert len(unpack(pack(many))) == MEMBERS_MAX
    with pytest.raises(ValueError, match="at most"):
        pack([*many, Member("plan.toml", Role.PLAN, b"")])


def test_a_bundle_as_large_as_the_limit_is_packed_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedseg.audit.archive.BUNDLE_LIMIT_BYTES", len(pack(MEMBERS)))
    assert len(unpack(pack(MEMBERS))) == len(MEMBERS)


def pack_with_limit(monkeypatch: pytest.MonkeyPatch) -> bytes:
    with monkeypatch.context() as once:
        once.setattr("fedseg.audit.archive.BUNDLE_LIMIT_BYTES", BUNDLE_LIMIT_BYTES)
        return pack(MEMBERS)


# Manifests


MANIFESTS: list[Json] = [
    {},
    manifest(kind="fedseg-audit-bundle-2"),
    manifest(version=2),
    manifest(version=True),
    manifest(more=1),
    manifest(members={}),
    manifest(members=None),
    manifest(row("plan.toml", role="certificate")),
    manifest(row("plan.toml", size=-1)),
    manifest(row("plan.toml", size=BUNDLE_LIMIT_BYTES + 1)),
    manifest(row("plan.toml", size="12")),
    manifest(row("plan.toml", sha256="AB" * 32)),
    manifest(row("plan.toml", link="/etc/passwd")),
    manifest(row("plan.toml"), row("plan.toml")),
    manifest(row("segmentation.json"), row("plan.toml")),
    manifest(row(MANIFEST)),
    manifest(row("../plan.toml")),
    manifest(*(row(f"plan-{number:05}.toml") for number in range(MEMBERS_MAX + 1))),
]


@pytest.mark.parametrize("document", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_of_another_shape_is_refused(document: Json) -> None:
    assert refused(with_manifest(document)) is Fault.MANIFEST


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"a":1,"a":1}', b'{"a":1.5}', b"\xff", b"[" * 100_000, b'{"a":' * 2000]
)
def test_a_manifest_that_is_no_canonical_json_is_refused(text: bytes) -> None:
    assert refused(b"".join(piece for _, piece in _pieces(text, []))) is Fault.MANIFEST


def test_a_manifest_that_names_what_is_not_there_is_refused() -> None:
    more = Member("zzz.toml", Role.PLAN, b"")
    assert refused(with_manifest(manifest(row("plan.toml"), row("zzz.toml")), [more])) in ARCHIVE_FAULTS
    huge = row("plan.toml", size=BUNDLE_LIMIT_BYTES)
    assert refused(with_manifest(manifest(huge), [Member("plan.toml", Role.PLAN, b"")])) is Fault.MEMBER
