"""Data recipes: the customers of a scenario, split into units. Simulation only; here all data is in one place."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from fedseg.clustering.categories import CategoricalFeature, RegionFeature
from fedseg.errors import ScenarioError
from fedseg.policy.consent import ConsentEvent
from fedseg.simulation.scenario import BlobRecipe, Condition, ConsentRecipe, LoadedScenario


def all_customers(loaded: LoadedScenario) -> pa.Table:
    """All customers of the scenario, identifiers as text.

    Raises:
        ScenarioError: If the file cannot be read or lacks a column the units or the plan need.
    """
    recipe = loaded.scenario.data
    if recipe.blobs is not None:
        return _blobs(recipe.blobs, recipe.subject)
    path = loaded.folder / str(recipe.file)
    try:
        texts = dict.fromkeys((recipe.subject, *_text_columns(loaded)), pa.string())
        table = pc_csv.read_csv(path, convert_options=pc_csv.ConvertOptions(column_types=texts))
    except (OSError, pa.ArrowInvalid):
        # Arrow's own message quotes the row it stumbled over, and `--debug` would print it.
        raise _refused(f"{path.name} cannot be read as CSV") from None
    needed = {recipe.subject, *(column for unit in loaded.scenario.units for column in unit.where)}
    lacking = sorted(needed - set(table.column_names))
    if lacking:
        raise _refused(f"{path.name} has no column {lacking[0]!r}")
    return table


def split_units(loaded: LoadedScenario, customers: pa.Table) -> dict[str, pa.Table]:
    """Each unit's rows.

    Raises:
        ScenarioError: If a row belongs to two units or to none: then the scenario does not say what it means.
    """
    masks = {unit.name: _mask(customers, unit.where) for unit in loaded.scenario.units}
    owners = np.sum(list(masks.values()), axis=0)
    if (owners != 1).any():
        raise _refused("its units do not split the customers: some row belongs to none or to several")
    return {name: customers.filter(pa.array(mask)) for name, mask in masks.items()}


def synthetic_consents(
    recipe: ConsentRecipe, customers: list[tuple[str, bytes]], purpose: str, now: datetime
) -> Iterator[ConsentEvent]:
    """Consent events of a made-up register, times relative to `now`.

    Each customer's state and dates follow from a hash of the seed and the identifier, so they are the same in every run
    and in whatever order. `customers` pairs identifiers with the unit's pseudonymous keys.
    """
    bounds = (recipe.given, recipe.given + recipe.withdrawn, recipe.given + recipe.withdrawn + recipe.expired)
    for identifier, subject in customers:
        digest = hashlib.sha256(f"{recipe.seed}:{identifier}".encode()).digest()
        draw, days = Fraction(int.from_bytes(digest[:8], "big"), 2**64), 30 + int.from_bytes(digest[8:10], "big") % 300
        asked = now - timedelta(days=days)
        if draw < bounds[1]:
            yield _given(subject, purpose, asked, asked + timedelta(days=730))
        if bounds[0] <= draw < bounds[1]:
            withdrawn = asked + timedelta(days=days // 2)
            yield ConsentEvent(
                subject=subject, purpose=purpose, kind="withdrawn", event_time=withdrawn, recorded_at=withdrawn
            )
        if bounds[1] <= draw < bounds[2]:
            yield _given(subject, purpose, asked, now - timedelta(days=1 + days // 3))


def _text_columns(loaded: LoadedScenario) -> list[str]:
    """Columns that the plan reads as text: what looks like numbers there is left as it stands."""
    kinds, features = {CategoricalFeature.kind, RegionFeature.kind}, loaded.scenario.plan.get("features")
    tables = [one for one in features if isinstance(one, dict)] if isinstance(features, list) else []
    return [str(one.get("name")) for one in tables if one.get("kind") in kinds]


def _given(subject: bytes, purpose: str, asked: datetime, until: datetime) -> ConsentEvent:
    return ConsentEvent(
        subject=subject,
        purpose=purpose,
        kind="given",
        event_time=asked,
        recorded_at=asked,
        valid_until=until,
        notice_version=1,
    )


def _mask(customers: pa.Table, where: dict[str, Condition]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.ones(customers.num_rows, dtype=np.bool_)
    for column, condition in where.items():
        values = customers.column(column)
        tests = []
        if condition.at_least is not None:
            tests.append(pc.greater_equal(values, float(condition.at_least)))
        if condition.below is not None:
            tests.append(pc.less(values, float(condition.below)))
        if condition.one_of is not None:
            tests.append(pc.is_in(values, value_set=pa.array(condition.one_of)))
        if condition.none_of is not None:
            tests.append(pc.invert(pc.is_in(values, value_set=pa.array(condition.none_of))))
        for test in tests:
            mask &= pc.fill_null(test, fill_value=False).to_numpy()
    return mask


def _blobs(recipe: BlobRecipe, subject: str) -> pa.Table:
    coins = np.random.default_rng(recipe.seed)
    blob = coins.choice(len(recipe.centers), recipe.customers, p=[float(weight) for weight in recipe.weights])
    centers = np.array(recipe.centers, dtype=np.float64)
    spreads = np.array(recipe.spreads, dtype=np.float64)
    values = centers[blob] + spreads[blob, None] * coins.standard_normal((recipe.customers, centers.shape[1]))
    columns = {subject: [f"made-up-{number}" for number in range(recipe.customers)]}
    return pa.table(columns | {name: values[:, index] for index, name in enumerate(recipe.columns)})


def _refused(why: str) -> ScenarioError:
    return ScenarioError("the scenario's data cannot be used", why=why, fix="correct the scenario file or its data")
