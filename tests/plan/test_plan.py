"""A plan is exact, strict and hashed over what it says; the price of each step follows from it and fits the budget."""

import contextlib
import tomllib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.clustering.bins import BINS
from fedseg.clustering.schedule import INTEGERS_MAX, Kind, Profile
from fedseg.errors import PlanError
from fedseg.ledger.keys import SigningKey
from fedseg.plan import PLAN_BYTES_MAX, CellsTerms, NumericTerms, Plan, TrustModel, caps_of, changed_terms, parse_plan
from fedseg.policy.document import load_policy
from fedseg.privacy.budget import RHO_GRID, epsilon_of
from fedseg.privacy.mechanism import SIGMA_LIMIT, SIGMA_MIN
from tests.small_federation import plan_terms, policy_document

Change = Callable[[dict[str, Any]], None]

UNITS = [
    {
        "name": name,
        "public_key": SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)).public.to_text(),
    }
    for seed, name in enumerate(("north", "south", "west"))
]


def terms(**changes: Any) -> dict[str, Any]:
    return plan_terms(UNITS) | changes


def plan_of(**changes: Any) -> Plan:
    return parse_plan(tomli_w.dumps(terms(**changes)).encode())


def test_a_plan_says_what_the_document_says() -> None:
    plan = plan_of()
    assert (plan.name, plan.k, plan.rounds, plan.quorum) == ("small", 3, 3, 2)
    assert plan.trust is TrustModel.UNIT_NOISE
    assert plan.budget.epsilon == 4
    assert isinstance(plan.algorithm, CellsTerms)
    assert (plan.algorithm.profile, plan.algorithm.expected_customers) == (Profile.SHORT, 200)
    assert [unit.name for unit in plan.units] == ["north", "south", "west"]
    assert [plan.unit_index(name) for name in ("north", "west", "east")] == [0, 2, None]
    assert [feature.name for feature in plan.encoders] == ["visits", "spend"]


def test_the_digest_is_of_what_a_plan_says_not_of_how_it_is_written() -> None:
    document = terms()
    digest = parse_plan(tomli_w.dumps(document).encode()).digest
    reordered = tomli_w.dumps(dict(sorted(document.items()))).encode()
    assert reordered != tomli_w.dumps(document).encode()
    commented = b"# agreed in June\n" + tomli_w.dumps(document).encode().replace(b"\n", b"   # so\n", 1)
    spelled = tomli_w.dumps(document).replace("lower = 0\n", "lower = 0.00\n").replace("= 100\n", "= 1e2\n").encode()
    defaults = {"kind": "numeric", "transform": "identity", "weight": 1}
    explicit = tomli_w.dumps(terms(features=[feature | defaults for feature in document["features"]])).encode()
    windows = tomli_w.dumps(document).replace("\n", "\r\n").encode()
    for other in (reordered, commented, spelled, explicit, windows):
        assert parse_plan(other).digest == digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "other"),
        ("k", 4),
        ("quorum", 1),
        ("reply_slot_seconds", 1),
        ("min_segment_size", 6),
        ("trust", "secure-aggregation"),
        ("budget", {"epsilon": "4/1", "delta": "1/1000001"}),
        ("algorithm", {"name": "cells", "seed": 8, "expected_customers": 200, "profile": "short"}),
        ("algorithm", {"name": "cells", "seed": 7, "expected_customers": 201, "profile": "short"}),
        ("algorithm", {"name": "cells", "seed": 7, "expected_customers": 200, "profile": "standard"}),
        ("units", UNITS[::-1]),
    ],
)
def test_every_term_is_in_the_digest(name: str, value: object) -> None:
    agreed, other = plan_of(), plan_of(**{name: value})
    assert agreed.digest != other.digest
    assert changed_terms(agreed, other) == [name]
    assert changed_terms(agreed, agreed) == []


def test_bounds_are_read_exactly_as_written() -> None:
    features = terms()["features"]
    features[0] |= {"lower": 0.1, "upper": 0.3}
    document = tomli_w.dumps(terms(features=[features[0] | {"missing": 0.2}, features[1]])).encode()
    plan = parse_plan(document)
    first = plan.features[0]
    assert isinstance(first, NumericTerms)
    assert [str(first.lower), str(first.upper)] == ["0.1", "0.3"]
    # Two numbers that are the same float are not the same plan.
    other = parse_plan(document.replace(b"lower = 0.1", b"lower = 0.10000000000000001"))
    assert other.encoders == plan.encoders
    assert other.digest != plan.digest


