"""`Scenario`: data recipe, units, consent recipe, noise and plan template of a simulation, parsed from TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fedseg.errors import ScenarioError
from fedseg.plan import exact_number


def _share(value: object) -> Fraction:
    if not isinstance(value, str):
        raise ValueError('write shares as text: "9/10"')  # noqa: TRY004 (pydantic collects ValueErrors)
    numerator, _, denominator = value.partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal() and len(value) <= 20 and int(denominator)):  # noqa: PLR2004 (plenty)
        raise ValueError('write shares as text: "9/10"')
    return Fraction(int(numerator), int(denominator))


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise ValueError("must be positive")
    return value


Share = Annotated[Fraction, BeforeValidator(_share)]
Number = Annotated[Decimal, BeforeValidator(exact_number), Field(allow_inf_nan=False, max_digits=20)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True, populate_by_name=True
    )


class BlobRecipe(_Part):
    """Made-up customers: a mixture of spherical Gaussians, so that the truth is known."""

    seed: Annotated[int, Field(ge=0)]
    customers: Annotated[int, Field(ge=1, le=10_000_000)]
    centers: Annotated[
        tuple[Annotated[tuple[Number, ...], Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]
    spreads: Annotated[tuple[Annotated[Number, AfterValidator(_positive)], ...], Field(min_length=1, strict=False)]
    weights: Annotated[tuple[Share, ...], Field(min_length=1, strict=False)]
    columns: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.centers) == len(self.spreads) == len(self.weights) or sum(self.weights) != 1:
            raise ValueError("centers, spreads and weights belong together, and the weights add up to 1")
        if any(len(center) != len(self.columns) for center in self.centers):
            raise ValueError("each center has one number a column")
        return self


class DataRecipe(_Part):
    """Where the customers come from: a file beside the scenario, or a recipe for made-up ones."""

    subject: str
    file: str | None = None
    blobs: BlobRecipe | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.file is None) == (self.blobs is None):
            raise ValueError("name either a file or a recipe for blobs")
        return self


class Condition(_Part):
    """What a column must be for a row to belong to a unit."""

    at_least: Annotated[Number | None, Field(alias="from")] = None
    below: Number | None = None
    one_of: Annotated[tuple[str, ...] | None, Field(alias="in", strict=False)] = None
    none_of: Annotated[tuple[str, ...] | None, Field(alias="not_in", strict=False)] = None


class UnitRecipe(_Part):
    """A business unit: the rows that meet all its conditions."""

    name: str
    where: dict[str, Condition] = {}


class ConsentRecipe(_Part):
    """A synthetic consent register: the share of customers in each state, drawn by a hash of seed and identifier."""

    seed: int
    given: Share
    withdrawn: Share
    expired: Share
    never_asked: Share

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.given + self.withdrawn + self.expired + self.never_asked != 1:
            raise ValueError("the shares of consent states must add up to 1")
        return self


class NoiseRecipe(_Part):
    """Which source draws the noise."""

    source: Literal["system", "simulated"]
    seed: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source == "simulated") != (self.seed is not None):
            raise ValueError("simulated noise needs a seed, the system's takes none")
        return self


class Expected(_Part):
    """What a run of this scenario should show."""

    cost_ratio_at_most: Number | None = None


class Scenario(_Part):
    """The content of a scenario file."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    title: str
    policy: str
    """Policy file of every unit, relative to the scenario."""
    data: DataRecipe
    units: Annotated[tuple[UnitRecipe, ...], Field(min_length=1, strict=False)]
    consent: ConsentRecipe
    noise: NoiseRecipe
    plan: dict[str, Any]
    """The plan, less its version and its units with their keys: those follow when the units have made their keys."""
    expected: Expected = Expected()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({unit.name for unit in self.units}) != len(self.units):
            raise ValueError("each unit needs its own name")
        return self


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario and the directory its file names are relative to."""

    scenario: Scenario
    folder: Path


def load_scenario(path: Path, overrides: Mapping[str, str | int] | None = None) -> LoadedScenario:
    """Read a scenario file; `overrides` sets dotted keys, as `--sweep` and `--seeds` do.

    Raises:
        ScenarioError: If it cannot be read, is not TOML, or breaks the schema; names the first place.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        for key, value in (overrides or {}).items():
            _set(document, key.split("."), value)
        return LoadedScenario(Scenario.model_validate(document), path.parent)
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(path, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    except ValueError as error:
        raise _refused(path, str(error)) from error


def _set(document: dict[str, Any], parts: list[str], value: str | int) -> None:
    *folders, last = parts
    place = document
    for name in folders:
        inner = place.get(name)
        if not isinstance(inner, dict):
            raise ValueError(f"there is no table {name!r} to set {'.'.join(parts)!r} in")  # noqa: TRY004 (a wrong option)
        place = inner
    if last not in place:
        raise ValueError(f"there is no key {'.'.join(parts)!r} to set")
    place[last] = value


def _refused(path: Path, why: str) -> ScenarioError:
    return ScenarioError(
        f"the scenario {path.name} cannot be used",
        why=why,
        fix="see simulations/online_retail/scenario.toml for a complete example",
    )
