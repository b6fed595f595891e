"""What is clustered: thirteen made-up shapes, and four tables of real people or things, all encoded as units do it.

Real tables get public bounds and vocabularies, stated here and never learned: a number takes one column, a choice of
two another, a choice of more a column for each value, at either end of the box.
"""

import csv
import functools
import gzip
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.accuracy.families import SHAPES
from fedseg.clustering.features import FEATURE_MAX
from fedseg.simulation.shipped import shipped

DATA = Path(__file__).parents[1] / "data"

Table = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Customers to be grouped into k segments."""

    name: str
    is_real: bool
    k: int
    draw: Callable[[int], NDArray[np.int32]]
    """From a seed to encoded customers, shape (n, d), within +-FEATURE_MAX; real ones are the same for every seed."""


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric column between public bounds, after a public logarithm or as it is."""

    name: str
    lower: float
    upper: float
    log: bool = False

    def columns(self, table: Table) -> NDArray[np.float64]:
        """Positions in [-1, 1], shape (rows, 1); an empty field counts as the lower bound."""
        forward = math.log1p if self.log else float
        low, high = forward(self.lower), forward(self.upper)
        known = (min(max(float(row[self.name].strip() or self.lower), self.lower), self.upper) for row in table)
        return np.array([[2 * (forward(value) - low) / (high - low) - 1] for value in known])


@dataclass(frozen=True, slots=True)
class Choice:
    """A categorical column with a public vocabulary."""

    name: str
    values: tuple[str, ...]

    def columns(self, table: Table) -> NDArray[np.float64]:
        """-1 or 1: one column for a choice of two, else one for each value. A value outside the vocabulary has none."""
        found = np.array([row[self.name] for row in table])
        shown = self.values[1:] if len(self.values) == 2 else self.values  # noqa: PLR2004 (yes or no)
        return np.column_stack([np.where(found == value, 1.0, -1.0) for value in shown])


RETAIL = (
    Number("recency_days", 0, 730, log=True),
    Number("frequency", 0, 500, log=True),
    Number("gross_monetary", 0, 1_000_000, log=True),
)

_YES = ("No", "Yes")
_INTERNET = ("No", "Yes", "No internet service")
TELCO: tuple[Number | Choice, ...] = (
    Number("tenure", 0, 84),
    Number("MonthlyCharges", 0, 150),
    Number("TotalCharges", 0, 10_000),
    Choice("gender", ("Female", "Male")),
    Choice("SeniorCitizen", ("0", "1")),
    *(Choice(name, _YES) for name in ("Partner", "Dependents", "PhoneService", "PaperlessBilling")),
    Choice("MultipleLines", ("No", "Yes", "No phone service")),
    Choice("InternetService", ("No", "DSL", "Fiber optic")),
    *(Choice(name, _INTERNET) for name in ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport")),
    *(Choice(name, _INTERNET) for name in ("StreamingTV", "StreamingMovies")),
    Choice("Contract", ("Month-to-month", "One year", "Two year")),
    Choice(
        "PaymentMethod",
        ("Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)"),
    ),
)

_JOBS = "admin. blue-collar entrepreneur housemaid management retired self-employed services student technician"
BANK: tuple[Number | Choice, ...] = (
    Number("age", 18, 100),
    Number("balance", -2_000, 20_000),
    Number("campaign", 0, 100, log=True),
    Number("previous", 0, 100, log=True),
    Choice("job", (*_JOBS.split(), "unemployed", "unknown")),
    Choice("marital", ("married", "single", "divorced")),
    Choice("education", ("primary", "secondary", "tertiary", "unknown")),
    *(Choice(name, ("no", "yes")) for name in ("default", "housing", "loan")),
    Choice("contact", ("cellular", "telephone", "unknown")),
    Choice("poutcome", ("unknown", "failure", "other", "success")),
)


def encoded(path: Path, columns: tuple[Number | Choice, ...]) -> NDArray[np.int32]:
    """The named columns of a gzipped CSV file as integers within +-FEATURE_MAX, one row a line."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return _integers(np.column_stack([one.columns(table) for one in columns]))


def _digits() -> NDArray[np.int32]:
    images: NDArray[np.float64] = load_digits().data
    return _integers(images / 8 - 1)  # a pixel is between 0 and 16


def _integers(positions: NDArray[np.float64]) -> NDArray[np.int32]:
    integers: NDArray[np.int32] = np.rint(positions * FEATURE_MAX).astype(np.int32)
    return integers


def _real(name: str, k: int, read: Callable[[], NDArray[np.int32]]) -> DataSet:
    once = functools.cache(read)
    return DataSet(name, is_real=True, k=k, draw=lambda _seed: once())


DATA_SETS: Mapping[str, DataSet] = {
    one.name: one
    for one in (
        *(DataSet(shape.name, is_real=False, k=shape.k, draw=shape.draw) for shape in SHAPES),
        _real("retail", 8, lambda: encoded(shipped("simulations/online_retail/customers.csv.gz"), RETAIL)),
        _real("telco", 6, lambda: encoded(DATA / "telco_churn.csv.gz", TELCO)),
        _real("bank", 8, lambda: encoded(DATA / "bank_marketing.csv.gz", BANK)),
        _real("digits", 10, _digits),
    )
}