def test_the_seed_may_be_as_large_as_json_keeps_integers() -> None:
    assert plan_of(algorithm={**terms()["algorithm"], "seed": 2**53 - 1}).digest


def test_a_plan_that_names_no_profile_has_the_standard_one() -> None:
    algorithm = {"name": "cells", "seed": 7, "expected_customers": 200}
    standard = plan_of(algorithm=algorithm)
    assert standard.algorithm.rounds is Profile.STANDARD
    assert standard.digest == plan_of(algorithm={**algorithm, "profile": "standard"}).digest
    assert standard.rounds == 6


@settings(max_examples=60)
@given(
    epsilon=st.fractions(Fraction(1, 1000), Fraction(60), max_denominator=1000),
    delta=st.integers(3, 12),
    profile=st.sampled_from(Profile),
    k=st.integers(1, 20),
    expected_customers=st.integers(1, 10**7),
    units=st.integers(1, 3),
)
def test_a_customer_of_every_unit_loses_at_most_the_budget_or_the_plan_is_refused(
    *, epsilon: Fraction, delta: int, profile: Profile, k: int, expected_customers: int, units: int
) -> None:
    algorithm = {"name": "cells", "seed": 7, "expected_customers": expected_customers, "profile": profile.value}
    budget = {"epsilon": f"{epsilon.numerator}/{epsilon.denominator}", "delta": f"1/{10**delta}"}
    changes = {"algorithm": algorithm, "budget": budget, "k": k}
    document = tomli_w.dumps(plan_terms(UNITS[:units], **changes)).encode()
    try:
        plan = parse_plan(document)
    except PlanError:
        assert epsilon < Fraction(1, 50)
        return
    for step in plan.terms:
        assert SIGMA_MIN <= step.mechanism.sigma < SIGMA_LIMIT
    spent = sum(plan.step_rhos, Fraction(0)) * plan.max_units_per_customer
    assert spent <= plan.rho
    assert epsilon_of(spent, plan.budget.delta) <= epsilon_of(plan.rho, plan.budget.delta) <= epsilon
    assert plan.rho - spent < plan.rho / 1000 + Fraction(units * plan.rounds, RHO_GRID)
    for planned, rho in zip(plan.settings.rounds, plan.step_rhos, strict=True):
        assert rho <= plan.rho * planned.share / units


