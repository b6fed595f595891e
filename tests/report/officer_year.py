"""A fortnight of daily plans at three units, and an independent reading of the ledgers in a bundle: a few lines of its own."""

import io
import json
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

UNITS = ("unit-0", "unit-1", "unit-2")


def ledger_lines(bundle: bytes, name: str) -> list[dict[str, Any]]:
    """The entries of an exported ledger, as the file's text has them."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        lines = archive.read(name).decode().split("\n")
    count = int(lines[1].removeprefix("entries "))
    return [json.loads(line) for line in lines[2 : 2 + count]]


@dataclass(frozen=True)
class Reading:
    """What a unit's ledger says, read independently of fedseg."""

    name: str
    entries: list[dict[str, Any]]

    @classmethod
    def of(cls, bundle: bytes, name: str) -> "Reading":
        return cls(name, ledger_lines(bundle, f"units/{name}/ledger.txt"))

    def bodies(self, kind: str, first: str = "", last: str = "9999") -> list[dict[str, Any]]:
        days = ("released_on", "approved_at", "refused_on", "closed_on", "made_on")
        found = [one["body"] for one in self.entries if one["kind"] == kind]
        return [
            one for one in found if kind == "policy" or any(day in one and first <= one[day] <= last for day in days)
        ]

    def spent(self, first: str = "", last: str = "9999") -> Fraction:
        return sum((Fraction(one["charge"]["rho"]) for one in self.bodies("release", first, last)), Fraction(0))

    def reserved(self, last: str = "9999") -> Fraction:
        approved = sum((sum(map(Fraction, one["step_rhos"])) for one in self.bodies("approval", "", last)), Fraction(0))
        returned = (Fraction(one["rho_returned"]) for one in self.bodies("closing", "", last))
        return approved - sum(returned, Fraction(0))


def unzipped(folder: Path) -> bytes:
    """The bundle in a report's folder."""
    return (folder / "bundle.zip").read_bytes()
