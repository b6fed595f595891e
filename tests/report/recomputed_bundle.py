"""What the ledgers in a bundle say, read from their text without fedseg, and the arithmetic of a report about them."""

import base64
import functools
import hashlib
import io
import itertools
import json
import math
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import mpmath
from ruamel.yaml import YAML

DAYS = ("released_on", "approved_at", "refused_on", "closed_on", "made_on", "changed_on", "started_on")
"""Where an entry says its day."""
PACE_DAYS, PACE_DAYS_MIN, LONGEST_DAYS = 90, 7, 36_500
"""Of the forecast, as the page of reference states them."""


@dataclass(frozen=True)
class Ledger:
    """An exported ledger: its entries as text and as JSON, the day of each, and the payloads."""

    where: str
    leaves: list[bytes]
    entries: list[dict[str, Any]]
    days: list[str]
    payloads: dict[str, bytes]

    @classmethod
    def read(cls, where: str, data: bytes) -> "Ledger":
        lines = iter(data.split(b"\n")[1:])
        sections = [list(itertools.islice(lines, int(next(lines).split()[1]))) for _ in range(3)]
        entries = [json.loads(leaf) for leaf in sections[0]]
        payloads = {name.decode(): base64.b64decode(text) for name, text in map(bytes.split, sections[2])}
        found = [next((one["body"][name] for name in DAYS if name in one["body"]), "") for one in entries]
        following = max(found)
        for place in reversed(range(len(found))):  # an entry without a day was made for the next that has one
            following = found[place] = found[place] or following
        return cls(where, sections[0], entries, found, payloads)

    @property
    def genesis(self) -> dict[str, Any]:
        return dict(self.entries[0]["body"])

    @property
    def name(self) -> str:
        return self.genesis.get("unit") or "server"

    @property
    def root(self) -> str:
        return _tree_hash(self.leaves).hex()

    @property
    def fingerprint(self) -> str:
        digits = hashlib.sha256(base64.b64decode(self.genesis["public_key"])).hexdigest()[:32]
        return "-".join(digits[place : place + 4] for place in range(0, 32, 4))

    def of(self, kind: str, first: str = "", last: str = "9999") -> list[dict[str, Any]]:
        """Bodies of the entries of a kind between two days, each with its `day` and place."""
        return [
            one["body"] | {"day": day, "seq": one["seq"]}
            for one, day in zip(self.entries, self.days, strict=True)
            if one["kind"] == kind and first <= day <= last
        ]

    def spent(self, first: str = "", last: str = "9999") -> Fraction:
        return total(one["charge"]["rho"] for one in self.of("release", first, last))

    def reserved(self, last: str, purpose: str | None = None) -> Fraction:
        approved = [one for one in self.of("approval", last=last) if purpose in (None, one["purpose"])]
        plans = {one["plan_sha256"] for one in approved}
        ended = [one for one in self.of("closing", last=last) if one["plan_sha256"] in plans]
        return total(rho for one in approved for rho in one["step_rhos"]) - total(one["rho_returned"] for one in ended)


@dataclass(frozen=True)
class Bundle:
    """The ledgers of a bundle, the server's apart, and the plans that they hold."""

    data: bytes
    members: int
    server: Ledger
    units: list[Ledger]
    plans: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, data: bytes) -> "Bundle":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = json.loads(archive.read("manifest.json"))["members"]
            ledgers = [
                Ledger.read(one["name"], archive.read(one["name"])) for one in members if one["role"] == "ledger"
            ]
        held = {name: data for one in ledgers for name, data in one.payloads.items() if name.startswith("plan:")}
        plans = {name.removeprefix("plan:"): tomllib.loads(text.decode()) for name, text in held.items()}
        (server,) = (one for one in ledgers if one.genesis["role"] == "server")
        units = sorted((one for one in ledgers if one is not server), key=lambda one: one.name)
        return cls(data, len(members), server, units, plans)


def policy_document(unit: Ledger, body: dict[str, Any]) -> dict[str, Any]:
    """A policy that a unit took up, as its document says it."""
    return dict(YAML(typ="safe", pure=True).load(unit.payloads[body["payload"]["id"]]))


def _tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is written there."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _tree_hash(leaves[:split]) + _tree_hash(leaves[split:])).digest()


# Arithmetic


def total(rhos: Iterable[str]) -> Fraction:
    return sum(map(Fraction, rhos), Fraction(0))