@pytest.mark.parametrize(("epsilon", "why"), [("1/100000", "the lattice has"), ("2000000/1", "epsilon must lie")])
def test_budgets_no_lattice_fits_are_refused(epsilon: str, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        plan_of(budget={"epsilon": epsilon, "delta": "1/1000000"})


def test_the_caps_of_a_policy_are_those_the_account_keeps() -> None:
    policy = load_policy(policy_document(rho_cap="3/7"))
    caps = caps_of(policy)
    assert (caps.rho_cap, caps.delta, caps.policy_sha256) == (Fraction(3, 7), Fraction(1, 10**6), policy.digest)
    assert caps.purpose_rho_caps == {}


def setting(*path: str | int, to: object) -> Change:
    """Replaces one value of a plan."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = to

    return change


def without(*path: str | int) -> Change:
    """Leaves one value of a plan out."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "an unknown key": (setting("secret_term", to=1), "secret_term: "),
    "an unknown key inside": (setting("budget", "gamma", to="1/2"), "budget.gamma: "),
    "a missing key": (without("quorum"), "quorum: "),
    "a missing key inside": (without("features", 1, "upper"), "features.1.upper: "),
    "another version": (setting("version", to=2), "version: "),
    "a name with blanks": (setting("name", to="my plan"), "name: "),
    "an unknown purpose": (setting("purpose", to="fedseg:Everything"), "purpose: "),
    "an unknown trust model": (setting("trust", to="blind-trust"), "trust: "),
    "a number as text": (setting("k", to="3"), "k: "),
    "a number that is true": (setting("k", to=True), "k: "),
    "no segments": (setting("k", to=0), "k: "),
    "a fraction of a segment": (setting("k", to=2.5), "k: "),
    "no deadline": (setting("deadline_seconds", to=0), "deadline_seconds: "),
    "no quorum": (setting("quorum", to=0), "quorum: "),
    "a quorum of more units than there are": (setting("quorum", to=4), "the quorum is 4"),
    "more units per customer than units": (
        setting("max_units_per_customer", to=4),
        "max_units_per_customer is at most",
    ),
    "epsilon as a number": (setting("budget", "epsilon", to=2.0), "budget.epsilon: "),
    "epsilon not in lowest terms": (setting("budget", "epsilon", to="4/2"), "budget.epsilon: "),
    "no epsilon": (setting("budget", "epsilon", to="0/1"), "epsilon must lie"),
    "a delta of one": (setting("budget", "delta", to="1/1"), "delta must lie"),
    "an unknown algorithm": (setting("algorithm", "name", to="k-means"), "algorithm: name must be"),
    "a negative seed": (setting("algorithm", "seed", to=-1), "algorithm.seed: "),
    "a seed larger than JSON keeps": (setting("algorithm", "seed", to=2**53), "algorithm.seed: "),
    "no customers expected": (setting("algorithm", "expected_customers", to=0), "algorithm.expected_customers: "),
    "more customers than people": (
        setting("algorithm", "expected_customers", to=10**12 + 1),
        "algorithm.expected_customers: ",
    ),
    "no guess of the customers": (without("algorithm", "expected_customers"), "algorithm.expected_customers: "),
    "an unknown profile": (setting("algorithm", "profile", to="endless"), "algorithm.profile: "),
    "a share of the budget for each round": (
        setting("algorithm", "shares", to=["1/5", "2/5", "2/5"]),
        "algorithm.shares: ",
    ),
    "a feature named twice": (setting("features", 1, "name", to="visits"), "each feature may be named once"),
    "a feature name with blanks": (setting("features", 0, "name", to="a b"), "features.0.name: "),
    "markup in a label": (setting("features", 0, "label", to="<b>visits</b>"), "features.0.label: "),
    "a bound as text": (setting("features", 0, "lower", to="0"), "features.0.lower: "),
    "an endless bound": (setting("features", 0, "upper", to=float("inf")), "features.0.upper: "),
    "a bound that is no number": (setting("features", 0, "upper", to=float("nan")), "features.0.upper: "),
    "a bound with too many digits": (setting("features", 0, "upper", to=10**30), "features.0.upper: "),
    "bounds the wrong way round": (setting("features", 0, "lower", to=200), "feature visits: "),
    "missing outside the bounds": (setting("features", 0, "missing", to=101), "feature visits: "),
    "an unknown transform": (setting("features", 0, "transform", to="sqrt"), "features.0.transform: "),
    "the log of a negative": (
        setting("features", 0, to={**terms()["features"][0], "lower": -1, "transform": "log1p"}),
        "feature visits: ",
    ),
    "no features": (setting("features", to=[]), "features: "),
    "no units": (setting("units", to=[]), "units: "),
    "a unit named twice": (setting("units", 1, "name", to="north"), "own name and its own key"),
    "a key used twice": (setting("units", 1, "public_key", to=UNITS[0]["public_key"]), "own name and its own key"),
    "a key that is none": (setting("units", 1, "public_key", to="AAAA"), "units.1.public_key: "),
    "a unit that is text": (setting("units", 1, to="south"), "units.1: "),
}


BOUNDS = {"name": "bounds", "seed": 7, "expected_customers": 200}


def bounds_of(**changes: Any) -> Plan:
    return plan_of(**{"k": 1, "algorithm": BOUNDS} | changes)


def test_a_plan_for_bounds_is_a_round_of_histograms() -> None:
    plan = bounds_of()
    assert plan.learns_bounds
    assert not plan_of().learns_bounds
    assert [one.kind for one in plan.settings.rounds] == [Kind.HISTOGRAM]
    assert [terms_.length for terms_ in plan.terms] == [plan.dimensions * BINS]
    # Its price is that of every plan: what a customer loses over all units that may know them.
    assert 0.999 * plan.rho < sum(plan.step_rhos) * 3 <= plan.rho
    assert plan.digest not in {plan_of().digest, bounds_of(algorithm={**BOUNDS, "seed": 8}).digest}


