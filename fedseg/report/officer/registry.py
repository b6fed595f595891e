"""dp-registry.yaml: an entry for a public registry of deployments of differential privacy, as far as facts go.

The form is that of the newest records of OpenDP's Privacy Deployments Registry (`deployments/` in
github.com/opendp/deployments-registry-data, commit 04446db), held as types of our own: no schema of theirs ships with
fedseg. What only people can fill begins with TO BE FILLED.
"""

import io
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from ruamel.yaml import YAML

from fedseg.privacy.budget import upper_float
from fedseg.report.officer.evidence import Evidence, policy_of
from fedseg.report.officer.model import OfficerReport, Point

FILE = "dp-registry.yaml"
TO_BE_FILLED = "TO BE FILLED"
Text = Annotated[str, StringConstraints(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Curator(_Part):
    """Who publishes."""

    data_curator_name: Text


class Basic(_Part):
    """What it is."""

    name: Text
    data_curators: Annotated[list[Curator], Field(min_length=1)]
    description: Text
    intended_use: Text
    data_product_type: Literal["Summary statistics", "Machine learning model", "Dataset"]
    data_product_region: Text
    publication_date: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Variant(_Part):
    """Which differential privacy."""

    variant_name: Literal["Pure DP", "Approximate DP", "Zero-concentrated DP", "Renyi DP", "Custom"]
    data_domain: Text
    unprotected_quantities: Text


class Parameters(_Part):
    """How much."""

    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    rho: Annotated[float, Field(ge=0)]


class PrivacyLoss(_Part):
    """For whom."""

    privacy_unit: Text
    privacy_unit_details: Text
    privacy_parameters: Parameters
    privacy_parameters_details: Text


class Model(_Part):
    """Whom people trust."""

    model_name: Literal["Local", "Central", "Shuffle", "Federated"]
    actors: Text
    release_type: Literal["One release", "Many releases"]
    release_type_details: Text
    data_source_type: Literal["Static", "Dynamic"]
    access_type: Literal["Interactive", "Non-interactive"]


class Accounting(_Part):
    """How losses are counted."""

    post_processing: Text
    composition: Text


class Implementation(_Part):
    """How it was made."""

    preprocessing_and_hyperparameter_tuning: Text
    mechanisms: Text
    justification: Text


class Administrative(_Part):
    """About the entry itself."""

    status: Literal["Draft"] = "Draft"
    registry_authors: Annotated[list[Text], Field(min_length=1)]
    tier: Literal[1, 2, 3] = 3


class Deployment(_Part):
    """The deployment."""

    basic: Basic
    dp_variant: Variant
    privacy_loss: PrivacyLoss
    deployment_model: Model
    accounting: Accounting
    implementation: Implementation
    administrative: Administrative


class Entry(_Part):
    """The file."""

    url_slug: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    deployment: Deployment


def registry_entry(report: OfficerReport, evidence: Evidence) -> bytes | None:
    """The entry; None if no unit's ledger checks out, or nothing was sent: then there is nothing to register."""
    if not (report.verified and report.plans and report.units):
        return None
    points = {one.number: one for one in report.checklist}
    dearest = max(report.units, key=lambda one: one.limit.epsilon)
    newest = report.plans[0]
    entry = Entry(
        url_slug=newest.name,
        deployment=Deployment(
            basic=_basic(report, evidence, points),
            dp_variant=Variant(
                variant_name="Zero-concentrated DP",
                data_domain=f"Customers of {len(report.units)} units who may be counted. {_of(points[10])}",
                unprotected_quantities=_of(points[7]),
            ),
            privacy_loss=PrivacyLoss(
                privacy_unit="Customer of a unit",
                privacy_unit_details=_of(points[4]),
                privacy_parameters=Parameters(
                    epsilon=upper_float(dearest.limit.epsilon),
                    delta=upper_float(dearest.delta),
                    rho=upper_float(dearest.limit.rho),
                ),
                privacy_parameters_details=f"The largest of the units' limits, over all time. {_of(points[5])}",
            ),
            deployment_model=Model(
                model_name="Federated",
                actors=_of(points[8]),
                release_type="One release" if len(report.plans) == 1 else "Many releases",
                release_type_details=_of(points[9]),
                data_source_type="Dynamic",
                access_type="Non-interactive",
            ),
            accounting=Accounting(post_processing=_of(points[13]), composition=_of(points[12])),
            implementation=Implementation(
                preprocessing_and_hyperparameter_tuning=_of(points[14]),
                mechanisms=" ".join(_of(points[number]) for number in (15, 6, 16, 17)),
                justification=_of(points[20]),
            ),
            administrative=Administrative(registry_authors=[f"{TO_BE_FILLED}: who made this entry"]),
        ),
    )
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.dump(entry.model_dump(mode="json"), text)
    return text.getvalue().encode()


def _basic(report: OfficerReport, evidence: Evidence, points: dict[int, Point]) -> Basic:
    controllers = sorted({policy_of(one.policies[-1].document).controller for one in evidence.units if one.policies})
    first = min(one.first for one in report.plans)
    return Basic(
        name=report.plans[0].name,
        data_curators=[Curator(data_curator_name=one) for one in controllers],
        description=f"Common customer segments of {len(report.units)} business units, from noised statistics alone.",
        intended_use=_of(points[1]),
        data_product_type="Summary statistics",
        data_product_region=f"{TO_BE_FILLED}: {points[2].blank}",
        publication_date=first,
    )


def _of(point: Point) -> str:
    """A point's answers, and what is blank in it."""
    blank = f"{TO_BE_FILLED}: {point.blank}." if point.blank else ""
    return " ".join([*point.answers, *([blank] if blank else [])])
