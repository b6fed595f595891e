"""A scenario file of two small units, two segments and three rounds: for tests that run `fedseg simulate`.

And one of the same units that asks for bounds.
"""

import tomllib
from pathlib import Path
from typing import Any

import tomli_w

POLICY = """
version: 1
id: small
controller: Example Retail, Example Street 1, Example City
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    basis: dpv:Consent
    require: {status: [given, renewed], max_age_days: 730, notice_min_version: 1}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [visits, spend]}
    min_cohort: 20
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000000"}
retention: {raw_days: 730, consent_evidence_days: 1095}
trust_models: [unit-noise]
"""

BLOBS = """blobs = { seed = 5, customers = 240, centers = [[20, 20], [80, 80]], spreads = [5, 5], \
weights = ["1/2", "1/2"], columns = ["visits", "spend"] }"""
"""Made-up customers around two centers."""

SYSTEM = 'source = "system"'
"""Real noise."""

SCENARIO = """
version = 1
name = "small"
title = "Two small units"
policy = "policy.yaml"
data = {{ subject = "customer", {data} }}
units = [{{ name = "north", where = {{ visits = {{ below = 50 }} }} }}, {{ name = "south", where = {{ visits = {{ from = 50 }} }} }}]
consent = {{ seed = 1, {consent} }}
noise = {{ {noise} }}

[plan]
name = "small"
purpose = "fedseg:SegmentStatistics"
trust = "unit-noise"
k = 2
quorum = 2
deadline_seconds = 60
reply_slot_seconds = 0
max_units_per_customer = 2
min_segment_size = 1
budget = {{ epsilon = "2/1", delta = "1/1000000" }}
algorithm = {{ name = "cells", seed = 4, expected_customers = 300, profile = "short" }}

[[plan.features]]
name = "visits"
label = "visits a year"
lower = 0
upper = 100
missing = 0

[[plan.features]]
name = "spend"
label = "spend a visit"
lower = 0
upper = {upper}
missing = 0
"""

MOST_CONSENT = 'given = "8/10", withdrawn = "1/10", expired = "0/1", never_asked = "1/10"'
"""The register of most scenarios here."""


def write_scenario(
    folder: Path, *, data: str = BLOBS, noise: str = SYSTEM, consent: str = MOST_CONSENT, upper: int = 100
) -> Path:
    """Write the scenario and its policy into a folder; returns the scenario file."""
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    scenario = folder / "scenario.toml"
    scenario.write_text(SCENARIO.format(data=data, noise=noise, consent=consent, upper=upper), encoding="utf-8")
    return scenario


def write_bounds_scenario(folder: Path, **feature: Any) -> Path:
    """The same units with two thousand customers and a plan for bounds, whose features are so, or as `feature` says."""
    folder.mkdir(exist_ok=True)
    scenario = write_scenario(folder)
    terms = tomllib.loads(scenario.read_text(encoding="utf-8"))
    wide = {"lower": 0, "upper": 10**9, "missing": 0, "transform": "log1p", "missing_flag": True}
    terms["data"]["blobs"]["customers"] = 2000
    terms["plan"] |= {
        "k": 1,
        "algorithm": {"name": "bounds", "seed": 1, "expected_customers": 2000},
        "features": [{"name": name, "label": f"{name} a year", **wide, **feature} for name in ("visits", "spend")],
    }
    scenario.write_text(tomli_w.dumps(terms), encoding="utf-8")
    return scenario