def wide(count: int) -> list[dict[str, Any]]:
    return [terms()["features"][0] | {"name": f"x{number}", "missing_flag": True} for number in range(count)]


def test_a_plan_for_bounds_may_have_as_many_columns_as_fit_into_a_reply() -> None:
    assert bounds_of(features=wide(187)).terms[0].length <= INTEGERS_MAX


REFUSED_FOR_BOUNDS: dict[str, tuple[dict[str, Any], str]] = {
    "segments": ({"k": 2}, "k must be 1"),
    "a profile": ({"algorithm": BOUNDS | {"profile": "short"}}, "algorithm.profile: "),
    "another algorithm's name": ({"algorithm": BOUNDS | {"name": "cells "}}, "algorithm: name must be cells or bounds"),
    "no algorithm": ({"algorithm": {}}, "algorithm: name must be cells or bounds"),
    "an algorithm that is text": ({"algorithm": "bounds"}, "algorithm: name must be cells or bounds"),
    "a feature that is no number": (
        {"features": [{"name": "vip", "label": "vip", "kind": "binary"}]},
        "numeric features of weight 1 only, not vip",
    ),
    "a weight": (
        {"features": [terms()["features"][0] | {"weight": 0.5}]},
        "numeric features of weight 1 only, not visits",
    ),
    "more columns than a reply holds": ({"features": wide(188)}, "make two plans of it"),
    "a budget that no lattice fits": ({"budget": {"epsilon": "1/100000", "delta": "1/1000000"}}, "lattice"),
}


@pytest.mark.parametrize(("changes", "why"), REFUSED_FOR_BOUNDS.values(), ids=list(REFUSED_FOR_BOUNDS))
def test_a_plan_for_bounds_that_breaks_a_rule_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PlanError) as refused:
        bounds_of(**changes)
    assert why in refused.value.why


@pytest.mark.parametrize(("change", "place"), REFUSED.values(), ids=list(REFUSED))
def test_a_plan_that_breaks_a_rule_is_refused_by_the_name_of_the_place(change: Change, place: str) -> None:
    document = tomllib.loads(tomli_w.dumps(terms()))
    change(document)
    with pytest.raises(PlanError) as refused:
        parse_plan(tomli_w.dumps(document).encode())
    assert place in refused.value.why


DOCUMENT = tomli_w.dumps(terms()).encode()

NO_PLANS = {
    "nothing": b"",
    "no TOML": b"version 1",
    "not UTF-8": b"\xff" + DOCUMENT,
    "a key twice": DOCUMENT + b"\n[budget]\nepsilon = '4/1'\n",
    "a table of units": DOCUMENT.split(b"[[units]]")[0] + b"[units]\nname = 'north'\n",
    "an exponent beyond all use": DOCUMENT.replace(b"upper = 100", b"upper = 1e9999999999999999999999"),
    "a large exponent": DOCUMENT.replace(b"upper = 100", b"upper = 1e999999999"),
    "a number of a thousand digits": DOCUMENT.replace(b"k = 3", b"k = " + b"3" * 5000),
    "brackets without end": b"a = " + b"[" * 100_000,
    "too long": DOCUMENT + b"#" * PLAN_BYTES_MAX,
}


@pytest.mark.parametrize("document", NO_PLANS.values(), ids=list(NO_PLANS))
def test_what_is_no_plan_is_refused(document: bytes) -> None:
    with pytest.raises(PlanError, match=r"the plan cannot be used: ."):
        parse_plan(document)


@settings(max_examples=200)
@given(place=st.integers(0, len(DOCUMENT) - 1), byte=st.binary(min_size=1, max_size=1))
def test_a_changed_byte_gives_a_plan_or_a_refusal(place: int, byte: bytes) -> None:
    changed = DOCUMENT[:place] + byte + DOCUMENT[place + 1 :]
    with contextlib.suppress(PlanError):
        assert len(parse_plan(changed).digest) == 64
