"""A scenario whose plan has a feature of every kind: three groups of made-up customers in two units."""

import csv
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from tests.small_scenario import MOST_CONSENT, POLICY, SCENARIO, SYSTEM

COLUMNS = ("spend", "senior", "contract", "postcode", "hour", "weekday")

FEATURES: list[dict[str, Any]] = [
    {
        "name": "spend",
        "label": "pounds a year",
        "lower": 0,
        "upper": 10000,
        "missing": 0,
        "transform": "log1p",
        "missing_flag": True,
    },
    {"kind": "binary", "name": "senior", "label": "65 or older", "yes_word": "senior", "no_word": "younger"},
    {
        "kind": "categorical",
        "name": "contract",
        "label": "contract",
        "vocabulary": ["Monthly", "Yearly", "Café & <more>"],
        "words": ["monthly contract", "yearly contract", "café"],
        "missing_flag": True,
    },
    {
        "kind": "region",
        "name": "postcode",
        "label": "postal region",
        "characters": 2,
        "vocabulary": ["01", "02", "10", "20", "30", "40", "50", "80"],
        "weight": 0.5,
    },
    {"kind": "cyclic", "name": "hour", "label": "hour of the day", "period": 24},
    {
        "kind": "cyclic",
        "name": "weekday",
        "label": "day of the week",
        "period": 7,
        "start": 1,
        "names": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "weight": 0.75,
        "missing_flag": True,
    },
]


def write_kinds_scenario(folder: Path, *, customers: int = 900, seed: int = 1) -> Path:
    """Write the scenario, its policy and its customers into a folder; returns the scenario file."""
    folder.mkdir(parents=True, exist_ok=True)
    document = tomllib.loads(
        SCENARIO.format(data='file = "customers.csv"', noise=SYSTEM, consent=MOST_CONSENT, upper=1)
    )
    document["units"] = [{"name": name, "where": {"unit": {"in": [name]}}} for name in ("north", "south")]
    document["plan"] |= {"k": 3, "features": FEATURES, "budget": {"epsilon": "4/1", "delta": "1/1000000"}}
    policy = POLICY.replace("visits, spend", ", ".join(COLUMNS)).replace('"1/10", delta', '"4/1", delta')
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    with (folder / "customers.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("customer", "unit", *COLUMNS), *_customers(customers, seed)])
    scenario = folder / "scenario.toml"
    scenario.write_text(tomli_w.dumps(document), encoding="utf-8")
    return scenario


def _customers(count: int, seed: int) -> list[tuple[object, ...]]:
    coins = np.random.default_rng(seed)
    return [(f"customer-{number}", ("north", "south")[number % 2], *_customer(coins)) for number in range(count)]


def _customer(coins: np.random.Generator) -> tuple[object, ...]:
    """Night owls on monthly contracts, seniors in the morning, and families at the weekend; some values missing or odd."""
    group = int(coins.integers(3))
    spend = round(float(np.expm1(coins.normal((4, 6, 8)[group], 0.5))), 2)
    hour = round(float(coins.normal((23.5, 9, 15)[group], 2)) % 24, 2)
    day = int(coins.integers(1, 8)) if coins.random() < 0.3 else (5, 2, 6)[group]
    return (
        "" if coins.random() < 0.1 else spend,
        ("no", "Yes", "false")[group] if coins.random() < 0.9 else "",
        ("Monthly", "Yearly", "Café & <more>", "Cash", "")[group if coins.random() < 0.8 else int(coins.integers(5))],
        f"{('01', '80', '20')[group] if coins.random() < 0.6 else coins.integers(10, 99)}{coins.integers(100, 999)}",
        hour,
        "" if coins.random() < 0.05 else day,
    )
