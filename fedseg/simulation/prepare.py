"""From a scenario to homes on disk: a unit's data, register, keys and policy, the server's key, and the plan."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv
import tomli_w

from fedseg.errors import ScenarioError, SettingsError, StorageError
from fedseg.node.home import LOCAL, NodeHome, NodeSettings
from fedseg.node.source import subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.plan import parse_plan
from fedseg.server.home import ServerHome
from fedseg.simulation.data import all_customers, split_units, synthetic_consents
from fedseg.simulation.scenario import LoadedScenario


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a run's output directory."""

    out: Path

    @property
    def plan(self) -> Path:
        """The plan as run."""
        return self.out / "plan.toml"

    @property
    def server(self) -> Path:
        """The server's home."""
        return self.out / "server"

    def node(self, unit: str) -> Path:
        """A unit's home."""
        return self.out / "nodes" / unit

    def units(self) -> list[str]:
        """Units that have a home here, in name order."""
        return sorted(path.parent.name for path in self.out.glob("nodes/*/node.toml"))


def prepare(loaded: LoadedScenario, layout: Layout, *, now: datetime) -> None:
    """Make all homes and the plan; nothing is approved yet.

    Raises:
        SettingsError: If the output directory holds something already.
        StorageError: If the disk is full.
    """
    with storage_errors(layout.out):
        if layout.out.exists() and any(layout.out.iterdir()):
            raise _not_empty(layout)
        layout.out.mkdir(parents=True, exist_ok=True)
        policy = _policy(loaded)
        units = split_units(loaded, all_customers(loaded))
        homes = [
            _make_home(loaded, layout.node(name), name, rows, policy=policy, now=now) for name, rows in units.items()
        ]
        ServerHome.create(layout.server)
        document = tomli_w.dumps(_plan(loaded, homes)).encode()
        parse_plan(document)
        # The plan comes last and at once, so where there is one, everything before it is complete.
        draft = layout.plan.with_name("plan.toml.part")
        draft.write_bytes(document)
        draft.replace(layout.plan)


@contextlib.contextmanager
def storage_errors(place: Path) -> Generator[None]:
    """Turn a full or read-only disk into the error people can act on."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write to {place}",
            why=error.strerror or "the disk refused",
            fix="free space, or name another --out",
        ) from error


def _not_empty(layout: Layout) -> SettingsError:
    prepared = layout.plan.exists()
    return SettingsError(
        f"{layout.out} is not empty",
        why="a run never overwrites another one's ledgers"
        if prepared
        else "it holds no plan.toml, so no run to resume",
        fix="name another --out, or resume it with fedseg simulate --resume"
        if prepared
        else "name another --out, or remove the directory",
    )


def _make_home(
    loaded: LoadedScenario, path: Path, name: str, rows: pa.Table, *, policy: bytes, now: datetime
) -> NodeHome:
    recipe = loaded.scenario.data
    source = SourceSettings(path=f"{LOCAL}/customers.csv", format="csv", subject=recipe.subject)
    home = NodeHome.create(path, NodeSettings(version=1, unit=name, source=source), policy=policy)
    pc_csv.write_csv(rows, path / LOCAL / "customers.csv")
    identifiers = [str(one) for one in rows.column(recipe.subject).to_pylist() if one is not None]
    customers = [(one, subject_key(one.encode(), home.subject_secret)) for one in identifiers]
    with home.register() as register:
        register.append_events(
            synthetic_consents(loaded.scenario.consent, customers, str(loaded.scenario.plan.get("purpose")), now)
        )
    return home


def _policy(loaded: LoadedScenario) -> bytes:
    try:
        return (loaded.folder / loaded.scenario.policy).read_bytes()
    except OSError as error:
        raise ScenarioError(
            "the scenario's policy cannot be read",
            why=f"{loaded.scenario.policy}: {error.strerror}",
            fix="correct the scenario's `policy`",
        ) from error


def _plan(loaded: LoadedScenario, homes: list[NodeHome]) -> dict[str, Any]:
    units = [{"name": home.settings.unit, "public_key": home.key.public.to_text()} for home in homes]
    return {"version": 1, **_without_decimals(loaded.scenario.plan), "units": units}


def _without_decimals(value: Any) -> Any:
    """TOML's writer wants floats; `parse_plan` reads them back as exact decimals."""
    if isinstance(value, dict):
        return {name: _without_decimals(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_decimals(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value
