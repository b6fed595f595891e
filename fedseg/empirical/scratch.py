"""A federation made for one audit: generated customers, a directory, keys, registers and ledgers of its own.

No real table, register or ledger is ever opened: the audit takes none, and refuses a directory that could hold one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fedseg.errors import SettingsError
from fedseg.node.home import LOCAL, NodeHome, NodeSettings
from fedseg.node.source import subject_key
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.purposes import Purpose

UNITS: Final = ("one", "two")
"""The units, both of which know every canary."""

COLUMNS: Final = ("place", "level")
SUBJECT: Final = "customer"

_CUSTOMERS: Final = f"{LOCAL}/customers.csv"
_POLICY: Final = f"""
version: 1
id: scratch
controller: nobody, for an audit of the noise
default: deny
purposes:
  {Purpose.SEGMENT_STATISTICS}:
    broader: dpv:ServiceUsageAnalytics
    basis: dpv:Consent
    require:
      status: [given, renewed]
      max_age_days: 730
      notice_min_version: 1
    veto: [objection, restriction, suppressed, minor]
    columns:
      allow: [{", ".join(COLUMNS)}]
    min_cohort: 1
budget:
  unit: customer
  neighbours: add-or-remove-one
  rho_cap: "1024/1"
  delta: "1/1000000"
retention:
  raw_days: 730
  consent_evidence_days: 1095
trust_models: [unit-noise]
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a generated table: an identifier, and what stands in the columns."""

    customer: str
    place: str
    level: str


def require_scratch(place: Path, real: Sequence[NodeHome] = ()) -> None:
    """Refuse a directory in which anything real is or is expected.

    Args:
        place: Where the audit would put its units; must be new, or empty.
        real: Homes of real units that are known, for where their sources are.

    Raises:
        SettingsError: If it is not empty, lies in a unit's home, or has to do with a unit's source.
    """
    resolved = place.resolve()
    home = next((one for one in (resolved, *resolved.parents) if (one / "node.toml").exists()), None)
    if home is not None:
        raise _refused(place, f"{home} is the home of a unit")
    for unit in real:
        source = (unit.path / unit.settings.source.path).resolve()
        if resolved in (source, *source.parents) or source in resolved.parents:
            raise _refused(place, f"the source of unit {unit.settings.unit!r} is there")
        if resolved in unit.path.resolve().parents:
            raise _refused(place, f"the home of unit {unit.settings.unit!r} is in it")
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise _refused(place, "something is there already")


def make_units(place: Path, *, consenting: Iterable[str], refusing: Iterable[str]) -> list[NodeHome]:
    """The homes of all units, where these identifiers have given their consent and these have taken it back."""
    now = datetime.now(UTC)
    given, taken = list(consenting), list(refusing)
    return [_make_unit(place / name, name, given, taken, now) for name in UNITS]


def write_customers(home: NodeHome, rows: Iterable[Row]) -> None:
    """Make these rows the unit's customers."""
    lines = [",".join((SUBJECT, *COLUMNS)), *(f"{one.customer},{one.place},{one.level}" for one in rows)]
    (home.path / _CUSTOMERS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _make_unit(path: Path, name: str, consenting: list[str], refusing: list[str], now: datetime) -> NodeHome:
    source = {"path": _CUSTOMERS, "format": "csv", "subject": SUBJECT}
    settings = NodeSettings.model_validate({"version": 1, "unit": name, "source": source})
    home = NodeHome.create(path, settings, policy=_POLICY.encode())
    asked, until = now - timedelta(days=60), now + timedelta(days=60)
    with home.register() as register:
        register.append_events(_event(home, one, "given", asked, until) for one in (*consenting, *refusing))
        register.append_events(_event(home, one, "withdrawn", asked + timedelta(days=1), None) for one in refusing)
    return home


def _event(home: NodeHome, customer: str, kind: str, when: datetime, until: datetime | None) -> ConsentEvent:
    return ConsentEvent(
        subject=subject_key(customer.encode(), home.subject_secret),
        purpose=str(Purpose.SEGMENT_STATISTICS),
        kind=kind,
        event_time=when,
        recorded_at=when,
        valid_until=until,
        notice_version=1 if until is not None else 0,
    )


def _refused(place: Path, why: str) -> SettingsError:
    return SettingsError(
        f"an audit of the noise cannot work in {place}",
        why=f"{why}; generated customers never go where real ones may be",
        fix="fedseg audit noise --scratch with a directory that does not exist yet, or leave the option away",
    )