def exact(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


@functools.cache
def epsilon(rho: Fraction, delta: Fraction) -> mpmath.mpf:
    """inf over alpha > 1 of rho alpha + ln(1 / (alpha delta)) / (alpha - 1) + ln(1 - 1/alpha): by golden sections."""
    if not rho:
        return mpmath.mpf(0)
    with mpmath.workdps(60):
        loss, chance = (mpmath.mpf(one.numerator) / one.denominator for one in (rho, delta))

        def bound(log_b: mpmath.mpf) -> mpmath.mpf:
            b = mpmath.exp(log_b)
            return loss * (1 + b) - mpmath.log((1 + b) * chance) / b + mpmath.log(b / (1 + b))

        low, high, part = mpmath.mpf(-40), mpmath.mpf(40), (mpmath.sqrt(5) - 1) / 2
        left, right = high - part * (high - low), low + part * (high - low)
        at_left, at_right = bound(left), bound(right)
        while high - low > mpmath.mpf("1e-20"):  # the bound is off by the square of that
            if at_left < at_right:
                high, right, at_right = right, left, at_left
                left = high - part * (high - low)
                at_left = bound(left)
            else:
                low, left, at_left = left, right, at_right
                right = low + part * (high - low)
                at_right = bound(right)
        return +min(at_left, at_right)


def guess(rho: Fraction, delta: Fraction) -> Decimal:
    """How often a guess is right at most, by Pinsker, Bretagnolle and Huber, or (epsilon, delta); to 0.001, upwards."""
    with mpmath.workdps(60):
        loss, chance = (mpmath.mpf(one.numerator) / one.denominator for one in (rho, delta))
        factor = mpmath.exp(epsilon(rho, delta))
        bounds = (
            (1 + mpmath.sqrt(loss / 2)) / 2,
            (1 + mpmath.sqrt(1 - mpmath.exp(-loss))) / 2,
            (factor + chance) / (factor + 1),
        )
        # A bound that is a whole thousandth goes to the next: no arithmetic knows a square root to be exact.
        least = min(min(bounds) + mpmath.mpf("1e-40"), mpmath.mpf(1)) if rho else mpmath.mpf("0.5")
        return Decimal(int(mpmath.ceil(1000 * least))).scaleb(-3)


def up(value: Fraction | mpmath.mpf, digits: int = 3) -> Decimal:
    """To so many significant digits, upwards."""
    if not value:
        return Decimal(0)
    rational = value if isinstance(value, Fraction) else Fraction(mpmath.nstr(value, 50))
    shift = digits - 1
    while rational * Fraction(10) ** shift >= 10**digits:
        shift -= 1
    while rational * Fraction(10) ** shift < 10 ** (digits - 1):
        shift += 1
    count = math.ceil(rational * Fraction(10) ** shift)
    if count == 10**digits:
        count, shift = count // 10, shift - 1
    return Decimal(count).scaleb(-shift)


def short(value: Fraction, digits: int = 3) -> str:
    """The same without zeros behind the point."""
    return format(up(value, digits).normalize(), "f")


def shown_epsilon(rho: Fraction, delta: Fraction) -> str:
    """The same with them, as epsilons are shown."""
    return format(up(epsilon(rho, delta)), "f")


def shown_guess(rho: Fraction, delta: Fraction) -> str:
    """In per cent, as guesses are shown."""
    part = guess(rho, delta)
    return "practically 100 %" if part >= Decimal("0.9995") else f"{(100 * part).normalize():f} %"


def used(part: Fraction, whole: Fraction) -> str:
    return f"{math.ceil(100 * part / whole)} %"


def left(part: Fraction, whole: Fraction) -> str:
    return f"{math.floor(100 * part / whole)} %"


def one_in(chance: Fraction) -> str:
    return f"1 in {math.floor(1 / chance):,}"


def forecast(unit: Ledger, unreserved: Fraction, as_of: str) -> tuple[int, Fraction, str]:
    """Days of the pace, the pace, and the day on which all is reserved, or an empty one."""
    releases = unit.of("release", last=as_of)
    if not releases:
        return 0, Fraction(0), ""
    today = date.fromisoformat(as_of)
    days = min(PACE_DAYS, (today - date.fromisoformat(releases[0]["day"])).days + 1)
    pace = unit.spent((today - timedelta(days=days - 1)).isoformat(), as_of) / days
    if not pace or days < PACE_DAYS_MIN or unreserved // pace > LONGEST_DAYS:
        return days, pace, ""
    return days, pace, (today + timedelta(days=unreserved // pace)).isoformat()
