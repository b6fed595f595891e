"""Bundles of forged evidence, packed as the program packs them, or as somebody hostile would."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fedseg.audit.archive import MANIFEST, Member, Role, _pieces, pack
from fedseg.ledger.export import export_ledger
from fedseg.ledger.reading import read_ledger
from tests.forged_ledger import Forgery
from tests.small_federation import SmallFederation, policy_document


@dataclass(frozen=True)
class Evidence:
    """Members by name, each change making another."""

    members: dict[str, Member]

    @classmethod
    def of(cls, finished: SmallFederation, path: Path, *, north: Forgery, server: Forgery) -> "Evidence":
        """What a run of units north and south leaves, with these ledgers of north and of the server."""
        (path / "evidence").mkdir(exist_ok=True)
        for old in (path / "evidence").iterdir():
            old.unlink()
        ledgers = {
            "server/ledger.txt": server.write(path / "evidence/server.db"),
            "units/north/ledger.txt": north.write(path / "evidence/north.db"),
            "units/south/ledger.txt": finished.home("south").path / "ledger.db",
        }
        members = [Member(name, Role.LEDGER, export_ledger(read_ledger(file))) for name, file in ledgers.items()]
        members += [Member(f"units/{name}/policy.yaml", Role.POLICY, policy_document()) for name in ("north", "south")]
        members.append(Member("plan.toml", Role.PLAN, finished.document))
        published = [line.data for line in server.all("publication")]
        members += [Member("segmentation.json", Role.SEGMENTATION, data) for data in published[:1]]
        return cls({one.name: one for one in members})

    def changed(self, name: str, data: bytes) -> "Evidence":
        """The same with other bytes in a member."""
        return Evidence({**self.members, name: Member(name, self.members[name].role, data)})

    def without(self, name: str) -> "Evidence":
        """The same without a member."""
        return Evidence({other: one for other, one in self.members.items() if other != name})

    def only(self, *names: str) -> "Evidence":
        """These members alone."""
        return Evidence({name: self.members[name] for name in names})

    def packed(self) -> bytes:
        """As the program packs it."""
        return pack(list(self.members.values()))

    def packed_with_manifest(self, old: bytes, new: bytes) -> bytes:
        """With something else in the manifest, and everything that follows from it made to fit."""
        ordered = sorted(self.members.values(), key=lambda one: one.name)
        with zipfile.ZipFile(io.BytesIO(self.packed())) as true:
            manifest = true.read(MANIFEST)
        assert old in manifest
        return b"".join(piece for _, piece in _pieces(manifest.replace(old, new), ordered))

    def packed_by_python(self) -> bytes:
        """The same files, manifest included, compressed by Python's own module."""
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.packed())) as true, zipfile.ZipFile(packed, "w") as other:
            for name in true.namelist():
                other.writestr(name, true.read(name), zipfile.ZIP_DEFLATED)
        return packed.getvalue()
